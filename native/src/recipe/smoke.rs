//! `--smoke`: a recipe made small, to see that all of it runs.
//!
//! The objective, the options and the data reader stay; depth, width, picture, samples and epochs shrink. What names blocks
//! names the first and the last of those that are left. A network that learns from its own past needs two epochs to have
//! one; every other run has a single epoch.

use std::path::PathBuf;

use potstill_core::model::NetworkConfig;

use toml::Table;

use super::experiment::{NetworkRecipe, Recipe};
use crate::error::{Context, Result};

/// Training and held-out samples of a smoke run.
const SAMPLES: usize = 64;
const BATCH: usize = 16;
/// Labels that a smoke run keeps, of a recipe whose student is told few.
const LABELS: usize = 32;

/// Shrinks every network of a recipe and the data it reads, and says what is left out, a line each.
pub fn reduce(recipe: &mut Recipe) -> Result<Vec<String>> {
    let samples = |asked: Option<usize>| Some(asked.unwrap_or(SAMPLES).min(SAMPLES));
    recipe.data.train_samples = samples(recipe.data.train_samples);
    recipe.data.test_samples = samples(recipe.data.test_samples);
    recipe.data.labels = recipe.data.labels.map(|labels| labels.min(LABELS));
    if let Some(own) = recipe.teacher.as_mut().and_then(|teacher| teacher.data.as_mut()) {
        own.train_samples = own.train_samples.map(|samples| samples.min(SAMPLES));
        own.labels = own.labels.map(|labels| labels.min(LABELS));
    }
    let networks = [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten();
    let weights =
        recipe.teacher_weights.take().into_iter().chain(networks.filter_map(|network| network.weights.take()));
    let left_out = |path: PathBuf| format!("--smoke leaves out {}: it does not fit a small network", path.display());
    let notices = weights.map(left_out).collect();
    let config = |network: &Option<NetworkRecipe>, role: &str| network.as_ref().map(|n| n.config(role)).transpose();
    let (teacher, student) = (config(&recipe.teacher, "teacher")?, config(&recipe.student, "student")?);
    // One picture for both networks, of two patches a side; a network without patches takes the same.
    let side = [&teacher, &student].into_iter().flatten().map(NetworkConfig::least_side).max().unwrap_or(32);
    let deeper = |a: &NetworkConfig, b: &NetworkConfig| a.shape().depth > b.shape().depth;
    let teacher_depth = match (&teacher, &student) {
        (Some(teacher), Some(student)) if deeper(teacher, student) => 4,
        _ => 2,
    };
    if let (Some(network), Some(config)) = (recipe.teacher.as_mut(), &teacher) {
        reduce_network(network, config, teacher_depth, side)?;
    }
    if let (Some(network), Some(config)) = (recipe.student.as_mut(), &student) {
        reduce_network(network, config, 2, side)?;
    }
    recipe.distillation.shrink([1, teacher_depth - 1]);
    Ok(notices)
}

fn reduce_network(network: &mut NetworkRecipe, config: &NetworkConfig, depth: usize, side: usize) -> Result<()> {
    network.epochs = 1;
    network.batch_size = network.batch_size.min(BATCH);
    network.accumulate = network.accumulate.min(network.batch_size);
    if let Some(past) = &mut network.retrospection {
        past.k = 1;
        network.epochs = 2;
    }
    let table = |config: &NetworkConfig| Table::try_from(config).context("the model's own numbers");
    let (whole, small) = (table(config)?, table(&config.reduced(depth, side))?);
    network.set_numbers(small.into_iter().filter(|(key, value)| whole.get(key) != Some(value)));
    Ok(())
}
