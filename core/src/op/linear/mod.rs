//! A linear layer with a bias, `y = x W + b`, over the last dimension.
//!
//! Why: as separate operations, the bias and its gradient are passes over broadcast views. And on the CPU, the matrix library
//! runs a small product on one thread. The backward pass, over all rows:
//!
//! ```text
//! dx = dy Wᵀ      dW = xᵀ dy      db = Σ_rows dy
//! ```
//!
//! Invariants: transposed operands are views and never copies. Only the shape of a product decides how it is divided, and partial
//! sums are added in one order. Burn's own operations are the portable definition.

pub(super) mod cases;
mod cpu;
pub(super) mod portable;
mod wgsl;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// `x W + b` of each row.
///
/// `x` is `[.., K]`, `weight` `[K, M]`, `bias` `[M]` and the result `[.., M]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
    let [inputs, outputs] = weight.dims();
    assert!(
        D >= 2 && x.dims().last() == Some(&inputs) && bias.dims() == [outputs],
        "linear: x is {:?}, weight [{inputs}, {outputs}] and bias {:?}",
        x.dims(),
        bias.dims()
    );
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::linear_forward(x, weight, bias))
}

/// The layer.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait Linear: Backend {
    /// `[.., K]`, `[K, M]` and `[M]` to `[.., M]`.
    #[fusion(default)]
    fn linear_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::forward::<Self>(x, weight, bias)
    }
}

/// The backward pass, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait LinearGradient: Backend {
    /// The gradient of `x`.
    #[fusion(default)]
    fn linear_backward_x(weight: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::backward_x::<Self>(weight, dy)
    }

    /// The gradients of `weight` and `bias`.
    #[fusion(default)]
    fn linear_backward_parameters(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::backward_parameters::<Self>(x, dy)
    }
}

#[derive(Debug)]
struct LinearBackward;

impl<B: LinearGradient> Backward<B, 3> for LinearBackward {
    /// The nodes of `x` and `weight`. Each is kept only if the other's gradient is needed.
    type State = (Option<NodeId>, Option<NodeId>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        let x = x.map(|x| checkpointer.retrieve_node_output::<FloatTensor<B>>(x));
        let weight = weight.map(|weight| checkpointer.retrieve_node_output::<FloatTensor<B>>(weight));
        let [node_x, node_weight, node_bias] = ops.parents;
        if let (Some(node), Some(weight)) = (node_x, weight) {
            grads.register::<B>(node.id, B::linear_backward_x(weight, dy.clone()));
        }
        if let Some(x) = x {
            let (d_weight, d_bias) = B::linear_backward_parameters(x, dy);
            for (node, gradient) in [node_weight, node_bias].into_iter().zip([d_weight, d_bias]) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
    }
}

impl<B: Linear + LinearGradient, C: CheckpointStrategy> Linear for Autodiff<B, C> {
    fn linear_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let parameters = weight.is_tracked() || bias.is_tracked();
        let nodes = [x.node(), weight.node(), bias.node()];
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let kept_weight = x.is_tracked().then(|| prep.checkpoint(&weight));
                let kept_x = parameters.then(|| prep.checkpoint(&x));
                let y = B::linear_forward(x.into_primitive(), weight.into_primitive(), bias.into_primitive());
                prep.finish((kept_x, kept_weight), y)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::linear_forward(x.into_primitive(), weight.into_primitive(), bias.into_primitive()))
            }
        }
    }
}
