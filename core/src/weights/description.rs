//! The description in a weights file: everything that is needed to build the network, prepare its images and name its classes.
//!
//! The command, the page and other programs need the same six things besides the tensors. They are in the string map of the
//! file's header. A file may also contain the state of a training, in tensors whose names begin with [`STATE_PREFIX`]. These are
//! not part of the network, and are left out when it is built.

use burn::tensor::Device;

use super::{Fit, FitError, Fitted, Metadata, NamedTensor, fit};
use serde::{Deserialize, Serialize};

use crate::data::{Normalisation, Preprocess, Reading, Resize};
use crate::method::Readout;
use crate::model::{ConfigError, Network, NetworkConfig};

/// The prefix of the names of tensors that are the state of a training and not part of the network.
pub const STATE_PREFIX: &str = "potstill.";

const NAME: &str = "potstill.name";
const MODEL: &str = "potstill.model";
const CLASSES: &str = "potstill.classes";
const NORMALISATION: &str = "potstill.normalisation";
const PREPROCESS: &str = "potstill.preprocess";
const READING: &str = "potstill.reading";
const READOUT: &str = "potstill.readout";
const MEASURED: &str = "potstill.measured";

/// The description of a network in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The model's name.
    pub name: String,
    /// Its configuration.
    pub config: NetworkConfig,
    /// The classes' names in the order of the logits.
    pub class_names: Vec<String>,
    /// The normalisation of its images.
    pub normalisation: Normalisation,
    /// How an image of another size is resized for it.
    pub preprocess: Preprocess,
    /// How picture files are read for it.
    pub reading: Reading,
    /// How its heads make one prediction. A file that does not say this is read like DeiT's own files, with both heads.
    pub readout: Readout,
}

/// The accuracy of the network when the file was written, for programs that cannot measure it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The data set whose held-out samples were used.
    pub dataset: String,
    /// The number of these samples.
    pub samples: u64,
    /// The fraction that was classified correctly.
    pub accuracy: f64,
}

impl Measured {
    /// Adds it to the string map of a header.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.insert(MEASURED.to_owned(), serde_json::to_string(self).expect("plain JSON"));
    }

    /// Reads it from `metadata`. `None` if it is not there or cannot be understood.
    pub fn read(metadata: &Metadata) -> Option<Self> {
        serde_json::from_str(metadata.get(MEASURED)?).ok()
    }
}

/// Why a network cannot be built from a file's description and tensors.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// The configuration is not JSON, or not the configuration of a known network.
    #[error("its entry {MODEL} cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A number in the configuration is not accepted.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The normalisation has more or fewer channels than the network.
    #[error("it is normalised for {found} channels, and the network has {channels}")]
    Channels {
        /// The number of means or deviations.
        found: usize,
        /// The network's channels.
        channels: usize,
    },
    /// The tensors do not fit.
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl Description {
    /// The header's string map.
    pub fn metadata(&self) -> Metadata {
        // Only strings and numbers in maps with string keys, which JSON can always represent.
        let json = |value: serde_json::Result<String>| value.expect("a description is plain JSON");
        let Self { name, config, class_names, normalisation, preprocess, reading, readout } = self;
        Metadata::from([
            (NAME.to_owned(), name.clone()),
            (MODEL.to_owned(), json(serde_json::to_string(config))),
            (CLASSES.to_owned(), json(serde_json::to_string(class_names))),
            (NORMALISATION.to_owned(), json(serde_json::to_string(&(&normalisation.mean, &normalisation.std)))),
            (PREPROCESS.to_owned(), json(serde_json::to_string(preprocess))),
            (READING.to_owned(), reading.name().to_owned()),
            (READOUT.to_owned(), readout.name().to_owned()),
        ])
    }

    /// Reads the description from `metadata`. `None` if it does not name the network.
    ///
    /// # Errors
    /// [`DescriptionError::Json`] and [`DescriptionError::Config`].
    pub fn read(metadata: &Metadata) -> Result<Option<Self>, DescriptionError> {
        let Some(json) = metadata.get(MODEL) else { return Ok(None) };
        Self::of("unnamed", serde_json::from_str(json)?, metadata).map(Some)
    }

    /// The description of the model `name` with configuration `config`, and with everything else from `metadata`. Classes without
    /// names are numbered. What is missing is taken from the weights that are published under the name. Otherwise images are
    /// normalised like MNIST's or ImageNet's.
    ///
    /// # Errors
    /// [`DescriptionError::Config`], before anything of the configuration's size is allocated.
    pub fn of(name: &str, config: NetworkConfig, metadata: &Metadata) -> Result<Self, DescriptionError> {
        config.validate()?;
        let said = |key: &str| metadata.get(key).map(String::as_str);
        let published = Preprocess::of_model(name).filter(|(_, norm)| norm.mean.len() == config.channels());
        let (published, normalisation) = published.unwrap_or_else(|| {
            let normalisation = match config.channels() {
                1 => Normalisation::mnist(),
                3 => Normalisation::imagenet(),
                channels => Normalisation::identity(channels),
            };
            (Preprocess::default(), normalisation)
        });
        let classes = config.classes();
        let class_names = match said(CLASSES).and_then(|json| serde_json::from_str::<Vec<String>>(json).ok()) {
            Some(names) if names.len() == classes => names,
            _ => (0..classes).map(|class| class.to_string()).collect(),
        };
        let normalisation = match said(NORMALISATION).and_then(|json| serde_json::from_str(json).ok()) {
            Some((mean, std)) => Normalisation { mean, std },
            None => normalisation,
        };
        let preprocess = said(PREPROCESS).and_then(|json| serde_json::from_str::<Preprocess>(json).ok());
        let mut preprocess = preprocess.filter(|preprocess| preprocess.check().is_ok()).unwrap_or(published);
        let reading = said(READING).and_then(Reading::named);
        // Files of before it was said: networks of MNIST's size for its ten digits had them prepared as MNIST's.
        if reading.is_none() && is_of_digits(&config, &class_names, &normalisation) {
            preprocess.resize = Resize::Ink;
        }
        let readout = said(READOUT).and_then(Readout::named).unwrap_or_default();
        Ok(Self {
            name: said(NAME).unwrap_or(name).to_owned(),
            config,
            class_names,
            normalisation,
            preprocess,
            reading: reading.unwrap_or_default(),
            readout,
        })
    }

    /// Builds the network on `device` from `tensors`, without the state of a training.
    ///
    /// # Errors
    /// [`DescriptionError`]. If the file is much smaller than the network, it is refused before memory for the network is
    /// allocated.
    pub fn network(&self, tensors: Vec<NamedTensor>, device: &Device) -> Result<Network, DescriptionError> {
        Ok(self.fitted(tensors, &Fit::default(), device)?.network)
    }

    /// The same. `how` says which changes to the tensors are allowed to make them fit.
    ///
    /// # Errors
    /// As [`Description::network`].
    pub fn fitted(
        &self,
        mut tensors: Vec<NamedTensor>,
        how: &Fit,
        device: &Device,
    ) -> Result<Fitted, DescriptionError> {
        let channels = self.config.channels();
        for values in [&self.normalisation.mean, &self.normalisation.std] {
            if values.len() != channels {
                return Err(DescriptionError::Channels { found: values.len(), channels });
            }
        }
        tensors.retain(|tensor| !tensor.name.starts_with(STATE_PREFIX));
        Ok(fit(tensors, &self.config, how, device)?)
    }
}

fn is_of_digits(config: &NetworkConfig, class_names: &[String], normalisation: &Normalisation) -> bool {
    let digits = (0..10).map(|digit| digit.to_string());
    (config.channels(), config.image_size()) == (1, 28)
        && *normalisation == Normalisation::mnist()
        && digits.eq(class_names.iter().cloned())
}

#[cfg(test)]
mod tests {
    use burn::cubecl::future::block_on;

    use super::*;
    use crate::model::zoo;
    use crate::weights::read;

    #[test]
    fn a_network_survives_its_description_and_a_training_state_beside_it() {
        let device = Device::flex();
        let config = zoo::named("digits_student").expect("known");
        let class_names = (0..10).map(|class| format!("number {class}")).collect();
        let normalisation = Normalisation { mean: vec![0.25], std: vec![0.5] };
        let preprocess = Preprocess { crop_fraction: 0.875, ..Preprocess::default() };
        let readout = Readout::Distill;
        let reading = Reading::Torchvision;
        let before = Description {
            name: "one".into(),
            config: config.clone(),
            class_names,
            normalisation,
            preprocess,
            reading,
            readout,
        };
        let metadata = before.metadata();
        let after = Description::read(&metadata).expect("readable").expect("described");
        assert_eq!(after, before);
        let tensors = block_on(read(&config.init(3, &device).expect("valid"))).expect("readable");
        let mut state = tensors.clone();
        state.push(NamedTensor {
            name: format!("{STATE_PREFIX}baseline.head.bias"),
            shape: vec![1],
            values: vec![0.0],
        });
        let network = after.network(state, &device).expect("fits");
        assert_eq!(block_on(read(&network)).expect("readable"), tensors);
    }

    #[test]
    fn networks_of_digits_alone_get_ink_from_files_that_say_nothing() {
        let preprocess = |names: [&str; 2], mean: f32, said: bool| {
            let mut config = serde_json::to_value(zoo::named("digits_student").expect("known")).expect("JSON");
            config["classes"] = 10.into();
            let mut classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
            classes[..2].clone_from_slice(&names.map(str::to_owned));
            let mut metadata = Metadata::from([
                (MODEL.to_owned(), config.to_string()),
                (CLASSES.to_owned(), serde_json::to_string(&classes).expect("JSON")),
                (NORMALISATION.to_owned(), format!("[[{mean}],[0.3081]]")),
                (PREPROCESS.to_owned(), r#"{"resize":"shortest"}"#.to_owned()),
            ]);
            if said {
                metadata.insert(READING.to_owned(), "upright".to_owned());
            }
            Description::read(&metadata).expect("readable").expect("described").preprocess.resize
        };
        assert_eq!(preprocess(["0", "1"], 0.1307, false), Resize::Ink);
        assert_eq!(preprocess(["0", "1"], 0.1307, true), Resize::Shortest);
        assert_eq!(preprocess(["cat", "dog"], 0.1307, false), Resize::Shortest);
        assert_eq!(preprocess(["0", "1"], 0.449, false), Resize::Shortest);
    }

    #[test]
    fn what_was_measured_is_read_back() {
        let measured = Measured { dataset: "digits-test".into(), samples: 2_000, accuracy: 0.9805 };
        let mut metadata = Metadata::new();
        assert_eq!(Measured::read(&metadata), None);
        measured.write(&mut metadata);
        assert_eq!(Measured::read(&metadata), Some(measured));
        metadata.insert(MEASURED.to_owned(), "very good".to_owned());
        assert_eq!(Measured::read(&metadata), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_built() {
        let device = Device::flex();
        assert!(Description::read(&Metadata::new()).expect("readable").is_none());
        let metadata = Metadata::from([(MODEL.to_owned(), r#"{"family":"nonesuch"}"#.to_owned())]);
        assert!(matches!(Description::read(&metadata), Err(DescriptionError::Json(_))));
        // The names and normalisations of so many would not fit into memory.
        for field in ["classes", "channels"] {
            let config = format!(r#"{{"family":"vit","{field}":10000000000000}}"#);
            let refused = Description::read(&Metadata::from([(MODEL.to_owned(), config)]));
            assert!(matches!(refused, Err(DescriptionError::Config(_))), "{field}");
        }
        let mut config = serde_json::to_value(zoo::named("digits_student").expect("known")).expect("JSON");
        config["width"] = 4096.into();
        config["depth"] = 12.into();
        let metadata = Metadata::from([(MODEL.to_owned(), config.to_string())]);
        let description = Description::read(&metadata).expect("readable").expect("described");
        assert!(matches!(
            description.network(Vec::new(), &device),
            Err(DescriptionError::Fit(FitError::TooFew { held: 0, .. }))
        ));
    }
}
