//! The squared difference of two networks' head-averaged attention, which keeps one map a pair of blocks.
//!
//! Why: composed of tensor operations, a pair of blocks keeps the `[B, H, N, N]` probabilities of the student and two
//! `[B, N, N]` means for its backward pass, which is what attention without stored probabilities saves.
//!
//! With queries and keys of student S and teacher T, and `A = mean_h P_h`, `P_h = softmax(D^-½ q_h k_hᵀ)`:
//!
//! ```text
//! E = A_S - A_T        rows_i = Σ_j E_ij²
//! ```
//!
//! and backward for the student alone, given the rows' gradients `g`, with `δ_hi = Σ_j P_hij E_ij`:
//!
//! ```text
//! dS_hij = 2 / H_S g_i P_hij (E_ij - δ_hi)      dq_h = D^-½ dS_h k_h      dk_h = D^-½ dS_hᵀ q_h
//! ```
//!
//! Invariants: a probability follows from queries, keys and the row's *level*, the log-sum-exp that attention left. Beside the
//! student's, which attention keeps anyway, E is kept from the forward to the backward pass: `N` numbers a row. Without it
//! the teacher's packed queries and keys would be, which are more: 2,304 numbers a row of a DeiT-B, at 197 tokens. No sum
//! has two writers.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, AutodiffBackend, Dispatch, Shape, TensorMetadata};
use burn::tensor::Tensor;

use super::attention::{GRADIENT, attention_with_levels, fits, swap, tile_fits, unpack};
use super::backend::KernelBackend;
use super::launch::{
    ROW_REDUCE, Scalar, Shader, TILE, TILE_THREADS, contiguous, gangs, launch, output, runs_wgsl, tiled, wgsl,
};
use super::tiles::{SIDES, Sizes, launch_tiled};

/// What attention was computed from.
#[derive(Clone, Debug)]
pub struct QueriesAndKeys {
    /// Packed queries, keys and values `[B, N, 3, H, D]`.
    pub packed: Tensor<5>,
    /// The log-sum-exps `[B, H, N]` that [`attention_with_levels`] gave with a scale of `D^-½`; without them, they are
    /// computed again.
    pub levels: Option<Tensor<3>>,
}

impl From<Tensor<5>> for QueriesAndKeys {
    fn from(packed: Tensor<5>) -> Self {
        Self { packed, levels: None }
    }
}

impl QueriesAndKeys {
    /// Both, the levels computed if need be, and the rest of their type.
    ///
    /// # Panics
    /// If the shapes do not fit: shaders do not check their reads.
    fn with_levels(self) -> (Tensor<5>, Tensor<3>) {
        let Self { packed, levels } = self;
        let [batch, tokens, parts, heads, head_size] = packed.dims();
        assert_eq!(parts, 3, "queries and keys {:?} must be packed as [B, N, 3, H, D]", packed.dims());
        let levels = levels.unwrap_or_else(|| attention_with_levels(packed.clone().detach(), scale(head_size)).1);
        assert_eq!(levels.dims(), [batch, heads, tokens], "levels must be [B, H, N] of {:?}", packed.dims());
        let dtype = levels.dtype();
        (if packed.dtype() == dtype { packed } else { packed.cast(dtype) }, levels)
    }
}

/// The mean over heads of the attention of each token to each, `[B, N, N]`: a row sums to 1. Scores are scaled by `D^-½`. Of
/// `f32` also if the queries and keys are of half precision. Heads wider than 128 take the portable definition on every
/// device. No gradient flows through it.
///
/// # Panics
/// If the third dimension is not 3, or levels are given and are not `[B, H, N]`.
pub fn attention_map(block: impl Into<QueriesAndKeys>) -> Tensor<3> {
    let (packed, levels) = block.into().with_levels();
    Tensor::from_dispatch(Dispatch::attention_map(packed.into_dispatch(), levels.into_dispatch()))
}

/// The mean over images, rows and columns of the squared difference of the student's head-averaged attention from `target`,
/// the teacher's [`attention_map()`] `[B, N, N]`; a loss `[1]`.
///
/// Gradients flow to the student's queries and keys alone.
///
/// # Panics
/// As [`attention_map()`], or if images or tokens differ in number.
pub fn attention_map_loss(student: impl Into<QueriesAndKeys>, target: Tensor<3>) -> Tensor<1> {
    let (student, levels) = student.into().with_levels();
    let [batch, tokens, ..] = student.dims();
    assert_eq!(
        target.dims(),
        [batch, tokens, tokens],
        "attention_map_loss: the target must be [B, N, N] of the student's [B, N, 3, H, D], {:?}",
        student.dims()
    );
    let target = if target.dtype() == levels.dtype() { target } else { target.cast(levels.dtype()) };
    let (levels, target) = (levels.into_dispatch(), target.into_dispatch());
    let rows = Tensor::<2>::from_dispatch(Dispatch::map_difference(student.into_dispatch(), levels, target));
    // In two stages: a one-stage sum is a single invocation's work on adapters without float atomics.
    rows.sum_dim(1).reshape([-1]).sum().div_scalar((batch * tokens * tokens) as f64)
}

/// `D^-½`.
pub(super) fn scale(head_size: usize) -> f32 {
    1.0 / libm::sqrtf(head_size as f32)
}

/// Shape of the rows, from that of the packed tensor.
#[cfg(feature = "fusion")]
pub(super) fn rows_shape(qkv: &Shape) -> Shape {
    Shape::new([qkv[0], qkv[1]])
}

/// Shape of the map, from that of the packed tensor.
#[cfg(feature = "fusion")]
pub(super) fn map_shape(qkv: &Shape) -> Shape {
    Shape::new([qkv[0], qkv[1], qkv[1]])
}

/// Shapes of the rows and of E, for the lazy stream.
#[cfg(feature = "fusion")]
pub(super) fn forward_specs(qkv: &TensorSpec, _levels: &TensorSpec, target: &TensorSpec) -> (TensorSpec, TensorSpec) {
    (TensorSpec::new(rows_shape(&qkv.shape), qkv.dtype), target.clone())
}

/// Rows `[B, N]` and E `[B, N, N]`.
pub(super) type Difference<B> = (FloatTensor<B>, FloatTensor<B>);

// ---- Portable definition

/// Probabilities `[B, H, N, N]`.
fn probabilities<B: KernelBackend>(qkv: FloatTensor<B>, levels: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let [q, k, _] = unpack::<B>(qkv);
    let scores = B::matmul(B::float_mul_scalar(q, scale(head_size).into()), B::float_transpose(k));
    let levels = B::float_reshape(levels, Shape::new([batch, heads, tokens, 1]));
    B::float_exp(B::float_sub(scores, levels))
}

/// The map `[B, N, N]`.
pub(super) fn portable_map<B: KernelBackend>(qkv: FloatTensor<B>, levels: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, tokens, ..] = qkv.shape().dims::<5>();
    let mean = B::float_mean_dim(probabilities::<B>(qkv, levels), 1);
    B::float_reshape(mean, Shape::new([batch, tokens, tokens]))
}

pub(super) fn portable_forward<B: KernelBackend>(
    qkv: FloatTensor<B>,
    levels: FloatTensor<B>,
    target: FloatTensor<B>,
) -> Difference<B> {
    let [batch, tokens, ..] = qkv.shape().dims::<5>();
    let e = B::float_sub(portable_map::<B>(qkv, levels), target);
    let rows = B::float_sum_dim(B::float_mul(e.clone(), e.clone()), 2);
    (B::float_reshape(rows, Shape::new([batch, tokens])), e)
}

/// The gradient of `qkv`, zero at its values.
pub(super) fn portable_backward<B: KernelBackend>(
    qkv: FloatTensor<B>,
    levels: FloatTensor<B>,
    e: FloatTensor<B>,
    d_rows: FloatTensor<B>,
) -> FloatTensor<B> {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let p = probabilities::<B>(qkv.clone(), levels);
    let e = B::float_reshape(e, Shape::new([batch, 1, tokens, tokens]));
    let deltas = B::float_sum_dim(B::float_mul(p.clone(), e.clone()), 3);
    let factor = B::float_mul_scalar(d_rows, (2.0 * scale(head_size) / heads as f32).into());
    let factor = B::float_reshape(factor, Shape::new([batch, 1, tokens, 1]));
    let ds = B::float_mul(B::float_mul(p, B::float_sub(e, deltas)), factor);
    let [q, k, v] = unpack::<B>(qkv);
    let dq = B::matmul(ds.clone(), k);
    let dk = B::matmul(B::float_transpose(ds), q);
    let dv = B::float_mul_scalar(v, 0.0.into());
    let parts =
        [dq, dk, dv].map(|part| B::float_reshape(swap::<B>(part), Shape::new([batch, tokens, 1, heads, head_size])));
    B::float_cat(parts.into(), 2)
}

// ---- WGSL

/// The passes.
#[derive(Clone, Copy)]
enum Pass {
    /// The map.
    Map,
    /// E, and the sums of its squares along each row of a tile.
    Difference,
    Query,
    Key,
}

impl Pass {
    /// The name of its file, without the ending.
    fn file(self) -> &'static str {
        match self {
            Pass::Map | Pass::Difference => "attention_map",
            Pass::Query => "attention_map_query",
            Pass::Key => "attention_map_key",
        }
    }

    /// Whether its invocations go over the tiles of all pairs of rows and all heads, and not over the rows of each head.
    fn over_pairs(self) -> bool {
        matches!(self, Pass::Map | Pass::Difference)
    }

    fn fits(self, side: usize, head_size: usize) -> bool {
        self.over_pairs() || tile_fits(side, head_size)
    }

    fn shader(self, head_size: usize, side: usize) -> Shader {
        const MAP: &[&str] = &[wgsl!("attention_map.wgsl"), TILE, ROW_REDUCE];
        const QUERY: &[&str] = &[wgsl!("attention_map_query.wgsl"), GRADIENT, TILE, ROW_REDUCE];
        const KEY: &[&str] = &[wgsl!("attention_map_key.wgsl"), GRADIENT, TILE];
        let shader = |texts| tiled(Shader::new(self.file(), texts, TILE_THREADS).value("head_size", head_size), side);
        match self {
            Pass::Map => shader(MAP).flag("against", false).over_few_lanes(),
            Pass::Difference => shader(MAP).flag("against", true).over_few_lanes(),
            Pass::Query => shader(QUERY).flag("map", true).over_few_lanes(),
            Pass::Key => shader(KEY).flag("map", true),
        }
    }

    fn sizes(self, [batch, tokens, _, heads, head_size]: [usize; 5]) -> Sizes {
        let (numbers, times) = if self.over_pairs() { (heads * head_size, 1) } else { (head_size, heads) };
        Sizes { pass: self.file(), numbers, tokens, times: batch * times, half: false }
    }

    /// Launches the pass with tiles of `side` rows: a gang of invocations for each image and pair of tiles, or for each image,
    /// head and tile.
    fn launch_tiles(self, [batch, tokens, _, heads, head_size]: [usize; 5], side: usize, buffers: &[&CubeTensor]) {
        let across = tokens.div_ceil(side);
        let tiles = batch * across * if self.over_pairs() { across } else { heads };
        let scale = Scalar::Real(scale(head_size));
        let scalars = [Scalar::Count(tokens), Scalar::Count(heads), Scalar::Count(tiles), scale];
        launch(self.shader(head_size, side), tiles.div_ceil(gangs(side)), buffers, &scalars);
    }

    fn launch(self, shape: [usize; 5], buffers: &[&CubeTensor]) {
        launch_tiled(
            self.sizes(shape),
            buffers,
            move |side| self.fits(side, shape[4]),
            move |side, buffers| self.launch_tiles(shape, side, buffers),
        );
    }
}

/// Whether the shaders take queries and keys of this shape, and their map.
fn takes([batch, tokens, .., head_size]: [usize; 5]) -> bool {
    fits(head_size) && batch.saturating_mul(tokens).saturating_mul(tokens) <= i32::MAX as usize
}

pub(super) fn wgsl_map(qkv: FloatTensor<CubeBackend>, levels: FloatTensor<CubeBackend>) -> FloatTensor<CubeBackend> {
    let shape @ [batch, tokens, ..] = qkv.meta.shape().dims::<5>();
    if !runs_wgsl(takes(shape), &[&qkv, &levels]) {
        return portable_map::<CubeBackend>(qkv, levels);
    }
    let [qkv, levels] = [qkv, levels].map(contiguous);
    let map = output(&qkv, [batch, tokens, tokens]);
    Pass::Map.launch(shape, &[&qkv, &levels, &map]);
    map
}

pub(super) fn wgsl_forward(
    qkv: FloatTensor<CubeBackend>,
    levels: FloatTensor<CubeBackend>,
    target: FloatTensor<CubeBackend>,
) -> Difference<CubeBackend> {
    let shape @ [batch, tokens, ..] = qkv.meta.shape().dims::<5>();
    if !runs_wgsl(takes(shape), &[&qkv, &levels, &target]) {
        return portable_forward::<CubeBackend>(qkv, levels, target);
    }
    let [qkv, levels, target] = [qkv, levels, target].map(contiguous);
    let e = output(&qkv, [batch, tokens, tokens]);
    // How many sums a row has follows from the tiles: so these are counted.
    let side = Pass::Difference.sizes(shape).counted(|_| true);
    let parts = output(&qkv, [batch, tokens.div_ceil(side), tokens]);
    Pass::Difference.launch_tiles(shape, side, &[&qkv, &levels, &target, &e, &parts]);
    let rows = if tokens > side { CubeBackend::float_sum_dim(parts, 1) } else { parts };
    (CubeBackend::float_reshape(rows, Shape::new([batch, tokens])), e)
}

pub(super) fn wgsl_backward(
    qkv: FloatTensor<CubeBackend>,
    levels: FloatTensor<CubeBackend>,
    e: FloatTensor<CubeBackend>,
    d_rows: FloatTensor<CubeBackend>,
) -> FloatTensor<CubeBackend> {
    let shape @ [batch, tokens, _, heads, _] = qkv.meta.shape().dims();
    if !runs_wgsl(takes(shape), &[&qkv, &levels, &e, &d_rows]) {
        return portable_backward::<CubeBackend>(qkv, levels, e, d_rows);
    }
    let [qkv, levels, e, d_rows] = [qkv, levels, e, d_rows].map(contiguous);
    let d_qkv = output(&qkv, shape);
    let delta = output(&qkv, [batch, heads, tokens]);
    Pass::Query.launch(shape, &[&qkv, &levels, &e, &d_rows, &d_qkv, &delta]);
    Pass::Key.launch(shape, &[&qkv, &levels, &e, &d_rows, &delta, &d_qkv]);
    d_qkv
}

/// Every instance over common head sizes.
pub(super) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for head_size in [1, 7, 16, 32, 48, 64, 80, 128] {
        for side in SIDES {
            let passes = [Pass::Map, Pass::Difference, Pass::Query, Pass::Key];
            let fitting = passes.into_iter().filter(|pass| pass.fits(side, head_size));
            shaders.extend(fitting.map(|pass| pass.shader(head_size, side)));
        }
    }
    shaders
}

// ---- Gradient

#[derive(Debug)]
struct MapDifferenceBackward;

impl<B: KernelBackend> Backward<B, 1> for MapDifferenceBackward {
    /// Queries and keys by their node, their levels, E.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (qkv, levels, e) = ops.state;
        let d_rows = grads.consume::<B>(&ops.node);
        let qkv = checkpointer.retrieve_node_output::<FloatTensor<B>>(qkv);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::map_difference_backward(qkv, levels, e, d_rows));
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<B, C>>,
    levels: FloatTensor<Autodiff<B, C>>,
    target: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let (levels, target) = (levels.into_primitive(), target.into_primitive());
    match MapDifferenceBackward.prepare::<C>([qkv.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let node = prep.checkpoint(&qkv);
            let (rows, e) = B::map_difference_forward(qkv.into_primitive(), levels.clone(), target);
            prep.finish((node, levels, e), rows)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::map_difference(qkv.into_primitive(), levels, target)),
    }
}

/// The map, through which no gradient flows.
pub(super) fn untracked_map<B: KernelBackend, C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<B, C>>,
    levels: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    Autodiff::<B, C>::from_inner(B::attention_map(qkv.into_primitive(), levels.into_primitive()))
}
