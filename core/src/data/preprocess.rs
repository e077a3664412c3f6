//! Bringing an image of any size to a network's, as the network's makers did.
//!
//! A checkpoint was trained on images that were resized by one filter, from one part of the picture; another filter or
//! another part costs accuracy. The filters are Pillow's, to which the figures of the field belong: antialiased
//! (widened with the reduction), the cubic with a = -1/2, along rows first, rounded to bytes, then along columns. Pixels
//! agree with Pillow's within 1 of 255, but for a few in one picture of some hundreds, which are off by 2: weights are of 16
//! bits here and of 22 there, and a byte rounded the other way along rows counts more than once along columns. (Pillow 13
//! goes along columns first for some tall images; the versions of the published figures do not.)
//!
//! Bytes in, bytes out: the command and the page share this.

use std::borrow::Cow;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use super::{Error, ImageShape, Normalisation, Picture, ink};

/// The filter of a resizing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Linear along each axis.
    Bilinear,
    /// Cubic with a = -1/2 (Catmull and Rom's).
    #[default]
    Bicubic,
}

/// How a picture's proportions become the network's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Its shortest side is resized, and the middle is kept.
    #[default]
    Shortest,
    /// Both sides are resized, whatever becomes of its proportions.
    Squash,
    /// Of one channel: what is drawn or photographed becomes ink as MNIST holds it, white on black, 20 pixels long, centred
    /// in 28 x 28; then as `Shortest`. Images that are so already are left as they are.
    Ink,
}

/// How a picture becomes a network's input where nothing is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocess {
    /// What happens to its proportions.
    pub resize: Resize,
    /// The network's side over the side that the picture is resized to: what the centre crop keeps. Above 0, at most 1.
    pub crop_fraction: f64,
    /// The filter.
    pub interpolation: Interpolation,
}

impl Default for Preprocess {
    /// The whole centred square, bicubic.
    fn default() -> Self {
        Self { resize: Resize::Shortest, crop_fraction: 1.0, interpolation: Interpolation::Bicubic }
    }
}

impl Preprocess {
    /// For networks of handwritten signs, whose images MNIST's makers prepared.
    pub fn ink() -> Self {
        Self { resize: Resize::Ink, ..Self::default() }
    }

    /// What the weights published under a timm model's name expect: preprocessing and normalisation of three channels.
    /// `None` where nothing is known.
    ///
    /// DeiT's and timm's own configurations; RegNet and ResNet as torchvision's first weights.
    pub fn of_model(name: &str) -> Option<(Self, Normalisation)> {
        let shortest = |crop_fraction, interpolation| Self { resize: Resize::Shortest, crop_fraction, interpolation };
        let (bilinear, bicubic) = (Interpolation::Bilinear, Interpolation::Bicubic);
        // timm resizes to floor(224 / 0.9) = 248, torchvision and DeiT's paper to 256.
        Some(match name {
            _ if name.starts_with("vit_") => (shortest(0.9, bicubic), Normalisation::half()),
            _ if name.starts_with("deit_") => (shortest(0.875, bicubic), Normalisation::imagenet()),
            "regnetx_004_tv" => (shortest(0.875, bilinear), Normalisation::imagenet()),
            _ if name.starts_with("regnet") => (shortest(0.875, bicubic), Normalisation::imagenet()),
            _ if name.starts_with("resnet") => (shortest(0.875, bilinear), Normalisation::imagenet()),
            _ => return None,
        })
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// If the crop keeps nothing, or more than there is.
    pub fn check(&self) -> Result<(), Error> {
        let value = self.crop_fraction;
        // NaN is in no range.
        match (0.01..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::Augment { setting: "crop_fraction", value: value as f32, range: "from 0.01 to 1" }),
        }
    }

    /// Brings a picture to `height` x `width` with its own number of channels.
    ///
    /// The picture is resized to `floor(side / crop_fraction)` and its middle kept; only what is kept is computed.
    ///
    /// # Panics
    /// If a size is zero, or the settings did not pass [`check`](Self::check).
    pub fn apply<'a>(&self, picture: Picture<'a>, height: usize, width: usize) -> Picture<'a> {
        let picture = match (self.resize, picture.shape.channels) {
            (Resize::Ink, 1) => ink::sign(picture),
            _ => picture,
        };
        let shape = picture.shape;
        let whole = |side: usize| ((side as f64 / self.crop_fraction) as usize).max(side);
        let (target_height, target_width) = (whole(height), whole(width));
        let (resized_height, resized_width) = match self.resize {
            Resize::Squash => (target_height, target_width),
            // The longer side is cut off to whole pixels, as torchvision does.
            Resize::Shortest | Resize::Ink if shape.width * target_height <= shape.height * target_width => {
                (target_width * shape.height / shape.width, target_width)
            }
            Resize::Shortest | Resize::Ink => (target_height, target_height * shape.width / shape.height),
        };
        let axis = |side: usize, resized: usize, kept: usize| {
            let scale = side as f64 / resized as f64;
            let start = centre_offset(resized, kept) as f64 * scale;
            (start, (kept as f64 * scale).min(side as f64 - start))
        };
        let (top, box_height) = axis(shape.height, resized_height, height);
        let (left, box_width) = axis(shape.width, resized_width, width);
        resize_box(picture, [left, top, box_width, box_height], height, width, self.interpolation)
    }
}

/// The first pixel of a centred part, halves rounded to the even number, as Python rounds them.
fn centre_offset(whole: usize, part: usize) -> usize {
    let rest = whole.saturating_sub(part);
    match rest % 4 {
        3 => rest / 2 + 1,
        _ => rest / 2,
    }
}

/// Resizes a whole picture to `height` x `width`.
///
/// # Panics
/// If a size is zero, or there are neither 1 nor 3 channels.
pub fn resize(picture: Picture<'_>, height: usize, width: usize, interpolation: Interpolation) -> Picture<'_> {
    let whole = [0.0, 0.0, picture.shape.width as f64, picture.shape.height as f64];
    resize_box(picture, whole, height, width, interpolation)
}

/// Resizes the box `[left, top, width, height]` of a picture. The filter also reads what lies around the box.
fn resize_box(
    picture: Picture<'_>,
    [left, top, box_width, box_height]: [f64; 4],
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Picture<'_> {
    let from = picture.shape;
    let to = ImageShape { channels: from.channels, height, width };
    if to == from && left == 0.0 && top == 0.0 {
        return picture;
    }
    let filter = match interpolation {
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    let pass = |pixels: &[u8], from: ImageShape, [left, top, width, height]: [f64; 4], to: ImageShape| {
        let options = options.crop(left, top, width, height);
        match from.channels {
            1 => resize_typed::<U8>(pixels, from, to, &options),
            3 => resize_typed::<U8x3>(pixels, from, to, &options),
            channels => panic!("a picture has 1 or 3 channels, and this has {channels}"),
        }
    };
    // The library alone would go along columns first: overshoot is cut at each rounding, so the order shows.
    let rows = ImageShape { width, ..from };
    let narrow = pass(&picture.pixels, from, [left, 0.0, box_width, from.height as f64], rows);
    let pixels = pass(&narrow, rows, [0.0, top, width as f64, box_height], to);
    Picture { shape: to, pixels: Cow::Owned(pixels) }
}

/// One pass of the resizer. By its type and not by its name, so that a program holds the code of these two kinds of pixels
/// alone; that of all thirteen comes with tables of half a megabyte.
fn resize_typed<P: PixelTrait>(pixels: &[u8], from: ImageShape, to: ImageShape, options: &ResizeOptions) -> Vec<u8> {
    let side = |side: usize| u32::try_from(side).expect("a picture's side fits 32 bits");
    let source = TypedImageRef::<P>::from_buffer(side(from.width), side(from.height), pixels);
    let mut bytes = vec![0; to.bytes()];
    let mut result =
        TypedImage::<P>::from_buffer(side(to.width), side(to.height), &mut bytes).expect("made for this size");
    let source = source.expect("pixels fit the size");
    Resizer::new().resize_typed(&source, &mut result, options).expect("the box lies inside");
    bytes
}

/// Cuts a rectangle out of a picture.
///
/// # Panics
/// If it reaches beyond the picture.
pub fn crop(picture: &Picture<'_>, top: usize, left: usize, height: usize, width: usize) -> Picture<'static> {
    let from = picture.shape;
    let shape = ImageShape { channels: from.channels, height, width };
    let mut pixels = Vec::with_capacity(shape.bytes());
    for row in top..top + height {
        let start = (row * from.width + left) * from.channels;
        pixels.extend_from_slice(&picture.pixels[start..start + width * from.channels]);
    }
    Picture { shape, pixels: Cow::Owned(pixels) }
}

/// Gives a picture 1 or 3 channels: brightness by ITU-R 601 as Pillow rounds it, or the same value three times.
///
/// # Errors
/// If it can be neither kept nor converted.
pub fn with_channels(picture: Picture<'_>, channels: usize) -> Result<Picture<'_>, Error> {
    let shape = ImageShape { channels, ..picture.shape };
    let pixels = match (picture.shape.channels, channels) {
        (1, 1) | (3, 3) => return Ok(picture),
        (3, 1) => picture.pixels.chunks_exact(3).map(|pixel| luma(pixel[0], pixel[1], pixel[2])).collect(),
        (1, 3) => picture.pixels.iter().flat_map(|&value| [value; 3]).collect(),
        (found, wanted) => return Err(Error::Colours { found, wanted }),
    };
    Ok(Picture { shape, pixels: Cow::Owned(pixels) })
}

/// Brightness of a colour, in 65536ths, rounded.
pub(super) fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
}
