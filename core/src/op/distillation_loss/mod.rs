//! Cross-entropy and distillation losses of a student's logits. Each direction reads the rows once.
//!
//! Why: with tensor operations, cross-entropy with label smoothing and a divergence with a temperature are about twenty passes
//! over the logits. In a browser a single invocation would compute a full sum. Here several invocations share a row.
//!
//! For a row with student logits `z`, teacher logits `w`, targets `t` (a probability distribution), temperature `τ` and smoothing
//! `ε` (Hinton 2015, section 2; Szegedy 2016, section 7):
//!
//! ```text
//! t' = (1 - ε) t + ε / C
//! column 0 = - Σ_c t'_c log_softmax(z)_c                                   cross-entropy
//! column 1 = Σ_c p_c (log p_c - log_softmax(z / τ)_c),  p = softmax(w / τ)   KL(σ(w/τ) ‖ σ(z/τ))
//! ```
//!
//! The backward pass, for the student alone, gets the rows' gradients `d0`, `d1`:
//!
//! ```text
//! dz = d0 ((Σ t') softmax(z) - t') + d1 / τ (softmax(z / τ) - p)
//! ```
//!
//! Invariants
//! * A class of weight 0 adds nothing, whatever its logit is. `0 · ∞` is never computed.
//! * The maximum is subtracted first, so finite logits of any size give finite sums. A difference that overflows is minus
//!   infinity, and its softmax is 0.
//! * Logits that have no softmax (a NaN, plus infinity, or only minus infinity) make their own row and its gradient NaN, and no
//!   other row.

pub(super) mod cases;
mod portable;
pub(super) mod wgsl;

#[cfg(feature = "fusion")]
use burn::backend::Shape;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::gradient::track;
use portable::DistillationNumbers;

/// Two losses of each row, `[B, 2]`: column 0 is the cross-entropy, column 1 is the divergence from the teacher.
///
/// `student`, `teacher` and `targets` are `[B, C]`. Each row of `targets` is a probability distribution (one-hot or mixed), to
/// which `smoothing` is applied. Column 1 is summed over the classes. It has **neither the factor `τ²` nor a normalisation over
/// the batch**: for Hinton's loss, multiply by `τ²` and take the mean over the rows ("batchmean"), or also divide by `C`
/// ("numel"). Gradients flow only to the student's logits. Teacher and targets are constants.
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
    Tensor::from_dispatch(Dispatch::distillation_loss_forward(
        student.into_dispatch(),
        teacher.into_dispatch(),
        targets.into_dispatch(),
        DistillationNumbers { temperature, smoothing },
    ))
}

/// The cross-entropy of each row, `[B]`: column 0 of [`distillation_loss`], without a teacher.
///
/// `student` and `targets` are `[B, C]`. There is no normalisation over the batch. Gradients flow only to the student.
///
/// # Panics
/// If the shapes differ or `smoothing` lies outside `[0, 1]`.
pub fn cross_entropy(student: Tensor<2>, targets: Tensor<2>, smoothing: f32) -> Tensor<1> {
    assert_eq!(student.dims(), targets.dims(), "cross_entropy: student and targets must both be [B, C]");
    check_smoothing(smoothing);
    Tensor::from_dispatch(Dispatch::cross_entropy_forward(student.into_dispatch(), targets.into_dispatch(), smoothing))
}

fn check_smoothing(smoothing: f32) {
    assert!((0.0..=1.0).contains(&smoothing), "label smoothing must lie in [0, 1], and is {smoothing}");
}

/// The shape of the two losses, from the shape of the logits.
#[cfg(feature = "fusion")]
fn rows_shape(student: &Shape) -> Shape {
    Shape::new([student[0], 2])
}

/// The shape of the cross-entropies.
#[cfg(feature = "fusion")]
fn row_shape(student: &Shape) -> Shape {
    Shape::new([student[0]])
}

/// The losses of rows of logits.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait DistillationLoss: Backend {
    /// `[B, C]` three times to `[B, 2]`.
    #[fusion(dtype = student, shape = rows_shape(student))]
    fn distillation_loss_forward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        numbers: DistillationNumbers,
    ) -> FloatTensor<Self> {
        portable::forward::<Self>(student, teacher, targets, numbers)
    }

    /// `[B, C]` twice to `[B]`.
    #[fusion(dtype = student, shape = row_shape(student))]
    fn cross_entropy_forward(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        portable::cross_entropy::<Self>(student, targets, smoothing)
    }
}

/// The backward passes, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait DistillationLossGradient: Backend {
    /// The gradient of `student`, from the gradient `[B, 2]` of the rows.
    #[fusion(dtype = student, shape = student)]
    fn distillation_loss_backward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        numbers: DistillationNumbers,
    ) -> FloatTensor<Self> {
        portable::backward::<Self>(student, teacher, targets, d_rows, numbers)
    }

    /// The gradient of `student`, from the gradient `[B]` of the rows.
    #[fusion(dtype = student, shape = student)]
    fn cross_entropy_backward(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        portable::cross_entropy_backward::<Self>(student, targets, d_rows, smoothing)
    }
}

impl DistillationLoss for Flex {}
impl DistillationLossGradient for Flex {}

impl<B: DistillationLoss + DistillationLossGradient, C: CheckpointStrategy> DistillationLoss for Autodiff<B, C> {
    fn distillation_loss_forward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        numbers: DistillationNumbers,
    ) -> FloatTensor<Self> {
        let (teacher, targets) = (teacher.into_primitive(), targets.into_primitive());
        let forward = |student| {
            (
                B::distillation_loss_forward(student, teacher.clone(), targets.clone(), numbers),
                (teacher, targets, numbers),
            )
        };
        let backward = |student, (teacher, targets, numbers), d_rows| {
            B::distillation_loss_backward(student, teacher, targets, d_rows, numbers)
        };
        track::<B, C, _>(student, forward, backward).0
    }

    fn cross_entropy_forward(
        student: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        smoothing: f32,
    ) -> FloatTensor<Self> {
        let targets = targets.into_primitive();
        let forward = |student| (B::cross_entropy_forward(student, targets.clone(), smoothing), (targets, smoothing));
        let backward =
            |student, (targets, smoothing), d_rows| B::cross_entropy_backward(student, targets, d_rows, smoothing);
        track::<B, C, _>(student, forward, backward).0
    }
}
