//! Launching a shader: the tensors that it accepts, the tensors that it writes, and the binding of buffers and scalars.
//!
//! Binding `i` is the `i`-th buffer of group 0. The last binding is always the block of scalars ("info"). Native modules run
//! without bounds checks, and their workgroup memory is not cleared. So the shaders check every index.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, SourceKernel, into_contiguous};
use burn::backend::{Backend, DType, Dispatch, Flex, Shape, backend_extension};
use burn::cubecl::server::{KernelArguments, MetadataBindingInfo};
use burn::cubecl::{CubeCount, CubeDim};
use burn::tensor::{Device, Tensor};

use super::choice::choice;
use super::shader::Shader;

/// WebGPU's limit for the workgroups of one dispatch along each axis.
const GROUPS_PER_AXIS: usize = 65_535;

/// The type of these tensors' elements, `F32` or `F16`, if shaders accept the tensors. For this, cubecl must compile WGSL for the
/// device (it does not translate hand-written text into SPIR-V or MSL), the tensors must have one type, and every element must
/// have a `u32` index.
pub(in crate::op) fn element(tensors: &[&FloatTensor<CubeBackend>]) -> Option<DType> {
    let dtype = tensors.first()?.dtype;
    let runs = tensors.iter().all(|tensor| {
        tensor.client.name().starts_with("wgpu<wgsl")
            && tensor.dtype == dtype
            && tensor.meta.shape().num_elements() <= i32::MAX as usize
    });
    (runs && matches!(dtype, DType::F32 | DType::F16)).then_some(dtype)
}

/// The same, if the operation accepts the sizes (`fits`) and uses the WGSL path. Otherwise the caller uses the portable definition.
///
/// # Panics
/// In a browser, if the WGSL path cannot be used. An adapter there compiles only WGSL, and the page computes in `f32` and accepts
/// only networks whose sizes fit. So the page leaves out the portable definitions, which are a tenth of its size.
#[inline(always)]
pub(in crate::op) fn wgsl_element(fits: bool, tensors: &[&FloatTensor<CubeBackend>]) -> Option<DType> {
    let dtype = element(tensors).filter(|_| fits);
    if cfg!(target_family = "wasm") {
        assert!(dtype == Some(DType::F32), "an operation on sizes or numbers that WebGPU's path does not take");
        return Some(DType::F32);
    }
    dtype
}

/// Whether an operation that accepts only `f32` uses the WGSL path.
///
/// # Panics
/// As [`wgsl_element`].
#[inline(always)]
pub(in crate::op) fn takes(fits: bool, tensors: &[&FloatTensor<CubeBackend>]) -> bool {
    wgsl_element(fits, tensors) == Some(DType::F32)
}

/// A contiguous `f32` tensor on the device of `like`. Its contents are undefined until a kernel writes them.
pub(in crate::op) fn output(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    output_of(DType::F32, like, shape)
}

/// The same, with elements of another type.
pub(in crate::op) fn output_of(dtype: DType, like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// The tensor in row-major order without gaps, as every shader reads it.
pub(in crate::op) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// A scalar of the info block: an integer, or the bits of a float.
pub(in crate::op) enum Scalar {
    Count(usize),
    Real(f32),
}

/// Launches `groups` workgroups with `buffers` (in the order of their bindings) and `scalars`.
///
/// The info block stores a scalar in 64 bits: scalar `i` is word `2 i` of the shader's `array<u32>`. If the count exceeds the
/// limit of one axis, a second axis is used. The shader's group is then `x + y * groups along x`, and a group past the last must
/// return at once. With 0 groups nothing is launched.
pub(in crate::op) fn launch(shader: Shader, groups: usize, buffers: &[&CubeTensor], scalars: &[Scalar]) {
    if groups == 0 {
        return;
    }
    let rows = groups.div_ceil(GROUPS_PER_AXIS);
    let columns = groups.div_ceil(rows);
    let info = scalars
        .iter()
        .map(|scalar| match scalar {
            Scalar::Count(count) => *count as u64,
            Scalar::Real(real) => u64::from(real.to_bits()),
        })
        .collect();
    let bindings = buffers.iter().map(|tensor| tensor.handle.clone().binding()).collect();
    let client = &buffers[0].client;
    let shader = shader.reduced_by(choice(&buffers[0].device).reduction);
    let dim = CubeDim::new_3d(shader.threads(), 1, 1);
    client.launch(
        Box::new(SourceKernel::new(shader, dim)),
        CubeCount::Static(columns as u32, rows as u32, 1),
        KernelArguments::new().with_buffers(bindings).with_info(MetadataBindingInfo::custom(info)),
    );
}

/// Whether a backend launches shaders. The answer is a tensor, because only a tensor passes through every layer over a backend.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait RunsWgsl: Backend {
    /// A tensor with the shape of `x`: ones if it does, zeros if not.
    #[fusion(dtype = x, shape = x)]
    fn runs_wgsl(x: FloatTensor<Self>) -> FloatTensor<Self> {
        filled_like::<Self>(x, 0.0)
    }
}

impl RunsWgsl for Flex {}

impl RunsWgsl for CubeBackend {
    fn runs_wgsl(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let runs = element(&[&x]) == Some(DType::F32);
        filled_like::<Self>(x, if runs { 1.0 } else { 0.0 })
    }
}

fn filled_like<B: Backend>(x: FloatTensor<B>, value: f64) -> FloatTensor<B> {
    B::float_add_scalar(B::float_mul_scalar(x, 0.0.into()), value.into())
}

/// Whether the operations run as WGSL on `device`, and not as their portable definitions. Without this, the fallback would go
/// unnoticed. Also false if the device cannot be read.
pub async fn runs_wgsl(device: &Device) -> bool {
    let flag = Tensor::<1>::ones([1], &device.clone().inner());
    let flag = Tensor::<1>::from_dispatch(Dispatch::runs_wgsl(flag.into_dispatch()));
    flag.into_data_async().await.is_ok_and(|data| data.iter::<f32>().eq([1.0]))
}
