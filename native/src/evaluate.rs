//! A network on held-out data.

use burn::cubecl::future::block_on;
use burn::tensor::Device;
use potstill_core::data::{Dataset, Transform, spread_indices};
use potstill_core::model::NetworkConfig;
use potstill_core::train::Evaluation;
use potstill_core::train::evaluate::{self, Classify};

use crate::error::{Failure, Result};

/// Runs `model` on `limit` samples spread over the set and its classes, or all, and returns the counts and each sample's predicted class.
///
/// # Errors
/// Exit code 2 if images or classes do not fit the model; 1 if the device fails.
pub fn evaluate(
    model: Classify<'_>,
    config: &NetworkConfig,
    dataset: &dyn Dataset,
    transform: &Transform,
    limit: Option<usize>,
    device: &Device,
) -> Result<(Evaluation, Vec<u32>)> {
    fits(config, dataset, "the model")?;
    let indices = spread_indices(dataset, limit.unwrap_or(usize::MAX));
    block_on(evaluate::evaluate(model, dataset, transform, &indices, device)).map_err(Failure::work)
}

/// Whether a data set's classes are as many as a model's, `whose`. Images of any size are brought to the model's.
///
/// # Errors
/// Exit code 2 with both sides' numbers.
pub fn fits(config: &NetworkConfig, dataset: &dyn Dataset, whose: &str) -> Result<()> {
    if dataset.classes() != config.classes() {
        let (name, classes, own) = (dataset.name(), dataset.classes(), config.classes());
        let cure = match whose {
            "the student" | "the teacher" => {
                let section = whose.trim_start_matches("the ");
                format!("set {section}.{}.classes={classes}, or leave it out", config.family())
            }
            _ => format!("take one that was trained on these {classes} classes"),
        };
        return Err(Failure::usage(format!("{name} has {classes} classes, {whose} {own}; {cure}")));
    }
    Ok(())
}
