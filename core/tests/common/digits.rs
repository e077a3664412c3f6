//! What tests of training feed a network and read of it.

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{Dataset, Digits, Normalisation, Split, Transform, assemble, epoch_order};
use potstill_core::train::StepBatch;

/// `samples` drawn digits with their labels; another `step` takes others, while there are others.
pub fn batch(step: u64, samples: usize, device: &Device) -> StepBatch {
    let digits = Digits::new(Split::Train, 512);
    let order = epoch_order(digits.len(), 0, 0);
    let start = step as usize * samples % (digits.len() - samples);
    let indices = &order[start..start + samples];
    let transform = Transform::plain(digits.shape().expect("one shape"), Normalisation::mnist());
    let batch = assemble(&digits, indices, &transform).expect("valid indices");
    let mut targets = vec![0.0_f32; samples * 10];
    for (row, label) in batch.labels.iter().enumerate() {
        targets[row * 10 + *label as usize] = 1.0;
    }
    StepBatch::new(
        Tensor::from_data(TensorData::new(batch.images, [samples, 1, 28, 28]), device),
        Tensor::from_data(TensorData::new(targets, [samples, 10]), device),
    )
}

/// A tensor's values on the host.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}
