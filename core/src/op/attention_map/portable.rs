//! The definition in tensor operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Shape, TensorMetadata};

use crate::op::attention::portable::{swap, unpack};
use crate::op::matmul::Matmul;

/// Rows `[B, N]` and E `[B, N, N]`.
pub(super) type Difference<B> = (FloatTensor<B>, FloatTensor<B>);

/// `D^-½`.
pub(super) fn scale(head_size: usize) -> f32 {
    1.0 / libm::sqrtf(head_size as f32)
}

/// Probabilities `[B, H, N, N]`.
fn probabilities<B: Matmul>(qkv: FloatTensor<B>, lse: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let [q, k, _] = unpack::<B>(qkv);
    let scores = B::matmul(B::float_mul_scalar(q, scale(head_size).into()), B::float_transpose(k));
    let lse = B::float_reshape(lse, Shape::new([batch, heads, tokens, 1]));
    B::float_exp(B::float_sub(scores, lse))
}

/// The map `[B, N, N]`.
pub(super) fn map<B: Matmul>(qkv: FloatTensor<B>, lse: FloatTensor<B>) -> FloatTensor<B> {
    let [batch, tokens, ..] = qkv.shape().dims::<5>();
    let mean = B::float_mean_dim(probabilities::<B>(qkv, lse), 1);
    B::float_reshape(mean, Shape::new([batch, tokens, tokens]))
}

pub(super) fn forward<B: Matmul>(qkv: FloatTensor<B>, lse: FloatTensor<B>, target: FloatTensor<B>) -> Difference<B> {
    let [batch, tokens, ..] = qkv.shape().dims::<5>();
    let e = B::float_sub(map::<B>(qkv, lse), target);
    let rows = B::float_sum_dim(B::float_mul(e.clone(), e.clone()), 2);
    (B::float_reshape(rows, Shape::new([batch, tokens])), e)
}

/// The gradient of `qkv`, zero at its values.
pub(super) fn backward<B: Matmul>(
    qkv: FloatTensor<B>,
    lse: FloatTensor<B>,
    e: FloatTensor<B>,
    d_rows: FloatTensor<B>,
) -> FloatTensor<B> {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let p = probabilities::<B>(qkv.clone(), lse);
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
