//! What the page and its worker say to one another.
//!
//! A message is a JSON text and a list of byte buffers, which move instead of being copied: for `postMessage` an array
//! whose first item is the text and whose others are `ArrayBuffer`s, all of them in the transfer list. The worker sends
//! [`Event::Ready`] when it listens. Then the page sends a [`Request`], the worker answers every request with exactly
//! one [`Reply`] of the same number, and sends [`Event`]s in between, at most a few a second. Where a message carries
//! buffers, its documentation says which and in what order.
//!
//! The worker owns WebAssembly's heap and the device; the page holds no model and no data set, only what it shows.

mod history;
mod limits;
mod situation;

pub use history::{Curve, History, Mark, Quantity};
pub use limits::{NUMBERS, NumberOption, digits_text, shorten, take_digits};
pub use situation::Situation;

use serde::{Deserialize, Deserializer, Serialize};

/// From the page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the page; the reply has the same.
    pub id: u32,
    /// What to do.
    pub command: Command,
}

/// From the worker, to one request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The request's number.
    pub id: u32,
    /// What came of it; an error is one line for the person: what is wrong, where, and what to do.
    pub result: Result<Answer, String>,
}

/// What the worker sends: an answer, or news.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromWorker {
    /// An answer to a request.
    Reply(Reply),
    /// News that nobody asked for.
    Event(Event),
}

/// What the worker is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Command {
    /// Chooses a device and tests it. The first command, sent once. Answer: [`Answer::Device`].
    Open {
        /// What the person or the address asked for.
        device: DevicePreference,
        /// What [`DeviceReport::tested`] said when a device last passed the test in this browser: it is not tested again.
        #[serde(default)]
        tested: Option<String>,
        /// For tests alone: makes a fault happen on purpose.
        #[serde(default)]
        fault: Option<Fault>,
    },
    /// Makes a data set ready. Buffers: none for digits; for MNIST the dropped files in any order, gzip or not.
    /// Answer: [`Answer::Data`].
    Data {
        /// Which.
        data: DataChoice,
        /// The files' names, for messages.
        #[serde(default)]
        names: Vec<String>,
    },
    /// Makes teacher, student and baseline ready at step 0 and forgets the ones before. Answer: [`Answer::Prepared`].
    /// Buffer: the shipped teacher's safetensors where the recipe takes it.
    Prepare {
        /// What to train.
        recipe: Box<DistilRecipe>,
    },
    /// Goes on training until `steps` more are taken, the recipe's steps are done, or [`Command::Pause`] comes.
    /// Answered at once with [`Answer::Done`]; [`Event::Progress`] follows, and [`Event::Stopped`] at the end.
    Run {
        /// How many steps at most; `None`: to the end.
        steps: Option<u32>,
    },
    /// Stops after the step under way. Answer: [`Answer::Done`].
    Pause,
    /// Everything that a run needs to go on exactly: parameters, moments, step, recipe, curves. Answer:
    /// [`Answer::Snapshot`] with one buffer, a file that `potstill eval` reads too.
    Snapshot,
    /// Continues from a snapshot. Buffer: the snapshot, and the shipped teacher's safetensors where its recipe takes it.
    /// Answer: [`Answer::Prepared`].
    Restore,
    /// The student's, baseline's or teacher's weights as safetensors. Answer: [`Answer::Done`] with one buffer.
    Export {
        /// Whose.
        model: Model,
    },
    /// Evaluates on all held-out samples. Answer: [`Answer::Evaluation`].
    Evaluate,
    /// What the models say of a picture. Buffer: 784 bytes, 28 x 28 grey, white ink on black; none with `sample`.
    /// Answer: [`Answer::Opinions`]. Buffers: for each opinion its attention, `f32[layers, 28 x 28]`, each map scaled to 0..1.
    Look {
        /// A held-out sample in place of a drawn picture.
        sample: Option<u32>,
        /// The slider's temperature.
        temperature: f32,
    },
    /// Held-out samples in their order, to choose from. Answer: [`Answer::Samples`] with one buffer, 784 bytes each.
    Browse {
        /// The first one's number.
        first: u32,
        /// At most how many.
        count: u32,
    },
    /// Held-out samples behind a cell of a confusion matrix. Answer: [`Answer::Samples`] with one buffer, 784 bytes each.
    Cell {
        /// Whose matrix.
        model: Model,
        /// The row.
        label: u32,
        /// The column.
        predicted: u32,
    },
    /// Held-out samples on which student and teacher differ most (Jensen-Shannon divergence), most first. Answer:
    /// [`Answer::Samples`] with one buffer, 784 bytes each.
    Disagreements {
        /// At most how many.
        count: u32,
    },
    /// Takes a classifier. Buffer: safetensors in timm's or transformers' layout. Answer: [`Answer::Classifier`].
    Classifier {
        /// What to call it.
        name: String,
        /// Names and texts of the files that lie beside it: `config.json`, a list of names.
        #[serde(default)]
        beside: Vec<(String, String)>,
    },
    /// Prepares pictures for the classifier otherwise than before. Answer: [`Answer::Classifier`].
    Preparation {
        /// How.
        preparation: Preparation,
    },
    /// Classifies a picture with it. Buffer: the encoded file (PNG or JPEG). Answer: [`Answer::Classified`]; buffers: the
    /// picture as the network saw it, RGBA `[side, side, 4]`, and attention `f32[layers, side x side]`, each map scaled
    /// to 0..1: the head mean of the class token's row, for a mean-pooled network the mean of all rows.
    Classify {
        /// Which heads count.
        readout: ReadoutChoice,
    },
    /// For tests: destroys the GPU device in the middle of whatever runs. Answer: [`Answer::Done`].
    LoseDevice,
}

/// Which device the person wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DevicePreference {
    /// A real WebGPU adapter that passes the self-test, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// WebGPU also where it is a software adapter: for tests.
    Software,
}

/// Faults made on purpose, so that tests see what a person would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// As if the browser had no WebGPU.
    NoWebgpu,
    /// As if the adapter lacked a limit that the kernels need.
    Limits,
    /// As if the self-test had found a wrong kernel.
    Selftest,
}

/// A data set for the Distil view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataChoice {
    /// Digits drawn by the program.
    Digits,
    /// MNIST from dropped files.
    Mnist,
}

/// What to train; every field can stand in the page's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DistilRecipe {
    /// Which data set.
    pub data: DataChoice,
    /// Training samples.
    pub train_samples: u32,
    /// How many of them keep their label, drawn evenly over the classes; `None`: all.
    pub labels: Option<u32>,
    /// Classes whose samples the student does not see.
    pub omit: Vec<u32>,
    /// The share of the labels that is replaced by wrong ones.
    pub label_noise: f32,
    /// Where the teacher comes from.
    pub teacher: TeacherChoice,
    /// Steps of a teacher that is trained live, before the student starts.
    pub teacher_steps: u32,
    /// How the student is taught.
    pub method: Method,
    /// Temperature τ.
    pub temperature: f32,
    /// Weight α of the teacher; the labels weigh 1 − α.
    pub alpha: f32,
    /// Weight of the attention or class-token term.
    pub weight: f32,
    /// Label smoothing ε, for the method of that name alone.
    pub smoothing: f32,
    /// Blocks of the student.
    pub depth: u32,
    /// Width of the student; a multiple of its 4 heads.
    pub width: u32,
    /// Samples a step.
    pub batch: u32,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Steps of student and baseline.
    pub steps: u32,
    /// Seed of everything that is drawn.
    pub seed: u32,
}

impl Default for DistilRecipe {
    fn default() -> Self {
        Situation::FewLabels.recipe()
    }
}

/// Where the teacher comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherChoice {
    /// The one that comes with the page.
    Shipped,
    /// Trained here first.
    Live,
}

/// How a student is taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// By labels alone.
    None,
    /// By the teacher's softened logits (Hinton).
    Soft,
    /// By the teacher's decisions (DeiT).
    Hard,
    /// By the teacher's attention (SAF).
    Saf,
    /// By the teacher's class token and token geometry (CLS-KD).
    ClsKd,
    /// By its own logits of earlier epochs (LWR); no teacher.
    Lwr,
    /// By smoothed labels; no teacher.
    LabelSmoothing,
}

impl Method {
    /// Whether a teacher has a part in it.
    pub fn has_teacher(self) -> bool {
        matches!(self, Self::Soft | Self::Hard | Self::Saf | Self::ClsKd)
    }

    /// Whether it uses τ (`temperature`), α (`alpha`), `weight` or ε (`smoothing`); other options count always.
    pub fn uses(self, option: &str) -> bool {
        match option {
            "temperature" => matches!(self, Self::Soft | Self::ClsKd | Self::Lwr),
            "alpha" => matches!(self, Self::Soft | Self::Hard | Self::Saf | Self::ClsKd | Self::Lwr),
            "weight" => matches!(self, Self::Saf | Self::ClsKd),
            "smoothing" => self == Self::LabelSmoothing,
            _ => true,
        }
    }
}

/// One of the three networks of the Distil view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Teaches.
    Teacher,
    /// Is taught.
    Student,
    /// The student's architecture, initial values and batches, without a teacher.
    Baseline,
}

/// Which of two heads decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadoutChoice {
    /// The class head.
    #[default]
    Class,
    /// The distillation head.
    Distill,
    /// The mean of both heads' probabilities.
    Mean,
    /// The mean of both heads' logits.
    MeanLogits,
}

/// What comes of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Answer {
    /// It is done, and there is no more to say.
    Done,
    /// The device in use.
    Device(DeviceReport),
    /// The data set in use.
    Data {
        /// Its name.
        name: String,
        /// Training samples.
        train: u32,
        /// Held-out samples.
        held_out: u32,
        /// One a class.
        class_names: Vec<String>,
    },
    /// The networks are ready.
    Prepared {
        /// What is trained: as asked for, or as the snapshot says.
        recipe: Box<DistilRecipe>,
        /// Steps that the student has taken.
        step: u32,
        /// Parameters of teacher, student.
        parameters: [u32; 2],
        /// What was recorded up to that step.
        history: Box<History>,
    },
    /// The snapshot is in the buffer.
    Snapshot {
        /// Steps that the student has taken.
        step: u32,
    },
    /// Accuracy, agreement and confusion matrices.
    Evaluation(Box<Evaluation>),
    /// What each model says.
    Opinions {
        /// One a model, in the order teacher, student, baseline.
        opinions: Vec<Opinion>,
    },
    /// Samples whose pictures are in the buffer.
    Samples {
        /// In the buffer's order.
        samples: Vec<SampleNote>,
    },
    /// The classifier is ready.
    Classifier(Box<ClassifierReport>),
    /// The classifier has decided.
    Classified(Box<Classified>),
}

/// The device and why it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceReport {
    /// Whether WebGPU is used.
    pub gpu: bool,
    /// The adapter's name, or `this computer's processor`.
    pub name: String,
    /// Why, in words that a teacher understands.
    pub reason: String,
    /// The adapter and the program's version, where the test was passed.
    #[serde(default)]
    pub tested: Option<String>,
}

/// A number that may be none: JSON has no NaN, and `null` is written for it.
#[derive(Deserialize)]
#[serde(from = "Option<f32>")]
struct Real(f32);

impl From<Option<f32>> for Real {
    fn from(number: Option<f32>) -> Self {
        Self(number.unwrap_or(f32::NAN))
    }
}

/// Reads numbers of which some may be none.
///
/// # Errors
/// If it is no list of numbers.
pub fn reals<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
    Ok(Vec::deserialize(from)?.into_iter().map(|Real(number)| number).collect())
}

/// Reads lists of numbers of which some may be none.
///
/// # Errors
/// If it is no list of such lists.
pub fn real_lists<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<f32>>, D::Error> {
    let lists = Vec::<Vec<Real>>::deserialize(from)?;
    Ok(lists.into_iter().map(|list| list.into_iter().map(|Real(number)| number).collect()).collect())
}

fn real_shares<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u32, f32)>, D::Error> {
    Ok(Vec::deserialize(from)?.into_iter().map(|(class, Real(share))| (class, share)).collect())
}

/// News from the worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// The worker listens; before it no request arrives.
    Ready,
    /// Something longer is under way.
    Busy {
        /// What, for a person.
        what: String,
        /// From 0 to 1, where it is known.
        fraction: Option<f32>,
    },
    /// Training goes on; `history` holds only what is new since the last event.
    Progress {
        /// Which network is trained: the teacher first where it is trained live.
        phase: Model,
        /// Steps taken of the phase.
        step: u32,
        /// Steps a second.
        steps_per_second: f32,
        /// Images a second, all networks together.
        images_per_second: f32,
        /// What is new.
        history: Box<History>,
    },
    /// Held-out samples were looked at: a few of them, with what each network says. One buffer, 784 bytes each.
    Checked {
        /// Steps that the student has taken.
        step: u32,
        /// The same samples at each check of a run.
        samples: Vec<SampleNote>,
    },
    /// Training stopped.
    Stopped {
        /// Steps that the student has taken: none while its teacher learns.
        step: u32,
        /// Why.
        reason: StopReason,
    },
    /// A snapshot that the page keeps in memory in case the device is lost: every few seconds, and before training stops
    /// at a step that can be continued from. One buffer.
    Checkpoint {
        /// Steps that the student has taken.
        step: u32,
    },
    /// The device is gone. The page ends this worker, starts another and sends it the last checkpoint.
    DeviceLost {
        /// What the browser said.
        message: String,
    },
    /// The worker's program could not be fetched. The page ends this worker and starts another when the person asks for it.
    Unloaded {
        /// What the browser said.
        message: String,
    },
    /// The worker cannot go on: a panic, or memory that ran out. The page does as for a lost device, but waits for the
    /// person before it trains on.
    Broken {
        /// What is wrong and what to lower.
        message: String,
    },
}

/// Why training stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// All steps are taken.
    Finished,
    /// As many as asked for.
    Paused,
    /// The loss is no longer a number, or memory ran out: what to do.
    Failed(String),
}

/// Held-out figures of the three networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Held-out samples looked at.
    pub samples: u32,
    /// One a network, in the order teacher, student, baseline.
    pub models: Vec<ModelEvaluation>,
    /// Fraction on which student and teacher decide alike.
    pub agreement: f32,
}

/// One network's held-out figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelEvaluation {
    /// Whose.
    pub model: Model,
    /// Fraction right.
    pub accuracy: f32,
    /// Counts `[label][predicted]`, row-major.
    pub confusion: Vec<u32>,
}

/// What one network says of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opinion {
    /// Whose.
    pub model: Model,
    /// Probabilities at temperature 1.
    #[serde(deserialize_with = "reals")]
    pub probabilities: Vec<f32>,
    /// Probabilities at the asked temperature.
    #[serde(deserialize_with = "reals")]
    pub softened: Vec<f32>,
    /// How many attention maps lie in its buffer.
    pub layers: u32,
}

/// A held-out sample and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleNote {
    /// Its number.
    pub index: u32,
    /// Its class.
    pub label: u32,
    /// The teacher's decision.
    pub teacher: u32,
    /// The student's.
    pub student: u32,
    /// The baseline's.
    pub baseline: u32,
}

/// A classifier as its file describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassifierReport {
    /// What to call it.
    pub name: String,
    /// Its size in words: `ViT, 12 blocks of width 192, patch 16 on 224 x 224`.
    pub summary: String,
    /// Its parameters.
    pub parameters: u32,
    /// Side of its input.
    pub side: u32,
    /// Its classes; numbers where neither the file nor the page knows names.
    pub class_names: Vec<String>,
    /// Whether there are two heads.
    pub two_heads: bool,
    /// Which heads count, as its family reads them.
    pub readout: ReadoutChoice,
    /// How pictures are prepared.
    pub preparation: Preparation,
    /// How well it did when the file was written, as a sentence, where the file says it.
    pub measured: Option<String>,
    /// What the file did not say and was assumed, a line each.
    pub notes: Vec<String>,
}

/// How a picture becomes a classifier's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preparation {
    /// Mean of each channel, of pixels from 0 to 1.
    pub mean: Vec<f32>,
    /// Its deviation.
    pub std: Vec<f32>,
    /// What the centre crop keeps of a side, above 0 and at most 1.
    pub crop: f32,
    /// Whether both sides are resized, whatever becomes of the proportions.
    pub squash: bool,
    /// Whether the filter is linear and not cubic.
    pub bilinear: bool,
}

/// What a classifier says of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Classified {
    /// Class and probability, highest first, at most five.
    #[serde(deserialize_with = "real_shares")]
    pub top: Vec<(u32, f32)>,
    /// The raw logits of the chosen read-out's head, or the mean of both.
    #[serde(deserialize_with = "reals")]
    pub logits: Vec<f32>,
    /// Milliseconds from decoded picture to logits.
    pub milliseconds: f32,
    /// Attention maps in the buffer.
    pub layers: u32,
    /// Side of the picture and of each map.
    pub side: u32,
    /// What is wrong with the picture's file, where an answer was possible all the same.
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_may_leave_everything_out() {
        let recipe: DistilRecipe = serde_json::from_str("{}").expect("defaults");
        assert_eq!(recipe, DistilRecipe::default());
        let recipe: DistilRecipe = serde_json::from_str(r#"{"method":"cls-kd","learningRate":0.001}"#).expect("parses");
        assert_eq!((recipe.method, recipe.learning_rate), (Method::ClsKd, 0.001));
    }

    #[test]
    fn messages_survive_their_text() {
        let request = Request { id: 7, command: Command::Look { sample: Some(3), temperature: 2.0 } };
        let text = serde_json::to_string(&request).expect("serialises");
        assert_eq!(text, r#"{"id":7,"command":{"do":"look","sample":3,"temperature":2.0}}"#);
        let back: Request = serde_json::from_str(&text).expect("parses");
        assert!(matches!(back.command, Command::Look { sample: Some(3), .. }));
        let event = FromWorker::Event(Event::Stopped { step: 9, reason: StopReason::Paused });
        let text = serde_json::to_string(&event).expect("serialises");
        assert_eq!(text, r#"{"event":{"is":"stopped","step":9,"reason":"paused"}}"#);
    }

    #[test]
    fn what_is_no_number_is_read_again() {
        let loss = vec![0.5, f32::NAN, f32::INFINITY];
        let (model, quantity) = (Model::Baseline, Quantity::Loss);
        let curve = Curve { model, quantity, steps: vec![1, 2, 3], values: loss.clone() };
        let history = History { curves: vec![curve] };
        let opinion =
            Opinion { model: Model::Baseline, probabilities: loss.clone(), softened: loss.clone(), layers: 0 };
        let top = vec![(3, 0.5), (4, f32::NAN)];
        let classified = Classified { top, logits: loss, milliseconds: 1.0, layers: 0, side: 1, note: None };
        let sent = |answer| {
            let text = serde_json::to_string(&FromWorker::Reply(Reply { id: 1, result: Ok(answer) })).expect("text");
            match serde_json::from_str(&text) {
                Ok(FromWorker::Reply(Reply { result: Ok(answer), .. })) => answer,
                other => panic!("{text}: {other:?}"),
            }
        };
        let same = |found: &[f32]| assert!(found[0] == 0.5 && found[1].is_nan() && found[2].is_nan(), "{found:?}");
        let (recipe, history) = (Box::default(), Box::new(history));
        match sent(Answer::Prepared { recipe, step: 0, parameters: [0; 2], history }) {
            Answer::Prepared { history, .. } => same(&history.curves[0].values),
            other => panic!("{other:?}"),
        }
        match sent(Answer::Opinions { opinions: vec![opinion] }) {
            Answer::Opinions { opinions } => {
                same(&opinions[0].probabilities);
                same(&opinions[0].softened);
            }
            other => panic!("{other:?}"),
        }
        match sent(Answer::Classified(Box::new(classified))) {
            Answer::Classified(found) => {
                same(&found.logits);
                assert!(found.top[0] == (3, 0.5) && found.top[1].0 == 4 && found.top[1].1.is_nan());
            }
            other => panic!("{other:?}"),
        }
    }
}
