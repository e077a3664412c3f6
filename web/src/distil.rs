//! A distillation under way: a teacher, a student, and the same student without a teacher, the baseline.
//!
//! Student and baseline are courses that start from the same values and take as many steps, so that what tells them apart is
//! the teaching alone. They see the same batches, but where few samples have a label: then the baseline sees those alone; and
//! where none has, it has nothing to learn from and stays as it was. The courses are core's, which the command drives too; this drives them as a browser can.
//!
//! Invariants: nothing is read from the device without being awaited; a few steps are queued at most before a read, since
//! a browser holds nothing back by itself; a loss that is no number ends the run.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{Dataset, Digits, Split, Told, assemble};
use potstill_core::method::Lesson;
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::train::metrics::argmax;
use potstill_core::train::{
    Batches, Course, CourseConfig, DeviceBatch, Error, Evaluation, Order, Taken, TrainingRecipe, bias, evaluate,
};

use crate::data::transform;
use crate::plan::{Plan, live_teacher};
use crate::protocol::{DistilRecipe, History, Model, Quantity};

/// Held-out samples of the checks during training. The last check, which counts, is of all of them.
const CHECKED: usize = 250;
/// Held-out samples that are shown at each check.
const SHOWN: usize = 40;
/// Training samples, of all classes, by which the biases of those left out are corrected.
const UNLABELLED: usize = 1_000;
/// Steps between two reads, at most.
const MOST_UNREAD: usize = 16;
/// What a chunk of steps should take, in milliseconds: so long a pause button waits.
const CHUNK: f64 = 150.0;

/// Who teaches.
#[expect(clippy::large_enum_variant, reason = "a run has one")]
pub enum Teacher {
    /// A trained network.
    Ready(Network),
    /// One that is trained first, for the plan's number of steps.
    Learning(Box<Course>),
}

/// All three networks, and how far they are.
pub struct Distillation {
    /// What is trained.
    pub plan: Plan,
    /// Who teaches.
    pub teacher: Teacher,
    /// Who is taught.
    pub student: Course,
    /// Who is not.
    pub baseline: Course,
    /// What was recorded.
    pub history: History,
    // All samples with their labels: a live teacher's.
    train: Arc<dyn Dataset>,
    told: Told,
    device: Device,
    order: Order,
    chunk: usize,
    // The teacher's decisions on the samples of a check.
    teacher_says: Option<Vec<u32>>,
    // Held-out samples of the last check with what each network says, until they are taken.
    seen: Option<Vec<(usize, [u32; 3])>>,
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

impl Teacher {
    /// The network as it is now, without gradients.
    pub fn network(&self) -> Network {
        match self {
            Self::Ready(network) => network.clone(),
            Self::Learning(course) => course.network(),
        }
    }
}

impl Distillation {
    /// Everything at step 0. Without `teacher` one is trained first.
    ///
    /// # Errors
    /// If teacher, student and method do not go together.
    pub fn new(plan: Plan, teacher: Option<Network>, train: Arc<dyn Dataset>, device: &Device) -> Result<Self, String> {
        let told = plan.telling().of(train.clone(), plan.seed()).map_err(|error| error.to_string())?;
        let of = |samples: &Arc<dyn Dataset>| {
            let (size, samples) = (plan.training.batch_size, samples.len());
            Batches::new(samples, size.min(samples), 1, plan.seed())
        };
        let (all, batches) = (of(&train), of(&told.student));
        let alone = TrainingRecipe { retrospection: None, ..plan.training.clone() };
        let course =
            |network: &NetworkConfig, lesson: Option<Lesson>, recipe: &TrainingRecipe, batches, steps, seed| {
                let student = network.init(seed, &device.clone().autodiff()).map_err(|error| error.to_string())?;
                let lesson = lesson.unwrap_or_else(|| Lesson::labels(0.0, &network.shape()));
                let config = CourseConfig { lesson, recipe: recipe.clone(), batches, steps: u64::from(steps), seed };
                Ok::<_, String>(Course::new(student, config, device))
            };
        let teacher = match teacher {
            Some(network) => Teacher::Ready(network),
            None => {
                let (steps, seed) = (plan.recipe.teacher_steps, plan.teacher_seed());
                Teacher::Learning(Box::new(course(&live_teacher(), None, &alone, all, steps, seed)?))
            }
        };
        // A teacher that is still to learn has its sizes already.
        let (steps, seed, lesson) = (plan.recipe.steps, plan.seed(), plan.lesson(teacher.network())?);
        let student = course(&plan.student, Some(lesson), &plan.training, batches, steps, seed)?;
        let baseline = course(&plan.student, None, &alone, batches, steps, seed)?;
        let mut run = Self {
            plan,
            teacher,
            student,
            baseline,
            history: History::default(),
            train,
            told,
            device: device.clone(),
            order: batches.order(),
            chunk: 1,
            teacher_says: None,
            seen: None,
        };
        run.order = run.course().config().batches.order();
        Ok(run)
    }

    /// Lets a teacher that has learnt teach.
    ///
    /// # Errors
    /// If it is not of the sizes that the plan was checked with.
    pub fn taught_by(&mut self, teacher: Network) -> Result<(), String> {
        self.student.replace_lesson(self.plan.lesson(teacher.clone())?);
        self.teacher = Teacher::Ready(teacher);
        self.order = self.student.config().batches.order();
        Ok(())
    }

    /// A network as it is now, without gradients.
    pub fn network(&self, model: Model) -> Network {
        match model {
            Model::Teacher => self.teacher.network(),
            Model::Student => self.student.network(),
            Model::Baseline => self.baseline.network(),
        }
    }

    /// Which network is trained next.
    pub fn phase(&self) -> Model {
        match self.teacher {
            Teacher::Ready(_) => Model::Student,
            Teacher::Learning(_) => Model::Teacher,
        }
    }

    /// Steps of the phase: of the teacher while it learns, else of student and baseline.
    pub fn step(&self) -> u32 {
        self.course().step() as u32
    }

    // The course that says what comes next.
    fn course(&self) -> &Course {
        match &self.teacher {
            Teacher::Ready(_) => &self.student,
            Teacher::Learning(course) => course,
        }
    }

    /// Whether every step is taken.
    pub fn is_finished(&self) -> bool {
        self.phase() == Model::Student && self.student.is_finished()
    }

    /// Steps that the student has taken.
    pub fn student_steps(&self) -> u32 {
        self.student.step() as u32
    }

    /// Takes a few steps, at most `most`, reads what they said, and checks the networks where a check is due.
    ///
    /// # Errors
    /// A line for the person: a loss that is no number, or a device that failed.
    pub async fn advance(&mut self, most: u32, held_out: &dyn Dataset, clock: Clock) -> Result<Chunk, String> {
        let (phase, start) = (self.phase(), clock());
        let most = self.chunk.min(most as usize);
        let (mut steps, mut images) = (0, 0);
        let checked = self.history.curve(Model::Student, &Quantity::Accuracy).is_some();
        if phase == Model::Student && self.step() == 0 && !checked && !held_out.is_empty() {
            // Something to see before the first step.
            self.check(held_out).await?;
            return Ok(Chunk { phase, steps: 0, images: 0 });
        }
        while steps < most && !self.course().is_finished() {
            images += self.take()?;
            steps += 1;
            if self.check_is_due() || self.course().must_read() {
                break;
            }
        }
        self.read().await?;
        if steps > 0 {
            // As many steps as fill a chunk's time next time, rising no faster than twofold.
            let fitting = (CHUNK * steps as f64 / (clock() - start).max(1.0)) as usize;
            self.chunk = fitting.clamp(1, (2 * self.chunk).min(MOST_UNREAD));
        }
        match &self.teacher {
            Teacher::Learning(course) if course.is_finished() => self.taught_by(course.network())?,
            Teacher::Ready(_) if steps > 0 && self.check_is_due() => self.check(held_out).await?,
            _ => {}
        }
        Ok(Chunk { phase, steps: steps as u32, images })
    }

    // Whether held-out samples are looked at after the step just taken: often at first, when most is learnt, then sixteen
    // times a run, and after the last.
    fn check_is_due(&self) -> bool {
        let (step, total) = (self.course().step(), self.course().config().steps);
        let spacing = match step {
            0..=20 => 5,
            21..=100 => 20,
            _ => (total / 16).clamp(20, 200),
        };
        step == total || step.is_multiple_of(spacing)
    }

    /// The samples of the last check with what teacher, student and baseline say of each, once.
    pub fn take_seen(&mut self) -> Option<Vec<(usize, [u32; 3])>> {
        self.seen.take()
    }

    /// Whether there is anything that the baseline can learn from.
    pub fn baseline_learns(&self) -> bool {
        self.told.labels > 0
    }

    // Takes the next step of the phase's courses, and returns the images that they saw.
    fn take(&mut self) -> Result<u32, String> {
        let step = self.course().step();
        let indices: Vec<u64> = self.order.visits(step).iter().map(|visit| visit.index).collect();
        let batch_of = |samples: &Arc<dyn Dataset>| {
            let batch = assemble(samples.as_ref(), &indices, &transform()).map_err(|error| error.to_string())?;
            Ok::<_, String>(DeviceBatch::new(batch, &self.device))
        };
        let batches = match &self.teacher {
            Teacher::Learning(_) => vec![batch_of(&self.train)?],
            Teacher::Ready(_) => {
                let own = batch_of(&self.told.student)?;
                match &self.told {
                    Told { labels: 0, .. } => vec![own],
                    told if Arc::ptr_eq(&told.student, &told.baseline) => vec![own.clone(), own],
                    told => vec![own, batch_of(&told.baseline)?],
                }
            }
        };
        let images = (indices.len() * batches.len()) as u32;
        for (course, batch) in self.courses().into_iter().zip(batches) {
            course.take(batch).map_err(|error| error.to_string())?;
        }
        Ok(images)
    }

    // The courses of the phase.
    fn courses(&mut self) -> Vec<&mut Course> {
        match &mut self.teacher {
            Teacher::Ready(_) if self.told.labels == 0 => vec![&mut self.student],
            Teacher::Ready(_) => vec![&mut self.student, &mut self.baseline],
            Teacher::Learning(course) => vec![course],
        }
    }

    // Reads and records what waits.
    async fn read(&mut self) -> Result<(), String> {
        let phase = self.phase();
        let mut taken = Course::read(&mut self.courses()).await.map_err(said)?.into_iter();
        let (first, second) = (taken.next().unwrap_or_default(), taken.next());
        let Some(baseline) = second else {
            return first.into_iter().try_for_each(|taken| self.record(vec![(phase, taken)]));
        };
        first.into_iter().zip(baseline).try_for_each(|(student, baseline)| {
            self.record(vec![(Model::Student, student), (Model::Baseline, baseline)])
        })
    }

    // What the courses of a phase did in one step.
    fn record(&mut self, taken: Vec<(Model, Taken)>) -> Result<(), String> {
        let mut failed = None;
        for (model, Taken { step, loss, terms, .. }) in taken {
            self.history.record(model, Quantity::Loss, step as u32, loss);
            // What the others are taught by has one term.
            for (name, value) in terms.into_iter().filter(|_| model == Model::Student) {
                self.history.record(model, Quantity::Term(name.into_owned()), step as u32, value);
            }
            failed = failed.or((!loss.is_finite()).then_some((model, step)));
        }
        let Some((model, step)) = failed else { return Ok(()) };
        let whose = match model {
            Model::Teacher => "teacher",
            Model::Student => "student",
            Model::Baseline => "baseline",
        };
        let rate = self.plan.recipe.learning_rate;
        Err(format!(
            "the {whose}'s loss is no longer a number at step {step}; lower the learning rate, which is {rate}"
        ))
    }

    async fn check(&mut self, held_out: &dyn Dataset) -> Result<(), String> {
        let samples = if self.is_finished() { held_out.len() } else { CHECKED.min(held_out.len()) };
        let (step, mut says) = (self.step(), Vec::new());
        for model in [Model::Teacher, Model::Student, Model::Baseline] {
            let known = self.teacher_says.take().filter(|known| model == Model::Teacher && known.len() == samples);
            let decisions = match known {
                Some(decisions) => decisions,
                None => {
                    let said = logits(&self.network(model), held_out, 0..samples, &self.device).await?;
                    if self.is_finished() && model != Model::Teacher && !self.plan.recipe.omit.is_empty() {
                        self.check_corrected(model, &said, held_out).await?;
                    }
                    decisions(&said, held_out)
                }
            };
            self.history.record(model, Quantity::Accuracy, step, share_right(&decisions, held_out, &|_| true));
            let omit = &self.plan.recipe.omit;
            if !omit.is_empty() {
                let right = share_right(&decisions, held_out, &|label| omit.contains(&label));
                self.history.record(model, Quantity::Unseen, step, right);
            }
            says.push(decisions);
        }
        self.history.record(Model::Student, Quantity::Agreement, step, agreement(&says[0], &says[1]));
        let shown = shown(held_out, samples, &self.plan.recipe.omit);
        let all = |index: usize| [0, 1, 2].map(|model: usize| says[model][index]);
        self.seen = Some(shown.into_iter().map(|index| (index, all(index))).collect());
        self.teacher_says = says.into_iter().next();
        Ok(())
    }

    // How a network does on the classes left out once it is known how often they come: their biases follow from training
    // samples of all classes, of which no label is read.
    async fn check_corrected(&mut self, model: Model, said: &[f32], held_out: &dyn Dataset) -> Result<(), String> {
        let (classes, samples) = (held_out.classes(), UNLABELLED.min(self.train.len()));
        let unlabelled = logits(&self.network(model), self.train.as_ref(), 0..samples, &self.device).await?;
        let omit = self.plan.recipe.omit.clone();
        let left_out: Vec<_> = omit.iter().map(|class| (*class, 1.0 / classes as f64)).collect();
        // What cannot be corrected stays as it is: the run has ended well all the same.
        let Ok(found) = bias::correct(&unlabelled, classes, &left_out) else { return Ok(()) };
        let corrected: Vec<f32> =
            said.iter().zip(found.added.iter().cycle()).map(|(logit, added)| logit + added).collect();
        let decisions = decisions(&corrected, held_out);
        let step = self.step();
        self.history.record(model, Quantity::Corrected, step, share_right(&decisions, held_out, &|_| true));
        let right = share_right(&decisions, held_out, &|label| omit.contains(&label));
        self.history.record(model, Quantity::UnseenCorrected, step, right);
        Ok(())
    }
}

// The fraction that is right among the samples whose label counts.
fn share_right(decisions: &[u32], held_out: &dyn Dataset, counts: &dyn Fn(u32) -> bool) -> f32 {
    let labels = (0..decisions.len()).map(|index| held_out.label(index));
    let (mut right, mut all) = (0, 0);
    for (label, class) in labels.zip(decisions).filter(|(label, _)| counts(*label)) {
        all += 1;
        right += usize::from(label == *class);
    }
    right as f32 / all.max(1) as f32
}

// Which held-out samples are shown: the first ones; where classes are left out, half of those shown are of them.
fn shown(held_out: &dyn Dataset, samples: usize, omit: &[u32]) -> Vec<usize> {
    let checked = CHECKED.min(samples);
    let (unseen, seen): (Vec<_>, Vec<_>) = (0..checked).partition(|&index| omit.contains(&held_out.label(index)));
    let unseen = unseen.into_iter().take(SHOWN / 2);
    let rest = SHOWN - unseen.len();
    unseen.chain(seen.into_iter().take(rest)).collect()
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

/// One line for training or an evaluation that failed.
pub fn said(error: Error) -> String {
    match error {
        Error::Device(error) => failure(error),
        error => error.to_string(),
    }
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
    let samples: Vec<u64> = samples.map(|index| index as u64).collect();
    let classify = |images| network.forward(images, None).logits;
    evaluate::logits(&classify, dataset, &transform(), &samples, device).await.map_err(said)
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
    let recipe =
        DistilRecipe { train_samples: 64, labels: None, batch: 32, steps: 2, depth: 1, ..DistilRecipe::default() };
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
