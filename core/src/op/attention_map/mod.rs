//! The squared difference of two networks' head-averaged attention. It keeps one map for each pair of blocks.
//!
//! Why: with tensor operations, a pair of blocks keeps the student's probabilities `[B, H, N, N]` and two means `[B, N, N]` for the
//! backward pass. Attention without stored probabilities is there to save this memory.
//!
//! S is the student and T the teacher. With `P_h = softmax(D^-½ q_h k_hᵀ)` and `A = mean_h P_h`:
//!
//! ```text
//! E = A_S - A_T        rows_i = Σ_j E_ij²
//! ```
//!
//! The backward pass, for the student alone, gets the rows' gradients `g`. With `δ_hi = Σ_j P_hij E_ij`:
//!
//! ```text
//! dS_hij = 2 / H_S g_i P_hij (E_ij - δ_hi)      dq_h = D^-½ dS_h k_h      dk_h = D^-½ dS_hᵀ q_h
//! ```
//!
//! Invariants: a probability is computed from queries, keys and the row's log-sum-exp, which attention returned. Attention keeps
//! the student's queries and keys anyway. In addition, E is kept from the forward to the backward pass, `N` numbers a row. The
//! alternative would be to keep the teacher's packed queries and keys, which are larger: 2,304 numbers a row for a DeiT-B,
//! against 197 for its 197 tokens. No sum has two writers.

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

/// The inputs of attention.
#[derive(Clone, Debug)]
pub struct QueriesAndKeys {
    /// Packed queries, keys and values `[B, N, 3, H, D]`.
    pub packed: Tensor<5>,
    /// The log-sum-exps `[B, H, N]` that [`attention_with_lse`] returned for a scale of `D^-½`. If there are none, they are
    /// computed again.
    pub lse: Option<Tensor<3>>,
}

impl From<Tensor<5>> for QueriesAndKeys {
    fn from(packed: Tensor<5>) -> Self {
        Self { packed, lse: None }
    }
}

impl QueriesAndKeys {
    /// The packed tensor and the log-sum-exps. Missing log-sum-exps are computed, and the packed tensor is cast to their type.
    ///
    /// # Panics
    /// If the shapes do not fit, since shaders do not check their reads.
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

/// The attention of each token to each token, averaged over the heads: `[B, N, N]`. The sum of a row is 1. Scores are scaled by
/// `D^-½`. The result is `f32` even if queries and keys are in half precision. Heads wider than 128 use the portable definition
/// on every device. No gradient flows through it.
///
/// # Panics
/// If the third dimension is not 3, or if log-sum-exps are given that are not `[B, H, N]`.
pub fn attention_map(block: impl Into<QueriesAndKeys>) -> Tensor<3> {
    let (packed, lse) = block.into().with_lse();
    Tensor::from_dispatch(Dispatch::attention_map(packed.into_dispatch(), lse.into_dispatch()))
}

/// The mean squared difference between the student's head-averaged attention and `target`, the teacher's [`attention_map()`]
/// `[B, N, N]`. The mean is over images, rows and columns; the result is a loss `[1]`.
///
/// Gradients flow only to the student's queries and keys.
///
/// # Panics
/// As [`attention_map()`], or if the numbers of images or tokens differ.
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
    // In two stages: on adapters without float atomics, a single invocation would do a sum in one stage.
    rows.sum_dim(1).reshape([-1]).sum().div_scalar((batch * tokens * tokens) as f64)
}

/// The shape of the rows, from the shape of the packed tensor.
#[cfg(feature = "fusion")]
fn rows_shape(qkv: &Shape) -> Shape {
    Shape::new([qkv[0], qkv[1]])
}

/// The shape of the map, from the shape of the packed tensor.
#[cfg(feature = "fusion")]
fn map_shape(qkv: &Shape) -> Shape {
    Shape::new([qkv[0], qkv[1], qkv[1]])
}

/// The shapes of the rows and of E, for the lazy stream.
#[cfg(feature = "fusion")]
fn forward_specs(qkv: &TensorSpec, _lse: &TensorSpec, target: &TensorSpec) -> (TensorSpec, TensorSpec) {
    (TensorSpec::new(rows_shape(&qkv.shape), qkv.dtype), target.clone())
}

/// Head-averaged attention, and its squared difference from another network's.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait AttentionMap: Matmul {
    /// The head-averaged attention `[B, N, N]`, from packed queries, keys and values and their log-sum-exps `[B, H, N]`.
    #[fusion(dtype = qkv, shape = map_shape(qkv))]
    fn attention_map(qkv: FloatTensor<Self>, lse: FloatTensor<Self>) -> FloatTensor<Self> {
        portable::map::<Self>(qkv, lse)
    }

    /// The difference between this map and `target` `[B, N, N]`, and the sum of squares of each row `[B, N]`. No gradient flows
    /// through the difference.
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
