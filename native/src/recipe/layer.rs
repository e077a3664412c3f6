//! An experiment in the making: what flags and references' lines change before it is checked.

use toml::{Table, Value};

use super::experiment::{NetworkRecipe, Recipe};
use super::table::{Laid, lay, merge, nearest};
use crate::error::{Failure, Result};

/// A recipe in the making: its table, with every key that has a value.
pub(super) struct Layer(pub(super) Table);

impl Layer {
    /// What a table says.
    ///
    /// # Errors
    /// Exit code 2 if it is no recipe.
    pub fn new(table: Table) -> Result<Self> {
        let mut layer = Self(table.clone());
        layer.rewrite(|_| Ok(()))?;
        // A section that does nothing is left out of a recipe, and its numbers are still below those that come.
        merge(&mut layer.0, table);
        Ok(layer)
    }

    /// The recipe as it stands.
    ///
    /// # Errors
    /// Exit code 2 with the key that is unknown or misshapen, and the nearest that is known.
    pub fn recipe(&self) -> Result<Recipe> {
        let read = Value::Table(self.0.clone()).try_into();
        read.map_err(|error: toml::de::Error| {
            let nearest = nearest(error.message()).map(|name| format!("; the nearest is `{name}`"));
            Failure::usage(format!("{error}{}", nearest.unwrap_or_default()))
        })
    }

    /// Changes the recipe as a whole.
    ///
    /// # Errors
    /// Exit code 2 if it is none, and what the change fails with.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Recipe) -> Result<()>) -> Result<()> {
        let mut recipe = self.recipe()?;
        change(&mut recipe)?;
        self.0 = Table::try_from(&recipe).map_err(Failure::usage)?;
        Ok(())
    }

    /// Changes the section of each network.
    ///
    /// # Errors
    /// As [`Layer::rewrite`].
    pub fn each(&mut self, change: impl FnMut(&mut NetworkRecipe)) -> Result<()> {
        self.rewrite(|recipe| {
            [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten().for_each(change);
            Ok(())
        })
    }

    /// A section of the recipe.
    pub fn section(&mut self, name: &str) -> Option<&mut Table> {
        self.0.get_mut(name).and_then(Value::as_table_mut)
    }

    /// The text of a key, given by its parts.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, part| value.get(part))?.as_str()
    }

    // The section of the network that learns by the recipe's objective.
    fn learner_name(&self) -> &'static str {
        if self.text(&["objective"]) == Some("teacher") { "teacher" } else { "student" }
    }

    /// Sets a key, whose section may be called `learner`; after a part with a question mark only what is there is set.
    ///
    /// # Errors
    /// Exit code 2 for a key below a value.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<Laid> {
        let Some((section, rest)) = key.split_once('.') else { return lay(&mut self.0, key, value) };
        let section = if section == "learner" { self.learner_name() } else { section };
        self.section(section).map_or(Ok(Laid::NoSection), |table| lay(table, rest, value))
    }
}
