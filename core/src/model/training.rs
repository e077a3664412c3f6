//! The differences between a training pass and an evaluation: what a step drops, and which statistics normalise.
//!
//! Everything is drawn from (seed, step), so a resumed run drops the same as an uninterrupted one. Branches are drawn on the host
//! and are the same on every device. Elements are too many for that. They come from the device's own generator, which is seeded
//! for each step.

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::{Purpose, Rng};

/// The draws of one training step. A forward pass that gets them is a training pass: it drops, and batch normalisation uses the
/// batch's own statistics.
#[derive(Clone, Debug, Default)]
pub struct Training {
    drop_path: Option<DropPath>,
}

/// What a network can drop in a training pass.
pub(super) struct Dropped {
    /// Drop-path probability of the last block.
    pub drop_path: f64,
    /// Number of blocks.
    pub depth: usize,
    /// Whether elements are dropped anywhere.
    pub elements: bool,
}

impl Training {
    /// Draws for `batch` images.
    pub(super) fn draw(dropped: &Dropped, seed: u64, step: u64, batch: usize, device: &Device) -> Self {
        if dropped.elements {
            device.clone().inner().seed(Rng::new(seed, step, 0, Purpose::Dropout).next_u64());
        }
        let Dropped { drop_path: last, depth, .. } = *dropped;
        Self { drop_path: (last > 0.0).then(|| DropPath::draw(last, depth, seed, step, batch, device)) }
    }

    /// The draws for `length` images of the batch, from `start` on.
    pub(crate) fn narrow(&self, start: usize, length: usize) -> Self {
        let rows = |drop: &DropPath| DropPath { scales: drop.scales.clone().narrow(1, start, length) };
        Self { drop_path: self.drop_path.as_ref().map(rows) }
    }

    /// The dropped residual branches, if the network can drop any.
    pub fn drop_path(&self) -> Option<&DropPath> {
        self.drop_path.as_ref()
    }
}

/// Stochastic depth (Huang et al., 2016) for one step: a scale for each residual branch of each image. It is 0 if the branch is
/// dropped, and otherwise 1 / keep, so that the expectation does not change.
#[derive(Clone, Debug)]
pub struct DropPath {
    // [2 * depth, B]: the attention branch of a block, then its MLP branch.
    scales: Tensor<2>,
}

impl DropPath {
    fn draw(last: f64, depth: usize, seed: u64, step: u64, batch: usize, device: &Device) -> Self {
        let mut rng = Rng::new(seed, step, 0, Purpose::DropPath);
        let mut values = Vec::with_capacity(2 * depth * batch);
        for block in 0..depth {
            let keep = 1.0 - last * block as f64 / (depth.max(2) - 1) as f64;
            for _ in 0..2 * batch {
                values.push(if rng.chance(keep) { (1.0 / keep) as f32 } else { 0.0 });
            }
        }
        Self { scales: Tensor::from_data(TensorData::new(values, [2 * depth, batch]), device) }
    }

    pub(super) fn scales(&self, block: usize) -> [Tensor<3>; 2] {
        [0, 1].map(|branch| {
            let row = self.scales.clone().narrow(0, 2 * block + branch, 1);
            let batch = row.dims()[1];
            row.reshape([batch, 1, 1])
        })
    }
}
