//! The exact GELU (Hendrycks and Gimpel, 2016), `y = x Φ(x)`, with `Φ` the normal distribution function.
//!
//! Why: if every number takes a call of `erf` and a call of `exp`, the two directions take a sixth of a small model's step on the
//! CPU. Here one vectorised exponential gives both `Φ` and its density `φ`:
//!
//! ```text
//! e = exp(-x² / 2)      t = 1 / (1 + c |x|)      Φ(-|x|) = e t P(t)      φ(x) = e / √(2π)
//! dx = dy (Φ(x) + x φ(x))
//! ```
//!
//! `P` has degree 9 (the form of Abramowitz and Stegun 7.1.26, fitted to a relative error of 3e-8).
//!
//! Invariants: only `x` is kept for the backward pass. On every backend, the backward pass is the gradient of the forward pass.

pub(super) mod cases;
mod cpu;
mod portable;
pub(super) mod wgsl;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::gradient::track;

/// `x Φ(x)` of each number. This is the exact function, not the approximation with `tanh`.
///
/// The result is NaN for NaN, and for minus infinity, which gives infinity times 0.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::gelu_forward(x.into_dispatch()))
}

/// An element-wise operation: a lazy stream merges the portable definition with the operations beside it. The shader is for
/// builds without a lazy stream.
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
    /// The gradient of `x`, from the gradient of the output. (Burn's `gelu_backward` is the gradient of an approximation.)
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
