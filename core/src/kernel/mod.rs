//! Operations with a WGSL fast path, a portable definition and a hand-written backward pass.
//!
//! Why they exist: composed of tensor operations, attention keeps `B H N N` probabilities for its backward pass and a
//! distillation loss reads its logits a dozen times. Each operation here is one or two dispatches a direction, and keeps
//! for the backward pass no more than one number a row.
//!
//! | operation | shapes | kept for backward |
//! |---|---|---|
//! | [`attention`](fn@attention) | `[B, N, 3, H, D]` to `[B, N, H, D]` | output, log-sum-exp `[B, H, N]` |
//! | [`distillation_loss`](fn@distillation_loss) | `[B, C]` three times to `[B, 2]` | nothing |
//! | [`cross_entropy`] | `[B, C]` twice to `[B]` | nothing |
//!
//! Invariants
//! * The portable definition is the meaning: the CPU path, the path of every runtime that does not compile WGSL, and the
//!   oracle of the tests.
//! * No float atomics and no subgroups: every sum has one owner and one order, so the same inputs give the same bits on
//!   the same device.
//! * At most 256 invocations and 16 KiB of workgroup memory a group and 7 storage buffers a pass: the least that WebGPU
//!   promises, so that a kernel that runs anywhere runs everywhere.
//! * Elements are `f32`; other types take the portable definition.

mod attention;
mod backend;
mod distillation_loss;
mod launch;
mod selftest;

pub use attention::attention;
pub use distillation_loss::{cross_entropy, distillation_loss};
pub use selftest::{Check, selftest};

/// One finished WGSL text, as some device compiles it.
#[derive(Clone, Debug)]
pub struct ShaderInstance {
    /// File, constants, flags and access mode: unique among the instances.
    pub name: String,
    /// The text.
    pub source: String,
}

/// Every WGSL text in use, over the head sizes of known models and some that are not, every tiling, every flag, and
/// both declarations of the input buffers (native and browser).
pub fn shader_instances() -> Vec<ShaderInstance> {
    let shaders: Vec<_> = attention::shaders().into_iter().chain(distillation_loss::shaders()).collect();
    ["read_write", "read"]
        .into_iter()
        .flat_map(|access| {
            shaders.iter().map(move |shader| {
                let shader = shader.clone().with_access(access);
                ShaderInstance { name: shader.name(), source: shader.text() }
            })
        })
        .collect()
}
