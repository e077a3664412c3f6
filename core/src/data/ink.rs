//! From a photograph of a sign to ink as MNIST holds it.
//!
//! A network of MNIST's digits knows white ink on black, scaled into 20 x 20 and centred by its mass, because MNIST was made
//! so; a photograph of a number on paper is nothing of the kind, and is brought into that form first. A picture that has the
//! form already is left as it is.

use std::borrow::Cow;

use image::GrayImage;
use image::imageops::{FilterType, crop_imm, resize};

use super::{ImageShape, Picture};

/// Side of MNIST's images, and of the box that the ink fills.
const DIGIT: u32 = 28;
const INK: u32 = 20;
/// Border brightness above which a finished digit is dark ink on a bright ground.
const BRIGHT: u32 = 127;
/// Least difference between ground and ink; less is an empty page.
const CONTRAST: u32 = 16;

/// A picture of one channel as MNIST would hold the sign in it, 28 x 28.
pub(super) fn sign(picture: Picture<'_>) -> Picture<'_> {
    let ImageShape { height, width, .. } = picture.shape;
    let ready = (height, width) == (DIGIT as usize, DIGIT as usize);
    let sides = (u32::try_from(width), u32::try_from(height));
    let (Ok(width), Ok(height)) = sides else { return picture };
    if ready && border_of(width, height, |x, y| picture.pixels[(y * width + x) as usize]) <= BRIGHT {
        return picture;
    }
    let Some(image) = GrayImage::from_raw(width, height, picture.pixels.into_owned()) else {
        unreachable!("a picture of one channel has a byte a pixel");
    };
    let shape = ImageShape { channels: 1, height: DIGIT as usize, width: DIGIT as usize };
    Picture { shape, pixels: Cow::Owned(digit(&image).into_raw()) }
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
    border_of(image.width(), image.height(), |x, y| image.get_pixel(x, y).0[0])
}

fn border_of(width: u32, height: u32, pixel: impl Fn(u32, u32) -> u8) -> u32 {
    let (mut sum, mut count) = (0u64, 0u64);
    let mut add = |x: u32, y: u32| {
        sum += u64::from(pixel(x, y));
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
    use image::Luma;

    use super::*;

    fn signed(image: GrayImage) -> Vec<u8> {
        let shape = ImageShape { channels: 1, height: image.height() as usize, width: image.width() as usize };
        let found = sign(Picture { shape, pixels: Cow::Owned(image.into_raw()) });
        assert_eq!(found.shape, ImageShape { channels: 1, height: 28, width: 28 });
        found.pixels.into_owned()
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
        assert_eq!(signed(image.clone()), image.as_raw().clone());
        assert_eq!(signed(negative(&image)), image.into_raw());
    }

    #[test]
    fn a_photograph_becomes_centred_ink_of_twenty_pixels() {
        for (ground, ink) in [(230, 40), (15, 240), (120, 60)] {
            let image = GrayImage::from_raw(28, 28, signed(page(ground, ink))).expect("28 x 28");
            let (left, top, width, height) = extent(&image, 100);
            assert_eq!((width, height), (10, 20), "from ground {ground}, ink {ink}");
            assert!(left > 0 && top > 0 && left + width < 28 && top + height < 28);
            let (x, y) = mass(&image);
            assert!((x - 13.5).abs() <= 0.51 && (y - 13.5).abs() <= 0.51, "mass at {x}, {y}");
            assert_eq!(image.pixels().map(|pixel| pixel.0[0]).max(), Some(255));
        }
    }

    #[test]
    fn an_empty_page_is_black() {
        for level in [0, 128, 255] {
            assert_eq!(signed(GrayImage::from_pixel(60, 90, Luma([level]))), [0; 784]);
        }
        assert_eq!(signed(GrayImage::from_pixel(1, 1, Luma([9]))).len(), 784);
    }
}
