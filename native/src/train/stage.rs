//! One network's training, from its first step or a checkpoint to its last.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{Batch, Dataset, ImageShape, Transform};
use potstill_core::method::{Lesson, LogitTable, Past, Preset, Readout, Renormalise, Retrospection, Teacher};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::train::{AdamW, Learner, StepBatch, StepReport, heads_alone, training_step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::Interrupt;
use super::checkpoint::Checkpoint;
use super::loader::{Loader, Source};
use super::metrics_log::{Check, Line, MetricsLog, Step};
use super::teacher_cache::{Keep, TeacherCache, origin};
use crate::error::{Context, Failure, Result};
use crate::evaluate::{evaluate, first_logits};
use crate::progress::{Progress, say};
use crate::recipe::{NetworkRecipe, Trainable};
use crate::run::{Role, RunFolder, load_start};

// Losses are read back this often: each read waits for the device.
const READ_EVERY: usize = 10;
// A check after an epoch, or of a teacher before it teaches, looks at this many held-out samples at most; the final figure
// is taken on all that the recipe measures on.
const CHECK_SAMPLES: usize = 2_000;

// Rows of a cache that are held against the teacher before it is believed.
const CHECKED_ROWS: usize = 16;

/// What a stage reads.
#[derive(Clone)]
pub struct StageData {
    /// Training samples and how they are read.
    pub source: Source,
    /// Held-out samples.
    pub held_out: Arc<dyn Dataset>,
    /// How many of them are looked at before the end.
    pub checked: usize,
}

impl StageData {
    /// What is read, of which at most `test_samples` held-out samples are measured on.
    pub fn new(source: Source, held_out: Arc<dyn Dataset>, test_samples: Option<usize>) -> Self {
        Self { source, held_out, checked: test_samples.unwrap_or(CHECK_SAMPLES).min(CHECK_SAMPLES) }
    }

    /// How samples become a network's inputs.
    pub fn transform_for(&self, config: &NetworkConfig) -> Transform {
        let shape = ImageShape { channels: config.channels(), height: config.image_size(), width: config.image_size() };
        Transform { shape, ..self.source.transform.clone() }
    }

    fn source_for(&self, config: &NetworkConfig, batch_size: usize) -> Source {
        let source = self.source.clone();
        Source { transform: self.transform_for(config), batch_size: batch_size.min(source.dataset.len()), ..source }
    }
}

/// A stage to run.
pub struct Stage<'a> {
    /// Which network of the run.
    pub role: Role,
    /// How it is trained.
    pub recipe: &'a NetworkRecipe,
    /// What it is.
    pub config: &'a NetworkConfig,
    /// What it is taught.
    pub objective: &'a Preset,
    /// By whom.
    pub teacher: Option<&'a Network>,
    /// How the teacher's images differ from this network's, where they do.
    pub view: Option<Renormalise>,
    /// How its heads make one prediction.
    pub readout: Readout,
    /// Where the teacher's logits are kept, and how.
    pub cache: Option<Keep<'a>>,
    /// From what.
    pub data: &'a StageData,
    /// The seed of its initial values.
    pub seed: u64,
    /// The device, without gradients.
    pub device: &'a Device,
    /// Where its files go.
    pub run: &'a RunFolder,
}

/// What a stage's training cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Seconds spent in training steps and reading batches; checks and files are left out.
    pub seconds: f64,
    /// Training images a second over that time.
    pub images_per_second: f64,
    /// Images a second that the loader read by itself, of the process that finished the training.
    #[serde(default)]
    pub loader_images_per_second: Option<f64>,
    /// Images a second of the steps, without the time in which they waited for the loader; likewise.
    #[serde(default)]
    pub step_images_per_second: Option<f64>,
    /// Training images that the teacher was asked about, of the process that finished the training.
    #[serde(default)]
    pub teacher_images: u64,
    /// Seconds that the teacher's logits took beside the steps: to open and check what is kept of them, to look it up, and
    /// where images are never varied to ask the teacher once; likewise. Part of `seconds`.
    #[serde(default)]
    pub recall_seconds: f64,
}

/// A network at the end of its training, without gradients.
pub struct Finished {
    /// The network.
    pub model: Network,
    /// The exponential mean of its parameters, where one was kept.
    pub average: Option<Network>,
    /// What it cost.
    pub outcome: Outcome,
}

// A step whose report waits on the device, and the samples it was taken on.
struct Unread {
    step: u64,
    // The place of its first sample in its epoch.
    first: u64,
    learning_rate: f64,
    report: StepReport,
    indices: Vec<u64>,
}

// What is known of a teacher's logits without asking it.
#[derive(Default)]
struct Memory {
    // By the sample's index, where images are never varied.
    table: Option<Vec<f32>>,
    // By epoch and place in it.
    cache: Option<TeacherCache>,
    // Whether what is kept was held against the teacher in this run.
    checked: bool,
    // Images that the teacher was asked about.
    asked: u64,
    // Seconds of looking up.
    seconds: f64,
}

impl Memory {
    // The teacher's logits of a batch, if they are known.
    fn recall(
        &mut self,
        stage: &Stage<'_>,
        epoch: u64,
        first: u64,
        indices: &[u64],
        images: &Tensor<4>,
    ) -> Result<Option<Tensor<2>>> {
        if let Some(table) = &self.table {
            let classes = stage.config.classes();
            let row = |index: &u64| &table[*index as usize * classes..][..classes];
            return Ok(Some(stage.rows(indices.iter().flat_map(row).copied().collect())));
        }
        let Some(cache) = self.cache.as_mut() else { return Ok(None) };
        let Some(kept) = cache.rows(epoch, first, indices.len())? else { return Ok(None) };
        if let (false, Some(teacher)) = (self.checked, stage.teacher) {
            let rows = indices.len().min(CHECKED_ROWS);
            let said = Readout::MeanLogits.of(&teacher.forward(stage.seen(images.clone().narrow(0, 0, rows)), None));
            let said: Vec<f32> = said.try_into_data().context("the device failed")?.iter().collect();
            cache.check(&kept[..said.len()], &said)?;
            self.checked = true;
            self.asked += rows as u64;
        }
        Ok(Some(stage.rows(kept)))
    }
}

impl Stage<'_> {
    /// Trains to the end. `Ok(None)` means that the person stopped it and it is saved.
    pub fn train(
        &self,
        checkpoint: Option<&Checkpoint>,
        log: &mut MetricsLog,
        interrupt: &Interrupt,
    ) -> Result<Option<Finished>> {
        // A given teacher is known only now; one of the recipe has been checked with it.
        let lesson = self.lesson()?;
        let source = self.data.source_for(self.config, self.recipe.batch_size);
        let per_epoch = source.batches_per_epoch();
        let total_steps = per_epoch * self.recipe.epochs;
        let tracked = self.device.clone().autodiff();
        let student = self.initial(checkpoint.is_some(), &tracked)?;
        let mut learner = Learner::new(student, &lesson, self.seed, &tracked);
        let mut optimiser = AdamW::new(self.recipe.optimiser.clone());
        let (samples, classes) = (source.dataset.len(), self.config.classes());
        let rule = self.retrospection();
        let mut past = rule.map(|_| LogitTable::new(samples, classes));
        let (mut step, mut seconds) = (0, 0.0);
        let (mut first_step, mut seconds_before) = (0, 0.0);
        if let Some(checkpoint) = checkpoint {
            learner = checkpoint.load_model(learner)?;
            optimiser = checkpoint.load_optimiser(self.recipe.optimiser.clone(), &learner)?;
            past = past.map(|_| checkpoint.load_past(samples, classes)).transpose()?;
            (step, seconds) = (checkpoint.step, checkpoint.seconds);
            (first_step, seconds_before) = (step, seconds);
        }
        if self.recipe.trainable == Trainable::Head {
            learner = heads_alone(learner);
        }
        let progress = Progress::start(self.role.name(), total_steps, step);
        let mut since = Instant::now();
        let mut memory = self.memory(&lesson, &source)?;
        memory.seconds = since.elapsed().as_secs_f64();
        let mut loader = Loader::start(source.clone(), step, total_steps)?;
        let mut unread: Vec<Unread> = Vec::with_capacity(READ_EVERY);
        let mut last_loss = f32::NAN;
        while step < total_steps {
            let batch = loader.next()?;
            let indices = batch.indices.clone();
            let learning_rate = self.recipe.schedule.at(self.recipe.peak(), step, per_epoch, self.recipe.epochs);
            let training = learner.student.draw_training(self.seed, step, indices.len(), self.device);
            let first = step % per_epoch * source.batch_size as u64;
            let mut inputs = self.upload(batch);
            let looking = Instant::now();
            inputs.teacher_logits = memory.recall(self, step / per_epoch, first, &indices, &inputs.images)?;
            memory.seconds += looking.elapsed().as_secs_f64();
            if inputs.teacher_logits.is_none() && lesson.teachers().is_some() {
                memory.asked += indices.len() as u64;
            }
            // Epochs count from 1.
            let epoch = step / per_epoch + 1;
            inputs.epoch = epoch;
            if let (Some(rule), Some(table)) = (rule, &past)
                && let Some(share) = rule.share(epoch)
            {
                let logits = self.rows(table.rows(&indices).map_err(Failure::work)?);
                inputs.past = Some(Past { logits, share, temperature: rule.temperature });
            }
            let report;
            (learner, report) = training_step(learner, &lesson, &mut optimiser, inputs, &training, learning_rate);
            step += 1;
            unread.push(Unread { step, first, learning_rate, report, indices });
            let (epoch_ends, stopping) = (step % per_epoch == 0, interrupt.is_set());
            if unread.len() == READ_EVERY || epoch_ends || stopping {
                last_loss = self.read_steps(&mut unread, per_epoch, log, past.as_mut(), &mut memory)?;
                seconds += since.elapsed().as_secs_f64();
                since = Instant::now();
                let rate = (step * source.batch_size as u64) as f64 / seconds;
                let loaded = loader.rate().unwrap_or_default();
                progress.at(step, || format!("loss {last_loss:.3}, {rate:.0} images/s (loader {loaded:.0})"));
            }
            if epoch_ends {
                if let (Some(rule), Some(table)) = (rule, past.as_mut())
                    && rule.copies_after(epoch)
                {
                    table.refresh();
                }
                let check = self.check(&learner.student, epoch, step)?;
                if !check.held_out_loss.is_finite() {
                    return Err(self.diverged(step));
                }
                progress.line(&format!(
                    "{:>9}  epoch {epoch:>3} of {}  loss {last_loss:.4}  held-out {:.2} %",
                    self.role.name(),
                    self.recipe.epochs,
                    100.0 * check.held_out_accuracy
                ));
                log.write(&Line::Check(check))?;
                log.flush()?;
            }
            if stopping || (epoch_ends && step < total_steps) {
                Checkpoint::save(self.run, self.role, step, seconds, &learner, &optimiser, past.as_ref())?;
                since = Instant::now();
            }
            if stopping {
                return Ok(None);
            }
        }
        let images = total_steps * source.batch_size as u64;
        let here = (step - first_step) * source.batch_size as u64;
        let stepping = seconds - seconds_before - loader.waited().as_secs_f64();
        let outcome = Outcome {
            seconds,
            images_per_second: images as f64 / seconds,
            loader_images_per_second: loader.rate(),
            step_images_per_second: (stepping > 0.0 && here > 0).then(|| here as f64 / stepping),
            teacher_images: memory.asked,
            recall_seconds: memory.seconds,
        };
        let learner = learner.valid();
        let average = optimiser.averaged(learner.clone()).map(|learner| learner.student);
        Ok(Some(Finished { model: learner.student, average, outcome }))
    }

    // What is taught, by whom.
    fn lesson(&self) -> Result<Lesson> {
        let teacher = self.teacher.cloned().map(|network| Teacher { network, view: self.view.clone(), weight: 1.0 });
        let shape = self.config.shape();
        Lesson::new(&self.objective.objective(), &shape, teacher.map(Into::into)).map_err(Failure::usage)
    }

    // The baseline is the student without any method, its own past included.
    fn retrospection(&self) -> Option<&Retrospection> {
        self.recipe.retrospection.as_ref().filter(|_| self.role != Role::Baseline)
    }

    // Rows of logits on the device, `[samples, classes]`.
    fn rows(&self, values: Vec<f32>) -> Tensor<2> {
        let classes = self.config.classes();
        let samples = values.len() / classes;
        Tensor::from_data(TensorData::new(values, [samples, classes]), self.device)
    }

    // What is known of the teacher's logits before the first step. A teacher that is asked for its logits alone says the
    // same of an image that is never varied: it is asked once.
    fn memory(&self, lesson: &Lesson, source: &Source) -> Result<Memory> {
        let Some(teacher) = self.teacher.filter(|_| lesson.teachers().is_some() && !lesson.asks_more_than_logits())
        else {
            return Ok(Memory::default());
        };
        let varied = !source.is_still();
        let cache = self.cache.as_ref().map(|keep| {
            let steps = source.batches_per_epoch() * source.batch_size as u64;
            let rows = if varied { steps } else { source.dataset.len() as u64 };
            TeacherCache::open(keep.root, origin(teacher, source, rows, self.config.classes(), keep)?)
        });
        let mut memory = Memory { cache: cache.transpose()?, ..Memory::default() };
        if varied {
            return Ok(memory);
        }
        let samples = source.dataset.len();
        // As the training step reads a teacher with two heads.
        let read = |images| Readout::MeanLogits.of(&teacher.forward(self.seen(images), None));
        let ask = |samples| {
            first_logits(&read, self.config, source.dataset.as_ref(), &source.transform, samples, self.device)
        };
        let kept = memory.cache.as_mut().map(|cache| cache.rows(0, 0, samples)).transpose()?.flatten();
        memory.table = Some(match (kept, memory.cache.as_mut()) {
            (Some(kept), Some(cache)) => {
                let rows = samples.min(CHECKED_ROWS);
                let sample = ask(rows)?;
                memory.asked = rows as u64;
                cache.check(&kept[..sample.len()], &sample)?;
                kept
            }
            (_, cache) => {
                let all = ask(samples)?;
                memory.asked = samples as u64;
                cache.map(|cache| cache.record(0, 0, &all)).transpose()?;
                all
            }
        });
        // Rows by index are no rows by (epoch, position).
        memory.cache = None;
        Ok(memory)
    }

    // Images as the teacher has them.
    fn seen(&self, images: Tensor<4>) -> Tensor<4> {
        match &self.view {
            Some(view) => view.apply(images),
            None => images,
        }
    }

    // The network before its first step.
    fn initial(&self, resumed: bool, device: &Device) -> Result<Network> {
        match &self.recipe.weights {
            // A checkpoint replaces all of it.
            Some(path) if !resumed => {
                let (network, notes) = load_start(path, self.config, self.recipe.resampling, self.seed, device)?;
                for note in notes {
                    say(format_args!("{:>9}  {}: {note}", self.role.name(), path.display()));
                }
                Ok(network)
            }
            _ => self.config.init(self.seed, device).map_err(Failure::usage),
        }
    }

    fn upload(&self, batch: Batch) -> StepBatch {
        let samples = batch.labels.len();
        let (channels, size) = (self.config.channels(), self.config.image_size());
        let images = Tensor::from_data(TensorData::new(batch.images, [samples, channels, size, size]), self.device);
        let parts = self.recipe.accumulate;
        StepBatch { parts, ..StepBatch::new(images, self.rows(batch.targets)) }
    }

    // Reads the waiting reports in one transfer, logs them and returns the last loss. Logits are read for `past` alone.
    fn read_steps(
        &self,
        unread: &mut Vec<Unread>,
        per_epoch: u64,
        log: &mut MetricsLog,
        past: Option<&mut LogitTable>,
        memory: &mut Memory,
    ) -> Result<f32> {
        let read = |all: Tensor<1>| -> Result<Vec<f32>> {
            Ok(all.try_into_data().context("the device failed during training")?.iter().collect())
        };
        if let Some(table) = past {
            let classes = self.config.classes();
            let all = Tensor::cat(unread.iter().map(|step| step.report.logits.clone()).collect(), 0);
            let values = read(all.flatten(0, 1))?;
            let mut rest = values.as_slice();
            for Unread { indices, .. } in unread.iter() {
                let (own, tail) = rest.split_at(indices.len() * classes);
                rest = tail;
                table.record(indices, own).map_err(Failure::work)?;
            }
        }
        if let Some(cache) = memory.cache.as_mut() {
            for Unread { step, first, report, .. } in unread.iter() {
                if let Some(logits) = &report.teacher_logits {
                    cache.record((step - 1) / per_epoch, *first, &read(logits.clone().flatten(0, 1))?)?;
                }
            }
        }
        let values = read(Tensor::cat(unread.iter().map(|step| step.report.values.clone()).collect(), 0))?;
        let mut rest = values.as_slice();
        let mut last = f32::NAN;
        for Unread { step, learning_rate: lr, report, .. } in unread.drain(..) {
            let (own, tail) = rest.split_at(1 + report.names.len());
            rest = tail;
            last = own[0];
            let terms: Map<_, _> =
                report.names.iter().zip(&own[1..]).map(|(name, value)| (name.to_string(), json!(value))).collect();
            let epoch = (step - 1) / per_epoch + 1;
            log.write(&Line::Step(Step { stage: self.role, epoch, step, lr, loss: last, terms }))?;
            if !last.is_finite() {
                log.flush()?;
                return Err(self.diverged(step));
            }
        }
        Ok(last)
    }

    fn diverged(&self, step: u64) -> Failure {
        let (role, lr) = (self.role.name(), self.recipe.peak());
        Failure::work(format!("the {role}'s loss is no longer a number at step {step}; lower --lr (its peak is {lr})"))
    }

    fn check(&self, model: &Network, epoch: u64, step: u64) -> Result<Check> {
        let transform = self.data.transform_for(self.config);
        let model = model.valid();
        let (evaluation, _) = evaluate(
            &|images| self.readout.of(&model.forward(images, None)),
            self.config,
            self.data.held_out.as_ref(),
            &transform,
            Some(self.data.checked),
            self.device,
        )?;
        Ok(Check {
            stage: self.role,
            epoch,
            step,
            held_out_accuracy: evaluation.accuracy(),
            held_out_loss: evaluation.loss(),
            samples: evaluation.samples(),
        })
    }
}
