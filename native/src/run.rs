//! The run folder: what a training leaves behind, and how a network is read back from it.
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
//! Every file appears whole or not at all: it is written beside its place, synced and renamed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use potstill_core::data::{ImageShape, Normalisation, Preprocess, Transform};
use potstill_core::method::Readout;
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::weights::{self, Description, Fit, Metadata, NamedTensor, Resampling, STATE_PREFIX};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::{self, Which};
use crate::error::{Context, Failure, Result};
use crate::pytorch;
use crate::recipe::model_named;

/// A run's folder, which exists.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
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
    /// Makes the folder of a new run: `name`, else the first free `STEM-001`, `STEM-002`, ...
    ///
    /// # Errors
    /// Exit code 2 if `name` is no plain folder name or is taken; 1 if the folder cannot be made.
    pub fn create(logdir: &Path, name: Option<&str>, stem: &str) -> Result<Self> {
        let name = name.map(plain_name).transpose()?;
        fs::create_dir_all(logdir).context(format_args!("cannot make the folder {}", logdir.display()))?;
        if let Some(name) = name {
            let path = logdir.join(name);
            return match fs::create_dir(&path) {
                Ok(()) => Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::usage(format!(
                    "the run {} exists already; choose another --name, or add --resume to go on with it",
                    path.display()
                ))),
                Err(error) => Err(Failure::work(format!("cannot make the run folder {}: {error}", path.display()))),
            };
        }
        for number in 1..100_000 {
            let path = logdir.join(format!("{stem}-{number:03}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Failure::work(format!("cannot make the run folder {}: {error}", path.display())));
                }
            }
        }
        Err(Failure::work(format!("{} holds too many runs; pass --name", logdir.display())))
    }

    /// The unfinished run to go on with: the one called `name`, else the one worked on last.
    ///
    /// # Errors
    /// Exit code 2 if there is none, or the named one is finished.
    pub fn unfinished(logdir: &Path, name: Option<&str>) -> Result<Self> {
        if let Some(name) = name {
            let run = Self { path: logdir.join(plain_name(name)?) };
            if !run.path.is_dir() {
                return Err(Failure::usage(format!("there is no run {} to resume", run.path.display())));
            }
            if run.file("result.json").exists() {
                return Err(Failure::usage(format!(
                    "the run {} is finished; there is nothing to resume",
                    run.path.display()
                )));
            }
            if !run.file("recipe.toml").exists() {
                return Err(Failure::usage(format!(
                    "{} holds no recipe.toml; it is no run to resume",
                    run.path.display()
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
            .map(|(_, path)| Self { path })
            .ok_or_else(|| Failure::usage(format!("there is no unfinished run in {} to resume", logdir.display())))
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

    /// Writes a JSON file whole.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).context(format_args!("cannot serialise {name}"))?;
        text.push('\n');
        write_whole(&self.file(name), text.as_bytes())
    }

    /// Reads a JSON file.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.file(name);
        let text = fs::read_to_string(&path).context(format_args!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).context(path.display())
    }
}

// A run's name is one folder's name, never a path out of the log folder.
fn plain_name(name: &str) -> Result<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(_)), None) => Ok(name),
        _ => Err(Failure::usage(format!("--name {name:?} is no plain folder name"))),
    }
}

/// Writes a file whole: beside its place, synced, renamed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // Temporary files are private to their owner; what is kept is as readable as the umask lets any other file be.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).context(&doing)?;
    file.write_all(bytes).context(&doing)?;
    file.as_file().sync_all().context(&doing)?;
    file.persist(path).context(&doing)?;
    sync_folder(folder)
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
    // A run's folder stands for its student.
    let path = if path.is_dir() { &path.join("student.safetensors") } else { path };
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
    let run = RunFolder { path: folder.to_owned() };
    if !folder.is_dir() {
        return Err(Failure::work(format!("there is no run folder {}", folder.display())));
    }
    let path = run.weights(role);
    if !path.exists() {
        let has: Vec<&str> = [Role::Teacher, Role::Student, Role::Baseline, Role::HardLabels, Role::AllLabels]
            .into_iter()
            .filter(|r| run.weights(*r).exists())
            .map(Role::name)
            .collect();
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
        eprintln!("note     {}: {note}", path.display());
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
