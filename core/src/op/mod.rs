//! Operations with a WGSL fast path, a portable definition and a hand-written backward pass.
//!
//! Why they exist: with tensor operations, attention keeps `B H N N` probabilities for its backward pass, and a distillation loss
//! reads its logits a dozen times. Each operation here takes a few dispatches in each direction. The table says what it keeps for
//! the backward pass besides inputs and outputs.
//!
//! | operation | shapes | kept for backward |
//! |---|---|---|
//! | [`attention`](fn@attention) | `[B, N, 3, H, D]` to `[B, N, H, D]` | output, log-sum-exp `[B, H, N]` |
//! | [`attention_map`](fn@attention_map) | `[B, N, 3, H, D]` to `[B, N, N]` | no gradient |
//! | [`attention_map_loss`] | `[B, N, 3, H, D]` and `[B, N, N]` to `[1]` | the difference of the maps `[B, N, N]` |
//! | [`distillation_loss`](fn@distillation_loss) | `[B, C]` three times to `[B, 2]` | nothing |
//! | [`cross_entropy`] | `[B, C]` twice to `[B]` | nothing |
//! | [`gram_loss`] | `[M, R, D]` twice to `[1]` | nothing |
//! | [`layer_norm`](fn@layer_norm) | `[.., C]`, `[C]` twice to `[.., C]` | nothing |
//! | [`linear`](fn@linear) | `[.., K]`, `[K, M]`, `[M]` to `[.., M]` | nothing |
//! | [`residual_norm`](fn@residual_norm) | `[.., C]`, `[.., K]`, `[K, C]`, `[C]` three times to `[.., C]` twice | the sum |
//! | [`matmul`](fn@matmul) | `[.., R, K]`, `[.., K, C]` to `[.., R, C]` | nothing |
//! | [`adamw`](fn@adamw) | vectors | no gradient |
//! | [`join`](fn@join) | vectors to one | no gradient |
//! | [`gelu`](fn@gelu) | any shape to the same shape | nothing |
//!
//! An operation is a folder. All folders have the same parts; small operations have fewer:
//! * `mod.rs`: the equations, the public function, the extension of Burn's backends, and the gradient. Burn dispatches a tensor
//!   to its backend at run time, and a trait is the only place where an operation can differ by backend. The default bodies are
//!   the portable definition. The generated implementation for `Fusion` runs the operation as one opaque step of the lazy stream,
//!   so the trait also states the shapes of the outputs. The graph of gradients sees only the forward pass, so the backward pass
//!   is a second trait.
//! * `portable.rs`: the definition in tensor operations.
//! * `cpu.rs`: loops for the CPU (Flex), if they are faster.
//! * `wgsl.rs`: the launches, and every instance of the shaders.
//! * `cases.rs`: the cases for tests and for the self-test.
//!
//! Invariants
//! * The portable definition defines the operation. Runtimes that do not compile WGSL use it, and so do elements other than
//!   `f32`. Tests and [`selftest`](fn@selftest) compare with it.
//! * There are no float atomics. Every sum has one owner and one order, so the same inputs give the same bits on the same device.
//! * `gpu` says what a kernel may use. A kernel that runs on one device runs on all.
//! * Elements are `f32`. The forward passes of attention and normalisation also accept `f16` and sum in `f32`, for a teacher in
//!   half precision.

mod adamw;
mod attention;
mod attention_map;
mod case;
mod cpu;
mod distillation_loss;
mod gelu;
mod gpu;
mod gradient;
mod gram;
mod join;
mod layer_norm;
mod linear;
mod matmul;
mod residual_norm;
mod selftest;

pub use adamw::{AdamWNumbers, adamw};
pub use attention::wgsl::WIDEST_HEAD;
pub use attention::{attention, attention_with_lse};
pub use attention_map::{QueriesAndKeys, attention_map, attention_map_loss};
pub use case::Case;
pub use distillation_loss::{cross_entropy, distillation_loss};
pub use gelu::gelu;
use gpu::Shader;
pub use gpu::{Choice, Reduction, Tiles, choose, runs_wgsl};
pub use gram::gram_loss;
pub use join::join;
pub use layer_norm::layer_norm;
pub use layer_norm::wgsl::LONGEST_ROW;
pub use linear::linear;
pub use matmul::{matmul, matmul_by_shader};
pub use residual_norm::residual_norm;
pub use selftest::{Check, selftest};

/// The list of operations. A line has the operation, the instances of its shaders, and its case in a network of given sizes
/// (images, tokens, channels, heads). The macro makes three separate lists, so that a page does not load what it does not use.
macro_rules! operations {
    ($($(#[$attribute:meta])* $name:ident, $shaders:expr, $in_network:expr;)*) => {
        const CASES: &[fn() -> Vec<Case>] = &[$($(#[$attribute])* $name::cases::cases),*];
        const SHADERS: &[fn() -> Vec<Shader>] = &[$($(#[$attribute])* $shaders),*];
        const IN_NETWORK: &[fn([usize; 4]) -> Case] = &[$($(#[$attribute])* $in_network),*];
    };
}

operations! {
    attention, attention::wgsl::shaders, |[b, n, width, h]| attention::cases::case([b, n, h, width / h]);
    attention_map, attention_map::wgsl::shaders,
        |[b, n, width, h]| attention_map::cases::case([b, n, h, width / h, h, width / h]);
    distillation_loss, distillation_loss::wgsl::shaders, |[b, ..]| distillation_loss::cases::case([b, 1000], 2.0, 0.1);
    gelu, gelu::wgsl::shaders, |[b, n, width, _]| gelu::cases::case(b * n * 4 * width);
    gram, Vec::new, |[b, n, width, _]| gram::cases::case([b, n, width, width]);
    layer_norm, layer_norm::wgsl::shaders, |[b, n, width, _]| layer_norm::cases::case([b * n, width]);
    linear, Vec::new, |[b, n, width, _]| linear::cases::case([b * n, width, 4 * width]);
    matmul, matmul::wgsl::shaders, |[b, n, width, h]| matmul::cases::case([b * h, n, width / h, n], true);
    // A page uses only the separate parts.
    #[cfg(feature = "native")]
    residual_norm, Vec::new, |[b, n, width, _]| residual_norm::cases::case([b * n, 4 * width, width]);
    adamw, adamw::wgsl::shaders, |[_, _, width, _]| adamw::cases::case(12 * width * width, 1.0, 0.0);
    join, join::wgsl::shaders, |[_, _, width, _]| join::cases::case(&[width, 4 * width * width, 4 * width]);
}

/// The cases of every operation.
pub fn cases() -> impl Iterator<Item = Case> {
    CASES.iter().flat_map(|cases| cases())
}

/// A case of each operation with the sizes of a network (images, tokens, channels, heads), for timing.
pub fn cases_in_network(sizes: [usize; 4]) -> impl Iterator<Item = Case> {
    IN_NETWORK.iter().map(move |case| case(sizes))
}

/// One finished WGSL text, as a device compiles it.
#[derive(Clone, Debug)]
pub struct ShaderInstance {
    /// File, constants, flags and access mode. The name is unique among the instances.
    pub name: String,
    /// The text.
    pub source: String,
    /// Whether it needs a device with subgroups.
    pub subgroups: bool,
    /// Whether it needs a device with `f16`.
    pub half: bool,
}

/// Every WGSL text in use: for the head sizes of known models and some others, every tiling, every flag, and both access modes of
/// the input buffers (native and browser). Only native builds use subgroups and `f16`.
pub fn shader_instances() -> Vec<ShaderInstance> {
    let shaders = SHADERS.iter().flat_map(|shaders| shaders());
    let shaders: Vec<_> = shaders.flat_map(Shader::reductions).collect();
    let instance = |(shader, access): (&Shader, &'static str)| {
        let shader = shader.clone().with_access(access);
        let (subgroups, half) = (shader.subgroups(), shader.half());
        ShaderInstance { name: shader.name(), source: shader.text(), subgroups, half }
    };
    let native = shaders.iter().map(|shader| (shader, "read_write"));
    let everywhere = |shader: &&Shader| !shader.subgroups() && !shader.half();
    let browser = shaders.iter().filter(everywhere).map(|shader| (shader, "read"));
    native.chain(browser).map(instance).collect()
}
