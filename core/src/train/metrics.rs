//! Figures of a network on held-out data, from logits on the host.

use serde::{Deserialize, Serialize};

/// The counts of an evaluation. Batches are added one by one, so memory does not grow with the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    classes: usize,
    samples: u64,
    top1: u64,
    top5: u64,
    loss: f64,
    // [label][prediction], row-major
    confusion: Vec<u64>,
}

impl Evaluation {
    /// An evaluation without samples.
    pub fn new(classes: usize) -> Self {
        Self { classes, samples: 0, top1: 0, top5: 0, loss: 0.0, confusion: vec![0; classes * classes] }
    }

    /// Adds one batch: `logits` is `[B, classes]` row-major, `labels` has B entries. Returns the predicted classes.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) -> Vec<u32> {
        logits
            .chunks_exact(self.classes)
            .zip(labels)
            .map(|(row, &label)| {
                let own = row[label as usize];
                // Ranked by logit, and for equal logits by index, so that equal logits do not count as correct.
                let rank =
                    row.iter().enumerate().filter(|&(i, &z)| z > own || (z == own && i < label as usize)).count();
                // A row of NaN is never correct.
                let finite = own.is_finite();
                let predicted = argmax(row);
                self.samples += 1;
                self.top1 += u64::from(finite && rank == 0);
                self.top5 += u64::from(finite && rank < 5);
                self.loss += cross_entropy(row, label);
                self.confusion[label as usize * self.classes + predicted as usize] += 1;
                predicted
            })
            .collect()
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Fraction of samples whose highest logit is that of their label.
    pub fn accuracy(&self) -> f64 {
        self.fraction(self.top1 as f64)
    }

    /// Fraction of the samples of some classes that are taken for what they are; `None` where there are no such samples.
    ///
    /// # Panics
    /// If a class is none of those evaluated.
    pub fn accuracy_on(&self, classes: &[u32]) -> Option<f64> {
        let rows = classes.iter().map(|class| {
            let class = *class as usize;
            let row = &self.confusion[class * self.classes..][..self.classes];
            (row[class], row.iter().sum::<u64>())
        });
        let (right, samples) = rows.fold((0, 0), |(right, samples), row| (right + row.0, samples + row.1));
        (samples > 0).then(|| right as f64 / samples as f64)
    }

    /// Fraction of samples whose label is among the five highest logits.
    pub fn top5(&self) -> f64 {
        self.fraction(self.top5 as f64)
    }

    /// Mean cross-entropy in nats.
    pub fn loss(&self) -> f64 {
        self.fraction(self.loss)
    }

    /// Accuracy of the best constant guess: the share of the most frequent label among the samples. At least 1 / classes.
    pub fn chance(&self) -> f64 {
        let labels = self.confusion.chunks(self.classes.max(1)).map(|row| row.iter().sum::<u64>());
        self.fraction(labels.max().unwrap_or(0) as f64).max(1.0 / self.classes.max(1) as f64)
    }

    /// Counts by (label, prediction), row-major.
    pub fn confusion(&self) -> &[u64] {
        &self.confusion
    }

    fn fraction(&self, sum: f64) -> f64 {
        if self.samples == 0 { 0.0 } else { sum / self.samples as f64 }
    }
}

/// The index of the highest value. Of equal values the first counts. It is 0 for a row that is empty or has only NaN.
pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] || (row[best].is_nan() && !value.is_nan()) {
            best = index;
        }
    }
    best as u32
}

/// `softmax(row / temperature)` in float64.
pub fn softmax(row: &[f32], temperature: f64) -> Vec<f64> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = row.iter().map(|&z| libm::exp(f64::from(z - highest) / temperature)).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / sum).collect()
}

fn cross_entropy(row: &[f32], label: u32) -> f64 {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&z| libm::exp(f64::from(z - highest))).sum();
    libm::log(sum) - f64::from(row[label as usize] - highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_is_given() {
        let mut evaluation = Evaluation::new(3);
        let predicted = evaluation.add(&[3.0, 1.0, 2.0, 0.0, 0.0, 5.0], &[0, 1]);
        assert_eq!(predicted, [0, 2]);
        assert_eq!(evaluation.accuracy(), 0.5);
        assert_eq!(evaluation.top5(), 1.0);
        assert_eq!(evaluation.confusion(), [1, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(
            [&[0][..], &[1], &[0, 1, 2], &[2]].map(|classes| evaluation.accuracy_on(classes)),
            [Some(1.0), Some(0.0), Some(0.5), None]
        );
        assert_eq!(evaluation.chance(), 0.5, "either label is guessed right half the time");
    }

    #[test]
    fn equal_and_undefined_logits_are_not_right_by_default() {
        let mut evaluation = Evaluation::new(6);
        evaluation.add(&[0.0; 6], &[5]);
        evaluation.add(&[f32::NAN; 6], &[0]);
        assert_eq!(evaluation.accuracy(), 0.0);
        assert_eq!(evaluation.top5(), 0.0);
    }

    #[test]
    fn softmax_sums_to_one_at_any_scale() {
        for scale in [1.0, 1e4] {
            let p = softmax(&[scale, -scale, 0.0], 2.0);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}
