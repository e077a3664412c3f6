//! Distillation from logits (Hinton, Vinyals and Dean, 2015).
//!
//! `L = (1 − α) CE(z_S, y) + α τ² KL(σ(z_T / τ) ‖ σ(z_S / τ))`
//!
//! τ² keeps the gradient's size independent of the temperature. Published code divides the divergence either by the batch
//! or by batch times classes; the two differ by a factor C, so the choice has a name here.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::kernel;

/// What a sum of divergences over a batch is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// The number of samples B: the mathematical mean.
    #[default]
    Batchmean,
    /// B times the number of classes, as DeiT's and DViTSAF's code do.
    Numel,
}

/// The numbers of a logit distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogitDistillation {
    /// Weight α of the teacher; the labels weigh 1 − α.
    pub alpha: f64,
    /// Temperature τ.
    pub temperature: f64,
    /// What the divergence is divided by.
    pub normalisation: Normalisation,
    /// Label smoothing ε of the cross-entropy term.
    pub smoothing: f64,
}

impl Default for LogitDistillation {
    fn default() -> Self {
        Self { alpha: 0.5, temperature: 2.0, normalisation: Normalisation::Batchmean, smoothing: 0.0 }
    }
}

/// The mean cross-entropy with the targets and the divergence τ² KL, each `[1]`, of logits `[B, C]`.
pub(super) fn labels_and_divergence(
    student: Tensor<2>,
    teacher: Tensor<2>,
    targets: Tensor<2>,
    temperature: f64,
    smoothing: f64,
    normalisation: Normalisation,
) -> (Tensor<1>, Tensor<1>) {
    let classes = student.dims()[1];
    // [B, 2]: cross-entropy and divergence of each row
    let rows = kernel::distillation_loss(student, teacher, targets, temperature as f32, smoothing as f32);
    let means = rows.mean_dim(0);
    let column = |index: usize| means.clone().narrow(1, index, 1).reshape([1]);
    let scale = match normalisation {
        Normalisation::Batchmean => temperature * temperature,
        Normalisation::Numel => temperature * temperature / classes as f64,
    };
    (column(0), column(1).mul_scalar(scale))
}
