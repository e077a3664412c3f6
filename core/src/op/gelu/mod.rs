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

pub(super) mod cases;
mod cpu;
mod portable;
pub(super) mod wgsl;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::gradient::track;

/// `x Φ(x)` of each number, exact and not the approximation by `tanh`.
///
/// NaN at NaN and at minus infinity, where it is 0 times infinity.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::gelu_forward(x.into_dispatch()))
}

/// Element-wise, so a lazy stream merges the portable definition with its neighbours; the shader is for builds without one.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait Gelu: Backend {
    /// `x Φ(x)`.
    #[fusion(default)]
    fn gelu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::forward::<Self>(x)
    }
}

/// The backward pass, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait GeluGradient: Backend {
    /// The gradient of `x`, from that of the output. (Burn's `gelu_backward` is that of an approximation.)
    #[fusion(default)]
    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::backward::<Self>(x, dy)
    }
}

impl<B: Gelu + GeluGradient, C: CheckpointStrategy> Gelu for Autodiff<B, C> {
    fn gelu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        track::<B, C, ()>(x, |x| (B::gelu_forward(x), ()), |x, (), dy| B::exact_gelu_backward(x, dy)).0
    }
}
