//! Attention, forward and backward: from packed queries, keys and values to their gradient.

use burn::tensor::Tensor;
use potstill_core::op;
use serde_json::json;

use super::stock::packed_attention;
use super::{Passes, Path, Row, Setting, Work, Workload, measure, random};
use crate::error::Result;

/// With the scale that every known model has.
fn ours(qkv: Tensor<5>) -> Tensor<4> {
    let scale = (qkv.dims()[4] as f32).powf(-0.5);
    op::attention(qkv, scale)
}

/// Measures attention for `[B, H, N, D]`. The backward pass begins with a gradient of ones.
///
/// # Errors
/// If the case does not fit or the device fails.
pub fn attention(setting: &Setting, [batch, heads, tokens, size]: [usize; 4]) -> Result<Vec<Row>> {
    let case = json!({ "batch": batch, "heads": heads, "tokens": tokens, "head_size": size });
    let [b, h, n, d] = [batch, heads, tokens, size].map(|count| count as f64);
    // Inputs, copies, output and gradients; scores, probabilities and their gradients.
    setting.admit(&case, b * h * n * (12.0 * d + 4.0 * n))?;
    let device = &setting.device.clone().autodiff();
    type Attend = fn(Tensor<5>) -> Tensor<4>;
    let workload = |path, attend: Attend| {
        let start = move || {
            let qkv = random([batch, tokens, 3, heads, size], device, true);
            let hold = qkv.clone();
            Ok(Passes {
                run: Box::new(move || Box::new(attend(qkv.clone()).backward())),
                hold: Some(Box::new(move || Box::new(attend(hold.clone())))),
            })
        };
        Workload { path, start: Box::new(start) }
    };
    // Two products forward, four backward.
    let work = Work { flops: Some(6.0 * 2.0 * b * h * n * n * d), samples: Some(batch), ..Work::default() };
    let paths = vec![workload(Path::Potstill, ours), workload(Path::Stock, packed_attention)];
    measure("attention", &case, work, setting, paths)
}
