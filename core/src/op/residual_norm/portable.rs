//! The definition: the separate parts, each as the backend implements it.

use burn::backend::tensor::FloatTensor;

use crate::op::layer_norm::{LayerNorm, LayerNormGradient};
use crate::op::linear::{Linear, LinearGradient};

/// The sum, and the normalised sum.
pub(super) type Two<B> = (FloatTensor<B>, FloatTensor<B>);

/// The gradients of `x`, `h`, `weight`, `bias`, `gamma` and `beta`.
pub(super) type Six<B> =
    (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

pub(super) fn forward<B: Linear + LayerNorm>(
    x: FloatTensor<B>,
    h: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    eps: f32,
) -> Two<B> {
    let sum = B::float_add(x, B::linear_forward(h, weight, bias));
    (sum.clone(), B::layer_norm_forward(sum, gamma, beta, eps))
}

/// The gradients of `x`, `h`, `weight`, `bias`, `gamma` and `beta`.
pub(super) fn backward<B: LinearGradient + LayerNormGradient>(
    h: FloatTensor<B>,
    weight: FloatTensor<B>,
    sum: FloatTensor<B>,
    gamma: FloatTensor<B>,
    d_sum: FloatTensor<B>,
    dy: FloatTensor<B>,
    eps: f32,
) -> Six<B> {
    let (dx, d_gamma, d_beta) = B::layer_norm_backward(sum, gamma, dy, eps);
    let dx = B::float_add(dx, d_sum);
    let dh = B::linear_backward_x(weight, dx.clone());
    let (d_weight, d_bias) = B::linear_backward_parameters(h, dx.clone());
    (dx, dh, d_weight, d_bias, d_gamma, d_beta)
}
