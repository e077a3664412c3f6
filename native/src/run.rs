//! The run folder: what a training leaves behind. `weights.rs` reads its networks back.
//!
//! ```text
//! LOGDIR/NAME/
//!   recipe.toml                        the resolved recipe
//!   metrics.jsonl                      a line a step, a line a check on held-out data
//!   teacher|student|baseline.safetensors
//!   teacher|student|baseline-ema.safetensors   where a mean of the parameters is kept
//!   student|baseline-corrected.safetensors     where the biases of left-out classes are corrected
//!   result.json                        only in a finished run
//!   curves.svg
//!   state.json, checkpoint/            only in an unfinished run: what `--resume` needs
//! ```
//!
//! Files come into it as [`crate::folder`] says.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::Which;
use crate::error::{Failure, Result};
use crate::folder::{Folder, plain_name};

/// A run's folder, which exists.
#[derive(Clone, Debug)]
pub struct RunFolder {
    folder: Folder,
}

impl Deref for RunFolder {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

/// Which of a run's networks: also the name of its weights file and of its entry in `result.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The teacher.
    Teacher,
    /// The distilled, or only, student.
    Student,
    /// The student trained without a teacher.
    Baseline,
    /// The student trained on the teacher's hard answers.
    HardLabels,
    /// The student trained on the true labels of all samples.
    AllLabels,
}

impl Role {
    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
            Self::Baseline => "baseline",
            Self::HardLabels => "hard-labels",
            Self::AllLabels => "all-labels",
        }
    }
}

impl From<Which> for Role {
    fn from(which: Which) -> Self {
        match which {
            Which::Teacher => Self::Teacher,
            Which::Student => Self::Student,
            Which::Baseline => Self::Baseline,
            Which::HardLabels => Self::HardLabels,
            Which::AllLabels => Self::AllLabels,
        }
    }
}

impl RunFolder {
    /// The folder at a path, which need not be there.
    pub fn at(path: &Path) -> Self {
        Self { folder: Folder::at(path) }
    }

    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// As [`Folder::create`].
    pub fn create(logdir: &Path, name: Option<&str>, stem: &str) -> Result<Self> {
        Folder::create(logdir, name, stem).map(|folder| Self { folder })
    }

    /// The unfinished run to go on with: the one called `name`, else the one worked on last.
    ///
    /// # Errors
    /// Exit code 2 if there is none, or the named one is finished.
    pub fn unfinished(logdir: &Path, name: Option<&str>) -> Result<Self> {
        if let Some(name) = name {
            let run = Self::at(&logdir.join(plain_name(name)?));
            if !run.path().is_dir() {
                return Err(Failure::usage(format!("there is no run {} to resume", run.path().display())));
            }
            if run.file("result.json").exists() {
                return Err(Failure::usage(format!(
                    "the run {} is finished; there is nothing to resume",
                    run.path().display()
                )));
            }
            if !run.file("recipe.toml").exists() {
                return Err(Failure::usage(format!(
                    "{} holds no recipe.toml; it is no run to resume",
                    run.path().display()
                )));
            }
            return Ok(run);
        }
        let modified = |path: &Path| path.join("state.json").metadata().and_then(|m| m.modified()).ok();
        fs::read_dir(logdir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| !path.join("result.json").exists())
            .filter_map(|path| Some((modified(&path)?, path)))
            .max()
            .map(|(_, path)| Self::at(&path))
            .ok_or_else(|| Failure::usage(format!("there is no unfinished run in {} to resume", logdir.display())))
    }

    /// The weights file of a network.
    pub fn weights(&self, role: Role) -> PathBuf {
        self.file(&format!("{}.safetensors", role.name()))
    }

    /// The weights file of the exponential mean of a network's parameters.
    pub fn average(&self, role: Role) -> PathBuf {
        self.file(&format!("{}-ema.safetensors", role.name()))
    }

    /// The weights file of a network with the biases of left-out classes corrected.
    pub fn corrected(&self, role: Role) -> PathBuf {
        self.file(&format!("{}-corrected.safetensors", role.name()))
    }
}
