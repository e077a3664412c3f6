//! The training step: batch, teacher trace, student trace, objective, gradients, update.

use std::borrow::Cow;

use burn::tensor::Tensor;

use super::{AdamW, Learner, Student};
use crate::method::{Given, Known, Lesson, Past};
use crate::model::Training;

/// What one step consumes, on the device.
#[derive(Clone, Debug)]
pub struct StepBatch {
    /// Normalised images `[B, C, S, S]`.
    pub images: Tensor<4>,
    /// A distribution over the classes for each image, `[B, classes]`.
    pub targets: Tensor<2>,
    /// Which labels are known; `None` where all are.
    pub known: Option<Known>,
    /// The teacher's logits `[B, classes]`, where they were computed before: the teacher is then not run.
    pub teacher_logits: Option<Tensor<2>>,
    /// What the student said of the same samples some epochs ago, where that counts.
    pub past: Option<Past>,
    /// The number of the epoch, from 1.
    pub epoch: u64,
    /// In how many parts, one after the other, the batch is run. Their gradients are gathered for one update, so that a
    /// large batch fits a small memory; terms that compare samples compare those of one part.
    pub parts: usize,
}

impl StepBatch {
    /// A batch without logits from before, run as a whole.
    pub fn new(images: Tensor<4>, targets: Tensor<2>) -> Self {
        Self { images, targets, known: None, teacher_logits: None, past: None, epoch: 1, parts: 1 }
    }

    // The part from `start` on, a `share` of the batch.
    fn narrow(&self, start: usize, length: usize, share: f64) -> Self {
        let rows = |tensor: &Tensor<2>| tensor.clone().narrow(0, start, length);
        Self {
            images: self.images.clone().narrow(0, start, length),
            targets: rows(&self.targets),
            known: self.known.as_ref().map(|known| known.narrow(start, length, share)),
            teacher_logits: self.teacher_logits.as_ref().map(rows),
            past: self.past.as_ref().map(|past| Past { logits: rows(&past.logits), ..past.clone() }),
            epoch: self.epoch,
            parts: 1,
        }
    }
}

/// What one step reports, still on the device: reading it waits for the step.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The names of the terms, in the order of `values` after the total.
    pub names: Vec<Cow<'static, str>>,
    /// The total loss, then each term before its weight: `[1 + terms]`.
    pub values: Tensor<1>,
    /// The logits of the student's class head `[B, classes]`, as the step found them.
    pub logits: Tensor<2>,
    /// The teacher's logits `[B, classes]`, where the step asked it.
    pub teacher_logits: Option<Tensor<2>>,
}

/// Takes one step of `learner` by `lesson` and returns it updated.
///
/// The teacher sees the same images on the device without gradients. Nothing is read back.
///
/// # Panics
/// If the batch has no samples, or the learner is another lesson's.
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

// Runs a part of a batch, a `share` of it, leaves its gradients with the optimiser and its statistics in the student.
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
    // The terms have read what was tapped. Held on, it would stay in memory through the backward pass.
    let teacher_logits = teacher.filter(|_| asked).map(|trace| trace.logits);
    let logits = student.logits.clone().inner();
    drop(student);
    optimiser.gather(&learner, loss.total.backward(), share);
    let report = StepReport { names, values: Tensor::cat(values, 0), logits, teacher_logits };
    (Learner { student: learner.student.with_statistics(statistics), ..learner }, report)
}
