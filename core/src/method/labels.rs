//! Cross-entropy with the labels of the data, with label smoothing (Szegedy et al., 2016).
//!
//! `L = −Σ_c y'_c log σ(z)_c` with `y' = (1 − ε) y + ε / C`, a mean over the samples of the batch whose label is known. z are
//! the logits of the class head. A target may be a mixture of several labels.

use super::numbers::{SMOOTHING, WEIGHT, numbers};
use super::term::{Ask, Evaluate, Heads, Method, NamedLoss};
use crate::op;

numbers! {
    /// The numbers of the labels' term.
    pub struct Labels {
        /// Weight of the term.
        weight: f64 = 1.0, in WEIGHT;
        /// Label smoothing ε.
        smoothing: f64 = 0.0, in SMOOTHING;
    }
}

impl Method for Labels {
    fn needs_teacher(&self) -> bool {
        false
    }

    fn needs_labels(&self) -> bool {
        self.weight > 0.0
    }

    fn teaches(&self) -> Heads {
        Heads::class(self.weight)
    }

    fn prepare(&self, _: &mut Ask) -> Evaluate {
        let Self { weight, smoothing } = *self;
        Box::new(move |scene| {
            let rows = op::cross_entropy(scene.student.logits.clone(), scene.targets.clone(), smoothing as f32);
            vec![NamedLoss::new("labels", weight, scene.mean_of_labelled(rows))]
        })
    }
}
