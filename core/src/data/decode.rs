//! Picture files as pixels: one reading for training, measuring, predicting and the page.
//!
//! Which formats there are depends on the build: PNG and JPEG everywhere, more in the command (`native/Cargo.toml`). What a
//! file is, its first bytes say, whatever its name says.
//!
//! Invariants: a picture's declared size is checked before anything of that size is allocated, and what a file holds beside
//! its pixels (colour profiles, texts) is never unpacked; a file that ends early is an error unless that is allowed.

mod jpeg;
mod png;

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use serde::{Deserialize, Serialize};

use super::{ImageShape, Picture};

/// Longest side and most pixels of a picture.
const MAX_SIDE: u32 = 32_768;
const MAX_PIXELS: u64 = 64 << 20;
/// Most bytes of its pixels as the file has them: 64 million of four channels, half as many of 16 bits each.
const MAX_BYTES: u64 = 256 << 20;

/// What becomes of a camera's note of rotation and of transparency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// The note is followed, and what is transparent shows white, as on paper.
    #[default]
    Upright,
    /// As torchvision's loader does: the note is not followed, and transparency is dropped, whatever colour lies under it.
    Torchvision,
}

impl Reading {
    /// Every reading by its name.
    pub const ALL: [(&str, Self); 2] = [("upright", Self::Upright), ("torchvision", Self::Torchvision)];

    /// The reading of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, reading)| reading)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, reading)| *reading == self).map_or("", |(name, _)| name)
    }
}

/// How picture files are decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decoding {
    /// What becomes of rotation and transparency.
    pub reading: Reading,
    /// Whether a file that ends early is read as far as it goes; what is missing is black or grey.
    pub allow_truncated: bool,
}

/// Why bytes are no picture here.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// It is damaged or ends early: it may be read as far as it goes.
    #[error("{0}")]
    Damaged(String),
    /// It is no picture, or one that is not read.
    #[error("{0}")]
    Refused(String),
}

impl From<String> for DecodeError {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

/// Decodes a picture to red, green and blue, `(H, W, 3)`.
///
/// # Errors
/// [`DecodeError`], the reason alone; a picture too large is refused before its pixels are decoded.
pub fn decode(bytes: &[u8], how: Decoding) -> Result<Picture<'static>, DecodeError> {
    let format = image::guess_format(bytes).map_err(|_| unknown(bytes))?;
    let (image, orientation) = match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, how.allow_truncated)?,
        ImageFormat::Png => decode_as(format, &png::pixels_alone(bytes), how)?,
        _ => decode_as(format, bytes, how)?,
    };
    let image = match how.reading {
        Reading::Upright if orientation != Orientation::NoTransforms => {
            let mut image = DynamicImage::ImageRgb8(image);
            image.apply_orientation(orientation);
            image.into_rgb8()
        }
        _ => image,
    };
    let shape = ImageShape { channels: 3, height: image.height() as usize, width: image.width() as usize };
    match shape.bytes() {
        0 => Err(DecodeError::Refused("it has no pixels".to_owned())),
        _ => Ok(Picture { shape, pixels: Cow::Owned(image.into_raw()) }),
    }
}

/// What bytes are that are no picture, where people meet them under a picture's name.
fn unknown(bytes: &[u8]) -> String {
    let begins = |mark: &[u8]| bytes.starts_with(mark);
    let text = bytes.trim_ascii_start();
    let what = match bytes {
        [] => "it is empty",
        _ if bytes.get(4..8) == Some(&b"ftyp"[..]) => "it is HEIC, AVIF or a film; convert it to JPEG or PNG",
        _ if begins(b"version https://git-lfs") => "it is Git LFS's note of a file; run git lfs pull",
        _ if begins(&[0x1f, 0x8b]) => "it is compressed with gzip; unpack it",
        _ if text.first() == Some(&b'<') => "it is a page or a drawing of text (HTML, SVG), not pixels",
        _ => "it is no picture of a format known here",
    };
    what.to_owned()
}

fn decode_as(format: ImageFormat, bytes: &[u8], how: Decoding) -> Result<(RgbImage, Orientation), DecodeError> {
    let name = || format!("{format:?}").to_uppercase();
    let fail = |error: ImageError| match error {
        ImageError::Unsupported(_) => {
            DecodeError::Refused(format!("it is {}, or a kind of it, that is not read here", name()))
        }
        ImageError::Limits(_) => DecodeError::Refused(format!("it is too large: {error}")),
        _ => DecodeError::Damaged(format!("it is damaged or cut short: {error}")),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES + (16 << 20));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let ((width, height), colour) = (decoder.dimensions(), decoder.color_type());
    allowed(width, height, u64::from(colour.bytes_per_pixel()))?;
    // Damaged EXIF says nothing about the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // Not more than what is allowed.
    let mut raw = vec![0; decoder.total_bytes() as usize];
    match decoder.read_image(&mut raw) {
        Err(_) if how.allow_truncated => {}
        read => read.map_err(fail)?,
    }
    let pixels = rgb(raw, colour, how.reading)?;
    Ok((whole(width, height, pixels)?, orientation))
}

fn whole(width: u32, height: u32, pixels: Vec<u8>) -> Result<RgbImage, DecodeError> {
    let damaged = || DecodeError::Damaged("its pixels are not as many as it says".to_owned());
    RgbImage::from_raw(width, height, pixels).ok_or_else(damaged)
}

/// Whether a picture of so many pixels is read.
fn allowed(width: u32, height: u32, bytes_per_pixel: u64) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(format!(
            "it has {width} x {height} pixels; at most {MAX_PIXELS} are read, and {MAX_SIDE} along a side: make it smaller"
        ));
    }
    if pixels * bytes_per_pixel > MAX_BYTES {
        return Err(format!(
            "it has {width} x {height} pixels of {bytes_per_pixel} bytes; at most {} MiB are read: make it smaller, or \
             save it with 8 bits a channel",
            MAX_BYTES >> 20
        ));
    }
    Ok(())
}

/// Pixels of any colour type as red, green and blue of 8 bits.
fn rgb(raw: Vec<u8>, colour: ColorType, reading: Reading) -> Result<Vec<u8>, String> {
    let raw = match colour {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
            let pairs = raw.as_chunks().0.iter();
            // 65535 is 257 times 255.
            pairs.map(|&pair| ((u32::from(u16::from_ne_bytes(pair)) + 128) / 257) as u8).collect()
        }
        ColorType::Rgb32F | ColorType::Rgba32F => {
            let values = raw.as_chunks().0.iter().map(|&four| f32::from_ne_bytes(four));
            values.map(|value| libm::roundf(value.clamp(0.0, 1.0) * 255.0) as u8).collect()
        }
        _ => raw,
    };
    Ok(match colour.channel_count() {
        1 => raw.into_iter().flat_map(|value| [value; 3]).collect(),
        2 => raw.as_chunks().0.iter().flat_map(|&[grey, alpha]| [on_white(grey, alpha, reading); 3]).collect(),
        3 => raw,
        4 => without_alpha(raw, reading),
        _ => return Err(format!("its colours are {colour:?}, which are not read")),
    })
}

/// Red, green, blue and alpha become three, in the same memory: pictures may be large.
fn without_alpha(mut raw: Vec<u8>, reading: Reading) -> Vec<u8> {
    let pixels = raw.len() / 4;
    for pixel in 0..pixels {
        let alpha = raw[4 * pixel + 3];
        for channel in 0..3 {
            raw[3 * pixel + channel] = on_white(raw[4 * pixel + channel], alpha, reading);
        }
    }
    raw.truncate(3 * pixels);
    raw
}

fn on_white(value: u8, alpha: u8, reading: Reading) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    match reading {
        Reading::Torchvision => value as u8,
        Reading::Upright => ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8,
    }
}

#[cfg(test)]
mod tests;
