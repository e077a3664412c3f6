//! The data of a run: what each of its networks learns from.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use potstill_core::data::{Dataset, Relabelled, Subset, WithUnlabelled, balanced_indices, without_classes};

use crate::dataset::{self, How, Split};
use crate::error::{Failure, Result};
use crate::recipe::{Class, DataRecipe, Goal, Recipe};
use crate::run::Role;
use crate::train::{Source, StageData};

type Samples = Arc<dyn Dataset>;

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

    /// How many samples there are for what, of the data set called `name`.
    pub fn in_words(&self, name: &str) -> String {
        let (train, held_out) = (self.full.source.dataset.len(), self.full.held_out.len());
        match &self.full.validation {
            Some(validation) => {
                format!("{name}: {train} training, {} validation and {held_out} held-out samples", validation.len())
            }
            None => format!("{name}: {train} training and {held_out} held-out samples"),
        }
    }
}

/// Opens what a recipe trains and measures on.
///
/// # Errors
/// Exit code 2 for more samples than there are; 1 for files that cannot be read.
pub fn open(recipe: &Recipe) -> Result<RunData> {
    let data = &recipe.data;
    let train = opened(recipe, data.train_samples)?;
    let how = How { samples: None, decoding: data.decoding(), seed: recipe.seed };
    let held_out = dataset::open(&data.dataset, data.data_dir.as_deref(), data.held_out(), how)?;
    if train.class_names() != held_out.class_names() {
        return Err(Failure::work("the training and the held-out images have other classes"));
    }
    let (train, validation) = split(train, recipe)?;
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
    let full = StageData::new(source, held_out, validation, data.test_samples);
    let names = full.held_out.class_names();
    let teacher = match recipe.teacher.as_ref().and_then(|teacher| teacher.data.as_ref()) {
        Some(own) => {
            let train = match own.train_samples {
                Some(_) if data.validation > 0.0 => {
                    return Err(Failure::usage(
                        "teacher.data.train_samples and data.validation each say which samples a teacher learns from; leave \
                         one of them out",
                    ));
                }
                Some(samples) => balanced(opened(recipe, Some(samples))?, samples, recipe.seed)?,
                None => train,
            };
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

// The samples that are trained on and, where the recipe asks for them, those of the validation split. The latter are drawn
// from all there are, by a seed of their own: whatever the run's seed draws to train on, they are not among it.
fn split(all: Samples, recipe: &Recipe) -> Result<(Samples, Option<Samples>)> {
    let data = &recipe.data;
    let samples = data.train_samples.unwrap_or(all.len());
    if data.validation == 0.0 {
        return Ok((balanced(all, samples, recipe.seed)?, None));
    }
    let subset =
        |indices| -> Result<Samples> { Ok(Arc::new(Subset::of(all.clone(), indices).map_err(Failure::work)?)) };
    let drawn = |samples, seed| balanced_indices(&all, samples, seed).map_err(Failure::usage);
    let kept = (data.validation * samples as f64).round() as usize;
    if kept == 0 || kept >= samples {
        return Err(Failure::usage(format!(
            "data.validation is {}, and that share of {samples} training samples is {kept}; take one that leaves some to \
             validate on and some to train on",
            data.validation
        )));
    }
    let validation = drawn(kept, data.validation_seed.unwrap_or(recipe.seed))?;
    let apart: HashSet<u64> = validation.iter().copied().collect();
    let order =
        if samples == all.len() { (0..samples as u64).collect() } else { drawn(all.len().max(samples), recipe.seed)? };
    let train = order.into_iter().filter(|index| !apart.contains(index)).take(samples - kept).collect();
    Ok((subset(train)?, Some(subset(validation)?)))
}

// So many of these samples, drawn evenly over the classes, or all as they are.
fn balanced(all: Samples, samples: usize, seed: u64) -> Result<Samples> {
    match samples == all.len() {
        true => Ok(all),
        false => Ok(Arc::new(Subset::balanced(all, samples, seed).map_err(Failure::usage)?)),
    }
}

// All training samples there are where so many are asked for.
fn opened(recipe: &Recipe, asked: Option<usize>) -> Result<Samples> {
    let data = &recipe.data;
    let how = How { samples: asked, decoding: data.decoding(), seed: recipe.seed };
    dataset::open(&data.dataset, data.data_dir.as_deref(), Split::Train, how)
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

#[cfg(test)]
mod tests {
    use potstill_core::data::{ImageShape, Images};

    use super::*;
    use crate::recipe::library;

    // A hundred samples of four classes, the pixel of each its number.
    fn hundred() -> Arc<dyn Dataset> {
        let names = ["a", "b", "c", "d"].map(String::from).to_vec();
        let shape = ImageShape { channels: 1, height: 1, width: 1 };
        let labels = (0..100).map(|index| index % 4).collect();
        Arc::new(Images::new("set", shape, names, (0..100).collect(), labels).expect("a set"))
    }

    fn recipe(seed: u64, samples: Option<usize>, validation: f64, validation_seed: Option<u64>) -> Recipe {
        let mut recipe = library::find("digits").expect("it ships").recipe().expect("valid");
        recipe.seed = seed;
        let data = &mut recipe.data;
        (data.train_samples, data.validation, data.validation_seed) = (samples, validation, validation_seed);
        recipe
    }

    // The numbers of the samples that are trained on, and of those that choose.
    fn numbers(recipe: &Recipe) -> (Vec<u8>, Vec<u8>) {
        let (train, validation) = split(hundred(), recipe).expect("a split");
        let of = |set: &dyn Dataset| -> Vec<u8> {
            (0..set.len()).map(|index| set.image(index).expect("a sample").pixels[0]).collect()
        };
        (of(&train), validation.map(|set| of(&set)).unwrap_or_default())
    }

    #[test]
    fn no_sample_that_chooses_is_trained_on_whatever_the_seed() {
        let (_, first) = numbers(&recipe(0, Some(40), 0.25, None));
        for (seed, samples) in [(0, Some(40)), (1, Some(40)), (7, Some(100)), (7, None)] {
            let (train, validation) = numbers(&recipe(seed, samples, 0.25, Some(0)));
            let all = samples.unwrap_or(100);
            assert_eq!((train.len(), validation.len()), (all * 3 / 4, all / 4));
            let mut whole: Vec<u8> = train.iter().chain(&validation).copied().collect();
            whole.sort_unstable();
            whole.dedup();
            assert_eq!(whole.len(), all, "no sample is there twice");
            // Of one seed whatever the run's, and evenly over the classes.
            assert_eq!(validation[..10], first[..]);
            let of_a_class = |class: u8| validation.iter().filter(|number| **number % 4 == class).count();
            assert!((0..4).all(|class| of_a_class(class).abs_diff(all / 16) <= 1));
        }
        assert_ne!(numbers(&recipe(1, Some(40), 0.25, None)).1, first);
    }

    #[test]
    fn the_samples_of_a_split_are_those_that_are_trained_on_without_it() {
        let (mut whole, none) = numbers(&recipe(3, Some(40), 0.0, None));
        assert!(none.is_empty());
        let (train, validation) = numbers(&recipe(3, Some(40), 0.25, None));
        let mut parts: Vec<u8> = train.into_iter().chain(validation).collect();
        whole.sort_unstable();
        parts.sort_unstable();
        assert_eq!(whole, parts);
    }

    #[test]
    fn a_split_without_samples_on_one_side_is_refused() {
        for validation in [0.001, 0.999] {
            let failure = split(hundred(), &recipe(0, None, validation, None)).err().expect("refused");
            assert!(failure.code() == 2 && failure.to_string().contains("data.validation"), "{failure}");
        }
        let failure = split(hundred(), &recipe(0, Some(101), 0.1, None)).err().expect("refused");
        assert_eq!(failure.code(), 2);
    }
}
