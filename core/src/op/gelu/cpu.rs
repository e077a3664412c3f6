//! The CPU's loops, with one vectorised exponential for each number.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};

use super::portable::{self, DENSITY};
use super::{Gelu, GeluGradient};
use crate::op::cpu::{self, Level, PARALLEL_ELEMENTS, Task, exp, fma};

/// The constant c of `t`.
const SLOPE: f32 = 0.32;

/// `P`, lowest power first.
const TAIL: [f32; 10] = [
    0.127_661_53,
    0.127_660_95,
    0.114_622_36,
    0.087_829_1,
    0.058_653_96,
    -0.009_377_556,
    0.065_328_01,
    -0.146_707_45,
    0.095_407_26,
    -0.021_078_17,
];

/// `Φ(x)` and `exp(-x² / 2)`.
#[inline(always)]
fn normal<L: Level>(x: f32) -> (f32, f32) {
    let size = x.abs();
    let e = exp::<L>(-0.5 * size * size);
    let t = 1.0 / fma::<L>(SLOPE, size, 1.0);
    let mut p = TAIL[TAIL.len() - 1];
    for c in TAIL.iter().rev().skip(1) {
        p = fma::<L>(p, t, *c);
    }
    let tail = e * t * p;
    (if x < 0.0 { tail } else { 1.0 - tail }, e)
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y = x * normal::<L>(*x).0;
        }
    }
}

/// Overwrites the gradient of the output with that of the input.
struct Backwards<'a> {
    x: &'a [f32],
    dy: &'a mut [f32],
}

impl Task for Backwards<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        for (dy, x) in self.dy.iter_mut().zip(self.x) {
            let (cdf, e) = normal::<L>(*x);
            *dy *= fma::<L>(x * DENSITY, e, cdf);
        }
    }
}

/// Numbers in one task.
const CHUNK: usize = 8 * 1024;

impl Gelu for Flex {
    fn gelu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = cpu::contiguous(x);
        let Some(numbers) = cpu::numbers(&x) else {
            return portable::forward::<Flex>(x);
        };
        let mut y = vec![0.0; numbers.len()];
        let parts = numbers.chunks(CHUNK).zip(y.chunks_mut(CHUNK));
        cpu::for_each(parts, numbers.len() >= PARALLEL_ELEMENTS, |(x, y)| cpu::run(Forward { x, y }));
        cpu::tensor(y, x.shape())
    }
}

impl GeluGradient for Flex {
    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, mut dy) = (cpu::contiguous(x), cpu::contiguous(dy));
        let Some(numbers) = cpu::numbers(&x) else {
            return portable::backward::<Flex>(x, dy);
        };
        let work = |dx: &mut [f32]| {
            let parts = numbers.chunks(CHUNK).zip(dx.chunks_mut(CHUNK));
            cpu::for_each(parts, numbers.len() >= PARALLEL_ELEMENTS, |(x, dy)| cpu::run(Backwards { x, dy }));
        };
        if let Some(gradient) = cpu::exclusive(&mut dy) {
            work(gradient);
            return dy;
        }
        let Some(gradient) = cpu::numbers(&dy) else {
            return portable::backward::<Flex>(x, dy);
        };
        let mut dx = gradient.to_vec();
        work(&mut dx);
        cpu::tensor(dx, x.shape())
    }
}
