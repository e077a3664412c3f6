//! `metrics.jsonl`: a line a step and a line a check, appended as they come.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Result};
use crate::folder::write_whole;
use crate::run::Role;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A check on samples that are not trained on.
    Check(Check),
    /// A training step.
    Step(Step),
}

impl Line {
    /// Which network it is about, and after how many of its steps.
    pub fn place(&self) -> (Role, u64) {
        match self {
            Self::Check(check) => (check.stage, check.step),
            Self::Step(step) => (step.stage, step.step),
        }
    }
}

/// A training step: the loss, each term before its weight, and the learning rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Which network.
    pub stage: Role,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// Its step, from 1.
    pub step: u64,
    /// Learning rate of the step.
    pub lr: f64,
    /// The weighted sum.
    pub loss: f32,
    /// Each term by name.
    pub terms: Map<String, Value>,
}

/// A check after an epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Which network.
    pub stage: Role,
    /// Epochs done.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// What was found, and on which samples.
    #[serde(flatten)]
    pub found: Found,
    /// How many were checked.
    pub samples: u64,
}

/// The fraction of samples that are right, and their mean cross-entropy in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Found {
    /// Of held-out samples.
    HeldOut { held_out_accuracy: f64, held_out_loss: f64 },
    /// Of the validation split.
    Validation { validation_accuracy: f64, validation_loss: f64 },
}

impl Found {
    /// What was found on the validation split, or else on held-out samples.
    pub fn new(validation: bool, accuracy: f64, loss: f64) -> Self {
        match validation {
            true => Self::Validation { validation_accuracy: accuracy, validation_loss: loss },
            false => Self::HeldOut { held_out_accuracy: accuracy, held_out_loss: loss },
        }
    }

    /// Which samples, in a word.
    pub fn split(&self) -> &'static str {
        match self {
            Self::HeldOut { .. } => "held-out",
            Self::Validation { .. } => "validation",
        }
    }

    /// The fraction that is right.
    pub fn accuracy(&self) -> f64 {
        match *self {
            Self::HeldOut { held_out_accuracy, .. } => held_out_accuracy,
            Self::Validation { validation_accuracy, .. } => validation_accuracy,
        }
    }
}

/// The open log of a run.
pub struct MetricsLog {
    file: BufWriter<File>,
}

impl MetricsLog {
    /// Opens the log at `path`, after dropping the lines that a resumed run will write again: those for which `keep` is
    /// false, and a last line cut short.
    pub fn open(path: &Path, keep: impl Fn(&Line) -> bool) -> Result<Self> {
        if path.exists() {
            let kept: String = read(path)?
                .iter()
                .filter(|line| keep(line))
                .filter_map(|line| serde_json::to_string(line).ok())
                .flat_map(|line| [line, "\n".into()])
                .collect();
            write_whole(path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.context(format_args!("cannot open {}", path.display()))?;
        Ok(Self { file: BufWriter::new(file) })
    }

    /// Appends one line.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        serde_json::to_writer(&mut self.file, line).context("cannot write metrics.jsonl")?;
        self.file.write_all(b"\n").context("cannot write metrics.jsonl")
    }

    /// Makes everything written so far visible to readers.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().context("cannot write metrics.jsonl")
    }
}

/// Reads every whole line of a log.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).context(format_args!("cannot read {}", path.display()))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
