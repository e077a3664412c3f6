//! `--smoke`: a recipe made small, to see that all of it runs.
//!
//! The objective, the options and the data reader stay; depth, width, picture, samples and epochs shrink. What names blocks
//! names the first and the last of those that are left. A network that learns from its own past needs two epochs to have
//! one; every other run has a single epoch.

use std::path::PathBuf;

use potstill_core::model::NetworkConfig;

use super::{NetworkRecipe, Recipe};
use crate::error::Result;

/// Training and held-out samples of a smoke run.
const SAMPLES: usize = 64;
const BATCH: usize = 16;
/// A transformer's heads at most, and the width of each.
const HEADS: usize = 4;
const HEAD: usize = 8;

/// Shrinks every network of a recipe and the data it reads, and says what is left out, a line each.
pub fn reduce(recipe: &mut Recipe) -> Result<Vec<String>> {
    let samples = |asked: Option<usize>| Some(asked.unwrap_or(SAMPLES).min(SAMPLES));
    recipe.data.train_samples = samples(recipe.data.train_samples);
    recipe.data.test_samples = samples(recipe.data.test_samples);
    let networks = [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten();
    let weights =
        recipe.teacher_weights.take().into_iter().chain(networks.filter_map(|network| network.weights.take()));
    let left_out = |path: PathBuf| format!("--smoke leaves out {}: it does not fit a small network", path.display());
    let notices = weights.map(left_out).collect();
    let config = |network: &Option<NetworkRecipe>, role: &str| network.as_ref().map(|n| n.config(role)).transpose();
    let (teacher, student) = (config(&recipe.teacher, "teacher")?, config(&recipe.student, "student")?);
    // One picture for both networks, of two patches a side; a network without patches takes the same.
    let side = [&teacher, &student].into_iter().flatten().map(least_side).max().unwrap_or(32);
    let deeper = |a: &NetworkConfig, b: &NetworkConfig| a.shape().depth > b.shape().depth;
    let teacher_depth = match (&teacher, &student) {
        (Some(teacher), Some(student)) if deeper(teacher, student) => 4,
        _ => 2,
    };
    if let (Some(network), Some(config)) = (recipe.teacher.as_mut(), &teacher) {
        reduce_network(network, config, teacher_depth, side);
    }
    if let (Some(network), Some(config)) = (recipe.student.as_mut(), &student) {
        reduce_network(network, config, 2, side);
    }
    recipe.distillation.shrink([1, teacher_depth - 1]);
    Ok(notices)
}

fn least_side(config: &NetworkConfig) -> usize {
    match config {
        NetworkConfig::Vit(vit) => 2 * vit.patch_size,
        NetworkConfig::DistillVit(_) => 16,
        NetworkConfig::RegNet(_) | NetworkConfig::ResNet(_) => 32,
    }
}

fn reduce_network(network: &mut NetworkRecipe, config: &NetworkConfig, depth: usize, side: usize) {
    network.epochs = 1;
    network.batch_size = network.batch_size.min(BATCH);
    network.accumulate = network.accumulate.min(network.batch_size);
    if let Some(past) = &mut network.retrospection {
        past.k = 1;
        network.epochs = 2;
    }
    let numbers = network.numbers();
    let mut set = |key: &str, value: toml::Value| {
        numbers.insert(key.to_owned(), value);
    };
    let integer = |value: usize| toml::Value::Integer(value as i64);
    let list = |values: [usize; 4]| toml::Value::Array(values.map(integer).to_vec());
    set("image_size", integer(side));
    match config {
        NetworkConfig::Vit(vit) => {
            let heads = vit.heads.min(HEADS);
            set("depth", integer(vit.depth.min(depth)));
            set("heads", integer(heads));
            set("width", integer(heads * HEAD));
            if vit.head_size.is_some() {
                set("head_size", integer(HEAD));
            }
        }
        NetworkConfig::DistillVit(vit) => {
            set("depth", integer(vit.depth.min(depth)));
            set("patch_size", integer(side / 2));
            set("heads", integer(2));
        }
        NetworkConfig::RegNet(_) => {
            set("depths", list([1; 4]));
            set("stem_width", integer(HEAD));
            set("widths", list([1, 2, 2, 4].map(|groups| groups * HEAD)));
            set("group_width", integer(HEAD));
        }
        NetworkConfig::ResNet(_) => {
            set("depths", list([1; 4]));
            set("width", integer(HEAD));
        }
    }
}
