//! The shader for matrix products on wgpu, in builds where Burn's are not tuned.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::{Matmul, MatmulByShader, output_shape};
use crate::op::gpu::{Scalar, Shader, contiguous, launch, output, takes, wgsl};

/// Whether this build uses the shader for products on wgpu.
pub(in crate::op) const BY_SHADER: bool = !cfg!(feature = "autotune");

/// Rows and columns of a workgroup's tile. It is small for a narrow product, such as a head with few classes.
fn side(rows: usize, columns: usize) -> usize {
    if rows.min(columns) > 32 { 64 } else { 32 }
}

fn shader(side: usize, a_by_rows: bool, b_by_rows: bool, bias: bool) -> Shader {
    let texts = &[wgsl!("matmul.wgsl")];
    Shader::new("matmul", texts, (side / 4).pow(2))
        .value("side", side)
        .flag("a_by_rows", a_by_rows)
        .flag("b_by_rows", b_by_rows)
        .flag("bias", bias)
}

/// Every instance.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for side in [32, 64] {
        for a_by_rows in [false, true] {
            for b_by_rows in [false, true] {
                for bias in [false, true] {
                    shaders.push(shader(side, a_by_rows, b_by_rows, bias));
                }
            }
        }
    }
    shaders
}

/// An operand, with the strides of its matrices, rows and columns.
struct Operand {
    tensor: CubeTensor,
    steps: [usize; 3],
}

impl Operand {
    /// Copies the operand only if three strides cannot describe it.
    fn new(tensor: CubeTensor) -> Self {
        let matrices = |tensor: &CubeTensor| {
            let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
            let leading = shape.num_dims() - 2;
            // Leading dimensions of size 1 do not matter.
            let mut used = (0..leading).rev().filter(|&index| shape[index] > 1);
            let Some(innermost) = used.next() else { return Some(0) };
            let mut expected = strides[innermost] * shape[innermost];
            for index in used {
                if strides[index] != expected {
                    return None;
                }
                expected *= shape[index];
            }
            Some(strides[innermost])
        };
        let (tensor, step) = match matrices(&tensor) {
            Some(step) => (tensor, step),
            None => {
                let tensor = contiguous(tensor);
                let shape = tensor.meta.shape();
                let step = shape[shape.num_dims() - 2] * shape[shape.num_dims() - 1];
                (tensor, step)
            }
        };
        let strides = tensor.meta.strides();
        let steps = [step, strides[strides.len() - 2], strides[strides.len() - 1]];
        Self { tensor, steps }
    }

    fn by_rows(&self) -> bool {
        self.steps[2] <= self.steps[1]
    }
}

/// `a b`, with `bias` added to each row if there is one.
///
/// # Panics
/// If an element is not `f32` or an index is not a `u32`. A build that uses the shader has no other product.
pub(in crate::op) fn product(a: CubeTensor, b: CubeTensor, bias: Option<CubeTensor>) -> CubeTensor {
    assert!(takes(true, &[&a, &b]), "a product of {:?} and {:?} on this device", a.dtype, b.dtype);
    let shape = output_shape(a.meta.shape(), b.meta.shape());
    let rank = shape.num_dims();
    let [rows, columns] = [shape[rank - 2], shape[rank - 1]];
    let terms = a.meta.shape()[rank - 1];
    let matrices: usize = shape[..rank - 2].iter().product();
    let (a, b) = (Operand::new(a), Operand::new(b));
    let c = output(&a.tensor, shape);
    let side = side(rows, columns);
    let counts = [&[matrices, rows, terms, columns][..], &a.steps, &b.steps].concat();
    let scalars: Vec<Scalar> = counts.into_iter().map(Scalar::Count).collect();
    let bias = bias.map(contiguous);
    let shader = shader(side, a.by_rows(), b.by_rows(), bias.is_some());
    let mut buffers = vec![&a.tensor, &b.tensor];
    buffers.extend(&bias);
    buffers.push(&c);
    launch(shader, matrices * rows.div_ceil(side) * columns.div_ceil(side), &buffers, &scalars);
    c
}

impl Matmul for CubeBackend {
    fn matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        if BY_SHADER { product(a, b, None) } else { Self::float_matmul(a, b) }
    }
}

impl MatmulByShader for CubeBackend {
    fn matmul_by_shader(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        product(a, b, None)
    }
}
