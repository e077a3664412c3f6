//! Hard distillation: cross-entropy with the teacher's own label (DeiT: Touvron et al., 2021).
//!
//! `L = ce_η(z, argmax z_T)`, a mean over the batch, on the class head or the distillation head.

use burn::tensor::{Int, Tensor};

use super::numbers::{SMOOTHING, WEIGHT, numbers};
use super::readout::Head;
use super::term::{Ask, Evaluate, Heads, Method, NamedLoss};
use crate::model::NetworkShape;
use crate::op;

numbers! {
    /// The numbers of the teacher's labels' term.
    pub struct TeacherLabels {
        /// Weight of the term.
        weight: f64 = 1.0, in WEIGHT;
        /// Label smoothing η of the teacher's label.
        smoothing: f64 = 0.0, in SMOOTHING;
        /// The head that learns.
        head: Head = Head::Token;
    }
}

impl Method for TeacherLabels {
    fn refusal(&self, student: &NetworkShape, _: &NetworkShape) -> Option<String> {
        self.head.refusal(student)
    }

    fn teaches(&self) -> Heads {
        self.head.taught(self.weight)
    }

    fn prepare(&self, _: &mut Ask) -> Evaluate {
        let Self { weight, smoothing, head } = *self;
        Box::new(move |scene| {
            let value = hard_loss(head.of(scene.student).clone(), scene.teacher.logits.clone(), smoothing);
            vec![NamedLoss::new("teacher-labels", weight, value)]
        })
    }
}

/// The cross-entropy, `[1]`, of a student's logits `[B, C]` with the teacher's smoothed label.
pub fn hard_loss(student: Tensor<2>, teacher: Tensor<2>, smoothing: f64) -> Tensor<1> {
    op::cross_entropy(student, hard_targets(teacher), smoothing as f32).mean()
}

/// `[B, C]` with 1 at the largest value of each row and 0 elsewhere. Of equal values, the first counts.
pub fn hard_targets(logits: Tensor<2>) -> Tensor<2> {
    let [batch, classes] = logits.dims();
    let device = logits.device();
    let largest = logits.argmax(1).expand([batch, classes]);
    let all = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes]).expand([batch, classes]);
    largest.equal(all).float()
}
