//! `[data]`: which samples, and what happens to them on their way to the networks.

use std::path::PathBuf;

use potstill_core::data::{
    Augment, Decoding, Distortion, ImageShape, Mix, Normalisation, Preprocess, Reading, Transform,
};
use serde::{Deserialize, Serialize};

use crate::dataset::{self, Split};
use crate::error::{Failure, Result};

/// The data of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// One of [`crate::dataset::SETS`].
    pub dataset: String,
    /// Where its files are, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// How many training samples are used; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_samples: Option<usize>,
    /// How many of them keep their label for the student, drawn evenly over the classes; all if absent. The others are shown
    /// to the teacher alone, which itself learns from all labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
    /// A folder of images without classes, at any depth: they join the student's samples, and are shown to the teacher alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<PathBuf>,
    /// Classes, by name or by number from 0, whose samples are left out of the student's training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<Class>,
    /// The share of all images that each class has, in the order of the classes: how often `correct_bias` makes a left-out class
    /// predicted. Absent, every class has as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Vec<f64>>,
    /// The share of the student's labels that is replaced, each by another class.
    #[serde(default, skip_serializing_if = "is_none")]
    pub label_noise: f64,
    /// The share of the training samples, drawn evenly over the classes, that no network learns from: every network is measured
    /// on them after each epoch in place of the held-out samples, and they may choose.
    #[serde(default, skip_serializing_if = "is_none")]
    pub validation: f64,
    /// The seed that draws them; absent, the run's. Runs of several seeds that share a teacher share this too, so that the
    /// teacher has learnt from none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_seed: Option<u64>,
    /// How many held-out samples are measured on, spread over the set and its classes; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_samples: Option<usize>,
    /// What is held out: `val` or `test`; absent, what [`Split::HeldOut`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Split>,
    /// How small drawn signs are drawn anew in training.
    #[serde(default)]
    pub augment: Augmentation,
    /// What else happens to training images.
    #[serde(default, skip_serializing_if = "Augment::is_none")]
    pub transform: Augment,
    /// How samples of a batch are mixed.
    #[serde(default, skip_serializing_if = "Mix::is_none")]
    pub mix: Mix,
    /// How often an epoch visits a sample that it visits (repeated augmentation; DeiT's 3).
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub repeats: u32,
    /// How an image of another size is brought to the network's; absent, as the student's published weights expect, else
    /// the whole centred square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// What becomes of a camera's note of rotation and of transparency.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub reading: Reading,
    /// Whether picture files that end early are read as far as they go.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_truncated: bool,
    /// What pixels are normalised by; absent, as the student's published weights expect, else by the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Statistics>,
    /// Threads that read images; 0 takes as many as there are cores.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub workers: usize,
}

fn once() -> u32 {
    1
}

fn is_once(repeats: &u32) -> bool {
    *repeats == 1
}

fn is_none(share: &f64) -> bool {
    *share == 0.0
}

fn is_usual(reading: &Reading) -> bool {
    *reading == Reading::default()
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(workers: &usize) -> bool {
    *workers == 0
}

/// What a teacher that is trained learns from, where it is not every sample of the data set that the recipe names, each with its
/// label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherData {
    /// How many training samples it learns from; as many as [`DataRecipe::train_samples`] says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_samples: Option<usize>,
    /// How many of them have a label, drawn as the student's are; it learns from these alone. All if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
    /// Classes whose samples are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<Class>,
    /// The share of its labels that is replaced, as the student's are.
    #[serde(default, skip_serializing_if = "is_none")]
    pub label_noise: f64,
}

impl TeacherData {
    /// Checks every setting.
    ///
    /// # Errors
    /// Exit code 2 with the key that is out of range.
    pub fn validate(&self) -> Result<()> {
        sample_count("teacher.data.train_samples", self.train_samples)?;
        check_noise("teacher.data", self.label_noise)?;
        match self.labels {
            Some(0) => Err(Failure::usage(
                "teacher.data.labels is 0, and a teacher learns from labels alone; keep some, or give a trained one with \
                 --teacher",
            )),
            _ => Ok(()),
        }
    }
}

/// Checks a number of samples.
///
/// # Errors
/// Exit code 2 with its key.
pub fn sample_count(key: &str, samples: Option<usize>) -> Result<()> {
    match samples.filter(|samples| !(1..=1_000_000_000).contains(samples)) {
        Some(samples) => Err(Failure::usage(format!("{key} is {samples}; it must be between 1 and 1000000000"))),
        None => Ok(()),
    }
}

fn check_noise(key: &str, share: f64) -> Result<()> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(()),
        false => Err(Failure::usage(format!("{key}.label_noise is {share}; it must be between 0 and 1"))),
    }
}

/// A class of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Class {
    /// By its number, from 0.
    Number(u32),
    /// By its name.
    Name(String),
}

impl Class {
    /// Its number among the classes of these names; `key` names the section that says it.
    ///
    /// # Errors
    /// Exit code 2 if there is no such class.
    pub fn among(&self, names: &[String], key: &str) -> Result<u32> {
        let found = match self {
            Self::Name(name) => names.iter().position(|known| known == name),
            Self::Number(number) => Some(*number as usize).filter(|number| *number < names.len()),
        };
        found.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
            let (shown, more) = (names.len().min(10), if names.len() > 10 { ", ..." } else { "" });
            let class = match self {
                Self::Name(name) => name.clone(),
                Self::Number(number) => number.to_string(),
            };
            Failure::usage(format!(
                "{key}.omit names the class {class}, which is not among the {} there are: {}{more}",
                names.len(),
                names[..shown].join(", ")
            ))
        })
    }
}

/// Mean and deviation of pixels: published ones by name, or one of each a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Statistics {
    /// A name.
    Named(Published),
    /// Numbers.
    Own {
        /// Of pixels from 0 to 1.
        mean: Vec<f32>,
        /// Above 0.
        std: Vec<f32>,
    },
}

/// Published statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Published {
    /// ImageNet's.
    Imagenet,
    /// 0.5 and 0.5.
    Half,
    /// CIFAR-10's.
    Cifar10,
    /// MNIST's, of one channel.
    Mnist,
    /// 0 and 1: pixels as they are.
    None,
}

impl Statistics {
    fn of(&self, channels: usize) -> Normalisation {
        let found = match self {
            Self::Own { mean, std } if mean.len() == std.len() && !mean.is_empty() => {
                Normalisation { mean: mean.clone(), std: std.clone() }
            }
            Self::Own { mean, std } => return Normalisation { mean: mean.clone(), std: std.clone() },
            Self::Named(Published::Imagenet) => Normalisation::imagenet(),
            Self::Named(Published::Half) => Normalisation::half(),
            Self::Named(Published::Cifar10) => Normalisation::cifar10(),
            Self::Named(Published::Mnist) => Normalisation::mnist(),
            Self::Named(Published::None) => Normalisation::identity(channels),
        };
        spread(found, channels)
    }
}

// Statistics for as many channels as there are.
fn spread(found: Normalisation, channels: usize) -> Normalisation {
    match found.mean.len() {
        // The mean of the three stands for grey, and grey for each of the three.
        3 if channels == 1 => {
            let mean = |values: &[f32]| vec![values.iter().sum::<f32>() / 3.0];
            Normalisation { mean: mean(&found.mean), std: mean(&found.std) }
        }
        1 => Normalisation { mean: vec![found.mean[0]; channels], std: vec![found.std[0]; channels] },
        _ => found,
    }
}

impl DataRecipe {
    /// Whether the data set may be a folder of images, a folder a class.
    pub fn takes_folders(&self) -> bool {
        dataset::find(&self.dataset).is_ok_and(|set| set.takes_folders)
    }

    /// Takes up the folder `unlabelled` that lies beside a folder of images' `train`, where no other is named.
    pub fn find_unlabelled(&mut self) {
        if self.unlabelled.is_none() {
            let found = dataset::find_unlabelled(&self.dataset, self.data_dir.as_deref());
            self.unlabelled = found.map(|found| std::path::absolute(&found).unwrap_or(found));
        }
    }

    /// What is held out.
    pub fn held_out(&self) -> Split {
        self.held_out.unwrap_or(Split::HeldOut)
    }

    /// How picture files are read.
    pub fn decoding(&self) -> Decoding {
        Decoding { reading: self.reading, allow_truncated: self.allow_truncated }
    }

    /// How samples become the inputs of a network by the name of `model`, of the given channels; its size is filled in by
    /// whoever knows it.
    pub fn transform(&self, model: &str, channels: usize) -> Transform {
        let published = Preprocess::of_model(model).filter(|_| channels == 3);
        let usual = dataset::find(&self.dataset).map_or(Normalisation::imagenet(), |set| (set.normalisation)());
        let normalisation = match (&self.normalisation, &published) {
            (Some(statistics), _) => statistics.of(channels),
            (None, Some((_, normalisation))) => normalisation.clone(),
            (None, None) => spread(usual, channels),
        };
        let ink = channels == 1 && dataset::find(&self.dataset).is_ok_and(|set| set.ink);
        let usual = if ink { Preprocess::ink() } else { Preprocess::default() };
        let preprocess = self.preprocess.or(published.map(|(preprocess, _)| preprocess)).unwrap_or(usual);
        let augment = Augment { distortion: self.augment.distortion(), ..self.transform.clone() };
        Transform { shape: ImageShape { channels, height: 1, width: 1 }, preprocess, augment, normalisation }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Exit code 2 with the key that is out of range.
    pub fn validate(&self) -> Result<()> {
        check_noise("data", self.label_noise)?;
        if self.label_noise > 0.0 && self.labels == Some(0) {
            return Err(Failure::usage(
                "data.label_noise replaces labels, and data.labels = 0 keeps none; keep some, or leave out the noise",
            ));
        }
        if let Some(shares) = &self.shares {
            let sum: f64 = shares.iter().sum();
            if !shares.iter().all(|share| *share > 0.0) || (sum - 1.0).abs() > 1e-6 {
                return Err(Failure::usage(format!("data.shares sum to {sum}; each must be above 0, and their sum 1")));
            }
        }
        if !(0.0..1.0).contains(&self.validation) {
            let share = self.validation;
            return Err(Failure::usage(format!("data.validation is {share}; it must be at least 0 and below 1")));
        }
        let fail = |error| Failure::usage(format!("data: {error}"));
        self.transform.check().map_err(fail)?;
        self.mix.check().map_err(fail)?;
        if let Some(preprocess) = &self.preprocess {
            preprocess.check().map_err(fail)?;
        }
        match self {
            Self { repeats, .. } if !(1..=64).contains(repeats) => {
                Err(Failure::usage(format!("data.repeats is {repeats}; it must be between 1 and 64")))
            }
            Self { workers, .. } if *workers > 1024 => {
                Err(Failure::usage(format!("data.workers is {workers}; it must be at most 1024")))
            }
            _ => Ok(()),
        }
    }
}

/// Named augmentations of small grey images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// The images as they are.
    #[default]
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

#[cfg(test)]
mod tests {
    use potstill_core::data::{ColorJitter, Crop, Interpolation, RandomErasing, Resize};

    use super::*;

    #[test]
    fn a_full_table_survives_the_run_folder() {
        let text = r#"
            dataset = "CIFAR-10"
            held_out = "test"
            repeats = 3
            normalisation = "imagenet"
            [transform]
            flip = 0.5
            auto_augment = "rand-m9-mstd0.5-inc1"
            crop = { kind = "random-resized", scale = [0.8, 1.0], interpolation = "bilinear" }
            color_jitter = { brightness = 0.1, contrast = 0.1 }
            erase = { probability = 0.25, mode = "constant" }
            [mix]
            mixup = 0.8
            cutmix = 1.0
            [preprocess]
            resize = "squash"
            interpolation = "bilinear"
        "#;
        let recipe: DataRecipe = toml::from_str(text).expect("valid");
        recipe.validate().expect("in range");
        assert_eq!(
            toml::from_str::<DataRecipe>(&toml::to_string(&recipe).expect("serialises")).expect("reads"),
            recipe
        );
        let transform = recipe.transform("deit_tiny_patch16_224", 3);
        assert_eq!(transform.normalisation, Normalisation::imagenet());
        assert_eq!((transform.preprocess.resize, transform.preprocess.crop_fraction), (Resize::Squash, 1.0));
        let augment = transform.augment;
        let ratio = (3.0 / 4.0, 4.0 / 3.0);
        let crop = Crop::RandomResized { scale: (0.8, 1.0), ratio, interpolation: Interpolation::Bilinear };
        assert_eq!((augment.crop, augment.flip), (crop, 0.5));
        assert_eq!(augment.color_jitter, Some(ColorJitter { brightness: 0.1, contrast: 0.1, saturation: 0.0 }));
        assert_eq!(augment.erase.map(|erase| erase.area), Some(RandomErasing::default().area));
    }

    #[test]
    fn preprocessing_is_the_checkpoints_unless_the_recipe_says() {
        let recipe: DataRecipe = toml::from_str("dataset = 'ImageNet'").expect("valid");
        let half = recipe.transform("vit_tiny_patch16_224", 3);
        assert_eq!((half.normalisation, half.preprocess.crop_fraction), (Normalisation::half(), 0.9));
        let deit = recipe.transform("deit_tiny_distilled_patch16_224", 3);
        assert_eq!((deit.normalisation, deit.preprocess.crop_fraction), (Normalisation::imagenet(), 0.875));
        assert_eq!(recipe.transform("own", 3).normalisation, Normalisation::imagenet());
        assert_eq!(recipe.transform("own", 1).normalisation.mean.len(), 1);
        let own: DataRecipe =
            toml::from_str("dataset = 'folder'\nnormalisation = { mean = [0.1], std = [0.2] }").expect("valid");
        assert_eq!(own.transform("vit_tiny_patch16_224", 3).normalisation.mean, [0.1; 3]);
    }

    #[test]
    fn odd_settings_are_refused() {
        for (text, word) in [
            ("repeats = 0", "repeats"),
            ("workers = 2000", "workers"),
            ("validation = -0.1", "data.validation is -0.1; it must be at least 0 and below 1"),
            ("validation = 1.0", "data.validation is 1"),
            ("validation = nan", "data.validation"),
            ("transform = { flip = 2.0 }", "flip"),
            ("mix = { mixup = -1.0 }", "mixup"),
            ("preprocess = { crop_fraction = 0.0 }", "crop_fraction"),
        ] {
            let recipe: DataRecipe = toml::from_str(&format!("dataset = 'digits'\n{text}")).expect("well formed");
            let failure = recipe.validate().expect_err(text);
            assert!(failure.to_string().contains(word) && failure.code() == 2, "{failure}");
        }
        for text in ["transform = { flp = 0.5 }", "transform = { auto_augment = 'nonesuch' }", "held_out = 'x'"] {
            assert!(toml::from_str::<DataRecipe>(&format!("dataset = 'digits'\n{text}")).is_err(), "{text}");
        }
    }
}
