//! Who teaches: a network from a file or a run, and what is refused.

use std::path::Path;

use burn::tensor::Device;
use potstill_core::method::Readout;
use potstill_core::weights::Fit;

use super::stages::{Run, Trained};
use crate::cli::View;
use crate::error::{Failure, Result};
use crate::evaluate::fits;
use crate::progress::say;
use crate::recipe::{Goal, NetworkRecipe, Recipe};
use crate::run::Role;
use crate::train::StageData;
use crate::weights::{LoadedNetwork, Model, arrange, is_of_hub, load_file, load_from_run};

/// The teacher in a weights file or a run's folder. A student that has no picture size of its own gets the teacher's.
///
/// # Errors
/// Exit code 2 if it cannot teach what the recipe asks for; 1 if it cannot be read.
pub fn load(path: &Path, recipe: &mut Recipe, device: &Device, data: &StageData) -> Result<LoadedNetwork> {
    let view = View::default();
    let teacher = if path.is_dir() && !is_of_hub(path) {
        load_from_run(path, Role::Teacher, &view, device)?
    } else {
        // A head that nothing trained teaches nothing: the file's own is kept, whatever number of classes the recipe says.
        let named = |teacher: &NetworkRecipe| {
            let fit = Fit { resampling: teacher.resampling, new_head: None };
            let (name, config) = (teacher.model.clone(), teacher.config("teacher")?);
            Ok(Model { name, config, fit, yields: true, own_size: false })
        };
        let model = recipe.teacher.as_ref().map(named).transpose()?;
        load_file(path, model, &view, device)?
    };
    let names = data.held_out.class_names();
    fits(&teacher.config, data.held_out.as_ref(), &format!("the teacher {}", path.display()))?;
    let teacher = arrange(teacher, names, data.held_out.name(), recipe.ignore_class_names, device)?;
    // What the file says of itself is known only now.
    let side = teacher.config.image_size();
    if recipe.adopt_image_size(side)? {
        say(format_args!("note     the teacher takes pictures of {side} x {side}, and so does the student"));
    }
    recipe.check_pair(&teacher.config, &recipe.student()?.config("student")?)?;
    let untaught = match teacher.readout {
        Readout::Class => Some("distillation"),
        Readout::Distill => Some("class"),
        Readout::MeanLogits | Readout::MeanProbabilities => None,
    };
    if let Some(head) = untaught.filter(|_| teacher.config.shape().distillation_token) {
        return Err(Failure::usage(format!(
            "nothing has taught the {head} head of {}, and a teacher with two heads speaks with both; distil from \
             another, or train it with both",
            path.display()
        )));
    }
    Ok(teacher)
}

/// The teachers beside the first one.
///
/// # Errors
/// As [`load`].
pub fn load_more(recipe: &Recipe, device: &Device, data: &StageData) -> Result<Vec<LoadedNetwork>> {
    let each = recipe.more_teachers.iter().filter(|_| recipe.objective == Goal::Distillation);
    // The model that the recipe names is the first teacher's: each of these says what it is itself.
    let mut recipe = Recipe { teacher: None, ..recipe.clone() };
    each.map(|teacher| load(&teacher.weights, &mut recipe, device, data)).collect()
}

/// Refuses a teacher that guesses: distillation from an untrained head has been mistaken for a result.
///
/// # Errors
/// If it is no better than a guess, by three standard errors, and the recipe does not allow it.
pub fn refuse_untrained(run: &Run<'_>, teacher: &Trained) -> Result<()> {
    let data = &run.data.full;
    let (found, _) = run.evaluate_on(data.watched(), teacher, &teacher.model, Some(data.checked))?;
    let split = if data.validation.is_some() { "validation" } else { "held-out" };
    let chance = found.chance();
    let error = (chance * (1.0 - chance) / found.samples().max(1) as f64).sqrt();
    if run.recipe.allow_untrained_teacher || found.accuracy() > chance + 3.0 * error {
        return Ok(());
    }
    Err(Failure::work(format!(
        "the teacher is right on {:.2} % of {} {split} samples, and a guess on {:.2} %: within three standard errors \
         it has learnt nothing that it could teach; train it first (--objective teacher, or more teacher.epochs), or \
         pass --allow-untrained-teacher",
        100.0 * found.accuracy(),
        found.samples(),
        100.0 * chance
    )))
}
