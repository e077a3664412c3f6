//! KD-standard: distillation from standardised logits (Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024).
//!
//! `L = τ² KL(σ(z'_T / τ) ‖ σ(z'_S / τ))`, a mean over the batch, with `z' = (z − mean(z)) / (std(z) + 1e-7)`. Mean and unbiased
//! standard deviation are taken over the classes of each sample.
//!
//! Why: the student has to learn the teacher's relations between the classes, but not the size of its logits.

use burn::tensor::Tensor;

use super::logits::{Divergence, labels_and_divergence};
use super::numbers::{TEMPERATURE, WEIGHT, numbers};
use super::term::{Ask, Evaluate, Heads, Method, NamedLoss};
use super::{Normalisation, Section, Term};

numbers! {
    /// The numbers of distillation from standardised logits. The weight is the usual one with labels of weight 0.1.
    pub struct KdStandard {
        /// Weight of the term.
        weight: f64 = 9.0, in WEIGHT;
        /// Temperature τ.
        temperature: f64 = 2.0, in TEMPERATURE;
    }
}

impl Method for KdStandard {
    fn teaches(&self) -> Heads {
        Heads::class(self.weight)
    }

    fn prepare(&self, _: &mut Ask) -> Evaluate {
        let Self { weight, temperature } = *self;
        Box::new(move |scene| {
            let [student, teacher] = [scene.student, scene.teacher].map(|trace| standardised(trace.logits.clone()));
            let divergence = Divergence { other: teacher, temperature, normalisation: Normalisation::Batchmean };
            let [_, value] = labels_and_divergence(student, divergence, scene, 0.0);
            vec![NamedLoss::new("standardised-logits", weight, value)]
        })
    }
}

/// Logits `[B, C]`, each row shifted and scaled to mean 0 and standard deviation 1. A row of equal logits becomes zeros.
pub fn standardised(logits: Tensor<2>) -> Tensor<2> {
    let degrees = (logits.dims()[1].max(2) - 1) as f64;
    let centred = logits.clone() - logits.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).sum_dim(1).div_scalar(degrees);
    // The bound keeps the root's gradient finite where all logits are equal.
    centred / (variance.clamp_min(1e-24).sqrt() + 1e-7)
}

impl Section for KdStandard {
    const NAME: &'static str = "KD-standard";
    const ALPHA: f64 = 0.9;

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}
