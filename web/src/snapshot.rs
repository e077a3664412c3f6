//! A run as one file: a student that other programs read, with what it takes to go on beside it.
//!
//! The file is safetensors. Its plain tensors and its description are the student's, so `potstill eval` and the Classify view
//! take it for a student. Everything else has a name that begins with [`STATE_PREFIX`]: the baseline, a live teacher, moments,
//! the table of past logits; and `potstill.run` in the metadata holds the recipe, the step and the curves. All numbers are
//! float32, so a run that goes on from it takes the steps that it would have taken.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Device;
use potstill_core::data::{Dataset, Normalisation, Preprocess};
use potstill_core::model::Network;
use potstill_core::objective::{LogitTable, Readout};
use potstill_core::train::AdamW;
use potstill_core::train::adamw::{AdamWRecord, Moments};
use potstill_core::weights::{self, Description, NamedTensor, STATE_PREFIX};
use serde::{Deserialize, Serialize};

use crate::distil::{Distillation, Pupil, Teacher, failure};
use crate::older;
use crate::plan::{Plan, live_teacher};
use crate::protocol::{DistilRecipe, History, TeacherChoice};

const RUN: &str = "potstill.run";
const FIRST: &str = "first.";
const SECOND: &str = "second.";

/// What is no tensor of a run.
#[derive(Serialize, Deserialize)]
struct RunState {
    recipe: DistilRecipe,
    step: u32,
    // Whether a live teacher is still learning: then `step` is the teacher's.
    teacher_learns: bool,
    // Updates of each optimiser, by whose it is.
    updates: BTreeMap<String, u64>,
    #[serde(deserialize_with = "older::history")]
    history: History,
}

/// A snapshot that was read and whose recipe is known, so that data and teacher can be made ready for it.
pub struct Snapshot {
    state: RunState,
    student: Vec<NamedTensor>,
    others: BTreeMap<String, NamedTensor>,
}

/// The bytes of a snapshot of `run`.
///
/// # Errors
/// If the device failed.
pub async fn save(run: &Distillation, class_names: &[String]) -> Result<Vec<u8>, String> {
    let mut tensors = weights::read(&run.student.network()).await.map_err(failure)?;
    let mut others = Vec::new();
    let mut updates = BTreeMap::new();
    let baseline = weights::read(&run.baseline.network()).await.map_err(failure)?;
    others.extend(prefixed("baseline.", baseline));
    let mut pupils = vec![("student", &run.student), ("baseline", &run.baseline)];
    let shipped = run.plan.recipe.teacher == TeacherChoice::Shipped;
    match &run.teacher {
        Teacher::Ready(_) if shipped => {}
        Teacher::Ready(network) => {
            others.extend(prefixed("teacher.", weights::read(network).await.map_err(failure)?));
        }
        Teacher::Learning(pupil) => {
            others.extend(prefixed("teacher.", weights::read(&pupil.network()).await.map_err(failure)?));
            pupils.push(("teacher", pupil));
        }
    }
    for (whose, pupil) in pupils {
        let Some(record) = pupil.optimiser.record().await.map_err(failure)? else { continue };
        updates.insert(whose.to_owned(), record.steps);
        for Moments { path, first, second, .. } in record.moments {
            let vector = |kind, values: Vec<f32>| NamedTensor {
                name: format!("{kind}{path}"),
                shape: vec![values.len()],
                values,
            };
            let moments = [vector(FIRST, first), vector(SECOND, second)];
            others.extend(prefixed(&format!("{whose}.moments."), moments.into()));
        }
    }
    if let Some(table) = &run.past {
        let [latest, copy] = table.contents().map(<[f32]>::to_vec);
        let vector =
            |name: &str, values: Vec<f32>| NamedTensor { name: name.into(), shape: vec![values.len()], values };
        others.extend(prefixed("past.", vec![vector("latest", latest), vector("copy", copy)]));
    }
    let state = RunState {
        recipe: run.plan.recipe.clone(),
        step: run.step,
        teacher_learns: matches!(run.teacher, Teacher::Learning(_)),
        updates,
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
    tensors.extend(others);
    weights::to_safetensors(&tensors, metadata).map_err(|error| error.to_string())
}

fn prefixed(part: &str, tensors: Vec<NamedTensor>) -> impl Iterator<Item = NamedTensor> {
    tensors
        .into_iter()
        .map(move |tensor| NamedTensor { name: format!("{STATE_PREFIX}{part}{}", tensor.name), ..tensor })
}

impl Snapshot {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// A line that says why the file is none.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let (tensors, metadata) = weights::from_safetensors(bytes).map_err(|error| error.to_string())?;
        let Some(json) = metadata.get(RUN) else {
            return Err("it holds no saved run: take a file that this page saved".into());
        };
        let mut state: RunState =
            serde_json::from_str(json).map_err(|error| format!("its saved run is damaged: {error}"))?;
        if let Some(updates) = state.updates.remove("twin") {
            state.updates.insert("baseline".into(), updates);
        }
        let (others, student) = tensors.into_iter().partition::<Vec<_>, _>(|t| t.name.starts_with(STATE_PREFIX));
        let named = |tensor: NamedTensor| (older::name(tensor.name.clone()), tensor);
        let others = others.into_iter().map(named).collect();
        Ok(Self { state, student, others })
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
        let plan = Plan::new(self.state.recipe.clone())?;
        let live = plan.recipe.teacher == TeacherChoice::Live;
        let (samples, classes) = (train.len(), train.classes());
        let steps = if self.state.teacher_learns { plan.recipe.teacher_steps } else { plan.recipe.steps };
        if self.state.step > steps || (self.state.teacher_learns && !live) {
            return Err(format!("its saved run is damaged: it stands at step {} of {steps}", self.state.step));
        }
        let mut run = Distillation::new(plan, teacher, train, device)?;
        let student = std::mem::take(&mut self.student);
        self.fill("student", &mut run.student, student)?;
        let baseline = self.take("baseline.");
        self.fill("baseline", &mut run.baseline, baseline)?;
        if live {
            let tensors = self.take("teacher.");
            if self.state.teacher_learns {
                let Teacher::Learning(pupil) = &mut run.teacher else { return Err("a shipped teacher learns".into()) };
                self.fill("teacher", pupil, tensors)?;
            } else {
                let empty = live_teacher().init(0, device).map_err(|error| error.to_string())?;
                let network = weights::assign(empty, tensors).map_err(|error| format!("its teacher: {error}"))?;
                run.teacher = Teacher::Ready(network);
            }
        }
        if let Some(past) = &mut run.past {
            let mut rows = |name: &str| self.others.remove(&format!("{STATE_PREFIX}past.{name}")).map(|t| t.values);
            let table = rows("latest").zip(rows("copy")).filter(|(latest, _)| latest.len() == samples * classes);
            let table = table.and_then(|(latest, copy)| LogitTable::from_contents(classes, [latest, copy]));
            *past = table.ok_or("its table of past logits is missing or damaged")?;
        }
        run.step = self.state.step;
        run.history = self.state.history;
        Ok(run)
    }

    // The tensors of one part, under their plain names; moments are no part of a network.
    fn take(&mut self, part: &str) -> Vec<NamedTensor> {
        let prefix = format!("{STATE_PREFIX}{part}");
        let names: Vec<String> = self.others.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        let plain = |name: &str| name[prefix.len()..].to_owned();
        let tensors = names.iter().filter(|name| !plain(name).starts_with("moments.")).filter_map(|name| {
            let tensor = self.others.remove(name)?;
            Some(NamedTensor { name: plain(name), ..tensor })
        });
        tensors.collect()
    }

    fn fill(&mut self, whose: &str, pupil: &mut Pupil, tensors: Vec<NamedTensor>) -> Result<(), String> {
        let damaged = |reason: String| format!("its {whose}: {reason}");
        let network = pupil.learner.student.clone();
        pupil.learner.student = weights::assign(network, tensors).map_err(|error| damaged(error.to_string()))?;
        let Some(&steps) = self.state.updates.get(whose) else { return Ok(()) };
        let mut moments: BTreeMap<String, [Option<Vec<f32>>; 2]> = BTreeMap::new();
        let prefix = format!("{STATE_PREFIX}{whose}.moments.");
        for (name, tensor) in &mut self.others {
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            let values = Some(std::mem::take(&mut tensor.values));
            if let Some(path) = rest.strip_prefix(FIRST) {
                moments.entry(path.to_owned()).or_default()[0] = values;
            } else if let Some(path) = rest.strip_prefix(SECOND) {
                moments.entry(path.to_owned()).or_default()[1] = values;
            }
        }
        let moments = moments
            .into_iter()
            .map(|(path, [first, second])| Some(Moments { path, first: first?, second: second?, average: None }));
        let record = moments.collect::<Option<Vec<_>>>().map(|moments| AdamWRecord { steps, moments });
        let config = crate::plan::optimiser();
        let optimiser = record.and_then(|record| AdamW::resume(config, record, &pupil.learner));
        pupil.optimiser = optimiser.ok_or_else(|| damaged("its optimiser's state does not fit it".into()))?;
        Ok(())
    }
}

/// A network's weights as a file of their own.
///
/// # Errors
/// If the device failed.
pub async fn export<M: Module>(model: &M, description: &Description) -> Result<Vec<u8>, String> {
    let tensors = weights::read(model).await.map_err(failure)?;
    weights::to_safetensors(&tensors, description.metadata()).map_err(|error| error.to_string())
}
