//! Distillation with a temperature for the teacher's logits only, as in DistillViT's code.
//!
//! `L = CE(z, σ(z_T / τ))`, a mean over the batch. There is no factor τ², since the student's temperature is 1.

use burn::tensor::activation::softmax;

use super::numbers::{TEMPERATURE, WEIGHT, numbers};
use super::term::{Ask, Evaluate, Heads, Method, NamedLoss};
use crate::op;

numbers! {
    /// The numbers of the softened teacher's term.
    pub struct SoftenedTeacher {
        /// Weight of the term.
        weight: f64 = 1.0, in WEIGHT;
        /// The teacher's temperature τ.
        temperature: f64 = 4.0, in TEMPERATURE;
    }
}

impl Method for SoftenedTeacher {
    fn teaches(&self) -> Heads {
        Heads::class(self.weight)
    }

    fn prepare(&self, _: &mut Ask) -> Evaluate {
        let Self { weight, temperature } = *self;
        Box::new(move |scene| {
            let soft = softmax(scene.teacher.logits.clone().div_scalar(temperature), 1);
            let value = op::cross_entropy(scene.student.logits.clone(), soft, 0.0).mean();
            vec![NamedLoss::new("softened-teacher", weight, value)]
        })
    }
}
