//! Everything that the worker does but for the browser: commands in, answers and news out.
//!
//! A session is driven by one loop, which hands it a command or, while training goes on, lets it [`advance`](Session::advance)
//! by a chunk of steps; so no command ever sees a step half taken. It knows no browser, and the host's tests drive it as the
//! worker does.

use std::sync::Arc;

use burn::tensor::Device;
use potstill_core::data::{Dataset, Normalisation, Preprocess};
use potstill_core::method::Readout;
use potstill_core::model::Network;
use potstill_core::train::metrics::{argmax, softmax};
use potstill_core::weights::{self, Description};

use crate::classify::Classifier;
use crate::data::Data;
use crate::distil::{Chunk, Clock, Distillation, agreement, count, decisions, logits};
use crate::look::{grey, look};
use crate::plan::{Plan, live_teacher};
use crate::protocol::{
    Answer, Command, DataChoice, DistilRecipe, Evaluation, Event, Mark, Model, ModelEvaluation, Opinion, SampleNote,
    StopReason, TeacherChoice,
};
use crate::snapshot::{self, Snapshot};

/// Byte buffers beside a message.
pub type Buffers = Vec<Vec<u8>>;
/// Where news go.
pub type News<'a> = dyn FnMut(Event, Buffers) + 'a;

/// Milliseconds between two reports of progress.
const REPORT_EVERY: f64 = 300.0;
/// Milliseconds between two checkpoints that the page keeps in case the device goes.
const CHECKPOINT_EVERY: f64 = 5_000.0;
/// Milliseconds to the first one.
const FIRST_CHECKPOINT: f64 = 1_000.0;
/// Samples shown at once, at most.
const MOST_SAMPLES: usize = 500;
/// In the order of every list of three.
const MODELS: [Model; 3] = [Model::Teacher, Model::Student, Model::Baseline];

/// The state of a worker whose device is open.
pub struct Session {
    device: Device,
    clock: Clock,
    data: Option<Data>,
    run: Option<Distillation>,
    going: Option<Going>,
    opinions: Option<Opinions>,
    classifier: Option<Classifier>,
}

/// Training that was asked for and is not yet done.
struct Going {
    // Steps that may still be taken.
    left: u32,
    reported: f64,
    sent: Mark,
    checkpointed: f64,
    // Since the last report.
    steps: u32,
    images: u32,
}

/// What all three networks say of all held-out samples, at one step.
struct Opinions {
    at: (Model, u32),
    logits: [Vec<f32>; 3],
}

fn prepare_first() -> String {
    "there is nothing trained yet: prepare or load a run first".into()
}

impl Session {
    /// A session on `device`.
    pub fn new(device: Device, clock: Clock) -> Self {
        Self { device, clock, data: None, run: None, going: None, opinions: None, classifier: None }
    }

    /// Whether [`Session::advance`] has something to do.
    pub fn is_running(&self) -> bool {
        self.going.is_some()
    }

    /// Does what a command asks for.
    ///
    /// # Errors
    /// One line for the person: what is wrong, where, and what to do. The session goes on as it was before.
    pub async fn handle(
        &mut self,
        command: Command,
        buffers: Buffers,
        news: &mut News<'_>,
    ) -> Result<(Answer, Buffers), String> {
        match command {
            Command::Open { .. } | Command::LoseDevice => Err("the device is open already".into()),
            Command::Data { data, names } => self.open_data(data, &names, buffers, news).map(plain),
            Command::Prepare { recipe } => self.prepare(*recipe, buffers, news).await.map(plain),
            Command::Run { steps } => self.start(steps).map(plain),
            Command::Pause => {
                self.checkpoint(true, news).await;
                self.pause(news);
                Ok(plain(Answer::Done))
            }
            Command::Snapshot => self.snapshot().await,
            Command::Restore => self.restore(buffers, news).await.map(plain),
            Command::Export { model } => self.export(model).await,
            Command::Evaluate => self.evaluate(news).await.map(plain),
            Command::Look { sample, temperature } => self.look(sample, temperature, buffers).await,
            Command::Browse { first, count } => self.browse(first, count).await,
            Command::Cell { model, label, predicted } => self.cell(model, label, predicted, news).await,
            Command::Disagreements { count } => self.disagreements(count, news).await,
            Command::Classifier { name, beside } => {
                let classifier = Classifier::read(name, &one(buffers)?, &beside, &self.device)?;
                let report = classifier.report().clone();
                self.classifier = Some(classifier);
                Ok(plain(Answer::Classifier(Box::new(report))))
            }
            Command::Preparation { preparation } => {
                let classifier = self.classifier.as_mut().ok_or("there is no classifier yet: load one first")?;
                classifier.prepare(preparation)?;
                Ok(plain(Answer::Classifier(Box::new(classifier.report().clone()))))
            }
            Command::Classify { readout } => {
                let classifier = self.classifier.as_ref().ok_or("there is no classifier yet: load one first")?;
                let (classified, buffers) =
                    classifier.classify(&one(buffers)?, readout, &self.device, self.clock).await?;
                Ok((Answer::Classified(Box::new(classified)), buffers))
            }
        }
    }

    fn open_data(
        &mut self,
        choice: DataChoice,
        names: &[String],
        buffers: Buffers,
        news: &mut News<'_>,
    ) -> Result<Answer, String> {
        let data = match choice {
            DataChoice::Digits => Data::digits(),
            DataChoice::Mnist => {
                let name = |index: usize| names.get(index).cloned().unwrap_or_else(|| format!("file {}", index + 1));
                Data::mnist(buffers.into_iter().enumerate().map(|(index, bytes)| (name(index), bytes)).collect())?
            }
        };
        let answer = Answer::Data {
            name: match choice {
                DataChoice::Digits => "digits".into(),
                DataChoice::Mnist => "MNIST".into(),
            },
            train: data.train_len() as u32,
            held_out: data.held_out.len() as u32,
            class_names: data.held_out.class_names().to_vec(),
        };
        // Networks on other samples than the ones shown would only confuse, and files may hold any.
        let others = |run: &Distillation| run.plan.recipe.data != choice || choice == DataChoice::Mnist;
        if self.run.as_ref().is_some_and(others) {
            self.pause(news);
            self.run = None;
        }
        (self.data, self.opinions) = (Some(data), None);
        Ok(answer)
    }

    // The samples that a plan trains on, and their data set where it is not the open one; digits need no files.
    fn samples_for(&self, plan: &Plan) -> Result<(Arc<dyn Dataset>, Option<Data>), String> {
        let (samples, seed) = (plan.recipe.train_samples as usize, plan.seed());
        match (&self.data, plan.recipe.data) {
            (Some(data), wanted) if data.choice == wanted => Ok((data.train(samples, seed)?, None)),
            (_, DataChoice::Digits) => {
                let data = Data::digits();
                Ok((data.train(samples, seed)?, Some(data)))
            }
            (_, DataChoice::Mnist) => Err("this needs MNIST: drop its four files first".into()),
        }
    }

    async fn prepare(&mut self, recipe: DistilRecipe, buffers: Buffers, news: &mut News<'_>) -> Result<Answer, String> {
        let plan = Plan::new(recipe)?;
        let teacher = match plan.recipe.teacher {
            TeacherChoice::Shipped => Some(shipped_teacher(&one(buffers)?, &self.device)?),
            TeacherChoice::Live => None,
        };
        let (train, data) = self.samples_for(&plan)?;
        let run = Distillation::new(plan, teacher, train, &self.device)?;
        self.put(run, data, news)
    }

    async fn restore(&mut self, buffers: Buffers, news: &mut News<'_>) -> Result<Answer, String> {
        let mut buffers = buffers.into_iter();
        let snapshot = Snapshot::read(&buffers.next().ok_or("there is no file")?)?;
        let teacher = match snapshot.recipe().teacher {
            TeacherChoice::Shipped => Some(shipped_teacher(&one(buffers.collect())?, &self.device)?),
            TeacherChoice::Live => None,
        };
        let plan = Plan::new(snapshot.recipe().clone())?;
        let (train, data) = self.samples_for(&plan)?;
        let run = snapshot.resume(teacher, train, &self.device)?;
        self.put(run, data, news)
    }

    fn put(&mut self, run: Distillation, data: Option<Data>, news: &mut News<'_>) -> Result<Answer, String> {
        self.pause(news);
        self.data = data.or(self.data.take());
        let answer = Answer::Prepared {
            recipe: Box::new(run.plan.recipe.clone()),
            step: run.student_steps(),
            parameters: [Model::Teacher, Model::Student].map(|model| {
                use burn::module::Module;
                run.network(model).num_params() as u32
            }),
            history: Box::new(run.history.clone()),
        };
        (self.run, self.opinions) = (Some(run), None);
        Ok(answer)
    }

    fn start(&mut self, steps: Option<u32>) -> Result<Answer, String> {
        let run = self.run.as_ref().ok_or_else(prepare_first)?;
        let (time, sent) = ((self.clock)(), run.history.mark());
        let left = steps.unwrap_or(u32::MAX);
        let checkpointed = time + FIRST_CHECKPOINT - CHECKPOINT_EVERY;
        self.going = Some(Going { left, reported: time, sent, checkpointed, steps: 0, images: 0 });
        Ok(Answer::Done)
    }

    fn pause(&mut self, news: &mut News<'_>) {
        self.stop(StopReason::Paused, news);
    }

    fn stop(&mut self, reason: StopReason, news: &mut News<'_>) {
        self.report(true, None, news);
        if let (Some(_), Some(run)) = (self.going.take(), &self.run) {
            news(Event::Stopped { step: run.student_steps(), reason }, Vec::new());
        }
    }

    /// Takes a few steps of the training that goes on, and tells of them.
    pub async fn advance(&mut self, news: &mut News<'_>) {
        let (Some(run), Some(going), Some(data)) = (&mut self.run, &mut self.going, &self.data) else {
            self.going = None;
            return;
        };
        if run.is_finished() || going.left == 0 {
            let reason = if run.is_finished() { StopReason::Finished } else { StopReason::Paused };
            return self.stop(reason, news);
        }
        match run.advance(going.left, &data.held_out, self.clock).await {
            Ok(chunk) => {
                going.left -= chunk.steps.min(going.left);
                going.steps += chunk.steps;
                going.images += chunk.images;
                let over = run.is_finished() || going.left == 0;
                let checked = self.show_checked(news);
                self.report(over || checked, Some(chunk), news);
                self.checkpoint(over, news).await;
            }
            Err(reason) => self.stop(StopReason::Failed(reason), news),
        }
    }

    // Shows the samples of a check, if there was one.
    fn show_checked(&mut self, news: &mut News<'_>) -> bool {
        let (Some(run), Some(data)) = (&mut self.run, &self.data) else { return false };
        let Some(seen) = run.take_seen() else { return false };
        let notes = seen.into_iter().map(|(index, says)| note(&data.held_out, index, says)).collect();
        if let Ok((Answer::Samples { samples }, pixels)) = samples(&data.held_out, notes) {
            news(Event::Checked { step: run.student_steps(), samples }, pixels);
        }
        true
    }

    // Tells what is new since the last report, if that is long enough ago.
    fn report(&mut self, now: bool, chunk: Option<Chunk>, news: &mut News<'_>) {
        let (Some(run), Some(going)) = (&self.run, &mut self.going) else { return };
        let time = (self.clock)();
        let seconds = (time - going.reported) / 1000.0;
        let news_of_none = going.steps == 0 && !(now && run.step() == 0 && chunk.is_some());
        if news_of_none || (!now && seconds * 1000.0 < REPORT_EVERY) {
            return;
        }
        let rate = |count: u32| (f64::from(count) / seconds.max(1e-3)) as f32;
        let event = Event::Progress {
            phase: chunk.map_or_else(|| run.phase(), |chunk| chunk.phase),
            step: run.step(),
            steps_per_second: rate(going.steps),
            images_per_second: rate(going.images),
            history: Box::new(run.history.since(&going.sent)),
        };
        (going.reported, going.sent) = (time, run.history.mark());
        (going.steps, going.images) = (0, 0);
        news(event, Vec::new());
    }

    // Sends the run as it is, if training goes on and the last time is long enough ago or `now` is said: then it is about
    // to stop, and what was trained must outlive the device.
    async fn checkpoint(&mut self, now: bool, news: &mut News<'_>) {
        let time = (self.clock)();
        let due = |going: &&mut Going| now || time - going.checkpointed > CHECKPOINT_EVERY;
        let Some(going) = self.going.as_mut().filter(due) else { return };
        going.checkpointed = time;
        // A device that fails here fails the next step too, which says so.
        if let Ok((Answer::Snapshot { step }, buffers)) = self.snapshot().await {
            news(Event::Checkpoint { step }, buffers);
        }
    }

    async fn snapshot(&self) -> Result<(Answer, Buffers), String> {
        let run = self.run.as_ref().ok_or_else(prepare_first)?;
        let bytes = snapshot::save(run, &self.class_names()).await?;
        Ok((Answer::Snapshot { step: run.student_steps() }, vec![bytes]))
    }

    fn class_names(&self) -> Vec<String> {
        self.data.as_ref().map(|data| data.held_out.class_names().to_vec()).unwrap_or_default()
    }

    async fn export(&self, model: Model) -> Result<(Answer, Buffers), String> {
        let run = self.run.as_ref().ok_or_else(prepare_first)?;
        let (name, config) = match model {
            Model::Student => ("student", run.plan.student.clone()),
            Model::Baseline => ("baseline", run.plan.student.clone()),
            Model::Teacher if run.plan.recipe.teacher == TeacherChoice::Live => ("teacher", live_teacher()),
            Model::Teacher => return Err("the teacher is the file that comes with the page".into()),
        };
        let description = Description {
            name: name.into(),
            config,
            class_names: self.class_names(),
            normalisation: Normalisation::mnist(),
            preprocess: Preprocess::default(),
            readout: Readout::Class,
        };
        Ok((Answer::Done, vec![snapshot::export(&run.network(model), &description).await?]))
    }

    // What everyone says of all held-out samples; known until the next step.
    async fn opinions(&mut self, news: &mut News<'_>) -> Result<(&Opinions, &dyn Dataset), String> {
        let (Some(run), Some(data)) = (&self.run, &self.data) else { return Err(prepare_first()) };
        let at = (run.phase(), run.step());
        if self.opinions.as_ref().is_none_or(|known| known.at != at) {
            let held_out = &data.held_out;
            // A few hundred at a time, so that a bar can move.
            const PART: usize = 500;
            let parts = held_out.len().div_ceil(PART) * MODELS.len();
            let mut said: [Vec<f32>; 3] = Default::default();
            let mut done = 0;
            for (model, said) in MODELS.into_iter().zip(&mut said) {
                let network = run.network(model);
                for start in (0..held_out.len()).step_by(PART) {
                    let what = "Looking at the held-out samples".into();
                    news(Event::Busy { what, fraction: Some(done as f32 / parts as f32) }, Vec::new());
                    let end = (start + PART).min(held_out.len());
                    said.extend(logits(&network, held_out, start..end, &self.device).await?);
                    done += 1;
                }
            }
            self.opinions = Some(Opinions { at, logits: said });
        }
        match (&self.opinions, &self.data) {
            (Some(opinions), Some(data)) => Ok((opinions, &data.held_out)),
            _ => Err(prepare_first()),
        }
    }

    async fn evaluate(&mut self, news: &mut News<'_>) -> Result<Answer, String> {
        let (opinions, held_out) = self.opinions(news).await?;
        let says = opinions.logits.each_ref().map(|logits| decisions(logits, held_out));
        let models = MODELS
            .into_iter()
            .zip(&opinions.logits)
            .map(|(model, logits)| {
                let counts = count(logits, held_out);
                ModelEvaluation {
                    model,
                    accuracy: counts.accuracy() as f32,
                    confusion: counts.confusion().iter().map(|&count| count as u32).collect(),
                }
            })
            .collect();
        let (samples, agreement) = (held_out.len() as u32, agreement(&says[0], &says[1]));
        Ok(Answer::Evaluation(Box::new(Evaluation { samples, models, agreement })))
    }

    async fn look(&self, sample: Option<u32>, temperature: f32, buffers: Buffers) -> Result<(Answer, Buffers), String> {
        if !(temperature > 0.0 && temperature <= 1000.0) {
            return Err(format!("the temperature is {temperature}; take a number above 0 and at most 1000"));
        }
        let (Some(run), Some(data)) = (&self.run, &self.data) else { return Err(prepare_first()) };
        let pixels = match sample {
            Some(index) => picture(&data.held_out, held_out_index(&data.held_out, index)?)?,
            None => one(buffers)?,
        };
        if pixels.len() != 784 {
            return Err(format!("a drawn picture has 784 pixels, and there are {}", pixels.len()));
        }
        let (mut opinions, mut buffers) = (Vec::new(), Vec::new());
        for model in MODELS {
            let seen = look(&run.network(model), grey(&pixels, &self.device), Readout::Class, self.clock).await?;
            let at = |tau: f32| softmax(&seen.logits, f64::from(tau)).into_iter().map(|p| p as f32).collect();
            let (probabilities, softened) = (at(1.0), at(temperature));
            opinions.push(Opinion { model, probabilities, softened, layers: seen.layers as u32 });
            buffers.push(bytes_of(&seen.attention));
        }
        Ok((Answer::Opinions { opinions }, buffers))
    }

    async fn browse(&mut self, first: u32, count: u32) -> Result<(Answer, Buffers), String> {
        let (Some(run), Some(data)) = (&self.run, &self.data) else { return Err(prepare_first()) };
        let held_out = &data.held_out;
        let start = (first as usize).min(held_out.len());
        let end = start.saturating_add((count as usize).min(MOST_SAMPLES)).min(held_out.len());
        let mut says: [Vec<u32>; 3] = Default::default();
        for (model, says) in MODELS.into_iter().zip(&mut says) {
            *says = decisions(&logits(&run.network(model), held_out, start..end, &self.device).await?, held_out);
        }
        let notes = (start..end).map(|index| note(held_out, index, says.each_ref().map(|says| says[index - start])));
        samples(held_out, notes.collect())
    }

    async fn cell(
        &mut self,
        model: Model,
        label: u32,
        predicted: u32,
        news: &mut News<'_>,
    ) -> Result<(Answer, Buffers), String> {
        let (opinions, held_out) = self.opinions(news).await?;
        let says = opinions.logits.each_ref().map(|logits| decisions(logits, held_out));
        let place = MODELS.iter().position(|known| *known == model).unwrap_or(0);
        let notes = (0..held_out.len())
            .filter(|&index| held_out.label(index) == label && says[place][index] == predicted)
            .take(MOST_SAMPLES)
            .map(|index| note(held_out, index, says.each_ref().map(|says| says[index])));
        samples(held_out, notes.collect())
    }

    async fn disagreements(&mut self, count: u32, news: &mut News<'_>) -> Result<(Answer, Buffers), String> {
        let (opinions, held_out) = self.opinions(news).await?;
        let classes = held_out.classes();
        let row = |place: usize, index: usize| &opinions.logits[place][index * classes..][..classes];
        let mut order: Vec<(f64, usize)> =
            (0..held_out.len()).map(|index| (divergence(row(0, index), row(1, index)), index)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let chosen = order.into_iter().take((count as usize).min(MOST_SAMPLES));
        let notes = chosen.map(|(_, index)| note(held_out, index, [0, 1, 2].map(|place| argmax(row(place, index)))));
        samples(held_out, notes.collect())
    }
}

fn plain(answer: Answer) -> (Answer, Buffers) {
    (answer, Vec::new())
}

fn one(buffers: Buffers) -> Result<Vec<u8>, String> {
    buffers.into_iter().next().ok_or_else(|| "a file that belongs to this is missing".into())
}

/// The teacher that comes with the page.
///
/// # Errors
/// If the file is damaged, or its network is not for 28 x 28 grey digits.
fn shipped_teacher(bytes: &[u8], device: &Device) -> Result<Network, String> {
    let wrong = |reason: String| format!("the teacher's file: {reason}");
    let (tensors, metadata) = weights::from_safetensors(bytes).map_err(|error| wrong(error.to_string()))?;
    let description = Description::read(&metadata).map_err(|error| wrong(error.to_string()))?;
    let description = description.ok_or_else(|| wrong("it does not say which network it is".into()))?;
    let config = &description.config;
    if (config.image_size(), config.channels(), config.classes()) != (28, 1, 10) {
        return Err(wrong("its network is not one for 28 x 28 grey digits".into()));
    }
    if description.normalisation != Normalisation::mnist() {
        return Err(wrong("its network was trained on differently normalised images".into()));
    }
    description.network(tensors, device).map_err(|error| wrong(error.to_string()))
}

fn held_out_index(held_out: &dyn Dataset, index: u32) -> Result<usize, String> {
    match index as usize {
        known if known < held_out.len() => Ok(known),
        _ => Err(format!("there is no held-out sample {index}; there are {}", held_out.len())),
    }
}

fn picture(held_out: &dyn Dataset, index: usize) -> Result<Vec<u8>, String> {
    Ok(held_out.image(index).map_err(|error| error.to_string())?.pixels.into_owned())
}

fn note(held_out: &dyn Dataset, index: usize, [teacher, student, baseline]: [u32; 3]) -> SampleNote {
    SampleNote { index: index as u32, label: held_out.label(index), teacher, student, baseline }
}

fn samples(held_out: &dyn Dataset, samples: Vec<SampleNote>) -> Result<(Answer, Buffers), String> {
    let mut pixels = Vec::new();
    for note in &samples {
        pixels.extend(picture(held_out, note.index as usize)?);
    }
    Ok((Answer::Samples { samples }, vec![pixels]))
}

/// Numbers as a buffer: little-endian, as every browser's typed arrays are.
pub fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The Jensen-Shannon divergence of what two rows of logits say, in nats.
fn divergence(one: &[f32], other: &[f32]) -> f64 {
    let (p, q) = (softmax(one, 1.0), softmax(other, 1.0));
    let part = |p: f64, m: f64| if p > 0.0 { 0.5 * p * (p / m).ln() } else { 0.0 };
    p.iter().zip(&q).map(|(&p, &q)| part(p, 0.5 * (p + q)) + part(q, 0.5 * (p + q))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_zero_for_equals_and_ln_2_for_opposites() {
        assert!(divergence(&[1.0, 2.0], &[1.0, 2.0]).abs() < 1e-12);
        assert!((divergence(&[1000.0, 0.0], &[0.0, 1000.0]) - std::f64::consts::LN_2).abs() < 1e-12);
    }
}
