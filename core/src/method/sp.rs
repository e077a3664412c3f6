//! SP: similarity-preserving distillation (Tung and Mori, ICCV 2019).
//!
//! `L = ‖ rows of G_T at length 1 − rows of G_S at length 1 ‖² / B²` with `G = F Fᵀ` `[B, B]` of the features F that the class
//! heads read.
//!
//! Why: images that the teacher finds alike are to be alike to the student, whatever the widths of the two.

use burn::tensor::Tensor;

use super::maths::{mean_square, normalise_rows};
use super::numbers::{WEIGHT, numbers};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term};
use crate::op;

numbers! {
    /// The number of similarity-preserving distillation, as published beside labels of weight 1.
    pub struct Sp {
        /// Its factor in the total.
        weight: f64 = 3000.0, in WEIGHT;
    }
}

impl Method for Sp {
    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        let weight = self.weight;
        let taps = (ask.student_taps.features(), ask.teacher_taps.features());
        Box::new(move |scene| {
            let value = similarity_loss(scene.student.features(taps.0), scene.teacher.features(taps.1));
            vec![NamedLoss::new("similarity", weight, value)]
        })
    }
}

/// The loss, `[1]`, of features `[B, D_S]` and `[B, D_T]`.
pub fn similarity_loss(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let similar = |features: Tensor<2>| normalise_rows(op::matmul(features.clone(), features.transpose()));
    mean_square(similar(teacher) - similar(student))
}

impl Section for Sp {
    const NAME: &'static str = "SP";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}
