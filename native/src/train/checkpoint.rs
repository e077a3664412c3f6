//! Where a stage stands in the middle, written as one unit.
//!
//! A checkpoint is a folder `checkpoint/STAGE-STEP` with the parameters, the optimiser's moments and where the run stands. It is
//! filled under another name and renamed when every file is synced: it is there whole, or not at all. The last ones are kept
//! and the older removed after that, so at any moment at least one whole checkpoint exists. Its `checkpoint.json` holds the
//! hash of each of its files, so that one whose bytes have changed is known and the one before it can be taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use potstill_core::train::{State, StateError};
use potstill_core::weights;
use serde::{Deserialize, Serialize};

use super::metrics_log::Mark;
use crate::error::{Context, Failure, Result};
use crate::run::{
    CHECKPOINTS, Role, RunFolder, read_if_there, sha256, sync_folder, temporary_folder, unsealed, write_sealed,
    write_whole,
};

/// A stage in the middle.
#[derive(Debug)]
pub struct Checkpoint {
    /// What its `checkpoint.json` says.
    pub about: About,
    /// Where the stage stands.
    pub state: State,
    folder: PathBuf,
}

/// Where in a run a checkpoint is; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Which network.
    pub stage: Role,
    /// Steps done.
    pub step: u64,
}

impl Place {
    /// The name of its folder.
    pub fn name(self) -> String {
        format!("{}-{:08}", self.stage.name(), self.step)
    }

    /// The place of a folder's name.
    pub fn named(name: &str) -> Option<Self> {
        let (stage, step) = name.rsplit_once('-')?;
        Some(Self { stage: Role::named(stage)?, step: step.parse().ok()? })
    }
}

/// What a `checkpoint.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The program's version; none where it kept no hashes yet, and nothing below is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which network.
    pub stage: Role,
    /// Steps done.
    pub step: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Whether the look at held-out samples that is due after the step is still to come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_due: bool,
    /// Steps that were skipped because they were not finite.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// SHA-256 of the run's recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// SHA-256 of each file that the run was given: teachers, and weights to start from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<String, String>,
    /// How far the log had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Mark>,
    /// SHA-256 of each file of the checkpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

const ABOUT: &str = "checkpoint.json";
const MODEL: &str = "model.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
const PAST: &str = "past-logits.safetensors";

impl Checkpoint {
    /// Writes a stage's state, of which `about` says the rest, unless the same is there already.
    ///
    /// # Errors
    /// If a parameter is not finite, or a file cannot be written; the checkpoints before it are then as they were.
    pub fn write(run: &RunFolder, mut about: About, state: &State) -> Result<()> {
        if let Some(tensor) = state.learner.iter().find(|tensor| tensor.values.iter().any(|value| !value.is_finite())) {
            let (stage, step, name) = (about.stage.name(), about.step, &tensor.name);
            return Err(Failure::work(format!(
                "the {stage}'s parameter {name} is not finite after step {step}, so no checkpoint is made; lower --lr, or \
                 clip gradients with --clip-grad"
            )));
        }
        let parent = run.file(CHECKPOINTS);
        fs::create_dir_all(&parent).context(format_args!("cannot make {}", parent.display()))?;
        let place = parent.join(Place { stage: about.stage, step: about.step }.name());
        if place.exists() {
            // The same step of the same run: the same content.
            return Ok(());
        }
        let filling = temporary_folder(&parent).context(format_args!("cannot write in {}", parent.display()))?;
        for (name, tensors) in [(MODEL, &state.learner), (OPTIMISER, &state.moments), (PAST, &state.past)] {
            if name == MODEL || !tensors.is_empty() {
                let bytes = weights::to_safetensors(tensors, Default::default());
                let bytes = bytes.context("cannot serialise a checkpoint")?;
                write_whole(&filling.path().join(name), &bytes)?;
                about.files.insert(name.to_owned(), sha256(&bytes));
            }
        }
        write_sealed(&filling.path().join(ABOUT), &about)?;
        fs::rename(filling.path(), &place).context(format_args!("cannot write {}", place.display()))?;
        // It is no longer there to be removed.
        let _ = filling.keep();
        // The name must be on the disk before an older checkpoint goes.
        sync_folder(&parent)
    }

    /// Reads a checkpoint and holds its files to their hashes. The inner error says what is damaged.
    ///
    /// # Errors
    /// If a file that is there cannot be read.
    pub fn read(folder: &Path, place: Place) -> Result<std::result::Result<Self, String>> {
        let about = match read_if_there(&folder.join(ABOUT))?.map(unsealed::<About>) {
            Some(Ok(about)) => about,
            Some(Err(why)) => return Ok(Err(format!("{ABOUT}: {why}"))),
            None => return Ok(Err(format!("{ABOUT} is missing"))),
        };
        if (about.stage, about.step) != (place.stage, place.step) {
            return Ok(Err(format!("{ABOUT} is that of another checkpoint")));
        }
        let mut state = State { step: about.step, learner: Vec::new(), moments: Vec::new(), past: Vec::new() };
        for (name, tensors) in [(MODEL, &mut state.learner), (OPTIMISER, &mut state.moments), (PAST, &mut state.past)] {
            let said = about.files.get(name);
            match read_if_there(&folder.join(name))? {
                Some(bytes) if said.is_some_and(|said| sha256(&bytes) != *said) => {
                    return Ok(Err(format!("{name}: its SHA-256 is another than {ABOUT} says")));
                }
                Some(bytes) => match weights::from_safetensors(&bytes) {
                    Ok((read, _)) => *tensors = read,
                    Err(error) => return Ok(Err(format!("{name}: {error}"))),
                },
                // A checkpoint without hashes does not say what belongs to it: what is amiss is seen when it is taken.
                None if said.is_none() && name != MODEL => {}
                None => return Ok(Err(format!("{name} is missing"))),
            }
        }
        Ok(Ok(Self { about, state, folder: folder.to_owned() }))
    }

    /// A state that does not fit, by the file in `folder` that holds it.
    pub fn misfit(folder: &Path, error: &StateError) -> Failure {
        let name = match error {
            StateError::Parameters(_) => MODEL,
            StateError::Optimiser => OPTIMISER,
            StateError::Past => PAST,
        };
        Failure::work(format!("{}: {error}", folder.join(name).display()))
    }

    /// Where in the run it is.
    pub fn place(&self) -> Place {
        Place { stage: self.about.stage, step: self.about.step }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_places_name_is_its_own() {
        for place in [Place { stage: Role::HardLabels, step: 7 }, Place { stage: Role::Student, step: 123_456_789 }] {
            assert_eq!(Place::named(&place.name()), Some(place));
        }
        assert_eq!(Place::named(".student-00000001"), None);
        assert!(Place { stage: Role::Student, step: 1 } > Place { stage: Role::Teacher, step: 9 });
    }
}
