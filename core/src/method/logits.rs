//! KD: distillation from logits (Hinton, Vinyals and Dean, 2015).
//!
//! `L = τ² KL(σ(z_T / τ) ‖ σ(z_S / τ))`
//!
//! τ² keeps the size of the gradient independent of the temperature. Published code divides the divergence either by the batch or
//! by batch times classes. The two differ by a factor of C, so the choice is explicit here: [`Normalisation`].

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::numbers::{TEMPERATURE, WEIGHT, numbers};
use super::readout::Head;
use super::term::{Ask, Evaluate, Heads, Method, NamedLoss, Scene};
use super::{Section, Term};
use crate::model::NetworkShape;
use crate::op;

/// The divisor of a sum of divergences over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// The number of samples B: the mathematical mean.
    #[default]
    Batchmean,
    /// B times the number of classes, as DeiT's and DViTSAF's code do.
    Numel,
}

numbers! {
    /// The numbers of the logits' term.
    pub struct Logits {
        /// Weight of the term.
        weight: f64 = 1.0, in WEIGHT;
        /// Temperature τ.
        temperature: f64 = 2.0, in TEMPERATURE;
        /// Divisor of the divergence: `batchmean` (the batch) or `numel` (batch times classes).
        normalisation: Normalisation = Normalisation::Batchmean;
        /// The head that learns.
        head: Head = Head::Token;
    }
}

impl Method for Logits {
    fn refusal(&self, student: &NetworkShape, _: &NetworkShape) -> Option<String> {
        self.head.refusal(student)
    }

    fn teaches(&self) -> Heads {
        self.head.taught(self.weight)
    }

    fn prepare(&self, _: &mut Ask) -> Evaluate {
        let Self { weight, temperature, normalisation, head } = *self;
        Box::new(move |scene| {
            let student = head.of(scene.student).clone();
            let teacher = scene.teacher.logits.clone();
            let divergence = Divergence { other: teacher, temperature, normalisation };
            let [_, value] = labels_and_divergence(student, divergence, scene, 0.0);
            vec![NamedLoss::new("logits", weight, value)]
        })
    }
}

/// The logits, the temperature and the divisor of a divergence.
pub(super) struct Divergence {
    /// Logits `[B, C]` of the teacher, or of the student some epochs ago.
    pub other: Tensor<2>,
    pub temperature: f64,
    pub normalisation: Normalisation,
}

/// The mean cross-entropy with the scene's labels, and the divergence τ² KL, each `[1]`, of logits `[B, C]`. One kernel computes
/// both.
pub(super) fn labels_and_divergence(
    student: Tensor<2>,
    divergence: Divergence,
    scene: &Scene<'_>,
    smoothing: f64,
) -> [Tensor<1>; 2] {
    let Divergence { other, temperature, normalisation } = divergence;
    let classes = student.dims()[1];
    // [B, 2]: cross-entropy and divergence of each row
    let rows = op::distillation_loss(student, other, scene.targets.clone(), temperature as f32, smoothing as f32);
    let means = rows.clone().mean_dim(0);
    let column = |index: usize| means.clone().narrow(1, index, 1).reshape([1]);
    let scale = match normalisation {
        Normalisation::Batchmean => temperature * temperature,
        Normalisation::Numel => temperature * temperature / classes as f64,
    };
    let labels = match scene.known {
        Some(_) => scene.mean_of_labelled(rows.narrow(1, 0, 1).squeeze_dim(1)),
        None => column(0),
    };
    [labels, column(1).mul_scalar(scale)]
}

numbers! {
    /// Softened logits together with other methods, as in `SAF+KD`. The defaults are those of DViTSAF, which divides the
    /// divergence by batch times classes. `KD` alone divides by the batch.
    pub struct SoftTargets {
        /// Weight among the terms that share α.
        weight: f64 = 1.0, in WEIGHT;
        /// Temperature τ.
        temperature: f64 = 2.0, in TEMPERATURE;
        /// Divisor of the divergence: `batchmean` (the batch) or `numel` (batch times classes).
        normalisation: Normalisation = Normalisation::Numel;
    }
}

impl Method for SoftTargets {
    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        self.term(1.0).method().prepare(ask)
    }
}

impl Section for SoftTargets {
    const NAME: &'static str = "KD";
    const ALPHA: f64 = 0.5;

    fn term(&self, alpha: f64) -> Term {
        let Self { weight, temperature, normalisation } = *self;
        Logits { weight: alpha * weight, temperature, normalisation, head: Head::Class }.into()
    }
}
