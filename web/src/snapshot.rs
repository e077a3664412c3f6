//! A run as one file: a student that other programs read, with what it takes to go on beside it.
//!
//! The file is safetensors. Its plain tensors and its description are the student's, so `potstill eval` and the Classify view
//! take it for a student. Everything else has a name that begins with [`STATE_PREFIX`]: the baseline, a live teacher, moments,
//! the table of past logits; and `potstill.run` in the metadata holds the recipe, the step and the curves. All numbers are
//! float32, so a run that goes on from it takes the steps that it would have taken.

use burn::module::Module;
use burn::tensor::Device;
use potstill_core::data::{Dataset, Normalisation, Preprocess};
use potstill_core::method::Readout;
use potstill_core::model::Network;
use potstill_core::train::state::{prefixed, take_prefixed};
use potstill_core::train::{Course, State};
use potstill_core::weights::{self, Description, NamedTensor, STATE_PREFIX};
use serde::{Deserialize, Serialize};

use crate::distil::{Distillation, Teacher, failure};
use crate::older;
use crate::plan::{Plan, live_teacher};
use crate::protocol::{DistilRecipe, History, TeacherChoice};

const RUN: &str = "potstill.run";

/// What is no tensor of a run.
#[derive(Clone, Serialize, Deserialize)]
struct RunState {
    #[serde(deserialize_with = "older::recipe")]
    recipe: DistilRecipe,
    step: u32,
    // Whether a live teacher is still learning: then `step` is the teacher's.
    teacher_learns: bool,
    #[serde(deserialize_with = "older::history")]
    history: History,
}

/// A snapshot that was read and whose recipe is known, so that data and teacher can be made ready for it.
pub struct Snapshot {
    state: RunState,
    tensors: Vec<NamedTensor>,
}

/// The bytes of a snapshot of `run`.
///
/// # Errors
/// If the device failed.
pub async fn save(run: &Distillation, class_names: &[String]) -> Result<Vec<u8>, String> {
    let mut state = run.student.state().await.map_err(failure)?;
    let mut tensors = state.student();
    let mut keep = |part: &str, own: Vec<NamedTensor>| tensors.extend(prefixed(&format!("{STATE_PREFIX}{part}"), own));
    keep("past.", std::mem::take(&mut state.past));
    keep("student.moments.", state.moments);
    let mut others = vec![("baseline", &run.baseline)];
    match &run.teacher {
        Teacher::Ready(_) if run.plan.recipe.teacher == TeacherChoice::Shipped => {}
        Teacher::Ready(network) => keep("teacher.", weights::read(network).await.map_err(failure)?),
        Teacher::Learning(course) => others.push(("teacher", course)),
    }
    for (whose, course) in others {
        let state = course.state().await.map_err(failure)?;
        keep(&format!("{whose}."), state.student());
        keep(&format!("{whose}.moments."), state.moments);
    }
    let state = RunState {
        recipe: run.plan.recipe.clone(),
        step: run.step(),
        teacher_learns: matches!(run.teacher, Teacher::Learning(_)),
        history: run.history.clone(),
    };
    let description = Description {
        name: format!("student of {} blocks of width {}", state.recipe.depth, state.recipe.width),
        config: run.plan.student.clone(),
        class_names: class_names.to_vec(),
        normalisation: Normalisation::mnist(),
        preprocess: Preprocess::default(),
        readout: Readout::Class,
    };
    let mut metadata = description.metadata();
    metadata.insert(RUN.into(), serde_json::to_string(&state).map_err(|error| error.to_string())?);
    weights::to_safetensors(&tensors, metadata).map_err(|error| error.to_string())
}

impl Snapshot {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// A line that says why the file is none.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let (mut tensors, metadata) = weights::from_safetensors(bytes).map_err(|error| error.to_string())?;
        tensors.iter_mut().for_each(|tensor| tensor.name = older::name(std::mem::take(&mut tensor.name)));
        let Some(json) = metadata.get(RUN) else {
            return Err("it holds no saved run: take a file that this page saved".into());
        };
        let state: RunState =
            serde_json::from_str(json).map_err(|error| format!("its saved run is damaged: {error}"))?;
        Ok(Self { state, tensors })
    }

    /// The recipe of the run.
    pub fn recipe(&self) -> &DistilRecipe {
        &self.state.recipe
    }

    /// The run as it was, on `device`. `teacher` is the shipped one, where the recipe takes that.
    ///
    /// # Errors
    /// A line that says what does not fit.
    pub fn resume(
        mut self,
        teacher: Option<Network>,
        train: std::sync::Arc<dyn Dataset>,
        device: &Device,
    ) -> Result<Distillation, String> {
        let RunState { recipe, step, teacher_learns, history } = self.state.clone();
        let plan = Plan::new(recipe)?;
        let live = plan.recipe.teacher == TeacherChoice::Live;
        let steps = if teacher_learns { plan.recipe.teacher_steps } else { plan.recipe.steps };
        if step > steps || (teacher_learns && !live) {
            return Err(format!("its saved run is damaged: it stands at step {step} of {steps}"));
        }
        let mut run = Distillation::new(plan, teacher, train, device)?;
        run.history = history;
        let step = u64::from(step);
        // While the teacher learns, the others stand at their beginning; a baseline that is told nothing stays there.
        let theirs = if teacher_learns { 0 } else { step };
        let baseline = self.course("baseline", if run.baseline_learns() { theirs } else { 0 });
        restore("baseline", &mut run.baseline, baseline)?;
        match &mut run.teacher {
            Teacher::Learning(course) if teacher_learns => restore("teacher", course, self.course("teacher", step))?,
            Teacher::Learning(_) => {
                let empty = live_teacher().init(0, device).map_err(|error| error.to_string())?;
                let network = weights::assign(empty, self.take("teacher."));
                run.taught_by(network.map_err(|error| format!("its teacher: {error}"))?)?;
            }
            Teacher::Ready(_) => {}
        }
        let (moments, past) = (self.take("student.moments."), self.take("past."));
        let learner = State::learner_of(self.tensors);
        restore("student", &mut run.student, Some(State { step: theirs, learner, moments, past }))?;
        Ok(run)
    }

    // Takes the tensors of one part out, under their plain names.
    fn take(&mut self, part: &str) -> Vec<NamedTensor> {
        take_prefixed(&mut self.tensors, &format!("{STATE_PREFIX}{part}"))
    }

    // Takes the state of a network out that is not the student, if the file holds it.
    fn course(&mut self, whose: &str, step: u64) -> Option<State> {
        let moments = self.take(&format!("{whose}.moments."));
        let learner = State::learner_of(self.take(&format!("{whose}.")));
        (!learner.is_empty()).then_some(State { step, learner, moments, past: Vec::new() })
    }
}

fn restore(whose: &str, course: &mut Course, state: Option<State>) -> Result<(), String> {
    let state = state.ok_or_else(|| format!("its {whose} is missing"))?;
    course.restore(state).map_err(|error| format!("its {whose}: {error}"))
}

/// A network's weights as a file of their own.
///
/// # Errors
/// If the device failed.
pub async fn export<M: Module>(model: &M, description: &Description) -> Result<Vec<u8>, String> {
    let tensors = weights::read(model).await.map_err(failure)?;
    weights::to_safetensors(&tensors, description.metadata()).map_err(|error| error.to_string())
}
