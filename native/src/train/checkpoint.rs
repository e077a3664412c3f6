//! What `--resume` needs, written as one unit.
//!
//! A checkpoint is a folder `checkpoint/STAGE-STEP` with the parameters, the optimiser's moments and where the run stands. It is
//! filled under another name and renamed when every file is synced: it is there whole, or not at all. The one before it is
//! removed after that, so at any moment at least one whole checkpoint exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::cubecl::future::block_on;
use potstill_core::train::{State, StateError};
use potstill_core::weights::{self, NamedTensor};
use serde::{Deserialize, Serialize};

use super::best::{Best, Mark};
use super::stage::Outcome;
use crate::error::{Context, Failure, Result};
use crate::folder::{sync_folder, write_whole};
use crate::run::{Role, RunFolder};
use crate::weights::read_weights;

/// Where an unfinished run stands: the stages that are done. Its file also marks a run as one that can be resumed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunState {
    /// What each finished stage gave.
    pub done: BTreeMap<Role, Outcome>,
}

/// A stage in the middle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which network.
    pub stage: Role,
    /// Steps done.
    pub step: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The best epoch so far, where the validation split has a say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Mark>,
    #[serde(skip)]
    folder: PathBuf,
}

const FOLDER: &str = "checkpoint";
const MODEL: &str = "model.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
const PAST: &str = "past-logits.safetensors";
const BEST: &str = "best.safetensors";
const BEST_MEAN: &str = "best-ema.safetensors";

impl Checkpoint {
    /// Saves a stage where it stands after `seconds` of training.
    pub fn save(run: &RunFolder, stage: Role, seconds: f64, state: &State, best: &Best) -> Result<()> {
        let (parent, step) = (run.file(FOLDER), state.step);
        fs::create_dir_all(&parent).context(format_args!("cannot make {}", parent.display()))?;
        let filling = tempfile::Builder::new().prefix(".filling-").tempdir_in(&parent);
        let filling = filling.context(format_args!("cannot write in {}", parent.display()))?;
        write_tensors(&filling.path().join(MODEL), &state.learner)?;
        for (name, tensors) in [(OPTIMISER, &state.moments), (PAST, &state.past)] {
            if !tensors.is_empty() {
                write_tensors(&filling.path().join(name), tensors)?;
            }
        }
        if let Some((model, average)) = best.kept() {
            for (name, network) in [(BEST, Some(model)), (BEST_MEAN, average.as_ref())] {
                if let Some(network) = network {
                    let tensors = block_on(weights::read(network)).context("cannot read the best network back")?;
                    write_tensors(&filling.path().join(name), &tensors)?;
                }
            }
        }
        let checkpoint = Self { stage, step, seconds, best: best.mark(), folder: PathBuf::new() };
        let text = serde_json::to_string_pretty(&checkpoint).context("cannot serialise a checkpoint")?;
        write_whole(&filling.path().join("checkpoint.json"), text.as_bytes())?;
        let place = parent.join(format!("{}-{step:08}", stage.name()));
        if place.exists() {
            // The same step of the same run: the same content.
            return Ok(());
        }
        let filled = filling.keep();
        fs::rename(&filled, &place).context(format_args!("cannot write {}", place.display()))?;
        // The name must be on the disk before the older checkpoint goes.
        sync_folder(&parent)?;
        remove_all_but(&parent, Some(&place));
        Ok(())
    }

    /// Where the stage stands.
    ///
    /// # Errors
    /// If a file of it cannot be read.
    pub fn state(&self) -> Result<State> {
        let read = |name: &str, there: bool| match there {
            true => Ok(read_weights(&self.folder.join(name))?.0),
            false => Ok(Vec::new()),
        };
        Ok(State {
            step: self.step,
            learner: read(MODEL, true)?,
            moments: read(OPTIMISER, self.step > 0)?,
            past: read(PAST, self.folder.join(PAST).exists())?,
        })
    }

    /// The best network so far and the mean of its parameters, where they are kept.
    ///
    /// # Errors
    /// If a file of them cannot be read.
    pub fn kept(&self) -> Result<[Option<Vec<NamedTensor>>; 2]> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            if path.exists() { read_weights(&path).map(|(tensors, _)| Some(tensors)) } else { Ok(None) }
        };
        Ok([read(BEST)?, read(BEST_MEAN)?])
    }

    /// A state that does not fit, by the file that holds it.
    pub fn misfit(&self, error: StateError) -> Failure {
        let name = match error {
            StateError::Parameters(_) => MODEL,
            StateError::Optimiser => OPTIMISER,
            StateError::Past => PAST,
        };
        Failure::work(format!("{}: {error}", self.folder.join(name).display()))
    }
}

/// The newest whole checkpoint of a run, if there is one.
pub fn latest(run: &RunFolder) -> Result<Option<Checkpoint>> {
    let mut found: Vec<Checkpoint> = fs::read_dir(run.file(FOLDER))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .map(|folder| {
            let path = folder.join("checkpoint.json");
            let text = fs::read_to_string(&path).context(format_args!("cannot read {}", path.display()))?;
            let checkpoint: Checkpoint = serde_json::from_str(&text).context(path.display())?;
            Ok(Checkpoint { folder, ..checkpoint })
        })
        .collect::<Result<_>>()?;
    // Stages follow each other in this order.
    found.sort_by_key(|checkpoint| (checkpoint.stage, checkpoint.step));
    Ok(found.pop())
}

/// Removes every checkpoint of a run.
pub fn clear(run: &RunFolder) {
    let parent = run.file(FOLDER);
    remove_all_but(&parent, None);
    fs::remove_dir(parent).ok();
}

// What cannot be removed is only left over: the newest checkpoint still wins. A folder loses its files one by one, so that
// it is first given a name that `latest` passes over.
fn remove_all_but(parent: &Path, kept: Option<&Path>) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let folder = entry.path();
        if Some(folder.as_path()) == kept {
            continue;
        }
        let name = entry.file_name();
        let going = parent.join(format!(".{}", name.to_string_lossy().trim_start_matches('.')));
        if going != folder {
            // Left over, if it is there.
            fs::remove_dir_all(&going).ok();
            fs::rename(&folder, &going).ok();
        }
        fs::remove_dir_all(&going).ok();
    }
}

fn write_tensors(path: &Path, tensors: &[NamedTensor]) -> Result<()> {
    let bytes = weights::to_safetensors(tensors, Default::default()).context("cannot serialise weights")?;
    write_whole(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_checkpoint_goes_by_a_name_that_is_passed_over() {
        let parent = tempfile::tempdir().expect("a folder");
        // The third is what an end in the middle of removing the first left over.
        for name in ["student-00000001", "student-00000002", ".student-00000001", ".tmpfilling"] {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).expect("made");
            fs::write(folder.join("checkpoint.json"), "{}").expect("written");
        }
        let kept = parent.path().join("student-00000002");
        remove_all_but(parent.path(), Some(&kept));
        let left: Vec<PathBuf> = fs::read_dir(parent.path()).expect("read").flatten().map(|e| e.path()).collect();
        assert_eq!(left, [kept]);
    }
}
