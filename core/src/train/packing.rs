//! Rows of logits as bytes: exactly, or only the highest few in half precision.
//!
//! Why: if a teacher gives the same logits in every run, it need not run again. All classes in float32 give the same losses to
//! the last bit. For a thousand classes, the highest few have nearly all of a teacher's probability, and need a fiftieth of the
//! space.
//!
//! For the highest K, a row holds `K` class numbers (u32), their logits, and one logit for all other classes (f16),
//! little-endian, in descending order. If each of the other classes has this one logit, together they have the same probability
//! as before: `log Σ exp(z_other) − log(C − K)`. Logits are stored relative to the highest logit of the row, so that half
//! precision is not spent on a common offset. A softmax does not depend on the offset.

use half::f16;
use serde::{Deserialize, Serialize};

/// How rows of logits are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// Every class in float32.
    All,
    /// The highest `k` classes.
    Top {
        /// The number of classes.
        k: usize,
    },
}

impl Packing {
    /// Bytes in a row of `classes` logits.
    pub fn row_bytes(self, classes: usize) -> usize {
        match self {
            Self::All => 4 * classes,
            Self::Top { k } => 6 * k + 2,
        }
    }

    /// Whether rows of `classes` logits can be stored like this: at least one class is stored, and at least one is not.
    pub fn fits(self, classes: usize) -> bool {
        match self {
            Self::All => classes > 0,
            Self::Top { k } => k > 0 && k < classes && u32::try_from(classes).is_ok(),
        }
    }

    /// Appends `logits`, in rows of `classes`, to `bytes`.
    ///
    /// # Panics
    /// If a row is incomplete, or if the rows do not [fit](Self::fits).
    pub fn pack(self, logits: &[f32], classes: usize, bytes: &mut Vec<u8>) {
        assert!(self.fits(classes) && logits.len().is_multiple_of(classes), "whole rows of {classes} logits");
        match self {
            Self::All => bytes.extend(logits.iter().flat_map(|logit| logit.to_le_bytes())),
            Self::Top { k } => logits.chunks_exact(classes).for_each(|row| pack_top(row, k, bytes)),
        }
    }

    /// Reads rows of `classes` logits. `None` if the bytes are not complete rows, or name a class that does not exist.
    pub fn unpack(self, bytes: &[u8], classes: usize) -> Option<Vec<f32>> {
        if !self.fits(classes) || !bytes.len().is_multiple_of(self.row_bytes(classes)) {
            return None;
        }
        match self {
            Self::All => Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Self::Top { k } => {
                let mut logits = Vec::with_capacity(bytes.len() / self.row_bytes(classes) * classes);
                for row in bytes.chunks_exact(self.row_bytes(classes)) {
                    unpack_top(row, k, classes, &mut logits)?;
                }
                Some(logits)
            }
        }
    }
}

fn pack_top(row: &[f32], k: usize, bytes: &mut Vec<u8>) {
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    // Of equal logits, the first class comes first, on every machine.
    let falling = |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b));
    order.select_nth_unstable_by(k, falling);
    order[..k].sort_unstable_by(falling);
    let highest = f64::from(row[order[0] as usize]);
    let relative = |class: &u32| f64::from(row[*class as usize]) - highest;
    let others: f64 = order[k..].iter().map(|class| libm::exp(relative(class))).sum();
    let rest = libm::log(others) - libm::log((row.len() - k) as f64);
    bytes.extend(order[..k].iter().flat_map(|class| class.to_le_bytes()));
    // A class without any probability stays finite. Half precision ends at 65504.
    let kept = order[..k].iter().map(relative).chain([rest]);
    bytes.extend(kept.flat_map(|logit| f16::from_f64(logit.max(-65_504.0)).to_le_bytes()));
}

fn unpack_top(row: &[u8], k: usize, classes: usize, logits: &mut Vec<f32>) -> Option<()> {
    let (names, values) = row.split_at(4 * k);
    let value = |place: usize| f16::from_le_bytes([values[2 * place], values[2 * place + 1]]).to_f32();
    let start = logits.len();
    logits.resize(start + classes, value(k));
    for (place, name) in names.as_chunks().0.iter().enumerate() {
        *logits[start..].get_mut(u32::from_le_bytes(*name) as usize)? = value(place);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::metrics::softmax;

    fn wave(rows: usize, classes: usize) -> Vec<f32> {
        (0..rows * classes).map(|i| 6.0 * (0.7 * i as f32).sin() + 40.0).collect()
    }

    #[test]
    fn all_classes_come_back_to_the_last_bit() {
        let logits = wave(3, 7);
        let mut bytes = Vec::new();
        Packing::All.pack(&logits, 7, &mut bytes);
        assert_eq!(bytes.len(), 3 * Packing::All.row_bytes(7));
        assert_eq!(Packing::All.unpack(&bytes, 7), Some(logits));
        assert_eq!(Packing::All.unpack(&bytes[1..], 7), None);
    }

    #[test]
    fn the_highest_classes_keep_their_probability_and_the_others_share_the_rest() {
        let (rows, classes, k) = (4, 50, 5);
        let logits = wave(rows, classes);
        let packing = Packing::Top { k };
        let mut bytes = Vec::new();
        packing.pack(&logits, classes, &mut bytes);
        assert_eq!(bytes.len(), rows * packing.row_bytes(classes));
        let found = packing.unpack(&bytes, classes).expect("whole rows");
        for (before, after) in logits.chunks(classes).zip(found.chunks(classes)) {
            let (before, after) = (softmax(before, 1.0), softmax(after, 1.0));
            let mut order: Vec<usize> = (0..classes).collect();
            order.sort_by(|a, b| before[*b].total_cmp(&before[*a]));
            for class in &order[..k] {
                assert!((before[*class] / after[*class] - 1.0).abs() < 5e-3, "{} {}", before[*class], after[*class]);
            }
            let rest = |p: &[f64]| order[k..].iter().map(|class| p[*class]).sum::<f64>();
            assert!((rest(&before) / rest(&after) - 1.0).abs() < 1e-2);
            assert!(order[k..].iter().all(|class| after[*class] == after[order[k]]));
        }
    }

    #[test]
    fn the_highest_classes_teach_as_their_probabilities_with_the_rest_spread_evenly_do() {
        // TinyViT's sparse labels: the highest K of the softmax stay, and the others share the rest. Half precision is the only
        // other loss, at any temperature.
        let (classes, k) = (10, 3);
        let (teacher, student) = (wave(20, classes), wave(40, classes).split_off(20 * classes));
        let mut bytes = Vec::new();
        Packing::Top { k }.pack(&teacher, classes, &mut bytes);
        let kept = Packing::Top { k }.unpack(&bytes, classes).expect("whole rows");
        let sparse = |row: &[f32]| -> Vec<f32> {
            let mut p = softmax(row, 1.0);
            let mut order: Vec<usize> = (0..classes).collect();
            order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
            let rest = order[k..].iter().map(|class| p[*class]).sum::<f64>() / (classes - k) as f64;
            order[k..].iter().for_each(|class| p[*class] = rest);
            p.iter().map(|p| libm::log(*p) as f32).collect()
        };
        let divergence = |teacher: &[f32], student: &[f32], temperature: f64| -> f64 {
            let (p, q) = (softmax(teacher, temperature), softmax(student, temperature));
            p.iter().zip(&q).map(|(p, q)| p * libm::log(p / q)).sum()
        };
        for temperature in [1.0, 2.0, 4.0] {
            let rows = teacher.chunks(classes).zip(kept.chunks(classes)).zip(student.chunks(classes));
            for ((teacher, kept), student) in rows {
                let expected = divergence(&sparse(teacher), student, temperature);
                let found = divergence(kept, student, temperature);
                assert!((found - expected).abs() < 2e-3 * (1.0 + expected), "{found} and {expected}");
            }
        }
    }

    #[test]
    fn a_class_that_there_is_not_and_rows_that_do_not_fit_are_refused() {
        let mut bytes = Vec::new();
        Packing::Top { k: 2 }.pack(&wave(1, 9), 9, &mut bytes);
        bytes[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Packing::Top { k: 2 }.unpack(&bytes, 9), None);
        assert!(!Packing::Top { k: 9 }.fits(9) && !Packing::Top { k: 0 }.fits(9) && !Packing::All.fits(0));
    }
}
