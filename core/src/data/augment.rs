//! Training augmentation: what happens to a training image before it is normalised.
//!
//! In the order of timm and torchvision: a crop at the image's own size, a flip, and for drawn signs the distortion.
//! Every choice comes from the generator of one (seed, epoch, visit), so neither the thread nor the batch that reads a
//! sample changes it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::preprocess::{crop, resize};
use super::{Distortion, Error, ImageShape, Interpolation, Picture, Rng, Transform};

/// Which part of an image a network sees in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Crop {
    /// What it sees of a held-out image.
    #[default]
    Centre,
    /// A rectangle of random area and proportions, resized to the network's input (Szegedy et al., 2015).
    RandomResized {
        /// Least and greatest share of the image's area.
        scale: (f64, f64),
        /// Least and greatest width over height.
        ratio: (f64, f64),
        /// The filter.
        interpolation: Interpolation,
    },
    /// The image surrounded by black, a random part of its own size, then as a held-out image.
    Padded {
        /// Pixels on each side.
        padding: usize,
    },
}

impl Crop {
    /// DeiT's and torchvision's random resized crop.
    pub const fn random_resized() -> Self {
        Self::RandomResized { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), interpolation: Interpolation::Bicubic }
    }

    fn check(&self) -> Result<(), Error> {
        let fail = |setting, value: f64, range| Err(Error::Augment { setting, value: value as f32, range });
        // Written so that NaN is refused.
        match *self {
            Self::RandomResized { scale: (low, high), .. } if !(low > 0.0 && low <= high && high <= 1.0) => {
                fail("crop.scale", low, "above 0, in order, at most 1")
            }
            Self::RandomResized { ratio: (low, high), .. } if !(low >= 0.01 && low <= high && high <= 100.0) => {
                fail("crop.ratio", low, "from 0.01, in order, at most 100")
            }
            Self::Padded { padding } if padding > 1024 => fail("crop.padding", padding as f64, "at most 1024"),
            _ => Ok(()),
        }
    }

    fn apply<'a>(&self, picture: Picture<'a>, transform: &Transform, rng: &mut Rng) -> Picture<'a> {
        let ImageShape { height, width, .. } = transform.shape;
        match *self {
            Self::Centre => transform.preprocess.apply(picture, height, width),
            Self::Padded { padding } => {
                let part = padded(&picture, padding, rng);
                transform.preprocess.apply(part, height, width)
            }
            Self::RandomResized { scale, ratio, interpolation } => {
                let [top, left, rows, columns] = random_box(picture.shape, scale, ratio, rng);
                resize(crop(&picture, top, left, rows, columns), height, width, interpolation)
            }
        }
    }
}

/// A rectangle of random area and proportions, top, left, height, width: ten tries, then the largest centred one of
/// allowed proportions.
fn random_box(shape: ImageShape, scale: (f64, f64), ratio: (f64, f64), rng: &mut Rng) -> [usize; 4] {
    let (height, width) = (shape.height, shape.width);
    let area = (height * width) as f64;
    for _ in 0..10 {
        let target = area * rng.range(scale.0, scale.1);
        // Log-uniform: wide is as likely as tall.
        let aspect = libm::exp(rng.range(libm::log(ratio.0), libm::log(ratio.1)));
        let columns = libm::rint(libm::sqrt(target * aspect)) as usize;
        let rows = libm::rint(libm::sqrt(target / aspect)) as usize;
        if (1..=height).contains(&rows) && (1..=width).contains(&columns) {
            let top = rng.below((height - rows) as u64 + 1) as usize;
            let left = rng.below((width - columns) as u64 + 1) as usize;
            return [top, left, rows, columns];
        }
    }
    let own = width as f64 / height as f64;
    let (rows, columns) = match own {
        _ if own < ratio.0 => (libm::rint(width as f64 / ratio.0) as usize, width),
        _ if own > ratio.1 => (height, libm::rint(height as f64 * ratio.1) as usize),
        _ => (height, width),
    };
    let (rows, columns) = (rows.clamp(1, height), columns.clamp(1, width));
    [(height - rows) / 2, (width - columns) / 2, rows, columns]
}

/// A part of a picture's own size, from the picture with `padding` black pixels around it.
fn padded(picture: &Picture<'_>, padding: usize, rng: &mut Rng) -> Picture<'static> {
    let shape = picture.shape;
    let range = 2 * padding as u64 + 1;
    // How far the part begins below and to the right of the black border's corner.
    let (down, right) = (rng.below(range) as usize, rng.below(range) as usize);
    let line = shape.width * shape.channels;
    let mut pixels = vec![0; shape.bytes()];
    // Output column x shows column x + right - padding.
    let (from, to) = (padding.saturating_sub(right), shape.width.min((shape.width + padding).saturating_sub(right)));
    for (row, out) in pixels.chunks_exact_mut(line).enumerate() {
        let Some(source) = (row + down).checked_sub(padding).filter(|&source| source < shape.height) else { continue };
        if from < to {
            let start = source * line + (from + right - padding) * shape.channels;
            let length = (to - from) * shape.channels;
            out[from * shape.channels..][..length].copy_from_slice(&picture.pixels[start..start + length]);
        }
    }
    Picture { shape, pixels: Cow::Owned(pixels) }
}

/// Mirrors a picture left to right.
fn mirror(picture: Picture<'_>) -> Picture<'static> {
    let shape = picture.shape;
    let mut pixels = Vec::with_capacity(shape.bytes());
    for line in picture.pixels.chunks_exact(shape.width * shape.channels) {
        pixels.extend(line.chunks_exact(shape.channels).rev().flatten());
    }
    Picture { shape, pixels: Cow::Owned(pixels) }
}

/// What may happen to a training image.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// Which part of it is shown.
    pub crop: Crop,
    /// How often it is mirrored left to right, 0 to 1.
    pub flip: f64,
    /// How a drawn sign is drawn anew.
    pub distortion: Option<Distortion>,
}

impl Augment {
    /// Leaves images as held-out ones are.
    pub const fn none() -> Self {
        Self { crop: Crop::Centre, flip: 0.0, distortion: None }
    }

    /// Whether images are left as held-out ones are.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting out of range.
    pub fn check(&self) -> Result<(), Error> {
        self.crop.check()?;
        if !(0.0..=1.0).contains(&self.flip) {
            return Err(Error::Augment { setting: "flip", value: self.flip as f32, range: "from 0 to 1" });
        }
        self.distortion.map_or(Ok(()), |distortion| distortion.check())
    }

    /// Draws the version of a picture that belongs to a generator: `(H, W, C)` of the network's size, 0 to 1.
    pub(super) fn apply(&self, picture: Picture<'_>, transform: &Transform, rng: &mut Rng, out: &mut [f32]) {
        let mut picture = self.crop.apply(picture, transform, rng);
        if self.flip > 0.0 && rng.chance(self.flip) {
            picture = mirror(picture);
        }
        self.distortion.unwrap_or(Distortion::none()).apply(&picture.pixels, picture.shape, rng, out);
    }
}
