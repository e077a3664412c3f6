//! In a build whose matrix products on wgpu are one shader, that shader also adds the bias. Other builds use the portable
//! definition.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Shape, TensorMetadata};

use super::portable::{self, flat};
use super::{Linear, LinearGradient};
use crate::op::matmul::wgsl::{BY_SHADER, product};

/// Multiplies each row of `x` with one matrix.
fn by_rows(
    x: FloatTensor<CubeBackend>,
    weight: FloatTensor<CubeBackend>,
    bias: Option<FloatTensor<CubeBackend>>,
) -> FloatTensor<CubeBackend> {
    let (mut shape, [_, columns]) = (x.shape(), weight.shape().dims());
    let last = shape.num_dims() - 1;
    shape[last] = columns;
    CubeBackend::float_reshape(product(flat::<CubeBackend>(x).0, weight, bias), shape)
}

impl Linear for CubeBackend {
    fn linear_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        if BY_SHADER { by_rows(x, weight, Some(bias)) } else { portable::forward::<Self>(x, weight, bias) }
    }
}

impl LinearGradient for CubeBackend {
    fn linear_backward_x(weight: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        if BY_SHADER {
            by_rows(dy, Self::float_transpose(weight), None)
        } else {
            portable::backward_x::<Self>(weight, dy)
        }
    }

    fn linear_backward_parameters(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if !BY_SHADER {
            return portable::backward_parameters::<Self>(x, dy);
        }
        let ((x, _), (dy, [_, columns])) = (flat::<Self>(x), flat::<Self>(dy));
        let d_bias = Self::float_reshape(Self::float_sum_dim(dy.clone(), 0), Shape::new([columns]));
        (product(Self::float_transpose(x), dy, None), d_bias)
    }
}
