//! Training augmentation: the random changes of a training image.
//!
//! The order is that of timm and torchvision: a crop at the image's own size, a flip, then RandAugment or colour jitter. Drawn
//! signs are also distorted. After the normalisation, a rectangle may be erased. Every choice comes from the generator of one
//! (seed, epoch, visit). So the result does not depend on the thread or on the batch.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ops::{Op, Sampling};
use super::preprocess::{crop, resize};
use super::{Distortion, Error, ImageShape, Interpolation, Picture, RandAugment, Rng, Transform};

/// The part of an image that a network sees in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Crop {
    /// The same part as of a held-out image.
    #[default]
    Centre,
    /// A rectangle of random area and proportions, resized to the network's input (Szegedy et al., 2015).
    RandomResized {
        /// Smallest and largest share of the image's area.
        #[serde(default = "scale")]
        scale: (f64, f64),
        /// Smallest and largest ratio of width to height.
        #[serde(default = "ratio")]
        ratio: (f64, f64),
        /// The filter.
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// A black border around the image, then a random part with the image's own size. After that, as for a held-out image.
    Padded {
        /// Pixels on each side.
        padding: usize,
    },
}

const fn scale() -> (f64, f64) {
    (0.08, 1.0)
}

const fn ratio() -> (f64, f64) {
    (3.0 / 4.0, 4.0 / 3.0)
}

impl Crop {
    /// DeiT's and torchvision's random resized crop.
    pub const fn random_resized() -> Self {
        Self::RandomResized { scale: scale(), ratio: ratio(), interpolation: Interpolation::Bicubic }
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

/// A rectangle of random area and proportions: top, left, height, width. If ten tries do not fit, it is the largest centred
/// rectangle with allowed proportions.
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

/// A part with the picture's own size, out of the picture with `padding` black pixels around it.
fn padded(picture: &Picture<'_>, padding: usize, rng: &mut Rng) -> Picture<'static> {
    let shape = picture.shape;
    let range = 2 * padding as u64 + 1;
    // The start of the part, below and to the right of the border's corner.
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

/// Random changes of brightness, contrast and saturation, in random order, as in torchvision. Each factor is drawn uniformly from
/// 1 minus its amount to 1 plus its amount, and is never below 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    /// Amount of brightness.
    pub brightness: f64,
    /// Amount of contrast.
    pub contrast: f64,
    /// Amount of saturation.
    pub saturation: f64,
}

impl ColorJitter {
    /// The same amount for all three, as with timm's option.
    pub const fn all(amount: f64) -> Self {
        Self { brightness: amount, contrast: amount, saturation: amount }
    }

    fn apply<'a>(&self, mut picture: Picture<'a>, rng: &mut Rng) -> Picture<'a> {
        let mut order = [0, 1, 2];
        rng.shuffle(&mut order);
        for kind in order {
            let amount = [self.brightness, self.contrast, self.saturation][kind];
            if amount > 0.0 {
                let factor = rng.range((1.0 - amount).max(0.0), 1.0 + amount) as f32;
                let op = [Op::Brightness(factor), Op::Contrast(factor), Op::Color(factor)][kind];
                picture = op.apply(picture, Sampling::Nearest, [0; 3]);
            }
        }
        picture
    }
}

/// The content of an erased rectangle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EraseMode {
    /// A normal value for each pixel and channel.
    #[default]
    Pixel,
    /// Zero, which is the mean after normalisation.
    #[serde(alias = "const")]
    Constant,
}

/// Random erasing (Zhong et al., 2017), as in timm: a rectangle of the normalised image is replaced. Its area is random, and its
/// proportions are log-uniform. There are ten tries to find a rectangle that fits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    /// Its probability.
    pub probability: f64,
    /// The content of the rectangle.
    pub mode: EraseMode,
    /// Smallest and largest share of the image's area.
    pub area: (f64, f64),
    /// Smallest ratio of height to width. The largest is its inverse.
    pub aspect: f64,
    /// Number of rectangles, which share the area.
    pub count: u32,
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { probability: 0.25, mode: EraseMode::Pixel, area: (0.02, 1.0 / 3.0), aspect: 0.3, count: 1 }
    }
}

impl RandomErasing {
    /// Erases in normalised floats `(C, H, W)`.
    pub(super) fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut Rng) {
        if !rng.chance(self.probability) {
            return;
        }
        let ImageShape { channels, height, width } = shape;
        let area = (height * width) as f64;
        let spread = -libm::log(self.aspect);
        for _ in 0..self.count {
            for _ in 0..10 {
                let target = area * rng.range(self.area.0, self.area.1) / f64::from(self.count);
                let aspect = libm::exp(rng.range(-spread, spread));
                let rows = libm::rint(libm::sqrt(target * aspect)) as usize;
                let columns = libm::rint(libm::sqrt(target / aspect)) as usize;
                if rows >= height || columns >= width {
                    continue;
                }
                let top = rng.below((height - rows) as u64 + 1) as usize;
                let left = rng.below((width - columns) as u64 + 1) as usize;
                for line in (0..channels).flat_map(|plane| (top..top + rows).map(move |row| plane * height + row)) {
                    for value in &mut image[line * width + left..][..columns] {
                        *value = if self.mode == EraseMode::Pixel { rng.normal() as f32 } else { 0.0 };
                    }
                }
                break;
            }
        }
    }
}

/// The changes of a training image, in this order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// The part of the image.
    pub crop: Crop,
    /// Probability of mirroring it left to right, 0 to 1.
    pub flip: f64,
    /// Operations drawn at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_augment: Option<RandAugment>,
    /// The filter for rotations, shears and shifts of `auto_augment`.
    pub interpolation: Interpolation,
    /// Changes of colour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    /// Distortion of drawn signs.
    #[serde(skip)]
    pub distortion: Option<Distortion>,
    /// Erasing, after normalisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erase: Option<RandomErasing>,
}

impl Augment {
    /// No changes: training images are prepared like held-out ones.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether there are no changes.
    pub fn is_none(&self) -> bool {
        *self == Self { interpolation: self.interpolation, ..Self::none() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn check(&self) -> Result<(), Error> {
        self.crop.check()?;
        let jitter = self.color_jitter.unwrap_or_default();
        let erase = self.erase.unwrap_or_default();
        for (setting, value, low, high, range) in [
            ("flip", self.flip, 0.0, 1.0, "from 0 to 1"),
            ("color_jitter.brightness", jitter.brightness, 0.0, 10.0, "from 0 to 10"),
            ("color_jitter.contrast", jitter.contrast, 0.0, 10.0, "from 0 to 10"),
            ("color_jitter.saturation", jitter.saturation, 0.0, 10.0, "from 0 to 10"),
            ("erase.probability", erase.probability, 0.0, 1.0, "from 0 to 1"),
            ("erase.area.0", erase.area.0, 0.0, erase.area.1, "from 0 to erase.area.1"),
            ("erase.area.1", erase.area.1, 0.0, 1.0, "from 0 to 1"),
            ("erase.aspect", erase.aspect, 0.01, 1.0, "from 0.01 to 1"),
            ("erase.count", f64::from(erase.count), 1.0, 100.0, "from 1 to 100"),
        ] {
            // Written so that NaN is refused.
            if !(low <= value && value <= high) {
                return Err(Error::Augment { setting, value: value as f32, range });
            }
        }
        self.distortion.map_or(Ok(()), |distortion| distortion.check())
    }

    /// The version of a picture for a generator: `(H, W, C)` with the network's size, values from 0 to 1. The caller does the
    /// erasing.
    pub(super) fn apply(&self, picture: Picture<'_>, transform: &Transform, rng: &mut Rng, out: &mut [f32]) {
        let mut picture = self.crop.apply(picture, transform, rng);
        if self.flip > 0.0 && rng.chance(self.flip) {
            picture = mirror(picture);
        }
        if let Some(policy) = &self.auto_augment {
            picture = policy.apply(picture, self.interpolation, rng);
        }
        if let Some(jitter) = &self.color_jitter {
            picture = jitter.apply(picture, rng);
        }
        self.distortion.unwrap_or_default().apply(&picture.pixels, picture.shape, rng, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Normalisation, Purpose};
    use super::*;

    fn picture(height: usize, width: usize) -> Picture<'static> {
        let shape = ImageShape { channels: 3, height, width };
        Picture { shape, pixels: (0..shape.bytes()).map(|i| (i * 7 % 255) as u8 + 1).collect() }
    }

    fn rng(index: u64) -> Rng {
        Rng::new(1, 0, index, Purpose::Augment)
    }

    #[test]
    fn a_random_box_has_the_area_and_proportions_asked_for() {
        let shape = ImageShape { channels: 3, height: 100, width: 150 };
        let (mut areas, mut wide) = (0.0, 0);
        for index in 0..2000 {
            let [top, left, rows, columns] = random_box(shape, (0.08, 1.0), (0.75, 4.0 / 3.0), &mut rng(index));
            assert!(top + rows <= 100 && left + columns <= 150);
            let (area, ratio) = ((rows * columns) as f64 / 15_000.0, columns as f64 / rows as f64);
            assert!((0.075..=1.0).contains(&area) && (0.72..=1.52).contains(&ratio), "{area} {ratio}");
            areas += area;
            wide += usize::from(ratio > 1.0);
        }
        // A square fits up to two thirds of a 3 : 2 image, so the mean is near that of 0.08 to 0.67.
        assert!((0.35..0.42).contains(&(areas / 2000.0)) && (900..1300).contains(&wide), "{areas} {wide}");
        // A strip: no try fits, and the centred box has the nearest proportions.
        let strip = ImageShape { channels: 1, height: 10, width: 1000 };
        assert_eq!(random_box(strip, (0.9, 1.0), (0.75, 4.0 / 3.0), &mut rng(0)), [0, 493, 10, 13]);
    }

    #[test]
    fn a_padded_crop_shifts_the_image_over_black() {
        let image = picture(5, 4);
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..300 {
            let part = padded(&image, 2, &mut rng(index));
            // Values are never 0, so the black border tells the shift; check every pixel against it.
            let at = |picture: &Picture<'_>, row: i64, column: i64| -> u8 {
                let inside = (0..5).contains(&row) && (0..4).contains(&column);
                if inside { picture.pixels[(row * 4 + column) as usize * 3] } else { 0 }
            };
            let shift = (-2..=2).flat_map(|down| (-2..=2).map(move |right| (down, right))).find(|&(down, right)| {
                (0..5).all(|row| (0..4).all(|column| at(&part, row, column) == at(&image, row + down, column + right)))
            });
            seen.insert(shift.expect("a shifted image"));
        }
        assert_eq!(seen.len(), 25);
    }

    #[test]
    fn a_flip_mirrors_pixels_and_not_channels() {
        let mirrored = mirror(picture(2, 3));
        let image = picture(2, 3);
        assert_eq!(mirrored.pixels[..3], image.pixels[6..9]);
        assert_eq!(mirror(mirrored), image);
    }

    #[test]
    fn erasing_covers_the_share_that_is_asked_for() {
        let shape = ImageShape { channels: 3, height: 32, width: 32 };
        let (mut erased, mut pixels) = (0, 0);
        for index in 0..2000 {
            for mode in [EraseMode::Constant, EraseMode::Pixel] {
                let erase = RandomErasing { mode, ..RandomErasing::default() };
                let mut image = vec![9.0; shape.bytes()];
                erase.apply(&mut image, shape, &mut rng(index));
                let changed = image.iter().filter(|&&value| value != 9.0).count();
                assert_eq!(changed % 3, 0);
                if mode == EraseMode::Constant {
                    erased += usize::from(changed > 0);
                    pixels += changed / 3;
                    assert!(image.iter().all(|&value| value == 9.0 || value == 0.0));
                }
                if changed > 0 {
                    assert!((15..=360).contains(&(changed / 3)), "{} pixels", changed / 3);
                }
            }
        }
        assert!((420..580).contains(&erased), "{erased} of 2000");
        let share = pixels as f64 / erased as f64 / 1024.0;
        assert!((share - 0.17).abs() < 0.02, "mean share {share}");
    }

    #[test]
    fn every_part_draws_from_the_key_alone() {
        let augment = Augment {
            crop: Crop::random_resized(),
            flip: 0.5,
            auto_augment: Some(RandAugment::named("rand-m9-mstd0.5-inc1").unwrap()),
            color_jitter: Some(ColorJitter::all(0.3)),
            ..Augment::none()
        };
        augment.check().unwrap();
        let shape = ImageShape { channels: 3, height: 16, width: 16 };
        let transform = Transform { augment: augment.clone(), ..Transform::plain(shape, Normalisation::half()) };
        let draw = |index| {
            let mut out = vec![0.0; shape.bytes()];
            augment.apply(picture(20, 30), &transform, &mut rng(index), &mut out);
            out
        };
        for index in 0..50 {
            assert_eq!(draw(index), draw(index));
            assert_ne!(draw(index), draw(index + 1));
            assert!(draw(index).iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }

    #[test]
    fn odd_settings_are_named() {
        let refused = |augment: Augment, name: &str| {
            let error = augment.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        refused(Augment { flip: 2.0, ..Augment::none() }, "flip");
        refused(Augment { color_jitter: Some(ColorJitter::all(f64::NAN)), ..Augment::none() }, "brightness");
        let erase = RandomErasing { area: (0.5, 0.2), ..RandomErasing::default() };
        refused(Augment { erase: Some(erase), ..Augment::none() }, "erase.area");
        let crop = Crop::RandomResized { scale: (0.0, 1.0), ratio: (1.0, 1.0), interpolation: Interpolation::Bicubic };
        refused(Augment { crop, ..Augment::none() }, "crop.scale");
        refused(Augment { crop: Crop::Padded { padding: 1 << 40 }, ..Augment::none() }, "crop.padding");
    }
}
