//! The shared way from a WGSL template to a dispatch: filling the template, binding the buffers, launching.
//!
//! Why a file of its own: what cubecl asks of hand-written WGSL is subtle and the same for every operation.
//! * Binding `i` is the `i`-th buffer of group 0, and the block of scalars ("info") is always the last one.
//! * The pipeline layout is derived from the text, so a binding that is declared and not used is an error. What an
//!   instance does not need is cut out of its text by [`Shader::flag`] and not merely left unused.
//! * A native build allocates several tensors inside one buffer, and WebGPU allows no buffer to be `read` and
//!   `read_write` in one dispatch: native instances declare every storage buffer `read_write`. In the browser each
//!   tensor has pages of its own, and the same tensor bound twice to `read_write` would be an error: there, `read`.
//! * Pipelines are cached by identifier and never by text, so the identifier is everything the text is made from.
//! * Native modules run without bounds checks and with workgroup memory left as it was: the shaders guard every index.

use std::sync::OnceLock;

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous};
use burn::backend::{DType, Shape};
use burn::cubecl::prelude::KernelId;
use burn::cubecl::server::{KernelArguments, MetadataBindingInfo};
use burn::cubecl::{CubeCount, CubeDim};

/// The text of a file of `shaders/`, without its comments: see `build.rs`.
macro_rules! wgsl {
    ($file:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $file))
    };
}
pub(super) use wgsl;

/// The flag of what sums by subgroup operations.
const SUBGROUPS: &str = "subgroups";

/// The flag of what reads and writes numbers of `f16`.
const HALF: &str = "half";

/// WebGPU's limit on the workgroups of one dispatch along each axis.
const GROUPS_PER_AXIS: usize = 65_535;

/// How input buffers are declared on the target this build is for.
const ACCESS: &str = if cfg!(target_family = "wasm") { "read" } else { "read_write" };

/// What shaders share that sum over the invocations of a row: see [`Shader::over_rows`].
pub(super) const ROW_REDUCE: &str = wgsl!("row_reduce.wgsl");

/// How the kernels sum over the invocations of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Through workgroup memory, as every device can.
    #[default]
    Plain,
    /// By subgroup operations, where the device has them.
    Subgroups,
}

static REDUCTION: OnceLock<Reduction> = OnceLock::new();

/// Has the kernels of this process take `reduction`, and says whether they do: the first word stands, and launching a
/// kernel before says [`Reduction::Plain`]. In a browser that is the only one, since wgpu enables no subgroups there.
///
/// Subgroups are the caller's promise that the device was opened with them; without them a launch fails. Why it is asked
/// for and not found out: cubecl hides the subgroups of adapters that compute on the CPU, where the tests run.
pub fn choose_reduction(reduction: Reduction) -> bool {
    !(cfg!(target_family = "wasm") && reduction == Reduction::Subgroups)
        && *REDUCTION.get_or_init(|| reduction) == reduction
}

/// What was chosen.
pub fn reduction() -> Reduction {
    *REDUCTION.get_or_init(Reduction::default)
}

/// What shaders share that work on tiles of rows in registers.
pub(super) const TILE: &str = wgsl!("tile.wgsl");

/// Invocations of a workgroup of such a shader, whatever its tiles.
pub(super) const TILE_THREADS: usize = 64;

/// Fills what [`TILE`] asks for: tiles of `side` rows, which is 8, 16 or 32.
pub(super) fn tiled(shader: Shader, side: usize) -> Shader {
    // In reads of four rows. An odd pitch spreads neighbouring channels over the banks; of 8 rows it would not fit 16 KiB.
    let pitch = if side == 8 { 2 } else { side / 4 + 1 };
    shader.value("side", side).value("pitch", pitch)
}

/// Gangs of invocations in a workgroup of such a shader, each at work on a tile of its own.
pub(super) fn gangs(side: usize) -> usize {
    TILE_THREADS / (side / 4).pow(2)
}

/// One WGSL template with everything its text is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shader {
    file: &'static str,
    texts: &'static [&'static str],
    access: &'static str,
    threads: u32,
    values: Vec<(&'static str, u32)>,
    flags: Vec<(&'static str, bool)>,
}

impl Shader {
    /// The template `texts` of the file called `file` and of what it shares with others, run by workgroups of `threads`
    /// invocations. WGSL may use a name before its declaration, so the order is free.
    pub fn new(file: &'static str, texts: &'static [&'static str], threads: usize) -> Self {
        let shader =
            Self { file, texts, access: ACCESS, threads: threads as u32, values: Vec::new(), flags: Vec::new() };
        shader.value("threads", threads)
    }

    /// Fills the placeholder `{{ name }}` with `value`.
    pub fn value(mut self, name: &'static str, value: usize) -> Self {
        self.values.push((name, value as u32));
        self
    }

    /// Keeps (`on`) or cuts the lines between `//@ if name` and `//@ end`; the other way round after `//@ else`.
    pub fn flag(mut self, name: &'static str, on: bool) -> Self {
        self.flags.push((name, on));
        self
    }

    /// Joined to a text with [`ROW_REDUCE`]: its flag says by which [`Reduction`].
    pub fn over_rows(self) -> Self {
        self.flag(SUBGROUPS, reduction() == Reduction::Subgroups)
    }

    /// The same of rows that few invocations share, which then read each other's numbers.
    pub fn over_few_lanes(self) -> Self {
        self.flag("direct", true).over_rows()
    }

    /// Reads and writes numbers of `dtype`, `F32` or `F16`; the text computes in `f32` either way.
    pub fn elements(self, dtype: DType) -> Self {
        self.flag(HALF, dtype == DType::F16)
    }

    /// Whether it needs `f16`.
    pub fn half(&self) -> bool {
        self.flags.contains(&(HALF, true))
    }

    /// The same instance by either reduction, or as it is where it has none.
    pub fn reductions(mut self) -> Vec<Self> {
        let Some(flag) = self.flags.iter().position(|(name, _)| *name == SUBGROUPS) else { return vec![self] };
        self.flags[flag].1 = false;
        let mut other = self.clone();
        other.flags[flag].1 = true;
        vec![self, other]
    }

    /// Whether it needs subgroups.
    pub fn subgroups(&self) -> bool {
        self.flags.contains(&(SUBGROUPS, true))
    }

    /// The same instance with its input buffers declared `access`.
    pub fn with_access(mut self, access: &'static str) -> Self {
        self.access = access;
        self
    }

    /// A name that tells the instance from every other, for reports.
    pub fn name(&self) -> String {
        let mut name = self.file.to_string();
        for (key, value) in &self.values {
            name += &format!("-{key}{value}");
        }
        for (key, on) in &self.flags {
            name += &format!("-{}{key}", if *on { "" } else { "no_" });
        }
        name + "-" + self.access
    }

    fn template(&self) -> SourceTemplate {
        let mut text = String::new();
        let mut keep = true;
        for line in self.texts.iter().flat_map(|text| text.lines()) {
            match line.trim().strip_prefix("//@ ") {
                Some("else") => keep = !keep,
                Some("end") => keep = true,
                Some(rule) => {
                    let name = rule.trim_start_matches("if ");
                    keep = self.flags.iter().any(|(flag, on)| *flag == name && *on);
                }
                None if keep => {
                    text += line;
                    text.push('\n');
                }
                None => {}
            }
        }
        let template = SourceTemplate::new(text).register("access", self.access);
        self.values.iter().fold(template, |template, (name, value)| template.register(*name, value.to_string()))
    }

    /// The finished WGSL.
    pub fn text(&self) -> String {
        self.template().complete()
    }
}

impl KernelSource for Shader {
    fn source(&self) -> SourceTemplate {
        self.template()
    }

    fn id(&self) -> KernelId {
        // The file stands for its text, which would be hashed again with every launch.
        let Self { file, access, threads, values, flags, .. } = self;
        KernelId::new::<Self>().info((*file, *access, *threads, values.clone(), flags.clone()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// The type of these tensors' elements, `F32` or `F16`, where shaders can take them: cubecl compiles WGSL for their
/// device (and not SPIR-V or MSL, into which it does not translate hand-written text), they have one type, and every
/// element has a `u32` index.
pub(super) fn element(tensors: &[&FloatTensor<CubeBackend>]) -> Option<DType> {
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
pub(super) fn wgsl_element(fits: bool, tensors: &[&FloatTensor<CubeBackend>]) -> Option<DType> {
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
pub(super) fn runs_wgsl(fits: bool, tensors: &[&FloatTensor<CubeBackend>]) -> bool {
    wgsl_element(fits, tensors) == Some(DType::F32)
}

/// A contiguous `f32` tensor on the device of `like`, its contents undefined until a kernel writes them.
pub(super) fn output(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    output_of(DType::F32, like, shape)
}

/// The same of another type.
pub(super) fn output_of(dtype: DType, like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// The tensor laid out in rows, as every shader reads it.
pub(super) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// A scalar of the info block: an integer as it is, a float by its bits.
pub(super) enum Scalar {
    Count(usize),
    Real(f32),
}

/// Launches `groups` workgroups over `buffers` (in the order of their bindings) and `scalars`.
///
/// The info block stores a scalar in 64 bits: scalar `i` is word `2 i` of the shader's `array<u32>`. Counts that pass
/// the limit of one axis fold into the second, so the shader's group is `x + y * groups along x`, and it must return at
/// once from a group past the last. Nothing is launched for no groups.
pub(super) fn launch(shader: Shader, groups: usize, buffers: &[&CubeTensor], scalars: &[Scalar]) {
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
    let dim = CubeDim::new_3d(shader.threads, 1, 1);
    client.launch(
        Box::new(SourceKernel::new(shader, dim)),
        CubeCount::Static(columns as u32, rows as u32, 1),
        KernelArguments::new().with_buffers(bindings).with_info(MetadataBindingInfo::custom(info)),
    );
}

#[cfg(test)]
mod tests {
    use super::Shader;

    #[test]
    fn a_flag_cuts_its_lines() {
        let texts = &["a\n//@ if x\nb {{ n }}\n//@ else\nc\n//@ end\n", "d\n"];
        let shader = |on| Shader::new("t", texts, 1).value("n", 7).flag("x", on).text();
        assert_eq!(shader(true), "a\nb 7\nd\n");
        assert_eq!(shader(false), "a\nc\nd\n");
    }
}
