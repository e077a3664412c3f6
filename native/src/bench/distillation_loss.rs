//! Cross-entropy and divergence of every row of logits, forward and backward.

use burn::tensor::Tensor;
use potstill_core::op;
use serde_json::json;

use super::stock::rows_of_losses;
use super::{Passes, Path, Row, Setting, Work, Workload, measure, random};
use crate::error::Result;

/// Temperature and smoothing. The amount of work does not depend on them.
const TEMPERATURE: f32 = 2.0;
const SMOOTHING: f32 = 0.1;

/// Measures the losses of logits `[B, C]`. The backward pass begins with a gradient of ones.
///
/// # Errors
/// If the case does not fit or the device fails.
pub fn distillation_loss(setting: &Setting, [batch, classes]: [usize; 2]) -> Result<Vec<Row>> {
    let case = json!({ "batch": batch, "classes": classes });
    let logits = batch as f64 * classes as f64;
    setting.admit(&case, 16.0 * logits)?;
    let plain = &setting.device;
    let device = &plain.clone().autodiff();
    type Loss = fn(Tensor<2>, Tensor<2>, Tensor<2>, f32, f32) -> Tensor<2>;
    let workload = |path, loss: Loss| {
        let start = move || {
            let student = random([batch, classes], device, true);
            let teacher = random([batch, classes], plain, false);
            let targets = Tensor::<2>::full([batch, classes], 1.0 / classes as f32, plain);
            let forward = move || loss(student.clone(), teacher.clone(), targets.clone(), TEMPERATURE, SMOOTHING);
            let hold = forward.clone();
            Ok(Passes {
                run: Box::new(move || Box::new(forward().backward())),
                hold: Some(Box::new(move || Box::new(hold()))),
            })
        };
        Workload { path, start: Box::new(start) }
    };
    // Three rows read in each direction, one written backward.
    let bytes = 7.0 * logits * size_of::<f32>() as f64;
    let work = Work { bytes: Some(bytes), samples: Some(batch), ..Work::default() };
    let paths = vec![workload(Path::Potstill, op::distillation_loss), workload(Path::Stock, rows_of_losses)];
    measure("distillation-loss", &case, work, setting, paths)
}
