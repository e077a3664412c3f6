//! Products of matrices, `C = A B`, over equal leading dimensions.
//!
//! Why: a native build has Burn's products, which it tunes on the user's adapter. Without tuning, as in a browser, Burn
//! takes the simplest of them; and all of them, their tuning and their quantised forms, are a sixth of what a browser has to
//! load. So there the products are one shader of this crate, and nothing refers to Burn's. Backward:
//!
//! ```text
//! dA = dC Bᵀ      dB = Aᵀ dC
//! ```
//!
//! Invariants: a transposed operand is a view that the shader reads through its strides, and no copy.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Dispatch, Shape};
use burn::tensor::Tensor;

use super::backend::KernelBackend;
use super::launch::{Scalar, Shader, contiguous, launch, output, runs_wgsl, wgsl};
use super::linear::flat;

/// Whether a build's products on wgpu are the shader's.
pub(super) const BY_SHADER: bool = !cfg!(feature = "autotune");

/// `a b` of each pair of matrices: `[.., R, K]` and `[.., K, C]` to `[.., R, C]`, the leading dimensions being equal.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    check(&a, &b);
    Tensor::from_dispatch(Dispatch::matmul(a.into_dispatch(), b.into_dispatch()))
}

/// The same by the shader wherever WGSL runs, also in builds that take Burn's products. Without gradients.
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

/// Shape of the products: that of `a`, with the columns of `b`.
pub(super) fn output_shape(a: &Shape, b: &Shape) -> Shape {
    let mut shape = a.clone();
    let last = shape.num_dims() - 1;
    shape[last] = b[b.num_dims() - 1];
    shape
}

// ---- WGSL

/// Rows and columns of a workgroup's tile: small where the product is narrow, as that of a head of few classes is.
fn side(rows: usize, columns: usize) -> usize {
    if rows.min(columns) > 32 { 64 } else { 32 }
}

fn shader(side: usize, a_by_rows: bool, b_by_rows: bool, bias: bool) -> Shader {
    let texts = &[wgsl!("matmul.wgsl")];
    Shader::new("matmul", texts, (side / 4).pow(2))
        .value("side", side)
        .flag("a_by_rows", a_by_rows)
        .flag("b_by_rows", b_by_rows)
        .flag("bias", bias)
}

/// Every instance.
pub(super) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for side in [32, 64] {
        for a_by_rows in [false, true] {
            for b_by_rows in [false, true] {
                for bias in [false, true] {
                    shaders.push(shader(side, a_by_rows, b_by_rows, bias));
                }
            }
        }
    }
    shaders
}

/// An operand, and how far it is from a matrix, a row and a column to the next.
struct Operand {
    tensor: CubeTensor,
    steps: [usize; 3],
}

impl Operand {
    /// Copies only what no three steps describe.
    fn new(tensor: CubeTensor) -> Self {
        let matrices = |tensor: &CubeTensor| {
            let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
            let leading = shape.num_dims() - 2;
            // The leading dimensions of one element have no say.
            let mut used = (0..leading).rev().filter(|&index| shape[index] > 1);
            let Some(innermost) = used.next() else { return Some(0) };
            let mut expected = strides[innermost] * shape[innermost];
            for index in used {
                if strides[index] != expected {
                    return None;
                }
                expected *= shape[index];
            }
            Some(strides[innermost])
        };
        let (tensor, step) = match matrices(&tensor) {
            Some(step) => (tensor, step),
            None => {
                let tensor = contiguous(tensor);
                let shape = tensor.meta.shape();
                let step = shape[shape.num_dims() - 2] * shape[shape.num_dims() - 1];
                (tensor, step)
            }
        };
        let strides = tensor.meta.strides();
        let steps = [step, strides[strides.len() - 2], strides[strides.len() - 1]];
        Self { tensor, steps }
    }

    fn by_rows(&self) -> bool {
        self.steps[2] <= self.steps[1]
    }
}

/// `a b`, with `bias` added to each row where there is one.
///
/// # Panics
/// If an element is no `f32` or an index no `u32`: then a build whose products are the shader's has none.
pub(super) fn wgsl(
    a: FloatTensor<CubeBackend>,
    b: FloatTensor<CubeBackend>,
    bias: Option<FloatTensor<CubeBackend>>,
) -> FloatTensor<CubeBackend> {
    assert!(runs_wgsl(true, &[&a, &b]), "a product of {:?} and {:?} on this device", a.dtype, b.dtype);
    let shape = output_shape(a.meta.shape(), b.meta.shape());
    let rank = shape.num_dims();
    let [rows, columns] = [shape[rank - 2], shape[rank - 1]];
    let terms = a.meta.shape()[rank - 1];
    let matrices: usize = shape[..rank - 2].iter().product();
    let (a, b) = (Operand::new(a), Operand::new(b));
    let c = output(&a.tensor, shape);
    let side = side(rows, columns);
    let counts = [&[matrices, rows, terms, columns][..], &a.steps, &b.steps].concat();
    let scalars: Vec<Scalar> = counts.into_iter().map(Scalar::Count).collect();
    let bias = bias.map(contiguous);
    let shader = shader(side, a.by_rows(), b.by_rows(), bias.is_some());
    let mut buffers = vec![&a.tensor, &b.tensor];
    buffers.extend(&bias);
    buffers.push(&c);
    launch(shader, matrices * rows.div_ceil(side) * columns.div_ceil(side), &buffers, &scalars);
    c
}

/// Each row of `x` times one matrix.
fn by_rows(x: CubeTensor, weight: CubeTensor, bias: Option<CubeTensor>) -> CubeTensor {
    let shape = output_shape(x.meta.shape(), weight.meta.shape());
    CubeBackend::float_reshape(wgsl(flat::<CubeBackend>(x).0, weight, bias), shape)
}

/// [`super::linear()`] by this shader.
pub(super) fn affine(x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
    by_rows(x, weight, Some(bias))
}

/// The gradient of its input.
pub(super) fn affine_backward_x(weight: CubeTensor, dy: CubeTensor) -> CubeTensor {
    by_rows(dy, CubeBackend::float_transpose(weight), None)
}

/// The gradients of its weight and bias.
pub(super) fn affine_backward_parameters(x: CubeTensor, dy: CubeTensor) -> (CubeTensor, CubeTensor) {
    let ((x, _), (dy, [_, columns])) = (flat::<CubeBackend>(x), flat::<CubeBackend>(dy));
    let d_bias = CubeBackend::float_reshape(CubeBackend::float_sum_dim(dy.clone(), 0), Shape::new([columns]));
    (wgsl(CubeBackend::float_transpose(x), dy, None), d_bias)
}

// ---- Gradient

#[derive(Debug)]
struct MatmulBackward;

impl<B: KernelBackend> Backward<B, 2> for MatmulBackward {
    /// Each operand by its node, if the other's gradient is wanted.
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

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    a: FloatTensor<Autodiff<B, C>>,
    b: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
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
