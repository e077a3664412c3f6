//! The launches.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{Gelu, GeluGradient, portable};
use crate::op::gpu::{Scalar, Shader, contiguous, launch, output, takes, wgsl};

/// Invocations in a workgroup, and numbers for each of them.
const THREADS: usize = 256;
const EACH: usize = 4;

fn shader(backward: bool) -> Shader {
    let texts = &[wgsl!("gelu.wgsl")];
    Shader::new("gelu", texts, THREADS).value("each", EACH).flag("backward", backward)
}

/// Every instance.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    vec![shader(false), shader(true)]
}

fn launch_over(shader: Shader, buffers: &[&CubeTensor]) {
    let elements = buffers[0].meta.num_elements();
    launch(shader, elements.div_ceil(THREADS * EACH), buffers, &[Scalar::Count(elements)]);
}

impl Gelu for CubeBackend {
    fn gelu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
        if !takes(true, &[&x]) {
            return portable::forward::<CubeBackend>(x);
        }
        let x = contiguous(x);
        let y = output(&x, x.meta.shape().clone());
        launch_over(shader(false), &[&x, &y]);
        y
    }
}

impl GeluGradient for CubeBackend {
    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        if !takes(true, &[&x, &dy]) {
            return portable::backward::<CubeBackend>(x, dy);
        }
        let [x, dy] = [x, dy].map(contiguous);
        let dx = output(&x, x.meta.shape().clone());
        launch_over(shader(true), &[&x, &dy, &dx]);
        dx
    }
}
