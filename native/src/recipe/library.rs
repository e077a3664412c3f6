//! The recipes that ship with the command, compiled into it.
//!
//! Three are the built-in starts of their data sets. The others stand for a row of a published table each, with the source of
//! every value in the file, or show a method or a situation on one of the starts, which they name as their base.

use toml::{Table, Value};

use super::experiment::Recipe;
use super::table::{listed_terms, merge, parse};
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
        listed_terms(&mut table)?;
        Value::Table(table).try_into().map_err(|error| Failure::usage(format!("{}: {error}", self.name)))
    }

    /// Its text, laid over that of the recipe that it names as its base, if it names one.
    ///
    /// # Errors
    /// As [`Shipped::recipe`].
    pub fn table(&self) -> Result<Table> {
        let mut own = parse(self.text, self.name)?;
        let base = own.remove("base").as_ref().and_then(Value::as_str).map(str::to_owned);
        let Some(base) = base.filter(|base| base != "none") else { return Ok(own) };
        let mut table = find(&base).ok_or_else(|| unknown(&base))?.table()?;
        merge(&mut table, own);
        Ok(table)
    }
}

/// Every recipe of `recipes/`, the built-in starts first: see `build.rs`.
pub const RECIPES: &[Shipped] = include!(concat!(env!("OUT_DIR"), "/recipes.rs"));

/// What is run for those who ask for nothing: it shows what distillation is worth.
pub const FIRST: &str = "digits-few-labels";

/// The recipe of a name, as `potstill recipes` prints it; a path that ends in it is not meant.
pub fn find(name: &str) -> Option<&'static Shipped> {
    RECIPES.iter().find(|shipped| shipped.name == name)
}

/// The failure of a name that is no recipe's.
pub fn unknown(name: &str) -> Failure {
    Failure::usage(format!("there is no recipe {name:?}; `potstill recipes` lists those there are"))
}
