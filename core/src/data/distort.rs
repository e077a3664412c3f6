//! Distortion of small drawn signs for training: a smooth warp, a change of the strokes' thickness, an erased square.
//!
//! A student that sees a thousand images for hundreds of epochs should never see the same image twice. Each visit has its own
//! version, which depends only on its generator. Rotation, scale, shear, shift and the elastic field are combined into one map
//! from output to input pixels, so an image is resampled only once, bilinearly. Outside the image it is zero, since the ink is on
//! black. There are no flips, because a mirrored digit is another sign.

use super::{Error, ImageShape, Rng};

/// Random local distortion: displacements are drawn at the points of a coarse grid and interpolated by cubic B-splines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elastic {
    /// Standard deviation of the displacement at a grid point, in pixels. The splines smooth it to about half of that.
    pub alpha: f32,
    /// Distance between grid points, in pixels, at least 2. A larger distance is smoother.
    pub spacing: f32,
}

/// A square of the image set to zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Erase {
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// Largest side, in pixels. The side is drawn uniformly from 1 to this.
    pub side: u32,
}

/// The distortion of a sign in training. Every amount is drawn for each visit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distortion {
    /// Largest rotation in degrees, to either side. It is drawn uniformly.
    pub rotate_degrees: f32,
    /// Smallest and largest magnification, drawn for each axis. 1 keeps the size.
    pub scale: (f32, f32),
    /// Largest horizontal shear (slant) in degrees, to either side. It is drawn uniformly.
    pub shear_degrees: f32,
    /// Largest shift in pixels, to either side, for each axis. It is drawn uniformly.
    pub translate_pixels: f32,
    /// Local distortion.
    pub elastic: Option<Elastic>,
    /// Largest change of the strokes' thickness, 0 to 1. 1 is a full pixel, thicker or thinner.
    pub thickness: f32,
    /// Erasing.
    pub erase: Option<Erase>,
}

impl Default for Distortion {
    fn default() -> Self {
        Self::none()
    }
}

impl Distortion {
    /// No distortion.
    pub const fn none() -> Self {
        Self {
            rotate_degrees: 0.0,
            scale: (1.0, 1.0),
            shear_degrees: 0.0,
            translate_pixels: 0.0,
            elastic: None,
            thickness: 0.0,
            erase: None,
        }
    }

    /// For handwritten digits of about 28 x 28 pixels.
    pub const fn handwriting() -> Self {
        Self {
            rotate_degrees: 12.0,
            scale: (0.85, 1.15),
            shear_degrees: 12.0,
            translate_pixels: 2.0,
            elastic: Some(Elastic { alpha: 2.0, spacing: 7.0 }),
            thickness: 0.4,
            erase: None,
        }
    }

    /// Whether there is no distortion.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn check(&self) -> Result<(), Error> {
        let elastic = self.elastic.unwrap_or(Elastic { alpha: 0.0, spacing: 2.0 });
        let erase = self.erase.map_or(0.0, |erase| erase.probability);
        let settings = [
            ("rotate_degrees", self.rotate_degrees, 0.0, 180.0, "from 0 to 180"),
            ("scale.0", self.scale.0, 0.1, self.scale.1, "from 0.1 to scale.1"),
            ("scale.1", self.scale.1, 0.1, 10.0, "from 0.1 to 10"),
            ("shear_degrees", self.shear_degrees, 0.0, 60.0, "from 0 to 60"),
            ("translate_pixels", self.translate_pixels, 0.0, 1024.0, "from 0 to 1024"),
            ("elastic.alpha", elastic.alpha, 0.0, 1024.0, "from 0 to 1024"),
            ("elastic.spacing", elastic.spacing, 2.0, 4096.0, "from 2 to 4096"),
            ("thickness", self.thickness, 0.0, 1.0, "from 0 to 1"),
            ("erase.probability", erase, 0.0, 1.0, "from 0 to 1"),
        ];
        for (setting, value, low, high, range) in settings {
            // Written so that NaN is refused.
            if !(low <= value && value <= high) {
                return Err(Error::Augment { setting, value, range });
            }
        }
        Ok(())
    }

    /// Computes one version of an image.
    ///
    /// `image` and `out` are `(H, W, C)`, and the values of `out` are from 0 to 1. The settings must have passed
    /// [`check`](Self::check).
    ///
    /// # Panics
    /// If `image` or `out` is not [`ImageShape::bytes`] long.
    pub fn apply(&self, image: &[u8], shape: ImageShape, rng: &mut Rng, out: &mut [f32]) {
        assert_eq!(image.len(), shape.bytes(), "pixels of the image");
        assert_eq!(out.len(), shape.bytes(), "pixels of the result");
        if self.is_none() {
            for (out, &pixel) in out.iter_mut().zip(image) {
                *out = f32::from(pixel) / 255.0;
            }
            return;
        }
        self.warp(image, shape, rng, out);
        if self.thickness > 0.0 {
            thicken(out, shape, rng.range(-1.0, 1.0) as f32 * self.thickness);
        }
        if let Some(erase) = self.erase {
            erase.apply(out, shape, rng);
        }
    }

    fn warp(&self, image: &[u8], shape: ImageShape, rng: &mut Rng, out: &mut [f32]) {
        let mut either = |amount: f32| rng.range(-1.0, 1.0) * f64::from(amount);
        let angle = either(self.rotate_degrees).to_radians();
        let shear = libm::tan(either(self.shear_degrees).to_radians());
        let (shift_x, shift_y) = (either(self.translate_pixels), either(self.translate_pixels));
        // Log-uniform: halving is as likely as doubling.
        let (low, high) = (libm::log(f64::from(self.scale.0)), libm::log(f64::from(self.scale.1)));
        let (scale_x, scale_y) = (libm::exp(rng.range(low, high)), libm::exp(rng.range(low, high)));
        let field = self.elastic.map(|elastic| Field::new(elastic, shape, rng));

        // Output offset (x, y) from the centre is read at M (x, y): unscale, then shear, then rotate.
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        let (xx, yx) = (cos / scale_x, sin / scale_x);
        let (xy, yy) = ((shear * cos - sin) / scale_y, (shear * sin + cos) / scale_y);
        let [xx, xy, yx, yy, shift_x, shift_y] = [xx, xy, yx, yy, shift_x, shift_y].map(|value| value as f32);
        let (centre_x, centre_y) = (0.5 * (shape.width as f32 - 1.0), 0.5 * (shape.height as f32 - 1.0));
        for row in 0..shape.height {
            let y = row as f32 - centre_y - shift_y;
            for column in 0..shape.width {
                let x = column as f32 - centre_x - shift_x;
                let mut source_x = xx * x + xy * y + centre_x;
                let mut source_y = yx * x + yy * y + centre_y;
                if let Some(field) = &field {
                    let (dx, dy) = field.at(row, column);
                    source_x += dx;
                    source_y += dy;
                }
                let at = (row * shape.width + column) * shape.channels;
                sample(image, shape, source_x, source_y, &mut out[at..at + shape.channels]);
            }
        }
    }
}

/// The bilinear value at a point, all channels, 0 to 1, zero outside.
fn sample(image: &[u8], shape: ImageShape, x: f32, y: f32, out: &mut [f32]) {
    // Also keeps the conversions to integers in range.
    let inside = x > -1.0 && y > -1.0 && x < shape.width as f32 && y < shape.height as f32;
    out.fill(0.0);
    if !inside {
        return;
    }
    // x + 1 is positive, so truncation is the floor.
    let (left, top) = ((x + 1.0) as usize, (y + 1.0) as usize);
    let (fx, fy) = (x + 1.0 - left as f32, y + 1.0 - top as f32);
    // Most pixels are grey and have all four neighbours.
    if let [out] = out
        && left > 0
        && top > 0
        && left < shape.width
        && top < shape.height
    {
        let at = (top - 1) * shape.width + left - 1;
        let (upper, lower) = (&image[at..at + 2], &image[at + shape.width..at + shape.width + 2]);
        let [a, b] = [upper[0], upper[1]].map(f32::from);
        let [c, d] = [lower[0], lower[1]].map(f32::from);
        let (upper, lower) = (a + fx * (b - a), c + fx * (d - c));
        *out = (upper + fy * (lower - upper)) * (1.0 / 255.0);
        return;
    }
    for (row, weight_y) in [(top, 1.0 - fy), (top + 1, fy)] {
        for (column, weight_x) in [(left, 1.0 - fx), (left + 1, fx)] {
            // `row` and `column` count from -1.
            if row == 0 || column == 0 || row > shape.height || column > shape.width {
                continue;
            }
            let at = ((row - 1) * shape.width + column - 1) * shape.channels;
            let weight = weight_x * weight_y * (1.0 / 255.0);
            for (out, &pixel) in out.iter_mut().zip(&image[at..at + shape.channels]) {
                *out += weight * f32::from(pixel);
            }
        }
    }
}

/// A smooth displacement for every pixel.
struct Field {
    width: usize,
    /// `(H, W)` pairs of x and y.
    shifts: Vec<(f32, f32)>,
}

impl Field {
    fn new(elastic: Elastic, shape: ImageShape, rng: &mut Rng) -> Self {
        // The smallest distance that `check` allows. A distance of 0 would need infinitely many points.
        let spacing = elastic.spacing.max(2.0);
        let spline = |pixels: usize| -> Vec<(usize, [f32; 4])> {
            (0..pixels)
                .map(|pixel| {
                    let at = pixel as f32 / spacing;
                    (at as usize, cubic_b_spline(at - (at as usize) as f32))
                })
                .collect()
        };
        let (rows, columns) = (spline(shape.height), spline(shape.width));
        // A spline reads four points from its own.
        let points = |spline: &[(usize, [f32; 4])]| spline.last().map_or(4, |last| last.0 + 4);
        let (grid_rows, grid_columns) = (points(&rows), points(&columns));
        // A random phase would only shift a field that is random anyway, so the grid does not move.
        let alpha = f64::from(elastic.alpha);
        // (grid rows, W): first the columns are interpolated, then the rows.
        let mut joined = Vec::with_capacity(grid_rows * shape.width);
        let mut line = vec![(0.0f32, 0.0f32); grid_columns];
        for _ in 0..grid_rows {
            line.fill_with(|| ((alpha * rng.normal()) as f32, (alpha * rng.normal()) as f32));
            joined.extend(columns.iter().map(|&(start, weights)| {
                let mut sum = (0.0, 0.0);
                for (point, weight) in line[start..start + 4].iter().zip(weights) {
                    sum = (sum.0 + weight * point.0, sum.1 + weight * point.1);
                }
                sum
            }));
        }
        let width = shape.width;
        let mut shifts = Vec::with_capacity(shape.height * width);
        for &(start, [a, b, c, d]) in &rows {
            let line = |k: usize| &joined[(start + k) * width..(start + k + 1) * width];
            let (p, q, r, s) = (line(0), line(1), line(2), line(3));
            shifts.extend((0..width).map(|x| {
                (a * p[x].0 + b * q[x].0 + c * r[x].0 + d * s[x].0, a * p[x].1 + b * q[x].1 + c * r[x].1 + d * s[x].1)
            }));
        }
        Self { width, shifts }
    }

    fn at(&self, row: usize, column: usize) -> (f32, f32) {
        self.shifts[row * self.width + column]
    }
}

/// The weights of four successive points for a place `t` (0 to 1) between the middle two. Their sum is 1.
fn cubic_b_spline(t: f32) -> [f32; 4] {
    let u = 1.0 - t;
    let inner = |t: f32| (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0;
    [u * u * u / 6.0, inner(t), inner(u), t * t * t / 6.0]
}

/// Moves an image towards its dilation (`amount` above 0) or its erosion (below 0) by one pixel up, down, left, right.
fn thicken(image: &mut [f32], shape: ImageShape, amount: f32) {
    let before = image.to_vec();
    if amount > 0.0 {
        spread(image, &before, shape, |a, b| if b > a { b } else { a });
    } else {
        spread(image, &before, shape, |a, b| if b < a { b } else { a });
    }
    let share = amount.abs();
    for (value, before) in image.iter_mut().zip(before) {
        *value = before + share * (*value - before);
    }
}

/// Replaces each value by the one that `pick` chooses among itself and its four neighbours.
fn spread(image: &mut [f32], before: &[f32], shape: ImageShape, pick: impl Fn(f32, f32) -> f32) {
    let mut join = |to: std::ops::Range<usize>, from: usize| {
        let length = to.len();
        for (value, &near) in image[to].iter_mut().zip(&before[from..from + length]) {
            *value = pick(*value, near);
        }
    };
    let (line, step, all) = (shape.width * shape.channels, shape.channels, shape.bytes());
    // Nothing lies above the first row or below the last, and an image of one row has no such neighbours at all.
    join(line..all, 0);
    join(0..all - line, line);
    for row in (0..all).step_by(line) {
        join(row + step..row + line, row);
        join(row..row + line - step, row + step);
    }
}

impl Erase {
    fn apply(&self, image: &mut [f32], shape: ImageShape, rng: &mut Rng) {
        if !rng.chance(f64::from(self.probability)) {
            return;
        }
        let side = 1 + rng.below(u64::from(self.side)) as usize;
        let (height, width) = (side.min(shape.height), side.min(shape.width));
        let top = rng.below((shape.height - height) as u64 + 1) as usize;
        let left = rng.below((shape.width - width) as u64 + 1) as usize;
        for row in top..top + height {
            let at = (row * shape.width + left) * shape.channels;
            image[at..at + width * shape.channels].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

    /// A bright upright bar.
    fn bar() -> Vec<u8> {
        (0..28 * 28)
            .map(|i| if (12..16).contains(&(i % 28)) && (5..23).contains(&(i / 28)) { 255 } else { 0 })
            .collect()
    }

    fn draw(distortion: &Distortion, index: u64) -> Vec<f32> {
        let mut out = vec![0.0; SHAPE.bytes()];
        distortion.apply(&bar(), SHAPE, &mut Rng::new(3, 1, index, Purpose::Augment), &mut out);
        out
    }

    #[test]
    fn none_keeps_every_pixel() {
        let expected: Vec<f32> = bar().iter().map(|&p| f32::from(p) / 255.0).collect();
        assert_eq!(draw(&Distortion::none(), 0), expected);
    }

    #[test]
    fn a_warp_of_nothing_keeps_every_pixel() {
        let still = Distortion { elastic: Some(Elastic { alpha: 0.0, spacing: 7.0 }), ..Distortion::none() };
        for (a, b) in draw(&still, 0).iter().zip(draw(&Distortion::none(), 0)) {
            assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn depends_on_the_key_and_stays_in_range() {
        let light = Distortion::handwriting();
        assert_eq!(draw(&light, 5), draw(&light, 5));
        assert_ne!(draw(&light, 5), draw(&light, 6));
        for index in 0..200 {
            let image = draw(&light, index);
            assert!(image.iter().all(|p| (0.0..=1.0001).contains(p)));
            let ink: f32 = image.iter().sum();
            assert!((20.0..180.0).contains(&ink), "sample {index} has {ink} ink of about 72");
        }
    }

    #[test]
    fn thickness_adds_or_takes_ink() {
        let ink = |amount| {
            let mut image = draw(&Distortion::none(), 0);
            thicken(&mut image, SHAPE, amount);
            image.iter().sum::<f32>()
        };
        // A 4 x 18 bar gains a rim of 2 * (4 + 18) pixels, or keeps an inside of 2 x 16.
        assert!((ink(1.0) - (72.0 + 44.0)).abs() < 1e-3);
        assert!((ink(-1.0) - 32.0).abs() < 1e-3);
        assert!((ink(0.5) - (72.0 + 22.0)).abs() < 1e-3);
    }

    #[test]
    fn colours_move_together() {
        let shape = ImageShape { channels: 3, height: 9, width: 7 };
        let image: Vec<u8> = (0..shape.bytes()).map(|i| [10, 20, 30][i % 3]).collect();
        let mut out = vec![0.0; shape.bytes()];
        let distortion = Distortion { erase: Some(Erase { probability: 0.5, side: 20 }), ..Distortion::handwriting() };
        for index in 0..50 {
            distortion.apply(&image, shape, &mut Rng::new(0, 0, index, Purpose::Augment), &mut out);
            for pixel in out.chunks_exact(3) {
                assert!((pixel[1] - 2.0 * pixel[0]).abs() < 1e-4 && (pixel[2] - 3.0 * pixel[0]).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn odd_settings_are_named() {
        assert!(Distortion::handwriting().check().is_ok());
        let refuse = |distortion: Distortion, name| match distortion.check() {
            Err(Error::Augment { setting, .. }) => assert_eq!(setting, name),
            other => panic!("{other:?}"),
        };
        refuse(Distortion { rotate_degrees: f32::NAN, ..Distortion::none() }, "rotate_degrees");
        refuse(Distortion { scale: (1.2, 1.1), ..Distortion::none() }, "scale.0");
        refuse(
            Distortion { elastic: Some(Elastic { alpha: 1.0, spacing: 0.0 }), ..Distortion::none() },
            "elastic.spacing",
        );
        refuse(Distortion { thickness: 2.0, ..Distortion::none() }, "thickness");
    }
}
