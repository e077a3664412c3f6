//! The data of a run: what each of its networks learns from.

use std::collections::BTreeSet;
use std::sync::Arc;

use potstill_core::data::{Dataset, Relabelled, Subset, WithUnlabelled, without_classes};

use crate::dataset::{self, How, Split};
use crate::error::{Failure, Result};
use crate::recipe::{Class, DataRecipe, Goal, Recipe};
use crate::run::Role;
use crate::train::{Source, StageData};

/// What the networks of a run learn from.
pub struct RunData {
    /// All samples of the data set with their labels.
    pub full: StageData,
    teacher: StageData,
    // Some samples without a label, or with a wrong one.
    student: StageData,
    baseline: StageData,
    all_labels: StageData,
    /// How many images without a class are among the student's samples.
    pub unlabelled: usize,
    /// The classes that the student's training leaves out, and which share of all images each has.
    pub left_out: Vec<(u32, f64)>,
}

impl RunData {
    /// The left-out classes alone.
    pub fn left_out_classes(&self) -> Vec<u32> {
        self.left_out.iter().map(|(class, _)| *class).collect()
    }

    /// What a network learns from.
    pub fn of(&self, role: Role) -> &StageData {
        match role {
            Role::Teacher => &self.teacher,
            Role::Student | Role::HardLabels => &self.student,
            Role::Baseline => &self.baseline,
            Role::AllLabels => &self.all_labels,
        }
    }
}

/// Opens what a recipe trains and measures on.
///
/// # Errors
/// Exit code 2 for more samples than there are; 1 for files that cannot be read.
pub fn open(recipe: &Recipe) -> Result<RunData> {
    let data = &recipe.data;
    let how = How { samples: None, decoding: data.decoding(), seed: recipe.seed };
    let held_out = dataset::open(&data.dataset, data.data_dir.as_deref(), data.held_out(), how)?;
    let train = samples(recipe, data.train_samples)?;
    if train.class_names() != held_out.class_names() {
        return Err(Failure::work("the training and the held-out images have other classes"));
    }
    // Teacher and student see the same pixels: the network that learns says how they are prepared.
    let learns = recipe.learner();
    let model = learns.map_or("", |network| network.model.as_str());
    let channels = match learns {
        Some(network) => network.config("the network that learns")?.channels(),
        None => 3,
    };
    let source = Source {
        dataset: train.clone(),
        transform: data.transform(model, channels),
        mix: data.mix,
        repeats: data.repeats,
        workers: data.workers,
        // Each stage sets its own, and the size of its images.
        batch_size: 1,
        parts: 1,
        seed: recipe.seed,
    };
    let full = StageData::new(source, held_out, data.test_samples);
    let names = full.held_out.class_names();
    let teacher = match recipe.teacher.as_ref().and_then(|teacher| teacher.data.as_ref()) {
        Some(own) => {
            let train = if own.train_samples.is_some() { samples(recipe, own.train_samples)? } else { train };
            let omit = numbers(&own.omit, names, "teacher.data")?;
            let telling = Telling { key: "teacher.data", omit, labels: own.labels, noise: own.label_noise };
            telling.of(train, None, &full)?.labelled
        }
        None => full.clone(),
    };
    let omit = numbers(&data.omit, names, "data")?;
    let left_out = shares(data, &omit, names.len())?;
    let telling = Telling { key: "data", omit, labels: data.labels, noise: data.label_noise };
    let extra = data.unlabelled.as_deref();
    let extra = extra.map(|place| dataset::open_unlabelled(place, data.decoding())).transpose()?;
    let unlabelled = extra.as_ref().map_or(0, |images| images.len());
    let Heard { all, labelled } = telling.of(full.source.dataset.clone(), extra, &full)?;
    let (samples, steps) = (full.source.dataset.clone(), all.source.dataset.len());
    let all_labels = match steps > samples.len() {
        true => repeated(&full, samples.clone(), (0..samples.len() as u64).collect(), steps)?,
        false => full.clone(),
    };
    // Without a teacher there is nothing to learn from samples without a label.
    let student = if recipe.objective == Goal::Student { labelled.clone() } else { all };
    Ok(RunData { teacher, student, baseline: labelled, all_labels, full, unlabelled, left_out })
}

// So many training samples, drawn evenly over the classes, or all.
fn samples(recipe: &Recipe, asked: Option<usize>) -> Result<Arc<dyn Dataset>> {
    let data = &recipe.data;
    let how = How { samples: asked, decoding: data.decoding(), seed: recipe.seed };
    let train = dataset::open(&data.dataset, data.data_dir.as_deref(), Split::Train, how)?;
    match asked {
        Some(samples) if samples != train.len() => {
            Ok(Arc::new(Subset::balanced(train, samples, recipe.seed).map_err(Failure::usage)?))
        }
        _ => Ok(train),
    }
}

// The numbers of classes, in their order, each once.
fn numbers(classes: &[Class], names: &[String], key: &str) -> Result<Vec<u32>> {
    let numbers: BTreeSet<u32> = classes.iter().map(|class| class.among(names, key)).collect::<Result<_>>()?;
    Ok(numbers.into_iter().collect())
}

// Left-out classes with the share that each has of all images.
fn shares(data: &DataRecipe, omit: &[u32], classes: usize) -> Result<Vec<(u32, f64)>> {
    if let Some(given) = data.shares.as_ref().map(Vec::len).filter(|given| *given != classes) {
        return Err(Failure::usage(format!("data.shares has {given} numbers for {classes} classes; give one a class")));
    }
    let share = |class: u32| data.shares.as_ref().map_or(1.0 / classes as f64, |shares| shares[class as usize]);
    Ok(omit.iter().map(|class| (*class, share(*class))).collect())
}

// What is said of training samples, and where the recipe says it.
struct Telling {
    key: &'static str,
    omit: Vec<u32>,
    labels: Option<usize>,
    noise: f64,
}

// Samples of which so much is said.
struct Heard {
    // All that are not left out.
    all: StageData,
    // Those with a label alone, as often in an epoch as there are samples in `all`: a network that learns from labels alone
    // takes the same steps, and spends none of them on samples that tell it nothing.
    labelled: StageData,
}

impl Telling {
    // What is said of the samples `train`, and of `unlabelled` images beside them.
    fn of(self, train: Arc<dyn Dataset>, unlabelled: Option<Arc<dyn Dataset>>, full: &StageData) -> Result<Heard> {
        let Self { key, omit, labels, noise } = self;
        let train: Arc<dyn Dataset> = if omit.is_empty() {
            train
        } else {
            let kept = without_classes(train.as_ref(), &omit);
            if kept.is_empty() {
                return Err(Failure::usage(format!(
                    "{key}.omit leaves out every class, and with it every training sample; keep some"
                )));
            }
            Arc::new(Subset::of(train, kept).map_err(Failure::work)?)
        };
        let seed = full.source.seed;
        let told = Relabelled::new(train);
        let told = match labels {
            Some(labels) => {
                told.keep(labels, seed).map_err(|error| Failure::usage(format!("{key}.labels: {error}")))?
            }
            None => told,
        };
        let told = told.noise(noise, seed);
        let known: Vec<u64> =
            (0..told.len()).filter(|index| told.known_label(*index).is_some()).map(|index| index as u64).collect();
        let (labels, wrong, told) = (known.len(), told.wrong(), Arc::new(told));
        let samples: Arc<dyn Dataset> = match unlabelled {
            Some(images) => Arc::new(WithUnlabelled::new(told.clone(), images)),
            None => told.clone(),
        };
        let images = samples.len();
        let all = StageData { without: omit, wrong, ..full.with(samples, images, labels) };
        let labelled = match labels == 0 || labels == images {
            true => all.clone(),
            false => repeated(&all, told, known, images)?,
        };
        Ok(Heard { all, labelled })
    }
}

// Some samples of a set, all of them labelled, over and over: as often as there are `steps` of one sample.
fn repeated(data: &StageData, set: Arc<dyn Dataset>, indices: Vec<u64>, steps: usize) -> Result<StageData> {
    let samples = indices.len();
    let set = Subset::of(set, indices.into_iter().cycle().take(steps).collect()).map_err(Failure::work)?;
    Ok(data.with(Arc::new(set), samples, samples))
}
