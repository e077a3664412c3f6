//! A network on held-out data.

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{Dataset, Transform, assemble, spread_indices};
use potstill_core::model::NetworkConfig;
use potstill_core::train::Evaluation;

use crate::error::{Context, Failure, Result};

// Small enough for the activations of a small network to stay in a CPU's cache.
const BATCH: usize = 100;

// Batches whose logits are read in one transfer: every read waits for the device, which waits for the host's next batch.
const READ_TOGETHER: usize = 10;

/// What turns normalised images `[B, C, S, S]` into logits `[B, classes]`: a network with its read-out.
pub type Classify<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<2>;

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
    fits(config, dataset)?;
    let indices = spread_indices(dataset, limit.unwrap_or(usize::MAX));
    let mut evaluation = Evaluation::new(config.classes());
    let mut predicted = Vec::with_capacity(indices.len());
    for_each_batch(model, config, dataset, transform, indices, device, |logits, labels| {
        predicted.extend(evaluation.add(logits, labels));
    })?;
    Ok((evaluation, predicted))
}

/// The logits of the first `samples` samples as they are, row-major: what a teacher says of images that are never varied.
pub fn first_logits(
    model: Classify<'_>,
    config: &NetworkConfig,
    dataset: &dyn Dataset,
    transform: &Transform,
    samples: usize,
    device: &Device,
) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(samples * config.classes());
    let indices = (0..samples as u64).collect();
    for_each_batch(model, config, dataset, transform, indices, device, |logits, _| {
        all.extend_from_slice(logits);
    })?;
    Ok(all)
}

// Runs `model` on the samples `indices` and hands over the logits and labels of some batches at a time.
fn for_each_batch(
    model: Classify<'_>,
    config: &NetworkConfig,
    dataset: &dyn Dataset,
    transform: &Transform,
    indices: Vec<u64>,
    device: &Device,
    mut take: impl FnMut(&[f32], &[u32]),
) -> Result<()> {
    for indices in indices.chunks(BATCH * READ_TOGETHER) {
        let (mut logits, mut labels) = (Vec::new(), Vec::with_capacity(indices.len()));
        for indices in indices.chunks(BATCH) {
            let batch = assemble(dataset, indices, transform).map_err(Failure::work)?;
            let shape = [indices.len(), config.channels(), config.image_size(), config.image_size()];
            logits.push(model(Tensor::<4>::from_data(TensorData::new(batch.images, shape), device)));
            labels.extend(batch.labels);
        }
        let logits: Vec<f32> = Tensor::cat(logits, 0).try_into_data().context("the device failed")?.iter().collect();
        take(&logits, &labels);
    }
    Ok(())
}

/// Whether a data set's classes are as many as a model's. Images of any size are brought to the model's.
///
/// # Errors
/// Exit code 2 with both sides' numbers.
pub fn fits(config: &NetworkConfig, dataset: &dyn Dataset) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use potstill_core::data::{Digits, ImageShape, Normalisation, Split};
    use potstill_core::model::VitConfig;

    use super::*;

    #[test]
    fn a_limit_keeps_the_shares_of_the_classes() {
        let config =
            NetworkConfig::from(VitConfig { image_size: 28, channels: 1, classes: 10, ..VitConfig::default() });
        let shape = ImageShape { channels: 1, height: 28, width: 28 };
        let transform = Transform::plain(shape, Normalisation::mnist());
        // Digits stand 0, 1, 2, ..., so that every tenth is of one class. This network takes all of them for threes.
        let threes = |images: Tensor<4>| {
            let row = Tensor::<2>::from_data([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], &images.device());
            row.expand([images.dims()[0], 10])
        };
        let (found, predicted) =
            evaluate(&threes, &config, &Digits::new(Split::Test, 300), &transform, Some(30), &Device::flex())
                .expect("evaluated");
        assert_eq!((found.samples(), found.accuracy(), predicted), (30, 0.1, vec![3; 30]));
    }

    #[test]
    fn every_sample_is_read_once_and_in_its_order() {
        let config =
            NetworkConfig::from(VitConfig { image_size: 28, channels: 1, classes: 10, ..VitConfig::default() });
        let shape = ImageShape { channels: 1, height: 28, width: 28 };
        let transform = Transform::plain(shape, Normalisation::mnist());
        // Logits that tell the images apart; more samples than one transfer takes, the last batch not full.
        let model = |images: Tensor<4>| images.reshape([0, 784]).narrow(1, 300, 10);
        let (samples, device) = (BATCH * READ_TOGETHER + BATCH + 7, Device::flex());
        let set = Digits::new(Split::Test, samples);
        let found = first_logits(&model, &config, &set, &transform, samples, &device).expect("evaluated");
        let all: Vec<u64> = (0..samples as u64).collect();
        let batch = assemble(&set, &all, &transform).expect("digits");
        let expected: Vec<f32> = batch.images.chunks(784).flat_map(|image| image[300..310].to_vec()).collect();
        assert_eq!(found, expected);
    }
}
