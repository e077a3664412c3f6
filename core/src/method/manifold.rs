//! MANIFOLD: manifold distillation (Hao et al., "Learning Efficient Vision Transformers via Fine-Grained Manifold Distillation",
//! 2022). It compares the cosines between tokens: within an image, across images, and for random tokens.
//!
//! Why: cosines can be compared between networks of any widths, without a projector.
//!
//! `F̂` `[B, N, D]` are the tokens after a pair of blocks, each scaled to length 1. Each term is the mean of `(G_T − G_S)²` over
//! the entries of Gram matrices `G`:
//!
//! * patch: `F̂ F̂ᵀ` of each image, `[B, N, N]`
//! * sample: `F̂ F̂ᵀ` of all images at each token, `[N, B, B]`
//! * random: `F̂ F̂ᵀ` of K of the B N tokens, `[K, K]`. Both networks use the same tokens. Every pair and step has a new draw.
//!
//! No Gram matrix is kept for the backward pass ([`op::gram_loss`]).
//!
//! A term is the mean over the pairs. If the two networks have different prefix tokens, only patches are compared.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::maths::{normalise_rows, sum};
use super::numbers::{Range, WEIGHT, numbers};
use super::pairs::{self, Pairs, end_pairs};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term};
use crate::data::{Purpose, Rng};
use crate::model::NetworkShape;
use crate::op;

// Separates these draws from other random subsets.
const SEED: u64 = 0x6d61_6e69_666f_6c64;

numbers! {
    /// The numbers of manifold distillation.
    pub struct Manifold {
        /// Weight β of the three terms.
        weight: f64 = 1.0, in WEIGHT, flags "distillation-beta";
        /// Weight of the cosines across images.
        sample: f64 = 0.1, in WEIGHT, flags "w-sample";
        /// Weight of the cosines within an image.
        patch: f64 = 4.0, in WEIGHT, flags "w-patch";
        /// Weight of the cosines between random tokens.
        random: f64 = 0.2, in WEIGHT, flags "w-rand";
        /// Number K of random tokens.
        rows: usize = 192, in Range::between(1.0, 65_536.0), flags "K";
        /// Pairs [student's block, teacher's block] from 0; empty: the first and last blocks of both, at most eight pairs.
        pairs: Pairs = Vec::new();
    }
}

impl Method for Manifold {
    fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        pairs::refusal(Self::NAME, &self.pairs, student, teacher)
            .or_else(|| pairs::other_patches(Self::NAME, student, teacher))
    }

    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        let own = self.clone();
        let pairs = ask.token_pairs(end_pairs(&self.pairs, ask.student.depth, ask.teacher.depth));
        Box::new(move |scene| {
            let pair = |(s, t): &(_, _)| {
                let (student, teacher) = pairs::same_tokens(scene, *s, *t);
                (normalise_rows(student), normalise_rows(teacher))
            };
            let normal: Vec<_> = pairs.iter().map(pair).collect();
            let mean = |loss: &dyn Fn(usize, Tensor<3>, Tensor<3>) -> Tensor<1>| {
                let losses = normal.iter().enumerate().map(|(pair, (s, t))| loss(pair, s.clone(), t.clone()));
                sum(losses).div_scalar(normal.len() as f64)
            };
            let random = |pair, s: Tensor<3>, t| {
                let [batch, tokens, _] = s.dims();
                random_loss(s, t, &draw_rows(scene.step, pair, batch * tokens, own.rows))
            };
            vec![
                NamedLoss::new("samples", own.weight * own.sample, mean(&|_, s, t| sample_loss(s, t))),
                NamedLoss::new("patches", own.weight * own.patch, mean(&|_, s, t| patch_loss(s, t))),
                NamedLoss::new("rows", own.weight * own.random, mean(&random)),
            ]
        })
    }

    fn shrink(&mut self, last: [usize; 2]) {
        pairs::shrink(&mut self.pairs, last);
    }
}

impl Section for Manifold {
    const NAME: &'static str = "MANIFOLD";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}

/// The term within images, `[1]`, from normalised tokens `[B, N, D_S]` and `[B, N, D_T]`.
pub fn patch_loss(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    op::gram_loss(student, teacher)
}

/// The term across images at each token, `[1]`, from normalised tokens `[B, N, D_S]` and `[B, N, D_T]`.
pub fn sample_loss(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    patch_loss(student.swap_dims(0, 1), teacher.swap_dims(0, 1))
}

/// The term of the tokens `rows` out of all B N, `[1]`, from normalised tokens `[B, N, D_S]` and `[B, N, D_T]`.
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

/// `count` different numbers below `all`, or all of them if there are fewer. The draw is keyed by the pair of blocks and the step.
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
