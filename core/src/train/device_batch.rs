//! Copying samples to a device.

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::{Batch, ImageShape};
use crate::method::Known;

/// Samples on a device. Clones share their tensors, so one upload is enough for several networks.
#[derive(Clone, Debug)]
pub struct DeviceBatch {
    /// Each sample's index in its data set.
    pub indices: Vec<u64>,
    /// Normalised images `[B, C, S, S]`.
    pub images: Tensor<4>,
    /// A distribution over the classes for each sample, `[B, classes]`.
    pub targets: Tensor<2>,
    /// Which labels are known; `None` if all are.
    pub known: Option<Known>,
    /// The teacher's logits `[B, classes]`, if they are known. The teacher is then not asked.
    pub teacher_logits: Option<Tensor<2>>,
}

impl DeviceBatch {
    /// Copies a batch to a device.
    pub fn new(batch: Batch, device: &Device) -> Self {
        let Batch { images, shape, indices, targets, known, classes, .. } = batch;
        let images = images_on(images, shape, indices.len(), device);
        let known = known.map(|shares| Known::new(shares, device));
        Self { images, targets: rows_on(targets, classes, device), known, teacher_logits: None, indices }
    }
}

/// Images of one shape on a device, `[samples, C, H, W]`.
pub(super) fn images_on(pixels: Vec<f32>, shape: ImageShape, samples: usize, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels, [samples, shape.channels, shape.height, shape.width]), device)
}

/// Rows of `classes` numbers on a device, `[rows, classes]`.
pub fn rows_on(values: Vec<f32>, classes: usize, device: &Device) -> Tensor<2> {
    let rows = values.len() / classes;
    Tensor::from_data(TensorData::new(values, [rows, classes]), device)
}
