//! What the command line's flags say of a recipe, those of the reference projects among them.
//!
//! A flag sets the recipe's own numbers and nothing beside them, so that the recipe in the run folder is the whole
//! experiment. Flags that have no meaning here are named in a notice, so that nobody waits for what they would do.

mod distillation;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use potstill_core::data::{ColorJitter, Crop, Preprocess, RandAugment};
use potstill_core::method::Retrospection;
use potstill_core::train::Schedule;
use toml::Value;

use super::{DataRecipe, Goal, NetworkRecipe, Recipe, Trainable};
use crate::cli::{Images, Method, Numbers, Train};
use crate::error::{Failure, Result};

/// Applies every flag and returns the notices.
///
/// # Errors
/// Exit code 2 for a flag that does not fit the recipe below it.
pub fn apply(recipe: &mut Recipe, options: &Train) -> Result<Vec<String>> {
    if let Some(path) = &options.teacher {
        recipe.teacher_weights = Some(absolute(path));
    }
    if let Some(goal) = options.objective {
        recipe.objective = goal;
    }
    if let Some(name) = &options.dataset {
        recipe.data.dataset = name.clone();
    }
    if let Some(dir) = options.data_path.as_ref().or(options.data_dir.as_ref()) {
        recipe.data.data_dir = Some(absolute(dir));
    }
    if let Some(samples) = options.train_samples {
        recipe.data.train_samples = Some(samples);
    }
    if let Some(seed) = options.seed {
        recipe.seed = seed;
    }
    images(&mut recipe.data, &options.images)?;
    if let Some(folder) = &options.teacher_cache {
        recipe.teacher_cache = Some(absolute(folder));
    }
    recipe.teacher_precision = options.teacher_precision.unwrap_or(recipe.teacher_precision);
    recipe.teacher_cache_top = options.teacher_cache_top.or(recipe.teacher_cache_top);
    recipe.allow_untrained_teacher |= options.allow_untrained_teacher;
    let method = &options.method;
    models(recipe, options)?;
    distillation::apply(recipe, options)?;
    if let Some(share) = options.images.eval_crop_ratio {
        crop(recipe, share);
    }
    for network in [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten() {
        if let Some(batch) = options.batch_size {
            resize_batch(network, batch);
        }
        if let Some(epochs) = options.epochs {
            network.epochs = epochs;
        }
        if let Some(lr) = options.lr {
            network.lr = lr;
        }
        numbers(network, &options.numbers)?;
    }
    retrospection(recipe, method)?;
    Ok(options.accepted.notices())
}

// How much of a picture is kept; what else is done to it stays the recipe's, or that of the network that learns.
fn crop(recipe: &mut Recipe, share: f64) {
    let published = recipe.learner().and_then(|network| Preprocess::of_model(&network.model));
    let preprocess = recipe.data.preprocess.or(published.map(|(preprocess, _)| preprocess)).unwrap_or_default();
    recipe.data.preprocess = Some(Preprocess { crop_fraction: share, ..preprocess });
}

// Paths are kept in the run folder, and a resume may be started from elsewhere.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

// The parts that a batch is run in keep their size: it is what memory holds, and what some losses compare within.
fn resize_batch(network: &mut NetworkRecipe, batch: usize) {
    if network.accumulate > 1 {
        let part = network.batch_size.div_ceil(network.accumulate).max(1);
        network.accumulate = batch.div_ceil(part);
    }
    network.batch_size = batch;
}

// What happens to the images.
fn images(data: &mut DataRecipe, images: &Images) -> Result<()> {
    let transform = &mut data.transform;
    if let Some(name) = &images.aa {
        let policy = RandAugment::named(name);
        transform.auto_augment = match name.as_str() {
            "" | "none" => None,
            _ => Some(policy.map_err(|error| Failure::usage(format!("--aa: {error}")))?),
        };
    }
    if let Some(amount) = images.color_jitter {
        transform.color_jitter = (amount > 0.0).then(|| ColorJitter::all(amount));
    }
    // As timm has it: a policy takes the place of the jitter.
    if transform.auto_augment.is_some() && (images.aa.is_some() || images.color_jitter.is_some()) {
        transform.color_jitter = None;
    }
    if let Some(filter) = images.train_interpolation {
        transform.interpolation = filter.into();
        if let Crop::RandomResized { interpolation, .. } = &mut transform.crop {
            *interpolation = filter.into();
        }
    }
    if images.reprob.is_some() || images.remode.is_some() || images.recount.is_some() {
        let erase = transform.erase.get_or_insert_default();
        erase.probability = images.reprob.unwrap_or(erase.probability);
        erase.mode = images.remode.map_or(erase.mode, Into::into);
        erase.count = images.recount.unwrap_or(erase.count);
        if erase.probability == 0.0 {
            transform.erase = None;
        }
    }
    let mix = &mut data.mix;
    mix.mixup = images.mixup.unwrap_or(mix.mixup);
    mix.cutmix = images.cutmix.unwrap_or(mix.cutmix);
    mix.probability = images.mixup_prob.unwrap_or(mix.probability);
    mix.switch = images.mixup_switch_prob.unwrap_or(mix.switch);
    match (images.repeated_aug, images.no_repeated_aug) {
        (true, _) => data.repeats = 3,
        (_, true) => data.repeats = 1,
        _ => {}
    }
    data.workers = images.workers.unwrap_or(data.workers);
    Ok(())
}

// Which networks.
fn models(recipe: &mut Recipe, options: &Train) -> Result<()> {
    let method = &options.method;
    let start = method.finetune.as_deref().map(absolute);
    if let (Some(name), Some(teacher)) = (&method.teacher_model, recipe.teacher.as_mut()) {
        if let (Some(weights), None, true) = (&recipe.teacher_weights, &options.teacher, teacher.model != *name) {
            return Err(Failure::usage(format!(
                "--teacher-model {name} needs its weights, --teacher FILE: the recipe's {} are of {}",
                weights.display(),
                teacher.model
            )));
        }
        rename(teacher, name, start.as_ref().filter(|_| recipe.objective == Goal::Teacher));
    }
    if let Some(network) = recipe.learner_mut() {
        if let Some(name) = &method.model {
            rename(network, name, start.as_ref());
        }
        network.weights = start.or(network.weights.take());
        if let Some(rate) = method.drop_path {
            network.numbers().insert("drop_path".into(), rate.into());
        }
    }
    if let Some(side) = method.input_size {
        let side = i64::try_from(side).map_err(|_| Failure::usage("--input-size is absurdly large"))?;
        for network in [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten() {
            network.numbers().insert("image_size".into(), side.into());
        }
    }
    Ok(())
}

// Another model has other numbers and other weights; what stays are those of the data. Without weights there is nothing
// that a linear probe could read.
fn rename(network: &mut NetworkRecipe, name: &str, weights: Option<&PathBuf>) {
    if network.model == name {
        return;
    }
    let mut kept = std::mem::take(network.numbers());
    kept.retain(|key, _| matches!(key, "classes" | "image_size" | "channels"));
    network.model = name.to_owned();
    network.numbers().extend(kept);
    network.weights = weights.cloned();
    if weights.is_none() {
        network.trainable = Trainable::All;
    }
}

fn retrospection(recipe: &mut Recipe, method: &Method) -> Result<()> {
    let own = [method.lwr_update_rate.is_some(), method.lwr_k.is_some(), method.lwr_tau.is_some()];
    let asked = own.contains(&true) || method.lwr_max_epochs.is_some();
    if asked && !method.retrospect {
        return Err(Failure::usage("--lwr-k, --lwr-update-rate, --lwr-tau and --lwr-max-epochs need --retrospect"));
    }
    if !method.retrospect {
        return Ok(());
    }
    let Some(network) = recipe.learner_mut() else { return Ok(()) };
    let below = network.retrospection.clone().unwrap_or_default();
    network.retrospection = Some(Retrospection {
        k: method.lwr_k.unwrap_or(below.k),
        update_rate: method.lwr_update_rate.unwrap_or(below.update_rate),
        temperature: method.lwr_tau.unwrap_or(below.temperature),
        max_epochs: method.lwr_max_epochs.unwrap_or(below.max_epochs),
    });
    Ok(())
}

// How a network is trained.
fn numbers(network: &mut NetworkRecipe, numbers: &Numbers) -> Result<()> {
    let optimiser = &mut network.optimiser;
    if let Some(kind) = numbers.opt {
        optimiser.kind = kind.kind();
    }
    optimiser.weight_decay = numbers.weight_decay.unwrap_or(optimiser.weight_decay);
    optimiser.epsilon = numbers.opt_eps.unwrap_or(optimiser.epsilon);
    if let Some([beta_1, beta_2]) = numbers.opt_betas.as_deref() {
        (optimiser.beta_1, optimiser.beta_2) = (*beta_1, *beta_2);
    }
    optimiser.clip_norm = numbers.clip_grad.or(optimiser.clip_norm);
    if numbers.no_model_ema {
        optimiser.ema = None;
    } else if numbers.model_ema || numbers.model_ema_decay.is_some() {
        // DeiT's decay.
        optimiser.ema = Some(numbers.model_ema_decay.or(optimiser.ema).unwrap_or(0.99996));
    }
    if numbers.linear_probe {
        network.trainable = Trainable::Head;
    }
    network.accumulate = numbers.accumulate.unwrap_or(network.accumulate);
    network.lr_batch = numbers.lr_batch.or(network.lr_batch);
    network.readout = numbers.readout.or(network.readout);
    schedule(network, numbers)
}

fn schedule(network: &mut NetworkRecipe, numbers: &Numbers) -> Result<()> {
    if let Some(name) = numbers.sched.as_deref() {
        // DeiT calls its own schedule cosine.
        let same = name == network.schedule.name() || (name == "cosine" && network.schedule.name() == "deit");
        if !same {
            let mut table = toml::Table::new();
            table.insert("kind".into(), name.into());
            if name == "step" {
                table.insert("every".into(), 30.into());
                table.insert("factor".into(), 0.1.into());
            }
            network.schedule = Value::Table(table).try_into().map_err(|_| {
                Failure::usage(format!(
                    "there is no schedule {name:?}; there are constant, step, cosine, deit and epoch-cosine"
                ))
            })?;
        }
    }
    let name = network.schedule.name();
    let mut left: Vec<&str> = Vec::new();
    let mut set = |flag: &'static str, asked: Option<f64>, place: Option<&mut f64>| match (asked, place) {
        (None, _) => {}
        (Some(value), Some(place)) => *place = value,
        (Some(_), None) => left.push(flag),
    };
    let (mut warmup_epochs, mut every) = (None, None);
    let (mut warmup_lr, mut min_lr, mut factor) = (None, None, None);
    match &mut network.schedule {
        Schedule::Constant => {}
        Schedule::Step { every: e, factor: f } => (every, factor) = (Some(e), Some(f)),
        Schedule::Cosine { min_lr: floor, .. } => min_lr = Some(floor),
        Schedule::Deit { warmup_epochs: epochs, warmup_lr: start, min_lr: floor, .. } => {
            (warmup_epochs, warmup_lr, min_lr) = (Some(epochs), Some(start), Some(floor));
        }
        Schedule::EpochCosine { warmup_epochs: epochs, .. } => warmup_epochs = Some(epochs),
    }
    set("--warmup-lr", numbers.warmup_lr, warmup_lr);
    set("--min-lr", numbers.min_lr, min_lr);
    set("--decay-rate", numbers.decay_rate, factor);
    for (flag, asked, place) in
        [("--warmup-epochs", numbers.warmup_epochs, warmup_epochs), ("--decay-epochs", numbers.decay_epochs, every)]
    {
        match (asked, place) {
            (None, _) => {}
            (Some(value), Some(place)) => *place = value,
            (Some(_), None) => left.push(flag),
        }
    }
    match left.first() {
        Some(flag) => Err(Failure::usage(format!(
            "{flag} has no place in the schedule {name}; name another with --sched, for example --sched deit"
        ))),
        None => Ok(()),
    }
}
