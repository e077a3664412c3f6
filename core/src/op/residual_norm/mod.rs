//! The end of a residual branch: its last linear layer, the sum with the stream, and the normalisation of the sum.
//!
//! Why: as separate operations, the sum `[.., C]` is written, and then read again for the normalisation. In the backward pass the
//! sum has two gradients, from the normalisation and from the next sum. One pass adds them, and another adds the rows for the
//! bias. Here, in WGSL, the passes of the normalisation do all of this. Only the matrix products remain separate:
//!
//! ```text
//! s = x + h W + b      y = LayerNorm(s)
//! ds = d_s + LayerNorm'(dy)      dx = ds      dh = ds Wᵀ      dW = hᵀ ds      db = Σ_rows ds
//! ```
//!
//! `d_s` is the gradient of `s` from its other readers. `layer_norm` has the equations of `LayerNorm'`.
//!
//! Invariants: the portable definition is the composition of the parts, each as the backend implements it. A node of Burn's graph
//! of gradients has one output, but the operation has two. So one node stands for the operation. Each output is a further node
//! behind it, which stores its gradient in [`Gathered`]. Burn runs the node of the operation after the nodes behind it.

#[cfg(feature = "native")]
pub(super) mod cases;
mod portable;
mod wgsl;

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use super::layer_norm::{LayerNorm, LayerNormGradient};
use super::linear::{Linear, LinearGradient};
use portable::Two;

/// The sum `x + h W + b`, and this sum normalised like [`layer_norm`](fn@super::layer_norm).
///
/// `x` is `[.., C]`, `h` `[.., K]`, `weight` `[K, C]`, and `bias`, `gamma` and `beta` are `[C]`. Both results have the shape of
/// `x`.
///
/// # Panics
/// If the shapes do not fit.
pub fn residual_norm<const D: usize>(
    x: Tensor<D>,
    h: Tensor<D>,
    weight: Tensor<2>,
    [bias, gamma, beta]: [Tensor<1>; 3],
    eps: f32,
) -> [Tensor<D>; 2] {
    let [inputs, columns] = weight.dims();
    let (mut expected, rows) = (x.dims(), [&bias, &gamma, &beta]);
    let fits = D >= 2 && expected[D - 1] == columns && rows.into_iter().all(|row| row.dims() == [columns]);
    expected[D - 1] = inputs;
    assert!(
        fits && h.dims() == expected,
        "residual_norm: x is {:?}, h {:?}, weight [{inputs}, {columns}], bias, gamma and beta {:?}",
        x.dims(),
        h.dims(),
        rows.map(|row| row.dims())
    );
    let (x, h, weight) = (x.into_dispatch(), h.into_dispatch(), weight.into_dispatch());
    let [bias, gamma, beta] = [bias, gamma, beta].map(Tensor::into_dispatch);
    let (sum, y) = Dispatch::residual_norm_forward(x, h, weight, bias, gamma, beta, eps);
    [sum, y].map(Tensor::from_dispatch)
}

/// The shapes of the six gradients, for the lazy stream.
#[cfg(feature = "fusion")]
fn backward_specs(
    h: &TensorSpec,
    weight: &TensorSpec,
    sum: &TensorSpec,
    gamma: &TensorSpec,
    _d_sum: &TensorSpec,
    _dy: &TensorSpec,
    _eps: &f32,
) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    (sum.clone(), h.clone(), weight.clone(), gamma.clone(), gamma.clone(), gamma.clone())
}

/// Layer, sum and normalisation.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait ResidualNorm: Linear + LayerNorm {
    /// The sum and the normalised sum, each `[.., C]`.
    #[fusion(meta = |x, _, _, _, _, _, _| (x.clone(), x.clone()))]
    fn residual_norm_forward(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::forward::<Self>(x, h, weight, bias, gamma, beta, eps)
    }
}

/// The backward pass, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait ResidualNormGradient: LinearGradient + LayerNormGradient {
    /// The gradients of `x`, `h`, `weight`, `bias`, `gamma` and `beta`.
    #[fusion(meta = backward_specs)]
    #[allow(clippy::type_complexity)]
    fn residual_norm_backward(
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        sum: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        d_sum: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        portable::backward::<Self>(h, weight, sum, gamma, d_sum, dy, eps)
    }
}

impl ResidualNorm for Flex {}
impl ResidualNormGradient for Flex {}

/// The gradients of the sum and of the normalised sum. An output that nothing reads has none.
type Gathered<B> = Arc<Mutex<[Option<FloatTensor<B>>; 2]>>;

/// The index of one of the two outputs.
#[derive(Debug)]
struct OutputBackward(usize);

impl<B: Backend> Backward<B, 1> for OutputBackward {
    type State = Gathered<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        ops.state.lock().unwrap_or_else(PoisonError::into_inner)[self.0] = Some(gradient);
    }
}

/// The operation as a whole.
#[derive(Debug)]
struct ResidualNormBackward;

impl<B: ResidualNormGradient> Backward<B, 6> for ResidualNormBackward {
    /// The nodes of `h`, `weight` and `gamma`, the sum, epsilon, and the place for the gradients.
    type State = ([NodeId; 3], FloatTensor<B>, f32, Gathered<B>);

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (nodes, sum, eps, gathered) = ops.state;
        let [h, weight, gamma] = nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let gathered = std::mem::take(&mut *gathered.lock().unwrap_or_else(PoisonError::into_inner));
        let zeros = || B::float_zeros(sum.shape(), &sum.device(), sum.dtype().into());
        let [d_sum, dy] = gathered.map(|gradient| gradient.unwrap_or_else(zeros));
        let (dx, dh, d_weight, d_bias, d_gamma, d_beta) =
            B::residual_norm_backward(h, weight, sum, gamma, d_sum, dy, eps);
        for (node, gradient) in ops.parents.into_iter().zip([dx, dh, d_weight, d_bias, d_gamma, d_beta]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: ResidualNorm + ResidualNormGradient, C: CheckpointStrategy> ResidualNorm for Autodiff<B, C> {
    fn residual_norm_forward(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> Two<Self> {
        let gathered = Gathered::<B>::default();
        let nodes = [x.node(), h.node(), weight.node(), bias.node(), gamma.node(), beta.node()];
        let prep = ResidualNormBackward.prepare::<C>(nodes).compute_bound().stateful();
        let kept = [&h, &weight, &gamma];
        let (whole, sum, y) = match prep {
            OpsKind::Tracked(mut prep) => {
                let kept = kept.map(|tensor| prep.checkpoint(tensor));
                let [x, h, weight, bias, gamma, beta] = [x, h, weight, bias, gamma, beta].map(|t| t.into_primitive());
                let (sum, y) = B::residual_norm_forward(x, h, weight, bias, gamma, beta, eps);
                (prep.finish((kept, sum.clone(), eps, gathered.clone()), sum.clone()), sum, y)
            }
            OpsKind::UnTracked(prep) => {
                let [x, h, weight, bias, gamma, beta] = [x, h, weight, bias, gamma, beta].map(|t| t.into_primitive());
                let (sum, y) = B::residual_norm_forward(x, h, weight, bias, gamma, beta, eps);
                (prep.finish(sum.clone()), sum, y)
            }
        };
        let part = |place, output| match OutputBackward(place).prepare::<C>([whole.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gathered.clone(), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        (part(0, sum), part(1, y))
    }
}
