//! Evaluation: a network's logits for samples without augmentation.

use burn::tensor::{Device, Tensor};

use super::device_batch::images_on;
use super::{Error, Evaluation};
use crate::data::{Dataset, Transform, assemble};

// So small that the activations of a small network stay in a CPU's cache.
const BATCH: usize = 100;

// Number of batches whose logits are read in one transfer. During a read the host waits for the device, and afterwards the device
// waits for the host's next batch.
const READ_TOGETHER: usize = 10;

/// A function from normalised images `[B, C, S, S]` to logits `[B, classes]`: a network with its read-out.
pub type Classify<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<2>;

/// Runs a network on the samples `indices` and returns the counts and each sample's predicted class.
///
/// # Errors
/// If a sample cannot be read, or the device fails.
///
/// # Panics
/// If the network and the data set do not have the same number of classes.
pub async fn evaluate(
    classify: Classify<'_>,
    dataset: &dyn Dataset,
    transform: &Transform,
    indices: &[u64],
    device: &Device,
) -> Result<(Evaluation, Vec<u32>), Error> {
    let mut evaluation = Evaluation::new(dataset.classes());
    let mut predicted = Vec::with_capacity(indices.len());
    for indices in indices.chunks(BATCH * READ_TOGETHER) {
        let logits = logits(classify, dataset, transform, indices, device).await?;
        let labels: Vec<u32> = indices.iter().map(|index| dataset.label(*index as usize)).collect();
        predicted.extend(evaluation.add(&logits, &labels));
    }
    Ok((evaluation, predicted))
}

/// The logits of the samples `indices`, `[indices, classes]` row-major.
///
/// # Errors
/// If a sample cannot be read, or the device fails.
pub async fn logits(
    classify: Classify<'_>,
    dataset: &dyn Dataset,
    transform: &Transform,
    indices: &[u64],
    device: &Device,
) -> Result<Vec<f32>, Error> {
    let mut all = Vec::with_capacity(indices.len() * dataset.classes());
    for indices in indices.chunks(BATCH * READ_TOGETHER) {
        let mut logits = Vec::new();
        for indices in indices.chunks(BATCH) {
            let batch = assemble(dataset, indices, transform)?;
            logits.push(classify(images_on(batch.images, batch.shape, indices.len(), device)));
        }
        all.extend(Tensor::cat(logits, 0).into_data_async().await?.iter::<f32>());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use burn::backend::read_sync;

    use super::*;
    use crate::data::{Digits, ImageShape, Normalisation, Split, spread_indices};

    fn transform() -> Transform {
        Transform::plain(ImageShape { channels: 1, height: 28, width: 28 }, Normalisation::mnist())
    }

    #[test]
    fn a_limit_keeps_the_shares_of_the_classes() {
        // The digits come in the order 0, 1, 2, ..., so every tenth has the same class. This network classifies all of them as
        // threes.
        let threes = |images: Tensor<4>| {
            let row = Tensor::<2>::from_data([[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], &images.device());
            row.expand([images.dims()[0], 10])
        };
        let set = Digits::new(Split::Test, 300);
        let indices = spread_indices(&set, 30);
        let found = read_sync(evaluate(&threes, &set, &transform(), &indices, &Device::flex()));
        let (found, predicted) = found.expect("evaluated");
        assert_eq!((found.samples(), found.accuracy(), predicted), (30, 0.1, vec![3; 30]));
    }

    #[test]
    fn every_sample_is_read_once_and_in_its_order() {
        // The logits differ between the images. There are more samples than in one transfer, and the last batch is not full.
        let model = |images: Tensor<4>| images.reshape([0, 784]).narrow(1, 300, 10);
        let samples = BATCH * READ_TOGETHER + BATCH + 7;
        let set = Digits::new(Split::Test, samples);
        let all: Vec<u64> = (0..samples as u64).collect();
        let found = read_sync(logits(&model, &set, &transform(), &all, &Device::flex())).expect("evaluated");
        let batch = assemble(&set, &all, &transform()).expect("digits");
        let expected: Vec<f32> = batch.images.chunks(784).flat_map(|image| image[300..310].to_vec()).collect();
        assert_eq!(found, expected);
    }
}
