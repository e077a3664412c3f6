//! `potstill recipes`: what ships with the command, and what a person has to bring for each.

use serde_json::json;

use crate::cli::Recipes;
use crate::error::Result;
use crate::progress::say;
use crate::recipe::library::{self, Shipped};
use crate::recipe::{Goal, Recipe};

/// Prints every recipe, a line or an object each.
pub fn run(options: &Recipes) -> Result<()> {
    let read: Vec<(&Shipped, Recipe)> =
        library::RECIPES.iter().map(|shipped| Ok((shipped, shipped.recipe()?))).collect::<Result<_>>()?;
    if options.json {
        let list: Vec<_> = read
            .iter()
            .map(|(shipped, recipe)| {
                json!({
                    "name": shipped.name,
                    "objective": recipe.objective.name(),
                    "dataset": recipe.data.dataset,
                    "teacher": needed(recipe, Goal::Student).and(recipe.teacher.as_ref()).map(|n| &n.model),
                    "student": needed(recipe, Goal::Teacher).and(recipe.student.as_ref()).map(|n| &n.model),
                    "row": recipe.about.as_ref().map(|about| &about.row),
                    "source": recipe.about.as_ref().map(|about| &about.source),
                    "published": recipe.about.as_ref().and_then(|about| about.published),
                    "needs": recipe.about.as_ref().map_or(&[][..], |about| &about.needs),
                })
            })
            .collect();
        say(json!(list));
        return Ok(());
    }
    let width = read.iter().map(|(shipped, _)| shipped.name.len()).max().unwrap_or(0);
    for (shipped, recipe) in &read {
        let row = recipe.about.as_ref().map_or("", |about| about.row.as_str());
        say(format_args!("{:width$}  {row}", shipped.name));
        for need in recipe.about.iter().flat_map(|about| &about.needs) {
            say(format_args!("{:width$}    needs {need}", ""));
        }
    }
    say("\npotstill train NAME runs one; --smoke runs it small; its file in recipes/ says where each value is from");
    Ok(())
}

// Whether a recipe trains more than the `other` goal's network.
fn needed(recipe: &Recipe, other: Goal) -> Option<()> {
    (recipe.objective != other).then_some(())
}
