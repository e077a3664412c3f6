//! Distillation of the class token (CLS-KD): what it says, and how it relates to the patches, after chosen blocks.
//!
//! Why: the class token is what a classifier reads; matching it and its relation to the patches block by block hands the
//! student the way there and not only the end.
//!
//! With `x̂ = x / max(‖x‖, 1e-12)`, class tokens `s_i`, `t_i` and patches `S_i`, `T_i` of pair i of n pairs of blocks:
//!
//! * projector: `c_i = mean_{b, d} (t̂_i − P(ŝ_i))²`, `P` = Linear, GELU, Linear, one for all pairs; without `P` where
//!   the widths are equal
//! * relation: `c_i = mean_{a, b} (⟨t̂_a, t̂_b⟩ − ⟨ŝ_a, ŝ_b⟩)²` over the batch
//! * map: `a_i = mean_{b, p} (⟨t̂_b, T̂_bp⟩ − ⟨ŝ_b, Ŝ_bp⟩)²`
//!
//! and pairs that lag behind weigh more, `w_i = n ℓ_i / Σ ℓ`, the last pair `last_weight` times as much:
//!
//! `L(ℓ) = (Σ_{i<n} ℓ_i² + last_weight · ℓ_n²) / Σ_i ℓ_i`
//!
//! Published code lets gradients through the weights, so that a pair far below the mean is pushed up; `detach_weights`
//! takes them as constants.

use core::ops::Range;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{mean_square, normalise_rows};
use crate::kernel;
use crate::model::init::{Initialiser, WeightInit};
use crate::model::layers::project;
use crate::model::{NetworkShape, Trace};

/// How class tokens of different widths are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matching {
    /// Their cosines with one another over the batch: any two widths.
    #[default]
    Relation,
    /// The student's through a [`Projector`], or as it is where the widths are equal.
    Projector,
}

/// The numbers of class-token distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassToken {
    /// Weight of the class token's term.
    pub weight: f64,
    /// Weight of the term of its cosines with the patches.
    pub map_weight: f64,
    /// Extra factor of the last pair.
    pub last_weight: f64,
    /// Whether the adaptive weights are constants to the gradient.
    pub detach_weights: bool,
    /// How class tokens are compared.
    pub matching: Matching,
    /// Pairs [student's block, teacher's block] from 0; empty for the first and last blocks of both, eight pairs at most.
    pub pairs: Vec<[usize; 2]>,
}

impl Default for ClassToken {
    fn default() -> Self {
        Self {
            weight: 1.0,
            map_weight: 2.0,
            last_weight: 4.0,
            detach_weights: false,
            matching: Matching::Relation,
            pairs: Vec::new(),
        }
    }
}

impl ClassToken {
    /// The two terms before their weights, each `[1]`: class token and map. `places` are those of this method's pairs
    /// among the tapped tokens.
    pub(super) fn values(
        &self,
        student: &Trace,
        teacher: &Trace,
        places: Range<usize>,
        projector: Option<&Projector>,
    ) -> [Tensor<1>; 2] {
        let carried = |class_token: Tensor<2>| match projector {
            Some(projector) => projector.forward(class_token),
            None => class_token,
        };
        let pairs = || places.clone().map(|place| (student.tokens[place].clone(), teacher.tokens[place].clone()));
        let class = |tokens: Tensor<3>| tokens.narrow(1, 0, 1).squeeze_dim::<2>(1);
        let classes = pairs().map(|(s, t)| match self.matching {
            Matching::Relation => relation_loss(class(s), class(t)),
            Matching::Projector => projected_loss(carried(normalise_rows(class(s))), class(t)),
        });
        let maps = pairs().map(|(s, t)| map_loss(s, student.prefix_tokens, t, teacher.prefix_tokens));
        [classes.collect(), maps.collect()].map(|losses| adaptive(losses, self.last_weight, self.detach_weights))
    }

    /// Why the two networks cannot be compared this way, with what can be done.
    pub(super) fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        for (role, shape) in [("student", student), ("teacher", teacher)] {
            if !shape.class_token {
                return Some(format!(
                    "class-token distillation needs a class token, and the {role} has none; give it one (vit.class_token \
                     = true, vit.pool = \"class\") or take the manifold terms, which compare patches"
                ));
            }
        }
        if student.patches() != teacher.patches() {
            return Some(format!(
                "the student cuts an image into {} patches, the teacher into {}; cosines with the patches need as many: \
                 give both the same image_size / patch_size",
                student.patches(),
                teacher.patches()
            ));
        }
        None
    }
}

/// The mean squared difference, `[1]`, of the projected class token `[B, D_T]` and the teacher's normalised one.
pub fn projected_loss(projected: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    mean_square(normalise_rows(teacher) - projected)
}

/// The mean squared difference, `[1]`, of the cosines between the samples' class tokens `[B, D_S]` and `[B, D_T]`.
pub fn relation_loss(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let cosines = |tokens: Tensor<2>| {
        let rows = normalise_rows(tokens);
        kernel::matmul(rows.clone(), rows.transpose())
    };
    mean_square(cosines(teacher) - cosines(student))
}

/// The mean squared difference, `[1]`, of the class token's cosines with the patches of its sample.
///
/// Tokens are `[B, N, D]`, the class token first; the first `prefix` are no patches.
pub fn map_loss(student: Tensor<3>, student_prefix: usize, teacher: Tensor<3>, teacher_prefix: usize) -> Tensor<1> {
    let cosines = |tokens: Tensor<3>, prefix: usize| {
        let count = tokens.dims()[1];
        let rows = normalise_rows(tokens);
        // [B, 1, D] x [B, D, P]
        kernel::matmul(rows.clone().narrow(1, 0, 1), rows.narrow(1, prefix, count - prefix).swap_dims(1, 2))
    };
    mean_square(cosines(teacher, teacher_prefix) - cosines(student, student_prefix))
}

/// Losses of pairs, each `[1]`, weighted by their own share of the sum; the last `last_weight` times as much.
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

/// Carries a student's class token to the teacher's width: `Linear(D_S → m)`, GELU, `Linear(m → D_T)`, m between.
///
/// One serves all pairs; it is trained with the student. Its parameters are `projector.fc1` and `projector.fc2`.
#[derive(Module, Debug)]
pub struct Projector {
    fc1: Linear,
    fc2: Linear,
}

impl Projector {
    /// A projector from width `student` to width `teacher`, drawn from `seed`.
    pub fn new(student: usize, teacher: usize, seed: u64, device: &Device) -> Self {
        let draw = Initialiser::new(seed, device);
        let middle = (student + teacher) / 2;
        let linear = |path: &str, inputs, outputs| draw.linear(path, WeightInit::TruncatedNormal, inputs, outputs, 1);
        Self { fc1: linear("projector.fc1", student, middle), fc2: linear("projector.fc2", middle, teacher) }
    }

    /// `[B, D_S]`, normalised, to `[B, D_T]`, which is not normalised again.
    pub fn forward(&self, class_token: Tensor<2>) -> Tensor<2> {
        project(&self.fc2, kernel::gelu(project(&self.fc1, class_token)))
    }
}
