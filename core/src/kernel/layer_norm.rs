//! Layer normalisation over the last dimension (Ba et al., 2016).
//!
//! Why: taken apart into tensor operations, its gradient is some twenty passes over the activations. Here each direction
//! reads a row once into the cache and writes it once. For each row of C numbers,
//!
//! ```text
//! m = Σ x / C      r = (Σ (x - m)² / C + ε)^-½      n = (x - m) r      y = γ n + β
//! ```
//!
//! and backward, with `g = γ dy`:
//!
//! ```text
//! dx = r (g - Σ g / C - n Σ g n / C)      dγ = Σ_rows dy n      dβ = Σ_rows dy
//! ```
//!
//! Invariants: the backward pass keeps `x` and `γ`, and computes `m` and `r` again, which costs less than a pass of memory
//! of their own. `dγ` and `dβ` are summed over [`ROWS`] rows at a time and then over those sums, in one order.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, DType, Dispatch, Flex, Shape, TensorMetadata};
use burn::tensor::Tensor;

use super::backend::KernelBackend;
use super::cpu::{self, Level, PARALLEL_ELEMENTS, Task, fma, fold2};
use super::launch::{ROW_REDUCE, Scalar, Shader, contiguous, launch, output, output_of, runs_wgsl, wgsl, wgsl_element};

/// Normalises each row of the last dimension, then scales by `gamma` and shifts by `beta`.
///
/// `x` is `[.., C]`, `gamma` and `beta` are `[C]`, and the result has the shape of `x`. `eps` is added to the variance.
///
/// # Panics
/// If `gamma` or `beta` has another length than the rows of `x`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<D> {
    let [columns] = gamma.dims();
    assert!(
        x.dims().last() == Some(&columns) && beta.dims() == [columns],
        "layer_norm: x is {:?}, gamma [{columns}] and beta {:?}; all must end in the same size",
        x.dims(),
        beta.dims()
    );
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(Dispatch::row_norm(x, gamma, beta, eps))
}

/// The shape of `x` and twice that of `gamma`, for the lazy stream.
#[cfg(feature = "fusion")]
pub(super) fn backward_specs(
    x: &TensorSpec,
    gamma: &TensorSpec,
    _dy: &TensorSpec,
    _eps: &f32,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), gamma.clone(), gamma.clone())
}

// ---- Portable definition

pub(super) fn portable_forward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    eps: f32,
) -> FloatTensor<B> {
    B::layer_norm(x, gamma, Some(beta), f64::from(eps))
}

/// Gradients of `x`, `gamma` and `beta`.
pub(super) fn portable_backward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    dy: FloatTensor<B>,
    eps: f32,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let columns = shape[shape.num_dims() - 1];
    let rows = shape.num_elements() / columns.max(1);
    let flat = |tensor| B::float_reshape(tensor, Shape::new([rows, columns]));
    let (x, dy) = (flat(x), flat(dy));
    let centred = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, eps.into()));
    let normal = B::float_div(centred, deviation.clone());
    let g = B::float_mul(dy.clone(), B::float_reshape(gamma, Shape::new([1, columns])));
    let along = B::float_mean_dim(B::float_mul(g.clone(), normal.clone()), 1);
    let across = B::float_sub(g.clone(), B::float_mean_dim(g, 1));
    let dx = B::float_div(B::float_sub(across, B::float_mul(normal.clone(), along)), deviation);
    let over_rows = |tensor| B::float_reshape(B::float_sum_dim(tensor, 0), Shape::new([columns]));
    let d_gamma = over_rows(B::float_mul(dy.clone(), normal));
    (B::float_reshape(dx, shape), d_gamma, over_rows(dy))
}

// ---- CPU

/// Rows of one task.
const ROWS: usize = 64;

/// Mean and reciprocal deviation of a row.
#[inline(always)]
fn statistics<L: Level>(x: &[f32], eps: f32) -> (f32, f32) {
    let inverse = 1.0 / x.len() as f32;
    let mean = fold2(x, x, |x, _, sum| sum + x) * inverse;
    let squares = fold2(x, x, |x, _, sum| fma::<L>(x - mean, x - mean, sum));
    (mean, 1.0 / (squares * inverse + eps).sqrt())
}

struct Forward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { x, gamma, beta, eps, y } = self;
        let columns = gamma.len();
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            let (mean, inverse) = statistics::<L>(x, eps);
            for ((y, x), (gamma, beta)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
                *y = fma::<L>((x - mean) * inverse, *gamma, *beta);
            }
        }
    }
}

/// Overwrites the gradient of the output by that of the input, and writes the sums over its rows.
struct Backwards<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    eps: f32,
    dy: &'a mut [f32],
    /// `dγ`, then `dβ`.
    sums: &'a mut [f32],
}

impl Task for Backwards<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { x, gamma, eps, dy, sums } = self;
        let columns = gamma.len();
        let (d_gamma, d_beta) = sums.split_at_mut(columns);
        let mut normal = vec![0.0; columns];
        let share = 1.0 / columns as f32;
        for (x, dy) in x.chunks_exact(columns).zip(dy.chunks_exact_mut(columns)) {
            let (mean, inverse) = statistics::<L>(x, eps);
            let parameters = d_gamma.iter_mut().zip(d_beta.iter_mut()).zip(gamma);
            for (((normal, x), dy), ((d_gamma, d_beta), gamma)) in
                normal.iter_mut().zip(x).zip(dy.iter_mut()).zip(parameters)
            {
                *normal = (x - mean) * inverse;
                *d_gamma = fma::<L>(*dy, *normal, *d_gamma);
                *d_beta += *dy;
                *dy *= gamma;
            }
            let across = share * fold2(dy, dy, |g, _, sum| sum + g);
            let along = share * fold2(dy, &normal, |g, n, sum| fma::<L>(g, n, sum));
            for (dy, normal) in dy.iter_mut().zip(&normal) {
                *dy = inverse * (fma::<L>(-along, *normal, *dy) - across);
            }
        }
    }
}

pub(super) fn flex_forward(
    x: FloatTensor<Flex>,
    gamma: FloatTensor<Flex>,
    beta: FloatTensor<Flex>,
    eps: f32,
) -> FloatTensor<Flex> {
    let [x, gamma, beta] = [x, gamma, beta].map(cpu::contiguous);
    let [Some(numbers), Some(scales), Some(shifts)] = [&x, &gamma, &beta].map(cpu::numbers) else {
        return portable_forward::<Flex>(x, gamma, beta, eps);
    };
    let chunk = ROWS * scales.len().max(1);
    let mut y = vec![0.0; numbers.len()];
    let parts = numbers.chunks(chunk).zip(y.chunks_mut(chunk));
    cpu::for_each(parts, numbers.len() >= PARALLEL_ELEMENTS, |(x, y)| {
        cpu::run(Forward { x, gamma: scales, beta: shifts, eps, y });
    });
    cpu::tensor(y, x.shape())
}

pub(super) fn flex_backward(
    x: FloatTensor<Flex>,
    gamma: FloatTensor<Flex>,
    dy: FloatTensor<Flex>,
    eps: f32,
) -> (FloatTensor<Flex>, FloatTensor<Flex>, FloatTensor<Flex>) {
    let [x, gamma, mut dy] = [x, gamma, dy].map(cpu::contiguous);
    let [Some(numbers), Some(scales)] = [&x, &gamma].map(cpu::numbers) else {
        return portable_backward::<Flex>(x, gamma, dy, eps);
    };
    let columns = scales.len();
    let chunk = ROWS * columns.max(1);
    let mut sums = vec![0.0; numbers.len().div_ceil(chunk).max(1) * 2 * columns];
    let mut work = |dx: &mut [f32]| {
        let parts = numbers.chunks(chunk).zip(dx.chunks_mut(chunk)).zip(sums.chunks_exact_mut((2 * columns).max(1)));
        cpu::for_each(parts, numbers.len() >= PARALLEL_ELEMENTS, |((x, dy), sums)| {
            cpu::run(Backwards { x, gamma: scales, eps, dy, sums });
        });
    };
    let dx = if let Some(gradient) = cpu::exclusive(&mut dy) {
        work(gradient);
        dy
    } else if let Some(gradient) = cpu::numbers(&dy) {
        let mut dx = gradient.to_vec();
        work(&mut dx);
        cpu::tensor(dx, x.shape())
    } else {
        return portable_backward::<Flex>(x, gamma, dy, eps);
    };
    let mut d_gamma = vec![0.0; columns];
    let mut d_beta = vec![0.0; columns];
    for sums in sums.chunks_exact((2 * columns).max(1)) {
        let (gamma, beta) = sums.split_at(columns);
        for ((d_gamma, gamma), (d_beta, beta)) in d_gamma.iter_mut().zip(gamma).zip(d_beta.iter_mut().zip(beta)) {
            *d_gamma += gamma;
            *d_beta += beta;
        }
    }
    let row = |values| cpu::tensor(values, Shape::new([columns]));
    (dx, row(d_gamma), row(d_beta))
}

// ---- WGSL

/// Invocations of a row: enough that each keeps at most 32 of its channels in registers.
fn lanes(columns: usize) -> usize {
    if columns <= 1024 { 32 } else { 128 }
}

/// The longest row of the WGSL path.
pub const LONGEST_ROW: usize = 4096;

/// Whether the shaders take rows of this length.
fn fits(columns: usize) -> bool {
    (1..=LONGEST_ROW).contains(&columns)
}

/// Invocations of a workgroup.
const THREADS: usize = 128;

/// Rows of a workgroup of the backward pass. Fewer would leave more sums of gain and shift to the second dispatch, more
/// would leave a GPU's processors without work.
const BLOCK: usize = 32;

/// Columns of gain and shift of a workgroup, which `layer_norm_parameters.wgsl` is written for, and its invocations.
const COLUMNS: usize = 32;
const PARAMETER_THREADS: usize = 256;

const ROW: &str = wgsl!("layer_norm_row.wgsl");

fn forward_shader(columns: usize, lanes: usize, dtype: DType, branch: bool) -> Shader {
    let texts = &[wgsl!("layer_norm.wgsl"), ROW, ROW_REDUCE];
    Shader::new("layer_norm", texts, THREADS)
        .value("columns", columns)
        .value("lanes", lanes)
        .elements(dtype)
        .flag("branch", branch)
        .over_rows()
}

fn backward_shader(columns: usize, lanes: usize, branch: bool) -> Shader {
    let texts = &[wgsl!("layer_norm_backward.wgsl"), ROW, ROW_REDUCE];
    let shader = Shader::new("layer_norm_backward", texts, THREADS);
    shader.value("columns", columns).value("lanes", lanes).value("block", BLOCK).flag("branch", branch).over_rows()
}

fn parameters_shader(branch: bool) -> Shader {
    let texts = &[wgsl!("layer_norm_parameters.wgsl")];
    Shader::new("layer_norm_parameters", texts, PARAMETER_THREADS).flag("branch", branch)
}

/// Every instance, for the widths of known models and some that are not.
pub(super) fn shaders() -> Vec<Shader> {
    let widths = [1, 33, 64, 192, 384, 768, 1024, 1280];
    let pairs = widths.into_iter().map(|columns| (columns, lanes(columns)));
    let passes = pairs.flat_map(|(columns, lanes)| {
        let forward = [(DType::F32, false), (DType::F16, false), (DType::F32, true)];
        let forward = forward.map(|(dtype, branch)| forward_shader(columns, lanes, dtype, branch));
        forward.into_iter().chain([false, true].map(|branch| backward_shader(columns, lanes, branch)))
    });
    passes.chain([false, true].map(parameters_shader)).collect()
}

/// Whether the shaders take these tensors, of `f32` and with rows of `columns` numbers.
pub(super) fn takes(columns: usize, tensors: &[&FloatTensor<CubeBackend>]) -> bool {
    runs_wgsl(fits(columns), tensors)
}

/// The end of a residual branch without its bias, and that bias: what is added to `x` before it is normalised. The sum takes
/// the branch's memory where nothing else reads it.
pub(super) type Branch = (FloatTensor<CubeBackend>, FloatTensor<CubeBackend>);

/// What is normalised and the result. The tensors fit the shaders, with a branch as [`takes`] says.
pub(super) fn launch_forward(
    x: FloatTensor<CubeBackend>,
    branch: Option<Branch>,
    gamma: FloatTensor<CubeBackend>,
    beta: FloatTensor<CubeBackend>,
    eps: f32,
) -> (FloatTensor<CubeBackend>, FloatTensor<CubeBackend>) {
    let (columns, dtype) = (gamma.meta.num_elements(), x.dtype);
    let lanes = lanes(columns);
    let [x, gamma, beta] = [x, gamma, beta].map(contiguous);
    let y = output_of(dtype, &x, x.meta.shape().clone());
    let rows = x.meta.num_elements() / columns;
    let scalars = [Scalar::Count(rows), Scalar::Real(eps)];
    let groups = rows.div_ceil(THREADS / lanes);
    let shader = forward_shader(columns, lanes, dtype, branch.is_some());
    let Some((branch, bias)) = branch else {
        launch(shader, groups, &[&x, &gamma, &beta, &y], &scalars);
        return (x, y);
    };
    let (branch, bias) = (contiguous(branch), contiguous(bias));
    let added = if branch.can_mut() { branch } else { branch.copy() };
    launch(shader, groups, &[&x, &gamma, &beta, &y, &bias, &added], &scalars);
    (added, y)
}

/// The gradient of what was normalised, and the sums over rows: the gradients of gain and shift, and where what was
/// normalised is a sum whose other readers' gradient is `d_added`, that of the branch's bias. For tensors as [`takes`]
/// says and at least one row.
pub(super) fn launch_backward<const SUMS: usize>(
    x: FloatTensor<CubeBackend>,
    gamma: FloatTensor<CubeBackend>,
    dy: FloatTensor<CubeBackend>,
    d_added: Option<FloatTensor<CubeBackend>>,
    eps: f32,
) -> (FloatTensor<CubeBackend>, [FloatTensor<CubeBackend>; SUMS]) {
    let branch = d_added.is_some();
    assert_eq!(SUMS, if branch { 3 } else { 2 });
    let columns = gamma.meta.num_elements();
    let lanes = lanes(columns);
    let [x, gamma, dy] = [x, gamma, dy].map(contiguous);
    let d_added = d_added.map(contiguous);
    let rows = x.meta.num_elements() / columns;
    let groups = rows.div_ceil(BLOCK);
    let dx = output(&x, x.meta.shape().clone());
    let partial = output(&x, [groups, SUMS, columns]);
    let scalars = [Scalar::Count(rows), Scalar::Real(eps), Scalar::Count(groups)];
    let mut buffers = vec![&x, &gamma, &dy, &dx, &partial];
    buffers.extend(&d_added);
    launch(backward_shader(columns, lanes, branch), groups, &buffers, &scalars);
    let sums = std::array::from_fn(|_| output(&x, [columns]));
    let scalars = [Scalar::Count(groups), Scalar::Count(columns)];
    let buffers: Vec<_> = [&partial].into_iter().chain(&sums).collect();
    launch(parameters_shader(branch), (SUMS * columns).div_ceil(COLUMNS), &buffers, &scalars);
    (dx, sums)
}

pub(super) fn wgsl_forward(
    x: FloatTensor<CubeBackend>,
    gamma: FloatTensor<CubeBackend>,
    beta: FloatTensor<CubeBackend>,
    eps: f32,
) -> FloatTensor<CubeBackend> {
    if wgsl_element(fits(gamma.meta.num_elements()), &[&x, &gamma, &beta]).is_none() {
        return portable_forward::<CubeBackend>(x, gamma, beta, eps);
    }
    launch_forward(x, None, gamma, beta, eps).1
}

pub(super) fn wgsl_backward(
    x: FloatTensor<CubeBackend>,
    gamma: FloatTensor<CubeBackend>,
    dy: FloatTensor<CubeBackend>,
    eps: f32,
) -> (FloatTensor<CubeBackend>, FloatTensor<CubeBackend>, FloatTensor<CubeBackend>) {
    let empty = x.meta.num_elements() == 0;
    if empty || !takes(gamma.meta.num_elements(), &[&x, &gamma, &dy]) {
        return portable_backward::<CubeBackend>(x, gamma, dy, eps);
    }
    let (dx, [d_gamma, d_beta]) = launch_backward(x, gamma, dy, None, eps);
    (dx, d_gamma, d_beta)
}

// ---- Gradient

#[derive(Debug)]
struct RowNormBackward;

impl<B: KernelBackend> Backward<B, 3> for RowNormBackward {
    /// `x` and `gamma` by their nodes, and epsilon.
    type State = (NodeId, NodeId, f32);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, gamma, eps) = ops.state;
        let dy = grads.consume::<B>(&ops.node);
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let gamma = checkpointer.retrieve_node_output::<FloatTensor<B>>(gamma);
        let (dx, d_gamma, d_beta) = B::row_norm_backward(x, gamma, dy, eps);
        for (node, gradient) in ops.parents.into_iter().zip([dx, d_gamma, d_beta]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    gamma: FloatTensor<Autodiff<B, C>>,
    beta: FloatTensor<Autodiff<B, C>>,
    eps: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [x.node(), gamma.node(), beta.node()];
    match RowNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&x), prep.checkpoint(&gamma), eps);
            let y = B::row_norm(x.into_primitive(), gamma.into_primitive(), beta.into_primitive(), eps);
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => {
            let y = B::row_norm(x.into_primitive(), gamma.into_primitive(), beta.into_primitive(), eps);
            prep.finish(y)
        }
    }
}
