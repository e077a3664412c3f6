//! AT: attention transfer (Zagoruyko and Komodakis, ICLR 2017).
//!
//! For each pair of blocks, `m_i` is the mean square of patch token i over its width, and `m̂` is `m` scaled to length 1:
//!
//! `L = Σ_pairs mean_{b, i} (m̂_S − m̂_T)²`
//!
//! Why: large activations show where a network looks. The widths of the two networks may differ.

use burn::tensor::Tensor;

use super::maths::{mean_square, normalise_rows, sum};
use super::numbers::{WEIGHT, numbers};
use super::pairs::{self, Pairs, stride_pairs};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term};
use crate::model::NetworkShape;

numbers! {
    /// The numbers of attention transfer, as published for labels of weight 1.
    pub struct At {
        /// Weight of the term.
        weight: f64 = 1000.0, in WEIGHT;
        /// Pairs [student's block, teacher's block] from 0; empty: evenly spaced blocks of the teacher.
        pairs: Pairs = Vec::new();
    }
}

impl Method for At {
    fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        pairs::refusal(Self::NAME, &self.pairs, student, teacher)
            .or_else(|| pairs::other_patches(Self::NAME, student, teacher))
            .or_else(|| pairs::no_stride(&self.pairs, student, teacher))
    }

    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        let weight = self.weight;
        let pairs = ask.token_pairs(stride_pairs(&self.pairs, ask.student.depth, ask.teacher.depth));
        Box::new(move |scene| {
            let [student, teacher] = [scene.student.prefix_tokens, scene.teacher.prefix_tokens];
            let losses = pairs.iter().map(|(s, t)| {
                let student = activity(scene.student.tokens(*s), student);
                mean_square(student - activity(scene.teacher.tokens(*t), teacher))
            });
            vec![NamedLoss::new("activity", weight, sum(losses))]
        })
    }

    fn shrink(&mut self, last: [usize; 2]) {
        pairs::shrink(&mut self.pairs, last);
    }
}

/// The mean square of each patch token, `[B, P]`, from tokens `[B, N, D]`. Each row has length 1.
pub fn activity(tokens: Tensor<3>, prefix: usize) -> Tensor<2> {
    let [_, count, _] = tokens.dims();
    let patches = tokens.narrow(1, prefix, count - prefix);
    normalise_rows((patches.clone() * patches).mean_dim(2).squeeze_dim(2))
}

impl Section for At {
    const NAME: &'static str = "AT";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}
