//! A linear layer with a bias, `y = x W + b`, over the last dimension.
//!
//! Why: taken apart, the bias and its gradient are passes of their own over broadcast views, and on the CPU a product too
//! small for the matrix library to share out runs on one thread. Backward, over all rows:
//!
//! ```text
//! dx = dy Wᵀ      dW = xᵀ dy      db = Σ_rows dy
//! ```
//!
//! Invariants: transposed operands are views and never copies; a product is shared out by its shape alone, and partial
//! sums are added in one order. Other backends take Burn's own operations, which are the portable definition.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, Shape, TensorMetadata};
use burn::tensor::Tensor;

use super::backend::KernelBackend;
use super::cpu::{self, Level, PARALLEL_ELEMENTS, Task};

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
    Tensor::from_dispatch(Dispatch::affine(x, weight, bias))
}

// ---- Portable definition

pub(super) fn portable_forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    B::linear(x, weight, Some(bias))
}

/// The gradient of `x`.
pub(super) fn portable_backward_x<B: Backend>(weight: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    B::linear_x_backward(weight, dy)
}

/// The gradients of `weight` and `bias`.
pub(super) fn portable_backward_parameters<B: Backend>(
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    (B::linear_weight_backward(x, dy.clone()), B::linear_bias_backward(dy))
}

// ---- CPU

/// Multiply-adds from which the matrix library shares out one product, and from which it shares out a batch of them.
const LIBRARY_SHARES: usize = 192 * 192 * 192;
const LIBRARY_SHARES_BATCH: usize = 128 * 128 * 128;

/// Pieces into which a product between the two is cut.
const PIECES: usize = 4;

/// Rows of one task.
const ROWS: usize = 64;

/// Whether a product of this many multiply-adds is cut along its `rows`.
fn in_pieces(work: usize, rows: usize) -> bool {
    cfg!(feature = "native") && (LIBRARY_SHARES_BATCH..LIBRARY_SHARES).contains(&work) && rows.is_multiple_of(PIECES)
}

/// `[rows, K]` of a tensor of `[.., K]`.
pub(super) fn flat<B: Backend>(tensor: FloatTensor<B>) -> (FloatTensor<B>, [usize; 2]) {
    let shape = tensor.shape();
    let columns = shape[shape.num_dims() - 1];
    let rows = shape.num_elements() / columns.max(1);
    (B::float_reshape(tensor, Shape::new([rows, columns])), [rows, columns])
}

/// `[rows, K] [K, M]` in one piece, by the matrix library.
#[cfg(not(target_family = "wasm"))]
fn whole_product(x: FloatTensor<Flex>, weight: FloatTensor<Flex>) -> FloatTensor<Flex> {
    Flex::float_matmul(x, weight)
}

/// `[rows, K] [K, M]` by panels.
#[cfg(target_family = "wasm")]
fn whole_product(x: FloatTensor<Flex>, weight: FloatTensor<Flex>) -> FloatTensor<Flex> {
    use super::panels::by_panels;
    let (Some(a), Some(b)) = (cpu::strided(&x), cpu::strided(&weight)) else {
        return Flex::float_matmul(x, weight);
    };
    let [rows, inputs] = x.shape().dims();
    let [_, outputs] = weight.shape().dims();
    let mut y = vec![0.0; rows * outputs];
    by_panels([rows, inputs, outputs], a, b, &mut y);
    cpu::tensor(y, Shape::new([rows, outputs]))
}

/// `[rows, K] [K, M]`.
fn product(x: FloatTensor<Flex>, weight: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let [rows, inputs] = x.shape().dims();
    let [_, outputs] = weight.shape().dims();
    if !in_pieces(rows * inputs * outputs, rows) {
        return whole_product(x, weight);
    }
    let x = Flex::float_reshape(x, Shape::new([PIECES, rows / PIECES, inputs]));
    let weight = Flex::float_expand(weight, Shape::new([1, inputs, outputs]));
    Flex::float_reshape(Flex::float_matmul(x, weight), Shape::new([rows, outputs]))
}

struct AddRow<'a> {
    row: &'a [f32],
    to: &'a mut [f32],
}

impl Task for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        for to in self.to.chunks_exact_mut(self.row.len()) {
            for (to, x) in to.iter_mut().zip(self.row) {
                *to += x;
            }
        }
    }
}

struct SumRows<'a> {
    rows: &'a [f32],
    sum: &'a mut [f32],
}

impl Task for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        for row in self.rows.chunks_exact(self.sum.len()) {
            for (sum, x) in self.sum.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

/// The sum of rows of `columns` numbers.
fn sum_rows(rows: &[f32], columns: usize) -> Vec<f32> {
    let chunk = ROWS * columns;
    let mut parts = vec![0.0; rows.len().div_ceil(chunk) * columns];
    let work = rows.chunks(chunk).zip(parts.chunks_exact_mut(columns));
    cpu::for_each(work, rows.len() >= PARALLEL_ELEMENTS, |(rows, sum)| cpu::run(SumRows { rows, sum }));
    let mut sum = vec![0.0; columns];
    cpu::run(SumRows { rows: &parts, sum: &mut sum });
    sum
}

pub(super) fn flex_forward(
    x: FloatTensor<Flex>,
    weight: FloatTensor<Flex>,
    bias: FloatTensor<Flex>,
) -> FloatTensor<Flex> {
    let mut shape = x.shape();
    let last = shape.num_dims() - 1;
    let bias = cpu::contiguous(bias);
    let Some(row) = cpu::numbers(&bias).filter(|row| !row.is_empty()) else {
        return portable_forward::<Flex>(x, weight, bias);
    };
    shape[last] = row.len();
    let (x, _) = flat::<Flex>(x);
    let mut y = product(x, weight);
    match cpu::exclusive(&mut y) {
        Some(values) => {
            let parallel = values.len() >= PARALLEL_ELEMENTS;
            cpu::for_each(values.chunks_mut(ROWS * row.len()), parallel, |to| cpu::run(AddRow { row, to }));
        }
        None => y = Flex::float_add(y, Flex::float_reshape(bias.clone(), Shape::new([1, row.len()]))),
    }
    Flex::float_reshape(y, shape)
}

pub(super) fn flex_backward_x(weight: FloatTensor<Flex>, dy: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let mut shape = dy.shape();
    let last = shape.num_dims() - 1;
    let [inputs, _] = weight.shape().dims();
    shape[last] = inputs;
    let (dy, _) = flat::<Flex>(dy);
    Flex::float_reshape(product(dy, Flex::float_transpose(weight)), shape)
}

pub(super) fn flex_backward_parameters(
    x: FloatTensor<Flex>,
    dy: FloatTensor<Flex>,
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let dy = cpu::contiguous(dy);
    let Some(numbers) = cpu::numbers(&dy).filter(|numbers| !numbers.is_empty()) else {
        return portable_backward_parameters::<Flex>(x, dy);
    };
    let (x, [rows, inputs]) = flat::<Flex>(x);
    let outputs = numbers.len() / rows;
    let d_bias = cpu::tensor(sum_rows(numbers, outputs), Shape::new([outputs]));
    let (dy, _) = flat::<Flex>(dy);
    if !in_pieces(rows * inputs * outputs, rows) {
        return (whole_product(Flex::float_transpose(x), dy), d_bias);
    }
    let x = Flex::float_reshape(x, Shape::new([PIECES, rows / PIECES, inputs]));
    let dy = Flex::float_reshape(dy, Shape::new([PIECES, rows / PIECES, outputs]));
    let pieces = Flex::float_matmul(Flex::float_transpose(x), dy);
    let d_weight = match cpu::numbers(&pieces) {
        Some(pieces) => cpu::tensor(sum_rows(pieces, inputs * outputs), Shape::new([inputs, outputs])),
        None => Flex::float_reshape(Flex::float_sum_dim(pieces, 0), Shape::new([inputs, outputs])),
    };
    (d_weight, d_bias)
}

// ---- Gradient

#[derive(Debug)]
struct AffineBackward;

impl<B: KernelBackend> Backward<B, 3> for AffineBackward {
    /// `x` and `weight` by their nodes, each only if the other's gradient is wanted.
    type State = (Option<NodeId>, Option<NodeId>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        let x = x.map(|x| checkpointer.retrieve_node_output::<FloatTensor<B>>(x));
        let weight = weight.map(|weight| checkpointer.retrieve_node_output::<FloatTensor<B>>(weight));
        let [node_x, node_weight, node_bias] = ops.parents;
        if let (Some(node), Some(weight)) = (node_x, weight) {
            grads.register::<B>(node.id, B::affine_backward_x(weight, dy.clone()));
        }
        if let Some(x) = x {
            let (d_weight, d_bias) = B::affine_backward_parameters(x, dy);
            for (node, gradient) in [node_weight, node_bias].into_iter().zip([d_weight, d_bias]) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let parameters = weight.is_tracked() || bias.is_tracked();
    let nodes = [x.node(), weight.node(), bias.node()];
    match AffineBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let kept_weight = x.is_tracked().then(|| prep.checkpoint(&weight));
            let kept_x = parameters.then(|| prep.checkpoint(&x));
            let y = B::affine(x.into_primitive(), weight.into_primitive(), bias.into_primitive());
            prep.finish((kept_x, kept_weight), y)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::affine(x.into_primitive(), weight.into_primitive(), bias.into_primitive()))
        }
    }
}
