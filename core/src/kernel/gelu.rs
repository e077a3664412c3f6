//! The exact GELU (Hendrycks and Gimpel, 2016), `y = x Φ(x)`, with `Φ` the normal distribution function.
//!
//! Why: its two directions are a sixth of a small model's step on the CPU when each number is a call of `erf` and another
//! of `exp`. Here one vectorised exponential serves `Φ` and its density `φ` alike:
//!
//! ```text
//! e = exp(-x² / 2)      t = 1 / (1 + c |x|)      Φ(-|x|) = e t P(t)      φ(x) = e / √(2π)
//! dx = dy (Φ(x) + x φ(x))
//! ```
//!
//! with `P` of degree 9 (the form of Abramowitz and Stegun 7.1.26, fitted to a relative error of 3e-8).
//!
//! Invariants: the backward pass keeps `x` alone, and is the gradient of the forward pass on every backend.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, DType, Dispatch, Flex, TensorMetadata};
use burn::tensor::{FloatDType, Tensor};

use super::backend::KernelBackend;
use super::cpu::{self, Level, PARALLEL_ELEMENTS, Task, exp, fma};
use super::launch::{Scalar, Shader, contiguous, launch, output, runs_wgsl, wgsl};

/// `x Φ(x)` of each number, exact and not the approximation by `tanh`.
///
/// NaN at NaN and at minus infinity, where it is 0 times infinity.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::exact_gelu(x.into_dispatch()))
}

/// `φ(0) = 1 / √(2π)`.
const DENSITY: f32 = 0.398_942_3;

// ---- Portable definition

pub(super) fn portable_forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    // The sums of its series need more than the ten bits of `f16`.
    match x.dtype() {
        DType::F16 => B::float_cast(B::gelu(B::float_cast(x, FloatDType::F32)), FloatDType::F16),
        _ => B::gelu(x),
    }
}

/// Burn's own gradient is that of the approximation by `tanh`, up to 1e-3 from this and NaN at large numbers.
pub(super) fn portable_backward<B: Backend>(x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    let times = |tensor: FloatTensor<B>, factor: f32| B::float_mul_scalar(tensor, factor.into());
    let erf = B::float_erf(times(x.clone(), std::f32::consts::FRAC_1_SQRT_2));
    let cdf = times(B::float_add_scalar(erf, 1.0_f32.into()), 0.5);
    let e = B::float_exp(times(B::float_mul(x.clone(), x.clone()), -0.5));
    let slope = B::float_add(cdf, B::float_mul(times(x, DENSITY), e));
    B::float_mul(slope, dy)
}

// ---- CPU

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

/// Overwrites the gradient of the output by that of the input.
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

/// Numbers of one task.
const CHUNK: usize = 8 * 1024;

pub(super) fn flex_forward(x: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let x = cpu::contiguous(x);
    let Some(numbers) = cpu::numbers(&x) else {
        return portable_forward::<Flex>(x);
    };
    let mut y = vec![0.0; numbers.len()];
    let parts = numbers.chunks(CHUNK).zip(y.chunks_mut(CHUNK));
    cpu::for_each(parts, numbers.len() >= PARALLEL_ELEMENTS, |(x, y)| cpu::run(Forward { x, y }));
    cpu::tensor(y, x.shape())
}

pub(super) fn flex_backward(x: FloatTensor<Flex>, dy: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let (x, mut dy) = (cpu::contiguous(x), cpu::contiguous(dy));
    let Some(numbers) = cpu::numbers(&x) else {
        return portable_backward::<Flex>(x, dy);
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
        return portable_backward::<Flex>(x, dy);
    };
    let mut dx = gradient.to_vec();
    work(&mut dx);
    cpu::tensor(dx, x.shape())
}

// ---- WGSL

/// Invocations of a workgroup, and numbers of each.
const THREADS: usize = 256;
const EACH: usize = 4;

fn shader(backward: bool) -> Shader {
    let texts = &[wgsl!("gelu.wgsl")];
    Shader::new("gelu", texts, THREADS).value("each", EACH).flag("backward", backward)
}

/// Every instance.
pub(super) fn shaders() -> Vec<Shader> {
    vec![shader(false), shader(true)]
}

fn launch_over(shader: Shader, buffers: &[&FloatTensor<CubeBackend>]) {
    let elements = buffers[0].meta.num_elements();
    launch(shader, elements.div_ceil(THREADS * EACH), buffers, &[Scalar::Count(elements)]);
}

pub(super) fn wgsl_forward(x: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    if !runs_wgsl(true, &[&x]) {
        return portable_forward::<CubeBackend>(x);
    }
    let x = contiguous(x);
    let y = output(&x, x.meta.shape().clone());
    launch_over(shader(false), &[&x, &y]);
    y
}

pub(super) fn wgsl_backward(x: FloatTensor<CubeBackend>, dy: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    if !runs_wgsl(true, &[&x, &dy]) {
        return portable_backward::<CubeBackend>(x, dy);
    }
    let [x, dy] = [x, dy].map(contiguous);
    let dx = output(&x, x.meta.shape().clone());
    launch_over(shader(true), &[&x, &dy, &dx]);
    dx
}

// ---- Gradient

#[derive(Debug)]
struct GeluBackward;

impl<B: KernelBackend> Backward<B, 1> for GeluBackward {
    /// `x` by its node.
    type State = NodeId;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::exact_gelu_backward(x, dy));
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    match GeluBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let node = prep.checkpoint(&x);
            prep.finish(node, B::exact_gelu(x.into_primitive()))
        }
        OpsKind::UnTracked(prep) => prep.finish(B::exact_gelu(x.into_primitive())),
    }
}
