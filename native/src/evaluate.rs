//! A network on held-out data.

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{Dataset, Normalisation, assemble};
use potstill_core::model::NetworkConfig;
use potstill_core::train::Evaluation;

use crate::error::{Context, Failure, Result};

// Small enough for the activations of a small network to stay in a CPU's cache.
const BATCH: usize = 100;

/// What turns normalised images `[B, C, S, S]` into logits `[B, classes]`: a network with its read-out.
pub type Classify<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<2>;

/// Runs `model` on `limit` evenly spaced samples, or all, and returns the counts and each sample's predicted class.
///
/// # Errors
/// Exit code 2 if images or classes do not fit the model; 1 if the device fails.
pub fn evaluate(
    model: Classify<'_>,
    config: &NetworkConfig,
    dataset: &dyn Dataset,
    normalisation: &Normalisation,
    limit: Option<usize>,
    device: &Device,
) -> Result<(Evaluation, Vec<u32>)> {
    fits(config, dataset)?;
    let samples = limit.unwrap_or(usize::MAX).min(dataset.len());
    let mut evaluation = Evaluation::new(config.classes());
    let mut predicted = Vec::with_capacity(samples);
    for_each_batch(model, config, dataset, normalisation, samples, device, |logits, labels| {
        predicted.extend(evaluation.add(logits, labels));
    })?;
    Ok((evaluation, predicted))
}

/// The logits of every sample as it is, row-major: what a teacher says of images that are never varied.
pub fn all_logits(
    model: Classify<'_>,
    config: &NetworkConfig,
    dataset: &dyn Dataset,
    normalisation: &Normalisation,
    device: &Device,
) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(dataset.len() * config.classes());
    for_each_batch(model, config, dataset, normalisation, dataset.len(), device, |logits, _| {
        all.extend_from_slice(logits);
    })?;
    Ok(all)
}

// Runs `model` on `samples` samples, evenly spaced since many sets stand class by class, and hands over each batch's logits and labels.
fn for_each_batch(
    model: Classify<'_>,
    config: &NetworkConfig,
    dataset: &dyn Dataset,
    normalisation: &Normalisation,
    samples: usize,
    device: &Device,
    mut take: impl FnMut(&[f32], &[u32]),
) -> Result<()> {
    for start in (0..samples).step_by(BATCH) {
        let indices: Vec<u64> =
            (start..(start + BATCH).min(samples)).map(|place| (place * dataset.len() / samples) as u64).collect();
        let batch = assemble(dataset, &indices, None, 0, 0, normalisation).map_err(Failure::work)?;
        let shape = [indices.len(), config.channels(), config.image_size(), config.image_size()];
        let images = Tensor::<4>::from_data(TensorData::new(batch.images, shape), device);
        let logits: Vec<f32> = model(images).try_into_data().context("the device failed")?.iter().collect();
        take(&logits, &batch.labels);
    }
    Ok(())
}

/// Whether a data set's images and classes are those of a model.
///
/// # Errors
/// Exit code 2 with both sides' numbers.
pub fn fits(config: &NetworkConfig, dataset: &dyn Dataset) -> Result<()> {
    let shape = dataset.shape();
    if (shape.channels, shape.height, shape.width) != (config.channels(), config.image_size(), config.image_size()) {
        return Err(Failure::usage(format!(
            "{} has images of {shape}, the model takes {s} x {s} x {}; use a model of that size",
            dataset.name(),
            config.channels(),
            s = config.image_size()
        )));
    }
    if dataset.classes() != config.classes() {
        return Err(Failure::usage(format!(
            "{} has {} classes, the model {}",
            dataset.name(),
            dataset.classes(),
            config.classes()
        )));
    }
    Ok(())
}
