//! The run folder: what a training leaves behind, and how a network is read back from it.
//!
//! ```text
//! LOGDIR/NAME/
//!   recipe.toml                        the resolved recipe
//!   metrics.jsonl                      a line a step, a line a check on held-out data
//!   teacher|student|baseline.safetensors
//!   teacher|student|baseline-ema.safetensors   where a mean of the parameters is kept
//!   result.json                        only in a finished run
//!   curves.svg
//!   state.json, checkpoint/            only in an unfinished run: what `--resume` needs
//!   .lock                              whoever works in the folder holds its lock
//! ```
//!
//! Every file appears whole or not at all: it is written beside its place, synced and renamed. One process at a time works
//! in a folder; what a killed one left half-written is removed by the next.

pub mod lock;
mod sealed;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use potstill_core::data::{ImageShape, Normalisation, Preprocess, Transform};
use potstill_core::method::Readout;
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::weights::{self, Description, Fit, Metadata, NamedTensor, Resampling, STATE_PREFIX};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use self::lock::{Attempt, Lock};
use crate::cli::{self, Which};
use crate::error::{Context, Failure, Result};
use crate::progress::complain;
use crate::pytorch;
use crate::recipe::model_named;
use crate::report::hex;

/// A run's folder, which exists and which this process alone works in.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    // Let go of with the last copy.
    _lock: Arc<Lock>,
}

/// The folder of an unfinished run's checkpoints.
pub const CHECKPOINTS: &str = "checkpoint";
/// The file that an unfinished run has.
pub const STATE: &str = "state.json";
/// The file that a run is resumed by.
pub const RECIPE: &str = "recipe.toml";
const RESULT: &str = "result.json";

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
    /// All roles, in the order in which they are trained.
    pub const ALL: [Self; 5] = [Self::Teacher, Self::Student, Self::Baseline, Self::HardLabels, Self::AllLabels];

    /// The role of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

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
    /// Makes the folder of a new run: `name`, else the first free `STEM-001`, `STEM-002`, ... A folder of that name in which a
    /// run was stopped before it had a recipe is taken over.
    ///
    /// # Errors
    /// Exit code 2 if `name` is no plain folder name, or is taken; 1 if the folder cannot be made.
    pub fn create(logdir: &Path, name: Option<&str>, stem: &str) -> Result<Self> {
        let name = name.map(plain_name).transpose()?;
        fs::create_dir_all(logdir).context(format_args!("cannot make the folder {}", logdir.display()))?;
        if let Some(name) = name {
            let path = logdir.join(name);
            make(&path)?;
            return Self::taken_over(path);
        }
        for number in 1..100_000 {
            let path = logdir.join(format!("{stem}-{number:03}"));
            if make(&path)? {
                return Self::locked(path);
            }
        }
        Err(Failure::work(format!("{} holds too many runs; pass --name", logdir.display())))
    }

    /// The unfinished run to go on with: the one called `name`, else, of those that nobody works on, the one worked on last.
    ///
    /// # Errors
    /// Exit code 2 if there is none, the named one is finished, or another process works on it.
    pub fn unfinished(logdir: &Path, name: Option<&str>) -> Result<Self> {
        if let Some(name) = name {
            let path = logdir.join(plain_name(name)?);
            if !path.is_dir() {
                return Err(Failure::usage(format!("there is no run {} to resume", path.display())));
            }
            let run = Self::locked(path)?;
            if run.has(RESULT)? {
                run.clear()?;
                return Err(Failure::usage(format!(
                    "the run {} is finished; there is nothing to resume",
                    run.path.display()
                )));
            }
            if !run.has(RECIPE)? {
                return Err(Failure::usage(format!(
                    "{} has no {RECIPE}, so there is nothing to resume; without --resume, train --name {} starts a run in it",
                    run.path.display(),
                    run.name()
                )));
            }
            run.clear_leftovers()?;
            return Ok(run);
        }
        let mut found = Vec::new();
        for path in listed(logdir)? {
            // What cannot be looked at is no run, or is one that ends here by its own name.
            if let Ok(modified) = path.join(STATE).metadata().and_then(|state| state.modified()) {
                found.push((modified, path));
            }
        }
        found.sort();
        let mut busy = Vec::new();
        while let Some((_, path)) = found.pop() {
            let lock = match lock::attempt(&path)? {
                Attempt::Ours(lock) => lock,
                Attempt::Of(_) => {
                    busy.push(path.display().to_string());
                    continue;
                }
            };
            let run = Self { path, _lock: Arc::new(lock) };
            if run.has(RESULT)? {
                // Killed between its result and the end.
                run.clear()?;
            } else if run.has(RECIPE)? {
                run.clear_leftovers()?;
                return Ok(run);
            }
        }
        let logdir = logdir.display();
        Err(Failure::usage(match busy.is_empty() {
            true => format!("there is no unfinished run in {logdir} to resume"),
            false => {
                format!("every unfinished run in {logdir} is being worked on by another process: {}", busy.join(", "))
            }
        }))
    }

    fn locked(path: PathBuf) -> Result<Self> {
        let lock = lock::attempt(&path)?.ours(&path)?;
        Ok(Self { path, _lock: Arc::new(lock) })
    }

    // The folder for a new run. It may have been there, and may not have more in it than a run has before its recipe.
    fn taken_over(path: PathBuf) -> Result<Self> {
        let run = Self::locked(path)?;
        let taken = |what: &str| Err(Failure::usage(format!("{} {what}", run.path.display())));
        if run.has(RECIPE)? || run.has(RESULT)? {
            return taken("is a run already; choose another --name, or add --resume to go on with it");
        }
        let own = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name == lock::NAME || name == STATE || name.starts_with(TEMPORARY)
        };
        if let Some(other) = listed(&run.path)?.into_iter().find(|path| !own(path)) {
            let other = other.file_name().unwrap_or_default().display();
            return taken(&format!("has no {RECIPE} but has {other}, so it is not a run; choose another --name"));
        }
        run.clear_leftovers()?;
        Ok(run)
    }

    // Whether a file is there. An error is not taken for no.
    fn has(&self, name: &str) -> Result<bool> {
        let path = self.file(name);
        path.try_exists().context(format_args!("cannot look for {}", path.display()))
    }

    /// Removes what only an unfinished run needs.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn clear(&self) -> Result<()> {
        let state = self.file(STATE);
        gone(fs::remove_file(&state)).context(format_args!("cannot remove {}", state.display()))?;
        let checkpoints = self.file(CHECKPOINTS);
        gone(fs::remove_dir_all(&checkpoints)).context(format_args!("cannot remove {}", checkpoints.display()))?;
        self.clear_leftovers()
    }

    // Files and checkpoints that a killed process was writing: nobody else works here, so nobody needs them.
    fn clear_leftovers(&self) -> Result<()> {
        let hidden =
            |path: &PathBuf, start: &str| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start));
        let files = listed(&self.path)?.into_iter().filter(|path| hidden(path, TEMPORARY));
        for file in files {
            gone(fs::remove_file(&file)).context(format_args!("cannot remove {}", file.display()))?;
        }
        let folders = listed(&self.file(CHECKPOINTS))?.into_iter().filter(|path| hidden(path, "."));
        for folder in folders {
            gone(fs::remove_dir_all(&folder)).context(format_args!("cannot remove {}", folder.display()))?;
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The weights file of a network.
    pub fn weights(&self, role: Role) -> PathBuf {
        self.file(&weights_name(role))
    }

    /// The weights file of the exponential mean of a network's parameters.
    pub fn average(&self, role: Role) -> PathBuf {
        self.file(&format!("{}-ema.safetensors", role.name()))
    }

    /// Writes a JSON file whole.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).context(format_args!("cannot serialise {name}"))?;
        text.push('\n');
        write_whole(&self.file(name), text.as_bytes())
    }
}

/// Writes a JSON file whole, with its own hash in it.
///
/// # Errors
/// If it cannot be written.
pub fn write_sealed(path: &Path, value: &impl Serialize) -> Result<()> {
    write_whole(path, sealed::seal(value)?.as_bytes())
}

/// What [`write_sealed`] wrote, or in words why it is not that.
pub fn unsealed<T: DeserializeOwned>(bytes: Vec<u8>) -> std::result::Result<T, String> {
    sealed::unseal(&String::from_utf8(bytes).map_err(|error| error.to_string())?)
}

/// A file's bytes, or `None` where there is no such file.
///
/// # Errors
/// If it is there and cannot be read.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::work(format!("cannot read {}: {error}", path.display()))),
    }
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// Everything in a folder; nothing where there is no folder.
///
/// # Errors
/// If it is there and cannot be listed.
pub fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let doing = format!("cannot list {}", folder.display());
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.context(&doing)?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failure::work(format!("{doing}: {error}"))),
    }
}

// What is not there need not be removed.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

// Makes a folder; `false` if it is there already.
fn make(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Failure::work(format!("cannot make the run folder {}: {error}", path.display()))),
    }
}

fn weights_name(role: Role) -> String {
    format!("{}.safetensors", role.name())
}

// A run's name is one folder's name, never a path out of the log folder.
fn plain_name(name: &str) -> Result<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(_)), None) => Ok(name),
        _ => Err(Failure::usage(format!("--name {name:?} is no plain folder name"))),
    }
}

/// How the names of files begin that are being written.
pub const TEMPORARY: &str = ".tmp";

/// Writes a file whole: beside its place, synced, renamed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary_file(folder).context(&doing)?;
    file.write_all(bytes).context(&doing)?;
    file.as_file().sync_all().context(&doing)?;
    file.persist(path).context(&doing)?;
    sync_folder(folder)
}

/// A file in `folder` that is removed unless it is kept.
pub fn temporary_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    temporary(TEMPORARY, 0o666).tempfile_in(folder)
}

/// A folder in `folder` that is removed unless it is kept.
pub fn temporary_folder(folder: &Path) -> std::io::Result<TempDir> {
    temporary(".filling-", 0o777).tempdir_in(folder)
}

// What is temporary is private to its owner; what is kept is as readable as the umask lets anything else be.
fn temporary(prefix: &str, mode: u32) -> tempfile::Builder<'_, '_> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Makes the names in a folder survive a power cut. Only Unix can sync a folder; elsewhere this does nothing.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.context(format_args!("cannot write {}", folder.display()))?;
    }
    Ok(())
}

/// A network ready to classify.
pub struct LoadedNetwork {
    /// The network, without gradients.
    pub model: Network,
    /// Its configuration.
    pub config: NetworkConfig,
    /// The classes' names in the order of the logits.
    pub class_names: Vec<String>,
    /// What its inputs are normalised by.
    pub normalisation: Normalisation,
    /// How an image of another size is brought to its inputs'.
    pub preprocess: Preprocess,
    /// How its heads make one prediction.
    pub readout: Readout,
    /// The name of its model, where its file says it.
    pub name: String,
    /// Where it came from.
    pub path: PathBuf,
}

impl LoadedNetwork {
    /// What a file of it says.
    pub fn description(&self) -> Description {
        Description {
            name: self.name.clone(),
            config: self.config.clone(),
            class_names: self.class_names.clone(),
            normalisation: self.normalisation.clone(),
            preprocess: self.preprocess,
            readout: self.readout,
        }
    }

    /// How samples become its inputs.
    pub fn transform(&self) -> Transform {
        let (channels, side) = (self.config.channels(), self.config.image_size());
        let shape = ImageShape { channels, height: side, width: side };
        Transform { preprocess: self.preprocess, ..Transform::plain(shape, self.normalisation.clone()) }
    }

    /// Logits `[B, classes]` of normalised images `[B, C, S, S]`.
    pub fn classify(&self, images: Tensor<4>) -> Tensor<2> {
        self.readout.of(&self.model.forward(images, None))
    }
}

/// Reads a weights file, all of it or nothing: safetensors, or PyTorch's own.
pub fn read_weights(path: &Path) -> Result<(Vec<NamedTensor>, Metadata)> {
    if pytorch::is_pytorch(path)? {
        return Ok((pytorch::read(path)?, Metadata::new()));
    }
    let bytes = fs::read(path).context(format_args!("cannot read the weights {}", path.display()))?;
    weights::from_safetensors(&bytes).context(path.display())
}

/// The file that weights to start from are in: a run's folder stands for its student.
pub fn weights_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(weights_name(Role::Student)) } else { path.to_owned() }
}

/// A network that starts from the weights in a file, and what was changed to make them fit: positions are resampled, and a
/// head for other classes is replaced by one drawn from `seed`.
///
/// # Errors
/// Exit code 1 for a file that cannot be read, or does not fit otherwise, with every tensor that does not.
pub fn load_start(
    path: &Path,
    config: &NetworkConfig,
    resampling: Resampling,
    seed: u64,
    device: &Device,
) -> Result<(Network, Vec<String>)> {
    let path = &weights_file(path);
    let (mut tensors, _) = read_weights(path)?;
    tensors.retain(|tensor| !tensor.name.starts_with(STATE_PREFIX));
    let fitted = weights::fit(tensors, config, &Fit { resampling, new_head: Some(seed) }, device);
    let fitted = fitted.context(path.display())?;
    Ok((fitted.network, fitted.notes))
}

/// Loads the network that the command line names.
///
/// # Errors
/// Exit code 2 for an unknown model; 1 for a file that cannot be read or does not fit, with every tensor that does not.
pub fn load_network(network: &cli::Network, device: &Device) -> Result<LoadedNetwork> {
    let loaded = match (&network.run, &network.model, &network.weights) {
        (Some(file), ..) if file.is_file() && network.which.is_some() => Err(Failure::usage(format!(
            "{} is one network, so --which has nothing to choose from; leave it out, or name a run's folder",
            file.display()
        ))),
        // A weights file says itself which network it is; a run that the page saved is the file of its student.
        (Some(file), model, _) | (None, model, Some(file)) if file.is_file() || model.is_some() => {
            load_file(file, model.as_deref().map(Model::named).transpose()?, device)
        }
        (Some(run), ..) => load_from_run(run, network.which.unwrap_or(Which::Student).into(), device),
        (None, _, Some(path)) => load_file(path, None, device),
        _ => Err(Failure::usage("name a run's folder, or --model and --weights")),
    }?;
    let readout = network.readout.unwrap_or(loaded.readout);
    if readout != Readout::Class && network.readout.is_some() && !loaded.config.shape().distillation_token {
        let (path, name) = (loaded.path.display(), readout.name());
        return Err(Failure::usage(format!(
            "{path} has one head, so --readout {name} has nothing to read; leave it out"
        )));
    }
    Ok(LoadedNetwork { readout, ..loaded })
}

/// Loads a network of a run.
pub fn load_from_run(folder: &Path, role: Role, device: &Device) -> Result<LoadedNetwork> {
    let weights = |role: Role| folder.join(weights_name(role));
    if !folder.is_dir() {
        return Err(Failure::work(format!("there is no run folder {}", folder.display())));
    }
    let path = weights(role);
    if !path.exists() {
        let has: Vec<&str> = Role::ALL.into_iter().filter(|role| weights(*role).exists()).map(Role::name).collect();
        let has = if has.is_empty() { "nothing that is trained".to_owned() } else { has.join(", ") };
        return Err(Failure::work(format!("the run {} has no {}; it has {has}", folder.display(), role.name())));
    }
    load_file(&path, None, device)
}

/// A model by name, for a file that does not say what it is.
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub config: NetworkConfig,
    /// How the file may be changed to fit; without a new head, the number of classes is the file's.
    pub fit: Fit,
    /// Whether a file that says what it is knows better.
    pub yields: bool,
}

impl Model {
    /// The model of a name as a file holds it.
    ///
    /// # Errors
    /// Exit code 2 with the names that exist.
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), config: model_named(name)?, fit: Fit::default(), yields: false })
    }
}

/// Loads a weights file as what it says of itself, or as `model` where it says nothing.
pub fn load_file(path: &Path, model: Option<Model>, device: &Device) -> Result<LoadedNetwork> {
    let (tensors, metadata) = read_weights(path)?;
    if let Some(tensor) = tensors.iter().find(|tensor| tensor.values.iter().any(|value| !value.is_finite())) {
        return Err(Failure::work(format!(
            "{}: the tensor {} has values that are not finite, so the network is of no use",
            path.display(),
            tensor.name
        )));
    }
    let described = Description::read(&metadata).context(path.display())?;
    let (description, tensors, fit) = match (described, model) {
        (Some(description), model) if model.as_ref().is_none_or(|model| model.yields) => {
            (description, tensors, Fit::default())
        }
        (_, None) => {
            return Err(Failure::usage(format!(
                "{} does not say which model it is; name it with --model (a teacher with --teacher-model)",
                path.display()
            )));
        }
        (_, Some(Model { name, mut config, fit, .. })) => {
            let tensors = weights::to_timm(tensors);
            if fit.new_head.is_none()
                && let Some(classes) = weights::classes(&tensors, &config)
            {
                config = config.with_classes(classes);
            }
            (Description::of(&name, config, &metadata).context(path.display())?, tensors, fit)
        }
    };
    let fitted = description.fitted(tensors, &fit, device).context(path.display())?;
    for note in &fitted.notes {
        complain(format_args!("note     {}: {note}", path.display()));
    }
    let Description { name, config, class_names, normalisation, preprocess, readout } = description;
    let model = fitted.network;
    Ok(LoadedNetwork { model, config, class_names, normalisation, preprocess, readout, name, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use potstill_core::model::VitConfig;

    use super::*;

    #[test]
    fn a_file_that_says_nothing_is_what_it_is_called() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/vit_timm.pth");
        let reduced = |name: &str, new_head| Model {
            name: name.to_owned(),
            config: VitConfig { image_size: 16, patch_size: 4, width: 12, depth: 2, ..VitConfig::default() }.into(),
            fit: Fit { new_head, ..Fit::default() },
            yields: true,
        };
        let device = Device::flex();
        let load = |name: &str, new_head| load_file(&path, Some(reduced(name, new_head)), &device).expect("loads");
        let found = load("deit_tiny_patch16_224", None);
        // The file's five classes, and what DeiT's weights expect of an image.
        assert_eq!((found.config.classes(), found.class_names.len()), (5, 5));
        assert_eq!(found.normalisation, Normalisation::imagenet());
        assert_eq!(load("vit_tiny_patch16_224", None).normalisation, Normalisation::half());
        assert_eq!(load("vit_tiny_patch16_224", Some(0)).config.classes(), 1000);
        let failure = load_file(&path, None, &device).err().expect("it does not say what it is");
        assert!(failure.code() == 2 && failure.to_string().contains("--model"), "{failure}");
        let (_, notes) =
            load_start(&path, &found.config.with_classes(7), Resampling::default(), 1, &device).expect("starts");
        assert_eq!(notes.len(), 1, "{notes:?}");
    }
}
