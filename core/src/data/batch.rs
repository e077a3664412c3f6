//! From samples to the numbers that a model takes.
//!
//! The last step before the device, and the one place where pixels change layout, from channel-last bytes to
//! channel-first floats. A sample's floats depend on (seed, epoch, index) and not on its batch.

use super::{Augment, Dataset, Error};

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

/// Some samples, ready for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `(B, C, H, W)`, normalised.
    pub images: Vec<f32>,
    /// `(B)`.
    pub labels: Vec<u32>,
    /// `(B)`: each sample's index in the data set.
    pub indices: Vec<u64>,
}

/// Reads, augments and normalises the samples with the given indices, in that order.
///
/// Without `augment` neither `seed` nor `epoch` matters: that is how held-out samples are read.
///
/// # Errors
/// If an index is beyond the data set, the normalisation does not fit its channels, or an augmentation setting is out
/// of range.
pub fn assemble(
    dataset: &dyn Dataset,
    indices: &[u64],
    augment: Option<&Augment>,
    seed: u64,
    epoch: u64,
    normalisation: &Normalisation,
) -> Result<Batch, Error> {
    let (shape, len) = (dataset.shape(), dataset.len() as u64);
    normalisation.check(shape.channels)?;
    let none = Augment::none();
    let augment = augment.unwrap_or(&none);
    augment.check()?;
    if let Some(&index) = indices.iter().find(|&&index| index >= len) {
        return Err(Error::Index { name: dataset.name().to_string(), index, len });
    }
    let plane = shape.height * shape.width;
    let mut batch = Batch {
        images: Vec::with_capacity(indices.len() * shape.bytes()),
        labels: Vec::with_capacity(indices.len()),
        indices: indices.to_vec(),
    };
    let mut bytes = vec![0; shape.bytes()];
    let mut pixels = vec![0.0; shape.bytes()];
    for &index in indices {
        // Below `len`, which is a usize.
        dataset.image(index as usize, &mut bytes);
        augment.apply(&bytes, shape, seed, epoch, index, &mut pixels);
        for (channel, (mean, std)) in normalisation.mean.iter().zip(&normalisation.std).enumerate() {
            let values = pixels.iter().skip(channel).step_by(shape.channels).take(plane);
            batch.images.extend(values.map(|value| (value - mean) / std));
        }
        batch.labels.push(dataset.label(index as usize));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::super::{Digits, ImageShape, Images, Split};
    use super::*;

    fn colours() -> Images {
        let shape = ImageShape { channels: 3, height: 1, width: 2 };
        let names = vec!["a".to_string(), "b".to_string()];
        let pixels = vec![0, 51, 102, 153, 204, 255, 255, 204, 153, 102, 51, 0];
        Images::new("colours", shape, names, pixels, vec![1, 0]).unwrap()
    }

    #[test]
    fn lays_channels_out_and_normalises() {
        let normalisation = Normalisation { mean: vec![0.0, 0.2, 0.5], std: vec![1.0, 0.5, 0.25] };
        let batch = assemble(&colours(), &[1, 0], None, 0, 0, &normalisation).unwrap();
        assert_eq!((batch.labels, batch.indices), (vec![0, 1], vec![1, 0]));
        let expected = [1.0, 0.4, 1.2, 0.0, 0.4, -2.0, 0.0, 0.6, 0.0, 1.2, -0.4, 2.0];
        assert_eq!(batch.images.len(), expected.len());
        for (found, expected) in batch.images.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn a_sample_does_not_depend_on_its_batch() {
        let (set, light) = (Digits::new(Split::Train, 20), Augment::handwriting());
        let norm = Normalisation::mnist();
        let both = assemble(&set, &[3, 17], Some(&light), 9, 4, &norm).unwrap();
        let one = assemble(&set, &[17], Some(&light), 9, 4, &norm).unwrap();
        assert_eq!(both.images[784..], one.images);
        let later = assemble(&set, &[17], Some(&light), 9, 5, &norm).unwrap();
        assert_ne!(later.images, one.images);
        let other = assemble(&set, &[17], Some(&light), 8, 4, &norm).unwrap();
        assert_ne!(other.images, one.images);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let set = colours();
        let error = assemble(&set, &[2], None, 0, 0, &Normalisation::identity(3)).unwrap_err();
        assert_eq!(error, Error::Index { name: "colours".into(), index: 2, len: 2 });
        let error = assemble(&set, &[0], None, 0, 0, &Normalisation::mnist()).unwrap_err();
        assert_eq!(error, Error::Channels { means: 1, stds: 1, channels: 3 });
        let flat = Normalisation { mean: vec![0.0; 3], std: vec![1.0, 0.0, 1.0] };
        let error = assemble(&set, &[0], None, 0, 0, &flat).unwrap_err();
        assert_eq!(error, Error::Deviation { channel: 1, mean: 0.0, std: 0.0 });
    }
}
