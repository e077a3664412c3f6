//! Manifold distillation (Hao et al., "Learning Efficient Vision Transformers via Fine-Grained Manifold Distillation",
//! 2022): how tokens lie to one another, within an image, across images, and at random.
//!
//! Why: cosines between tokens compare networks of any width without a projector.
//!
//! With row-normalised tokens `F̂` `[B, N, D]` after a pair of blocks, each term is a mean of `(G_T − G_S)²` over the
//! entries of Gram matrices `G`:
//!
//! * patch: `F̂ F̂ᵀ` of each image, `[B, N, N]`
//! * sample: the same with batch and tokens exchanged, `[N, B, B]`
//! * random: K of the B N rows, the same of both networks, drawn anew for every pair and step, `[K, K]`
//!
//! No Gram matrix is kept for the backward pass ([`kernel::gram_loss`]).
//!
//! A term is the mean over the pairs. Where the two networks have different prefix tokens, patches alone are compared.

use core::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{normalise_rows, sum};
use crate::data::{Purpose, Rng};
use crate::kernel;
use crate::model::{NetworkShape, Trace};

// Sets the draws apart from those of other subsets.
const SEED: u64 = 0x6d61_6e69_666f_6c64;

/// The numbers of manifold distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifold {
    /// Factor β of the three terms.
    pub weight: f64,
    /// Weight of the term across images.
    pub sample: f64,
    /// Weight of the term within images.
    pub patch: f64,
    /// Weight of the term of random rows.
    pub random: f64,
    /// Number K of random rows.
    pub rows: usize,
    /// Pairs [student's block, teacher's block] from 0; empty for the first and last blocks of both, eight pairs at most.
    pub pairs: Vec<[usize; 2]>,
}

impl Default for Manifold {
    fn default() -> Self {
        Self { weight: 1.0, sample: 0.1, patch: 4.0, random: 0.2, rows: 192, pairs: Vec::new() }
    }
}

impl Manifold {
    /// The terms sample, patch and random before their weights, each `[1]`. `places` are those of this method's pairs
    /// among the tapped tokens; `step` keys the random rows.
    pub(super) fn values(&self, student: &Trace, teacher: &Trace, places: Range<usize>, step: u64) -> [Tensor<1>; 3] {
        let same_prefix = student.prefix_tokens == teacher.prefix_tokens;
        let rows = |trace: &Trace, place: usize| {
            let tokens = trace.tokens[place].clone();
            let count = tokens.dims()[1];
            let prefix = if same_prefix { 0 } else { trace.prefix_tokens };
            normalise_rows(tokens.narrow(1, prefix, count - prefix))
        };
        let normal: Vec<_> = places.map(|place| (rows(student, place), rows(teacher, place))).collect();
        let mean = |losses: Vec<Tensor<1>>| {
            let count = losses.len() as f64;
            sum(losses.into_iter()).div_scalar(count)
        };
        let each = |loss: &dyn Fn(usize, Tensor<3>, Tensor<3>) -> Tensor<1>| {
            mean(normal.iter().enumerate().map(|(pair, (s, t))| loss(pair, s.clone(), t.clone())).collect())
        };
        [
            each(&|_, s, t| sample_loss(s, t)),
            each(&|_, s, t| patch_loss(s, t)),
            each(&|pair, s, t| {
                let [batch, tokens, _] = s.dims();
                random_loss(s, t, &draw_rows(step, pair, batch * tokens, self.rows))
            }),
        ]
    }

    /// Why the two networks cannot be compared this way, with what can be done.
    pub(super) fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        (student.patches() != teacher.patches()).then(|| {
            format!(
                "the student cuts an image into {} patches, the teacher into {}; manifold distillation needs as many: \
                 give both the same image_size / patch_size, or take KD, which compares logits",
                student.patches(),
                teacher.patches()
            )
        })
    }
}

/// Within images: normalised tokens `[B, N, D_S]` and `[B, N, D_T]` to `[1]`.
pub fn patch_loss(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    kernel::gram_loss(student, teacher)
}

/// Across images at each token: normalised tokens `[B, N, D_S]` and `[B, N, D_T]` to `[1]`.
pub fn sample_loss(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    patch_loss(student.swap_dims(0, 1), teacher.swap_dims(0, 1))
}

/// Among the rows `rows` of the B N: normalised tokens `[B, N, D_S]` and `[B, N, D_T]` to `[1]`.
pub fn random_loss(student: Tensor<3>, teacher: Tensor<3>, rows: &[usize]) -> Tensor<1> {
    let device: Device = teacher.device().inner();
    let indices: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [rows.len()]), &device);
    let chosen = |tokens: Tensor<3>| {
        let [batch, count, width] = tokens.dims();
        let chosen = tokens.reshape([batch * count, width]).select(0, indices.clone());
        chosen.unsqueeze_dim::<3>(0)
    };
    patch_loss(chosen(student), chosen(teacher))
}

/// `count` different numbers below `all` (all of them if there are no more), drawn for a pair of blocks in a step.
pub fn draw_rows(step: u64, pair: usize, all: usize, count: usize) -> Vec<usize> {
    let mut rng = Rng::new(SEED, step, pair as u64, Purpose::Subset);
    let mut rows: Vec<usize> = (0..all).collect();
    let count = count.min(all);
    // Fisher and Yates, stopped once `count` places are settled.
    for place in 0..count {
        let rest = all - place;
        let other = place + ((rng.uniform() * rest as f64) as usize).min(rest - 1);
        rows.swap(place, other);
    }
    rows.truncate(count);
    rows
}
