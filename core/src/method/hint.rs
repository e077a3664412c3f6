//! HINT: hints from a teacher's tokens (Romero et al., "FitNets", ICLR 2015).
//!
//! `L = Σ_pairs mean (P(S) − T)²`, a mean over batch, tokens and width. S and T are the tokens after a pair of blocks. P is a
//! linear layer for each pair, which is trained with the student and discarded afterwards. With `normalise`, T is
//! layer-normalised first (ε 1e-6, without gain and shift), so that no channel of the teacher outweighs the others.

use burn::tensor::Tensor;

use super::maths::{mean_square, sum};
use super::numbers::{WEIGHT, numbers};
use super::pairs::{self, Pairs, stride_pairs};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term};
use crate::model::NetworkShape;

const EPS: f64 = 1e-6;

numbers! {
    /// The numbers of hints, as usual with labels of weight 1.
    pub struct Hint {
        /// Weight of the term.
        weight: f64 = 100.0, in WEIGHT;
        /// Whether the teacher's tokens are layer-normalised first.
        normalise: bool = false;
        /// Pairs [student's block, teacher's block] from 0; empty: evenly spaced blocks of the teacher.
        pairs: Pairs = Vec::new();
    }
}

impl Method for Hint {
    fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        pairs::refusal(Self::NAME, &self.pairs, student, teacher)
            .or_else(|| pairs::other_patches(Self::NAME, student, teacher))
            .or_else(|| pairs::no_stride(&self.pairs, student, teacher))
    }

    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        let Self { weight, normalise, .. } = *self;
        let pairs = ask.token_pairs(stride_pairs(&self.pairs, ask.student.depth, ask.teacher.depth));
        let widths = [ask.student.width, ask.teacher.width];
        let aids: Vec<_> = (0..pairs.len()).map(|pair| ask.aid(format!("hint.{pair}"), &widths)).collect();
        Box::new(move |scene| {
            let losses = pairs.iter().zip(&aids).map(|((s, t), aid)| {
                let (student, teacher) = pairs::same_tokens(scene, *s, *t);
                let teacher = if normalise { normalised(teacher) } else { teacher };
                mean_square(scene.aids.run(*aid, student) - teacher)
            });
            vec![NamedLoss::new("hint", weight, sum(losses))]
        })
    }

    fn shrink(&mut self, last: [usize; 2]) {
        pairs::shrink(&mut self.pairs, last);
    }
}

/// Tokens `[B, N, D]`, each shifted and scaled to mean 0 and variance 1.
pub fn normalised(tokens: Tensor<3>) -> Tensor<3> {
    let centred = tokens.clone() - tokens.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    centred / (variance + EPS).sqrt()
}

impl Section for Hint {
    const NAME: &'static str = "HINT";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}
