//! DKD: decoupled distillation (Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022).
//!
//! `L = w (α τ² KL(b_T ‖ b_S) + β τ² KL(q_T ‖ q_S)) · min(epoch / E, 1)`, a mean over the batch, with `p = σ(z / τ)`. For a
//! sample of class y, `b = (p_y, 1 − p_y)`, and q is the softmax over the other classes at temperature τ. The loss rises linearly
//! over the first E epochs.
//!
//! Why: KD has one divergence. The surer the teacher is of the right class, the less weight it gives to the other classes. DKD
//! separates the two parts.
//!
//! A mixed target counts as its largest class. A sample without a known label is left out of the mean.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use super::numbers::{Range, TEMPERATURE, WEIGHT, numbers};
use super::teacher_labels::hard_targets;
use super::term::{Ask, Evaluate, Heads, Method, NamedLoss};
use super::{Section, Term};

/// Subtracted from the logit of the sample's class, so that a softmax leaves the class out.
const OUT: f64 = 1000.0;

numbers! {
    /// The numbers of decoupled distillation, as published for CIFAR-100 with labels of weight 1.
    pub struct Dkd {
        /// Weight of both parts.
        weight: f64 = 1.0, in WEIGHT;
        /// Weight α of the divergence of the right class against the rest.
        alpha: f64 = 1.0, in WEIGHT;
        /// Weight β of the divergence among the other classes.
        beta: f64 = 8.0, in WEIGHT;
        /// Temperature τ.
        temperature: f64 = 4.0, in TEMPERATURE;
        /// Epochs E over which the loss rises to its full size; 0: no warm-up.
        warmup_epochs: u64 = 20, in Range::between(0.0, 1e6);
    }
}

impl Method for Dkd {
    fn needs_labels(&self) -> bool {
        self.weight > 0.0
    }

    fn teaches(&self) -> Heads {
        Heads::class(self.weight)
    }

    fn prepare(&self, _: &mut Ask) -> Evaluate {
        let Self { weight, alpha, beta, temperature, warmup_epochs } = *self;
        Box::new(move |scene| {
            let risen = (scene.epoch as f64 / warmup_epochs.max(1) as f64).min(1.0);
            let own_class = hard_targets(scene.targets.clone());
            let [student, teacher] =
                [scene.student, scene.teacher].map(|trace| trace.logits.clone().div_scalar(temperature));
            let [target, others] = divergences(student, teacher, own_class)
                .map(|rows| scene.mean_of_labelled(rows).mul_scalar(temperature * temperature));
            vec![
                NamedLoss::new("target-class", risen * weight * alpha, target),
                NamedLoss::new("other-classes", risen * weight * beta, others),
            ]
        })
    }
}

/// `KL(b_T ‖ b_S)` and `KL(q_T ‖ q_S)` of each sample, `[B]`. The logits `[B, C]` are already divided by τ. `own_class` `[B, C]`
/// is 1 at the sample's class and 0 elsewhere.
pub fn divergences(student: Tensor<2>, teacher: Tensor<2>, own_class: Tensor<2>) -> [Tensor<1>; 2] {
    let [student, teacher] = [student, teacher].map(|logits| Parts::of(logits, &own_class));
    let kl = |t: Tensor<2>, s: Tensor<2>| t.clone().exp() * (t - s);
    let target = kl(teacher.target, student.target) + kl(teacher.rest, student.rest);
    let others = kl(teacher.others, student.others).sum_dim(1);
    [target, others].map(|column| column.squeeze_dim(1))
}

// Logarithms of probabilities.
struct Parts {
    // Of the sample's class, [B, 1].
    target: Tensor<2>,
    // Of all others together, [B, 1].
    rest: Tensor<2>,
    // Of each other class among the others, [B, C].
    others: Tensor<2>,
}

impl Parts {
    fn of(logits: Tensor<2>, own_class: &Tensor<2>) -> Self {
        let all = log_softmax(logits.clone(), 1);
        let others = log_softmax(logits - own_class.clone().mul_scalar(OUT), 1);
        let target = (all.clone() * own_class.clone()).sum_dim(1);
        // The bound keeps the logarithm finite where nothing is left for the others.
        let left = all.exp() * (own_class.clone().mul_scalar(-1.0) + 1.0);
        let rest = left.sum_dim(1).clamp_min(1e-30).log();
        Self { target, rest, others }
    }
}

impl Section for Dkd {
    const NAME: &'static str = "DKD";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}
