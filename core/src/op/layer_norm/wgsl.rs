//! The launches. [`residual_norm`](fn@crate::op::residual_norm) uses them with a branch.

use burn::backend::DType;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::portable::{self, Three};
use super::{LayerNorm, LayerNormGradient};
use crate::op::gpu::{self, ROW_REDUCE, Scalar, Shader, contiguous, launch, output, output_of, wgsl, wgsl_element};

/// Invocations of a row. They are enough that each keeps at most 32 channels in registers.
fn lanes(columns: usize) -> usize {
    if columns <= 1024 { 32 } else { 128 }
}

/// The longest row that the WGSL path accepts.
pub const LONGEST_ROW: usize = 4096;

/// Whether the shaders accept rows of this length.
fn fits(columns: usize) -> bool {
    (1..=LONGEST_ROW).contains(&columns)
}

/// Invocations of a workgroup.
const THREADS: usize = 128;

/// Rows of a workgroup of the backward pass. With fewer rows, the second dispatch would have more sums of gain and shift to add.
/// With more rows, a GPU's processors would have no work.
const BLOCK: usize = 32;

/// Columns of gain and shift in a workgroup, and its invocations. `layer_norm_parameters.wgsl` is written for these.
const COLUMNS: usize = 32;
const PARAMETER_THREADS: usize = 256;

const ROW: &str = wgsl!("layer_norm_row.wgsl");

fn forward_shader(columns: usize, lanes: usize, dtype: DType, branch: bool) -> Shader {
    let texts = &[wgsl!("layer_norm.wgsl"), ROW, ROW_REDUCE];
    Shader::new("layer_norm", texts, THREADS)
        .value("columns", columns)
        .value("lanes", lanes)
        .elements(dtype)
        .flag("branch", branch)
        .over_rows()
}

fn backward_shader(columns: usize, lanes: usize, branch: bool) -> Shader {
    let texts = &[wgsl!("layer_norm_backward.wgsl"), ROW, ROW_REDUCE];
    let shader = Shader::new("layer_norm_backward", texts, THREADS);
    shader.value("columns", columns).value("lanes", lanes).value("block", BLOCK).flag("branch", branch).over_rows()
}

fn parameters_shader(branch: bool) -> Shader {
    let texts = &[wgsl!("layer_norm_parameters.wgsl")];
    Shader::new("layer_norm_parameters", texts, PARAMETER_THREADS).flag("branch", branch)
}

/// Every instance, for the widths of known models and for some others.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    let widths = [1, 33, 64, 192, 384, 768, 1024, 1280];
    let pairs = widths.into_iter().map(|columns| (columns, lanes(columns)));
    let passes = pairs.flat_map(|(columns, lanes)| {
        let forward = [(DType::F32, false), (DType::F16, false), (DType::F32, true)];
        let forward = forward.map(|(dtype, branch)| forward_shader(columns, lanes, dtype, branch));
        forward.into_iter().chain([false, true].map(|branch| backward_shader(columns, lanes, branch)))
    });
    passes.chain([false, true].map(parameters_shader)).collect()
}

/// Whether the shaders accept these tensors: `f32`, with rows of `columns` numbers.
pub(in crate::op) fn takes(columns: usize, tensors: &[&CubeTensor]) -> bool {
    gpu::takes(fits(columns), tensors)
}

/// The end of a residual branch without its bias, and the bias. Both are added to `x` before the normalisation. The sum
/// overwrites the branch if nothing else reads it.
pub(in crate::op) type Branch = (CubeTensor, CubeTensor);

/// The tensor that is normalised, and the result. The tensors must fit the shaders; with a branch, [`takes`] must accept them.
pub(in crate::op) fn launch_forward(
    x: CubeTensor,
    branch: Option<Branch>,
    gamma: CubeTensor,
    beta: CubeTensor,
    eps: f32,
) -> (CubeTensor, CubeTensor) {
    let (columns, dtype) = (gamma.meta.num_elements(), x.dtype);
    let lanes = lanes(columns);
    let [x, gamma, beta] = [x, gamma, beta].map(contiguous);
    let y = output_of(dtype, &x, x.meta.shape().clone());
    let rows = x.meta.num_elements() / columns;
    let scalars = [Scalar::Count(rows), Scalar::Real(eps)];
    let groups = rows.div_ceil(THREADS / lanes);
    let shader = forward_shader(columns, lanes, dtype, branch.is_some());
    let Some((branch, bias)) = branch else {
        launch(shader, groups, &[&x, &gamma, &beta, &y], &scalars);
        return (x, y);
    };
    let (branch, bias) = (contiguous(branch), contiguous(bias));
    let added = if branch.can_mut() { branch } else { branch.copy() };
    launch(shader, groups, &[&x, &gamma, &beta, &y, &bias, &added], &scalars);
    (added, y)
}

/// The gradient of the normalised tensor, and the sums over rows: the gradients of gain and shift. With a branch, `d_added` is
/// the gradient from the other readers of the sum, and the sums also contain the gradient of the branch's bias. [`takes`] must
/// accept the tensors, and there must be at least one row.
pub(in crate::op) fn launch_backward<const SUMS: usize>(
    x: CubeTensor,
    gamma: CubeTensor,
    dy: CubeTensor,
    d_added: Option<CubeTensor>,
    eps: f32,
) -> (CubeTensor, [CubeTensor; SUMS]) {
    let branch = d_added.is_some();
    assert_eq!(SUMS, if branch { 3 } else { 2 });
    let columns = gamma.meta.num_elements();
    let lanes = lanes(columns);
    let [x, gamma, dy] = [x, gamma, dy].map(contiguous);
    let d_added = d_added.map(contiguous);
    let rows = x.meta.num_elements() / columns;
    let groups = rows.div_ceil(BLOCK);
    let dx = output(&x, x.meta.shape().clone());
    let partial = output(&x, [groups, SUMS, columns]);
    let scalars = [Scalar::Count(rows), Scalar::Real(eps), Scalar::Count(groups)];
    let mut buffers = vec![&x, &gamma, &dy, &dx, &partial];
    buffers.extend(&d_added);
    launch(backward_shader(columns, lanes, branch), groups, &buffers, &scalars);
    let sums = std::array::from_fn(|_| output(&x, [columns]));
    let scalars = [Scalar::Count(groups), Scalar::Count(columns)];
    let buffers: Vec<_> = [&partial].into_iter().chain(&sums).collect();
    launch(parameters_shader(branch), (SUMS * columns).div_ceil(COLUMNS), &buffers, &scalars);
    (dx, sums)
}

impl LayerNorm for CubeBackend {
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        if wgsl_element(fits(gamma.meta.num_elements()), &[&x, &gamma, &beta]).is_none() {
            return portable::forward::<CubeBackend>(x, gamma, beta, eps);
        }
        launch_forward(x, None, gamma, beta, eps).1
    }
}

impl LayerNormGradient for CubeBackend {
    fn layer_norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        eps: f32,
    ) -> Three<Self> {
        let empty = x.meta.num_elements() == 0;
        if empty || !takes(gamma.meta.num_elements(), &[&x, &gamma, &dy]) {
            return portable::backward::<CubeBackend>(x, gamma, dy, eps);
        }
        let (dx, [d_gamma, d_beta]) = launch_backward(x, gamma, dy, None, eps);
        (dx, d_gamma, d_beta)
    }
}
