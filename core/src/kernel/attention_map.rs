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
//! Invariants: what is kept from the forward to the backward pass are the networks' queries and keys and their *levels*, the
//! log-sum-exps of the rows, which attention left: a probability follows from them alone. Forward, E is made tile by tile
//! and dropped. Backward, it is written out for [`MOST_OF_MAP`] numbers of images at a time, once for all heads, and then
//! every head has passes of its own: E costs the heads of both networks, and a row of it is gone through three times a head.
//! No sum has two writers.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Dispatch, Shape, TensorMetadata};
use burn::tensor::Tensor;

use super::attention::{GRADIENT, attention_with_levels, fits, swap, tile_fits, unpack};
use super::backend::KernelBackend;
use super::launch::{
    ROW_REDUCE, Scalar, Shader, TILE, TILE_THREADS, contiguous, gangs, launch, output, runs_wgsl, tiled, wgsl,
};
use super::tiles::{SIDES, Sizes, launch_tiled};

/// What a network's attention was computed from.
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
    /// Both, the levels computed if need be.
    fn with_levels(self) -> (Tensor<5>, Tensor<3>) {
        let Self { packed, levels } = self;
        let [.., head_size] = packed.dims();
        let levels = levels.unwrap_or_else(|| attention_with_levels(packed.clone(), scale(head_size)).1);
        (packed, levels)
    }
}

/// The mean over images, rows and columns of the squared difference of the head-averaged attention, `[1]`.
///
/// `student` and `teacher` are packed queries, keys and values `[B, N, 3, H, D]` of as many images and tokens; heads and
/// head sizes may differ. Scores are scaled by `D^-½` of their own network. Gradients flow to the student's queries and
/// keys alone.
///
/// # Panics
/// If the third dimension is not 3, or images or tokens differ in number.
pub fn attention_map_loss(student: impl Into<QueriesAndKeys>, teacher: impl Into<QueriesAndKeys>) -> Tensor<1> {
    let (student, teacher) = (student.into(), teacher.into());
    let [batch, tokens, parts, ..] = student.packed.dims();
    let [teacher_batch, teacher_tokens, teacher_parts, ..] = teacher.packed.dims();
    assert!(
        [parts, teacher_parts] == [3, 3] && [batch, tokens] == [teacher_batch, teacher_tokens],
        "attention_map_loss: student {:?} and teacher {:?} must both be [B, N, 3, H, D] with the same B and N",
        student.packed.dims(),
        teacher.packed.dims()
    );
    let (student, student_levels) = student.with_levels();
    let (teacher, teacher_levels) = teacher.with_levels();
    let (student_levels, teacher_levels) = (student_levels.into_dispatch(), teacher_levels.into_dispatch());
    let rows =
        Dispatch::map_difference(student.into_dispatch(), student_levels, teacher.into_dispatch(), teacher_levels);
    // In two stages: a one-stage sum is a single invocation's work on adapters without float atomics.
    let rows = Tensor::<2>::from_dispatch(rows);
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

// ---- Portable definition

/// Probabilities `[B, H, N, N]`, from packed queries and keys and their levels.
fn probabilities<B: KernelBackend>(qkv: FloatTensor<B>, levels: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let [q, k, _] = unpack::<B>(qkv);
    let scores = B::matmul(B::float_mul_scalar(q, scale(head_size).into()), B::float_transpose(k));
    let levels = B::float_reshape(levels, Shape::new([batch, heads, tokens, 1]));
    B::float_exp(B::float_sub(scores, levels))
}

/// The student's probabilities, and the difference `[B, 1, N, N]` of the means over heads.
fn difference<B: KernelBackend>(
    student: FloatTensor<B>,
    student_levels: FloatTensor<B>,
    teacher: FloatTensor<B>,
    teacher_levels: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let p = probabilities::<B>(student, student_levels);
    let teacher = probabilities::<B>(teacher, teacher_levels);
    (p.clone(), B::float_sub(B::float_mean_dim(p, 1), B::float_mean_dim(teacher, 1)))
}

/// Rows `[B, N]`.
pub(super) fn portable_forward<B: KernelBackend>(
    student: FloatTensor<B>,
    student_levels: FloatTensor<B>,
    teacher: FloatTensor<B>,
    teacher_levels: FloatTensor<B>,
) -> FloatTensor<B> {
    let [batch, tokens, ..] = student.shape().dims::<5>();
    let (_, e) = difference::<B>(student, student_levels, teacher, teacher_levels);
    let rows = B::float_sum_dim(B::float_mul(e.clone(), e), 3);
    B::float_reshape(rows, Shape::new([batch, tokens]))
}

/// The gradient of `student`, zero at its values.
pub(super) fn portable_backward<B: KernelBackend>(
    student: FloatTensor<B>,
    student_levels: FloatTensor<B>,
    teacher: FloatTensor<B>,
    teacher_levels: FloatTensor<B>,
    d_rows: FloatTensor<B>,
) -> FloatTensor<B> {
    let [batch, tokens, _, heads, head_size] = student.shape().dims();
    let (p, e) = difference::<B>(student.clone(), student_levels, teacher, teacher_levels);
    let deltas = B::float_sum_dim(B::float_mul(p.clone(), e.clone()), 3);
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

/// Numbers of E that are in memory at a time, 32 MiB, unless an image has more: the maps of 216 images of 197 tokens.
const MOST_OF_MAP: usize = 8 << 20;

/// The passes.
#[derive(Clone, Copy)]
enum Pass {
    /// E, and of it the sums of squares of each row and tile.
    Squares,
    /// E.
    Map,
    Query,
    Key,
}

impl Pass {
    /// The name of its file, without the ending.
    fn file(self) -> &'static str {
        match self {
            Pass::Squares | Pass::Map => "attention_map",
            Pass::Query => "attention_map_query",
            Pass::Key => "attention_map_key",
        }
    }

    fn fits(self, side: usize, head_size: usize) -> bool {
        matches!(self, Pass::Squares | Pass::Map) || tile_fits(side, head_size)
    }

    /// `head_size` is the student's, which the passes over E do not ask for.
    fn shader(self, head_size: usize, side: usize) -> Shader {
        const MAP: &[&str] = &[wgsl!("attention_map.wgsl"), TILE, ROW_REDUCE];
        const QUERY: &[&str] = &[wgsl!("attention_map_query.wgsl"), GRADIENT, TILE, ROW_REDUCE];
        const KEY: &[&str] = &[wgsl!("attention_map_key.wgsl"), GRADIENT, TILE];
        let shader = |texts| tiled(Shader::new(self.file(), texts, TILE_THREADS), side);
        let gradient = |texts| shader(texts).value("head_size", head_size).flag("map", true);
        match self {
            Pass::Squares => shader(MAP).flag("squares", true).over_few_lanes(),
            Pass::Map => shader(MAP).flag("squares", false).over_few_lanes(),
            Pass::Query => gradient(QUERY).over_few_lanes(),
            Pass::Key => gradient(KEY),
        }
    }
}

/// Two networks' shapes `[B, N, 3, H, D]`, and the images that a launch is for.
#[derive(Clone, Copy)]
struct Pair {
    student: [usize; 5],
    teacher: [usize; 5],
    first: usize,
    images: usize,
}

impl Pair {
    fn new(student: &CubeTensor, teacher: &CubeTensor) -> Self {
        let student = student.meta.shape().dims();
        Self { student, teacher: teacher.meta.shape().dims(), first: 0, images: student[0] }
    }

    /// Whether the shaders take it.
    fn fits(&self) -> bool {
        let heads = [self.student, self.teacher].into_iter().all(|[.., heads, size]| heads > 0 && size > 0);
        heads && fits(self.student[4])
    }

    /// Launches a pass over E with tiles of `side` rows: a gang of invocations for each image and tile.
    fn launch_map(self, pass: Pass, side: usize, buffers: &[&CubeTensor]) {
        let tiles = self.images * self.student[1].div_ceil(side).pow(2);
        let mut scalars = vec![Scalar::Count(self.student[1]), Scalar::Count(tiles), Scalar::Count(self.first)];
        for [.., heads, size] in [self.student, self.teacher] {
            scalars.extend([Scalar::Count(heads), Scalar::Count(size), Scalar::Real(scale(size))]);
        }
        launch(pass.shader(1, side), tiles.div_ceil(gangs(side)), buffers, &scalars);
    }

    /// Rows of a tile of such a pass by a count.
    fn sizes(self, pass: Pass) -> Sizes {
        let [[_, tokens, _, heads, size], [.., teacher_heads, teacher_size]] = [self.student, self.teacher];
        let (numbers, heads) = match pass {
            Pass::Squares | Pass::Map => (heads * size + teacher_heads * teacher_size, 1),
            Pass::Query | Pass::Key => (size, heads),
        };
        Sizes { pass: pass.file(), numbers, tokens, heads: self.images * heads, half: false }
    }

    /// Launches a pass over the student's heads: a gang for each image, head and tile of rows.
    fn launch(self, pass: Pass, buffers: &[&CubeTensor]) {
        let [_, tokens, _, heads, size] = self.student;
        launch_tiled(
            self.sizes(pass),
            buffers,
            move |side| pass.fits(side, size),
            move |side, buffers| {
                if matches!(pass, Pass::Map) {
                    return self.launch_map(pass, side, buffers);
                }
                let tiles = self.images * heads * tokens.div_ceil(side);
                let scalars = [
                    Scalar::Count(tokens),
                    Scalar::Count(heads),
                    Scalar::Count(tiles),
                    Scalar::Real(scale(size)),
                    Scalar::Count(self.first),
                ];
                launch(pass.shader(size, side), tiles.div_ceil(gangs(side)), buffers, &scalars);
            },
        );
    }
}

pub(super) fn wgsl_forward(
    student: FloatTensor<CubeBackend>,
    student_levels: FloatTensor<CubeBackend>,
    teacher: FloatTensor<CubeBackend>,
    teacher_levels: FloatTensor<CubeBackend>,
) -> FloatTensor<CubeBackend> {
    let pair = Pair::new(&student, &teacher);
    if !runs_wgsl(pair.fits(), &[&student, &student_levels, &teacher, &teacher_levels]) {
        return portable_forward::<CubeBackend>(student, student_levels, teacher, teacher_levels);
    }
    let [student, student_levels, teacher, teacher_levels] =
        [student, student_levels, teacher, teacher_levels].map(contiguous);
    let [batch, tokens, ..] = pair.student;
    // How many sums a row has follows from the tiles: so these are counted.
    let side = pair.sizes(Pass::Squares).counted(|_| true);
    let parts = output(&student, [batch, tokens.div_ceil(side), tokens]);
    pair.launch_map(Pass::Squares, side, &[&student, &teacher, &student_levels, &teacher_levels, &parts]);
    let rows = if tokens > side { CubeBackend::float_sum_dim(parts, 1) } else { parts };
    CubeBackend::float_reshape(rows, Shape::new([batch, tokens]))
}

pub(super) fn wgsl_backward(
    student: FloatTensor<CubeBackend>,
    student_levels: FloatTensor<CubeBackend>,
    teacher: FloatTensor<CubeBackend>,
    teacher_levels: FloatTensor<CubeBackend>,
    d_rows: FloatTensor<CubeBackend>,
) -> FloatTensor<CubeBackend> {
    let pair = Pair::new(&student, &teacher);
    if !runs_wgsl(pair.fits(), &[&student, &student_levels, &teacher, &teacher_levels, &d_rows]) {
        return portable_backward::<CubeBackend>(student, student_levels, teacher, teacher_levels, d_rows);
    }
    let [student, student_levels, teacher, teacher_levels, d_rows] =
        [student, student_levels, teacher, teacher_levels, d_rows].map(contiguous);
    let [batch, tokens, _, heads, _] = pair.student;
    let d_student = output(&student, pair.student);
    let most = (MOST_OF_MAP / (tokens * tokens).max(1)).clamp(1, batch.max(1));
    let map = output(&student, [most, tokens, tokens]);
    let delta = output(&student, [most, heads, tokens]);
    for first in (0..batch).step_by(most) {
        let pair = Pair { first, images: most.min(batch - first), ..pair };
        pair.launch(Pass::Map, &[&student, &teacher, &student_levels, &teacher_levels, &map]);
        pair.launch(Pass::Query, &[&student, &student_levels, &map, &d_rows, &d_student, &delta]);
        pair.launch(Pass::Key, &[&student, &student_levels, &map, &d_rows, &delta, &d_student]);
    }
    d_student
}

/// Every instance over common head sizes.
pub(super) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for side in SIDES {
        shaders.extend([Pass::Squares, Pass::Map].map(|pass| pass.shader(1, side)));
        for head_size in [1, 7, 16, 32, 48, 64, 80, 128] {
            let fitting = [Pass::Query, Pass::Key].into_iter().filter(|pass| pass.fits(side, head_size));
            shaders.extend(fitting.map(|pass| pass.shader(head_size, side)));
        }
    }
    shaders
}

// ---- Gradient

#[derive(Debug)]
struct MapDifferenceBackward;

impl<B: KernelBackend> Backward<B, 1> for MapDifferenceBackward {
    /// The student by its node, its levels, the teacher, its levels.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (student, student_levels, teacher, teacher_levels) = ops.state;
        let d_rows = grads.consume::<B>(&ops.node);
        let student = checkpointer.retrieve_node_output::<FloatTensor<B>>(student);
        let [node] = ops.parents;
        if let Some(node) = node {
            let gradient = B::map_difference_backward(student, student_levels, teacher, teacher_levels, d_rows);
            grads.register::<B>(node.id, gradient);
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    student: FloatTensor<Autodiff<B, C>>,
    student_levels: FloatTensor<Autodiff<B, C>>,
    teacher: FloatTensor<Autodiff<B, C>>,
    teacher_levels: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let [student_levels, teacher, teacher_levels] =
        [student_levels, teacher, teacher_levels].map(|tensor| tensor.into_primitive());
    match MapDifferenceBackward.prepare::<C>([student.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&student), student_levels.clone(), teacher.clone(), teacher_levels.clone());
            let rows = B::map_difference(student.into_primitive(), student_levels, teacher, teacher_levels);
            prep.finish(state, rows)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::map_difference(student.into_primitive(), student_levels, teacher, teacher_levels))
        }
    }
}
