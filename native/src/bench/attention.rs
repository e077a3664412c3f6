//! Attention forward and backward, from packed queries, keys and values to their gradient.

use burn::tensor::Device;
use burn::tensor::Tensor;
use potstill_core::kernel;
use serde_json::json;

use super::stock::packed_attention;
use super::{Path, Repeats, Row, Work, Workload, measure, random};
use crate::error::Result;

/// With the scale that every known model has.
fn ours(qkv: Tensor<5>) -> Tensor<4> {
    let scale = (qkv.dims()[4] as f32).powf(-0.5);
    kernel::attention(qkv, scale)
}

/// Measures attention of `[B, H, N, D]`.
///
/// # Errors
/// If the device fails.
pub fn attention(device: &Device, repeats: Repeats, [batch, heads, tokens, size]: [usize; 4]) -> Result<Vec<Row>> {
    let device = &device.clone().autodiff();
    let qkv = random([batch, tokens, 3, heads, size], device, true);
    type Attend = fn(Tensor<5>) -> Tensor<4>;
    let workload = |path, attend: Attend| {
        let (run, hold) = (qkv.clone(), qkv.clone());
        Workload {
            path,
            run: Box::new(move || Box::new(attend(run.clone()).sum().backward())),
            hold: Some(Box::new(move || Box::new(attend(hold.clone())))),
        }
    };
    let case = json!({ "batch": batch, "heads": heads, "tokens": tokens, "head_size": size });
    // Two products forward, four backward.
    let products = 2 * batch * heads * tokens * tokens * size;
    let work = Work { flops: Some(6.0 * products as f64), samples: Some(batch), ..Work::default() };
    let paths = vec![workload(Path::Potstill, ours), workload(Path::Stock, packed_attention)];
    measure("attention", &case, work, device, repeats, paths)
}
