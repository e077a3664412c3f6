//! The backend's matrix products, and the launches of layer normalisation with a branch.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;

use super::portable::{self, Six, Two};
use super::{ResidualNorm, ResidualNormGradient};
use crate::op::layer_norm::wgsl::{launch_backward, launch_forward, takes};
use crate::op::linear::LinearGradient;
use crate::op::linear::portable::flat;
use crate::op::matmul::Matmul;

impl ResidualNorm for CubeBackend {
    fn residual_norm_forward(
        x: FloatTensor<Self>,
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> Two<Self> {
        if !takes(gamma.meta.num_elements(), &[&x, &h, &weight, &bias, &gamma, &beta]) {
            return portable::forward::<CubeBackend>(x, h, weight, bias, gamma, beta, eps);
        }
        let product = CubeBackend::matmul(flat::<CubeBackend>(h).0, weight);
        let product = CubeBackend::float_reshape(product, x.shape());
        launch_forward(x, Some((product, bias)), gamma, beta, eps)
    }
}

impl ResidualNormGradient for CubeBackend {
    fn residual_norm_backward(
        h: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        sum: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        d_sum: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> Six<Self> {
        let empty = sum.meta.num_elements() == 0;
        if empty || !takes(gamma.meta.num_elements(), &[&h, &weight, &sum, &gamma, &d_sum, &dy]) {
            return portable::backward::<CubeBackend>(h, weight, sum, gamma, d_sum, dy, eps);
        }
        let (dx, [d_gamma, d_beta, d_bias]) = launch_backward(sum, gamma, dy, Some(d_sum), eps);
        let dh = CubeBackend::linear_backward_x(weight, dx.clone());
        let (h, by_rows) = (flat::<CubeBackend>(h).0, flat::<CubeBackend>(dx.clone()).0);
        let d_weight = CubeBackend::matmul(CubeBackend::float_transpose(h), by_rows);
        (dx, dh, d_weight, d_bias, d_gamma, d_beta)
    }
}
