//! What `--resume` needs, written as one unit.
//!
//! A checkpoint is a folder `checkpoint/STAGE-STEP` with the parameters, the optimiser's moments and where the run stands. It is
//! filled under another name and renamed when every file is synced: it is there whole, or not at all. The one before it is
//! removed after that, so at any moment at least one whole checkpoint exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::cubecl::future::block_on;
use burn::module::Module;
use potstill_core::method::LogitTable;
use potstill_core::train::adamw::{AdamWRecord, Moments};
use potstill_core::train::{AdamW, AdamWConfig};
use potstill_core::weights::{self, NamedTensor};
use serde::{Deserialize, Serialize};

use super::stage::Outcome;
use crate::error::{Context, Failure, Result};
use crate::run::{Role, RunFolder, read_weights, sync_folder, write_whole};

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
    #[serde(skip)]
    folder: PathBuf,
}

const FOLDER: &str = "checkpoint";
const PAST: &str = "past-logits.safetensors";

impl Checkpoint {
    /// Saves a stage after `step` steps.
    pub fn save<M: Module>(
        run: &RunFolder,
        stage: Role,
        step: u64,
        seconds: f64,
        model: &M,
        optimiser: &AdamW,
        past: Option<&LogitTable>,
    ) -> Result<()> {
        let parent = run.file(FOLDER);
        fs::create_dir_all(&parent).context(format_args!("cannot make {}", parent.display()))?;
        let filling = tempfile::Builder::new().prefix(".filling-").tempdir_in(&parent);
        let filling = filling.context(format_args!("cannot write in {}", parent.display()))?;
        let model = block_on(weights::read(model)).context("cannot read the network back")?;
        write_tensors(&filling.path().join("model.safetensors"), &model)?;
        if let Some(record) = block_on(optimiser.record()).context("cannot read the optimiser back")? {
            let vector = |kind: &str, path: &str, values: Vec<f32>| NamedTensor {
                name: format!("{kind}.{path}"),
                shape: vec![values.len()],
                values,
            };
            let moments: Vec<NamedTensor> = record
                .moments
                .into_iter()
                .flat_map(|m| {
                    let moments = [("first", Some(m.first)), ("second", Some(m.second)), ("average", m.average)];
                    moments
                        .into_iter()
                        .filter_map(|(kind, values)| Some(vector(kind, &m.path, values?)))
                        .collect::<Vec<_>>()
                })
                .collect();
            write_tensors(&filling.path().join("optimiser.safetensors"), &moments)?;
        }
        if let Some(table) = past {
            let [latest, copy] = table.contents().map(<[f32]>::to_vec);
            let tensor =
                |name: &str, values: Vec<f32>| NamedTensor { name: name.into(), shape: vec![values.len()], values };
            write_tensors(&filling.path().join(PAST), &[tensor("latest", latest), tensor("copy", copy)])?;
        }
        let checkpoint = Self { stage, step, seconds, folder: PathBuf::new() };
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

    /// Puts the saved parameters into `model`.
    pub fn load_model<M: Module>(&self, model: M) -> Result<M> {
        let path = self.folder.join("model.safetensors");
        let (tensors, _) = read_weights(&path)?;
        weights::assign(model, tensors).context(path.display())
    }

    /// The optimiser as it was, for the model as [`Checkpoint::load_model`] gave it.
    pub fn load_optimiser<M: Module>(&self, config: AdamWConfig, model: &M) -> Result<AdamW> {
        if self.step == 0 {
            return Ok(AdamW::new(config));
        }
        let path = self.folder.join("optimiser.safetensors");
        let (tensors, _) = read_weights(&path)?;
        let mut by_name: BTreeMap<String, Vec<f32>> = tensors.into_iter().map(|t| (t.name, t.values)).collect();
        let paths: Vec<String> =
            by_name.keys().filter_map(|name| Some(name.strip_prefix("first.")?.to_owned())).collect();
        let mut take = |kind: &str, path: &str| by_name.remove(&format!("{kind}.{path}"));
        let moments = paths
            .into_iter()
            .map(|path| Moments {
                first: take("first", &path).unwrap_or_default(),
                second: take("second", &path).unwrap_or_default(),
                average: take("average", &path),
                path,
            })
            .collect();
        AdamW::resume(config, AdamWRecord { steps: self.step, moments }, model)
            .ok_or_else(|| Failure::work(format!("{} was made for another network", path.display())))
    }

    /// The table of past logits as it was, for `samples` samples of `classes` classes.
    pub fn load_past(&self, samples: usize, classes: usize) -> Result<LogitTable> {
        let path = self.folder.join(PAST);
        let (tensors, _) = read_weights(&path)?;
        let mut by_name: BTreeMap<String, Vec<f32>> = tensors.into_iter().map(|t| (t.name, t.values)).collect();
        let contents = ["latest", "copy"].map(|name| by_name.remove(name).unwrap_or_default());
        let fits = contents[0].len() == samples * classes;
        LogitTable::from_contents(classes, contents)
            .filter(|_| fits)
            .ok_or_else(|| Failure::work(format!("{} was made for other samples", path.display())))
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
