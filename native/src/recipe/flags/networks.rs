//! Which networks are trained and teach, and where they start.

use potstill_core::model::zoo;

use super::flag::Flag;
use crate::error::{Failure, Result};
use crate::given::Given;
use crate::recipe::experiment::{Goal, NetworkRecipe, Trainable};
use crate::recipe::layer::Layer;

pub(super) const FLAGS: &[Flag] = &[
    Flag::text("teacher-model", "NAME", "The network that teaches").does(teacher_model),
    Flag::text("model", "NAME", "The network that is trained").does(model),
    Flag::path("finetune", "FILE", "Start from these weights; the head is replaced where the classes are others")
        .sets(&["learner.weights"]),
    Flag::whole("input-size", "PIXELS", "Side of the square input of every network, in pixels").does(input_size),
    Flag::number("drop-path", "RATE", "Rate at which the last block's residual branches are dropped").does(drop_path),
];

fn teacher_model(layer: &mut Layer, given: &Given) -> Result<()> {
    let name = given.text("teacher-model").unwrap_or_default();
    layer.rewrite(|recipe| {
        let Some(teacher) = recipe.teacher.as_mut() else { return Ok(()) };
        if let (Some(weights), false, true) =
            (&recipe.teacher_weights, given.has("teacher"), teacher.model != zoo::plain_name(name))
        {
            return Err(Failure::usage(format!(
                "--teacher-model {name} needs its weights, --teacher FILE: the recipe's {} are of {}",
                weights.display(),
                teacher.model
            )));
        }
        rename(teacher, name, recipe.objective == Goal::Teacher && given.has("finetune"));
        Ok(())
    })
}

fn model(layer: &mut Layer, given: &Given) -> Result<()> {
    let name = given.text("model").unwrap_or_default();
    layer.rewrite(|recipe| {
        recipe.learner_mut().into_iter().for_each(|network| rename(network, name, given.has("finetune")));
        Ok(())
    })
}

// Another model has other numbers and other weights; what stays are those of the data. Without weights there is nothing
// that a linear probe could read.
fn rename(network: &mut NetworkRecipe, name: &str, has_weights: bool) {
    let name = &zoo::plain_name(name);
    if network.model == *name {
        return;
    }
    let mut kept = network.families.remove(network.family()).unwrap_or_default();
    kept.retain(|key, _| matches!(key, "classes" | "image_size" | "channels"));
    network.model.clone_from(name);
    network.set_numbers(kept);
    network.weights = None;
    if !has_weights {
        network.trainable = Trainable::All;
    }
}

fn input_size(layer: &mut Layer, given: &Given) -> Result<()> {
    let side: Option<i64> = given.parsed("input-size")?;
    layer.each(|network| network.set_numbers(side.map(|side| ("image_size".to_owned(), side.into()))))
}

fn drop_path(layer: &mut Layer, given: &Given) -> Result<()> {
    let rate: Option<f64> = given.parsed("drop-path")?;
    layer.rewrite(|recipe| {
        if let Some(network) = recipe.learner_mut() {
            network.set_numbers(rate.map(|rate| ("drop_path".to_owned(), rate.into())));
        }
        Ok(())
    })
}
