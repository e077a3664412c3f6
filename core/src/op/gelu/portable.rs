//! The definition in tensor operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DType, TensorMetadata};
use burn::tensor::FloatDType;

/// `φ(0) = 1 / √(2π)`.
pub(super) const DENSITY: f32 = 0.398_942_3;

pub(super) fn forward<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    // The sums of the series need more precision than the ten bits of `f16`.
    match x.dtype() {
        DType::F16 => B::float_cast(B::gelu(B::float_cast(x, FloatDType::F32)), FloatDType::F16),
        _ => B::gelu(x),
    }
}

/// Burn's own gradient belongs to the approximation with `tanh`. It differs from this one by up to 1e-3, and is NaN for large
/// numbers.
pub(super) fn backward<B: Backend>(x: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    let times = |tensor: FloatTensor<B>, factor: f32| B::float_mul_scalar(tensor, factor.into());
    let erf = B::float_erf(times(x.clone(), std::f32::consts::FRAC_1_SQRT_2));
    let cdf = times(B::float_add_scalar(erf, 1.0_f32.into()), 0.5);
    let e = B::float_exp(times(B::float_mul(x.clone(), x.clone()), -0.5));
    let slope = B::float_add(cdf, B::float_mul(times(x, DENSITY), e));
    B::float_mul(slope, dy)
}
