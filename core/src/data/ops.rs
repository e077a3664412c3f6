//! Operations on 8-bit images, as in Pillow. RandAugment and colour jitter consist of them.
//!
//! Published figures were measured with Pillow's rounding, so these operations round in the same way: look-up tables of whole
//! numbers, brightness by ITU-R 601, mixtures truncated to whole values, and maps between the centres of pixels with a fixed
//! colour outside the image. A script in the repository writes Pillow's results. A test compares them, within 1 of 255.

use std::borrow::Cow;

use super::preprocess::luma;
use super::{ImageShape, Picture};

/// How a map interpolates between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// The pixel that contains the point.
    Nearest,
    /// Linear along each axis.
    Bilinear,
    /// Cubic with a = -1, as in Pillow's maps. Pillow's resizing uses -1/2.
    Bicubic,
}

/// One operation and its amount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// Stretches each channel to 0 to 255.
    AutoContrast,
    /// Spreads each channel's values evenly.
    Equalize,
    /// 255 minus each value.
    Invert,
    /// Rotates counter-clockwise about the centre by this many degrees.
    Rotate(f64),
    /// Keeps this many of the highest bits.
    Posterize(u32),
    /// Inverts values from the threshold on.
    Solarize(u32),
    /// Adds to values below 128.
    SolarizeAdd(u8),
    /// Mixes with the grey image: 0 is grey, 1 the image.
    Color(f32),
    /// Mixes with the mean brightness.
    Contrast(f32),
    /// Mixes with black.
    Brightness(f32),
    /// Mixes with the smoothed image.
    Sharpness(f32),
    /// Reads column `x + amount * y`.
    ShearX(f64),
    /// Reads row `y + amount * x`.
    ShearY(f64),
    /// Reads this many columns to the right.
    TranslateX(f64),
    /// Reads this many rows below.
    TranslateY(f64),
}

impl Op {
    /// The image after the operation. `fill` is the colour outside the image. For a grey image it is the first value.
    pub fn apply(self, mut picture: Picture<'_>, sampling: Sampling, fill: [u8; 3]) -> Picture<'_> {
        let shape = picture.shape;
        match self {
            Self::AutoContrast => per_channel(&mut picture, stretched),
            Self::Equalize => per_channel(&mut picture, equalised),
            Self::Invert => each(&mut picture, |value| 255 - value),
            Self::Posterize(bits) if bits < 8 => {
                let mask = !(0xff_u32 >> bits) as u8;
                each(&mut picture, |value| value & mask);
            }
            Self::Posterize(_) => {}
            Self::Solarize(from) => {
                each(&mut picture, |value| if u32::from(value) < from { value } else { 255 - value });
            }
            Self::SolarizeAdd(add) => {
                each(&mut picture, |value| if value < 128 { value.saturating_add(add) } else { value });
            }
            Self::Color(factor) => colour(&mut picture, factor),
            Self::Contrast(factor) => {
                let mean = mean_brightness(&picture);
                each(&mut picture, |value| mixed(mean, value, factor));
            }
            Self::Brightness(factor) => each(&mut picture, |value| mixed(0, value, factor)),
            Self::Sharpness(factor) => sharpen(&mut picture, factor),
            Self::ShearX(amount) => return mapped(&picture, [1.0, amount, 0.0, 0.0, 1.0, 0.0], sampling, fill),
            Self::ShearY(amount) => return mapped(&picture, [1.0, 0.0, 0.0, amount, 1.0, 0.0], sampling, fill),
            Self::TranslateX(pixels) => return mapped(&picture, [1.0, 0.0, pixels, 0.0, 1.0, 0.0], sampling, fill),
            Self::TranslateY(pixels) => return mapped(&picture, [1.0, 0.0, 0.0, 0.0, 1.0, pixels], sampling, fill),
            Self::Rotate(degrees) => return mapped(&picture, rotation(shape, degrees), sampling, fill),
        }
        picture
    }
}

/// Replaces every value.
fn each(picture: &mut Picture<'_>, change: impl Fn(u8) -> u8) {
    picture.pixels.to_mut().iter_mut().for_each(|value| *value = change(*value));
}

/// Replaces the values of each channel with a table that is computed from its histogram.
fn per_channel(picture: &mut Picture<'_>, table: impl Fn(&[u32; 256]) -> [u8; 256]) {
    let channels = picture.shape.channels;
    let pixels = picture.pixels.to_mut();
    for channel in 0..channels {
        let mut histogram = [0; 256];
        pixels.iter().skip(channel).step_by(channels).for_each(|&value| histogram[usize::from(value)] += 1);
        let table = table(&histogram);
        for value in pixels.iter_mut().skip(channel).step_by(channels) {
            *value = table[usize::from(*value)];
        }
    }
}

const SAME: [u8; 256] = {
    let mut table = [0; 256];
    let mut value = 0;
    while value < 256 {
        table[value] = value as u8;
        value += 1;
    }
    table
};

fn stretched(histogram: &[u32; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
    let high = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
    if high <= low {
        return SAME;
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    std::array::from_fn(|value| (value as f64 * scale + offset).clamp(0.0, 255.0) as u8)
}

fn equalised(histogram: &[u32; 256]) -> [u8; 256] {
    let total: u32 = histogram.iter().sum();
    let Some(&last) = histogram.iter().rfind(|&&count| count > 0) else { return SAME };
    let step = (total - last) / 255;
    if step == 0 {
        return SAME;
    }
    let mut below = step / 2;
    histogram.map(|count| {
        let level = (below / step).min(255) as u8;
        below += count;
        level
    })
}

/// `from + factor (to - from)`, truncated to a whole value from 0 to 255.
fn mixed(from: u8, to: u8, factor: f32) -> u8 {
    // The conversion cuts off and saturates.
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

fn colour(picture: &mut Picture<'_>, factor: f32) {
    if picture.shape.channels == 3 {
        for pixel in picture.pixels.to_mut().chunks_exact_mut(3) {
            let grey = luma(pixel[0], pixel[1], pixel[2]);
            pixel.iter_mut().for_each(|value| *value = mixed(grey, *value, factor));
        }
    }
}

/// The rounded mean brightness.
fn mean_brightness(picture: &Picture<'_>) -> u8 {
    let (sum, count) = match picture.shape.channels {
        3 => {
            let pixels = picture.pixels.chunks_exact(3);
            let count = pixels.len();
            (pixels.map(|pixel| u64::from(luma(pixel[0], pixel[1], pixel[2]))).sum::<u64>(), count)
        }
        _ => (picture.pixels.iter().map(|&value| u64::from(value)).sum(), picture.pixels.len()),
    };
    (sum as f64 / count.max(1) as f64 + 0.5) as u8
}

/// The smoothed image. The weight of the pixel is 5, and that of each of its eight neighbours 1. The border does not change.
fn sharpen(picture: &mut Picture<'_>, factor: f32) {
    let ImageShape { channels, height, width } = picture.shape;
    if height < 3 || width < 3 {
        return;
    }
    let before = picture.pixels.clone().into_owned();
    let line = width * channels;
    let pixels = picture.pixels.to_mut();
    for row in 1..height - 1 {
        for at in row * line + channels..(row + 1) * line - channels {
            let mut sum = 4 * u32::from(before[at]);
            for middle in [at - line, at, at + line] {
                sum += [middle - channels, middle, middle + channels]
                    .map(|near| u32::from(before[near]))
                    .iter()
                    .sum::<u32>();
            }
            let smooth = ((2 * sum + 13) / 26) as u8;
            pixels[at] = mixed(smooth, before[at], factor);
        }
    }
}

/// The map of a rotation about the centre, from output to input.
fn rotation(shape: ImageShape, degrees: f64) -> [f64; 6] {
    let angle = -degrees.to_radians();
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let (x, y) = (shape.width as f64 / 2.0, shape.height as f64 / 2.0);
    [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]
}

/// Reads every pixel at `(a x + b y + c, d x + e y + f)`. x and y are the centres of pixels.
fn mapped(picture: &Picture<'_>, map: [f64; 6], sampling: Sampling, fill: [u8; 3]) -> Picture<'static> {
    let shape @ ImageShape { channels, height, width } = picture.shape;
    let [a, b, c, d, e, f] = map;
    let mut pixels = Vec::with_capacity(shape.bytes());
    // As in Pillow, nearest pixels are found in units of 1 / 65536.
    let fixed = |value: f64| libm::floor(value * 65_536.0 + 0.5) as i64;
    let start = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
    let inside = |x: i64, y: i64| (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
    for row in 0..height {
        for column in 0..width {
            if sampling == Sampling::Nearest {
                let step = |start: i64, across: f64, down: f64| {
                    (start + column as i64 * fixed(across) + row as i64 * fixed(down)) >> 16
                };
                let (x, y) = (step(start[0], a, b), step(start[1], d, e));
                match inside(x, y) {
                    true => {
                        let at = (y as usize * width + x as usize) * channels;
                        pixels.extend_from_slice(&picture.pixels[at..at + channels]);
                    }
                    false => pixels.extend_from_slice(&fill[..channels]),
                }
                continue;
            }
            let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
            let (x, y) = (a * x + b * y + c, d * x + e * y + f);
            if !(0.0..width as f64).contains(&x) || !(0.0..height as f64).contains(&y) {
                pixels.extend_from_slice(&fill[..channels]);
                continue;
            }
            let (x, y) = (x - 0.5, y - 0.5);
            let (left, top) = (libm::floor(x), libm::floor(y));
            let near =
                |first: f64, offset: i64, side: usize| (first as i64 + offset).clamp(0, side as i64 - 1) as usize;
            let between = |channel: usize| {
                let at = |row: i64, column: i64| {
                    let pixel = near(top, row, height) * width + near(left, column, width);
                    f64::from(picture.pixels[pixel * channels + channel])
                };
                match sampling {
                    Sampling::Bicubic => {
                        let line = |row| cubic([-1, 0, 1, 2].map(|column| at(row, column)), x - left);
                        cubic([-1, 0, 1, 2].map(line), y - top)
                    }
                    _ => {
                        let line = |row| at(row, 0) + (at(row, 1) - at(row, 0)) * (x - left);
                        line(0) + (line(1) - line(0)) * (y - top)
                    }
                }
            };
            // The conversion cuts off and saturates.
            pixels.extend((0..channels).map(|channel| between(channel) as u8));
        }
    }
    Picture { shape, pixels: Cow::Owned(pixels) }
}

/// The cubic with a = -1 through four values, at `t` between the middle two.
fn cubic([p, q, r, s]: [f64; 4], t: f64) -> f64 {
    q + t * (r - p + t * (2.0 * (p - q) + r - s + t * (q - p + s - r)))
}
