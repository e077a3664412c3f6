//! Operations with a WGSL fast path, a portable definition and a hand-written backward pass.
//!
//! Why they exist: composed of tensor operations, attention keeps `B H N N` probabilities for its backward pass and a
//! distillation loss reads its logits a dozen times. Each operation here is a few dispatches a direction, and beside inputs
//! and outputs keeps for the backward pass what the table says.
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
//! | [`residual_norm`](fn@residual_norm) | `[.., C]`, `[.., K]`, `[K, C]`, `[C]` thrice to `[.., C]` twice | the sum |
//! | [`matmul`](fn@matmul) | `[.., R, K]`, `[.., K, C]` to `[.., R, C]` | nothing |
//! | [`adamw`](fn@adamw) | vectors | no gradient |
//! | [`join`](fn@join) | vectors to one | no gradient |
//! | [`gelu`](fn@gelu) | any, to the same | nothing |
//!
//! Invariants
//! * The portable definition is the meaning: the path of every runtime that does not compile WGSL, of elements that are no
//!   `f32`, and the oracle of the tests ([`portable`]). The CPU has loops of its own where they are faster.
//! * No float atomics: every sum has one owner and one order, so the same inputs give the same bits on the same device.
//! * No kernel needs subgroups. Those that sum over the invocations of a row have a second text that uses them, taken
//!   where [`choose_reduction`] says so.
//! * At most 256 invocations and 16 KiB of workgroup memory a group and 7 storage buffers a pass: within what
//!   WebGPU promises everywhere, so that a kernel that runs anywhere runs everywhere.
//! * Elements are `f32`; other types take the portable definition. The forward passes of attention and normalisation also
//!   take `f16`, and sum in `f32`: those of a teacher in half precision.

mod adamw;
mod attention;
mod attention_cpu;
mod attention_map;
mod attention_map_cpu;
mod backend;
mod cpu;
mod distillation_loss;
mod gelu;
mod gram;
mod join;
mod launch;
mod layer_norm;
mod linear;
mod matmul;
#[cfg(any(test, target_family = "wasm"))]
mod panels;
mod product;
mod residual_norm;
mod selftest;
mod tiles;

pub use adamw::{AdamWNumbers, adamw};
use backend::KernelBackend;
use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

pub use attention::{WIDEST_HEAD, attention, attention_with_levels};
pub use attention_map::{QueriesAndKeys, attention_map, attention_map_loss};
pub use distillation_loss::{cross_entropy, distillation_loss};
pub use gelu::gelu;
pub use gram::gram_loss;
pub use join::join;
use launch::Shader;
pub use launch::{Reduction, choose_reduction, reduction};
pub use layer_norm::{LONGEST_ROW, layer_norm};
pub use linear::linear;
pub use matmul::{matmul, matmul_by_shader};
pub use residual_norm::residual_norm;
pub use selftest::{Check, selftest};
pub use tiles::{Tiles, choose_tiles, tiles};

/// The portable definitions on their own, under Burn's gradients: what every fast path is held against.
pub mod portable {
    use burn::backend::Dispatch;
    use burn::tensor::Tensor;

    /// The output `[B, N, H, D]` and the log-sum-exps `[B, H, N]` of [`attention`](fn@super::attention).
    pub fn attention(qkv: Tensor<5>, scale: f32) -> (Tensor<4>, Tensor<3>) {
        let (out, lse) = super::attention::portable_forward::<Dispatch>(qkv.into_dispatch(), scale);
        (Tensor::from_dispatch(out), Tensor::from_dispatch(lse))
    }

    /// The gradient of `qkv`.
    pub fn attention_backward(
        qkv: Tensor<5>,
        out: Tensor<4>,
        lse: Tensor<3>,
        d_out: Tensor<4>,
        scale: f32,
    ) -> Tensor<5> {
        let (qkv, out) = (qkv.into_dispatch(), out.into_dispatch());
        let (lse, d_out) = (lse.into_dispatch(), d_out.into_dispatch());
        Tensor::from_dispatch(super::attention::portable_backward::<Dispatch>(qkv, out, lse, d_out, scale))
    }

    /// The rows `[B, N]` of [`attention_map_loss`](super::attention_map_loss) and the difference `[B, N, N]`, from packed
    /// queries and keys `[B, N, 3, H, D]` with their log-sum-exps `[B, H, N]`, and the target `[B, N, N]`.
    pub fn attention_map(qkv: Tensor<5>, levels: Tensor<3>, target: Tensor<3>) -> (Tensor<2>, Tensor<3>) {
        let (qkv, levels, target) = (qkv.into_dispatch(), levels.into_dispatch(), target.into_dispatch());
        let (rows, difference) = super::attention_map::portable_forward::<Dispatch>(qkv, levels, target);
        (Tensor::from_dispatch(rows), Tensor::from_dispatch(difference))
    }

    /// The gradient of `qkv`, from the difference and the gradient of the rows.
    pub fn attention_map_backward(
        qkv: Tensor<5>,
        levels: Tensor<3>,
        difference: Tensor<3>,
        d_rows: Tensor<2>,
    ) -> Tensor<5> {
        let (qkv, levels) = (qkv.into_dispatch(), levels.into_dispatch());
        let (difference, d_rows) = (difference.into_dispatch(), d_rows.into_dispatch());
        let gradient = super::attention_map::portable_backward::<Dispatch>(qkv, levels, difference, d_rows);
        Tensor::from_dispatch(gradient)
    }

    /// The gradients of `x`, `gamma` and `beta` of [`layer_norm`](fn@super::layer_norm).
    pub fn layer_norm_backward<const D: usize>(
        x: Tensor<D>,
        gamma: Tensor<1>,
        dy: Tensor<D>,
        eps: f32,
    ) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
        let (x, gamma, dy) = (x.into_dispatch(), gamma.into_dispatch(), dy.into_dispatch());
        let (dx, d_gamma, d_beta) = super::layer_norm::portable_backward::<Dispatch>(x, gamma, dy, eps);
        (Tensor::from_dispatch(dx), Tensor::from_dispatch(d_gamma), Tensor::from_dispatch(d_beta))
    }
}

/// Whether the kernels run as WGSL on `device`, and not as their portable definitions: a fallback is silent otherwise.
/// False also if the device cannot be read.
pub async fn runs_wgsl(device: &Device) -> bool {
    let flag = Tensor::<1>::ones([1], &device.clone().inner());
    let flag = Tensor::<1>::from_dispatch(Dispatch::wgsl_flag(flag.into_dispatch()));
    flag.into_data_async().await.is_ok_and(|data| data.iter::<f32>().eq([1.0]))
}

/// One finished WGSL text, as some device compiles it.
#[derive(Clone, Debug)]
pub struct ShaderInstance {
    /// File, constants, flags and access mode: unique among the instances.
    pub name: String,
    /// The text.
    pub source: String,
    /// Whether it needs a device with subgroups.
    pub subgroups: bool,
    /// Whether it needs a device with `f16`.
    pub half: bool,
}

/// Every WGSL text in use, over the head sizes of known models and some that are not, every tiling, every flag, and
/// both declarations of the input buffers (native and browser). Subgroups and `f16` are native alone.
pub fn shader_instances() -> Vec<ShaderInstance> {
    let shaders = [
        adamw::shaders(),
        attention::shaders(),
        attention_map::shaders(),
        distillation_loss::shaders(),
        gelu::shaders(),
        join::shaders(),
        layer_norm::shaders(),
        matmul::shaders(),
    ]
    .concat();
    let shaders: Vec<_> = shaders.into_iter().flat_map(Shader::reductions).collect();
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
