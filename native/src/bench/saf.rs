//! The difference of head-averaged attention maps of a pair of blocks, forward and backward.

use burn::tensor::{Device, Tensor};
use potstill_core::kernel;
use serde_json::json;

use super::stock::map_loss;
use super::{Path, Repeats, Row, Work, Workload, measure, random};
use crate::error::Result;

/// Measures the loss of a student and a teacher of `[B, N, H, D, teacher's H, teacher's D]`.
///
/// # Errors
/// If the device fails.
pub fn saf(device: &Device, repeats: Repeats, case: [usize; 6]) -> Result<Vec<Row>> {
    let [batch, tokens, heads, size, teacher_heads, teacher_size] = case;
    let device = &device.clone().autodiff();
    let student = random([batch, tokens, 3, heads, size], device, true);
    let teacher = random([batch, tokens, 3, teacher_heads, teacher_size], &device.clone().inner(), false);
    type Loss = fn(Tensor<5>, Tensor<5>) -> Tensor<1>;
    let workload = |path, loss: Loss| {
        let (student, teacher) = (student.clone(), teacher.clone());
        let forward = move || loss(student.clone(), teacher.clone());
        let hold = forward.clone();
        Workload {
            path,
            run: Box::new(move || Box::new(forward().backward())),
            hold: Some(Box::new(move || Box::new(hold()))),
        }
    };
    let case = json!({
        "batch": batch, "tokens": tokens, "heads": heads, "head_size": size,
        "teacher_heads": teacher_heads, "teacher_head_size": teacher_size,
    });
    // Scores of both networks, and two products of the student's gradient.
    let products = 2 * batch * tokens * tokens * (3 * heads * size + teacher_heads * teacher_size);
    let work = Work { flops: Some(products as f64), samples: Some(batch), ..Work::default() };
    let paths = vec![workload(Path::Potstill, kernel::attention_map_loss), workload(Path::Stock, map_loss)];
    measure("saf", &case, work, device, repeats, paths)
}
