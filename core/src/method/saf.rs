//! SAF: self-attention forcing (DViTSAF). The student's attention learns to be like the teacher's.
//!
//! Why: the features of a wide teacher and a narrow student cannot be compared directly, but their attention can. The mean over
//! heads makes 16 heads comparable with 3, without matching heads and without a projector.
//!
//! For pairs (s, t) of a student's and a teacher's block, with `A = mean over heads of softmax(q kᵀ / √d)`:
//!
//! `L = Σ_(s, t) mean_{b, i, j} (A_S^(s) − sg A_T^(t))²`
//!
//! `sg` stops the gradient. The squared difference of two rows of probabilities is at most 2, so a pair adds at most 2 / N. This is
//! small compared with a cross-entropy, which is why the term has a weight.
//!
//! Two maps are stored: the teacher's mean over heads, and its difference from the student's, `N` numbers a token
//! ([`op::attention_map_loss`]).
//!
//! Without explicit pairs, block i of the student's L_S is compared with block `r (i + 1) − 1` of the teacher's L_T, with
//! `r = ⌊L_T / L_S⌋`. Both networks must have the same number of tokens, since maps are never resampled.

use super::numbers::{WEIGHT, numbers};
use super::pairs::{self, Pairs, stride_pairs};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term, maths};
use crate::model::NetworkShape;
use crate::op;

numbers! {
    /// The numbers of self-attention forcing.
    pub struct Saf {
        /// Weight among the terms that share α.
        weight: f64 = 1.0, in WEIGHT;
        /// Pairs [student's block, teacher's block] from 0; empty: evenly spaced blocks of the teacher.
        pairs: Pairs = Vec::new();
    }
}

impl Method for Saf {
    fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        let tokens = (student.tokens != teacher.tokens).then(|| {
            format!(
                "SAF needs the same number of tokens in both networks, and the student has {}, the teacher {}; give both the \
                 same image_size / patch_size and prefix tokens, or take KD, which compares logits",
                student.tokens, teacher.tokens
            )
        });
        pairs::refusal("SAF", &self.pairs, student, teacher)
            .or(tokens)
            .or_else(|| pairs::no_stride(&self.pairs, student, teacher))
    }

    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        let weight = self.weight;
        let pairs = stride_pairs(&self.pairs, ask.student.depth, ask.teacher.depth).into_iter();
        let pairs: Vec<_> =
            pairs.map(|[s, t]| (ask.student_taps.queries_and_keys(s), ask.teacher_taps.attention_map(t))).collect();
        Box::new(move |scene| {
            let losses = pairs.iter().map(|(s, t)| {
                op::attention_map_loss(scene.student.queries_and_keys(*s), scene.teacher.attention_map(*t))
            });
            vec![NamedLoss::new("saf", weight, maths::sum(losses))]
        })
    }

    fn shrink(&mut self, last: [usize; 2]) {
        pairs::shrink(&mut self.pairs, last);
    }
}

impl Section for Saf {
    const NAME: &'static str = "SAF";
    const ALPHA: f64 = 0.5;

    fn term(&self, alpha: f64) -> Term {
        Self { weight: alpha * self.weight, ..self.clone() }.into()
    }
}
