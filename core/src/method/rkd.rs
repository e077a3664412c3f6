//! RKD: relational distillation (Park et al., CVPR 2019).
//!
//! F are the features that the class heads read. h is Huber's loss: ½ x² for |x| below 1, otherwise |x| − ½. The means are over
//! all pairs and all triples of images:
//!
//! * distances: `mean_ij h(d_S − d_T)`, with `d_ij = ‖F_i − F_j‖`, divided by the mean of the positive distances
//! * angles: `mean_ijk h(a_S − a_T)`, with `a_ijk = ⟨unit(F_j − F_i), unit(F_k − F_i)⟩`
//!
//! Why: distances and angles between images can be compared for networks of any widths.
//!
//! The triples are B³ numbers. They are computed for a few i at a time, together with their gradients. Nothing of that size is
//! kept for the backward pass.

use burn::tensor::Tensor;

use super::maths::{normalise_rows, sum};
use super::numbers::{WEIGHT, numbers};
use super::term::{Ask, Evaluate, Method, NamedLoss};
use super::{Section, Term};
use crate::op;

/// Approximate number of values in one block of triples.
const BLOCK: usize = 1 << 22;

numbers! {
    /// The numbers of relational distillation, as published for labels of weight 1.
    pub struct Rkd {
        /// Weight of the loss of distances.
        distance: f64 = 25.0, in WEIGHT;
        /// Weight of the loss of angles.
        angle: f64 = 50.0, in WEIGHT;
    }
}

impl Method for Rkd {
    fn prepare(&self, ask: &mut Ask) -> Evaluate {
        let Self { distance, angle } = *self;
        let taps = (ask.student_taps.features(), ask.teacher_taps.features());
        Box::new(move |scene| {
            let (student, teacher) = (scene.student.features(taps.0), scene.teacher.features(taps.1));
            vec![
                NamedLoss::new("distances", distance, distance_loss(student.clone(), teacher.clone())),
                NamedLoss::new("angles", angle, angle_loss(student, teacher)),
            ]
        })
    }
}

/// The loss of distances, `[1]`, of features `[B, D_S]` and `[B, D_T]`.
pub fn distance_loss(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let distances = |features: Tensor<2>| {
        let [batch, _] = features.dims();
        // 1 off the diagonal: a sample has no distance from itself, nor a gradient of it.
        let others = Tensor::<2>::eye(batch, &features.device().inner()).mul_scalar(-1.0) + 1.0;
        let steps = steps_from(features.clone(), features);
        let lengths = (steps.clone() * steps).sum_dim(2).squeeze_dim::<2>(2).clamp_min(1e-12).sqrt() * others;
        let mean = lengths.clone().sum_dim(1).sum_dim(0).div_scalar((batch * (batch - 1)).max(1) as f64);
        lengths / mean.clamp_min(1e-12)
    };
    let (s, t) = (distances(student), distances(teacher));
    huber(s - t).mean()
}

/// The loss of angles, `[1]`, of features `[B, D_S]` and `[B, D_T]`.
pub fn angle_loss(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let [batch, width] = student.dims();
    let at_once = (BLOCK / (batch * batch.max(width)).max(1)).clamp(1, batch);
    let blocks = (0..batch).step_by(at_once).map(|first| (first, at_once.min(batch - first)));
    let share = |first: usize, count: usize, student: Tensor<2>| {
        let angles = |features: Tensor<2>| {
            let units = normalise_rows(steps_from(features.clone().narrow(0, first, count), features));
            op::matmul(units.clone(), units.swap_dims(1, 2))
        };
        let rows = huber(angles(student) - angles(teacher.clone())).sum_dim(2).sum_dim(1);
        rows.sum().div_scalar((batch * batch * batch) as f64)
    };
    if !student.device().is_autodiff() {
        return sum(blocks.map(|(first, count)| share(first, count, student.clone())));
    }
    // Each block is differentiated on its own, so that what it keeps is let go of before the next one.
    let mut total = None;
    let mut gradient = None;
    for (first, count) in blocks {
        let leaf = Tensor::<2>::from_inner(student.clone().inner()).require_grad();
        let loss = share(first, count, leaf.clone());
        add(&mut total, loss.clone().inner());
        let gradients = loss.backward();
        if let Some(own) = leaf.grad(&gradients) {
            add(&mut gradient, own);
        }
    }
    let (Some(total), Some(gradient)) = (total, gradient) else { return Tensor::zeros([1], &student.device()) };
    // The value is the total, the gradient the one that was found.
    let slope = (student.clone() * Tensor::from_inner(gradient)).sum();
    slope.clone() - slope.detach() + Tensor::from_inner(total)
}

fn add<const D: usize>(sum: &mut Option<Tensor<D>>, more: Tensor<D>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + more,
        None => more,
    });
}

/// The difference vectors from each row of `[A, D]` to each row of `[B, D]`: `[A, B, D]`.
fn steps_from(from: Tensor<2>, to: Tensor<2>) -> Tensor<3> {
    to.unsqueeze_dim::<3>(0) - from.unsqueeze_dim::<3>(1)
}

fn huber<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let size = x.abs();
    let near = size.clone().clamp_max(1.0);
    near.clone() * near.clone() * 0.5 + (size - near)
}

impl Section for Rkd {
    const NAME: &'static str = "RKD";

    fn term(&self, _: f64) -> Term {
        self.clone().into()
    }
}
