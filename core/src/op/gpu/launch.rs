//! Launching a shader: which tensors it takes, what it writes to, the buffers and scalars that it is bound to.
//!
//! Binding `i` is the `i`-th buffer of group 0, and the block of scalars ("info") is always the last one. Native modules run
//! without bounds checks and with workgroup memory left as it was: the shaders guard every index.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, SourceKernel, into_contiguous};
use burn::backend::{Backend, DType, Dispatch, Flex, Shape, backend_extension};
use burn::cubecl::server::{KernelArguments, MetadataBindingInfo};
use burn::cubecl::{CubeCount, CubeDim};
use burn::tensor::{Device, Tensor};

use super::choice::choice;
use super::shader::Shader;

/// WebGPU's limit on the workgroups of one dispatch along each axis.
const GROUPS_PER_AXIS: usize = 65_535;

/// The type of these tensors' elements, `F32` or `F16`, where shaders can take them: cubecl compiles WGSL for their
/// device (and not SPIR-V or MSL, into which it does not translate hand-written text), they have one type, and every
/// element has a `u32` index.
pub(in crate::op) fn element(tensors: &[&FloatTensor<CubeBackend>]) -> Option<DType> {
    let dtype = tensors.first()?.dtype;
    let runs = tensors.iter().all(|tensor| {
        tensor.client.name().starts_with("wgpu<wgsl")
            && tensor.dtype == dtype
            && tensor.meta.shape().num_elements() <= i32::MAX as usize
    });
    (runs && matches!(dtype, DType::F32 | DType::F16)).then_some(dtype)
}

/// The same where the WGSL path is to be taken, `fits` being what the operation asks of their sizes. Otherwise the caller
/// takes the portable definition.
///
/// # Panics
/// In a browser, rather than say no. An adapter there compiles nothing but WGSL, the page computes in `f32` and has no
/// network whose sizes do not fit; so the portable definitions, a tenth of what there is to load, are left out.
#[inline(always)]
pub(in crate::op) fn wgsl_element(fits: bool, tensors: &[&FloatTensor<CubeBackend>]) -> Option<DType> {
    let dtype = element(tensors).filter(|_| fits);
    if cfg!(target_family = "wasm") {
        assert!(dtype == Some(DType::F32), "an operation on sizes or numbers that WebGPU's path does not take");
        return Some(DType::F32);
    }
    dtype
}

/// Whether the WGSL path is to be taken of an operation that takes `f32` alone.
///
/// # Panics
/// As [`wgsl_element`].
#[inline(always)]
pub(in crate::op) fn takes(fits: bool, tensors: &[&FloatTensor<CubeBackend>]) -> bool {
    wgsl_element(fits, tensors) == Some(DType::F32)
}

/// A contiguous `f32` tensor on the device of `like`, its contents undefined until a kernel writes them.
pub(in crate::op) fn output(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    output_of(DType::F32, like, shape)
}

/// The same of another type.
pub(in crate::op) fn output_of(dtype: DType, like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// The tensor laid out in rows, as every shader reads it.
pub(in crate::op) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// A scalar of the info block: an integer as it is, a float by its bits.
pub(in crate::op) enum Scalar {
    Count(usize),
    Real(f32),
}

/// Launches `groups` workgroups over `buffers` (in the order of their bindings) and `scalars`.
///
/// The info block stores a scalar in 64 bits: scalar `i` is word `2 i` of the shader's `array<u32>`. Counts that pass
/// the limit of one axis fold into the second, so the shader's group is `x + y * groups along x`, and it must return at
/// once from a group past the last. Nothing is launched for no groups.
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

/// Whether a backend launches shaders, as a tensor, because that is what comes back through every layer over a backend.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait RunsWgsl: Backend {
    /// Ones if it does, zeros if not, in the shape of `x`.
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

/// Whether the operations run as WGSL on `device`, and not as their portable definitions: a fallback is silent otherwise.
/// False also if the device cannot be read.
pub async fn runs_wgsl(device: &Device) -> bool {
    let flag = Tensor::<1>::ones([1], &device.clone().inner());
    let flag = Tensor::<1>::from_dispatch(Dispatch::runs_wgsl(flag.into_dispatch()));
    flag.into_data_async().await.is_ok_and(|data| data.iter::<f32>().eq([1.0]))
}
