//! Networks from files: weights files of any kind, folders of a hub, and the files in a run's folder.

mod classes;
mod file;
mod hub;
mod pytorch;

pub use classes::arrange;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use potstill_core::data::{Decoding, ImageShape, Interpolation, Normalisation, Preprocess, Resize, Transform};
use potstill_core::method::Readout;
use potstill_core::model::{Network, NetworkConfig, zoo};
use potstill_core::weights::{self, Description, Fit, Metadata, NamedTensor, Resampling, STATE_PREFIX};

use crate::cli::{self, View, Which};
use crate::dataset::How;
use crate::error::{Context, Failure, Result};
use crate::recipe::model_named;
use crate::run::{Role, RunFolder};
use hub::Card;

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
    /// How picture files are read for it.
    pub decoding: Decoding,
    /// How its heads make one prediction.
    pub readout: Readout,
    /// The name of its model, where its file says it.
    pub name: String,
    /// Where it came from.
    pub path: PathBuf,
    /// The seed of the run that it is of; 0 of another file.
    pub seed: u64,
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
            reading: self.decoding.reading,
            readout: self.readout,
        }
    }

    /// How a data set is opened to measure it on.
    pub fn how(&self, samples: Option<usize>) -> How {
        How { samples, decoding: self.decoding, seed: self.seed }
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
    file::read(path)
}

/// What a file holds of one network.
struct Stored {
    path: PathBuf,
    tensors: Vec<NamedTensor>,
    metadata: Metadata,
    card: Option<Card>,
    notes: Vec<String>,
}

impl Stored {
    /// Reads a weights file, or the one in a folder of a hub, without a training's state.
    fn read(path: &Path, prefix: Option<&str>) -> Result<Self> {
        let path = if path.is_dir() { file::in_folder(path).unwrap_or(path.to_owned()) } else { path.to_owned() };
        let (mut tensors, metadata) = file::read(&path)?;
        tensors.retain(|tensor| !tensor.name.starts_with(STATE_PREFIX));
        let card = if file::is_of_hub(&path) { Card::beside(path.parent().unwrap_or(Path::new(".")))? } else { None };
        let weights::Located { tensors, prefix: found, others } = weights::locate(tensors, prefix);
        if let Some(prefix) = prefix.filter(|_| tensors.is_empty()) {
            return Err(Failure::usage(format!("{} holds nothing below {prefix}", path.display())));
        }
        let mut notes = Vec::new();
        match (found.trim_end_matches('.'), others.as_slice()) {
            ("", []) => {}
            (found, []) => notes.push(format!("the network is read from below {found}")),
            (found, others) => {
                let found = if found.is_empty() { "the top".to_owned() } else { format!("below {found}") };
                let others: Vec<&str> = others.iter().map(|other| other.trim_end_matches('.')).collect();
                notes.push(format!("the network is read from {found}; others are below {}", others.join(", ")));
            }
        }
        let broken = |tensor: &&NamedTensor| tensor.values.iter().any(|value| !value.is_finite());
        if let Some(tensor) = tensors.iter().find(broken) {
            let count = tensor.values.iter().filter(|value| !value.is_finite()).count();
            let (path, name, all) = (path.display(), &tensor.name, tensor.values.len());
            return Err(Failure::work(format!(
                "{path}: {count} of the {all} values of {name} are no numbers (NaN or infinite): the training that wrote \
                 it had failed by then; take an earlier checkpoint"
            )));
        }
        Ok(Self { path, tensors, metadata, card, notes })
    }

    /// The LayerNorm epsilon of a layout that does not have timm's.
    fn epsilon(&self) -> Option<f64> {
        let said = match self.card.as_ref().and_then(|card| card.config.as_ref()) {
            Some(NetworkConfig::Vit(vit)) => Some(vit.layer_norm_eps),
            _ => None,
        };
        weights::is_of_transformers(&self.tensors).then(|| said.unwrap_or(hub::EPSILON))
    }
}

/// The LayerNorm epsilon with which the weights in a file were trained, where their layout says another than timm's.
///
/// # Errors
/// Exit code 1 for a file that cannot be read.
pub fn epsilon_of(path: &Path) -> Result<Option<f64>> {
    Ok(Stored::read(&start(path), None)?.epsilon())
}

// A run's folder stands for its student.
fn start(path: &Path) -> PathBuf {
    let student = path.join("student.safetensors");
    if student.is_file() { student } else { path.to_owned() }
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
    let Stored { path, tensors, mut notes, .. } = Stored::read(&start(path), None)?;
    let fitted = weights::fit(tensors, config, &Fit { resampling, new_head: Some(seed) }, device);
    let fitted = fitted.context(path.display())?;
    notes.extend(fitted.notes);
    Ok((fitted.network, notes))
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
            load_file(file, model.as_deref().map(Model::named).transpose()?, &network.view, device)
        }
        (Some(folder), ..) if is_of_hub(folder) => load_file(folder, None, &network.view, device),
        (Some(run), ..) => load_from_run(run, network.which.unwrap_or(Which::Student).into(), &network.view, device),
        (None, _, Some(path)) => load_file(path, None, &network.view, device),
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

/// Whether a folder is laid out as a hub lays out its models.
pub fn is_of_hub(folder: &Path) -> bool {
    !folder.join("recipe.toml").is_file() && file::in_folder(folder).is_some()
}

/// Loads a network of a run.
pub fn load_from_run(folder: &Path, role: Role, view: &View, device: &Device) -> Result<LoadedNetwork> {
    let run = RunFolder::at(folder);
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
    Ok(LoadedNetwork { seed: seed_of(&run), ..load_file(&path, None, view, device)? })
}

// What was held out of a run's data without a part for it follows from its seed.
fn seed_of(run: &RunFolder) -> u64 {
    let recipe = std::fs::read_to_string(run.file("recipe.toml")).unwrap_or_default();
    let recipe = recipe.parse::<toml::Table>().unwrap_or_default();
    recipe.get("seed").and_then(toml::Value::as_integer).and_then(|seed| u64::try_from(seed).ok()).unwrap_or(0)
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
    /// Whether it runs at the picture size that the file's positions are of.
    pub own_size: bool,
}

impl Model {
    /// The model of a name as a file holds it.
    ///
    /// # Errors
    /// Exit code 2 with the names that exist.
    pub fn named(name: &str) -> Result<Self> {
        let (name, config) = (zoo::plain_name(name), model_named(name)?);
        Ok(Self { name, config, fit: Fit::default(), yields: false, own_size: true })
    }
}

/// Loads a weights file, or a folder of a hub, as what it says of itself, or as `model` where it says nothing; pictures come
/// to it as `view` says.
///
/// # Errors
/// Exit code 2 where nothing says which network it is, or `view` has nothing to change; 1 for a file that cannot be read or
/// does not fit.
pub fn load_file(path: &Path, model: Option<Model>, view: &View, device: &Device) -> Result<LoadedNetwork> {
    let stored = Stored::read(path, view.prefix.as_deref())?;
    let epsilon = stored.epsilon();
    let Stored { path, tensors, metadata, card, mut notes } = stored;
    let described = Description::read(&metadata).context(path.display())?;
    let yields = model.as_ref().is_none_or(|model| model.yields);
    let card = card.filter(|_| described.is_none() || !yields);
    let named = card.as_ref().and_then(|card| Some((card.name.clone(), card.config.clone()?)));
    let (mut description, tensors, fit) = match (described, named, model) {
        (Some(description), _, _) if yields => (description, tensors, Fit::default()),
        (_, Some((name, mut config)), _) if yields => {
            // Default names are left out of the files, and with them the number of classes.
            let tensors = weights::to_timm(tensors);
            if let Some(classes) = weights::classes(&tensors, &config) {
                config = config.with_classes(classes);
            }
            (Description::of(&name, config, &metadata).context(path.display())?, tensors, Fit::default())
        }
        (_, _, None) => {
            if let Some(card) = card {
                model_named(&card.name)?;
            }
            return Err(Failure::usage(format!(
                "{} does not say which model it is; name it with --model (a teacher with --teacher-model)",
                path.display()
            )));
        }
        (_, _, Some(Model { name, mut config, fit, own_size, .. })) => {
            let tensors = weights::to_timm(tensors);
            if fit.new_head.is_none()
                && let Some(classes) = weights::classes(&tensors, &config)
            {
                config = config.with_classes(classes);
            }
            if let (NetworkConfig::Vit(vit), Some(epsilon)) = (&mut config, epsilon) {
                vit.layer_norm_eps = epsilon;
            }
            let side = weights::image_size(&tensors, &config).filter(|side| own_size && *side != config.image_size());
            if let Some(side) = side.filter(|_| view.input_size.is_none()) {
                let own = config.image_size();
                notes.push(format!(
                    "its positions are of pictures of {side} pixels, its name's of {own}; it runs at {side} (--input-size \
                     {own} resamples them)"
                ));
                config = config.with_image_size(side);
            }
            (Description::of(&name, config, &metadata).context(path.display())?, tensors, fit)
        }
    };
    if let Some(Card { class_names, preprocess, normalisation, .. }) = card {
        let fits = |names: &Vec<String>| names.len() == description.config.classes();
        description.class_names = class_names.filter(fits).unwrap_or(description.class_names);
        description.preprocess = preprocess.unwrap_or(description.preprocess);
        description.normalisation = normalisation.unwrap_or(description.normalisation);
    }
    view.apply(&mut description)?;
    let fitted = description.fitted(tensors, &fit, device).context(path.display())?;
    notes.extend(fitted.notes);
    for note in notes {
        eprintln!("note     {}: {note}", path.display());
    }
    let Description { name, config, class_names, normalisation, preprocess, reading, readout } = description;
    let decoding = Decoding { reading, allow_truncated: view.allow_truncated };
    let (model, seed) = (fitted.network, 0);
    Ok(LoadedNetwork { model, config, class_names, normalisation, preprocess, decoding, readout, name, path, seed })
}

impl View {
    /// Changes what it has a value for.
    fn apply(&self, description: &mut Description) -> Result<()> {
        if let Some(side) = self.input_size {
            let config = description.config.clone().with_image_size(side);
            config.validate().map_err(|error| Failure::usage(format!("--input-size {side}: {error}")))?;
            description.config = config;
        }
        let preprocess = &mut description.preprocess;
        preprocess.resize = self.resize.unwrap_or(preprocess.resize);
        preprocess.crop_fraction = self.crop_ratio.unwrap_or(preprocess.crop_fraction);
        preprocess.interpolation = self.interpolation.unwrap_or(preprocess.interpolation);
        preprocess.check().map_err(Failure::usage)?;
        let channels = description.config.channels();
        let Normalisation { mean, std } = &mut description.normalisation;
        for (name, own, given) in [("--mean", mean, &self.mean), ("--std", std, &self.std)] {
            match given.as_slice() {
                [] => {}
                &[all] => *own = vec![all; channels],
                given if given.len() == channels => *own = given.to_vec(),
                given => {
                    let count = given.len();
                    return Err(Failure::usage(format!("{name} has {count} numbers for {channels} channels")));
                }
            }
        }
        description.reading = self.reading.unwrap_or(description.reading);
        Ok(())
    }
}

impl LoadedNetwork {
    /// How pictures come to it, in words.
    pub fn pictures(&self) -> String {
        let (side, Preprocess { resize, crop_fraction, interpolation }) = (self.config.image_size(), self.preprocess);
        let whole = ((side as f64 / crop_fraction) as usize).max(side);
        let filter = match interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        };
        let how = match resize {
            Resize::Shortest if whole == side => format!("shortest side resized to {side}, {filter}"),
            Resize::Shortest => format!("shortest side resized to {whole}, {filter}"),
            Resize::Squash => format!("both sides resized to {whole}, {filter}"),
            Resize::Ink => "signs made as MNIST's".to_owned(),
        };
        let numbers = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
        let Normalisation { mean, std } = &self.normalisation;
        let reading = self.decoding.reading.name();
        format!("{side} x {side} ({how}; mean {}, deviation {}; {reading})", numbers(mean), numbers(std))
    }
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
            own_size: false,
        };
        let device = Device::flex();
        let load = |name: &str, new_head| {
            load_file(&path, Some(reduced(name, new_head)), &View::default(), &device).expect("loads")
        };
        let found = load("deit_tiny_patch16_224", None);
        // The file's five classes, and what DeiT's weights expect of an image.
        assert_eq!((found.config.classes(), found.class_names.len()), (5, 5));
        assert_eq!(found.normalisation, Normalisation::imagenet());
        assert_eq!(load("vit_tiny_patch16_224", None).normalisation, Normalisation::half());
        assert_eq!(load("vit_tiny_patch16_224", Some(0)).config.classes(), 1000);
        let failure = load_file(&path, None, &View::default(), &device).err().expect("it does not say what it is");
        assert!(failure.code() == 2 && failure.to_string().contains("--model"), "{failure}");
        let (_, notes) =
            load_start(&path, &found.config.with_classes(7), Resampling::default(), 1, &device).expect("starts");
        // Where the network was, and that its head is new.
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
