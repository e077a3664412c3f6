//! LWR: learning with retrospection (Deng and Zhang, AAAI 2021). A network learns from its own earlier logits.
//!
//! Why: the network's logits for a sample some epochs ago hold more information than the label, and need no teacher.
//!
//! Epochs count from 1. Every step writes the logits of the batch's samples into a table, as the training pass gave them. At the
//! end of every epoch that k divides, the table is copied. Between copies, the copy Q does not change.
//!
//! * `e ≤ k`: `L = CE(z, y)`
//! * `e > k`, with `c = k ⌊e / k⌋`, `β = (1 − γ) c / M`, `α = 1 − β`:
//!   `L = α CE(z, y) + β τ² KL(σ(Q / τ) ‖ σ(z / τ))`, the divergence a mean over the batch
//!
//! This is the authors' rule. Other published code counts batches instead of epochs. It stops counting, or compares a sample with
//! itself. Here the epoch is an argument, and the table finds samples by index.

use burn::tensor::Tensor;

use super::numbers::{COUNT, SHARE, TEMPERATURE, numbers};

numbers! {
    /// The numbers of learning with retrospection.
    pub struct Retrospection {
        /// Epochs k between two copies of the logits.
        k: u64 = 5, in COUNT, flags "lwr-k";
        /// Weight `1 − γ` that the labels lose over `max_epochs`.
        update_rate: f64 = 0.9, in SHARE, flags "lwr-update-rate";
        /// Temperature τ.
        temperature: f64 = 5.0, in TEMPERATURE, flags "lwr-tau";
        /// Epochs M over which the labels lose the weight `update_rate`.
        max_epochs: u64 = 240, in COUNT, flags "lwr-max-epochs";
    }
}

/// A student's logits for a batch some epochs ago, with their weight.
#[derive(Clone, Debug)]
pub struct Past {
    /// Logits `[B, C]`.
    pub logits: Tensor<2>,
    /// The share β of the labels' weight that the past takes. Without labels there is no weight to take, and the past does not
    /// count.
    pub share: f64,
    /// Temperature τ.
    pub temperature: f64,
    /// 1 of a sample that has a past, 0 of another, `[B]`: its labels keep all of their weight. `None` where all have one.
    pub seen: Option<Tensor<1>>,
}

impl Past {
    /// The same with the logits `[B, C]` that the student has now in place of a past that there is not: no divergence.
    pub(super) fn filled(self, now: &Tensor<2>) -> Self {
        let Some(seen) = &self.seen else { return self };
        let seen = seen.clone().unsqueeze_dim(1);
        // A column of 1 and 0 beside rows of logits.
        let now = now.clone().detach() * seen.clone().mul_scalar(-1.0).add_scalar(1.0);
        Self { logits: self.logits * seen + now, ..self }
    }

    /// The labels' weight of each sample, `[B]`, where they differ.
    pub(super) fn label_weights(&self) -> Option<Tensor<1>> {
        self.seen.as_ref().map(|seen| seen.clone().mul_scalar(-self.share).add_scalar(1.0))
    }
}

impl Retrospection {
    /// The weight α of the labels in `epoch`, from 1. It is never negative, even after `max_epochs`.
    pub fn alpha(&self, epoch: u64) -> f64 {
        let k = self.k.max(1);
        if epoch <= k {
            return 1.0;
        }
        let copied = epoch / k * k;
        (1.0 - self.update_rate * copied as f64 / self.max_epochs.max(1) as f64).max(0.0)
    }

    /// Whether the table is copied at the end of `epoch`, from 1.
    pub fn copies_after(&self, epoch: u64) -> bool {
        epoch > 0 && epoch.is_multiple_of(self.k.max(1))
    }

    /// The share β of the labels' weight that the past takes in `epoch`, from 1; `None` before the first copy.
    pub fn share(&self, epoch: u64) -> Option<f64> {
        (epoch > self.k.max(1)).then(|| 1.0 - self.alpha(epoch))
    }
}

/// A network's logits for each sample, by the sample's index in its data set. The table is in the host's memory.
///
/// A row of zeros is of a sample that was never written, as those of an epoch's last, smaller batch may not have been.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitTable {
    classes: usize,
    // [samples, classes], row-major
    latest: Vec<f32>,
    copy: Vec<f32>,
}

/// Why rows cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// An index beyond the data set.
    #[error("sample {index} is not among the table's {samples}")]
    NoSuchSample {
        /// The index.
        index: u64,
        /// Rows of the table.
        samples: usize,
    },
    /// The values do not make one row for each sample.
    #[error("{values} logits are not {samples} rows of {classes}")]
    Misshapen {
        /// Values given.
        values: usize,
        /// Samples given.
        samples: usize,
        /// Classes of the table.
        classes: usize,
    },
}

impl LogitTable {
    /// A table of `samples` rows of `classes` zeros.
    pub fn new(samples: usize, classes: usize) -> Self {
        let zeros = vec![0.0; samples * classes];
        Self { classes, latest: zeros.clone(), copy: zeros }
    }

    /// Writes the rows `logits` `[indices, classes]` of the samples `indices`. If there is an error, it writes nothing.
    pub fn record(&mut self, indices: &[u64], logits: &[f32]) -> Result<(), TableError> {
        let (samples, classes) = (indices.len(), self.classes);
        if Some(logits.len()) != samples.checked_mul(classes) {
            return Err(TableError::Misshapen { values: logits.len(), samples, classes });
        }
        let starts = indices.iter().map(|index| self.start(*index)).collect::<Result<Vec<_>, _>>()?;
        for (start, row) in starts.into_iter().zip(logits.chunks_exact(classes.max(1))) {
            self.latest[start..start + classes].copy_from_slice(row);
        }
        Ok(())
    }

    /// Copies the latest rows. [`LogitTable::rows`] reads this copy.
    pub fn refresh(&mut self) {
        self.copy.copy_from_slice(&self.latest);
    }

    /// The latest rows and the copy, each `[samples, classes]` row-major. This is everything that the table holds.
    pub fn contents(&self) -> [&[f32]; 2] {
        [&self.latest, &self.copy]
    }

    /// A table from what [`LogitTable::contents`] returned; `None` if the two do not have the same number of rows of `classes`.
    pub fn from_contents(classes: usize, [latest, copy]: [Vec<f32>; 2]) -> Option<Self> {
        let fits = latest.len() == copy.len() && latest.len().checked_rem(classes) == Some(0);
        fits.then_some(Self { classes, latest, copy })
    }

    /// The copied rows of the samples `indices`, `[indices, classes]`.
    pub fn rows(&self, indices: &[u64]) -> Result<Vec<f32>, TableError> {
        let mut rows = Vec::with_capacity(indices.len() * self.classes);
        for index in indices {
            let start = self.start(*index)?;
            rows.extend_from_slice(&self.copy[start..start + self.classes]);
        }
        Ok(rows)
    }

    /// For each row of [`LogitTable::rows`] 1 where it was written and 0 where not; `None` where all were.
    pub fn seen(&self, rows: &[f32]) -> Option<Vec<f32>> {
        let written = |row: &[f32]| row.iter().any(|value| *value != 0.0);
        let seen: Vec<f32> =
            rows.chunks_exact(self.classes.max(1)).map(|row| f32::from(u8::from(written(row)))).collect();
        seen.contains(&0.0).then_some(seen)
    }

    fn start(&self, index: u64) -> Result<usize, TableError> {
        let samples = self.latest.len().checked_div(self.classes).unwrap_or(0);
        match usize::try_from(index) {
            Ok(row) if row < samples => Ok(row * self.classes),
            _ => Err(TableError::NoSuchSample { index, samples }),
        }
    }
}
