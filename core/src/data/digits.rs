//! Handwritten digits without a download. Every sample is drawn when it is read, from its index alone.
//!
//! With this set, a first run, the tests and the page need no files. It is so similar to MNIST that a model trained on it can
//! read MNIST. A digit consists of a few strokes of a pen, given as a [skeleton](SKELETONS) in one of several common
//! handwritings. The points are jittered, and the digit is bent, slanted, turned and stretched. Then it is brought into MNIST's
//! form: 28 x 28 pixels, white ink on black, a digit of 20 x 20 pixels with its centre of mass in the middle.
//!
//! Invariants: the label is `index % 10`, so every prefix of the set is balanced. Training and held-out samples have separate
//! random streams. All arithmetic is IEEE with `libm`, so the bytes are the same on every platform (a test checks their hash).

use std::borrow::Cow;

use super::{Dataset, Error, ImageShape, Picture, Purpose, Rng};

mod skeletons;

use skeletons::{Node, SKELETONS, Skeleton};

/// The stream of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For training.
    Train,
    /// Held out.
    Test,
}

/// Rows and columns of an image.
const SIDE: usize = 28;
const SHAPE: ImageShape = ImageShape { channels: 1, height: SIDE, width: SIDE };
/// The side of the box that the digit fills, including its ink, as in MNIST.
const BOX: f64 = 20.0;
/// The usual radius of the pen for each digit, in pixels. Simple digits are written small, so they are magnified more when they
/// are fitted to the box, together with the pen.
const PEN: [f64; 10] = [1.32, 1.36, 1.24, 1.20, 1.16, 1.16, 1.20, 1.24, 1.13, 1.14];
/// Points drawn for each span between two nodes.
const STEPS: usize = 6;

/// The set of drawn digits: grey, 28 x 28, ten classes.
#[derive(Debug, Clone)]
pub struct Digits {
    split: Split,
    len: usize,
    class_names: Vec<String>,
}

impl Digits {
    /// The first `len` samples of a split. There is no limit to their number.
    pub fn new(split: Split, len: usize) -> Self {
        Self { split, len, class_names: (0..10).map(|class| class.to_string()).collect() }
    }

    /// Draws a sample into `out`, 28 x 28 bytes.
    ///
    /// # Panics
    /// If `index` is not below the length, or `out` is not 784 bytes long.
    pub fn draw(&self, index: usize, out: &mut [u8]) {
        let label = self.label(index) as usize;
        assert_eq!(out.len(), SHAPE.bytes(), "pixels of the result");
        let purpose = match self.split {
            Split::Train => Purpose::DigitsTrain,
            Split::Test => Purpose::DigitsTest,
        };
        let mut rng = Rng::new(0, 0, index as u64, purpose);
        let skeleton = choose(SKELETONS[label], &mut rng);
        let strokes = bend(skeleton, &mut rng);
        ink(strokes, PEN[label], &mut rng, out);
    }
}

impl Dataset for Digits {
    fn name(&self) -> &str {
        match self.split {
            Split::Train => "digits-train",
            Split::Test => "digits-test",
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn shape(&self) -> Option<ImageShape> {
        Some(SHAPE)
    }

    fn label(&self, index: usize) -> u32 {
        assert!(index < self.len, "sample {index} of {}", self.len);
        (index % 10) as u32
    }

    fn image(&self, index: usize) -> Result<Picture<'_>, Error> {
        let mut pixels = vec![0; SHAPE.bytes()];
        self.draw(index, &mut pixels);
        Ok(Picture { shape: SHAPE, pixels: Cow::Owned(pixels) })
    }
}

/// A point of a drawn line, x to the right and y down.
type Point = (f64, f64);

/// Picks a handwriting by weight.
fn choose(skeletons: &'static [Skeleton], rng: &mut Rng) -> &'static Skeleton {
    let total: u64 = skeletons.iter().map(|s| s.weight).sum();
    let mut ticket = rng.below(total);
    for skeleton in skeletons {
        if ticket < skeleton.weight {
            return skeleton;
        }
        ticket -= skeleton.weight;
    }
    &skeletons[0]
}

/// One writer's version of a skeleton: jittered, joined by curves, bent, slanted, turned and stretched.
fn bend(skeleton: &Skeleton, rng: &mut Rng) -> Vec<Vec<Point>> {
    // The unsteadiness differs for each writer and each sample.
    let jitter = rng.range(0.03, 0.13) * skeleton.jitter;
    let slant = 0.18 + 0.26 * rng.normal();
    let angle = 0.12 * rng.normal();
    let stretch = libm::exp(0.20 * rng.normal());
    let bends: [f64; 6] = std::array::from_fn(|_| 0.09 * rng.normal());
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let place = |(x, y): Point| -> Point {
        let (x, y) = (
            x + bends[0] * x * x + bends[1] * x * y + bends[2] * y * y,
            y + bends[3] * x * x + bends[4] * x * y + bends[5] * y * y,
        );
        let x = x * stretch - slant * y;
        (cos * x - sin * y, sin * x + cos * y)
    };
    skeleton
        .strokes
        .iter()
        .map(|stroke| {
            let nodes: Vec<(Point, bool)> = stroke
                .iter()
                .map(|&Node { x, y, corner }| {
                    let x = f64::from(x) / 50.0 - 1.0 + jitter * rng.normal();
                    let y = f64::from(y) / 50.0 - 1.0 + jitter * rng.normal();
                    ((x, y), corner)
                })
                .collect();
            curve(&nodes).into_iter().map(place).collect()
        })
        .collect()
}

/// A Catmull-Rom curve through the nodes, broken at corners.
fn curve(nodes: &[(Point, bool)]) -> Vec<Point> {
    let Some(&(first, _)) = nodes.first() else {
        return Vec::new();
    };
    let mut points = vec![first];
    for span in 1..nodes.len() {
        let ((b, b_corner), (c, c_corner)) = (nodes[span - 1], nodes[span]);
        // At an end or a corner the neighbour beyond is mirrored, which leaves the curve free there.
        let a = if b_corner || span < 2 { (2.0 * b.0 - c.0, 2.0 * b.1 - c.1) } else { nodes[span - 2].0 };
        let d =
            if c_corner || span + 1 >= nodes.len() { (2.0 * c.0 - b.0, 2.0 * c.1 - b.1) } else { nodes[span + 1].0 };
        for step in 1..=STEPS {
            let t = step as f64 / STEPS as f64;
            let join = |a: f64, b: f64, c: f64, d: f64| {
                b + 0.5 * t * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
            };
            points.push((join(a.0, b.0, c.0, d.0), join(a.1, b.1, c.1, d.1)));
        }
    }
    points
}

/// Fits the lines to the box, centres them by mass, and draws them with a pen.
fn ink(mut strokes: Vec<Vec<Point>>, pen: f64, rng: &mut Rng, out: &mut [u8]) {
    // Log-normal: a few writers press very hard.
    let radius = (pen * libm::exp(0.30 * rng.normal())).clamp(0.6, 3.4);
    let edge = rng.range(0.9, 1.5);
    let pressure = 0.15 * rng.normal();
    let fill = BOX * rng.range(0.94, 1.02);
    let shift = (0.4 * rng.normal(), 0.4 * rng.normal());

    let (mut low, mut high) = ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN));
    for &(x, y) in strokes.iter().flatten() {
        low = (low.0.min(x), low.1.min(y));
        high = (high.0.max(x), high.1.max(y));
    }
    let extent = (high.0 - low.0).max(high.1 - low.1).max(1e-3);
    let scale = (fill - 2.0 * radius) / extent;
    // The centre of mass of the lines. The weight of each piece is its length.
    let (mut mass, mut sum) = (1e-9, (0.0, 0.0));
    for stroke in &strokes {
        for pair in stroke.windows(2) {
            let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
            let length = libm::sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay));
            mass += length;
            sum = (sum.0 + length * 0.5 * (ax + bx), sum.1 + length * 0.5 * (ay + by));
        }
    }
    let centre = 0.5 * (SIDE as f64 - 1.0);
    for (x, y) in strokes.iter_mut().flatten() {
        *x = (*x - sum.0 / mass) * scale + centre + shift.0;
        *y = (*y - sum.1 / mass) * scale + centre + shift.1;
    }

    // The depth of each pixel in the ink: the pen's radius minus the distance to the nearest line.
    let mut depth = [-8.0f32; SIDE * SIDE];
    for stroke in &strokes {
        let last = stroke.len().saturating_sub(1).max(1) as f64;
        for (step, pair) in stroke.windows(2).enumerate() {
            let along = step as f64 / last - 0.5;
            draw(pair[0], pair[1], radius * (1.0 + pressure * along), edge, &mut depth);
        }
    }
    // Paper and scanner make edges rough, so the depth of each pixel varies a little.
    let rough = rng.range(0.0, 0.5);
    for (out, depth) in out.chunks_mut(4).zip(depth.chunks(4)) {
        let mut bits = rng.next_u64();
        for (out, &depth) in out.iter_mut().zip(depth) {
            let stray = rough * ((bits & 0xffff) as f64 / 65536.0 - 0.5);
            bits >>= 16;
            let cover = ((f64::from(depth) + stray) / edge + 0.5).clamp(0.0, 1.0);
            *out = (255.0 * cover + 0.5) as u8;
        }
    }
}

/// Updates the depth of the pixels around one straight piece.
fn draw(a: Point, b: Point, radius: f64, edge: f64, depth: &mut [f32; SIDE * SIDE]) {
    let reach = radius + edge;
    let bound = |value: f64| value.clamp(0.0, SIDE as f64) as usize;
    let rows = bound(a.1.min(b.1) - reach)..bound(a.1.max(b.1) + reach + 1.0);
    let columns = bound(a.0.min(b.0) - reach)..bound(a.0.max(b.0) + reach + 1.0);
    let (dx, dy) = ((b.0 - a.0) as f32, (b.1 - a.1) as f32);
    let (ax, ay, radius) = (a.0 as f32, a.1 as f32, radius as f32);
    let inverse = 1.0 / (dx * dx + dy * dy).max(1e-6);
    for row in rows {
        let y = row as f32 - ay;
        for column in columns.clone() {
            let x = column as f32 - ax;
            let t = ((x * dx + y * dy) * inverse).clamp(0.0, 1.0);
            let (x, y) = (x - t * dx, y - t * dy);
            let at = &mut depth[row * SIDE + column];
            *at = at.max(radius - (x * x + y * y).sqrt());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(split: Split, index: usize) -> [u8; SIDE * SIDE] {
        let mut image = [0; SIDE * SIDE];
        Digits::new(split, index + 1).draw(index, &mut image);
        image
    }

    /// FNV-1a, 64 bits, over samples 0 to 9,999 of a split.
    fn hash(split: Split) -> u64 {
        let digits = Digits::new(split, 10_000);
        let mut image = [0; SIDE * SIDE];
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for index in 0..digits.len() {
            digits.draw(index, &mut image);
            for byte in image {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        hash
    }

    /// A change to the drawing changes published results. Change these values only on purpose.
    #[test]
    fn bytes_are_the_same_everywhere() {
        assert_eq!(format!("{:016x}", hash(Split::Train)), "0900d929ebc4d736");
        assert_eq!(format!("{:016x}", hash(Split::Test)), "5a590a868aaefb80");
    }

    #[test]
    fn labels_are_balanced_and_splits_share_nothing() {
        let digits = Digits::new(Split::Train, 100);
        assert_eq!((digits.len(), digits.classes()), (100, 10));
        let mut counts = [0; 10];
        (0..100).for_each(|index| counts[digits.label(index) as usize] += 1);
        assert_eq!(counts, [10; 10]);
        let images: std::collections::BTreeSet<_> =
            (0..2000).flat_map(|index| [draw(Split::Train, index), draw(Split::Test, index)]).collect();
        assert_eq!(images.len(), 4000);
    }

    #[test]
    fn a_sample_does_not_depend_on_the_length_of_the_set() {
        let mut image = [0; SIDE * SIDE];
        Digits::new(Split::Train, 1000).draw(7, &mut image);
        assert_eq!(image, draw(Split::Train, 7));
    }

    /// MNIST's form: dark margins, a digit about 20 pixels high or wide, its mass in the middle, ink about 0.13.
    #[test]
    fn looks_as_mnist_does() {
        let mut total = 0.0;
        for index in 0..1000 {
            let image = draw(Split::Train, index);
            let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
            let (mut rows, mut columns) = ([false; SIDE], [false; SIDE]);
            for (at, &pixel) in image.iter().enumerate() {
                let ink = f64::from(pixel) / 255.0;
                mass += ink;
                x += ink * (at % SIDE) as f64;
                y += ink * (at / SIDE) as f64;
                rows[at / SIDE] |= pixel > 100;
                columns[at % SIDE] |= pixel > 100;
            }
            let side = |lines: [bool; SIDE]| lines.iter().filter(|&&line| line).count();
            let longer = side(rows).max(side(columns));
            assert!((15..=23).contains(&longer), "sample {index} is {longer} pixels long");
            assert!((x / mass - 13.5).abs() < 3.5 && (y / mass - 13.5).abs() < 3.5, "sample {index} is off centre");
            assert!(mass > 15.0, "sample {index} is faint");
            total += mass / (SIDE * SIDE) as f64;
        }
        assert!((total / 1000.0 - 0.1307).abs() < 0.015, "mean ink {}", total / 1000.0);
    }

    #[test]
    fn every_skeleton_lies_in_its_box_and_can_be_chosen() {
        for skeleton in SKELETONS.into_iter().flatten() {
            assert!(skeleton.weight > 0 && skeleton.jitter > 0.0);
            assert!(!skeleton.strokes.is_empty());
            for stroke in skeleton.strokes {
                assert!(stroke.len() >= 2);
                assert!(stroke.iter().all(|n| (0..=100).contains(&n.x) && (0..=100).contains(&n.y)));
            }
        }
    }
}
