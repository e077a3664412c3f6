//! The training step: batch, teacher trace, student trace, objective, gradients, update.

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::AdamW;
use crate::model::{Network, Trace, Training};
use crate::objective::{Lesson, Objective, Projector, Readout};

/// A student with what is trained beside it and thrown away after.
#[derive(Module, Debug)]
pub struct Learner {
    /// The network that is kept.
    pub student: Network,
    /// What carries its class token to the teacher's width, where [`Objective::projector`] asks for it.
    pub projector: Option<Projector>,
}

impl Learner {
    /// `student` with the projector that `objective` asks for with this teacher, drawn from `seed`.
    pub fn new(student: Network, teacher: Option<&Network>, objective: &Objective, seed: u64, device: &Device) -> Self {
        let widths = teacher.and_then(|teacher| objective.projector(&student.shape(), &teacher.shape()));
        let projector = widths.map(|[student, teacher]| Projector::new(student, teacher, seed, device));
        Self { student, projector }
    }
}

impl From<Network> for Learner {
    fn from(student: Network) -> Self {
        Self { student, projector: None }
    }
}

/// The teacher's view of images that are normalised for the student: `x · std_s / std_t + (mean_s − mean_t) / std_t`.
#[derive(Clone, Debug)]
pub struct Renormalise {
    // Each [1, C, 1, 1].
    factor: Tensor<4>,
    summand: Tensor<4>,
}

impl Renormalise {
    /// From the factor and the summand of each channel, as [`crate::data::Normalisation::to`] gives them.
    pub fn new(channels: &[(f32, f32)], device: &Device) -> Self {
        let row = |values: Vec<f32>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [1, count, 1, 1]), device)
        };
        let (factors, summands) = channels.iter().copied().unzip();
        Self { factor: row(factors), summand: row(summands) }
    }

    /// `[B, C, S, S]` as the teacher has it.
    pub fn apply(&self, images: Tensor<4>) -> Tensor<4> {
        images * self.factor.clone() + self.summand.clone()
    }
}

/// What one step consumes, on the device.
#[derive(Clone, Debug)]
pub struct StepBatch {
    /// Normalised images `[B, C, S, S]`.
    pub images: Tensor<4>,
    /// A distribution over the classes for each image, `[B, classes]`.
    pub targets: Tensor<2>,
    /// The teacher's logits `[B, classes]`, where they were computed before: the teacher is then not run.
    pub teacher_logits: Option<Tensor<2>>,
    /// How the teacher's images differ from the student's, where they do.
    pub renormalise: Option<Renormalise>,
    /// The student's own logits `[B, classes]` of some epochs ago, for a retrospection.
    pub past_logits: Option<Tensor<2>>,
    /// In how many parts, one after the other, the batch is run. Their gradients are gathered for one update, so that a
    /// large batch fits a small memory; terms that compare samples compare those of one part.
    pub parts: usize,
}

impl StepBatch {
    /// A batch without logits from before, run as a whole.
    pub fn new(images: Tensor<4>, targets: Tensor<2>) -> Self {
        Self { images, targets, teacher_logits: None, renormalise: None, past_logits: None, parts: 1 }
    }

    fn narrow(&self, start: usize, length: usize) -> Self {
        let rows = |tensor: &Tensor<2>| tensor.clone().narrow(0, start, length);
        Self {
            images: self.images.clone().narrow(0, start, length),
            targets: rows(&self.targets),
            teacher_logits: self.teacher_logits.as_ref().map(rows),
            renormalise: self.renormalise.clone(),
            past_logits: self.past_logits.as_ref().map(rows),
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

/// Takes one step of `learner` towards `objective` and returns it updated.
///
/// The teacher sees the same images on the device without gradients. Nothing is read back.
///
/// # Panics
/// If the batch has no samples, or the objective needs a teacher, past logits or a projector that are not there.
pub fn training_step(
    mut learner: Learner,
    teacher: Option<&Network>,
    optimiser: &mut AdamW,
    objective: &Objective,
    batch: StepBatch,
    training: &Training,
    learning_rate: f64,
) -> (Learner, StepReport) {
    let samples = batch.images.dims()[0];
    let length = samples.div_ceil(batch.parts.max(1));
    let report = if length == samples {
        let report;
        (learner, report) = teach(learner, teacher, optimiser, objective, batch, training, 1.0);
        report
    } else {
        let mut reports = Vec::new();
        for start in (0..samples).step_by(length) {
            let length = length.min(samples - start);
            let share = length as f64 / samples as f64;
            let drawn = training.narrow(start, length);
            let part = batch.narrow(start, length);
            let report;
            (learner, report) = teach(learner, teacher, optimiser, objective, part, &drawn, share);
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
fn teach(
    learner: Learner,
    teacher: Option<&Network>,
    optimiser: &mut AdamW,
    objective: &Objective,
    batch: StepBatch,
    training: &Training,
    share: f64,
) -> (Learner, StepReport) {
    let student = &learner.student;
    let teacher_depth = teacher.map_or(0, |teacher| teacher.shape().depth);
    let (student_taps, teacher_taps) = objective.taps(student.shape().depth, teacher_depth);
    // Logits computed before are enough where nothing else is asked for.
    let known = batch.teacher_logits.filter(|_| teacher_taps.is_empty()).map(Trace::of_logits);
    let asked = known.is_none();
    let teacher_trace = known.or_else(|| {
        let teacher = teacher.filter(|_| objective.needs_teacher())?;
        let images = batch.images.clone();
        let images = batch.renormalise.as_ref().map_or(images.clone(), |view| view.apply(images));
        let trace = teacher.forward_with(images, None, &teacher_taps);
        // A teacher with two heads speaks as DeiT is evaluated, with one voice.
        Some(Trace { logits: Readout::MeanLogits.of(&trace), ..trace })
    });
    let mut student_trace = student.forward_with(batch.images, Some(training), &student_taps);
    let statistics = std::mem::take(&mut student_trace.statistics);
    let lesson = Lesson {
        teacher: teacher_trace.as_ref(),
        past: batch.past_logits,
        projector: learner.projector.as_ref(),
        step: optimiser.steps(),
    };
    let loss = objective.loss_with(&student_trace, &lesson, batch.targets);
    let mut names = Vec::with_capacity(loss.terms.len());
    let mut values = vec![loss.total.clone().inner()];
    for term in loss.terms {
        names.push(term.name);
        values.push(term.value.inner());
    }
    // The terms have read what was tapped. Held on, it would stay in memory through the backward pass.
    let teacher_logits = teacher_trace.filter(|_| asked).map(|trace| trace.logits);
    let logits = student_trace.logits.clone().inner();
    drop(student_trace);
    optimiser.gather(&learner, loss.total.backward(), share);
    let report = StepReport { names, values: Tensor::cat(values, 0), logits, teacher_logits };
    (Learner { student: learner.student.with_statistics(statistics), ..learner }, report)
}
