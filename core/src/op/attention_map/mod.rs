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
//! Invariants: a probability follows from queries, keys and the row's log-sum-exp, which attention left. Beside the
//! student's, which attention keeps anyway, E is kept from the forward to the backward pass: `N` numbers a row. Without it
//! the teacher's packed queries and keys would be, which are more: 2,304 numbers a row of a DeiT-B, at 197 tokens. No sum
//! has two writers.

pub(super) mod cases;
mod cpu;
mod portable;
pub(super) mod wgsl;

#[cfg(feature = "fusion")]
use burn::backend::Shape;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::attention::attention_with_lse;
use super::gradient::track;
use super::matmul::Matmul;
use portable::scale;

/// What attention was computed from.
#[derive(Clone, Debug)]
pub struct QueriesAndKeys {
    /// Packed queries, keys and values `[B, N, 3, H, D]`.
    pub packed: Tensor<5>,
    /// The log-sum-exps `[B, H, N]` that [`attention_with_lse`] gave with a scale of `D^-½`; without them, they are
    /// computed again.
    pub lse: Option<Tensor<3>>,
}

impl From<Tensor<5>> for QueriesAndKeys {
    fn from(packed: Tensor<5>) -> Self {
        Self { packed, lse: None }
    }
}

impl QueriesAndKeys {
    /// Both, the log-sum-exps computed if need be, and the rest of their type.
    ///
    /// # Panics
    /// If the shapes do not fit: shaders do not check their reads.
    fn with_lse(self) -> (Tensor<5>, Tensor<3>) {
        let Self { packed, lse } = self;
        let [batch, tokens, parts, heads, head_size] = packed.dims();
        assert_eq!(parts, 3, "queries and keys {:?} must be packed as [B, N, 3, H, D]", packed.dims());
        let lse = lse.unwrap_or_else(|| attention_with_lse(packed.clone().detach(), scale(head_size)).1);
        assert_eq!(lse.dims(), [batch, heads, tokens], "the log-sum-exps must be [B, H, N] of {:?}", packed.dims());
        let dtype = lse.dtype();
        (if packed.dtype() == dtype { packed } else { packed.cast(dtype) }, lse)
    }
}

/// The mean over heads of the attention of each token to each, `[B, N, N]`: a row sums to 1. Scores are scaled by `D^-½`. Of
/// `f32` also if the queries and keys are of half precision. Heads wider than 128 take the portable definition on every
/// device. No gradient flows through it.
///
/// # Panics
/// If the third dimension is not 3, or log-sum-exps are given and are not `[B, H, N]`.
pub fn attention_map(block: impl Into<QueriesAndKeys>) -> Tensor<3> {
    let (packed, lse) = block.into().with_lse();
    Tensor::from_dispatch(Dispatch::attention_map(packed.into_dispatch(), lse.into_dispatch()))
}

/// The mean over images, rows and columns of the squared difference of the student's head-averaged attention from `target`,
/// the teacher's [`attention_map()`] `[B, N, N]`; a loss `[1]`.
///
/// Gradients flow to the student's queries and keys alone.
///
/// # Panics
/// As [`attention_map()`], or if images or tokens differ in number.
pub fn attention_map_loss(student: impl Into<QueriesAndKeys>, target: Tensor<3>) -> Tensor<1> {
    let (student, lse) = student.into().with_lse();
    let [batch, tokens, ..] = student.dims();
    assert_eq!(
        target.dims(),
        [batch, tokens, tokens],
        "attention_map_loss: the target must be [B, N, N] of the student's [B, N, 3, H, D], {:?}",
        student.dims()
    );
    let target = if target.dtype() == lse.dtype() { target } else { target.cast(lse.dtype()) };
    let (lse, target) = (lse.into_dispatch(), target.into_dispatch());
    let rows = Tensor::<2>::from_dispatch(Dispatch::map_difference_forward(student.into_dispatch(), lse, target).0);
    // In two stages: a one-stage sum is a single invocation's work on adapters without float atomics.
    rows.sum_dim(1).reshape([-1]).sum().div_scalar((batch * tokens * tokens) as f64)
}

/// Shape of the rows, from that of the packed tensor.
#[cfg(feature = "fusion")]
fn rows_shape(qkv: &Shape) -> Shape {
    Shape::new([qkv[0], qkv[1]])
}

/// Shape of the map, from that of the packed tensor.
#[cfg(feature = "fusion")]
fn map_shape(qkv: &Shape) -> Shape {
    Shape::new([qkv[0], qkv[1], qkv[1]])
}

/// Shapes of the rows and of E, for the lazy stream.
#[cfg(feature = "fusion")]
fn forward_specs(qkv: &TensorSpec, _lse: &TensorSpec, target: &TensorSpec) -> (TensorSpec, TensorSpec) {
    (TensorSpec::new(rows_shape(&qkv.shape), qkv.dtype), target.clone())
}

/// Head-averaged attention, and its squared difference from another's.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait AttentionMap: Matmul {
    /// Packed queries, keys and values and their log-sum-exps `[B, H, N]` to the head-averaged attention `[B, N, N]`.
    #[fusion(dtype = qkv, shape = map_shape(qkv))]
    fn attention_map(qkv: FloatTensor<Self>, lse: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::map::<Self>(qkv, lse)
    }

    /// The same, less `target` `[B, N, N]`: the sum of squares of each row `[B, N]`, and the difference, through which no
    /// gradient flows.
    #[fusion(meta = forward_specs)]
    fn map_difference_forward(
        qkv: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::forward::<Self>(qkv, lse, target)
    }
}

/// The backward pass, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait AttentionMapGradient: Matmul {
    /// The gradient of `qkv`, from the difference and the gradient `[B, N]` of the rows.
    #[fusion(dtype = qkv, shape = qkv)]
    fn map_difference_backward(
        qkv: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        difference: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        portable::backward::<Self>(qkv, lse, difference, d_rows)
    }
}

impl<B: AttentionMap + AttentionMapGradient, C: CheckpointStrategy> AttentionMap for Autodiff<B, C> {
    fn attention_map(qkv: FloatTensor<Self>, lse: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::attention_map(qkv.into_primitive(), lse.into_primitive()))
    }

    fn map_difference_forward(
        qkv: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (lse, target) = (lse.into_primitive(), target.into_primitive());
        let forward = |qkv| {
            let (rows, difference) = B::map_difference_forward(qkv, lse.clone(), target);
            (rows, (lse, difference))
        };
        let backward = |qkv, (lse, difference), d_rows| B::map_difference_backward(qkv, lse, difference, d_rows);
        let (rows, (_, difference)) = track::<B, C, _>(qkv, forward, backward);
        (rows, Self::from_inner(difference))
    }
}
