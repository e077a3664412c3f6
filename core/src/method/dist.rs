//! DIST: distillation by correlation (Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022).
//!
//! With `p = σ(z / τ)` and Pearson's correlation ρ:
//!
//! `L = w (β τ² (1 − mean_b ρ(p_S[b, :], p_T[b, :])) + γ τ² (1 − mean_c ρ(p_S[:, c], p_T[:, c])))`
//!
//! Why: a student much smaller than its teacher can learn the order of classes and of samples without matching the probabilities.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::numbers::{TEMPERATURE, WEIGHT, numbers};
use super::term::{Ask, Evaluate, Heads, Method, NamedLoss};
use super::{Section, Term};

numbers! {
    /// The numbers of distillation by correlation, as published for CIFAR-100 with labels of weight 1.
    pub struct Dist {
        /// Weight of both parts.
        weight: f64 = 1.0, in WEIGHT;
        /// Weight β of the correlation over the classes of each sample.
        beta: f64 = 2.0, in WEIGHT;
        /// Weight γ of the correlation over the samples of each class.
        gamma: f64 = 2.0, in WEIGHT;
        /// Temperature τ.
        temperature: f64 = 4.0, in TEMPERATURE;
    }
}

impl Method for Dist {
    fn teaches(&self) -> Heads {
        Heads::class(self.weight)
    }

    fn prepare(&self, _: &mut Ask) -> Evaluate {
        let Self { weight, beta, gamma, temperature } = *self;
        Box::new(move |scene| {
            let [student, teacher] =
                [scene.student, scene.teacher].map(|trace| softmax(trace.logits.clone().div_scalar(temperature), 1));
            let scale = temperature * temperature;
            let between = uncorrelated(student.clone(), teacher.clone()).mul_scalar(scale);
            let within = uncorrelated(student.transpose(), teacher.transpose()).mul_scalar(scale);
            vec![
                NamedLoss::new("between-classes", weight * beta, between),
                NamedLoss::new("within-classes", weight * gamma, within),
            ]
        })
    }
}

/// `1 − mean ρ`, `[1]`, over the rows of `[R, K]`.
pub fn uncorrelated(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let centred = |rows: Tensor<2>| rows.clone() - rows.mean_dim(1);
    // The bound keeps the root's gradient finite where all of a row is equal.
    let length = |rows: Tensor<2>| (rows.clone() * rows).sum_dim(1).clamp_min(1e-24).sqrt();
    let (s, t) = (centred(student), centred(teacher));
    let correlation = (s.clone() * t.clone()).sum_dim(1) / (length(s) * length(t) + 1e-8);
    correlation.mean().mul_scalar(-1.0) + 1.0
}

impl Section for Dist {
    const NAME: &'static str = "DIST";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}
