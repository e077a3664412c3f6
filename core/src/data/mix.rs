//! Mixup (Zhang et al., 2017) and CutMix (Yun et al., 2019) of a whole batch, as in timm.
//!
//! A batch is mixed with probability `probability`. A mixed batch uses CutMix with probability `switch`, otherwise Mixup. The
//! whole batch has one λ ~ Beta(α, α). The partner of sample i is sample B - 1 - i. Mixup computes λ x + (1 - λ) x'. CutMix puts
//! a rectangle of x' with side sqrt(1 - λ) into x, and then takes λ from the area that the rectangle really has. Labels become λ
//! y + (1 - λ) y'.
//!
//! A sample without a label adds nothing to a mixed target. If y' is unknown, only λ y is left.
//!
//! Labels are not smoothed here. Smoothing is linear, so an objective that smooths λ y + (1 - λ) y' by ε has the same target that
//! timm builds from smoothed labels, and nothing is smoothed twice. A test checks this.

use serde::{Deserialize, Serialize};

use super::{Batch, Error, Purpose, Rng};

/// How batches are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// α of Mixup. 0: no Mixup.
    pub mixup: f64,
    /// α of CutMix. 0: no CutMix.
    pub cutmix: f64,
    /// Probability that a batch is mixed.
    pub probability: f64,
    /// Probability that a mixed batch uses CutMix, if both are on.
    pub switch: f64,
}

impl Default for Mix {
    /// No mixing. The probabilities are those of DeiT.
    fn default() -> Self {
        Self { mixup: 0.0, cutmix: 0.0, probability: 1.0, switch: 0.5 }
    }
}

impl Mix {
    /// Whether no batch is ever mixed.
    pub fn is_none(&self) -> bool {
        (self.mixup == 0.0 && self.cutmix == 0.0) || self.probability == 0.0
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that is out of range.
    pub fn check(&self) -> Result<(), Error> {
        for (setting, value, most) in [
            ("mix.mixup", self.mixup, 100.0),
            ("mix.cutmix", self.cutmix, 100.0),
            ("mix.probability", self.probability, 1.0),
            ("mix.switch", self.switch, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                let range = if most == 1.0 { "from 0 to 1" } else { "from 0 to 100" };
                return Err(Error::Augment { setting, value: value as f32, range });
            }
        }
        Ok(())
    }

    /// Mixes batch `position` of its epoch.
    pub fn apply(&self, batch: &mut Batch, seed: u64, epoch: u64, position: u64) {
        let mut rng = Rng::new(seed, epoch, position, Purpose::Mix);
        if self.is_none() || !rng.chance(self.probability) {
            return;
        }
        let cut = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (true, true) => rng.chance(self.switch),
            (mixup, _) => !mixup,
        };
        let alpha = if cut { self.cutmix } else { self.mixup };
        let lambda = rng.beta(alpha, alpha);
        let lambda = match cut {
            true => cut_mix(batch, lambda, &mut rng),
            false => {
                mirrored(&mut batch.images, batch.shape.bytes(), |a, b| blend(a, b, lambda as f32));
                lambda
            }
        };
        mirrored(&mut batch.targets, batch.classes, |a, b| blend(a, b, lambda as f32));
        if let Some(known) = &mut batch.known {
            mirrored(known, 1, |a, b| blend(a, b, lambda as f32));
            // The target remains a distribution over the classes: that of the known share.
            for (target, known) in batch.targets.chunks_exact_mut(batch.classes).zip(known) {
                if *known > 0.0 {
                    target.iter_mut().for_each(|value| *value /= *known);
                }
            }
        }
    }
}

/// Calls `pair` with each row and its partner's row. A row in the middle is its own partner and does not change.
fn mirrored(rows: &mut [f32], length: usize, mut both: impl FnMut(&mut [f32], &mut [f32])) {
    let count = rows.len() / length.max(1);
    for first in 0..count / 2 {
        let (head, tail) = rows.split_at_mut((count - 1 - first) * length);
        both(&mut head[first * length..(first + 1) * length], &mut tail[..length]);
    }
}

/// `a, b = λ a + (1 - λ) b, λ b + (1 - λ) a`.
fn blend(a: &mut [f32], b: &mut [f32], lambda: f32) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (lambda * *a + (1.0 - lambda) * *b, lambda * *b + (1.0 - lambda) * *a);
    }
}

/// Exchanges a rectangle between partners and returns the resulting λ.
fn cut_mix(batch: &mut Batch, lambda: f64, rng: &mut Rng) -> f64 {
    let shape = batch.shape;
    let side = libm::sqrt(1.0 - lambda);
    let mut span = |length: usize| {
        let cut = (length as f64 * side) as usize;
        let centre = rng.below(length as u64) as usize;
        (centre.saturating_sub(cut / 2), (centre + cut / 2).min(length))
    };
    let (top, bottom) = span(shape.height);
    let (left, right) = span(shape.width);
    mirrored(&mut batch.images, shape.bytes(), |a, b| {
        for plane in 0..shape.channels {
            for row in top..bottom {
                let start = (plane * shape.height + row) * shape.width;
                a[start + left..start + right].swap_with_slice(&mut b[start + left..start + right]);
            }
        }
    });
    1.0 - ((bottom - top) * (right - left)) as f64 / (shape.height * shape.width) as f64
}

/// A label's smoothed target: `1 - ε + ε / C` for the label, `ε / C` for every other class. An objective that smooths by ε gives
/// this target.
pub fn smoothed(target: &[f32], epsilon: f32) -> Vec<f32> {
    let share = epsilon / target.len() as f32;
    target.iter().map(|value| (1.0 - epsilon) * value + share).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ImageShape;
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 8, width: 6 };

    /// Image i is all i, label i of 5 classes.
    fn batch(samples: usize) -> Batch {
        let mut targets = vec![0.0; samples * 5];
        (0..samples).for_each(|sample| targets[sample * 5 + sample % 5] = 1.0);
        Batch {
            images: (0..samples).flat_map(|sample| vec![sample as f32; SHAPE.bytes()]).collect(),
            shape: SHAPE,
            labels: (0..samples).map(|sample| (sample % 5) as u32).collect(),
            indices: (0..samples as u64).collect(),
            targets,
            known: None,
            classes: 5,
        }
    }

    #[test]
    fn a_mixed_and_smoothed_target_is_timms() {
        let mut batch = batch(5);
        mirrored(&mut batch.targets, 5, |a, b| blend(a, b, 0.3));
        let found = smoothed(&batch.targets[..5], 0.1);
        for (found, expected) in found.iter().zip([0.29, 0.02, 0.02, 0.02, 0.65]) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn images_and_targets_share_lambda() {
        for (mix, name) in [
            (Mix { mixup: 0.8, ..Mix::default() }, "mixup"),
            (Mix { cutmix: 1.0, ..Mix::default() }, "cutmix"),
            (Mix { mixup: 0.8, cutmix: 1.0, ..Mix::default() }, "both"),
        ] {
            for position in 0..50 {
                let mut mixed = batch(5);
                mix.apply(&mut mixed, 3, 1, position);
                let again = &mut batch(5);
                mix.apply(again, 3, 1, position);
                assert_eq!(*again, mixed, "{name}");
                // Images are constant, so the mean of a mixed one tells how much of the partner it holds.
                let mean = mixed.images[..SHAPE.bytes()].iter().sum::<f32>() / SHAPE.bytes() as f32;
                let (own, partner) = (mixed.targets[0], mixed.targets[4]);
                assert!((own + partner - 1.0).abs() < 1e-6 && (0.0..=1.0).contains(&own), "{name}");
                assert!((mean - 4.0 * partner).abs() < 1e-4, "{name}: mean {mean} of partner's share {partner}");
                assert_eq!(mixed.targets[12], 1.0, "the middle one stays");
            }
        }
    }

    #[test]
    fn an_unknown_label_takes_no_part_in_a_mixed_target() {
        let mix = Mix { mixup: 0.8, ..Mix::default() };
        let (mut all, mut some) = (batch(4), batch(4));
        some.known = Some(vec![1.0, 1.0, 1.0, 0.0]);
        some.targets[15..].fill(0.0);
        mix.apply(&mut all, 3, 1, 0);
        mix.apply(&mut some, 3, 1, 0);
        assert_eq!(some.images, all.images);
        let known = some.known.expect("one is not known");
        // Of sample 0 and its partner 3, sample 0's label is left alone, at the share that it has of the mixture.
        assert_eq!((&some.targets[..5], known[0]), (&[1.0, 0.0, 0.0, 0.0, 0.0][..], all.targets[0]));
        assert_eq!((&some.targets[15..], known[3]), (&[1.0, 0.0, 0.0, 0.0, 0.0][..], all.targets[15]));
        assert_eq!((&some.targets[5..15], &known[1..3]), (&all.targets[5..15], &[1.0; 2][..]));
    }

    #[test]
    fn lambda_is_beta_distributed_and_the_shares_hold() {
        let mix = Mix { mixup: 0.8, probability: 0.75, ..Mix::default() };
        let (mut mixed, mut sum, mut squares) = (0, 0.0, 0.0);
        for position in 0..4000 {
            let mut two = batch(2);
            mix.apply(&mut two, 0, 0, position);
            if two != batch(2) {
                let lambda = f64::from(two.targets[0]);
                (mixed, sum, squares) = (mixed + 1, sum + lambda, squares + lambda * lambda);
            }
        }
        let share = f64::from(mixed) / 4000.0;
        let mean = sum / f64::from(mixed);
        let variance = squares / f64::from(mixed) - mean * mean;
        assert!((share - 0.75).abs() < 0.03 && (mean - 0.5).abs() < 0.02, "{share} {mean}");
        // Of Beta(a, a): 1 / (4 (2 a + 1)).
        assert!((variance - 1.0 / (4.0 * 2.6)).abs() < 0.01, "{variance}");
    }

    #[test]
    fn none_changes_nothing_and_nonsense_is_named() {
        let mut one = batch(4);
        Mix::default().apply(&mut one, 0, 0, 0);
        assert_eq!(one, batch(4));
        assert!(Mix { mixup: f64::NAN, ..Mix::default() }.check().is_err());
        assert!(Mix { switch: 1.5, ..Mix::default() }.check().is_err());
    }
}
