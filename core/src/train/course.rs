//! The course of one network's training. It says what comes next, takes steps, and reads their results back.
//!
//! A driver brings the batches, from threads or from a page's own data. It decides how often to read, to check held-out samples,
//! and to save. The command blocks on the async functions; a page awaits them. If several networks see the same batches, each has
//! its own course, and one transfer reads all of them.
//!
//! The state of a course after a step consists of the parameters, the optimiser's moments, the table of past logits, and the
//! step's number. Order, augmentation and dropped branches follow from (seed, epoch, index) and (seed, step). So a course that is
//! restored from its [`State`] takes the same steps as without the interruption.

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};

use super::device_batch::rows_on;
use super::{
    AdamW, Batches, DeviceBatch, Error, Learner, State, StateError, StepBatch, Trainable, TrainingRecipe, heads_alone,
    state, training_step,
};
use crate::method::retrospection::TableError;
use crate::method::{Lesson, LogitTable, Past};
use crate::model::Network;
use crate::weights;

/// The constants of a course.
pub struct CourseConfig {
    /// The objective and the teachers.
    pub lesson: Lesson,
    /// The numbers of the training.
    pub recipe: TrainingRecipe,
    /// The samples of each step.
    pub batches: Batches,
    /// The number of steps: [`TrainingRecipe::steps`], or fewer or more.
    pub steps: u64,
    /// The seed for layers that are trained with the student, and for the branches and elements that a step drops.
    pub seed: u64,
}

/// The results of a step, after they were read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The number of the step, from 1.
    pub step: u64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// The weighted sum of its terms.
    pub loss: f32,
    /// Each term's name, and its value without the weight.
    pub terms: Vec<(Cow<'static, str>, f32)>,
    /// The teacher's logits `[B, classes]`, row-major, if it was asked. Only with [`Course::keep_teacher_logits`].
    pub teacher_logits: Option<Vec<f32>>,
}

// A step whose results are still on the device.
struct Unread {
    step: u64,
    learning_rate: f64,
    names: Vec<Cow<'static, str>>,
    // The total, then each term.
    values: Tensor<1>,
    // The student's logits for its table of past logits, with their samples.
    logits: Option<(Vec<u64>, Tensor<2>)>,
    teacher_logits: Option<Tensor<2>>,
}

/// One network in training.
pub struct Course {
    config: CourseConfig,
    device: Device,
    // `None` during a step.
    learner: Option<Learner>,
    optimiser: AdamW,
    past: Option<LogitTable>,
    classes: usize,
    step: u64,
    unread: Vec<Unread>,
    keep_teacher_logits: bool,
}

impl Course {
    /// The course of `student` before its first step. The student tracks gradients on `device`, and the lesson must be one for
    /// students of its shape.
    pub fn new(student: Network, config: CourseConfig, device: &Device) -> Self {
        let CourseConfig { lesson, recipe, batches, seed, .. } = &config;
        let (shape, undecayed) = (student.shape(), student.undecayed());
        let learner = Learner::new(student, lesson, *seed, &device.clone().autodiff());
        let past = recipe.retrospection.as_ref().map(|_| LogitTable::new(batches.samples(), shape.classes));
        Self {
            learner: Some(trainable(learner, recipe)),
            optimiser: AdamW::new(recipe.optimiser.clone()).leaving(undecayed),
            past,
            classes: shape.classes,
            step: 0,
            unread: Vec::new(),
            keep_teacher_logits: false,
            device: device.clone(),
            config,
        }
    }

    /// Also reads the teacher's logits back, if it is asked.
    pub fn keep_teacher_logits(&mut self) {
        self.keep_teacher_logits = true;
    }

    /// Replaces the teacher by another of the same shape, such as one that has learnt in the meantime.
    pub fn replace_lesson(&mut self, lesson: Lesson) {
        self.config.lesson = lesson;
    }

    /// The constants of the course.
    pub fn config(&self) -> &CourseConfig {
        &self.config
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether all steps have been taken.
    pub fn is_finished(&self) -> bool {
        self.step >= self.config.steps
    }

    /// Number of finished epochs.
    pub fn epochs(&self) -> u64 {
        self.config.batches.place(self.step).0
    }

    /// Whether the last step ended an epoch.
    pub fn epoch_ended(&self) -> bool {
        self.step > 0 && self.config.batches.place(self.step).1 == 0
    }

    /// Number of steps that were taken but not yet read back.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Whether the last steps must be read back before the next. This is so after an epoch whose logits the next epoch may use.
    pub fn must_read(&self) -> bool {
        self.past.is_some() && self.epoch_ended() && !self.unread.is_empty()
    }

    /// The current network, without gradients.
    pub fn network(&self) -> Network {
        self.learner().student.valid()
    }

    /// The network with the exponential mean of its parameters, if one is kept.
    pub fn average(&self) -> Option<Network> {
        self.optimiser.averaged(self.learner().valid()).map(|learner| learner.student)
    }

    fn learner(&self) -> &Learner {
        self.learner.as_ref().expect("it is back after every step")
    }

    /// Takes the next step with `batch`. Nothing is read back.
    ///
    /// # Errors
    /// If a sample of the batch is beyond the data set, so that it has no past logits.
    ///
    /// # Panics
    /// If the batch has no samples, or the course [must be read](Self::must_read) first.
    pub fn take(&mut self, batch: DeviceBatch) -> Result<(), TableError> {
        assert!(!self.must_read(), "an epoch's logits are read before the next epoch");
        let CourseConfig { lesson, recipe, batches, steps, seed } = &self.config;
        let DeviceBatch { indices, images, targets, known, teacher_logits } = batch;
        // Epochs count from 1.
        let epoch = batches.place(self.step).0 + 1;
        let mut past = None;
        if let (Some(rule), Some(table)) = (&recipe.retrospection, &self.past)
            && let Some(share) = rule.share(epoch)
        {
            let rows = table.rows(&indices)?;
            let seen = table.seen(&rows);
            let seen = seen.map(|seen| Tensor::from_data(TensorData::new(seen, [indices.len()]), &self.device));
            let logits = rows_on(rows, self.classes, &self.device);
            past = Some(Past { logits, share, temperature: rule.temperature, seen });
        }
        let learning_rate = recipe.schedule.at(recipe.peak(), self.step, batches.per_epoch(), *steps);
        let learner = self.learner.take().expect("it is back after every step");
        let training = learner.student.draw_training(*seed, self.step, indices.len(), &self.device);
        let batch = StepBatch { images, targets, known, teacher_logits, past, epoch, parts: recipe.accumulate };
        let (learner, report) = training_step(learner, lesson, &mut self.optimiser, batch, &training, learning_rate);
        self.learner = Some(learner);
        self.step += 1;
        self.unread.push(Unread {
            step: self.step,
            learning_rate,
            names: report.names,
            values: report.values,
            logits: self.past.is_some().then_some((indices, report.logits)),
            teacher_logits: report.teacher_logits.filter(|_| self.keep_teacher_logits),
        });
        Ok(())
    }

    /// Reads the results of several courses in one transfer. For each course it returns the steps since the last read, in their
    /// order.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn read(courses: &mut [&mut Self]) -> Result<Vec<Vec<Taken>>, Error> {
        let pieces: Vec<Tensor<1>> = courses.iter().flat_map(|course| course.unread.iter().flat_map(pieces)).collect();
        if pieces.is_empty() {
            return Ok(courses.iter().map(|_| Vec::new()).collect());
        }
        let values: Vec<f32> = Tensor::cat(pieces, 0).into_data_async().await?.iter().collect();
        let mut rest = values.as_slice();
        courses.iter_mut().map(|course| Ok(course.accept(&mut rest)?)).collect()
    }

    // Takes this course's numbers from the front of `rest`, in the order of `pieces`.
    fn accept(&mut self, rest: &mut &[f32]) -> Result<Vec<Taken>, TableError> {
        let mut next = |length: usize| {
            let (own, tail) = rest.split_at(length);
            *rest = tail;
            own
        };
        let mut taken = Vec::with_capacity(self.unread.len());
        for Unread { step, learning_rate, names, logits, teacher_logits, .. } in self.unread.drain(..) {
            let values = next(1 + names.len());
            let (loss, terms) = (values[0], names.into_iter().zip(values[1..].iter().copied()).collect());
            if let Some(((indices, logits), table)) = logits.zip(self.past.as_mut()) {
                table.record(&indices, next(logits.dims().iter().product()))?;
                // The copy at the end of an epoch contains the logits of its own steps.
                let (epochs, place) = self.config.batches.place(step);
                let copies = self.config.recipe.retrospection.as_ref().is_some_and(|rule| rule.copies_after(epochs));
                if place == 0 && copies {
                    table.refresh();
                }
            }
            let teacher_logits = teacher_logits.map(|logits| next(logits.dims().iter().product()).to_vec());
            taken.push(Taken { step, learning_rate, loss, terms, teacher_logits });
        }
        Ok(taken)
    }

    /// The state of the course, read back from the device. All steps must have been [read](Self::read) before.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn state(&self) -> Result<State, ExecutionError> {
        debug_assert!(self.unread.is_empty(), "a state holds what was read");
        Ok(State {
            step: self.step,
            learner: weights::read(self.learner()).await?,
            moments: self.optimiser.record().await?.map(state::of_record).unwrap_or_default(),
            past: self.past.as_ref().map(state::of_table).unwrap_or_default(),
        })
    }

    /// Continues from the state of a course with the same configuration.
    ///
    /// # Errors
    /// If the state does not belong to such a course. The course then does not change.
    pub fn restore(&mut self, state: State) -> Result<(), StateError> {
        let State { step, learner, moments, past } = state;
        let recipe = &self.config.recipe;
        let learner = weights::assign(self.learner().clone(), learner)?;
        let fresh = AdamW::new(recipe.optimiser.clone()).leaving(learner.student.undecayed());
        let optimiser = state::to_optimiser(fresh, step, moments, &learner);
        let optimiser = optimiser.ok_or(StateError::Optimiser)?;
        if self.past.is_some() {
            let table = state::to_table(past, self.config.batches.samples(), self.classes);
            self.past = Some(table.ok_or(StateError::Past)?);
        }
        (self.learner, self.optimiser) = (Some(trainable(learner, recipe)), optimiser);
        (self.step, self.unread) = (step, Vec::new());
        Ok(())
    }
}

fn trainable(learner: Learner, recipe: &TrainingRecipe) -> Learner {
    match recipe.trainable {
        Trainable::All => learner,
        Trainable::Head => {
            let heads = learner.student.heads();
            heads_alone(learner, heads)
        }
    }
}

// The tensors that are read for a step, in this order.
fn pieces(unread: &Unread) -> Vec<Tensor<1>> {
    let logits = [unread.logits.as_ref().map(|(_, logits)| logits), unread.teacher_logits.as_ref()];
    let flat = logits.into_iter().flatten().map(|logits| logits.clone().flatten(0, 1));
    std::iter::once(unread.values.clone()).chain(flat).collect()
}
