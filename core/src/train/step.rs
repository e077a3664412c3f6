//! The training step: batch, teacher trace, student trace, objective, gradients, update.

use burn::tensor::Tensor;

use super::AdamW;
use crate::model::{Network, Trace, Training};
use crate::objective::Objective;

/// What one step consumes, on the device.
#[derive(Clone, Debug)]
pub struct StepBatch {
    /// Normalised images `[B, C, S, S]`.
    pub images: Tensor<4>,
    /// A distribution over the classes for each image, `[B, classes]`.
    pub targets: Tensor<2>,
    /// The teacher's logits `[B, classes]`, where they were computed before: the teacher is then not run.
    pub teacher_logits: Option<Tensor<2>>,
}

/// What one step reports, still on the device: reading it waits for the step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The names of the terms, in the order of `values` after the total.
    pub names: Vec<&'static str>,
    /// The total loss, then each term before its weight: `[1 + terms]`.
    pub values: Tensor<1>,
}

/// Takes one step of `student` towards `objective` and returns it updated.
///
/// The teacher sees the same images on the device without gradients. Nothing is read back.
pub fn training_step(
    student: Network,
    teacher: Option<&Network>,
    optimiser: &mut AdamW,
    objective: &Objective,
    batch: StepBatch,
    training: &Training,
    learning_rate: f64,
) -> (Network, StepReport) {
    let teacher_depth = teacher.map_or(0, |teacher| teacher.shape().depth);
    let (student_taps, teacher_taps) = objective.taps(student.shape().depth, teacher_depth);
    // Logits computed before are enough where nothing else is asked for.
    let known = batch.teacher_logits.filter(|_| teacher_taps.is_empty()).map(Trace::of_logits);
    let teacher_trace = known.or_else(|| {
        let teacher = teacher.filter(|_| objective.needs_teacher())?;
        Some(teacher.forward_with(batch.images.clone(), None, &teacher_taps))
    });
    let student_trace = student.forward_with(batch.images, Some(training), &student_taps);
    let loss = objective.loss_at(optimiser.steps(), &student_trace, teacher_trace.as_ref(), batch.targets);
    let mut names = Vec::with_capacity(loss.terms.len());
    let mut values = vec![loss.total.clone().inner()];
    for term in loss.terms {
        names.push(term.name);
        values.push(term.value.inner());
    }
    let report = StepReport { names, values: Tensor::cat(values, 0) };
    let student = optimiser.step(student, loss.total.backward(), learning_rate);
    (student, report)
}
