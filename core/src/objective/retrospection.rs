//! Learning with retrospection (Deng and Zhang, AAAI 2021): a network is taught by its own past.
//!
//! Why: what a network said of a sample some epochs ago holds more than the label does, and costs no teacher.
//!
//! Epochs count from 1. During every step the logits of the batch's samples, as the training pass gave them, are written
//! into a table. At the end of every epoch that k divides, the table is copied; between copies the copy Q is fixed.
//!
//! * `e ≤ k`: `L = CE(z, y)`
//! * `e > k`, with `c = k ⌊e / k⌋`, `β = (1 − γ) c / M`, `α = 1 − β`:
//!   `L = α CE(z, y) + β τ² KL(σ(Q / τ) ‖ σ(z / τ))`, the divergence a mean over the batch
//!
//! This is the authors' rule. Circulating code that counts batches instead of epochs stops counting, or compares a sample
//! with itself; here the epoch is an argument and the table knows samples by index.

use serde::{Deserialize, Serialize};

use super::{Objective, Part};

/// The numbers of learning with retrospection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retrospection {
    /// Epochs k between two copies.
    pub k: u64,
    /// What the labels lose over `max_epochs`, `1 − γ`.
    pub update_rate: f64,
    /// Temperature τ.
    pub temperature: f64,
    /// Epochs M over which the labels lose `update_rate`.
    pub max_epochs: u64,
}

impl Default for Retrospection {
    fn default() -> Self {
        Self { k: 5, update_rate: 0.9, temperature: 5.0, max_epochs: 240 }
    }
}

impl Retrospection {
    /// The weight α of the labels in `epoch`, from 1; never negative, however long training goes on.
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

    /// `objective` in `epoch`, from 1: as it is at first; then its labels give β of their weight to what the network said
    /// of the same samples before. An objective without labels has nothing to give and stays as it is.
    pub fn applied(&self, objective: &Objective, epoch: u64) -> Objective {
        let beta = 1.0 - self.alpha(epoch);
        let mut terms = objective.parts();
        let label_weight = terms.iter_mut().find_map(|part| match part {
            Part::Labels { weight, .. } => Some(weight),
            _ => None,
        });
        if epoch > self.k.max(1)
            && let Some(weight) = label_weight
        {
            let past = *weight * beta;
            *weight *= 1.0 - beta;
            terms.push(Part::Retrospection { weight: past, temperature: self.temperature });
        }
        Objective::Terms { terms }
    }
}

/// What a network said of each sample, by the sample's index in its data set. Lives on the host.
///
/// A sample that was never written has logits 0, which say that all classes are equally likely.
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
    /// Values that are not one row a sample.
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

    /// Writes the rows `logits` `[indices, classes]` of the samples `indices`. On an error nothing is written.
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

    /// Makes what was written last what [`LogitTable::rows`] reads.
    pub fn refresh(&mut self) {
        self.copy.copy_from_slice(&self.latest);
    }

    /// What was written last and the copy, each `[samples, classes]` row-major: all that the table holds.
    pub fn contents(&self) -> [&[f32]; 2] {
        [&self.latest, &self.copy]
    }

    /// A table as [`LogitTable::contents`] gave it, or `None` where the two are not as many rows of `classes`.
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

    fn start(&self, index: u64) -> Result<usize, TableError> {
        let samples = self.latest.len().checked_div(self.classes).unwrap_or(0);
        match usize::try_from(index) {
            Ok(row) if row < samples => Ok(row * self.classes),
            _ => Err(TableError::NoSuchSample { index, samples }),
        }
    }
}
