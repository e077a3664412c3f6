//! From samples to the numbers that a model takes.
//!
//! The last step before the device, and the one place where pixels change layout, from channel-last bytes to
//! channel-first floats. A sample's floats depend on (seed, epoch, index) and not on its batch.

use super::preprocess::with_channels;
use super::{Augment, Dataset, Error, ImageShape, Picture, Preprocess, Purpose, Rng};

/// Mean and standard deviation a channel, of pixels from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    /// One a channel.
    pub mean: Vec<f32>,
    /// One a channel, above 0.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// Of the MNIST training set; also used for the embedded digits, which imitate it.
    pub fn mnist() -> Self {
        Self { mean: vec![0.1307], std: vec![0.3081] }
    }

    /// Of ImageNet's training set, as all of the field rounds it.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Of CIFAR-10's training set.
    pub fn cifar10() -> Self {
        Self { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2470, 0.2435, 0.2616] }
    }

    /// To -1 to 1, as the AugReg vision transformers take colours.
    pub fn half() -> Self {
        Self { mean: vec![0.5; 3], std: vec![0.5; 3] }
    }

    /// For each channel the factor and the summand that make values normalised by `self` values normalised by `other`:
    /// `x * std / std' + (mean - mean') / std'`. A teacher sees a student's pixels so.
    ///
    /// # Errors
    /// If either does not fit the other's channels, or cannot be used.
    pub fn to(&self, other: &Self) -> Result<Vec<(f32, f32)>, Error> {
        self.check(other.mean.len())?;
        other.check(self.mean.len())?;
        let pairs = self.mean.iter().zip(&self.std).zip(other.mean.iter().zip(&other.std));
        Ok(pairs.map(|((mean, std), (to_mean, to_std))| (std / to_std, (mean - to_mean) / to_std)).collect())
    }

    /// Keeps pixels from 0 to 1.
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// Checks that there is one usable mean and deviation a channel.
    fn check(&self, channels: usize) -> Result<(), Error> {
        if self.mean.len() != channels || self.std.len() != channels {
            return Err(Error::Channels { means: self.mean.len(), stds: self.std.len(), channels });
        }
        for (channel, (&mean, &std)) in self.mean.iter().zip(&self.std).enumerate() {
            if !mean.is_finite() || !std.is_finite() || std <= 0.0 {
                return Err(Error::Deviation { channel, mean, std });
            }
        }
        Ok(())
    }
}

/// How samples become a network's inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    /// The network's input.
    pub shape: ImageShape,
    /// How an image of another size is brought to it.
    pub preprocess: Preprocess,
    /// How training images are varied; held-out ones never are.
    pub augment: Augment,
    /// What pixels are normalised by: one mean and deviation a channel of the network.
    pub normalisation: Normalisation,
}

impl Transform {
    /// For images that have the network's size already, without augmentation.
    pub fn plain(shape: ImageShape, normalisation: Normalisation) -> Self {
        Self { shape, preprocess: Preprocess::default(), augment: Augment::none(), normalisation }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// If the normalisation does not fit the channels, or a setting is out of range.
    pub fn check(&self) -> Result<(), Error> {
        let ImageShape { channels, height, width } = self.shape;
        if height == 0 || width == 0 {
            return Err(Error::Shape { shape: self.shape });
        }
        if channels != 1 && channels != 3 {
            return Err(Error::Colours { found: 3, wanted: channels });
        }
        self.normalisation.check(channels)?;
        self.preprocess.check()?;
        self.augment.check()
    }

    /// Reads one sample: writes `(C, H, W)` normalised floats to `out`.
    ///
    /// With `draw` it is augmented, by (seed, epoch, visit) alone.
    ///
    /// # Errors
    /// If the sample cannot be read.
    ///
    /// # Panics
    /// If the index is beyond the data set, `out` is not [`ImageShape::bytes`] long, or the settings did not pass
    /// [`check`](Self::check).
    pub fn sample(
        &self,
        dataset: &dyn Dataset,
        visit: Visit,
        draw: Option<Draw>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let ImageShape { channels, height, width } = self.shape;
        let picture = with_channels(dataset.image(visit.index as usize)?, channels)?;
        let mut pixels = vec![0.0; self.shape.bytes()];
        let mut rng = draw.map(|draw| draw.rng(visit));
        match &mut rng {
            Some(rng) if !self.augment.is_none() => self.augment.apply(picture, self, rng, &mut pixels),
            _ => {
                let picture = self.preprocess.apply(picture, height, width);
                pixels.iter_mut().zip(picture.pixels.iter()).for_each(|(out, &pixel)| *out = f32::from(pixel) / 255.0);
            }
        }
        self.normalise(&pixels, out);
        if let (Some(rng), Some(erase)) = (&mut rng, &self.augment.erase) {
            erase.apply(out, self.shape, rng);
        }
        Ok(())
    }

    /// A picture as the network sees it, `(H, W, C)` bytes of its [`shape`](Self::shape): the pixels of a held-out sample.
    ///
    /// # Errors
    /// If its channels can be neither kept nor converted, or a setting is out of range.
    pub fn prepare<'a>(&self, picture: Picture<'a>) -> Result<Picture<'a>, Error> {
        self.check()?;
        let ImageShape { channels, height, width } = self.shape;
        Ok(self.preprocess.apply(with_channels(picture, channels)?, height, width))
    }

    /// The numbers of a prepared picture, `(C, H, W)`, as those of a held-out sample.
    pub fn numbers(&self, prepared: &Picture<'_>) -> Vec<f32> {
        let pixels: Vec<f32> = prepared.pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
        let mut out = vec![0.0; self.shape.bytes()];
        self.normalise(&pixels, &mut out);
        out
    }

    // (H, W, C) pixels from 0 to 1 to normalised (C, H, W).
    fn normalise(&self, pixels: &[f32], out: &mut [f32]) {
        let ImageShape { channels, height, width } = self.shape;
        let means = self.normalisation.mean.iter().zip(&self.normalisation.std);
        for ((channel, (mean, std)), plane) in means.enumerate().zip(out.chunks_exact_mut(height * width)) {
            let values = pixels.iter().skip(channel).step_by(channels);
            plane.iter_mut().zip(values).for_each(|(out, value)| *out = (value - mean) / std);
        }
    }
}

/// One look at a sample in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// The sample's index in the data set.
    pub index: u64,
    /// Which of the epoch's looks at it, from 0: each is augmented in its own way.
    pub repeat: u32,
}

/// What an epoch's random numbers follow from, beside the visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0; below 2^32.
    pub epoch: u64,
}

impl Draw {
    fn rng(self, visit: Visit) -> Rng {
        Rng::new(self.seed, self.epoch | u64::from(visit.repeat) << 32, visit.index, Purpose::Augment)
    }
}

/// Some samples, ready for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `(B, C, H, W)`, normalised.
    pub images: Vec<f32>,
    /// The shape of each image.
    pub shape: ImageShape,
    /// `(B)`.
    pub labels: Vec<u32>,
    /// `(B)`: each sample's index in the data set.
    pub indices: Vec<u64>,
    /// `(B, classes)`: a distribution over the classes for each sample, 1 at its label until samples are mixed. Never
    /// smoothed: smoothing is the objective's. All 0 of a sample whose label is not known.
    pub targets: Vec<f32>,
    /// `(B)`: how much of each sample's label is known, 1 or 0, or between where samples are mixed. `None` where all labels are
    /// known.
    pub known: Option<Vec<f32>>,
    /// How many classes there are.
    pub classes: usize,
}

impl Batch {
    /// A batch of black images for the visits, each of which [`Transform::sample`] then reads to its own part of
    /// `images`: no sample depends on another, so several threads may share the work.
    ///
    /// # Errors
    /// If an index is beyond the data set, or a setting is out of range.
    pub fn blank(dataset: &dyn Dataset, visits: &[Visit], transform: &Transform) -> Result<Self, Error> {
        transform.check()?;
        let len = dataset.len() as u64;
        if let Some(visit) = visits.iter().find(|visit| visit.index >= len) {
            return Err(Error::Index { name: dataset.name().to_string(), index: visit.index, len });
        }
        let classes = dataset.classes();
        let labels: Vec<u32> = visits.iter().map(|visit| dataset.label(visit.index as usize)).collect();
        let told: Vec<Option<u32>> = visits.iter().map(|visit| dataset.known_label(visit.index as usize)).collect();
        let mut targets = vec![0.0; labels.len() * classes];
        for (target, label) in targets.chunks_exact_mut(classes).zip(&told) {
            if let Some(label) = label {
                target[*label as usize] = 1.0;
            }
        }
        let known = told.contains(&None).then(|| told.iter().map(|label| f32::from(label.is_some())).collect());
        Ok(Self {
            images: vec![0.0; visits.len() * transform.shape.bytes()],
            shape: transform.shape,
            labels,
            indices: visits.iter().map(|visit| visit.index).collect(),
            targets,
            known,
            classes,
        })
    }
}

/// Reads the samples with the given indices, in that order, without augmentation.
///
/// # Errors
/// If an index is beyond the data set, a sample cannot be read, or a setting is out of range.
pub fn assemble(dataset: &dyn Dataset, indices: &[u64], transform: &Transform) -> Result<Batch, Error> {
    let visits: Vec<Visit> = indices.iter().map(|&index| Visit { index, repeat: 0 }).collect();
    assemble_visits(dataset, &visits, transform, None)
}

/// The same for visits of an epoch, augmented where there is a `draw`.
///
/// # Errors
/// As [`assemble`].
pub fn assemble_visits(
    dataset: &dyn Dataset,
    visits: &[Visit],
    transform: &Transform,
    draw: Option<Draw>,
) -> Result<Batch, Error> {
    let mut batch = Batch::blank(dataset, visits, transform)?;
    for (&visit, out) in visits.iter().zip(batch.images.chunks_exact_mut(transform.shape.bytes())) {
        transform.sample(dataset, visit, draw, out)?;
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::super::{Digits, Distortion, Images, Split};
    use super::*;

    fn colours() -> Images {
        let shape = ImageShape { channels: 3, height: 1, width: 2 };
        let names = vec!["a".to_string(), "b".to_string()];
        let pixels = vec![0, 51, 102, 153, 204, 255, 255, 204, 153, 102, 51, 0];
        Images::new("colours", shape, names, pixels, vec![1, 0]).unwrap()
    }

    fn plain(normalisation: Normalisation) -> Transform {
        Transform::plain(ImageShape { channels: 3, height: 1, width: 2 }, normalisation)
    }

    #[test]
    fn lays_channels_out_and_normalises() {
        let normalisation = Normalisation { mean: vec![0.0, 0.2, 0.5], std: vec![1.0, 0.5, 0.25] };
        let batch = assemble(&colours(), &[1, 0], &plain(normalisation)).unwrap();
        assert_eq!((batch.labels, batch.indices), (vec![0, 1], vec![1, 0]));
        let expected = [1.0, 0.4, 1.2, 0.0, 0.4, -2.0, 0.0, 0.6, 0.0, 1.2, -0.4, 2.0];
        assert_eq!(batch.images.len(), expected.len());
        for (found, expected) in batch.images.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_sample_depends_on_its_key_and_not_on_its_batch() {
        let set = Digits::new(Split::Train, 20);
        let mut transform = Transform::plain(set.shape().unwrap(), Normalisation::mnist());
        transform.augment.distortion = Some(Distortion::handwriting());
        let read = |visits: &[(u64, u32)], seed, epoch| {
            let visits: Vec<Visit> = visits.iter().map(|&(index, repeat)| Visit { index, repeat }).collect();
            assemble_visits(&set, &visits, &transform, Some(Draw { seed, epoch })).unwrap().images
        };
        let one = read(&[(17, 0)], 9, 4);
        assert_eq!(read(&[(3, 0), (17, 0)], 9, 4)[784..], one);
        for other in [read(&[(17, 0)], 9, 5), read(&[(17, 0)], 8, 4), read(&[(17, 1)], 9, 4)] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn a_teacher_gets_its_own_normalisation() {
        let (from, to) = (Normalisation::half(), Normalisation::imagenet());
        for (channel, (factor, summand)) in from.to(&to).unwrap().into_iter().enumerate() {
            let pixel = 0.3;
            let (mine, theirs) = ((pixel - 0.5) / 0.5, (pixel - to.mean[channel]) / to.std[channel]);
            assert!((mine * factor + summand - theirs).abs() < 1e-6);
        }
        assert!(from.to(&Normalisation::mnist()).is_err());
    }

    #[test]
    fn refuses_what_cannot_be() {
        let set = colours();
        let fails = |indices: &[u64], normalisation| assemble(&set, indices, &plain(normalisation)).unwrap_err();
        let error = fails(&[2], Normalisation::identity(3));
        assert_eq!(error, Error::Index { name: "colours".into(), index: 2, len: 2 });
        assert_eq!(fails(&[0], Normalisation::mnist()), Error::Channels { means: 1, stds: 1, channels: 3 });
        let flat = Normalisation { mean: vec![0.0; 3], std: vec![1.0, 0.0, 1.0] };
        assert_eq!(fails(&[0], flat), Error::Deviation { channel: 1, mean: 0.0, std: 0.0 });
        let four = Transform::plain(ImageShape { channels: 4, height: 1, width: 1 }, Normalisation::identity(4));
        assert_eq!(assemble(&set, &[0], &four).unwrap_err(), Error::Colours { found: 3, wanted: 4 });
    }
}
