//! From a picture file to the pixels that a model was trained on.
//!
//! A model of 28 x 28 grey digits knows white ink on black, scaled into 20 x 20 and centred by its mass, because MNIST
//! was made so; a photograph of a number on paper is nothing of the kind, and is brought into that form first. A picture
//! that has the form already is left as it is. Any other model gets what its [`Preprocess`] says.
//!
//! Invariants: pixels are 8-bit and channel-last, as a data set's are; a picture's declared size is checked before
//! anything of that size is allocated; transparency shows white, as paper would; rotation in a JPEG's EXIF is undone.

use std::borrow::Cow;
use std::io::Cursor;

use image::imageops::{FilterType, crop_imm, resize};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::preprocess::with_channels;
use super::{ImageShape, Images, Normalisation, Picture, Preprocess, Transform, assemble};

/// Longest side and most pixels of a picture. The pixels of the largest need half a gigabyte, as 16-bit RGBA.
const MAX_SIDE: u32 = 32_768;
const MAX_PIXELS: u64 = 64 << 20;

/// Side of MNIST's images, and of the box that the ink fills.
const DIGIT: u32 = 28;
const INK: u32 = 20;
/// Border brightness above which a finished digit is dark ink on a bright ground.
const BRIGHT: u32 = 127;
/// Least difference between ground and ink; less is an empty page.
const CONTRAST: u32 = 16;

/// Decodes a PNG or JPEG, turned upright where `turn` says so.
///
/// # Errors
/// With the reason alone; a picture too large is refused before its pixels are decoded.
pub fn decode(bytes: &[u8], turn: bool) -> Result<DynamicImage, String> {
    let text = |error: image::ImageError| error.to_string();
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    if reader.format().is_none() {
        return Err("it is neither PNG nor JPEG".to_owned());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(text)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels are more than the {MAX_PIXELS} that are read"));
    }
    // Damaged EXIF says nothing about the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(text)?;
    if turn {
        image.apply_orientation(orientation);
    }
    Ok(image)
}

/// What a network reads of prepared pictures, `(N, H, W, C)` bytes of `shape`: `[N, C, H, W]`. It is the way of held-out
/// samples, so that a picture of a set gives the same numbers either way; nothing is left to crop.
///
/// # Errors
/// With the reason alone.
pub fn normalised(pixels: Vec<u8>, shape: ImageShape, normalisation: &Normalisation) -> Result<Vec<f32>, String> {
    let count = pixels.len() / shape.bytes().max(1);
    let pictures = Images::new("pictures", shape, vec![String::new()], pixels, vec![0; count]);
    let pictures = pictures.map_err(|error| error.to_string())?;
    let indices: Vec<u64> = (0..count as u64).collect();
    let batch = assemble(&pictures, &indices, &Transform::plain(shape, normalisation.clone()));
    batch.map(|batch| batch.images).map_err(|error| error.to_string())
}

/// Brings a decoded picture into a model's form, `(H, W, C)` bytes of `shape`.
///
/// # Errors
/// With the reason alone.
pub fn prepare(image: &DynamicImage, shape: ImageShape, preprocess: &Preprocess) -> Result<Vec<u8>, String> {
    if image.width() == 0 || image.height() == 0 {
        return Err("it has no pixels".to_owned());
    }
    match shape {
        ImageShape { channels: 1, height: 28, width: 28 } => Ok(digit(&grey(image)).into_raw()),
        ImageShape { channels, height, width } if height == width && (channels == 1 || channels == 3) => {
            preprocess.check().map_err(|error| error.to_string())?;
            let flat = flat(image);
            let shape = ImageShape { channels: 3, height: flat.height() as usize, width: flat.width() as usize };
            let picture = Picture { shape, pixels: Cow::Owned(flat.into_raw()) };
            let picture = preprocess.apply(picture, height, width);
            let picture = with_channels(picture, channels).map_err(|error| error.to_string())?;
            Ok(picture.pixels.into_owned())
        }
        _ => Err(format!("the model takes {shape}; pictures are prepared for squares of 1 or 3 channels")),
    }
}

/// Colours on white.
fn flat(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let image = image.to_rgba8();
    let mut flat = RgbImage::new(image.width(), image.height());
    for (to, from) in flat.pixels_mut().zip(image.pixels()) {
        let [colour @ .., alpha] = from.0;
        let alpha = u32::from(alpha);
        to.0 = colour.map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    flat
}

/// Brightness on white.
fn grey(image: &DynamicImage) -> GrayImage {
    match image.color().has_alpha() {
        true => DynamicImage::ImageRgb8(flat(image)).into_luma8(),
        false => image.to_luma8(),
    }
}

/// A digit as MNIST would hold it.
fn digit(image: &GrayImage) -> GrayImage {
    if image.dimensions() == (DIGIT, DIGIT) {
        return if border(image) > BRIGHT { negative(image) } else { image.clone() };
    }
    let mut page = GrayImage::new(DIGIT, DIGIT);
    let Some(levels) = levels(image) else { return page };
    // The border belongs to the ground, so where it is of the brighter class the ink is dark.
    let (image, levels) = match border(image) > levels.threshold {
        true => (negative(image), levels.negative()),
        false => (image.clone(), levels),
    };
    let Levels { ground, ink, threshold } = levels;
    let (left, top, width, height) = extent(&image, threshold);
    let mut cut = crop_imm(&image, left, top, width, height).to_image();
    for pixel in cut.pixels_mut() {
        let above = u32::from(pixel.0[0]).saturating_sub(ground);
        pixel.0[0] = (above * 255 / (ink - ground)).min(255) as u8;
    }
    // Triangle filtering widens with the reduction, so every pixel of a large picture counts, as in an area mean.
    let longest = width.max(height);
    let fit =
        |side: u32| ((u64::from(side) * u64::from(INK) + u64::from(longest) / 2) / u64::from(longest)).max(1) as u32;
    let small = resize(&cut, fit(width), fit(height), FilterType::Triangle);
    let (x, y) = mass(&small);
    // The centre of mass goes to the page's centre, as near as whole pixels allow, all of the ink staying on the page.
    let middle = f64::from(DIGIT - 1) / 2.0;
    let place = |centre: f64, side: u32| (middle - centre).round().clamp(0.0, f64::from(DIGIT - side)) as i64;
    image::imageops::replace(&mut page, &small, place(x, small.width()), place(y, small.height()));
    page
}

fn negative(image: &GrayImage) -> GrayImage {
    let mut image = image.clone();
    image.pixels_mut().for_each(|pixel| pixel.0[0] = 255 - pixel.0[0]);
    image
}

/// Mean brightness of the outermost pixels.
fn border(image: &GrayImage) -> u32 {
    let (width, height) = image.dimensions();
    let (mut sum, mut count) = (0u64, 0u64);
    let mut add = |x: u32, y: u32| {
        sum += u64::from(image.get_pixel(x, y).0[0]);
        count += 1;
    };
    for x in 0..width {
        add(x, 0);
        add(x, height - 1);
    }
    for y in 0..height {
        add(0, y);
        add(width - 1, y);
    }
    (sum / count) as u32
}

/// Brightness of the two classes of pixels, the darker called ground, and the threshold between them, which is the
/// darker class's last level.
#[derive(Clone, Copy)]
struct Levels {
    ground: u32,
    ink: u32,
    threshold: u32,
}

impl Levels {
    /// The levels of the negative.
    fn negative(self) -> Self {
        Self { ground: 255 - self.ink, ink: 255 - self.ground, threshold: 254 - self.threshold }
    }
}

/// Parts the pixels by Otsu's criterion: at the threshold with the greatest variance between the classes. `None` where
/// they differ too little to be ground and ink.
fn levels(image: &GrayImage) -> Option<Levels> {
    let mut histogram = [0u64; 256];
    image.pixels().for_each(|pixel| histogram[usize::from(pixel.0[0])] += 1);
    let total: u64 = histogram.iter().sum();
    let sum: f64 = histogram.iter().enumerate().map(|(level, &count)| level as f64 * count as f64).sum();
    let (mut below, mut sum_below, mut best) = (0u64, 0.0, (0.0, 0usize));
    for (level, &count) in histogram.iter().enumerate().take(255) {
        below += count;
        sum_below += level as f64 * count as f64;
        if below == 0 || below == total {
            continue;
        }
        let (low, high) = (below as f64, (total - below) as f64);
        let difference = sum_below / low - (sum - sum_below) / high;
        let between = low * high * difference * difference;
        if between > best.0 {
            best = (between, level);
        }
    }
    let threshold = best.1;
    // Medians: the soft edges of strokes move them less than they would move means.
    let ground = median(&histogram[..=threshold], 0)?;
    let ink = median(&histogram[threshold + 1..], threshold + 1)?;
    (ink - ground >= CONTRAST).then_some(Levels { ground, ink, threshold: threshold as u32 })
}

/// The median level of a part of a histogram that begins at level `first`.
fn median(histogram: &[u64], first: usize) -> Option<u32> {
    let half = histogram.iter().sum::<u64>().div_ceil(2);
    let mut seen = 0;
    let index = histogram.iter().position(|&count| {
        seen += count;
        seen >= half && seen > 0
    })?;
    u32::try_from(first + index).ok()
}

/// The box around every pixel above the threshold: left, top, width, height. There is at least one such pixel.
fn extent(image: &GrayImage, threshold: u32) -> (u32, u32, u32, u32) {
    let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
    for (x, y, _) in image.enumerate_pixels().filter(|(_, _, pixel)| u32::from(pixel.0[0]) > threshold) {
        (left, right) = (left.min(x), right.max(x));
        (top, bottom) = (top.min(y), bottom.max(y));
    }
    (left, top, right - left + 1, bottom - top + 1)
}

/// The centre of mass, in pixels from the centre of the first.
fn mass(image: &GrayImage) -> (f64, f64) {
    let (mut weight, mut sum) = (0.0, (0.0, 0.0));
    for (x, y, pixel) in image.enumerate_pixels() {
        let value = f64::from(pixel.0[0]);
        weight += value;
        sum = (sum.0 + value * f64::from(x), sum.1 + value * f64::from(y));
    }
    match weight > 0.0 {
        true => (sum.0 / weight, sum.1 / weight),
        false => (f64::from(image.width() - 1) / 2.0, f64::from(image.height() - 1) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, Rgba};

    use super::*;

    const MNIST: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Png).expect("memory");
        bytes.into_inner()
    }

    fn prepared(bytes: &[u8], shape: ImageShape) -> Vec<u8> {
        prepare(&decode(bytes, true).expect("decodes"), shape, &Preprocess::default()).expect("prepares")
    }

    /// An L of ink on a ground, off the centre of a page of 200 x 120.
    fn page(ground: u8, ink: u8) -> GrayImage {
        GrayImage::from_fn(200, 120, |x, y| {
            let stem = (20..30).contains(&x) && (10..90).contains(&y);
            let foot = (20..60).contains(&x) && (80..90).contains(&y);
            Luma([if stem || foot { ink } else { ground }])
        })
    }

    #[test]
    fn a_finished_digit_is_left_as_it_is() {
        let image = GrayImage::from_fn(28, 28, |x, y| Luma([if x == 9 { (7 * y) as u8 } else { 0 }]));
        assert_eq!(prepared(&png(image.clone()), MNIST), image.as_raw().clone());
        assert_eq!(prepared(&png(negative(&image)), MNIST), image.into_raw());
    }

    #[test]
    fn a_photograph_becomes_centred_ink_of_twenty_pixels() {
        for (ground, ink) in [(230, 40), (15, 240), (120, 60)] {
            let pixels = prepared(&png(page(ground, ink)), MNIST);
            let image = GrayImage::from_raw(28, 28, pixels).expect("28 x 28");
            let (left, top, width, height) = extent(&image, 100);
            assert_eq!((width, height), (10, 20), "from ground {ground}, ink {ink}");
            assert!(left > 0 && top > 0 && left + width < 28 && top + height < 28);
            let (x, y) = mass(&image);
            assert!((x - 13.5).abs() <= 0.51 && (y - 13.5).abs() <= 0.51, "mass at {x}, {y}");
            assert_eq!(image.pixels().map(|pixel| pixel.0[0]).max(), Some(255));
        }
    }

    #[test]
    fn every_colour_type_gives_the_same_digit() {
        let grey = page(255, 0);
        let expected = prepared(&png(grey.clone()), MNIST);
        let rgb = RgbImage::from_fn(200, 120, |x, y| Rgb([grey.get_pixel(x, y).0[0]; 3]));
        // Ink where it is opaque, and a black that does not show where it is not.
        let rgba = image::RgbaImage::from_fn(200, 120, |x, y| Rgba([0, 0, 0, 255 - grey.get_pixel(x, y).0[0]]));
        let deep: ImageBuffer<Luma<u16>, Vec<u16>> =
            ImageBuffer::from_fn(200, 120, |x, y| Luma([u16::from(grey.get_pixel(x, y).0[0]) * 257]));
        for bytes in [png(rgb), png(rgba), png(deep)] {
            assert_eq!(prepared(&bytes, MNIST), expected);
        }
    }

    #[test]
    fn an_empty_page_is_black() {
        for level in [0, 128, 255] {
            let blank = GrayImage::from_pixel(60, 90, Luma([level]));
            assert_eq!(prepared(&png(blank), MNIST), [0; 784]);
        }
        let dot = GrayImage::from_pixel(1, 1, Luma([9]));
        assert_eq!(prepared(&png(dot), MNIST).len(), 784);
    }

    #[test]
    fn a_turned_jpeg_is_turned_back() {
        let upright = RgbImage::from_fn(64, 32, |x, _| if x < 32 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
        let stored = image::imageops::rotate270(&upright);
        // Big-endian TIFF with one entry: orientation (0x0112), one short, 6 (turn by 90 degrees clockwise).
        let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif.to_vec()).expect("JPEG holds EXIF");
        encoder.encode_image(&stored).expect("memory");
        let image = decode(&bytes, true).expect("decodes");
        assert_eq!((image.width(), image.height()), (64, 32));
        let image = image.to_rgb8();
        assert!(image.get_pixel(5, 16).0[0] > 200 && image.get_pixel(58, 16).0[2] > 200);
    }

    #[test]
    fn other_models_get_the_centred_square() {
        let shape = ImageShape { channels: 3, height: 32, width: 32 };
        let image =
            RgbImage::from_fn(300, 100, |x, _| if (100..200).contains(&x) { Rgb([10, 200, 30]) } else { Rgb([0; 3]) });
        let pixels = prepared(&png(image), shape);
        assert_eq!(pixels.len(), 32 * 32 * 3);
        // The picture is made smaller before it is cut, so the outermost columns mix with what was beside them.
        let inside = |index: &usize| (2..30).contains(&(index % 32));
        let colour = |index: usize| pixels[3 * index..3 * index + 3] == [10, 200, 30];
        assert!((0..32 * 32).filter(inside).all(colour));
        let strip = RgbImage::from_pixel(20_000, 1, Rgb([1, 2, 3]));
        assert_eq!(prepared(&png(strip), shape).len(), 32 * 32 * 3);
        let grey = ImageShape { channels: 1, height: 64, width: 64 };
        assert_eq!(prepared(&png(page(0, 255)), grey).len(), 64 * 64);
        let odd = ImageShape { channels: 3, height: 32, width: 30 };
        assert!(prepare(&DynamicImage::new_rgb8(8, 8), odd, &Preprocess::default()).is_err());
    }

    #[test]
    fn what_cannot_be_decoded_says_why() {
        assert_eq!(decode(b"neither", true).unwrap_err(), "it is neither PNG nor JPEG");
        assert!(decode(b"", true).is_err());
        let whole = png(page(0, 255));
        assert!(decode(&whole[..whole.len() / 2], true).is_err());
        // A header that declares 4 gigapixels, with its checksum.
        let mut bomb = whole[..16].to_vec();
        bomb.extend([0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 8, 0, 0, 0, 0]);
        let mut crc = flate2::Crc::new();
        crc.update(&bomb[12..29]);
        bomb.extend(crc.sum().to_be_bytes());
        bomb.extend(&whole[33..]);
        let error = decode(&bomb, true).unwrap_err();
        assert!(error.contains("limit") || error.contains("large") || error.contains("more than"), "{error}");
    }
}
