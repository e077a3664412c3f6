//! One network's training on this machine, from its first step or a checkpoint to its last: a driver of core's course.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use burn::cubecl::future::block_on;
use burn::tensor::Device;
use potstill_core::method::{Lesson, Preset, Readout, Teachers};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::train::{Course, CourseConfig, DeviceBatch, TrainingRecipe};
use potstill_core::weights;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Interrupt;
use super::best::Best;
use super::checkpoint::Checkpoint;
use super::loader::Loader;
use super::metrics_log::{Check, Found, Line, MetricsLog, Step};
use super::recall::Recall;
use super::source::{Source, StageData};
use super::teacher_cache::Keep;
use crate::error::{Context, Failure, Result};
use crate::evaluate::evaluate;
use crate::progress::{Progress, say};
use crate::recipe::NetworkRecipe;
use crate::run::{Role, RunFolder};
use crate::weights::load_start;

// Losses are read back this often: each read waits for the device.
const READ_EVERY: usize = 10;

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
    /// Epochs that were trained, where the validation split had a say in it.
    #[serde(default)]
    pub epochs: Option<u64>,
    /// The epoch of the network that is kept, where the validation split chose it.
    #[serde(default)]
    pub kept_epoch: Option<u64>,
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
    /// Trains to the end. `Ok(None)` means that the person stopped it and it is saved.
    pub fn train(
        &self,
        checkpoint: Option<&Checkpoint>,
        log: &mut MetricsLog,
        interrupt: &Interrupt,
    ) -> Result<Option<Finished>> {
        let source = self.data.source_for(self.config, self.recipe.batch_size, self.recipe.accumulate);
        let mut course = self.course(&source, checkpoint)?;
        let mut best = self.best(checkpoint)?;
        let mut ended = false;
        let (first_step, total_steps) = (course.step(), course.config().steps);
        let seconds_before = checkpoint.map_or(0.0, |checkpoint| checkpoint.seconds);
        let mut seconds = seconds_before;
        let progress = Progress::start(self.role.name(), total_steps, first_step);
        let mut since = Instant::now();
        let mut recall = self.recall(&course.config().lesson, &source)?;
        if recall.as_ref().is_some_and(Recall::keeps) {
            course.keep_teacher_logits();
        }
        let mut loader = Loader::start(source.clone(), first_step, total_steps)?;
        let mut last_loss = f32::NAN;
        while !course.is_finished() && !ended {
            let mut batch = DeviceBatch::new(loader.next()?, self.device);
            if let Some(recall) = &mut recall {
                batch.teacher_logits = recall.rows(course.step(), &batch)?;
            }
            course.take(batch).map_err(Failure::work)?;
            let (epoch_ends, stopping) = (course.epoch_ended(), interrupt.is_set());
            if course.unread() == READ_EVERY || epoch_ends || stopping {
                last_loss = self.read(&mut course, recall.as_mut(), log)?;
                seconds += since.elapsed().as_secs_f64();
                since = Instant::now();
                let rate = (course.step() * source.batch_size as u64) as f64 / seconds;
                let loaded = loader.rate().unwrap_or_default();
                let message = || format!("loss {last_loss:.3}, {rate:.0} images/s (loader {loaded:.0})");
                progress.at(course.step(), message);
            }
            if epoch_ends {
                let check = self.check(&course)?;
                progress.line(&format!(
                    "{:>9}  epoch {:>3} of {}  loss {last_loss:.4}  {} {:.2} %",
                    self.role.name(),
                    check.epoch,
                    self.recipe.epochs,
                    check.found.split(),
                    100.0 * check.found.accuracy()
                ));
                best.see(&course, &check);
                ended = best.ends_at(check.epoch);
                if ended && !course.is_finished() {
                    progress.line(&format!(
                        "{:>9}  ends early: nothing better for {} epochs",
                        self.role.name(),
                        self.recipe.early_stop.unwrap_or(0)
                    ));
                }
                log.write(&Line::Check(check))?;
                log.flush()?;
            }
            if !ended && (stopping || (epoch_ends && !course.is_finished())) {
                let state = block_on(course.state()).context("cannot read the networks back")?;
                Checkpoint::save(self.run, self.role, seconds, &state, &best)?;
                since = Instant::now();
            }
            if stopping && !ended {
                return Ok(None);
            }
        }
        let images = |steps: u64| (steps * source.batch_size as u64) as f64;
        let here = images(course.step() - first_step);
        let stepping = seconds - seconds_before - loader.waited().as_secs_f64();
        let outcome = Outcome {
            seconds,
            images_per_second: images(course.step()) / seconds,
            loader_images_per_second: loader.rate(),
            step_images_per_second: (stepping > 0.0 && here > 0.0).then(|| here / stepping),
            teacher_images: recall.as_ref().map_or(0, Recall::asked),
            recall_seconds: recall.as_ref().map_or(0.0, |recall| recall.spent().as_secs_f64()),
            epochs: best.mark().map(|_| course.epochs()),
            kept_epoch: best.mark().filter(|_| best.kept().is_some()).map(|mark| mark.epoch),
        };
        let (model, average) = best.kept().cloned().unwrap_or_else(|| (course.network(), course.average()));
        Ok(Some(Finished { model, average, outcome }))
    }

    // The course as the checkpoint left it, or before its first step.
    fn course(&self, source: &Source, checkpoint: Option<&Checkpoint>) -> Result<Course> {
        let (recipe, batches) = (self.numbers(), source.batches());
        let student = self.initial(checkpoint.is_some())?;
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
            course.restore(checkpoint.state()?).map_err(|error| checkpoint.misfit(error))?;
        }
        Ok(course)
    }

    // What is best so far, as the checkpoint left it, or before the first step.
    fn best(&self, checkpoint: Option<&Checkpoint>) -> Result<Best> {
        let mut best = Best::new(self.recipe);
        if let Some((checkpoint, mark)) = checkpoint.and_then(|checkpoint| Some((checkpoint, checkpoint.best?))) {
            let network = |tensors| {
                let blank = self.config.init(self.seed, self.device).map_err(Failure::usage)?;
                weights::assign(blank, tensors).context("the best network of the checkpoint")
            };
            let [model, average] = checkpoint.kept()?.map(|tensors| tensors.map(&network).transpose());
            best.restore(mark, model?.map(|model| Ok::<_, Failure>((model, average?))).transpose()?);
        }
        Ok(best)
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
        let recall = Recall::open(teachers, logits_alone, source, self.cache.as_ref(), known, self.device)?;
        self.known.replace(recall.table().cloned());
        Ok(Some(recall))
    }

    // The network before its first step.
    fn initial(&self, resumed: bool) -> Result<Network> {
        let device = &self.device.clone().autodiff();
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

    // Reads and logs what waits, and returns the last loss.
    fn read(&self, course: &mut Course, mut recall: Option<&mut Recall<'_>>, log: &mut MetricsLog) -> Result<f32> {
        let batches = course.config().batches;
        let mut last = f32::NAN;
        for taken in block_on(Course::read(&mut [course])).map_err(Failure::work)?.into_iter().flatten() {
            let (step, lr, loss) = (taken.step, taken.learning_rate, taken.loss);
            if let (Some(recall), Some(logits)) = (&mut recall, &taken.teacher_logits) {
                recall.record(step - 1, logits)?;
            }
            let epoch = batches.place(step - 1).0 + 1;
            let terms = taken.terms.into_iter().map(|(name, value)| (name.into_owned(), json!(value))).collect();
            log.write(&Line::Step(Step { stage: self.role, epoch, step, lr, loss, terms }))?;
            if !loss.is_finite() {
                log.flush()?;
                return Err(self.diverged(step));
            }
            last = loss;
        }
        Ok(last)
    }

    fn diverged(&self, step: u64) -> Failure {
        let (role, lr) = (self.role.name(), self.recipe.training().peak());
        Failure::work(format!("the {role}'s loss is no longer a number at step {step}; lower --lr (its peak is {lr})"))
    }

    fn check(&self, course: &Course) -> Result<Check> {
        let (model, step) = (course.network(), course.step());
        let (evaluation, _) = evaluate(
            &|images| self.readout.of(&model.forward(images, None)),
            self.config,
            self.data.watched(),
            &self.data.transform_for(self.config),
            Some(self.data.checked),
            self.device,
        )?;
        if !evaluation.loss().is_finite() {
            return Err(self.diverged(step));
        }
        Ok(Check {
            stage: self.role,
            epoch: course.epochs(),
            step,
            found: Found::new(self.data.validation.is_some(), evaluation.accuracy(), evaluation.loss()),
            samples: evaluation.samples(),
        })
    }
}
