//! An experiment in full: data, networks, objective and every number, resolved before anything is loaded.
//!
//! How a recipe is layered is [`layers`]'s; what the flags say of it is [`flags`]'s; the recipes that ship with the command
//! are [`library`]'s. Unknown keys are refused, so a misspelt key is an error wherever it stands, and so is a combination
//! that makes no sense. What results is written into the run folder.

mod data;
mod flags;
mod layers;
pub mod library;
mod smoke;

pub use data::DataRecipe;
pub use flags::Given;
use layers::merge;
pub use layers::{Resolved, resolve};

use std::path::PathBuf;

use potstill_core::model::{NetworkConfig, zoo};
use potstill_core::objective::{Objective, Part, Readout, Retrospection};
use potstill_core::train::{AdamWConfig, Packing, Schedule};
use potstill_core::weights::Resampling;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

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
    /// Distil from these weights instead of training a teacher: a run's folder or a weights file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_weights: Option<PathBuf>,
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
    pub distillation: Objective,
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

fn labels_alone() -> Objective {
    Objective::Labels { smoothing: 0.0 }
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

/// Which parameters of a network learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trainable {
    /// All of them.
    #[default]
    All,
    /// The last linear layers alone: a linear probe.
    Head,
}

fn one_part() -> usize {
    1
}

fn is_one_part(parts: &usize) -> bool {
    *parts == 1
}

/// One network and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRecipe {
    /// The model's name.
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
    /// Numbers of the model that differ from what its name stands for: one table, the one of the model's family.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub vit: Table,
    /// The same for a RegNet.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub regnet: Table,
    /// The same for a ResNet.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub resnet: Table,
    /// The same for a DistillViT.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub distillvit: Table,
}

// Whether a number is accepted; else its key, its value and what is accepted.
type Check<'a> = dyn Fn(bool, &str, &dyn std::fmt::Display, &str) -> Result<()> + 'a;

impl NetworkRecipe {
    /// The table of the model's family: what overrides the numbers of its name.
    pub fn numbers(&mut self) -> &mut Table {
        match zoo::named(&self.model) {
            Some(NetworkConfig::RegNet(_)) => &mut self.regnet,
            Some(NetworkConfig::ResNet(_)) => &mut self.resnet,
            Some(NetworkConfig::DistillVit(_)) => &mut self.distillvit,
            Some(NetworkConfig::Vit(_)) | None => &mut self.vit,
        }
    }

    /// The network's configuration: its name's, with the recipe's own numbers over it.
    pub fn config(&self, role: &str) -> Result<NetworkConfig> {
        let named = model_named(&self.model)?;
        let mut table = Table::try_from(&named).context("the model's own numbers")?;
        let own = named.family();
        let families =
            [("vit", &self.vit), ("regnet", &self.regnet), ("resnet", &self.resnet), ("distillvit", &self.distillvit)];
        for (family, numbers) in families.into_iter().filter(|(_, numbers)| !numbers.is_empty()) {
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

    fn validate(&self, role: &str) -> Result<()> {
        let check = |ok: bool, key: &str, value: &dyn std::fmt::Display, allowed: &str| {
            if ok { Ok(()) } else { Err(Failure::usage(format!("{role}.{key} is {value}; it must be {allowed}"))) }
        };
        check((1..=1_000_000).contains(&self.epochs), "epochs", &self.epochs, "between 1 and 1000000")?;
        check((1..=65_536).contains(&self.batch_size), "batch_size", &self.batch_size, "between 1 and 65536")?;
        check(self.lr > 0.0 && self.lr <= 100.0, "lr", &self.lr, "above 0 and at most 100")?;
        if let Some(batch) = self.lr_batch {
            check((1..=1_000_000).contains(&batch), "lr_batch", &batch, "between 1 and 1000000")?;
        }
        let parts = self.accumulate;
        check((1..=self.batch_size).contains(&parts), "accumulate", &parts, "at least 1 and at most batch_size")?;
        self.validate_schedule(&check)?;
        check((0.0..1.0).contains(&self.smoothing), "smoothing", &self.smoothing, "at least 0 and below 1")?;
        let optimiser = &self.optimiser;
        let (beta_1, beta_2, epsilon) = (optimiser.beta_1, optimiser.beta_2, optimiser.epsilon);
        check((0.0..1.0).contains(&beta_1), "optimiser.beta_1", &beta_1, "at least 0 and below 1")?;
        check((0.0..1.0).contains(&beta_2), "optimiser.beta_2", &beta_2, "at least 0 and below 1")?;
        check(epsilon > 0.0 && epsilon < 1.0, "optimiser.epsilon", &epsilon, "above 0 and below 1")?;
        let decay = optimiser.weight_decay;
        check((0.0..=1.0).contains(&decay), "optimiser.weight_decay", &decay, "between 0 and 1")?;
        if let Some(norm) = optimiser.clip_norm {
            check(norm > 0.0 && norm.is_finite(), "optimiser.clip_norm", &norm, "above 0")?;
        }
        if let Some(decay) = optimiser.ema {
            check((0.0..1.0).contains(&decay), "optimiser.ema", &decay, "at least 0 and below 1")?;
        }
        if let Some(past) = &self.retrospection {
            check((1..=1_000_000).contains(&past.k), "retrospection.k", &past.k, "between 1 and 1000000")?;
            let rate = past.update_rate;
            check((0.0..=1.0).contains(&rate), "retrospection.update_rate", &rate, "between 0 and 1")?;
            let epochs = past.max_epochs;
            check((1..=1_000_000).contains(&epochs), "retrospection.max_epochs", &epochs, "between 1 and 1000000")?;
            let tau = past.temperature;
            check(tau > 0.0 && tau <= 1000.0, "retrospection.temperature", &tau, "above 0 and at most 1000")?;
        }
        self.config(role).map(|_| ())
    }

    fn validate_schedule(&self, check: &Check<'_>) -> Result<()> {
        let below_peak =
            |key: &str, rate: f64| check((0.0..=self.peak()).contains(&rate), key, &rate, "between 0 and lr");
        let epochs = |key: &str, epochs: u64| check(epochs <= 1_000_000, key, &epochs, "at most 1000000");
        match self.schedule {
            Schedule::Constant => Ok(()),
            Schedule::Step { every, factor } => {
                check((1..=1_000_000).contains(&every), "schedule.every", &every, "between 1 and 1000000")?;
                check(factor > 0.0 && factor <= 1.0, "schedule.factor", &factor, "above 0 and at most 1")
            }
            Schedule::Cosine { warmup, min_lr } => {
                let share = "a share of the steps, at least 0 and below 1";
                check((0.0..1.0).contains(&warmup), "schedule.warmup", &warmup, share)?;
                below_peak("schedule.min_lr", min_lr)
            }
            Schedule::Deit { warmup_epochs, warmup_lr, min_lr, epochs: over } => {
                epochs("schedule.warmup_epochs", warmup_epochs)?;
                epochs("schedule.epochs", over.unwrap_or(0))?;
                check((0.0..=100.0).contains(&warmup_lr), "schedule.warmup_lr", &warmup_lr, "between 0 and 100")?;
                check((0.0..=100.0).contains(&min_lr), "schedule.min_lr", &min_lr, "between 0 and 100")
            }
            Schedule::EpochCosine { warmup_epochs, epochs: over } => {
                epochs("schedule.warmup_epochs", warmup_epochs)?;
                epochs("schedule.epochs", over.unwrap_or(0))
            }
        }
    }

    /// The peak learning rate of the recipe's own batch.
    pub fn peak(&self) -> f64 {
        self.lr_batch.map_or(self.lr, |batch| self.lr * self.batch_size as f64 / batch as f64)
    }
}

/// The configuration of a model by name.
///
/// # Errors
/// Exit code 2 with the names that exist.
pub fn model_named(name: &str) -> Result<NetworkConfig> {
    zoo::named(name).ok_or_else(|| {
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

    fn validate(&self) -> Result<()> {
        self.data.validate()?;
        for (key, samples) in [("train_samples", self.data.train_samples), ("test_samples", self.data.test_samples)] {
            if let Some(samples) = samples.filter(|samples| !(1..=1_000_000_000).contains(samples)) {
                return Err(Failure::usage(format!("data.{key} is {samples}; it must be between 1 and 1000000000")));
            }
        }
        for (role, network) in [("teacher", &self.teacher), ("student", &self.student)] {
            if let Some(network) = network {
                network.validate(role)?;
            }
        }
        let past = [&self.teacher, &self.student].into_iter().flatten().any(|network| network.retrospection.is_some());
        if past && !self.data.mix.is_none() {
            return Err(Failure::usage(
                "retrospection keeps what a network says of each sample, and mixed images are of two; leave out data.mix \
                 (--mixup 0 --cutmix 0), or --retrospect",
            ));
        }
        self.distillation.validate().map_err(|error| Failure::usage(format!("distillation.{error}")))?;
        if self.distillation.parts().iter().any(|part| matches!(part, Part::Retrospection { .. })) {
            return Err(Failure::usage(
                "retrospection is no term of a distillation, since it needs what the student said before; give the student \
                 a section for it, [student.retrospection], or --retrospect",
            ));
        }
        match self.objective {
            Goal::Teacher => self.teacher().and_then(|teacher| one_head(&teacher.config("teacher")?)),
            Goal::Student => self.student().and_then(|student| fits_readout(student, &labels_alone(), "student")),
            Goal::Distillation => self.check_distillation(),
        }
    }

    fn check_distillation(&self) -> Result<()> {
        let student = self.student()?;
        let config = student.config("student")?;
        if !self.distillation.needs_teacher() {
            return Err(Failure::usage(
                "this distillation asks a teacher nothing; take --objective student, which trains on labels alone",
            ));
        }
        let features = self.distillation.taps(1, 1) != Default::default();
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
        fits_readout(student, &self.distillation, "student")?;
        // A given teacher's sizes are known once its file is read, and are checked then.
        if self.teacher_weights.is_some() {
            return Ok(());
        }
        let teacher = self.teacher()?.config("teacher")?;
        one_head(&teacher)?;
        self.check_pair(&teacher, &config)
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
