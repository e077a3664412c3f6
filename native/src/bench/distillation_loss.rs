//! Cross-entropy and softened divergence of every row of logits, forward and backward.

use burn::tensor::{Device, Tensor};
use potstill_core::kernel;
use serde_json::json;

use super::stock::rows_of_losses;
use super::{Path, Repeats, Row, Work, Workload, measure, random};
use crate::error::Result;

/// Temperature and smoothing; no number of work depends on them.
const TEMPERATURE: f32 = 2.0;
const SMOOTHING: f32 = 0.1;

/// Measures the losses of logits `[B, C]`.
///
/// # Errors
/// If the device fails.
pub fn distillation_loss(device: &Device, repeats: Repeats, [batch, classes]: [usize; 2]) -> Result<Vec<Row>> {
    let device = &device.clone().autodiff();
    let student = random([batch, classes], device, true);
    let teacher = random([batch, classes], &device.clone().inner(), false);
    let targets = Tensor::<2>::full([batch, classes], 1.0 / classes as f32, &device.clone().inner());
    type Loss = fn(Tensor<2>, Tensor<2>, Tensor<2>, f32, f32) -> Tensor<2>;
    let workload = |path, loss: Loss| {
        let (student, teacher, targets) = (student.clone(), teacher.clone(), targets.clone());
        let forward = move || loss(student.clone(), teacher.clone(), targets.clone(), TEMPERATURE, SMOOTHING);
        let hold = forward.clone();
        Workload {
            path,
            run: Box::new(move || Box::new(forward().sum().backward())),
            hold: Some(Box::new(move || Box::new(hold()))),
        }
    };
    let case = json!({ "batch": batch, "classes": classes });
    // Three rows read in each direction, one written backward.
    let bytes = (7 * batch * classes * size_of::<f32>()) as f64;
    let work = Work { bytes: Some(bytes), samples: Some(batch), ..Work::default() };
    let paths = vec![workload(Path::Potstill, kernel::distillation_loss), workload(Path::Stock, rows_of_losses)];
    measure("distillation-loss", &case, work, device, repeats, paths)
}
