//! Layer normalisation over the last dimension (Ba et al., 2016).
//!
//! Why: with tensor operations, its gradient takes about twenty passes over the activations. Here each direction reads a row into
//! the cache once and writes it once. For each row of C numbers:
//!
//! ```text
//! m = Σ x / C      r = (Σ (x - m)² / C + ε)^-½      n = (x - m) r      y = γ n + β
//! ```
//!
//! The backward pass, with `g = γ dy`:
//!
//! ```text
//! dx = r (g - Σ g / C - n Σ g n / C)      dγ = Σ_rows dy n      dβ = Σ_rows dy
//! ```
//!
//! Invariants: `x` and `γ` are kept for the backward pass. It computes `m` and `r` again, which costs less than to read them from
//! memory. `dγ` and `dβ` are first summed over a few rows at a time, and then over these sums, in one order.

pub(super) mod cases;
mod cpu;
pub(super) mod portable;
pub(super) mod wgsl;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// Normalises each row of the last dimension, multiplies it by `gamma` and adds `beta`.
///
/// `x` is `[.., C]`, `gamma` and `beta` are `[C]`, and the result has the shape of `x`. `eps` is added to the variance.
///
/// # Panics
/// If the length of `gamma` or `beta` differs from that of the rows of `x`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<D> {
    let [columns] = gamma.dims();
    assert!(
        x.dims().last() == Some(&columns) && beta.dims() == [columns],
        "layer_norm: x is {:?}, gamma [{columns}] and beta {:?}; all must end in the same size",
        x.dims(),
        beta.dims()
    );
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(Dispatch::layer_norm_forward(x, gamma, beta, eps))
}

/// The normalisation.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait LayerNorm: Backend {
    /// `[.., C]`, `[C]` and `[C]` to `[.., C]`.
    #[fusion(dtype = x, shape = x)]
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        portable::forward::<Self>(x, gamma, beta, eps)
    }
}

/// The backward pass, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait LayerNormGradient: Backend {
    /// The gradients of `x`, `gamma` and `beta`.
    #[fusion(meta = |x, gamma, _, _| (x.clone(), gamma.clone(), gamma.clone()))]
    fn layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        portable::backward::<Self>(x, gamma, dy, eps)
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: LayerNormGradient> Backward<B, 3> for LayerNormBackward {
    /// The nodes of `x` and `gamma`, and epsilon.
    type State = (NodeId, NodeId, f32);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, gamma, eps) = ops.state;
        let dy = grads.consume::<B>(&ops.node);
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let gamma = checkpointer.retrieve_node_output::<FloatTensor<B>>(gamma);
        let (dx, d_gamma, d_beta) = B::layer_norm_backward(x, gamma, dy, eps);
        for (node, gradient) in ops.parents.into_iter().zip([dx, d_gamma, d_beta]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: LayerNorm + LayerNormGradient, C: CheckpointStrategy> LayerNorm for Autodiff<B, C> {
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        match LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&gamma), eps);
                let y = B::layer_norm_forward(x.into_primitive(), gamma.into_primitive(), beta.into_primitive(), eps);
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => {
                let y = B::layer_norm_forward(x.into_primitive(), gamma.into_primitive(), beta.into_primitive(), eps);
                prep.finish(y)
            }
        }
    }
}
