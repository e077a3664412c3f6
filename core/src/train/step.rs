//! The training step: batch, teacher trace, student trace, objective, gradients, update.

use std::borrow::Cow;

use burn::tensor::Tensor;

use super::{AdamW, Learner, Student};
use crate::method::{Given, Known, Lesson, Past};
use crate::model::Training;

/// The inputs of one step, on the device.
#[derive(Clone, Debug)]
pub struct StepBatch {
    /// Normalised images `[B, C, S, S]`.
    pub images: Tensor<4>,
    /// A distribution over the classes for each image, `[B, classes]`.
    pub targets: Tensor<2>,
    /// Which labels are known; `None` if all are.
    pub known: Option<Known>,
    /// The teacher's logits `[B, classes]`, if they were computed before. The teacher then does not run.
    pub teacher_logits: Option<Tensor<2>>,
    /// The student's logits for the same samples some epochs ago, if the training uses them.
    pub past: Option<Past>,
    /// The number of the epoch, from 1.
    pub epoch: u64,
    /// Number of parts into which the batch is divided. They run one after the other, and their gradients are gathered for one
    /// update. So a large batch fits into a small memory. Terms that compare samples compare only samples of the same part.
    pub parts: usize,
}

impl StepBatch {
    /// A batch in one part, without logits that were computed before.
    pub fn new(images: Tensor<4>, targets: Tensor<2>) -> Self {
        Self { images, targets, known: None, teacher_logits: None, past: None, epoch: 1, parts: 1 }
    }

    // The part that begins at `start` and is a `share` of the batch.
    fn narrow(&self, start: usize, length: usize, share: f64) -> Self {
        let rows = |tensor: &Tensor<2>| tensor.clone().narrow(0, start, length);
        Self {
            images: self.images.clone().narrow(0, start, length),
            targets: rows(&self.targets),
            known: self.known.as_ref().map(|known| known.narrow(start, length, share)),
            teacher_logits: self.teacher_logits.as_ref().map(rows),
            past: self.past.as_ref().map(|past| Past {
                logits: rows(&past.logits),
                seen: past.seen.as_ref().map(|seen| seen.clone().narrow(0, start, length)),
                ..past.clone()
            }),
            epoch: self.epoch,
            parts: 1,
        }
    }
}

/// The results of one step, still on the device. Reading them waits for the step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The names of the terms, in the order of `values` after the total.
    pub names: Vec<Cow<'static, str>>,
    /// The total loss, then each term without its weight: `[1 + terms]`.
    pub values: Tensor<1>,
    /// The logits of the student's class head `[B, classes]`, before the update.
    pub logits: Tensor<2>,
    /// The teacher's logits `[B, classes]`, if the teacher ran.
    pub teacher_logits: Option<Tensor<2>>,
}

/// Takes one step of `learner` with `lesson`, and returns the updated learner.
///
/// The teacher sees the same images on the device without gradients. Nothing is read back.
///
/// # Panics
/// If the batch has no samples, or if the learner belongs to another lesson.
pub fn training_step<S: Student>(
    mut learner: Learner<S>,
    lesson: &Lesson,
    optimiser: &mut AdamW,
    batch: StepBatch,
    training: &Training,
    learning_rate: f64,
) -> (Learner<S>, StepReport) {
    let samples = batch.images.dims()[0];
    let length = samples.div_ceil(batch.parts.max(1));
    let report = if length == samples {
        let report;
        (learner, report) = teach(learner, lesson, optimiser, batch, training, 1.0);
        report
    } else {
        let mut reports = Vec::new();
        for start in (0..samples).step_by(length) {
            let length = length.min(samples - start);
            let share = length as f64 / samples as f64;
            let drawn = training.narrow(start, length);
            let part = batch.narrow(start, length, share);
            let report;
            (learner, report) = teach(learner, lesson, optimiser, part, &drawn, share);
            reports.push(StepReport { values: report.values.mul_scalar(share), ..report });
        }
        StepReport {
            names: reports[0].names.clone(),
            values: Tensor::stack::<2>(reports.iter().map(|report| report.values.clone()).collect(), 0)
                .sum_dim(0)
                .squeeze_dim(0),
            teacher_logits: reports
                .iter()
                .map(|report| report.teacher_logits.clone())
                .collect::<Option<Vec<_>>>()
                .map(|parts| Tensor::cat(parts, 0)),
            logits: Tensor::cat(reports.into_iter().map(|report| report.logits).collect(), 0),
        }
    };
    (optimiser.update(learner, learning_rate), report)
}

// Runs a part that is a `share` of the batch. Adds its gradients to the optimiser, and its running statistics to the student.
fn teach<S: Student>(
    learner: Learner<S>,
    lesson: &Lesson,
    optimiser: &mut AdamW,
    batch: StepBatch,
    training: &Training,
    share: f64,
) -> (Learner<S>, StepReport) {
    let [student_taps, _] = lesson.taps();
    let asked = batch.teacher_logits.is_none() || lesson.asks_more_than_logits();
    let teacher = lesson.teachers_trace(&batch.images, batch.teacher_logits);
    let mut student = learner.student.trace(batch.images, Some(training), student_taps);
    let statistics = std::mem::take(&mut student.statistics);
    let given = Given {
        teacher: teacher.as_ref(),
        targets: batch.targets,
        known: batch.known,
        aids: &learner.aids,
        past: batch.past,
        step: optimiser.steps(),
        epoch: batch.epoch,
    };
    let loss = lesson.loss(&student, given);
    let mut names = Vec::with_capacity(loss.parts.len());
    let mut values = vec![loss.total.clone().inner()];
    for part in loss.parts {
        names.push(part.name);
        values.push(part.value.inner());
    }
    // The terms have read the trace. If it were kept, it would take memory during the backward pass.
    let teacher_logits = teacher.filter(|_| asked).map(|trace| trace.logits);
    let logits = student.logits.clone().inner();
    drop(student);
    optimiser.gather(&learner, loss.total.backward(), share);
    let report = StepReport { names, values: Tensor::cat(values, 0), logits, teacher_logits };
    (Learner { student: learner.student.with_statistics(statistics), ..learner }, report)
}
