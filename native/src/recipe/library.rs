//! The recipes that ship with the command, compiled into it.
//!
//! Three are the built-in starts of their data sets. The others stand for a row of a published table each, with the source of
//! every value in the file, or show a method or a situation on one of the starts, which they name as their base.

use toml::{Table, Value};

use super::{Goal, Recipe, layers};
use crate::cli::{DistillMode, DistillationType, Train};
use crate::error::{Failure, Result};

/// A recipe that ships with the command.
pub struct Shipped {
    /// Its file's name without the ending.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl Shipped {
    /// The recipe by itself.
    ///
    /// # Errors
    /// Exit code 2 if it is no valid recipe, which a test rules out.
    pub fn recipe(&self) -> Result<Recipe> {
        let mut table = self.table()?;
        layers::listed_terms(&mut table)?;
        Value::Table(table).try_into().map_err(|error| Failure::usage(format!("{}: {error}", self.name)))
    }

    /// Its text, laid over that of the recipe that it names as its base, if it names one.
    ///
    /// # Errors
    /// As [`Shipped::recipe`].
    pub fn table(&self) -> Result<Table> {
        let mut own = layers::parse(self.text, self.name)?;
        let base = own.remove("base").as_ref().and_then(Value::as_str).map(str::to_owned);
        let Some(base) = base.filter(|base| base != "none") else { return Ok(own) };
        let mut table = find(&base).ok_or_else(|| unknown(&base))?.table()?;
        layers::merge(&mut table, own);
        Ok(table)
    }
}

/// Every recipe of `recipes/`, the built-in starts first: see `build.rs`.
pub const RECIPES: &[Shipped] = include!(concat!(env!("OUT_DIR"), "/recipes.rs"));

/// The number of samples up to which MNIST has a start of its own.
const FEW_SAMPLES: i64 = 5_000;

/// The recipe of a name, as `potstill recipes` prints it; a path that ends in it is not meant.
pub fn find(name: &str) -> Option<&'static Shipped> {
    RECIPES.iter().find(|shipped| shipped.name == name)
}

/// The failure of a name that is no recipe's.
pub fn unknown(name: &str) -> Failure {
    Failure::usage(format!("there is no recipe {name:?}; `potstill recipes` lists those there are"))
}

/// The recipe that a command line without one, or a file without a base, starts from: its data set's.
///
/// # Errors
/// Exit code 2 for a data set that is not known.
pub fn base_for(options: &Train, asked: &Table, sets: &Table) -> Result<&'static Shipped> {
    let name = base_name(options, asked, sets)?;
    find(&name).ok_or_else(|| unknown(&name))
}

fn base_name(options: &Train, asked: &Table, sets: &Table) -> Result<String> {
    let method = &options.method;
    let key = |key: &str| {
        let in_table = |table: &Table| table.get("data").and_then(|data| data.get(key)).cloned();
        in_table(sets).or_else(|| in_table(asked))
    };
    let named = options.dataset.clone().or_else(|| key("dataset").and_then(|v| v.as_str().map(str::to_owned)));
    let dataset = named.map_or_else(|| usual_dataset(options).to_owned(), |name| name.to_ascii_lowercase());
    let samples = options.train_samples.and_then(|n| i64::try_from(n).ok());
    let samples = samples.or_else(|| key("train_samples").and_then(|value: Value| value.as_integer()));
    let distillation = options.distillation.as_deref().map(str::to_ascii_lowercase);
    match (dataset.as_str(), method.distill_mode) {
        ("digits", _) => Ok("digits".to_owned()),
        ("mnist", _) if samples.is_some_and(|n| n <= FEW_SAMPLES) => Ok("mnist-1000".to_owned()),
        ("mnist", _) => Ok("mnist".to_owned()),
        ("cifar-10", Some(DistillMode::Both)) => Ok("deit-cifar-10-both-soft".to_owned()),
        ("cifar-10", Some(mode)) => Ok(format!("deit-cifar-10-{}", mode.name())),
        ("cifar-10" | "cifar-100" | "flowers-102", _) => {
            let row = match (options.objective, distillation.as_deref()) {
                (Some(Goal::Teacher), _) => "teacher",
                (Some(Goal::Student), _) => "student",
                (_, Some("saf+kd" | "kd+saf")) => "saf-kd",
                (_, None | Some("saf")) => "saf",
                _ => "kd",
            };
            Ok(format!("dvitsaf-{dataset}-{row}"))
        }
        ("imagenet" | "folder", _) => {
            let model = method.model.as_deref().unwrap_or_default();
            let cls_kd = method.is_cls_kd() || distillation.as_deref() == Some("cls-kd");
            let taught = matches!(method.distillation_type, Some(DistillationType::Soft | DistillationType::Hard));
            let distils = taught || model.contains("distilled") || distillation.is_some();
            Ok(match (cls_kd, distils) {
                (true, _) if model.contains("small") => "cls-kd-deit-s",
                (true, _) => "cls-kd-deit-ti",
                (false, true) => "deit-ti-distilled-imagenet",
                (false, false) => "deit-ti-imagenet",
            }
            .to_owned())
        }
        _ => Err(crate::dataset::unknown(&dataset)),
    }
}

// The data set where none is named. A reference's own line needs no name: its flags are of one data set.
fn usual_dataset(options: &Train) -> &'static str {
    let method = &options.method;
    match options.recipe {
        _ if options.data_path.is_some() => "imagenet",
        None if method.distill_mode.is_some() => "cifar-10",
        None if method.is_cls_kd() && options.distillation.is_none() => "imagenet",
        _ => "digits",
    }
}
