//! The recipes that ship with the command, compiled into it.
//!
//! Three are the built-in starts of their data sets. The others stand for a row of a published table each, with the source of
//! every value in the file, or show a method or a situation on one of the starts, which they name as their base.

use toml::{Table, Value};

use super::{Given, Goal, Recipe, flags, layers};
use crate::cli::Train;
use crate::dataset;
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
    let given = &options.given;
    // Whoever asks for nothing is shown what distillation is worth.
    let neutral = |name: &String| ["--seed", "--name", "--logdir", "--json"].contains(&name.as_str());
    if options.recipe.is_none() && options.set.is_empty() && given.names().iter().all(neutral) {
        return Ok("digits-few-labels".to_owned());
    }
    let key = |key: &str| {
        let in_table = |table: &Table| table.get("data").and_then(|data| data.get(key)).cloned();
        in_table(sets).or_else(|| in_table(asked))
    };
    let named = given.text("dataset").map(str::to_owned);
    let named = named.or_else(|| key("dataset").and_then(|v| v.as_str().map(str::to_owned)));
    let dataset = named.unwrap_or_else(|| usual_dataset(options).to_owned());
    let samples: Option<i64> = given.parsed("train-samples")?;
    let samples = samples.or_else(|| key("train_samples").and_then(|value: Value| value.as_integer()));
    (dataset::find(&dataset)?.start)(given, samples)
}

/// The row of the work on attention forcing for a data set.
///
/// # Errors
/// Exit code 2 for an objective that does not exist.
pub fn forcing_row(given: &Given, dataset: &str) -> Result<String> {
    let distillation = given.text("distillation").map(str::to_ascii_lowercase);
    let row = match (given.word("objective")?, distillation.as_deref()) {
        (Some(Goal::Teacher), _) => "teacher",
        (Some(Goal::Student), _) => "student",
        (_, Some("saf+kd" | "kd+saf")) => "saf-kd",
        (_, None | Some("saf")) => "saf",
        _ => "kd",
    };
    Ok(format!("dvitsaf-{dataset}-{row}"))
}

/// The recipe of DeiT or CLS-KD whose line this is.
pub fn imagenet_row(given: &Given) -> &'static str {
    let model = given.text("model").unwrap_or_default();
    let distillation = given.text("distillation");
    let cls_kd = flags::is_cls_kd(given) || distillation.is_some_and(|name| name.eq_ignore_ascii_case("cls-kd"));
    let taught = given.text("distillation-type").is_some_and(|kind| kind != "none");
    let distils = taught || model.contains("distilled") || distillation.is_some();
    match (cls_kd, distils) {
        (true, _) if model.contains("small") => "cls-kd-deit-s",
        (true, _) => "cls-kd-deit-ti",
        (false, true) => "deit-ti-distilled-imagenet",
        (false, false) => "deit-ti-imagenet",
    }
}

// The data set where none is named. A reference's own line needs no name: its flags are of one data set.
fn usual_dataset(options: &Train) -> &'static str {
    let given = &options.given;
    match options.recipe {
        _ if given.has("data-path") => "imagenet",
        None if given.has("distill-mode") => "cifar-10",
        None if flags::is_cls_kd(given) && !given.has("distillation") => "imagenet",
        _ => "digits",
    }
}
