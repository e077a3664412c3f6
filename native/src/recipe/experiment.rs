//! An experiment in full: data, networks, objective and every number, resolved before anything is loaded.
//!
//! Unknown keys are refused, so a misspelt key is an error wherever it stands, and so is a combination
//! that makes no sense. What results is written into the run folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use potstill_core::method::numbers::WEIGHT;
use potstill_core::method::teacher::Mean;
use potstill_core::method::{Objective, Preset, Readout, Retrospection};
use potstill_core::model::network::FAMILIES;
use potstill_core::model::{NetworkConfig, zoo};
pub use potstill_core::train::Trainable;
use potstill_core::train::{AdamWConfig, Packing, Schedule, TrainingRecipe};
use potstill_core::weights::Resampling;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

use super::data::{DataRecipe, TeacherData, sample_count};
use super::table::merge;
use crate::error::{Context, Failure, Result};

/// A resolved experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What to train: `teacher`, `student` or `distillation`. In a file, a list of tables `[[objective]]` stands for a
    /// distillation by these weighted terms.
    pub objective: Goal,
    /// Everything random follows from this number.
    #[serde(default)]
    pub seed: u64,
    /// Whether the student is also trained without a teacher, for comparison.
    #[serde(default)]
    pub baseline: bool,
    /// What else the student is trained on, for comparison.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Control>,
    /// Whether students are measured a second time, with the biases of the classes that `data.omit` leaves out set so that each
    /// class is predicted as often as it should be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub correct_bias: bool,
    /// Distil from these weights instead of training a teacher: a run's folder or a weights file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_weights: Option<PathBuf>,
    /// Teachers beside the first one: the logits of all are averaged before any term reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_teachers: Vec<MoreTeacher>,
    /// What of several teachers is averaged.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub teacher_mean: Mean,
    /// Keep the teacher's logits in this folder, and take those that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_cache: Option<PathBuf>,
    /// Keep the logits of this many highest classes, in half precision, and not of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_cache_top: Option<usize>,
    /// The precision in which a teacher is asked.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub teacher_precision: Precision,
    /// Whether a teacher that does no better than chance is taken all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_untrained_teacher: bool,
    /// Whether a teacher's classes are taken in their order, whatever they are called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_class_names: bool,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// The data set.
    pub data: DataRecipe,
    /// The teacher and how it is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<NetworkRecipe>,
    /// The student and how it, and its baseline, are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student: Option<NetworkRecipe>,
    /// How the student is distilled.
    #[serde(default = "labels_alone")]
    pub distillation: Preset,
}

fn is_usual(mean: &Mean) -> bool {
    *mean == Mean::default()
}

fn one() -> f64 {
    1.0
}

/// A teacher beside the first one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoreTeacher {
    /// A run's folder or a weights file that says which network it is of.
    pub weights: PathBuf,
    /// How much it counts; the first teacher counts 1.
    #[serde(default = "one")]
    pub weight: f64,
}

/// What a student is trained on beside the distillation, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// The teacher's hard answer in place of what the distillation reads of it.
    HardLabels,
    /// The true labels of all training samples: the most that labels can give.
    AllLabels,
}

/// Which of the networks that a training passes through is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepNetwork {
    /// That after the last step.
    #[default]
    Last,
    /// That after the epoch with the best accuracy on the validation split; of equal ones the first.
    Best,
}

impl KeepNetwork {
    fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

/// How a number is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In 32 bits.
    #[default]
    Single,
    /// In 16 bits, ten of them of the fraction.
    Half,
}

impl Precision {
    fn is_single(&self) -> bool {
        *self == Self::Single
    }
}

fn labels_alone() -> Preset {
    Preset::Labels { smoothing: 0.0 }
}

/// What a recipe reproduces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The row of the table that it stands for.
    pub row: String,
    /// Where its numbers are from.
    pub source: String,
    /// The accuracy published for it, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
    /// What a person has to bring: data and weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// What a run produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// A teacher alone.
    Teacher,
    /// A student without a teacher.
    Student,
    /// A teacher, a student distilled from it, and the same student without it.
    Distillation,
}

impl Goal {
    /// The goal's name, as recipes spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
            Self::Distillation => "distillation",
        }
    }
}

fn plain_name<'de, D: Deserializer<'de>>(input: D) -> std::result::Result<String, D::Error> {
    String::deserialize(input).map(|name| zoo::plain_name(&name))
}

fn one_part() -> usize {
    1
}

fn is_one_part(parts: &usize) -> bool {
    *parts == 1
}

/// One network and its training.
// Unknown keys are refused by `families`: serde's own refusal does not go with `flatten`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkRecipe {
    /// The model's name, also as timm and a hub write it.
    #[serde(deserialize_with = "plain_name")]
    pub model: String,
    /// Weights to start from: a file, or a run's folder. A head for other classes is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// How the position embedding of given weights is resampled for images of another size.
    #[serde(default)]
    pub resampling: Resampling,
    /// Passes over the training samples.
    pub epochs: u64,
    /// Samples a step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// The batch that `lr` is meant for: another batch's rate is in proportion. Absent, `lr` is taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_batch: Option<usize>,
    /// In how many parts, one after the other, a step's samples are run; their gradients add up to one update.
    #[serde(default = "one_part", skip_serializing_if = "is_one_part")]
    pub accumulate: usize,
    /// Label smoothing where labels alone are the objective.
    #[serde(default)]
    pub smoothing: f64,
    /// Which parameters learn.
    #[serde(default)]
    pub trainable: Trainable,
    /// Which of the networks that the training passes through is kept.
    #[serde(default, skip_serializing_if = "KeepNetwork::is_last")]
    pub keep: KeepNetwork,
    /// End the training after so many epochs without a better accuracy on the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<u64>,
    /// How the heads make one prediction; absent, the heads that the objective teaches are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout: Option<Readout>,
    /// How the learning rate changes.
    #[serde(default)]
    pub schedule: Schedule,
    /// The optimiser's numbers.
    #[serde(default)]
    pub optimiser: AdamWConfig,
    /// Learning with retrospection: the network's own past beside its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrospection: Option<Retrospection>,
    /// What a teacher learns from, where that is not all samples with their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<TeacherData>,
    /// Numbers of the model that differ from what its name stands for: a table by the name of the model's family.
    #[serde(flatten, deserialize_with = "families")]
    pub families: BTreeMap<String, Table>,
}

// What serde can no longer list beside a key that it does not know.
const KEYS: [&str; 17] = [
    "model",
    "weights",
    "resampling",
    "epochs",
    "batch_size",
    "lr",
    "lr_batch",
    "accumulate",
    "smoothing",
    "trainable",
    "keep",
    "early_stop",
    "readout",
    "schedule",
    "optimiser",
    "retrospection",
    "data",
];

// What is no other key of a network is the name of a family.
fn families<'de, D: Deserializer<'de>>(input: D) -> std::result::Result<BTreeMap<String, Table>, D::Error> {
    let found = BTreeMap::<String, Value>::deserialize(input)?;
    let known = |(name, value): (String, Value)| match value {
        Value::Table(numbers) if FAMILIES.contains(&name.as_str()) => Ok((name, numbers)),
        _ if FAMILIES.contains(&name.as_str()) => Err(D::Error::custom(format!("{name} must be a table of numbers"))),
        _ => {
            let known: Vec<String> = KEYS.iter().chain(FAMILIES).map(|key| format!("`{key}`")).collect();
            Err(D::Error::custom(format!("unknown field `{name}`, expected one of {}", known.join(", "))))
        }
    };
    found.into_iter().map(known).collect()
}

impl NetworkRecipe {
    /// The name of the model's family, by which its table goes.
    pub fn family(&self) -> &'static str {
        zoo::named(&self.model).map_or(FAMILIES[0], |config| config.family())
    }

    /// Whether the recipe has a number of its own for a key of the model.
    pub fn says(&self, key: &str) -> bool {
        self.families.values().any(|numbers| numbers.contains_key(key))
    }

    /// Sets numbers that differ from what the model's name stands for.
    pub fn set_numbers(&mut self, numbers: impl IntoIterator<Item = (String, Value)>) {
        let mut numbers = numbers.into_iter().peekable();
        if numbers.peek().is_some() {
            self.families.entry(self.family().to_owned()).or_default().extend(numbers);
        }
    }

    /// The network's configuration: its name's, with the recipe's own numbers over it.
    pub fn config(&self, role: &str) -> Result<NetworkConfig> {
        let named = model_named(&self.model)?;
        let mut table = Table::try_from(&named).context("the model's own numbers")?;
        let own = named.family();
        for (family, numbers) in &self.families {
            let model = &self.model;
            if family != own {
                let message = format!("{role}.{family} does not apply: {model} takes its numbers from {role}.{own}");
                return Err(Failure::usage(message));
            }
            if numbers.contains_key("family") {
                let message = format!("{role}.{family}.family cannot be set; choose another {role}.model than {model}");
                return Err(Failure::usage(message));
            }
            merge(&mut table, numbers.clone());
        }
        let config: NetworkConfig =
            Value::Table(table).try_into().map_err(|error| Failure::usage(format!("{role}.{own}: {error}")))?;
        config.validate().map_err(|error| Failure::usage(format!("{role}.{own}: {error}")))?;
        Ok(config)
    }

    /// How the network is trained.
    pub fn training(&self) -> TrainingRecipe {
        TrainingRecipe {
            epochs: self.epochs,
            batch_size: self.batch_size,
            lr: self.lr,
            lr_batch: self.lr_batch,
            accumulate: self.accumulate,
            smoothing: self.smoothing,
            trainable: self.trainable,
            schedule: self.schedule,
            optimiser: self.optimiser.clone(),
            retrospection: self.retrospection.clone(),
        }
    }

    fn validate(&self, role: &str) -> Result<()> {
        self.data.as_ref().map_or(Ok(()), TeacherData::validate)?;
        self.training().validate().map_err(|error| Failure::usage(format!("{role}.{error}")))?;
        self.config(role).map(|_| ())
    }
}

/// The configuration of a model by name.
///
/// # Errors
/// Exit code 2 with the names that exist.
pub fn model_named(name: &str) -> Result<NetworkConfig> {
    zoo::named(&zoo::plain_name(name)).ok_or_else(|| {
        let known: Vec<&str> = zoo::MODELS.iter().map(|(name, _)| *name).collect();
        Failure::usage(format!("there is no model {name:?}; there are {}", known.join(", ")))
    })
}

impl Recipe {
    /// The section of the network that learns by [`Recipe::objective`].
    pub fn learner(&self) -> Option<&NetworkRecipe> {
        if self.objective == Goal::Teacher { self.teacher.as_ref() } else { self.student.as_ref() }
    }

    /// The same, to be changed.
    pub fn learner_mut(&mut self) -> Option<&mut NetworkRecipe> {
        if self.objective == Goal::Teacher { self.teacher.as_mut() } else { self.student.as_mut() }
    }

    /// The teacher's section.
    ///
    /// # Errors
    /// Exit code 2 if there is none.
    pub fn teacher(&self) -> Result<&NetworkRecipe> {
        self.teacher.as_ref().ok_or_else(|| Failure::usage("the recipe has no [teacher] to train"))
    }

    /// The student's section.
    ///
    /// # Errors
    /// Exit code 2 if there is none.
    pub fn student(&self) -> Result<&NetworkRecipe> {
        self.student.as_ref().ok_or_else(|| Failure::usage("the recipe has no [student] to train"))
    }

    /// Checks every number, and what goes with what.
    ///
    /// # Errors
    /// Exit code 2 with the key, its value and what is accepted.
    pub fn validate(&self) -> Result<()> {
        self.data.validate()?;
        self.check_correction()?;
        if self.data.unlabelled.is_some() && self.objective != Goal::Distillation {
            return Err(Failure::usage(format!(
                "data.unlabelled are images for a teacher to answer to, and --objective {} asks none; leave them out, or take \
                 --objective distillation",
                self.objective.name()
            )));
        }
        sample_count("data.train_samples", self.data.train_samples)?;
        sample_count("data.test_samples", self.data.test_samples)?;
        if self.student.as_ref().is_some_and(|student| student.data.is_some()) {
            return Err(Failure::usage(
                "student.data: what a student learns from is said in [data]; only a teacher has its own",
            ));
        }
        for (role, network) in [("teacher", &self.teacher), ("student", &self.student)] {
            if let Some(network) = network {
                network.validate(role)?;
            }
        }
        self.check_choice()?;
        let past = [&self.teacher, &self.student].into_iter().flatten().any(|network| network.retrospection.is_some());
        if past && !self.data.mix.is_none() {
            return Err(Failure::usage(
                "retrospection keeps what a network says of each sample, and mixed images are of two; leave out data.mix \
                 (--mixup 0 --cutmix 0), or --retrospect",
            ));
        }
        self.distillation.validate().map_err(Failure::usage)?;
        match self.objective {
            Goal::Teacher => self.teacher().and_then(|teacher| one_head(&teacher.config("teacher")?)),
            Goal::Student if self.data.labels == Some(0) => Err(Failure::usage(
                "data.labels is 0, and a student without a teacher learns from labels alone; keep some, or take --objective \
                 distillation",
            )),
            Goal::Student => {
                self.student().and_then(|student| fits_readout(student, &labels_alone().objective(), "student"))
            }
            Goal::Distillation => self.check_distillation(),
        }
    }

    fn check_correction(&self) -> Result<()> {
        if self.correct_bias && self.data.omit.is_empty() {
            return Err(Failure::usage(
                "correct_bias sets the biases of classes that data.omit leaves out, and it leaves out none: name some \
                 (--omit 3), or leave out correct_bias",
            ));
        }
        if self.data.shares.is_some() && !self.correct_bias {
            return Err(Failure::usage(
                "data.shares says how often correct_bias makes each class predicted; set correct_bias = true, or leave it out",
            ));
        }
        Ok(())
    }

    /// Whether the validation split has a say in the training.
    pub fn chooses(&self) -> bool {
        let mut networks = [&self.teacher, &self.student].into_iter().flatten();
        networks.any(|network| network.keep == KeepNetwork::Best || network.early_stop.is_some())
    }

    // Held-out samples choose nothing.
    fn check_choice(&self) -> Result<()> {
        for (role, network) in [("teacher", &self.teacher), ("student", &self.student)] {
            let Some(network) = network else { continue };
            if network.early_stop == Some(0) {
                return Err(Failure::usage(format!("{role}.early_stop is 0; it must be at least 1 epoch")));
            }
            let key = match (network.keep, network.early_stop) {
                (KeepNetwork::Best, _) => "keep = \"best\"",
                (KeepNetwork::Last, Some(_)) => "early_stop",
                (KeepNetwork::Last, None) => continue,
            };
            if self.data.validation == 0.0 {
                return Err(Failure::usage(format!(
                    "{role}.{key} needs a validation split, since held-out samples choose nothing; set data.validation \
                     (--validation 0.1)"
                )));
            }
        }
        Ok(())
    }

    fn check_distillation(&self) -> Result<()> {
        let student = self.student()?;
        let config = student.config("student")?;
        let objective = self.distillation.objective();
        if !objective.needs_teacher() {
            return Err(Failure::usage(
                "this distillation asks a teacher nothing; take --objective student, which trains on labels alone",
            ));
        }
        let features = !objective.reads_logits_alone();
        if student.trainable == Trainable::Head && features {
            return Err(Failure::usage(
                "a linear probe moves the student's head alone, and what this distillation compares lies below it; take \
                 KD, or student.trainable = \"all\"",
            ));
        }
        if self.teacher_cache.is_some() {
            if features {
                return Err(Failure::usage(
                    "--teacher-cache keeps a teacher's logits, and this distillation compares what lies below them; leave \
                     it out, or take KD or one of DeiT's",
                ));
            }
            if !self.packing().fits(config.classes()) {
                let (top, classes) = (self.teacher_cache_top.unwrap_or(0), config.classes());
                return Err(Failure::usage(format!(
                    "teacher_cache_top is {top}; it must be at least 1 and below the {classes} classes"
                )));
            }
        }
        if self.data.labels == Some(0) && self.baseline {
            return Err(Failure::usage(
                "data.labels is 0, and a baseline learns from nothing but labels; set baseline = false, or keep some labels",
            ));
        }
        if self.data.labels == Some(0) && objective.needs_labels() {
            return Err(Failure::usage(
                "data.labels is 0, and this distillation reads labels; take one that reads the teacher alone (KD with \
                 distillation.alpha = 1), or keep some labels",
            ));
        }
        if let Some(teacher) = self.more_teachers.iter().find(|teacher| !WEIGHT.holds(teacher.weight)) {
            let words = WEIGHT.words();
            return Err(Failure::usage(format!("more_teachers.weight is {}; it must be {words}", teacher.weight)));
        }
        if !self.more_teachers.is_empty() && features {
            return Err(Failure::usage(
                "several teachers agree on logits alone, and this distillation compares what lies below them; take KD or \
                 another method of logits, or one teacher",
            ));
        }
        if self.controls.iter().enumerate().any(|(place, control)| self.controls[..place].contains(control)) {
            return Err(Failure::usage("controls names one control twice"));
        }
        fits_readout(student, &objective, "student")?;
        // A given teacher's sizes are known once its file is read, and are checked then.
        if self.teacher_weights.is_some() {
            return Ok(());
        }
        let teacher = self.teacher()?.config("teacher")?;
        one_head(&teacher)?;
        self.check_pair(&teacher, &config)
    }

    /// Whether the teacher need be asked but once about every image: images are never varied, and logits alone are read.
    pub fn asks_once(&self) -> bool {
        let data = &self.data;
        let still = data.augment.distortion().is_none() && data.transform.is_none() && data.mix.is_none();
        still && self.objective == Goal::Distillation && self.distillation.objective().reads_logits_alone()
    }

    /// How a cache keeps logits.
    pub fn packing(&self) -> Packing {
        self.teacher_cache_top.map_or(Packing::All, |k| Packing::Top { k })
    }

    /// Checks that a teacher can teach a student by the recipe's distillation; sizes alone are looked at.
    ///
    /// # Errors
    /// Exit code 2 with the reason and the nearest thing that works.
    pub fn check_pair(&self, teacher: &NetworkConfig, student: &NetworkConfig) -> Result<()> {
        if self.teacher_precision == Precision::Half && !matches!(teacher, NetworkConfig::Vit(_)) {
            return Err(Failure::usage(
                "--teacher-precision half is for vision transformers, and this teacher is none; leave it out",
            ));
        }
        for (what, t, s, instead) in [
            (
                "image_size",
                teacher.image_size(),
                student.image_size(),
                "both see the same pixels: give one of them the other's image_size, which for a transformer resamples \
                 its position embedding",
            ),
            (
                "number of channels",
                teacher.channels(),
                student.channels(),
                "both see the same pixels: give both as many",
            ),
        ] {
            if t != s {
                return Err(Failure::usage(format!("the teacher's {what} is {t}, the student's {s}; {instead}")));
            }
        }
        self.distillation.check(&student.shape(), &teacher.shape()).map_err(Failure::usage)
    }

    /// Gives each network as many classes as the data have, where neither the recipe nor the command line says how many.
    /// Returns whose number that is.
    ///
    /// # Errors
    /// Exit code 2 if the recipe makes no sense with so many.
    pub fn adopt_classes(&mut self, classes: usize) -> Result<Vec<&'static str>> {
        let mut changed = Vec::new();
        for (role, network) in [("teacher", &mut self.teacher), ("student", &mut self.student)] {
            let Some(network) = network else { continue };
            if network.config(role)?.classes() != classes && !network.says("classes") {
                network.set_numbers([("classes".to_owned(), Value::Integer(classes as i64))]);
                changed.push(role);
            }
        }
        if !changed.is_empty() {
            self.validate()?;
        }
        Ok(changed)
    }

    /// Brings the student for one's own pictures to the picture size of a given teacher, with as many patches as before,
    /// where nothing says its size. Returns whether it is another.
    ///
    /// # Errors
    /// Exit code 2 if the recipe makes no sense with it.
    pub fn adopt_image_size(&mut self, side: usize) -> Result<bool> {
        let Some(student) = self.student.as_mut().filter(|student| student.model == "pictures_student") else {
            return Ok(false);
        };
        let config = student.config("student")?;
        let across = config.shape().patches().isqrt();
        let given = ["image_size", "patch_size"].iter().any(|key| student.says(key));
        if given || side == config.image_size() || !side.is_multiple_of(across) {
            return Ok(false);
        }
        let sizes = [("image_size", side), ("patch_size", side / across)];
        student.set_numbers(sizes.map(|(key, value)| (key.to_owned(), Value::Integer(value as i64))));
        self.validate()?;
        Ok(true)
    }

    /// Reads a recipe as a run folder keeps it.
    pub fn from_resolved(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

// A teacher is trained on labels, which a distillation head never sees.
fn one_head(teacher: &NetworkConfig) -> Result<()> {
    if teacher.shape().distillation_token {
        return Err(Failure::usage(
            "a teacher learns from labels, and its distillation head never sees one; set \
             teacher.vit.distillation_token = false, or give a trained one with --teacher",
        ));
    }
    Ok(())
}

fn fits_readout(network: &NetworkRecipe, objective: &Objective, role: &str) -> Result<()> {
    let Some(readout) = network.readout else { return Ok(()) };
    let (asked, taught) = (readout.name(), objective.readout().name());
    if readout != Readout::Class && !network.config(role)?.shape().distillation_token {
        return Err(Failure::usage(format!(
            "{role}.readout is {asked}, and the {role} has no distillation head; leave it out, or set \
             {role}.vit.distillation_token = true"
        )));
    }
    if readout != objective.readout() && objective.readout() != Readout::MeanLogits {
        return Err(Failure::usage(format!(
            "{role}.readout is {asked}, which reads a head that nothing teaches here; leave it out, or take {taught}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_network_is_known_beside_its_families() {
        // Every field, so that none can be forgotten; those that are left out at their usual value have another.
        let network = NetworkRecipe {
            model: "digits_teacher".to_owned(),
            weights: Some(PathBuf::from("w")),
            resampling: Resampling::default(),
            epochs: 1,
            batch_size: 1,
            lr: 1.0,
            lr_batch: Some(1),
            accumulate: 2,
            smoothing: 0.0,
            trainable: Trainable::All,
            keep: KeepNetwork::Best,
            early_stop: Some(1),
            readout: Some(Readout::Class),
            schedule: Schedule::default(),
            optimiser: AdamWConfig::default(),
            retrospection: Some(Retrospection::default()),
            data: Some(TeacherData::default()),
            families: BTreeMap::new(),
        };
        let table = Table::try_from(&network).expect("serialises");
        let mut keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let mut known = KEYS;
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known);
    }
}
