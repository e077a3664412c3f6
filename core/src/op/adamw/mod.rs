//! One AdamW update of flat vectors (Loshchilov and Hutter, 2019).
//!
//! Why: an update is a dozen element-wise operations on every parameter of the network. A lazy stream merges them. On the CPU
//! each is a pass over memory, and together they cost as much as the products of a small batch. In WGSL they are one dispatch,
//! with one more before it if the gradient's norm is bounded. The norm is never read back.
//!
//! ```text
//! g ← g min(1, limit / (‖g‖ + 1e-6)) + λ p
//! m ← β₁ m + (1 - β₁) g      v ← β₂ v + (1 - β₂) g²      p ← p - a m / (√(v / c) + ε) - d p
//! ```
//!
//! `limit` is the largest norm, λ (`pull`) the decay of Adam, `a` the step size (the learning rate divided by the correction of
//! m), `c` the correction of v, and `d` the decay of each number.

pub(super) mod cases;
mod cpu;
mod portable;
pub(super) mod wgsl;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
pub use portable::AdamWNumbers;

/// Parameters and both moments after one update with `gradient`. All are vectors of the same length.
///
/// `decayed` is 1 where a parameter decays and 0 elsewhere. No gradients flow through an update.
pub fn adamw(
    [parameters, first, second]: [Tensor<1>; 3],
    gradient: Tensor<1>,
    decayed: Tensor<1>,
    numbers: AdamWNumbers,
) -> [Tensor<1>; 3] {
    let (parameters, first, second) = Dispatch::adamw(
        parameters.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        gradient.into_dispatch(),
        decayed.into_dispatch(),
        numbers,
    );
    [parameters, first, second].map(Tensor::from_dispatch)
}

/// No gradients flow through it.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait AdamW: Backend {
    /// Parameters and moments after one step.
    #[fusion(meta = |parameters, _, _, _, _, _| (parameters.clone(), parameters.clone(), parameters.clone()))]
    fn adamw(
        parameters: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        decayed: FloatTensor<Self>,
        numbers: AdamWNumbers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        portable::update::<Self>(parameters, first, second, gradient, decayed, numbers)
    }
}
