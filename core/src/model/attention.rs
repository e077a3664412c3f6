//! The attention of a block. It is the kernel's, or tensor operations for the two things that the kernel does not support:
//! dropout of the weights, and a softmax over the other axis.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::trace::Tap;
use super::training::Training;
use crate::op::{self, QueriesAndKeys};

/// The axis of the softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Over the keys of each query, as usual.
    Keys,
    /// Over the queries of each key.
    #[cfg(feature = "all-models")]
    Queries,
}

/// [`op::attention()`]. If there is a `tap`, its inputs are stored there, and `scale` must be `D^-½`.
pub(super) fn attend(qkv: Tensor<5>, scale: f64, tap: Option<Tap<'_, '_>>) -> Tensor<4> {
    let Some(tap) = tap else { return op::attention(qkv, scale as f32) };
    let (mixed, lse) = op::attention_with_lse(qkv.clone(), scale as f32);
    tap.leave(QueriesAndKeys { packed: qkv, lse: Some(lse) });
    mixed
}

/// `dropout(softmax(scale q kᵀ)) v` `[B, N, H, D]` from packed `[B, N, 3, H, D]`. It keeps the weights `[B, H, N, N]` for the
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

/// Dropout in a training pass. Outside training, `x` does not change.
pub(super) fn drop<const D: usize>(x: Tensor<D>, rate: f64, training: Option<&Training>) -> Tensor<D> {
    if training.is_none() || rate == 0.0 {
        return x;
    }
    let keep = 1.0 - rate;
    let kept = Tensor::random(x.shape(), burn::tensor::Distribution::Bernoulli(keep), &x.device().inner());
    x * kept.div_scalar(keep)
}
