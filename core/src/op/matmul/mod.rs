//! Products of matrices, `C = A B`, over equal leading dimensions.
//!
//! Why: a native build uses Burn's products, which are tuned on the user's adapter. Without tuning, as in a browser, Burn uses
//! its simplest product. Also, Burn's products with their tuning and their quantised forms would be a sixth of what a browser has
//! to load. So in a browser the products are one shader of this crate, and nothing refers to Burn's. The backward pass:
//!
//! ```text
//! dA = dC Bᵀ      dB = Aᵀ dC
//! ```
//!
//! Invariants: a transposed operand is not copied. It is a view, which the shader reads through its strides.

pub(super) mod cases;
pub(super) mod wgsl;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, Shape, backend_extension};
use burn::tensor::Tensor;

/// `a b` of each pair of matrices: from `[.., R, K]` and `[.., K, C]` to `[.., R, C]`. The leading dimensions must be equal.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    check(&a, &b);
    Tensor::from_dispatch(Dispatch::matmul(a.into_dispatch(), b.into_dispatch()))
}

/// The same with the shader wherever WGSL runs, also in builds that use Burn's products. It has no gradients.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_by_shader<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    check(&a, &b);
    Tensor::from_dispatch(Dispatch::matmul_by_shader(a.into_dispatch(), b.into_dispatch()))
}

fn check<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) {
    let (left, right) = (a.dims(), b.dims());
    assert!(
        D >= 2 && left[..D - 2] == right[..D - 2] && left[D - 1] == right[D - 2],
        "matmul: {left:?} and {right:?} are no pairs of matrices"
    );
}

/// The shape of the products: the shape of `a`, with the columns of `b`.
fn output_shape(a: &Shape, b: &Shape) -> Shape {
    let mut shape = a.clone();
    let last = shape.num_dims() - 1;
    shape[last] = b[b.num_dims() - 1];
    shape
}

/// The definition is each backend's own product.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait Matmul: Backend {
    /// `[.., R, K]` and `[.., K, C]` to `[.., R, C]`.
    #[fusion(default)]
    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }
}

/// The shader alone, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait MatmulByShader: Backend {
    /// The same, with the shader where WGSL runs.
    #[fusion(dtype = a, shape = output_shape(a, b))]
    fn matmul_by_shader(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }
}

impl Matmul for Flex {}
impl MatmulByShader for Flex {}

#[derive(Debug)]
struct MatmulBackward;

impl<B: Matmul> Backward<B, 2> for MatmulBackward {
    /// The nodes of the operands. Each is kept only if the other's gradient is needed.
    type State = (Option<NodeId>, Option<NodeId>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dc = grads.consume::<B>(&ops.node);
        let (a, b) = ops.state;
        let [node_a, node_b] = ops.parents;
        if let (Some(node), Some(b)) = (node_a, b) {
            let b = checkpointer.retrieve_node_output::<FloatTensor<B>>(b);
            grads.register::<B>(node.id, B::matmul(dc.clone(), B::float_transpose(b)));
        }
        if let (Some(node), Some(a)) = (node_b, a) {
            let a = checkpointer.retrieve_node_output::<FloatTensor<B>>(a);
            grads.register::<B>(node.id, B::matmul(B::float_transpose(a), dc));
        }
    }
}

impl<B: Matmul, C: CheckpointStrategy> Matmul for Autodiff<B, C> {
    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        match MatmulBackward.prepare::<C>([a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let kept_a = b.is_tracked().then(|| prep.checkpoint(&a));
                let kept_b = a.is_tracked().then(|| prep.checkpoint(&b));
                let c = B::matmul(a.into_primitive(), b.into_primitive());
                prep.finish((kept_a, kept_b), c)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::matmul(a.into_primitive(), b.into_primitive())),
        }
    }
}
