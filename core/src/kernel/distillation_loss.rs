//! Cross-entropy and distillation losses of a student's logits, one reading of the rows a direction.
//!
//! Why: composed of tensor operations, label-smoothed cross-entropy and a temperature-softened divergence are about
//! twenty passes over the logits, and in a browser a full sum is one invocation's work. Here a row is a workgroup's.
//!
//! For a row of student logits `z`, teacher logits `w`, targets `t` (a probability distribution), temperature `τ` and
//! smoothing `ε` (Hinton 2015, section 2; Szegedy 2016, section 7):
//!
//! ```text
//! t' = (1 - ε) t + ε / C
//! column 0 = - Σ_c t'_c log_softmax(z)_c                                   cross-entropy
//! column 1 = Σ_c p_c (log p_c - log_softmax(z / τ)_c),  p = softmax(w / τ)   KL(σ(w/τ) ‖ σ(z/τ))
//! ```
//!
//! and backward for the student alone, given the rows' gradients `d0`, `d1`:
//!
//! ```text
//! dz = d0 ((Σ t') softmax(z) - t') + d1 / τ (softmax(z / τ) - p)
//! ```
//!
//! Invariants
//! * A class of weight 0 adds nothing, whatever its logit: `0 · ∞` never arises.
//! * Peaks are subtracted first, so finite logits of any size give finite sums; a difference that overflows is minus
//!   infinity, whose softmax is 0.
//! * Logits without a softmax (a NaN, plus infinity, minus infinity throughout) make their own row NaN, and its gradient,
//!   and nothing else.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, Shape, Slice, TensorMetadata, get_or_init_device_settings};
use burn::tensor::Tensor;

use super::backend::KernelBackend;
use super::launch::{ROW_REDUCE, Scalar, Shader, contiguous, launch, output, runs_wgsl, wgsl};

/// Two losses of each row: `[B, 2]`, column 0 the cross-entropy, column 1 the divergence from the teacher.
///
/// `student`, `teacher` and `targets` are `[B, C]`; each row of `targets` is a probability distribution (one-hot or
/// mixed), smoothed here by `smoothing`. Column 1 is summed over the classes and carries **neither the factor `τ²` nor a
/// normalisation over the batch**: for Hinton's loss multiply by `τ²` and take the mean over rows ("batchmean"), or divide
/// further by `C` ("numel"). Gradients flow to the student's logits only; teacher and targets are constants.
///
/// # Panics
/// If the shapes differ, `temperature` is not a positive number, or `smoothing` lies outside `[0, 1]`.
pub fn distillation_loss(
    student: Tensor<2>,
    teacher: Tensor<2>,
    targets: Tensor<2>,
    temperature: f32,
    smoothing: f32,
) -> Tensor<2> {
    assert_eq!(student.dims(), teacher.dims(), "distillation_loss: student and teacher must both be [B, C]");
    assert_eq!(student.dims(), targets.dims(), "distillation_loss: student and targets must both be [B, C]");
    assert!(
        temperature > 0.0 && temperature.is_finite(),
        "distillation_loss: the temperature must be positive, and is {temperature}"
    );
    check_smoothing(smoothing);
    Tensor::from_dispatch(Dispatch::distillation_loss(
        student.into_dispatch(),
        teacher.into_dispatch(),
        targets.into_dispatch(),
        temperature,
        smoothing,
    ))
}

/// Cross-entropy of each row: `[B]`, column 0 of [`distillation_loss`] without a teacher.
///
/// `student` and `targets` are `[B, C]`. No normalisation over the batch; gradients flow to the student only.
///
/// # Panics
/// If the shapes differ or `smoothing` lies outside `[0, 1]`.
pub fn cross_entropy(student: Tensor<2>, targets: Tensor<2>, smoothing: f32) -> Tensor<1> {
    assert_eq!(student.dims(), targets.dims(), "cross_entropy: student and targets must both be [B, C]");
    check_smoothing(smoothing);
    Tensor::from_dispatch(Dispatch::cross_entropy(student.into_dispatch(), targets.into_dispatch(), smoothing))
}

fn check_smoothing(smoothing: f32) {
    assert!((0.0..=1.0).contains(&smoothing), "label smoothing must lie in [0, 1], and is {smoothing}");
}

/// Shape of the two losses, from that of the logits.
#[cfg(feature = "fusion")]
pub(super) fn rows_shape(student: &Shape) -> Shape {
    Shape::new([student[0], 2])
}

/// Shape of the cross-entropies alone.
#[cfg(feature = "fusion")]
pub(super) fn row_shape(student: &Shape) -> Shape {
    Shape::new([student[0]])
}

// ---- Portable definition

/// `log_softmax(z / τ)` and the logarithm `[B, 1]` of its sum.
fn log_softmax<B: Backend>(logits: FloatTensor<B>, temperature: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let peak = B::float_max_dim(logits.clone(), 1);
    let mut shifted = B::float_sub(logits, peak);
    if temperature != 1.0 {
        shifted = B::float_mul_scalar(shifted, (1.0 / temperature).into());
    }
    let log_sum = B::float_log(B::float_sum_dim(B::float_exp(shifted.clone()), 1));
    (B::float_sub(shifted, log_sum.clone()), log_sum)
}

fn smoothed<B: Backend>(targets: FloatTensor<B>, smoothing: f32) -> FloatTensor<B> {
    if smoothing == 0.0 {
        return targets;
    }
    let [_, classes] = targets.shape().dims();
    let targets = B::float_mul_scalar(targets, (1.0 - smoothing).into());
    B::float_add_scalar(targets, (smoothing / classes as f32).into())
}

/// `Σ_c weights · values` as `[B, 1]`, where a weight of 0 adds nothing.
fn weigh<B: Backend>(weights: FloatTensor<B>, values: FloatTensor<B>) -> FloatTensor<B> {
    let bool_dtype = get_or_init_device_settings::<B>(&weights.device()).bool_dtype;
    let nothing = B::float_equal_elem(weights.clone(), 0.0.into(), bool_dtype);
    let terms = B::float_mask_fill(B::float_mul(weights, values), nothing, 0.0.into());
    B::float_sum_dim(terms, 1)
}

/// Cross-entropies `[B, 1]`.
fn cross_entropies<B: Backend>(student: FloatTensor<B>, targets: FloatTensor<B>, smoothing: f32) -> FloatTensor<B> {
    let (log_q, log_sum) = log_softmax::<B>(student, 1.0);
    let loss = B::float_neg(weigh::<B>(smoothed::<B>(targets, smoothing), log_q));
    // Logits without a softmax make the row NaN even where no target has weight; otherwise this adds 0.
    B::float_add(loss, B::float_mul_scalar(log_sum, 0.0.into()))
}

pub(super) fn portable_forward<B: Backend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    targets: FloatTensor<B>,
    temperature: f32,
    smoothing: f32,
) -> FloatTensor<B> {
    let entropy = cross_entropies::<B>(student.clone(), targets, smoothing);
    let (log_q, _) = log_softmax::<B>(student, temperature);
    let (log_p, _) = log_softmax::<B>(teacher, temperature);
    let divergence = weigh::<B>(B::float_exp(log_p.clone()), B::float_sub(log_p, log_q));
    B::float_cat(vec![entropy, divergence], 1)
}

pub(super) fn portable_cross_entropy<B: Backend>(
    student: FloatTensor<B>,
    targets: FloatTensor<B>,
    smoothing: f32,
) -> FloatTensor<B> {
    let [batch, _] = student.shape().dims();
    B::float_reshape(cross_entropies::<B>(student, targets, smoothing), Shape::new([batch]))
}

/// `softmax(z / τ)`.
fn softmax<B: Backend>(logits: FloatTensor<B>, temperature: f32) -> FloatTensor<B> {
    B::float_exp(log_softmax::<B>(logits, temperature).0)
}

/// Gradient of the cross-entropies, from theirs `[B, 1]`.
fn entropy_gradient<B: Backend>(
    student: FloatTensor<B>,
    targets: FloatTensor<B>,
    d_entropy: FloatTensor<B>,
    smoothing: f32,
) -> FloatTensor<B> {
    let targets = smoothed::<B>(targets, smoothing);
    let mass = B::float_sum_dim(targets.clone(), 1);
    let slope = B::float_sub(B::float_mul(softmax::<B>(student, 1.0), mass), targets);
    B::float_mul(slope, d_entropy)
}

pub(super) fn portable_backward<B: Backend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    targets: FloatTensor<B>,
    d_rows: FloatTensor<B>,
    temperature: f32,
    smoothing: f32,
) -> FloatTensor<B> {
    let column = |c: usize| B::float_slice(d_rows.clone(), &[Slice::full(), Slice::from(c..c + 1)]);
    let gradient = entropy_gradient::<B>(student.clone(), targets, column(0), smoothing);
    let slope = B::float_sub(softmax::<B>(student, temperature), softmax::<B>(teacher, temperature));
    let d_divergence = B::float_mul_scalar(column(1), (1.0 / temperature).into());
    B::float_add(gradient, B::float_mul(slope, d_divergence))
}

pub(super) fn portable_cross_entropy_backward<B: Backend>(
    student: FloatTensor<B>,
    targets: FloatTensor<B>,
    d_rows: FloatTensor<B>,
    smoothing: f32,
) -> FloatTensor<B> {
    let [batch, _] = student.shape().dims();
    let d_entropy = B::float_reshape(d_rows, Shape::new([batch, 1]));
    entropy_gradient::<B>(student, targets, d_entropy, smoothing)
}

// ---- WGSL

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Backward,
}

/// Invocations of a row and of a workgroup. A short row leaves most of a wide group idle, so rows share one; a long row
/// takes a whole group of the largest size that every device has.
fn layout(classes: usize) -> (usize, usize) {
    match classes {
        0..=64 => (8, 128),
        65..=512 => (32, 128),
        _ => (256, 256),
    }
}

impl Direction {
    fn shader(self, classes: usize, teacher: bool) -> Shader {
        let (lanes, threads) = layout(classes);
        const ROWS: &str = wgsl!("logit_rows.wgsl");
        let (file, texts): (_, &'static [&'static str]) = match self {
            Direction::Forward => ("distillation_loss", &[wgsl!("distillation_loss.wgsl"), ROWS, ROW_REDUCE]),
            Direction::Backward => {
                ("distillation_loss_backward", &[wgsl!("distillation_loss_backward.wgsl"), ROWS, ROW_REDUCE])
            }
        };
        Shader::new(file, texts, threads).value("lanes", lanes).flag("teacher", teacher).over_rows()
    }

    /// Launches the pass over `buffers`; without a `temperature` there is no teacher among them.
    fn launch(
        self,
        [rows, classes]: [usize; 2],
        buffers: &[&FloatTensor<CubeBackend>],
        temperature: Option<f32>,
        smoothing: f32,
    ) {
        let (lanes, threads) = layout(classes);
        let scalars = [
            Scalar::Count(rows),
            Scalar::Count(classes),
            Scalar::Real(smoothing),
            Scalar::Real(1.0 / temperature.unwrap_or(1.0)),
            Scalar::Real(f32::NAN),
        ];
        let shader = self.shader(classes, temperature.is_some());
        launch(shader, rows.div_ceil(threads / lanes), buffers, &scalars);
    }
}

pub(super) fn wgsl_forward(
    student: FloatTensor<CubeBackend>,
    teacher: FloatTensor<CubeBackend>,
    targets: FloatTensor<CubeBackend>,
    temperature: f32,
    smoothing: f32,
) -> FloatTensor<CubeBackend> {
    if !runs_wgsl(true, &[&student, &teacher, &targets]) {
        return portable_forward::<CubeBackend>(student, teacher, targets, temperature, smoothing);
    }
    let [student, teacher, targets] = [student, teacher, targets].map(contiguous);
    let shape: [usize; 2] = student.meta.shape().dims();
    let rows = output(&student, [shape[0], 2]);
    Direction::Forward.launch(shape, &[&student, &targets, &rows, &teacher], Some(temperature), smoothing);
    rows
}

pub(super) fn wgsl_backward(
    student: FloatTensor<CubeBackend>,
    teacher: FloatTensor<CubeBackend>,
    targets: FloatTensor<CubeBackend>,
    d_rows: FloatTensor<CubeBackend>,
    temperature: f32,
    smoothing: f32,
) -> FloatTensor<CubeBackend> {
    if !runs_wgsl(true, &[&student, &teacher, &targets, &d_rows]) {
        return portable_backward::<CubeBackend>(student, teacher, targets, d_rows, temperature, smoothing);
    }
    let [student, teacher, targets, d_rows] = [student, teacher, targets, d_rows].map(contiguous);
    let shape: [usize; 2] = student.meta.shape().dims();
    let d_student = output(&student, shape);
    let buffers = [&student, &targets, &d_rows, &d_student, &teacher];
    Direction::Backward.launch(shape, &buffers, Some(temperature), smoothing);
    d_student
}

pub(super) fn wgsl_cross_entropy(
    student: FloatTensor<CubeBackend>,
    targets: FloatTensor<CubeBackend>,
    smoothing: f32,
) -> FloatTensor<CubeBackend> {
    if !runs_wgsl(true, &[&student, &targets]) {
        return portable_cross_entropy::<CubeBackend>(student, targets, smoothing);
    }
    let [student, targets] = [student, targets].map(contiguous);
    let shape: [usize; 2] = student.meta.shape().dims();
    let rows = output(&student, [shape[0]]);
    Direction::Forward.launch(shape, &[&student, &targets, &rows], None, smoothing);
    rows
}

pub(super) fn wgsl_cross_entropy_backward(
    student: FloatTensor<CubeBackend>,
    targets: FloatTensor<CubeBackend>,
    d_rows: FloatTensor<CubeBackend>,
    smoothing: f32,
) -> FloatTensor<CubeBackend> {
    if !runs_wgsl(true, &[&student, &targets, &d_rows]) {
        return portable_cross_entropy_backward::<CubeBackend>(student, targets, d_rows, smoothing);
    }
    let [student, targets, d_rows] = [student, targets, d_rows].map(contiguous);
    let shape: [usize; 2] = student.meta.shape().dims();
    let d_student = output(&student, shape);
    Direction::Backward.launch(shape, &[&student, &targets, &d_rows, &d_student], None, smoothing);
    d_student
}

/// Every instance: each layout, with and without a teacher, both directions.
pub(super) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for classes in [10, 100, 1000] {
        for teacher in [true, false] {
            for direction in [Direction::Forward, Direction::Backward] {
                shaders.push(direction.shader(classes, teacher));
            }
        }
    }
    shaders
}

// ---- Gradients

#[derive(Debug)]
struct DistillationLossBackward;

impl<B: KernelBackend> Backward<B, 1> for DistillationLossBackward {
    /// The student's logits by their node, the teacher's, the targets, temperature, smoothing.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>, f32, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (student, teacher, targets, temperature, smoothing) = ops.state;
        let d_rows = grads.consume::<B>(&ops.node);
        let student = checkpointer.retrieve_node_output::<FloatTensor<B>>(student);
        let [node] = ops.parents;
        if let Some(node) = node {
            let gradient = B::distillation_loss_backward(student, teacher, targets, d_rows, temperature, smoothing);
            grads.register::<B>(node.id, gradient);
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    student: FloatTensor<Autodiff<B, C>>,
    teacher: FloatTensor<Autodiff<B, C>>,
    targets: FloatTensor<Autodiff<B, C>>,
    temperature: f32,
    smoothing: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let (teacher, targets) = (teacher.into_primitive(), targets.into_primitive());
    match DistillationLossBackward.prepare::<C>([student.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let node = prep.checkpoint(&student);
            let state = (node, teacher.clone(), targets.clone(), temperature, smoothing);
            let rows = B::distillation_loss(student.into_primitive(), teacher, targets, temperature, smoothing);
            prep.finish(state, rows)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(B::distillation_loss(student.into_primitive(), teacher, targets, temperature, smoothing))
        }
    }
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl<B: KernelBackend> Backward<B, 1> for CrossEntropyBackward {
    /// The student's logits by their node, the targets, smoothing.
    type State = (NodeId, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (student, targets, smoothing) = ops.state;
        let d_rows = grads.consume::<B>(&ops.node);
        let student = checkpointer.retrieve_node_output::<FloatTensor<B>>(student);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::cross_entropy_backward(student, targets, d_rows, smoothing));
        }
    }
}

pub(super) fn tracked_cross_entropy<B: KernelBackend, C: CheckpointStrategy>(
    student: FloatTensor<Autodiff<B, C>>,
    targets: FloatTensor<Autodiff<B, C>>,
    smoothing: f32,
) -> FloatTensor<Autodiff<B, C>> {
    let targets = targets.into_primitive();
    match CrossEntropyBackward.prepare::<C>([student.node()]).compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let state = (prep.checkpoint(&student), targets.clone(), smoothing);
            prep.finish(state, B::cross_entropy(student.into_primitive(), targets, smoothing))
        }
        OpsKind::UnTracked(prep) => prep.finish(B::cross_entropy(student.into_primitive(), targets, smoothing)),
    }
}
