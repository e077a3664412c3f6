//! Burn's layers run by this crate's operations. The parameters are Burn's; what is done with them is ours.

use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;

use crate::op;

/// `x W + b`, or `x W` of a layer without a bias.
pub(crate) fn project<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let weight = layer.weight.val();
    if let Some(bias) = &layer.bias {
        return op::linear(x, weight, bias.val());
    }
    let [inputs, outputs] = weight.dims();
    let mut shape = x.dims();
    shape[D - 1] = outputs;
    let rows = x.dims()[..D - 1].iter().product();
    op::matmul(x.reshape([rows, inputs]), weight).reshape(shape)
}

/// Layer normalisation; Burn keeps its epsilon to itself.
pub(super) fn normalise<const D: usize>(norm: &LayerNorm, x: Tensor<D>, eps: f64) -> Tensor<D> {
    let [gamma, beta] = gain_and_shift(norm);
    op::layer_norm(x, gamma, beta, eps as f32)
}

/// `x` plus what `layer` makes of `h`, and that sum normalised.
pub(super) fn add_and_normalise<const D: usize>(
    x: Tensor<D>,
    layer: &Linear,
    h: Tensor<D>,
    norm: &LayerNorm,
    eps: f64,
) -> [Tensor<D>; 2] {
    // A page has no room to load a second way of doing the same.
    #[cfg(feature = "native")]
    if let Some(bias) = &layer.bias {
        let [gamma, beta] = gain_and_shift(norm);
        return op::residual_norm(x, h, layer.weight.val(), [bias.val(), gamma, beta], eps as f32);
    }
    let sum = x + project(layer, h);
    [sum.clone(), normalise(norm, sum, eps)]
}

fn gain_and_shift(norm: &LayerNorm) -> [Tensor<1>; 2] {
    let gamma = norm.gamma.val();
    let beta = norm.beta.as_ref().map_or_else(|| gamma.zeros_like(), |beta| beta.val());
    [gamma, beta]
}
