//! SP: similarity-preserving distillation (Tung and Mori, ICCV 2019).
//!
//! `L = ‖ Ĝ_T − Ĝ_S ‖² / B²`. `Ĝ` is `G = F Fᵀ` `[B, B]` with every row scaled to length 1, and F are the features that the class
//! heads read.
//!
//! Why: the student learns which images are similar for the teacher. The widths of the two networks may differ.

use burn::tensor::Tensor;

use super::maths::{mean_square, normalise_rows};
use super::numbers::{WEIGHT, numbers};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term};
use crate::op;

numbers! {
    /// The number of similarity-preserving distillation, as published for labels of weight 1.
    pub struct Sp {
        /// Weight of the term.
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
