//! The definition in tensor operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Shape, TensorMetadata};

/// The gradients of `x`, `gamma` and `beta`.
pub(in crate::op) type Three<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

pub(in crate::op) fn forward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    eps: f32,
) -> FloatTensor<B> {
    B::layer_norm(x, gamma, Some(beta), f64::from(eps))
}

/// Gradients of `x`, `gamma` and `beta`.
pub(in crate::op) fn backward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    dy: FloatTensor<B>,
    eps: f32,
) -> Three<B> {
    let shape = x.shape();
    let columns = shape[shape.num_dims() - 1];
    let rows = shape.num_elements() / columns.max(1);
    let flat = |tensor| B::float_reshape(tensor, Shape::new([rows, columns]));
    let (x, dy) = (flat(x), flat(dy));
    let centred = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, eps.into()));
    let normal = B::float_div(centred, deviation.clone());
    let g = B::float_mul(dy.clone(), B::float_reshape(gamma, Shape::new([1, columns])));
    let along = B::float_mean_dim(B::float_mul(g.clone(), normal.clone()), 1);
    let across = B::float_sub(g.clone(), B::float_mean_dim(g, 1));
    let dx = B::float_div(B::float_sub(across, B::float_mul(normal.clone(), along)), deviation);
    let over_rows = |tensor| B::float_reshape(B::float_sum_dim(tensor, 0), Shape::new([columns]));
    let d_gamma = over_rows(B::float_mul(dy.clone(), normal));
    (B::float_reshape(dx, shape), d_gamma, over_rows(dy))
}
