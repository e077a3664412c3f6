//! Attention of packed queries, keys and values. The backward pass keeps nothing of size `N x N`.
//!
//! Why packed: the linear layer before attention writes `[B, N, 3, H, D]`. A kernel that reads this layout needs one buffer and
//! no copies of three tensors. The gradient has the same layout.
//!
//! For each image and head, with rows `i` of queries and `j` of keys (Vaswani 2017, section 3.2.1):
//!
//! ```text
//! s_ij = scale * q_i . k_j      lse_i = log sum_j exp s_ij      p_ij = exp(s_ij - lse_i)      o_i = sum_j p_ij v_j
//! ```
//!
//! and backward, given `do` (Dao 2022, appendix B.2):
//!
//! ```text
//! delta_i = do_i . o_i        ds_ij = p_ij (do_i . v_j - delta_i)
//! dq_i = scale sum_j ds_ij k_j        dk_j = scale sum_i ds_ij q_i        dv_j = sum_i p_ij do_i
//! ```
//!
//! Invariants: the backward pass reads `qkv`, the output and one log-sum-exp for each row, and computes the probabilities again.
//! The owner of a query sums the query's gradient. The owner of a key sums the gradients of the key and its value. So no sum has
//! two writers.

pub(super) mod cases;
pub(super) mod cpu;
pub(super) mod portable;
pub(super) mod wgsl;

#[cfg(feature = "fusion")]
use burn::backend::Shape;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::gradient::track;
use super::matmul::Matmul;

/// Attention over packed queries, keys and values: `softmax(scale q kᵀ) v` of each head.
///
/// `qkv` is `[B, N, 3, H, D]`, the reshaped output of timm's linear layer for all three. The result is `[B, N, H, D]`, which can be
/// reshaped to `[B, N, H D]`. `scale` is `D^-0.5` in every known model. `N` and `D` may have any size. Heads wider than 128 use the
/// portable definition on every device.
///
/// A row with a NaN, or with a score of plus infinity, becomes NaN, and so does its gradient. Other rows of other heads do not
/// change.
///
/// # Panics
/// If the third dimension is not 3.
pub fn attention(qkv: Tensor<5>, scale: f32) -> Tensor<4> {
    attention_with_lse(qkv, scale).0
}

/// Does the same, and also returns the log-sum-exp of each row of scores, `[B, H, N]`. It is `f32` even if `qkv` is in half
/// precision. [`attention_map_loss`] computes probabilities from it. No gradient flows through it.
///
/// # Panics
/// As [`attention`].
///
/// [`attention_map_loss`]: super::attention_map_loss
pub fn attention_with_lse(qkv: Tensor<5>, scale: f32) -> (Tensor<4>, Tensor<3>) {
    let [.., parts, heads, head_size] = qkv.dims();
    assert_eq!(
        parts, 3,
        "attention: qkv must be [B, N, 3, H, D], and here dimension 2 is {parts} (H = {heads}, D = {head_size})"
    );
    let (out, lse) = Dispatch::attention_forward(qkv.into_dispatch(), scale);
    (Tensor::from_dispatch(out), Tensor::from_dispatch(lse))
}

/// The shapes of the output and of the log-sum-exps, for the lazy stream.
#[cfg(feature = "fusion")]
fn forward_specs(qkv: &TensorSpec, _scale: &f32) -> (TensorSpec, TensorSpec) {
    let [batch, tokens, _, heads, head_size] = qkv.shape.dims();
    (
        TensorSpec::new(Shape::new([batch, tokens, heads, head_size]), qkv.dtype),
        TensorSpec::new(Shape::new([batch, heads, tokens]), portable::summed_in(qkv.dtype)),
    )
}

/// Attention of packed queries, keys and values.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub(crate) trait Attention: Matmul {
    /// From `[B, N, 3, H, D]`, the output `[B, N, H, D]` and the log-sum-exp of each row `[B, H, N]`. The latter is `f32` even if
    /// `qkv` is in half precision.
    #[fusion(meta = forward_specs)]
    fn attention_forward(qkv: FloatTensor<Self>, scale: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        portable::forward::<Self>(qkv, scale)
    }
}

/// The backward pass, on devices without gradients.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait AttentionGradient: Matmul {
    /// The gradient of `qkv`, in the same layout.
    #[fusion(dtype = qkv, shape = qkv)]
    fn attention_backward(
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        d_out: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        portable::backward::<Self>(qkv, out, lse, d_out, scale)
    }
}

impl<B: Attention + AttentionGradient, C: CheckpointStrategy> Attention for Autodiff<B, C> {
    fn attention_forward(qkv: FloatTensor<Self>, scale: f32) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let forward = |qkv| {
            let (out, lse) = B::attention_forward(qkv, scale);
            (out.clone(), (out, lse, scale))
        };
        let backward = |qkv, (out, lse, scale), d_out| B::attention_backward(qkv, out, lse, d_out, scale);
        let (out, (_, lse, _)) = track::<B, C, _>(qkv, forward, backward);
        (out, Self::from_inner(lse))
    }
}
