//! The definition in tensor operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DType, Shape, Slice, TensorMetadata};
use burn::tensor::FloatDType;

use crate::op::matmul::Matmul;

/// The output, in the type of `qkv`, and the log-sum-exps, in `f32` if `qkv` is in half precision.
pub(super) type WithLse<B> = (FloatTensor<B>, FloatTensor<B>);

/// The type for sums of numbers of `dtype`: `F32` for half precision. In a browser, which has no half precision, the same type.
pub(super) fn summed_in(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 if !cfg!(target_family = "wasm") => DType::F32,
        dtype => dtype,
    }
}

/// Queries, keys and values, each `[B, H, N, D]`.
pub(in crate::op) fn unpack<B: Backend>(qkv: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let qkv = B::float_permute(qkv, &[2, 0, 3, 1, 4]);
    [0, 1, 2].map(|part: usize| {
        let third = B::float_slice(qkv.clone(), &[Slice::from(part..part + 1)]);
        B::float_reshape(third, Shape::new([batch, heads, tokens, head_size]))
    })
}

/// Exchanges tokens and heads: `[B, N, H, D]` and `[B, H, N, D]`.
pub(in crate::op) fn swap<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(tensor, 1, 2)
}

pub(in crate::op) fn forward<B: Matmul>(qkv: FloatTensor<B>, scale: f32) -> WithLse<B> {
    let dtype = qkv.dtype();
    if summed_in(dtype) != dtype {
        let (out, lse) = forward::<B>(B::float_cast(qkv, FloatDType::F32), scale);
        return (B::float_cast(out, dtype.into()), lse);
    }
    let [batch, tokens, _, heads, _] = qkv.shape().dims();
    let [q, k, v] = unpack::<B>(qkv);
    let scores = B::matmul(B::float_mul_scalar(q, scale.into()), B::float_transpose(k));
    let peak = B::float_max_dim(scores.clone(), 3);
    let weights = B::float_exp(B::float_sub(scores, peak.clone()));
    let sum = B::float_sum_dim(weights.clone(), 3);
    let out = B::float_div(B::matmul(weights, v), sum.clone());
    let lse = B::float_add(peak, B::float_log(sum));
    (swap::<B>(out), B::float_reshape(lse, Shape::new([batch, heads, tokens])))
}

pub(in crate::op) fn backward<B: Matmul>(
    qkv: FloatTensor<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    d_out: FloatTensor<B>,
    scale: f32,
) -> FloatTensor<B> {
    let dtype = qkv.dtype();
    if summed_in(dtype) != dtype {
        let [qkv, out, d_out] = [qkv, out, d_out].map(|tensor| B::float_cast(tensor, FloatDType::F32));
        return B::float_cast(backward::<B>(qkv, out, lse, d_out, scale), dtype.into());
    }
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let delta = B::float_sum_dim(B::float_mul(d_out.clone(), out), 3);
    let (delta, d_out) = (swap::<B>(delta), swap::<B>(d_out));
    let lse = B::float_reshape(lse, Shape::new([batch, heads, tokens, 1]));
    let [q, k, v] = unpack::<B>(qkv);
    let q = B::float_mul_scalar(q, scale.into());
    let scores = B::matmul(q.clone(), B::float_transpose(k.clone()));
    let p = B::float_exp(B::float_sub(scores, lse));
    let dv = B::matmul(B::float_transpose(p.clone()), d_out.clone());
    let dp = B::matmul(d_out, B::float_transpose(v));
    let ds = B::float_mul(p, B::float_sub(dp, delta));
    let dk = B::matmul(B::float_transpose(ds.clone()), q);
    let dq = B::float_mul_scalar(B::matmul(ds, k), scale.into());
    let parts =
        [dq, dk, dv].map(|part| B::float_reshape(swap::<B>(part), Shape::new([batch, tokens, 1, heads, head_size])));
    B::float_cat(parts.into(), 2)
}
