//! An experiment in full: data, networks, objective and every number, resolved before anything is loaded.
//!
//! A recipe is layered: the built-in recipe of its data set, then the person's file, then the command line's flags, then
//! each `--set`. The layers are TOML tables merged key by key, and the result is read once with unknown keys refused, so a
//! misspelt key is an error wherever it stands. What results is written into the run folder.

use std::path::PathBuf;

use clap::ValueEnum;
use potstill_core::data::Distortion;
use potstill_core::model::{NetworkConfig, zoo};
use potstill_core::objective::{self, LogitDistillation, Mode, Objective};
use potstill_core::train::AdamWConfig;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::cli::Train;
use crate::error::{Context, Failure, Result};

/// A resolved experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What to train: `teacher`, `student` or `distillation`.
    pub objective: Goal,
    /// Everything random follows from this number.
    pub seed: u64,
    /// Whether the student is also trained without a teacher, for comparison.
    pub baseline: bool,
    /// Distil from these weights instead of training a teacher: a run's folder or a weights file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_weights: Option<PathBuf>,
    /// The data set.
    pub data: DataRecipe,
    /// The teacher and how it is trained.
    pub teacher: NetworkRecipe,
    /// The student and how it, and its baseline, are trained.
    pub student: NetworkRecipe,
    /// How the student is distilled.
    pub distillation: Objective,
}

/// What a run produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
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

/// The data of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// One of [`crate::dataset::NAMES`].
    pub dataset: String,
    /// Where its files are, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// How many training samples are used; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_samples: Option<usize>,
    /// How training images are varied.
    pub augment: Augmentation,
}

/// Named augmentations of small grey images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// The images as they are.
    None,
    /// Small shifts, turns and scalings.
    Light,
    /// Elastic distortion and larger turns, for few training images.
    Strong,
}

impl Augmentation {
    /// The distortion behind the name.
    pub fn distortion(self) -> Option<Distortion> {
        match self {
            Self::None => None,
            Self::Light => Some(Distortion {
                rotate_degrees: 8.0,
                scale: (0.9, 1.1),
                shear_degrees: 6.0,
                translate_pixels: 1.5,
                ..Distortion::none()
            }),
            Self::Strong => Some(Distortion::handwriting()),
        }
    }
}

/// One network and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRecipe {
    /// The model's name.
    pub model: String,
    /// Passes over the training samples.
    pub epochs: u64,
    /// Samples a step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate of the last step.
    #[serde(default)]
    pub min_lr: f64,
    /// Share of the steps over which the learning rate rises.
    #[serde(default)]
    pub warmup: f64,
    /// Label smoothing where labels alone are the objective.
    #[serde(default)]
    pub smoothing: f64,
    /// The optimiser's numbers.
    #[serde(default)]
    pub adamw: AdamWConfig,
    /// Numbers of the model that differ from what its name stands for.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub vit: Table,
}

impl NetworkRecipe {
    /// The network's configuration: its name's, with the recipe's own numbers over it.
    pub fn config(&self, role: &str) -> Result<NetworkConfig> {
        let named = model_named(&self.model)?;
        let mut table = Table::try_from(&named).context("the model's own numbers")?;
        // Which architecture it is follows from the name.
        if self.vit.contains_key("family") {
            return Err(Failure::usage(format!("{role}.vit.family cannot be set; choose another {role}.model")));
        }
        merge(&mut table, self.vit.clone());
        let config: NetworkConfig =
            Value::Table(table).try_into().map_err(|error| Failure::usage(format!("{role}.vit: {error}")))?;
        config.validate().map_err(|error| Failure::usage(format!("{role}.vit: {error}")))?;
        Ok(config)
    }

    fn validate(&self, role: &str) -> Result<()> {
        let check = |ok: bool, key: &str, value: &dyn std::fmt::Display, allowed: &str| {
            if ok { Ok(()) } else { Err(Failure::usage(format!("{role}.{key} is {value}; it must be {allowed}"))) }
        };
        check((1..=1_000_000).contains(&self.epochs), "epochs", &self.epochs, "between 1 and 1000000")?;
        check((1..=65_536).contains(&self.batch_size), "batch_size", &self.batch_size, "between 1 and 65536")?;
        check(self.lr > 0.0 && self.lr <= 100.0, "lr", &self.lr, "above 0 and at most 100")?;
        check((0.0..=self.lr).contains(&self.min_lr), "min_lr", &self.min_lr, "between 0 and lr")?;
        check(
            (0.0..1.0).contains(&self.warmup),
            "warmup",
            &self.warmup,
            "a share of the steps, at least 0 and below 1",
        )?;
        check((0.0..1.0).contains(&self.smoothing), "smoothing", &self.smoothing, "at least 0 and below 1")?;
        let adamw = &self.adamw;
        check((0.0..1.0).contains(&adamw.beta_1), "adamw.beta_1", &adamw.beta_1, "at least 0 and below 1")?;
        check((0.0..1.0).contains(&adamw.beta_2), "adamw.beta_2", &adamw.beta_2, "at least 0 and below 1")?;
        check(adamw.epsilon > 0.0 && adamw.epsilon < 1.0, "adamw.epsilon", &adamw.epsilon, "above 0 and below 1")?;
        let decay = adamw.weight_decay;
        check((0.0..=1.0).contains(&decay), "adamw.weight_decay", &decay, "between 0 and 1")?;
        if let Some(norm) = adamw.clip_norm {
            check(norm > 0.0 && norm.is_finite(), "adamw.clip_norm", &norm, "above 0")?;
        }
        self.config(role).map(|_| ())
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

// The recipes that ship with the command, by data set and by how few samples make which one the better start.
const DIGITS: &str = include_str!("../../recipes/digits.toml");
const MNIST: &str = include_str!("../../recipes/mnist.toml");
const MNIST_FEW: &str = include_str!("../../recipes/mnist-1000.toml");
const FEW_SAMPLES: i64 = 5_000;

/// A recipe and where it came from, in words.
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    /// What was taken as its base.
    pub base: &'static str,
}

/// Layers the built-in recipe, the person's file and the command line.
///
/// # Errors
/// Exit code 2 naming the key that is unknown, misshapen or out of range; 1 if the file cannot be read.
pub fn resolve(options: &Train) -> Result<Resolved> {
    let mut asked = match &options.recipe {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).context(format_args!("cannot read the recipe {}", path.display()))?;
            let parsed: Result<Table, toml::de::Error> = toml::from_str(&text);
            parsed.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?
        }
        None => Table::new(),
    };
    apply_flags(&mut asked, options)?;
    for assignment in &options.set {
        apply_assignment(&mut asked, assignment)?;
    }
    let (base, text) = base_for(&asked)?;
    let mut table: Table = toml::from_str(text).context(format_args!("the built-in recipe {base}"))?;
    // The built-in numbers of one objective do not fit another.
    let kind = |table: &Table| table.get("distillation").and_then(|d| d.get("kind")).cloned();
    if kind(&asked).is_some_and(|asked| Some(asked) != kind(&table)) {
        table.remove("distillation");
    }
    merge(&mut table, asked);
    let recipe: Recipe = Value::Table(table).try_into().map_err(Failure::usage)?;
    recipe.validate()?;
    Ok(Resolved { recipe, base })
}

impl Recipe {
    fn validate(&self) -> Result<()> {
        if self.data.train_samples == Some(0) {
            return Err(Failure::usage("data.train_samples is 0; it must be at least 1"));
        }
        self.teacher.validate("teacher")?;
        self.student.validate("student")?;
        self.distillation.validate().map_err(|error| Failure::usage(format!("distillation.{error}")))?;
        if self.objective == Goal::Distillation {
            let (teacher, student) = (self.teacher.config("teacher")?, self.student.config("student")?);
            for (what, t, s) in [
                ("image_size", teacher.image_size(), student.image_size()),
                ("channels", teacher.channels(), student.channels()),
                ("classes", teacher.classes(), student.classes()),
            ] {
                if t != s {
                    let message =
                        format!("the teacher's {what} is {t}, the student's {s}; distillation needs them equal");
                    return Err(Failure::usage(message));
                }
            }
            self.check_objective(&teacher, &student)?;
        }
        Ok(())
    }

    fn check_objective(&self, teacher: &NetworkConfig, student: &NetworkConfig) -> Result<()> {
        // A given teacher's sizes are known once its file is read, and are checked then.
        if self.teacher_weights.is_none() {
            self.distillation.check(&student.shape(), &teacher.shape()).map_err(Failure::usage)?;
        }
        match &self.distillation {
            Objective::Deit(deit) if deit.mode == Mode::Distill => Err(Failure::usage(
                "mode distill never trains the class head, which is the one that is evaluated; take both, which trains \
                 the two",
            )),
            _ => Ok(()),
        }
    }

    /// Reads a recipe as a run folder keeps it.
    pub fn from_resolved(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

fn base_for(asked: &Table) -> Result<(&'static str, &'static str)> {
    let data = asked.get("data");
    let dataset = data.and_then(|d| d.get("dataset")).and_then(Value::as_str).unwrap_or("digits");
    let samples = data.and_then(|d| d.get("train_samples")).and_then(Value::as_integer);
    match dataset.to_ascii_lowercase().as_str() {
        "digits" => Ok(("digits", DIGITS)),
        "mnist" if samples.is_some_and(|n| n <= FEW_SAMPLES) => Ok(("mnist-1000", MNIST_FEW)),
        "mnist" => Ok(("mnist", MNIST)),
        // Nothing but the numbers of training fits every other set: the networks are the recipe's own.
        "cifar-10" | "cifar-100" | "flowers-102" | "imagenet" | "folder" => Ok(("digits", DIGITS)),
        _ => Err(crate::dataset::unknown(dataset)),
    }
}

fn apply_flags(table: &mut Table, options: &Train) -> Result<()> {
    if let Some(name) = &options.distillation {
        let Some(named) = Objective::named(name) else {
            let known = objective::NAMES;
            return Err(Failure::usage(format!("there is no distillation {name:?}; there are {known}")));
        };
        // KD by name keeps the numbers of the recipe below; any other name brings its own.
        if matches!(&named, Objective::Kd(kd) if *kd == LogitDistillation::default()) {
            let kind = table.get("distillation").and_then(|d| d.get("kind")).and_then(Value::as_str);
            if kind.is_some_and(|kind| kind != "kd") {
                table.remove("distillation");
            }
            assign(table, "distillation.kind", "kd".into())?;
        } else {
            let numbers = Table::try_from(named).context("the objective's numbers")?;
            table.insert("distillation".into(), Value::Table(numbers));
        }
    }
    let mut set = |path: &str, value: Value| assign(table, path, value);
    if let Some(path) = &options.teacher {
        // Kept in the run folder, where a resume may be started from elsewhere.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        set("teacher_weights", path.to_string_lossy().into_owned().into())?;
    }
    if let Some(goal) = options.objective {
        set("objective", goal.name().into())?;
    }
    if let Some(name) = &options.dataset {
        set("data.dataset", name.as_str().into())?;
    }
    if let Some(dir) = &options.data_dir {
        set("data.data_dir", dir.to_string_lossy().into_owned().into())?;
    }
    let integer = |flag: &str, value: u64| {
        i64::try_from(value)
            .map(Value::Integer)
            .map_err(|_| Failure::usage(format!("{flag} {value} is absurdly large")))
    };
    if let Some(n) = options.train_samples {
        set("data.train_samples", integer("--train-samples", n as u64)?)?;
    }
    if let Some(seed) = options.seed {
        set("seed", integer("--seed", seed)?)?;
    }
    for role in ["teacher", "student"] {
        if let Some(b) = options.batch_size {
            set(&format!("{role}.batch_size"), integer("--batch-size", b as u64)?)?;
        }
        if let Some(e) = options.epochs {
            set(&format!("{role}.epochs"), integer("--epochs", e)?)?;
        }
        if let Some(lr) = options.lr {
            set(&format!("{role}.lr"), lr.into())?;
        }
    }
    Ok(())
}

fn apply_assignment(table: &mut Table, assignment: &str) -> Result<()> {
    let Some((key, text)) = assignment.split_once('=') else {
        return Err(Failure::usage(format!("--set {assignment:?} is not of the form KEY=VALUE")));
    };
    // A bare word is a string; anything TOML understands is what TOML says.
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| text.into());
    assign(table, key.trim(), value)
}

// Sets `a.b.c` in nested tables.
fn assign(table: &mut Table, path: &str, value: Value) -> Result<()> {
    match path.split_once('.') {
        None if path.is_empty() => Err(Failure::usage("--set needs a key before the equals sign")),
        None => {
            table.insert(path.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => assign(inner, rest, value),
                _ => Err(Failure::usage(format!("{first} is a value and has no {rest} in it"))),
            }
        }
    }
}

// Lays `over` on `table`: tables are merged key by key, anything else is replaced.
fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn resolve_line(line: &str) -> Result<Recipe> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(Failure::usage)?;
        let Command::Train(options) = cli.command else { panic!("a train line") };
        resolve(&options).map(|resolved| resolved.recipe)
    }

    #[test]
    fn every_built_in_recipe_is_valid() {
        for line in
            ["potstill train", "potstill train --dataset MNIST", "potstill train --dataset mnist --train-samples 1000"]
        {
            let recipe = resolve_line(line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
            let text = toml::to_string(&recipe).expect("serialises");
            assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe);
        }
    }

    #[test]
    fn flags_beat_the_recipe_and_set_beats_flags() {
        let line = "potstill train --epochs 7 --lr 0.5 --batch_size 3 --set student.epochs=2 --set student.vit.depth=1";
        let recipe = resolve_line(line).expect("a valid line");
        assert_eq!((recipe.teacher.epochs, recipe.student.epochs), (7, 2));
        assert_eq!((recipe.teacher.lr, recipe.student.batch_size), (0.5, 3));
        assert_eq!(recipe.student.config("student").expect("valid").shape().depth, 1);
    }

    #[test]
    fn a_named_distillation_replaces_the_built_in_one() {
        for name in ["KD", "KD-numel", "SAF", "SAF+KD", "MANIFOLD", "KD+MANIFOLD", "DistillViT", "soft", "hard", "none"]
        {
            let recipe = resolve_line(&format!("potstill train --distillation {name}")).expect(name);
            assert_eq!(Some(recipe.distillation.clone()), Objective::named(name), "{name}");
            let text = toml::to_string(&recipe).expect("serialises");
            assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe);
        }
        let line = "potstill train --distillation SAF+KD --set distillation.saf.weight=3 --set distillation.alpha=0.25";
        let Objective::Sum(sum) = resolve_line(line).expect("a valid line").distillation else { panic!("a sum") };
        assert_eq!((sum.alpha, sum.saf.map(|saf| saf.weight)), (0.25, Some(3.0)));
        let line = "potstill train --distillation CLS-KD --set student.vit.class_token=true --set \
                    student.vit.pool=class --set teacher.vit.class_token=true --set teacher.vit.pool=class";
        resolve_line(line).expect("both networks have a class token");
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        for (line, key) in [
            ("potstill train --set student.vti.depth=2", "vti"),
            ("potstill train --set student.vit.heads=7", "heads"),
            ("potstill train --epochs 0", "epochs"),
            ("potstill train --lr nan", "lr"),
            ("potstill train --set distillation.alpha=2", "alpha"),
            ("potstill train --set seed", "KEY=VALUE"),
            ("potstill train --set student.vit.image_size=14", "image_size"),
            ("potstill train --train-samples 0", "train_samples"),
            ("potstill train --dataset nonesuch", "nonesuch"),
            ("potstill train --distillation nonesuch", "nonesuch"),
            ("potstill train --distillation both", "distillation token"),
            ("potstill train --distillation CLS-KD", "class token"),
            ("potstill train --distillation distill --set student.vit.distillation_token=true", "evaluated"),
            ("potstill train --distillation SAF --set student.vit.patch_size=14", "tokens"),
            ("potstill train --distillation SAF --set distillation.saf.weihgt=2", "weihgt"),
            ("potstill train --distillation SAF --set distillation.saf.weight=-2", "saf.weight"),
        ] {
            let failure = resolve_line(line).expect_err(line);
            assert_eq!(failure.code(), 2, "{line}");
            assert!(failure.to_string().contains(key), "{line}: {failure}");
        }
    }
}
