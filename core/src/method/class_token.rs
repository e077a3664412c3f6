//! CLS: distillation of the class token (CLS-KD). After chosen blocks it compares the class tokens, and their relation to the
//! patches.
//!
//! Why: a classifier reads the class token. Comparing it after several blocks teaches the student the intermediate steps, and not
//! only the result.
//!
//! There are n pairs of blocks. Pair i has class tokens `s_i`, `t_i` and patches `S_i`, `T_i`. With `x̂ = x / max(‖x‖, 1e-12)`:
//!
//! * projector: `c_i = mean_{b, d} (t̂_i − P(ŝ_i))²`, with one `P` = Linear, GELU, Linear for all pairs. If the
//!   widths are equal there is no `P`.
//! * relation: `c_i = mean_{a, b} (⟨t̂_a, t̂_b⟩ − ⟨ŝ_a, ŝ_b⟩)²` over the batch
//! * map: `a_i = mean_{b, p} (⟨t̂_b, T̂_bp⟩ − ⟨ŝ_b, Ŝ_bp⟩)²`
//!
//! Pairs with a larger loss weigh more, `w_i = n ℓ_i / Σ ℓ`, and the last pair weighs `last_weight` times as much:
//!
//! `L(ℓ) = (Σ_{i<n} ℓ_i² + last_weight · ℓ_n²) / Σ_i ℓ_i`
//!
//! The published code lets gradients through the weights, which raises the loss of a pair far below the mean. `detach_weights`
//! treats the weights as constants.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::maths::{mean_square, normalise_rows};
use super::numbers::{WEIGHT, numbers};
use super::pairs::{self, Pairs, end_pairs};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term};
use crate::model::NetworkShape;
use crate::op;

/// How class tokens of different widths are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matching {
    /// By the cosines between the class tokens of the batch. The widths may differ.
    #[default]
    Relation,
    /// Directly, after a projector that is trained with the student. Without a projector if the widths are equal.
    Projector,
}

numbers! {
    /// The numbers of class-token distillation.
    pub struct ClassToken {
        /// Weight of the class tokens' loss.
        weight: f64 = 1.0, in WEIGHT, flags "w-cls";
        /// Weight of the loss of the cosines between class token and patches.
        map_weight: f64 = 2.0, in WEIGHT, flags "w-atn";
        /// Additional weight of the last pair.
        last_weight: f64 = 4.0, in WEIGHT, flags "last-w";
        /// Whether the gradient treats the adaptive weights as constants.
        detach_weights: bool = false;
        /// How class tokens are compared.
        matching: Matching = Matching::Relation;
        /// Pairs [student's block, teacher's block] from 0; empty: the first and last blocks of both, at most eight pairs.
        pairs: Pairs = Vec::new();
    }
}

impl Method for ClassToken {
    fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        if let Some(reason) = pairs::refusal(Self::NAME, &self.pairs, student, teacher) {
            return Some(reason);
        }
        for (role, shape) in [("student", student), ("teacher", teacher)] {
            if !shape.class_token {
                return Some(format!(
                    "class-token distillation needs a class token, and the {role} has none; give it one (vit.class_token \
                     = true, vit.pool = \"class\") or use the manifold terms, which compare patches"
                ));
            }
        }
        (student.patches() != teacher.patches()).then(|| {
            format!(
                "the student cuts an image into {} patches, the teacher into {}; cosines with the patches need the \
                 same number: give both the same image_size / patch_size",
                student.patches(),
                teacher.patches()
            )
        })
    }

    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        let own = self.clone();
        let pairs = ask.token_pairs(end_pairs(&self.pairs, ask.student.depth, ask.teacher.depth));
        let [narrow, wide] = [ask.student.width, ask.teacher.width];
        let projector = (self.matching == Matching::Projector && narrow != wide)
            .then(|| ask.aid("projector", &[narrow, (narrow + wide) / 2, wide]));
        Box::new(move |scene| {
            let carried = |class_token: Tensor<2>| match projector {
                Some(projector) => scene.aids.run(projector, class_token),
                None => class_token,
            };
            let pairs = || pairs.iter().map(|(s, t)| (scene.student.tokens(*s), scene.teacher.tokens(*t)));
            let class = |tokens: Tensor<3>| tokens.narrow(1, 0, 1).squeeze_dim::<2>(1);
            let classes = pairs().map(|(s, t)| match own.matching {
                Matching::Relation => relation_loss(class(s), class(t)),
                Matching::Projector => projected_loss(carried(normalise_rows(class(s))), class(t)),
            });
            let [student, teacher] = [scene.student.prefix_tokens, scene.teacher.prefix_tokens];
            let maps = pairs().map(|(s, t)| map_loss(s, student, t, teacher));
            let weighed = |losses| adaptive(losses, own.last_weight, own.detach_weights);
            vec![
                NamedLoss::new("class-token", own.weight, weighed(classes.collect())),
                NamedLoss::new("class-map", own.map_weight, weighed(maps.collect())),
            ]
        })
    }

    fn shrink(&mut self, last: [usize; 2]) {
        pairs::shrink(&mut self.pairs, last);
    }
}

impl Section for ClassToken {
    const NAME: &'static str = "CLS";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}

/// The mean squared difference, `[1]`, between the projected class token `[B, D_T]` and the teacher's normalised class token.
pub fn projected_loss(projected: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    mean_square(normalise_rows(teacher) - projected)
}

/// The mean squared difference, `[1]`, between the cosines of the batch's class tokens: student `[B, D_S]`, teacher `[B, D_T]`.
pub fn relation_loss(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let cosines = |tokens: Tensor<2>| {
        let rows = normalise_rows(tokens);
        op::matmul(rows.clone(), rows.transpose())
    };
    mean_square(cosines(teacher) - cosines(student))
}

/// The mean squared difference, `[1]`, between the two networks' cosines of the class token with the patches of its sample.
///
/// Tokens are `[B, N, D]` with the class token first. The first `prefix` tokens are not patches.
pub fn map_loss(student: Tensor<3>, student_prefix: usize, teacher: Tensor<3>, teacher_prefix: usize) -> Tensor<1> {
    let cosines = |tokens: Tensor<3>, prefix: usize| {
        let count = tokens.dims()[1];
        let rows = normalise_rows(tokens);
        // [B, 1, D] x [B, D, P]
        op::matmul(rows.clone().narrow(1, 0, 1), rows.narrow(1, prefix, count - prefix).swap_dims(1, 2))
    };
    mean_square(cosines(teacher, teacher_prefix) - cosines(student, student_prefix))
}

/// The sum of the pairs' losses, each `[1]`. Each is weighted by its share of the sum, and the last also by `last_weight`.
pub fn adaptive(losses: Vec<Tensor<1>>, last_weight: f64, detach_weights: bool) -> Tensor<1> {
    let count = losses.len();
    let losses = Tensor::cat(losses, 0);
    let mut factors = vec![1.0_f32; count];
    factors[count - 1] = last_weight as f32;
    let factors = Tensor::<1>::from_data(TensorData::new(factors, [count]), &losses.device().inner());
    // Equal networks: 0 / 0 is 0.
    let share = |losses: Tensor<1>| losses.clone() / losses.sum().clamp_min(1e-20);
    let weights = if detach_weights { share(losses.clone().detach()) } else { share(losses.clone()) };
    (weights * losses * factors).sum()
}
