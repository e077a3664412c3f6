//! The squared difference of two networks' head-averaged attention, which keeps nothing of `N x N`.
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
//! Invariants: both directions compute E tile by tile, or a few rows at a time, from the *statistics* of each row, `[B, N,
//! 2 H_S + H_T]`: the log-sum-exps of the student's heads, their δ, and the log-sum-exps of the teacher's heads. No sum
//! has two writers. The price is arithmetic: E is made three times, and the student's probabilities twice as often.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, Shape, Slice, TensorMetadata};
use burn::tensor::Tensor;

use super::attention::{swap, unpack};
use super::backend::KernelBackend;
use super::launch::{Scalar, Shader, TILE, TILE_THREADS, contiguous, launch, output, runs_wgsl, tiled};

/// The mean over images, rows and columns of the squared difference of the head-averaged attention, `[1]`.
///
/// `student` and `teacher` are packed queries, keys and values `[B, N, 3, H, D]` of as many images and tokens; heads and
/// head sizes may differ. Scores are scaled by `D^-½` of their own network. Gradients flow to the student's queries and
/// keys alone.
///
/// # Panics
/// If the third dimension is not 3, or images or tokens differ in number.
pub fn attention_map_loss(student: Tensor<5>, teacher: Tensor<5>) -> Tensor<1> {
    let ([batch, tokens, parts, ..], [teacher_batch, teacher_tokens, teacher_parts, ..]) =
        (student.dims(), teacher.dims());
    assert!(
        [parts, teacher_parts] == [3, 3] && [batch, tokens] == [teacher_batch, teacher_tokens],
        "attention_map_loss: student {:?} and teacher {:?} must both be [B, N, 3, H, D] with the same B and N",
        student.dims(),
        teacher.dims()
    );
    let rows = Tensor::<2>::from_dispatch(Dispatch::map_difference(student.into_dispatch(), teacher.into_dispatch()));
    // In two stages: a one-stage sum is a single invocation's work on adapters without float atomics.
    rows.sum_dim(1).reshape([-1]).sum().div_scalar((batch * tokens * tokens) as f64)
}

/// `D^-½`.
pub(super) fn scale(head_size: usize) -> f32 {
    1.0 / libm::sqrtf(head_size as f32)
}

/// Numbers in a row of statistics.
pub(super) fn row_length(student_heads: usize, teacher_heads: usize) -> usize {
    2 * student_heads + teacher_heads
}

/// Shape of the rows, from that of the packed tensor.
#[cfg(feature = "fusion")]
pub(super) fn rows_shape(qkv: &Shape) -> Shape {
    Shape::new([qkv[0], qkv[1]])
}

/// Shapes of the rows and of the statistics, for the lazy stream.
#[cfg(feature = "fusion")]
pub(super) fn forward_specs(student: &TensorSpec, teacher: &TensorSpec) -> (TensorSpec, TensorSpec) {
    let [batch, tokens, _, heads, _] = student.shape.dims();
    let [.., teacher_heads, _] = teacher.shape.dims::<5>();
    (
        TensorSpec::new(rows_shape(&student.shape), student.dtype),
        TensorSpec::new(Shape::new([batch, tokens, row_length(heads, teacher_heads)]), student.dtype),
    )
}

// ---- Portable definition

/// Probabilities `[B, H, N, N]` and log-sum-exps `[B, N, H]`.
fn probabilities<B: KernelBackend>(qkv: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let [q, k, _] = unpack::<B>(qkv);
    let scores = B::matmul(B::float_mul_scalar(q, scale(head_size).into()), B::float_transpose(k));
    let peak = B::float_max_dim(scores.clone(), 3);
    let weights = B::float_exp(B::float_sub(scores, peak.clone()));
    let sum = B::float_sum_dim(weights.clone(), 3);
    let levels = B::float_add(peak, B::float_log(sum.clone()));
    let levels = B::float_swap_dims(B::float_reshape(levels, Shape::new([batch, heads, tokens])), 1, 2);
    (B::float_div(weights, sum), levels)
}

/// The difference `[B, 1, N, N]` of the means over heads.
fn difference<B: Backend>(student: FloatTensor<B>, teacher: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sub(B::float_mean_dim(student, 1), B::float_mean_dim(teacher, 1))
}

/// Rows `[B, N]` and statistics `[B, N, 2 H_S + H_T]`.
pub(super) fn portable_forward<B: KernelBackend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [batch, tokens, _, heads, _] = student.shape().dims();
    let (p, levels) = probabilities::<B>(student);
    let (teacher_p, teacher_levels) = probabilities::<B>(teacher);
    let e = difference::<B>(p.clone(), teacher_p);
    let rows = B::float_sum_dim(B::float_mul(e.clone(), e.clone()), 3);
    let deltas = B::float_sum_dim(B::float_mul(p, e), 3);
    let deltas = B::float_swap_dims(B::float_reshape(deltas, Shape::new([batch, heads, tokens])), 1, 2);
    let statistics = B::float_cat(vec![levels, deltas, teacher_levels], 2);
    (B::float_reshape(rows, Shape::new([batch, tokens])), statistics)
}

/// The gradient of `student`, zero at its values.
pub(super) fn portable_backward<B: KernelBackend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    statistics: FloatTensor<B>,
    d_rows: FloatTensor<B>,
) -> FloatTensor<B> {
    let [batch, tokens, _, heads, head_size] = student.shape().dims();
    let (p, _) = probabilities::<B>(student.clone());
    let e = difference::<B>(p.clone(), probabilities::<B>(teacher).0);
    let deltas = B::float_slice(statistics, &[Slice::full(), Slice::full(), Slice::from(heads..2 * heads)]);
    let deltas = B::float_reshape(B::float_swap_dims(deltas, 1, 2), Shape::new([batch, heads, tokens, 1]));
    let factor = B::float_mul_scalar(d_rows, (2.0 * scale(head_size) / heads as f32).into());
    let factor = B::float_reshape(factor, Shape::new([batch, 1, tokens, 1]));
    let ds = B::float_mul(B::float_mul(p, B::float_sub(e, deltas)), factor);
    let [q, k, v] = unpack::<B>(student);
    let dq = B::matmul(ds.clone(), k);
    let dk = B::matmul(B::float_transpose(ds), q);
    let dv = B::float_mul_scalar(v, 0.0.into());
    let parts =
        [dq, dk, dv].map(|part| B::float_reshape(swap::<B>(part), Shape::new([batch, tokens, 1, heads, head_size])));
    B::float_cat(parts.into(), 2)
}

// ---- WGSL

/// The four passes.
#[derive(Clone, Copy)]
enum Pass {
    /// Log-sum-exps of both networks.
    Levels,
    /// Rows and deltas.
    Forward,
    BackwardQuery,
    BackwardKey,
}

/// Tokens along the side of a tile, so that it is one workgroup's: what `map_tile.wgsl` is written for.
const SIDE: usize = 32;

/// The most heads of a student: the forward pass keeps a sum of each in its registers.
const MOST_HEADS: usize = 64;

impl Pass {
    fn shader(self, heads: usize) -> Shader {
        const MAP: &str = include_str!("../../../shaders/map_tile.wgsl");
        let (file, texts): (_, &'static [&'static str]) = match self {
            Pass::Levels => {
                ("attention_map_levels", &[include_str!("../../../shaders/attention_map_levels.wgsl"), MAP, TILE])
            }
            Pass::Forward => ("attention_map", &[include_str!("../../../shaders/attention_map.wgsl"), MAP, TILE]),
            Pass::BackwardQuery | Pass::BackwardKey => {
                ("attention_map_backward", &[include_str!("../../../shaders/attention_map_backward.wgsl"), MAP, TILE])
            }
        };
        let shader = tiled(Shader::new(file, texts, TILE_THREADS), SIDE);
        match self {
            Pass::Levels => shader,
            Pass::Forward => shader.value("heads", heads),
            Pass::BackwardQuery => shader.flag("keys", false),
            Pass::BackwardKey => shader.flag("keys", true),
        }
    }

    /// Launches the pass over `buffers`: a workgroup for each image and tile of rows, and in the first pass for each head.
    fn launch(self, student: [usize; 5], teacher: [usize; 5], buffers: &[&FloatTensor<CubeBackend>]) {
        let [batch, tokens, _, heads, head_size] = student;
        let [.., teacher_heads, teacher_size] = teacher;
        let tiles = batch * tokens.div_ceil(SIDE);
        let groups = if matches!(self, Pass::Levels) { tiles * (heads + teacher_heads) } else { tiles };
        let scalars = [
            Scalar::Count(tokens),
            Scalar::Count(groups),
            Scalar::Count(heads),
            Scalar::Count(head_size),
            Scalar::Real(scale(head_size)),
            Scalar::Count(teacher_heads),
            Scalar::Count(teacher_size),
            Scalar::Real(scale(teacher_size)),
        ];
        launch(self.shader(heads), groups, buffers, &scalars);
    }
}

/// Whether the shaders take networks of these shapes.
fn fits([.., heads, head_size]: [usize; 5], [.., teacher_heads, teacher_size]: [usize; 5]) -> bool {
    (1..=MOST_HEADS).contains(&heads) && [head_size, teacher_heads, teacher_size].into_iter().all(|size| size > 0)
}

pub(super) fn wgsl_forward(
    student: FloatTensor<CubeBackend>,
    teacher: FloatTensor<CubeBackend>,
) -> (FloatTensor<CubeBackend>, FloatTensor<CubeBackend>) {
    let shape @ [batch, tokens, _, heads, _] = student.meta.shape().dims();
    let teacher_shape @ [_, _, _, teacher_heads, _] = teacher.meta.shape().dims();
    if !runs_wgsl(fits(shape, teacher_shape), &[&student, &teacher]) {
        return portable_forward::<CubeBackend>(student, teacher);
    }
    let [student, teacher] = [student, teacher].map(contiguous);
    let rows = output(&student, [batch, tokens]);
    let statistics = output(&student, [batch, tokens, row_length(heads, teacher_heads)]);
    Pass::Levels.launch(shape, teacher_shape, &[&student, &teacher, &statistics]);
    Pass::Forward.launch(shape, teacher_shape, &[&student, &teacher, &statistics, &rows]);
    (rows, statistics)
}

pub(super) fn wgsl_backward(
    student: FloatTensor<CubeBackend>,
    teacher: FloatTensor<CubeBackend>,
    statistics: FloatTensor<CubeBackend>,
    d_rows: FloatTensor<CubeBackend>,
) -> FloatTensor<CubeBackend> {
    let (shape, teacher_shape) = (student.meta.shape().dims(), teacher.meta.shape().dims());
    if !runs_wgsl(fits(shape, teacher_shape), &[&student, &teacher, &statistics, &d_rows]) {
        return portable_backward::<CubeBackend>(student, teacher, statistics, d_rows);
    }
    let [student, teacher, statistics, d_rows] = [student, teacher, statistics, d_rows].map(contiguous);
    let d_student = output(&student, shape);
    let buffers = [&student, &teacher, &statistics, &d_rows, &d_student];
    Pass::BackwardQuery.launch(shape, teacher_shape, &buffers);
    Pass::BackwardKey.launch(shape, teacher_shape, &buffers);
    d_student
}

/// Every instance; the forward pass for the heads of known students.
pub(super) fn shaders() -> Vec<Shader> {
    let forward = [1, 3, 4, 6, 12, 16, MOST_HEADS].map(|heads| Pass::Forward.shader(heads));
    let others = [Pass::Levels, Pass::BackwardQuery, Pass::BackwardKey].map(|pass| pass.shader(1));
    forward.into_iter().chain(others).collect()
}

// ---- Gradient

#[derive(Debug)]
struct MapDifferenceBackward;

impl<B: KernelBackend> Backward<B, 1> for MapDifferenceBackward {
    /// The student by its node, the teacher, the statistics.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (student, teacher, statistics) = ops.state;
        let d_rows = grads.consume::<B>(&ops.node);
        let student = checkpointer.retrieve_node_output::<FloatTensor<B>>(student);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::map_difference_backward(student, teacher, statistics, d_rows));
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    student: FloatTensor<Autodiff<B, C>>,
    teacher: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let teacher = teacher.into_primitive();
    match MapDifferenceBackward.prepare::<C>([student.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let node = prep.checkpoint(&student);
            let (rows, statistics) = B::map_difference_forward(student.into_primitive(), teacher.clone());
            prep.finish((node, teacher, statistics), rows)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::map_difference(student.into_primitive(), teacher)),
    }
}
