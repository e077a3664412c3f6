//! The difference between the head-averaged attention maps of a pair of blocks, forward and backward.

use burn::tensor::Tensor;
use potstill_core::op::{QueriesAndKeys, attention_map, attention_map_loss, attention_with_lse};
use serde_json::json;

use super::stock::map_loss;
use super::{Passes, Path, Row, Setting, Work, Workload, measure, random};
use crate::error::Result;

/// Measures the loss of a student and a teacher for `[B, N, H, D, teacher's H, teacher's D]`. As in a step, attention has run in
/// both networks and returned its log-sum-exps. The other path does not read them.
///
/// # Errors
/// If the case does not fit or the device fails.
pub fn saf(setting: &Setting, sizes: [usize; 6]) -> Result<Vec<Row>> {
    let [batch, tokens, heads, size, teacher_heads, teacher_size] = sizes;
    let case = json!({
        "batch": batch, "tokens": tokens, "heads": heads, "head_size": size,
        "teacher_heads": teacher_heads, "teacher_head_size": teacher_size,
    });
    let [b, n, h, d, teacher_h, teacher_d] = sizes.map(|count| count as f64);
    // Inputs, copies and gradients; both networks' maps, and gradients of the student's.
    setting.admit(&case, b * n * (12.0 * h * d + 6.0 * teacher_h * teacher_d + n * (4.0 * h + 2.0 * teacher_h)))?;
    let plain = &setting.device;
    let device = &plain.clone().autodiff();
    type Loss = fn(QueriesAndKeys, QueriesAndKeys) -> Tensor<1>;
    let attended = |packed: Tensor<5>, size: usize| {
        let (_, lse) = attention_with_lse(packed.clone().detach(), (size as f32).powf(-0.5));
        QueriesAndKeys { packed, lse: Some(lse) }
    };
    let workload = |path, loss: Loss| {
        let start = move || {
            let student = attended(random([batch, tokens, 3, heads, size], device, true), size);
            let teacher = random([batch, tokens, 3, teacher_heads, teacher_size], plain, false);
            let teacher = attended(teacher, teacher_size);
            let forward = move || loss(student.clone(), teacher.clone());
            let hold = forward.clone();
            Ok(Passes {
                run: Box::new(move || Box::new(forward().backward())),
                hold: Some(Box::new(move || Box::new(hold()))),
            })
        };
        Workload { path, start: Box::new(start) }
    };
    // Scores of both networks, and two products of the student's gradient.
    let products = 2.0 * b * n * n * (3.0 * h * d + teacher_h * teacher_d);
    let work = Work { flops: Some(products), samples: Some(batch), ..Work::default() };
    let paths = vec![
        workload(Path::Potstill, |s, t| attention_map_loss(s, attention_map(t))),
        workload(Path::Stock, |s, t| map_loss(s.packed, t.packed)),
    ];
    measure("saf", &case, work, setting, paths)
}
