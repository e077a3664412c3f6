//! Attention of a block: the kernel's, or written out for what the kernel has not, which is dropout of the weights and a
//! softmax over another axis.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::trace::Tap;
use super::training::Training;
use crate::op::{self, QueriesAndKeys};

/// Which tokens the weights of attention are distributed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The keys of each query: attention.
    Keys,
    /// The queries of each key.
    #[cfg(feature = "all-models")]
    Queries,
}

/// [`op::attention()`], which leaves at `tap`, if there is one, what it was computed from. `scale` is then `D^-½`.
pub(super) fn attend(qkv: Tensor<5>, scale: f64, tap: Option<Tap<'_, '_>>) -> Tensor<4> {
    let Some(tap) = tap else { return op::attention(qkv, scale as f32) };
    let (mixed, lse) = op::attention_with_lse(qkv.clone(), scale as f32);
    tap.leave(QueriesAndKeys { packed: qkv, lse: Some(lse) });
    mixed
}

/// `dropout(softmax(scale q kᵀ)) v` of packed `[B, N, 3, H, D]`, as `[B, N, H, D]`. Keeps the weights `[B, H, N, N]` for the
/// backward pass.
pub(super) fn explicit(qkv: Tensor<5>, scale: f64, over: Over, dropout: f64, training: Option<&Training>) -> Tensor<4> {
    let [batch, tokens, _, heads, head_size] = qkv.dims();
    let part =
        |index: usize| qkv.clone().narrow(2, index, 1).reshape([batch, tokens, heads, head_size]).swap_dims(1, 2);
    let scores = op::matmul(part(0), part(1).transpose()).mul_scalar(scale);
    let axis = match over {
        Over::Keys => 3,
        #[cfg(feature = "all-models")]
        Over::Queries => 2,
    };
    let weights = drop(softmax(scores, axis), dropout, training);
    op::matmul(weights, part(2)).swap_dims(1, 2)
}

/// Dropout in a training pass; `x` as it is outside one.
pub(super) fn drop<const D: usize>(x: Tensor<D>, rate: f64, training: Option<&Training>) -> Tensor<D> {
    if training.is_none() || rate == 0.0 {
        return x;
    }
    let keep = 1.0 - rate;
    let kept = Tensor::random(x.shape(), burn::tensor::Distribution::Bernoulli(keep), &x.device().inner());
    x * kept.div_scalar(keep)
}
