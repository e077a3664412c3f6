//! Position embeddings for another number of patches, resampled like pictures.
//!
//! The filters are those of PyTorch, because published figures were made with them. PyTorch has two cubic filters: a = -1/2 with
//! antialiasing, and a = -3/4 without.

use serde::{Deserialize, Serialize};

/// How a grid of positions is resampled to another size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resampling {
    /// Cubic with a = -1/2, widened with the reduction (timm from 0.8 on).
    #[default]
    BicubicAntialias,
    /// Cubic with a = -3/4 over four neighbours (DeiT, timm to 0.6, transformers).
    Bicubic,
    /// Linear between two neighbours (timm reading the original AugReg files).
    Bilinear,
}

impl Resampling {
    /// The method's name, as in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::BicubicAntialias => "bicubic-antialias",
            Self::Bicubic => "bicubic",
            Self::Bilinear => "bilinear",
        }
    }

    // For each of `to` positions along an axis: the first of the `from` positions that it reads, and their weights.
    fn shares(self, from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
        let scale = from as f64 / to as f64;
        (0..to)
            .map(|position| {
                let centre = (position as f64 + 0.5) * scale;
                match self {
                    Self::BicubicAntialias => {
                        let stretch = scale.max(1.0);
                        let first = (centre - 2.0 * stretch + 0.5).max(0.0) as usize;
                        let end = ((centre + 2.0 * stretch + 0.5) as usize).min(from);
                        let distance = |index: usize| (index as f64 - centre + 0.5) / stretch;
                        let shares: Vec<f64> = (first..end).map(|index| cubic(distance(index), -0.5)).collect();
                        let sum: f64 = shares.iter().sum();
                        (first, shares.into_iter().map(|share| share / sum).collect())
                    }
                    Self::Bicubic => neighbours(centre - 0.5, 1, 4, from, |x| cubic(x, -0.75)),
                    Self::Bilinear => neighbours((centre - 0.5).max(0.0), 0, 2, from, |x| (1.0 - x.abs()).max(0.0)),
                }
            })
            .collect()
    }
}

// The weights of `count` neighbours of `place`. `before` of them come before it. The edge takes the weights of neighbours beyond
// it.
fn neighbours(place: f64, before: isize, count: isize, from: usize, share: impl Fn(f64) -> f64) -> (usize, Vec<f64>) {
    let start = libm::floor(place) as isize - before;
    let clamped = |index: isize| index.clamp(0, from as isize - 1) as usize;
    let first = clamped(start);
    let mut shares = vec![0.0; clamped(start + count - 1) - first + 1];
    for index in start..start + count {
        shares[clamped(index) - first] += share(index as f64 - place);
    }
    (first, shares)
}

/// The cubic convolution kernel (Keys, 1981).
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// Resamples `grid`, `[from, from, width]` row-major, to `[to, to, width]`.
///
/// # Panics
/// If the grid has too few values, or if a size is 0.
pub fn resample(grid: &[f32], from: usize, to: usize, width: usize, how: Resampling) -> Vec<f32> {
    let shares = how.shares(from, to);
    // First the columns, then the rows. Each leaves the other axes unchanged.
    let mut rows = vec![0.0; from * to * width];
    for row in 0..from {
        for (column, (first, shares)) in shares.iter().enumerate() {
            let out = &mut rows[(row * to + column) * width..][..width];
            for (offset, share) in shares.iter().enumerate() {
                let from = &grid[(row * from + first + offset) * width..][..width];
                out.iter_mut().zip(from).for_each(|(out, value)| *out += share * f64::from(*value));
            }
        }
    }
    let mut all = Vec::with_capacity(to * to * width);
    for (first, shares) in &shares {
        for place in 0..to * width {
            let sum: f64 = shares
                .iter()
                .enumerate()
                .map(|(offset, share)| share * rows[(first + offset) * to * width + place])
                .sum();
            all.push(sum as f32);
        }
    }
    all
}
