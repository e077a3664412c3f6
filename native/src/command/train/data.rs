//! The data of a run: what each of its networks learns from.

use std::sync::Arc;

use potstill_core::data::{Dataset, Error, Subset, Telling, Told};

use crate::dataset::{self, Split};
use crate::error::{Failure, Result};
use crate::recipe::Recipe;
use crate::run::Role;
use crate::train::{Source, StageData};

/// What the networks of a run learn from.
pub struct RunData {
    /// All samples with their labels: the teacher's, and those of the control that is told everything.
    pub full: StageData,
    // The student's: some samples without a label, or with a wrong one.
    student: StageData,
    // The baseline's: the samples of which the student knows the label, as often in an epoch as there are samples for the
    // student. So both take the same steps, and no step of the baseline's is spent on samples that tell it nothing.
    baseline: StageData,
}

impl RunData {
    /// What a network learns from.
    pub fn of(&self, role: Role) -> &StageData {
        match role {
            Role::Teacher | Role::AllLabels => &self.full,
            Role::Student | Role::HardLabels => &self.student,
            Role::Baseline => &self.baseline,
        }
    }
}

/// Opens what a recipe trains and measures on.
///
/// # Errors
/// Exit code 2 for more samples than there are; 1 for files that cannot be read.
pub fn open(recipe: &Recipe) -> Result<RunData> {
    let data = &recipe.data;
    let train = dataset::open_sized(&data.dataset, data.data_dir.as_deref(), Split::Train, data.train_samples)?;
    let held_out = dataset::open(&data.dataset, data.data_dir.as_deref(), data.held_out())?;
    if train.class_names() != held_out.class_names() {
        return Err(Failure::work("the training and the held-out images have other classes"));
    }
    let train: Arc<dyn Dataset> = match data.train_samples {
        Some(samples) if samples != train.len() => {
            Arc::new(Subset::balanced(train, samples, recipe.seed).map_err(Failure::usage)?)
        }
        _ => train,
    };
    // Teacher and student see the same pixels: the network that learns says how they are prepared.
    let learns = recipe.learner();
    let model = learns.map_or("", |network| network.model.as_str());
    let channels = match learns {
        Some(network) => network.config("the network that learns")?.channels(),
        None => 3,
    };
    let source = Source {
        dataset: train,
        transform: data.transform(model, channels),
        mix: data.mix,
        repeats: data.repeats,
        workers: data.workers,
        // Each stage sets its own, and the size of its images.
        batch_size: 1,
        seed: recipe.seed,
    };
    let full = StageData::new(source, held_out, data.test_samples);
    if data.tells_all() {
        return Ok(RunData { student: full.clone(), baseline: full.clone(), full });
    }
    let Told { student, baseline, labels } = told(full.source.dataset.clone(), recipe)?;
    let images = student.len();
    // Where no sample has a label the baseline has nothing of its own to see.
    let baseline_images = if labels == 0 { images } else { labels };
    let (student, baseline) = (full.with(student, images, labels), full.with(baseline, baseline_images, labels));
    Ok(RunData { student, baseline, full })
}

// What student and baseline are told of the training samples.
fn told(train: Arc<dyn Dataset>, recipe: &Recipe) -> Result<Told> {
    let data = &recipe.data;
    let omit = data.omit.iter().map(|class| class.among(train.class_names())).collect::<Result<_>>()?;
    let told = Telling { omit, labels: data.labels, noise: data.label_noise }.of(train, recipe.seed);
    told.map_err(|error| {
        let key = if matches!(error, Error::NoClasses { .. }) { "data.omit" } else { "data.labels" };
        Failure::usage(format!("{key}: {error}"))
    })
}
