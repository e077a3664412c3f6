//! The CPU's loops, over a few rows at a time.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, Shape, TensorMetadata};

use super::portable::{self, Three};
use super::{LayerNorm, LayerNormGradient};
use crate::op::cpu::{self, Level, PARALLEL_ELEMENTS, Task, fma, fold2};

/// Rows in one task.
const ROWS: usize = 64;

/// The mean and the reciprocal standard deviation of a row.
#[inline(always)]
fn statistics<L: Level>(x: &[f32], eps: f32) -> (f32, f32) {
    let inverse = 1.0 / x.len() as f32;
    let mean = fold2(x, x, |x, _, sum| sum + x) * inverse;
    let squares = fold2(x, x, |x, _, sum| fma::<L>(x - mean, x - mean, sum));
    (mean, 1.0 / (squares * inverse + eps).sqrt())
}

struct Forward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { x, gamma, beta, eps, y } = self;
        let columns = gamma.len();
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            let (mean, inverse) = statistics::<L>(x, eps);
            for ((y, x), (gamma, beta)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
                *y = fma::<L>((x - mean) * inverse, *gamma, *beta);
            }
        }
    }
}

/// Overwrites the gradient of the output with that of the input, and writes the sums over its rows.
struct Backwards<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    eps: f32,
    dy: &'a mut [f32],
    /// `dγ`, then `dβ`.
    sums: &'a mut [f32],
}

impl Task for Backwards<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { x, gamma, eps, dy, sums } = self;
        let columns = gamma.len();
        let (d_gamma, d_beta) = sums.split_at_mut(columns);
        let mut normal = vec![0.0; columns];
        let share = 1.0 / columns as f32;
        for (x, dy) in x.chunks_exact(columns).zip(dy.chunks_exact_mut(columns)) {
            let (mean, inverse) = statistics::<L>(x, eps);
            let parameters = d_gamma.iter_mut().zip(d_beta.iter_mut()).zip(gamma);
            for (((normal, x), dy), ((d_gamma, d_beta), gamma)) in
                normal.iter_mut().zip(x).zip(dy.iter_mut()).zip(parameters)
            {
                *normal = (x - mean) * inverse;
                *d_gamma = fma::<L>(*dy, *normal, *d_gamma);
                *d_beta += *dy;
                *dy *= gamma;
            }
            let across = share * fold2(dy, dy, |g, _, sum| sum + g);
            let along = share * fold2(dy, &normal, |g, n, sum| fma::<L>(g, n, sum));
            for (dy, normal) in dy.iter_mut().zip(&normal) {
                *dy = inverse * (fma::<L>(-along, *normal, *dy) - across);
            }
        }
    }
}

impl LayerNorm for Flex {
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        let [x, gamma, beta] = [x, gamma, beta].map(cpu::contiguous);
        let [Some(numbers), Some(scales), Some(shifts)] = [&x, &gamma, &beta].map(cpu::numbers) else {
            return portable::forward::<Flex>(x, gamma, beta, eps);
        };
        let chunk = ROWS * scales.len().max(1);
        let mut y = vec![0.0; numbers.len()];
        let parts = numbers.chunks(chunk).zip(y.chunks_mut(chunk));
        cpu::for_each(parts, numbers.len() >= PARALLEL_ELEMENTS, |(x, y)| {
            cpu::run(Forward { x, gamma: scales, beta: shifts, eps, y });
        });
        cpu::tensor(y, x.shape())
    }
}

impl LayerNormGradient for Flex {
    fn layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> Three<Self> {
        let [x, gamma, mut dy] = [x, gamma, dy].map(cpu::contiguous);
        let [Some(numbers), Some(scales)] = [&x, &gamma].map(cpu::numbers) else {
            return portable::backward::<Flex>(x, gamma, dy, eps);
        };
        let columns = scales.len();
        let chunk = ROWS * columns.max(1);
        let mut sums = vec![0.0; numbers.len().div_ceil(chunk).max(1) * 2 * columns];
        let mut work = |dx: &mut [f32]| {
            let parts =
                numbers.chunks(chunk).zip(dx.chunks_mut(chunk)).zip(sums.chunks_exact_mut((2 * columns).max(1)));
            cpu::for_each(parts, numbers.len() >= PARALLEL_ELEMENTS, |((x, dy), sums)| {
                cpu::run(Backwards { x, gamma: scales, eps, dy, sums });
            });
        };
        let dx = if let Some(gradient) = cpu::exclusive(&mut dy) {
            work(gradient);
            dy
        } else if let Some(gradient) = cpu::numbers(&dy) {
            let mut dx = gradient.to_vec();
            work(&mut dx);
            cpu::tensor(dx, x.shape())
        } else {
            return portable::backward::<Flex>(x, gamma, dy, eps);
        };
        let mut d_gamma = vec![0.0; columns];
        let mut d_beta = vec![0.0; columns];
        for sums in sums.chunks_exact((2 * columns).max(1)) {
            let (gamma, beta) = sums.split_at(columns);
            for ((d_gamma, gamma), (d_beta, beta)) in d_gamma.iter_mut().zip(gamma).zip(d_beta.iter_mut().zip(beta)) {
                *d_gamma += gamma;
                *d_beta += beta;
            }
        }
        let row = |values| cpu::tensor(values, Shape::new([columns]));
        (dx, row(d_gamma), row(d_beta))
    }
}
