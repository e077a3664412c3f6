//! A distillation under way: a teacher, a student, and the baseline: the same student without a teacher.
//!
//! Student and baseline start from the same values and see the same batches, so that what tells them apart is the teaching
//! alone. The step is core's, the one that the native program takes; batches follow from (seed, step), so a run that was
//! saved goes on as if it had never stopped.
//!
//! Invariants: nothing is read from the device without being awaited; a few steps are queued at most before a read, since
//! a browser holds nothing back by itself; a loss that is no number ends the run.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{Batch, Dataset, Digits, Split, assemble, epoch_order};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::objective::{LogitTable, Objective};
use potstill_core::train::metrics::argmax;
use potstill_core::train::{AdamW, Evaluation, Learner, StepBatch, StepReport, WarmupCosine, training_step};

use crate::data::transform;
use crate::plan::{Plan, live_teacher, optimiser};
use crate::protocol::{DistilRecipe, History, Model, Quantity};

/// Held-out samples of the checks during training.
const CHECKED: usize = 1_000;
/// Samples that run through a network together outside training; the native program's number, for the same sums.
const TOGETHER: usize = 100;
/// Steps between two reads, at most.
const MOST_UNREAD: usize = 16;
/// What a chunk of steps should take, in milliseconds: so long a pause button waits.
const CHUNK: f64 = 150.0;

/// A network in training, and its optimiser.
pub struct Pupil {
    /// The network, with gradients.
    pub learner: Learner,
    /// Its optimiser.
    pub optimiser: AdamW,
}

impl Pupil {
    fn new(config: &NetworkConfig, seed: u64, device: &Device) -> Result<Self, String> {
        let student = config.init(seed, &device.clone().autodiff()).map_err(|error| error.to_string())?;
        Ok(Self { learner: student.into(), optimiser: AdamW::new(optimiser()) })
    }

    /// The network as it is now, without gradients.
    pub fn network(&self) -> Network {
        self.learner.student.valid()
    }
}

/// Who teaches.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Teacher {
    /// A trained network.
    Ready(Network),
    /// One that is trained first, for the plan's number of steps.
    Learning(Box<Pupil>),
}

/// All three networks, and how far they are.
pub struct Distillation {
    /// What is trained.
    pub plan: Plan,
    /// Who teaches.
    pub teacher: Teacher,
    /// Who is taught.
    pub student: Pupil,
    /// Who is not.
    pub baseline: Pupil,
    /// What the student said of each training sample, for a retrospection.
    pub past: Option<LogitTable>,
    /// Steps of the phase: of the teacher while it learns, else of student and baseline.
    pub step: u32,
    /// What was recorded.
    pub history: History,
    train: Arc<dyn Dataset>,
    device: Device,
    order: Option<(u64, Vec<u64>)>,
    unread: Vec<Unread>,
    chunk: usize,
    // The teacher's decisions on the samples of a check.
    teacher_says: Option<Vec<u32>>,
}

struct Unread {
    step: u32,
    indices: Vec<u64>,
    // Student and baseline, or the teacher alone.
    reports: Vec<StepReport>,
}

/// What one chunk did.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// Which network was trained.
    pub phase: Model,
    /// Steps taken.
    pub steps: u32,
    /// Images that all networks were trained on.
    pub images: u32,
}

/// Tells milliseconds from any start.
pub type Clock = fn() -> f64;

impl Distillation {
    /// Everything at step 0. Without `teacher` one is trained first.
    ///
    /// # Errors
    /// If teacher, student and method do not go together.
    pub fn new(plan: Plan, teacher: Option<Network>, train: Arc<dyn Dataset>, device: &Device) -> Result<Self, String> {
        let shape = teacher.as_ref().map_or_else(|| live_teacher().shape(), Network::shape);
        if plan.objective.needs_teacher() {
            plan.objective.check(&plan.student.shape(), &shape).map_err(|error| error.to_string())?;
        }
        let pupil = || Pupil::new(&plan.student, plan.seed(), device);
        let (student, baseline) = (pupil()?, pupil()?);
        let teacher = match teacher {
            Some(network) => Teacher::Ready(network),
            None => {
                let pupil = Pupil::new(&live_teacher(), plan.teacher_seed(), device)?;
                Teacher::Learning(Box::new(pupil))
            }
        };
        let past = plan.retrospection.as_ref().map(|_| LogitTable::new(train.len(), train.classes()));
        let device = device.clone();
        Ok(Self {
            plan,
            teacher,
            student,
            baseline,
            past,
            step: 0,
            history: History::default(),
            train,
            device,
            order: None,
            unread: Vec::new(),
            chunk: 1,
            teacher_says: None,
        })
    }

    /// A network as it is now, without gradients.
    pub fn network(&self, model: Model) -> Network {
        match (model, &self.teacher) {
            (Model::Teacher, Teacher::Ready(network)) => network.clone(),
            (Model::Teacher, Teacher::Learning(pupil)) => pupil.network(),
            (Model::Student, _) => self.student.network(),
            (Model::Baseline, _) => self.baseline.network(),
        }
    }

    /// Which network is trained next.
    pub fn phase(&self) -> Model {
        match self.teacher {
            Teacher::Ready(_) => Model::Student,
            Teacher::Learning(_) => Model::Teacher,
        }
    }

    /// Whether every step is taken.
    pub fn is_finished(&self) -> bool {
        self.phase() == Model::Student && self.step >= self.plan.recipe.steps
    }

    /// Steps that the student has taken.
    pub fn student_steps(&self) -> u32 {
        if self.phase() == Model::Teacher { 0 } else { self.step }
    }

    fn steps_of_phase(&self) -> u32 {
        match self.teacher {
            Teacher::Ready(_) => self.plan.recipe.steps,
            Teacher::Learning(_) => self.plan.recipe.teacher_steps,
        }
    }

    fn batch_size(&self) -> usize {
        (self.plan.recipe.batch as usize).min(self.train.len())
    }

    /// Batches of an epoch; the last, smaller one is left out.
    fn batches(&self) -> u64 {
        (self.train.len() / self.batch_size()).max(1) as u64
    }

    fn batch(&mut self, step: u64) -> Result<Batch, String> {
        let (epoch, position) = (step / self.batches(), (step % self.batches()) as usize);
        let (len, seed, size) = (self.train.len(), self.plan.seed(), self.batch_size());
        if self.order.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.order = Some((epoch, epoch_order(len, seed, epoch)));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        let indices = &order[position * size..][..size];
        assemble(self.train.as_ref(), indices, &transform()).map_err(|e| e.to_string())
    }

    fn upload(&self, batch: &Batch) -> StepBatch {
        let (samples, classes) = (batch.labels.len(), self.train.classes());
        let mut targets = vec![0.0_f32; samples * classes];
        for (row, label) in batch.labels.iter().enumerate() {
            targets[row * classes + *label as usize] = 1.0;
        }
        StepBatch::new(images(batch.images.clone(), samples, &self.device), self.rows(targets))
    }

    fn rows(&self, values: Vec<f32>) -> Tensor<2> {
        let classes = self.train.classes();
        let samples = values.len() / classes;
        Tensor::from_data(TensorData::new(values, [samples, classes]), &self.device)
    }

    /// Takes a few steps, at most `most`, reads what they said, and checks the networks where a check is due.
    ///
    /// # Errors
    /// A line for the person: a loss that is no number, or a device that failed.
    pub async fn advance(&mut self, most: u32, held_out: &dyn Dataset, clock: Clock) -> Result<Chunk, String> {
        let (phase, total) = (self.phase(), self.steps_of_phase());
        let (start, first) = (clock(), self.step);
        let mut images = 0;
        while self.step < total && self.step - first < most && self.unread.len() < self.chunk {
            images += match phase {
                Model::Teacher => self.teacher_step()?,
                _ => self.student_step()?,
            };
            if self.check_is_due(total) || (self.past.is_some() && self.epoch_ends()) {
                break;
            }
        }
        let steps = self.step - first;
        self.read().await?;
        if steps > 0 {
            // As many steps as fill a chunk's time next time, rising no faster than twofold.
            let fitting = (CHUNK * f64::from(steps) / (clock() - start).max(1.0)) as usize;
            self.chunk = fitting.clamp(1, (2 * self.chunk).min(MOST_UNREAD));
        }
        match &self.teacher {
            Teacher::Learning(pupil) if self.step == total => {
                self.teacher = Teacher::Ready(pupil.network());
                self.step = 0;
            }
            Teacher::Ready(_) if steps > 0 => {
                let (epoch, ends) = (u64::from(self.step) / self.batches(), self.epoch_ends());
                if let (Some(rule), Some(table)) = (&self.plan.retrospection, &mut self.past)
                    && ends
                    && rule.copies_after(epoch)
                {
                    table.refresh();
                }
                if self.check_is_due(total) {
                    self.check(held_out).await?;
                }
            }
            _ => {}
        }
        Ok(Chunk { phase, steps, images })
    }

    /// Whether held-out samples are looked at after the step just taken: eight times a run, and after the last.
    fn check_is_due(&self, total: u32) -> bool {
        self.step == total || self.step.is_multiple_of((total / 8).clamp(10, 200))
    }

    fn epoch_ends(&self) -> bool {
        u64::from(self.step).is_multiple_of(self.batches())
    }

    fn teacher_step(&mut self) -> Result<u32, String> {
        let batch = self.batch(u64::from(self.step))?;
        let inputs = self.upload(&batch);
        let labels = Objective::Labels { smoothing: 0.0 };
        let (seed, rate) = (self.plan.teacher_seed(), self.plan.schedule(self.plan.recipe.teacher_steps));
        let Teacher::Learning(pupil) = &mut self.teacher else { return Err("the teacher has learnt already".into()) };
        let report = step(pupil, None, &labels, inputs, seed, self.step, rate, &self.device);
        let samples = batch.indices.len() as u32;
        self.step += 1;
        self.unread.push(Unread { step: self.step, indices: batch.indices, reports: vec![report] });
        Ok(samples)
    }

    fn student_step(&mut self) -> Result<u32, String> {
        let batch = self.batch(u64::from(self.step))?;
        let inputs = self.upload(&batch);
        let labels = Objective::Labels { smoothing: 0.0 };
        let (seed, rate) = (self.plan.seed(), self.plan.schedule(self.plan.recipe.steps));
        // Epochs count from 1 in the rule.
        let epoch = u64::from(self.step) / self.batches() + 1;
        let applied = self.plan.retrospection.as_ref().map(|rule| rule.applied(&self.plan.objective, epoch));
        let mut taught = inputs.clone();
        if let Some(table) = &self.past {
            taught.past_logits = Some(self.rows(table.rows(&batch.indices).map_err(|error| error.to_string())?));
        }
        let objective = applied.as_ref().unwrap_or(&self.plan.objective);
        let Teacher::Ready(teacher) = &self.teacher else { return Err("the teacher has not learnt yet".into()) };
        let student = step(&mut self.student, Some(teacher), objective, taught, seed, self.step, rate, &self.device);
        let baseline = step(&mut self.baseline, None, &labels, inputs, seed, self.step, rate, &self.device);
        let samples = batch.indices.len() as u32;
        self.step += 1;
        self.unread.push(Unread { step: self.step, indices: batch.indices, reports: vec![student, baseline] });
        Ok(2 * samples)
    }

    // Reads all waiting reports in one transfer.
    async fn read(&mut self) -> Result<(), String> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let unread = std::mem::take(&mut self.unread);
        if let Some(table) = self.past.as_mut().filter(|_| unread[0].reports.len() == 2) {
            let logits = unread.iter().map(|step| step.reports[0].logits.clone()).collect();
            let logits = values(Tensor::cat(logits, 0)).await?;
            let mut rest = logits.as_slice();
            for Unread { indices, .. } in &unread {
                let (own, tail) = rest.split_at(indices.len() * self.train.classes());
                rest = tail;
                table.record(indices, own).map_err(|error| error.to_string())?;
            }
        }
        let reports = unread.iter().flat_map(|step| step.reports.iter().map(|report| report.values.clone())).collect();
        let numbers = values(Tensor::cat(reports, 0)).await?;
        let mut rest = numbers.as_slice();
        for Unread { step, reports, .. } in &unread {
            let mut own = reports.iter().map(|report| {
                let (own, tail) = rest.split_at(1 + report.names.len());
                rest = tail;
                own
            });
            let first = own.next().unwrap_or(&[]);
            let second = own.next();
            self.record(*step, &reports[0], first, second)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        step: u32,
        report: &StepReport,
        first: &[f32],
        baseline: Option<&[f32]>,
    ) -> Result<(), String> {
        let loss = first[0];
        let Some(baseline) = baseline else {
            self.history.record(Model::Teacher, Quantity::Loss, step, loss);
            return self.finite(step, "teacher", loss);
        };
        self.history.record(Model::Student, Quantity::Loss, step, loss);
        self.history.record(Model::Baseline, Quantity::Loss, step, baseline[0]);
        for (name, term) in report.names.iter().zip(&first[1..]) {
            self.history.record(Model::Student, Quantity::Term(name.to_string()), step, *term);
        }
        self.finite(step, "student", loss)?;
        self.finite(step, "baseline", baseline[0])
    }

    fn finite(&self, step: u32, whose: &str, loss: f32) -> Result<(), String> {
        if loss.is_finite() {
            return Ok(());
        }
        let rate = self.plan.recipe.learning_rate;
        Err(format!(
            "the {whose}'s loss is no longer a number at step {step}; lower the learning rate, which is {rate}"
        ))
    }

    async fn check(&mut self, held_out: &dyn Dataset) -> Result<(), String> {
        let samples = CHECKED.min(held_out.len());
        let mut says = Vec::new();
        for model in [Model::Teacher, Model::Student, Model::Baseline] {
            let known = self.teacher_says.clone().filter(|_| model == Model::Teacher);
            let decisions = match known {
                Some(decisions) => decisions,
                None => decisions(&logits(&self.network(model), held_out, 0..samples, &self.device).await?, held_out),
            };
            let count = decisions.iter().enumerate().filter(|(i, class)| held_out.label(*i) == **class).count();
            let right = count as f32 / samples.max(1) as f32;
            self.history.record(model, Quantity::Accuracy, self.step, right);
            says.push(decisions);
        }
        self.history.record(Model::Student, Quantity::Agreement, self.step, agreement(&says[0], &says[1]));
        self.teacher_says = says.into_iter().next();
        Ok(())
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one step, each named where it is made")]
fn step(
    pupil: &mut Pupil,
    teacher: Option<&Network>,
    objective: &Objective,
    inputs: StepBatch,
    seed: u64,
    step: u32,
    schedule: WarmupCosine,
    device: &Device,
) -> StepReport {
    let samples = inputs.images.dims()[0];
    let training = pupil.learner.student.draw_training(seed, u64::from(step), samples, device);
    let learner = pupil.learner.clone();
    let rate = schedule.at(u64::from(step));
    let (learner, report) = training_step(learner, teacher, &mut pupil.optimiser, objective, inputs, &training, rate);
    pupil.learner = learner;
    report
}

/// Grey images of 28 x 28 on the device.
pub fn images(pixels: Vec<f32>, samples: usize, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels, [samples, 1, 28, 28]), device)
}

/// One line for a device that failed: the last cause that the runtime names, without its backtrace.
pub fn failure(error: impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    let causes = text.lines().map(str::trim).take_while(|line| *line != "Backtrace:");
    format!("the device failed ({})", causes.filter(|line| !line.is_empty()).last().unwrap_or("no reason is known"))
}

/// The numbers of a tensor.
///
/// # Errors
/// If the device failed.
pub async fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, String> {
    let data = tensor.into_data_async().await.map_err(failure)?;
    Ok(data.iter().collect())
}

/// What `network` says of samples as they are, `[samples, classes]`.
///
/// # Errors
/// If the device failed.
pub async fn logits(
    network: &Network,
    dataset: &dyn Dataset,
    samples: std::ops::Range<usize>,
    device: &Device,
) -> Result<Vec<f32>, String> {
    let mut all = Vec::with_capacity(samples.len() * dataset.classes());
    for start in samples.clone().step_by(TOGETHER) {
        let indices: Vec<u64> = (start..(start + TOGETHER).min(samples.end)).map(|index| index as u64).collect();
        let batch = assemble(dataset, &indices, &transform()).map_err(|e| e.to_string())?;
        all.extend(values(network.forward(images(batch.images, indices.len(), device), None).logits).await?);
    }
    Ok(all)
}

/// The class that each row of logits decides for.
pub fn decisions(logits: &[f32], dataset: &dyn Dataset) -> Vec<u32> {
    logits.chunks_exact(dataset.classes()).map(argmax).collect()
}

/// The fraction of samples on which two networks decide alike.
pub fn agreement(one: &[u32], other: &[u32]) -> f32 {
    let alike = one.iter().zip(other).filter(|(a, b)| a == b).count();
    alike as f32 / one.len().max(1) as f32
}

/// Counts over the first samples of a data set, from logits.
pub fn count(logits: &[f32], dataset: &dyn Dataset) -> Evaluation {
    let mut evaluation = Evaluation::new(dataset.classes());
    let labels: Vec<u32> = (0..logits.len() / dataset.classes()).map(|index| dataset.label(index)).collect();
    evaluation.add(logits, &labels);
    evaluation
}

/// The losses of two small training steps on `device`: a rehearsal whose numbers must be the same everywhere. It reaches
/// what the kernels' own test does not: matrix products in the shapes of these networks, and the optimiser. Networks of
/// one block, since every block runs the same programs.
///
/// # Errors
/// If the device failed.
pub async fn rehearsal(device: &Device) -> Result<Vec<f32>, String> {
    let recipe = DistilRecipe { train_samples: 64, batch: 32, steps: 2, depth: 1, ..DistilRecipe::default() };
    let plan = Plan::new(recipe)?;
    let digits = Arc::new(Digits::new(Split::Train, 64));
    let teacher = plan.student.init(plan.teacher_seed(), device).map_err(|error| error.to_string())?;
    let mut run = Distillation::new(plan, Some(teacher), digits, device)?;
    run.chunk = 2;
    // No held-out samples, and so nothing but steps.
    run.advance(2, &Digits::new(Split::Test, 0), || 0.0).await?;
    let losses = run.history.curves.into_iter().filter(|curve| curve.quantity == Quantity::Loss);
    Ok(losses.flat_map(|curve| curve.values).collect())
}

#[cfg(test)]
mod tests {
    use super::failure;

    #[test]
    fn a_failure_is_one_line() {
        struct Nested;
        impl std::fmt::Debug for Nested {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(out, "it went wrong\nCaused by:\n  no memory\nBacktrace:\n  0: main")
            }
        }
        assert_eq!(failure(Nested), "the device failed (no memory)");
    }
}
