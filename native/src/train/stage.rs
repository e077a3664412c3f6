//! One network's training on this machine, from its first step or a checkpoint to its last: a driver of core's course.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use burn::cubecl::future::block_on;
use burn::tensor::Device;
use potstill_core::method::{Lesson, Preset, Readout, Teachers};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::train::{Course, CourseConfig, DeviceBatch, TrainingRecipe};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::checkpoint::Checkpoint;
use super::loader::Loader;
use super::metrics_log::{Bad, Check, Line, MetricsLog, Step};
use super::recall::Recall;
use super::source::{Source, StageData};
use super::teacher_cache::Keep;
use super::{Interrupt, Ledger};
use crate::error::{Context, Failure, Result};
use crate::evaluate::evaluate;
use crate::progress::{Progress, say};
use crate::recipe::{Every, NetworkRecipe};
use crate::run::{Role, load_start, weights_file};

// Losses are read back this often: each read waits for the device.
const READ_EVERY: usize = 10;
// So many samples of a step that is not finite are named; the log has all of them.
const NAMED: usize = 8;

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
    pub teachers: Option<Teachers>,
    /// How its heads make one prediction.
    pub readout: Readout,
    /// Where the teacher's logits are kept, and how.
    pub cache: Option<Keep<'a>>,
    /// What the teachers say of every image of `data`, once a stage of the run has asked them.
    pub known: &'a RefCell<Option<Arc<Vec<f32>>>>,
    /// From what.
    pub data: &'a StageData,
    /// The seed of its initial values.
    pub seed: u64,
    /// The device, without gradients.
    pub device: &'a Device,
    /// When it is saved.
    pub saved: Every,
    /// How many steps may be skipped because they are not finite.
    pub skips: u64,
    /// Whether the person asks to stop.
    pub interrupt: &'a Interrupt,
}

/// Where a stage stands beside the state of its course.
#[derive(Clone, Copy, Debug)]
pub struct StageProgress {
    /// Which network.
    pub stage: Role,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Whether the look at held-out samples that is due is still to come.
    pub check_due: bool,
    /// Steps that were skipped.
    pub skipped: u64,
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

impl Stage<'_> {
    /// Trains to the end, from `checkpoint` or the first step on. `Ok(None)` means that the person stopped it and that where it
    /// stands is saved.
    ///
    /// # Errors
    /// Exit code 2 if it is asked for what does not fit; 1 if a step is not finite, or something cannot be read or written.
    pub fn train(&self, checkpoint: Option<Checkpoint>, ledger: &mut Ledger<'_>) -> Result<Option<Finished>> {
        let source = self.data.source_for(self.config, self.recipe.batch_size);
        let about = checkpoint.as_ref().map(|checkpoint| checkpoint.about.clone());
        let mut course = self.course(&source, checkpoint, ledger)?;
        let (first_step, total_steps) = (course.step(), course.config().steps);
        if about.is_some() {
            say(format_args!("{:>9}  goes on from step {first_step} of {total_steps}", self.role.name()));
        }
        let seconds_before = about.as_ref().map_or(0.0, |about| about.seconds);
        let mut skipped = about.as_ref().map_or(0, |about| about.skipped);
        let mut seconds = seconds_before;
        let progress = Progress::start(self.role.name(), total_steps, first_step);
        if about.is_some_and(|about| about.check_due)
            && !self.check_and_log(&course, f32::NAN, &progress, &mut ledger.log)?
        {
            return Ok(None);
        }
        let mut since = Instant::now();
        let mut recall = match self.recall(&course.config().lesson, &source) {
            // Before the first step there is nothing to save.
            Err(failure) if failure.is_interrupt() => return Ok(None),
            recall => recall?,
        };
        if recall.as_ref().is_some_and(Recall::keeps) {
            course.keep_teacher_logits();
        }
        course.measure_gradients();
        // A step can be taken back before the next is taken.
        let read_every = if self.skips > 0 { 1 } else { READ_EVERY };
        if self.skips > 0 {
            course.be_careful();
        }
        let mut loader = Loader::start(source.clone(), first_step, total_steps)?;
        let mut last_loss = f32::NAN;
        let mut last_saved = Instant::now();
        while !course.is_finished() {
            let mut batch = DeviceBatch::new(loader.next()?, self.device);
            if let Some(recall) = &mut recall {
                batch.teacher_logits = recall.rows(course.step(), &batch)?;
            }
            course.take(batch).map_err(Failure::work)?;
            let (epoch_ends, mut stopping) = (course.epoch_ended(), self.interrupt.is_set());
            let due = !course.is_finished() && self.saved.is_due(course.step(), epoch_ends, last_saved.elapsed());
            if course.unread() == read_every || epoch_ends || due || stopping {
                if let Some(loss) = self.read(&mut course, recall.as_mut(), &mut skipped, &mut ledger.log)? {
                    last_loss = loss;
                }
                seconds += since.elapsed().as_secs_f64();
                since = Instant::now();
                let rate = (course.step() * source.batch_size as u64) as f64 / seconds;
                let loaded = loader.rate().unwrap_or_default();
                let message = || format!("loss {last_loss:.3}, {rate:.0} images/s (loader {loaded:.0})");
                progress.at(course.step(), message);
            }
            // A look at held-out samples that the person cuts short comes when the run goes on.
            let check_due = epoch_ends && !self.check_and_log(&course, last_loss, &progress, &mut ledger.log)?;
            stopping |= check_due;
            if stopping || due {
                let state = block_on(course.state()).context("cannot read the networks back")?;
                let progress = StageProgress { stage: self.role, seconds, check_due, skipped };
                ledger.save(progress, &state)?;
                last_saved = Instant::now();
            }
            if stopping {
                return Ok(None);
            }
            if epoch_ends || due {
                since = Instant::now();
            }
        }
        let images = |steps: u64| (steps * source.batch_size as u64) as f64;
        let here = images(total_steps - first_step);
        let stepping = seconds - seconds_before - loader.waited().as_secs_f64();
        let outcome = Outcome {
            seconds,
            images_per_second: images(total_steps) / seconds,
            loader_images_per_second: loader.rate(),
            step_images_per_second: (stepping > 0.0 && here > 0.0).then(|| here / stepping),
            teacher_images: recall.as_ref().map_or(0, Recall::asked),
            recall_seconds: recall.as_ref().map_or(0.0, |recall| recall.spent().as_secs_f64()),
        };
        Ok(Some(Finished { model: course.network(), average: course.average(), outcome }))
    }

    // The course as the checkpoint left it, or before its first step.
    fn course(&self, source: &Source, checkpoint: Option<Checkpoint>, ledger: &Ledger<'_>) -> Result<Course> {
        let (recipe, batches) = (self.numbers(), source.batches());
        let student = self.initial(checkpoint.is_some(), ledger)?;
        // A given teacher is known only now; one of the recipe has been checked with it.
        let lesson = Lesson::new(&self.objective.objective(), &self.config.shape(), self.teachers.clone());
        let config = CourseConfig {
            lesson: lesson.map_err(Failure::usage)?,
            steps: recipe.steps(&batches),
            recipe,
            batches,
            seed: self.seed,
        };
        let mut course = Course::new(student, config, self.device);
        if let Some(checkpoint) = checkpoint {
            let folder = checkpoint.folder().to_owned();
            course.restore(checkpoint.state).map_err(|error| Checkpoint::misfit(&folder, &error))?;
        }
        Ok(course)
    }

    // A control is the student without its method, its own past included.
    fn numbers(&self) -> TrainingRecipe {
        let recipe = self.recipe.training();
        let retrospection = recipe.retrospection.filter(|_| matches!(self.role, Role::Teacher | Role::Student));
        TrainingRecipe { retrospection, ..recipe }
    }

    fn recall(&self, lesson: &Lesson, source: &Source) -> Result<Option<Recall<'_>>> {
        let Some(teachers) = lesson.teachers().cloned() else { return Ok(None) };
        let logits_alone = !lesson.asks_more_than_logits();
        let known = self.known.take();
        let cache = self.cache.as_ref();
        let recall = Recall::open(teachers, logits_alone, source, cache, known, self.device, self.interrupt)?;
        self.known.replace(recall.table().cloned());
        Ok(Some(recall))
    }

    // The network before its first step.
    fn initial(&self, resumed: bool, ledger: &Ledger<'_>) -> Result<Network> {
        let device = &self.device.clone().autodiff();
        match &self.recipe.weights {
            // A checkpoint replaces all of it.
            Some(path) if !resumed => {
                ledger.state().check_given(&weights_file(path))?;
                let (network, notes) = load_start(path, self.config, self.recipe.resampling, self.seed, device)?;
                for note in notes {
                    say(format_args!("{:>9}  {}: {note}", self.role.name(), path.display()));
                }
                Ok(network)
            }
            _ => self.config.init(self.seed, device).map_err(Failure::usage),
        }
    }

    // Reads and logs what waits, and returns the last loss. A step that is not finite is undone as long as that is allowed.
    fn read(
        &self,
        course: &mut Course,
        mut recall: Option<&mut Recall<'_>>,
        skipped: &mut u64,
        log: &mut MetricsLog,
    ) -> Result<Option<f32>> {
        let batches = course.config().batches;
        let mut last = None;
        for taken in block_on(Course::read(&mut [course])).map_err(Failure::work)?.into_iter().flatten() {
            let (step, lr, loss) = (taken.step, taken.learning_rate, taken.loss);
            let epoch = batches.place(step - 1).0 + 1;
            if let Some(fault) = taken.fault() {
                let samples: Vec<u64> = batches.order().visits(step - 1).iter().map(|visit| visit.index).collect();
                let message = self.bad_step(step, &fault, &samples);
                log.write(&Line::Bad(Bad { stage: self.role, epoch, step, fault, samples }))?;
                log.flush()?;
                if *skipped >= self.skips || !course.take_back() {
                    return Err(Failure::work(message));
                }
                *skipped += 1;
                say(format_args!("note     {message}; the step is skipped, {skipped} of at most {}", self.skips));
                continue;
            }
            if let (Some(recall), Some(logits)) = (&mut recall, &taken.teacher_logits) {
                recall.record(step - 1, logits);
            }
            let terms = taken.terms.into_iter().map(|(name, value)| (name.into_owned(), json!(value))).collect();
            log.write(&Line::Step(Step { stage: self.role, epoch, step, lr, loss, terms }))?;
            last = Some(loss);
        }
        Ok(last)
    }

    // The message about a step that is not finite.
    fn bad_step(&self, step: u64, fault: &str, samples: &[u64]) -> String {
        let (role, lr) = (self.role.name(), self.recipe.training().peak());
        let named: Vec<String> = samples.iter().take(NAMED).map(u64::to_string).collect();
        let more = match samples.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more, which metrics.jsonl names"),
        };
        let skip = if self.skips == 0 { ", or skip such steps with --skip-bad-steps" } else { "" };
        format!(
            "step {step} of the {role} is not finite: {fault}, on the samples {}{more}; lower --lr (its peak is {lr}) or clip \
             gradients with --clip-grad{skip}",
            named.join(", ")
        )
    }

    // Looks at held-out samples, and says and logs what is found. `false` if the person cut it short.
    fn check_and_log(&self, course: &Course, loss: f32, progress: &Progress, log: &mut MetricsLog) -> Result<bool> {
        let check = match self.check(course) {
            Err(failure) if failure.is_interrupt() => return Ok(false),
            check => check?,
        };
        let loss = if loss.is_finite() { format!("  loss {loss:.4}") } else { String::new() };
        progress.line(&format!(
            "{:>9}  epoch {:>3} of {}{loss}  held-out {:.2} %",
            self.role.name(),
            check.epoch,
            self.recipe.epochs,
            100.0 * check.held_out_accuracy
        ));
        log.write(&Line::Check(check))?;
        log.flush()?;
        Ok(true)
    }

    fn check(&self, course: &Course) -> Result<Check> {
        let (model, step) = (course.network(), course.step());
        let (evaluation, _) = evaluate(
            &|images| self.readout.of(&model.forward(images, None)),
            self.config,
            self.data.held_out.as_ref(),
            &self.data.transform_for(self.config),
            Some(self.data.checked),
            self.device,
            self.interrupt,
        )?;
        if !evaluation.loss().is_finite() {
            let (role, lr) = (self.role.name(), self.recipe.training().peak());
            return Err(Failure::work(format!(
                "the {role}'s loss on held-out samples is not finite after step {step}; lower --lr (its peak is {lr}), or clip \
                 gradients with --clip-grad"
            )));
        }
        Ok(Check {
            stage: self.role,
            epoch: course.epochs(),
            step,
            held_out_accuracy: evaluation.accuracy(),
            held_out_loss: evaluation.loss(),
            samples: evaluation.samples(),
        })
    }
}
