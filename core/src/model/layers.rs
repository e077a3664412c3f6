//! Burn's layers, computed with this crate's operations. Only the parameters are Burn's.

use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;

use crate::op;

/// `x W + b`, or `x W` if the layer has no bias.
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

/// Layer normalisation. `eps` is a parameter, because Burn's layer does not make its epsilon public.
pub(super) fn normalise<const D: usize>(norm: &LayerNorm, x: Tensor<D>, eps: f64) -> Tensor<D> {
    let [gamma, beta] = gain_and_shift(norm);
    op::layer_norm(x, gamma, beta, eps as f32)
}

/// The sum of `x` and `layer` applied to `h`, and this sum normalised.
pub(super) fn add_and_normalise<const D: usize>(
    x: Tensor<D>,
    layer: &Linear,
    h: Tensor<D>,
    norm: &LayerNorm,
    eps: f64,
) -> [Tensor<D>; 2] {
    // The page is built without the operation, to keep it small.
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
