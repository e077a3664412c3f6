//! The definition: Burn's own operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Shape, TensorMetadata};

/// `[rows, K]` of a tensor of `[.., K]`.
pub(in crate::op) fn flat<B: Backend>(tensor: FloatTensor<B>) -> (FloatTensor<B>, [usize; 2]) {
    let shape = tensor.shape();
    let columns = shape[shape.num_dims() - 1];
    let rows = shape.num_elements() / columns.max(1);
    (B::float_reshape(tensor, Shape::new([rows, columns])), [rows, columns])
}

pub(in crate::op) fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    B::linear(x, weight, Some(bias))
}

/// The gradient of `x`.
pub(in crate::op) fn backward_x<B: Backend>(weight: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    B::linear_x_backward(weight, dy)
}

/// The gradients of `weight` and `bias`.
pub(in crate::op) fn backward_parameters<B: Backend>(
    x: FloatTensor<B>,
    dy: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    (B::linear_weight_backward(x, dy.clone()), B::linear_bias_backward(dy))
}
