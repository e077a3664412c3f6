//! The numbers of one network's training. A recipe of the command and a form of the page both give these.

use serde::{Deserialize, Serialize};

use super::{AdamWConfig, Batches, Schedule};
use crate::method::Retrospection;

/// Which parameters of a network learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trainable {
    /// All parameters.
    #[default]
    All,
    /// Only the last linear layers: a linear probe.
    Head,
}

/// The numbers of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingRecipe {
    /// Passes over the training samples.
    pub epochs: u64,
    /// Samples in a step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// The batch that `lr` is meant for. For another batch, the rate is scaled in proportion. If absent, `lr` is not scaled.
    pub lr_batch: Option<usize>,
    /// Number of parts into which a step's samples are divided. They run one after the other, and their gradients add up to one
    /// update.
    pub accumulate: usize,
    /// Label smoothing, if labels alone are the objective.
    pub smoothing: f64,
    /// Which parameters learn.
    pub trainable: Trainable,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// The optimiser's numbers.
    pub optimiser: AdamWConfig,
    /// Learning with retrospection: from the network's own past logits and its labels.
    pub retrospection: Option<Retrospection>,
}

/// A number that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}; it must be {allowed}")]
pub struct OutOfRange {
    /// Its key in a recipe.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// The accepted values, in words.
    pub allowed: &'static str,
}

fn check(ok: bool, key: &'static str, value: impl ToString, allowed: &'static str) -> Result<(), OutOfRange> {
    if ok { Ok(()) } else { Err(OutOfRange { key, value: value.to_string(), allowed }) }
}

impl TrainingRecipe {
    /// The numbers for the drawn digits, in the command's recipe and in the page.
    pub fn digits() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            lr: 3e-3,
            lr_batch: None,
            accumulate: 1,
            smoothing: 0.0,
            trainable: Trainable::All,
            schedule: Schedule::Cosine { warmup: 0.1, min_lr: 0.0 },
            optimiser: AdamWConfig { weight_decay: 0.05, beta_2: 0.98, clip_norm: Some(1.0), ..AdamWConfig::default() },
            retrospection: None,
        }
    }

    /// Number of steps in all epochs.
    pub fn steps(&self, batches: &Batches) -> u64 {
        self.epochs * batches.per_epoch()
    }

    /// The peak learning rate for the recipe's batch.
    pub fn peak(&self) -> f64 {
        self.lr_batch.map_or(self.lr, |batch| self.lr * self.batch_size as f64 / batch as f64)
    }

    /// Checks every number.
    ///
    /// # Errors
    /// The first number that is not accepted, by its key.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        const MILLION: &str = "between 1 and 1000000";
        check((1..=1_000_000).contains(&self.epochs), "epochs", self.epochs, MILLION)?;
        check((1..=65_536).contains(&self.batch_size), "batch_size", self.batch_size, "between 1 and 65536")?;
        check(self.lr > 0.0 && self.lr <= 100.0, "lr", self.lr, "above 0 and at most 100")?;
        if let Some(batch) = self.lr_batch {
            check((1..=1_000_000).contains(&batch), "lr_batch", batch, MILLION)?;
        }
        let parts = self.accumulate;
        check((1..=self.batch_size).contains(&parts), "accumulate", parts, "at least 1 and at most batch_size")?;
        self.validate_schedule()?;
        const BELOW_1: &str = "at least 0 and below 1";
        check((0.0..1.0).contains(&self.smoothing), "smoothing", self.smoothing, BELOW_1)?;
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay, clip_norm, ema, .. } = self.optimiser;
        check((0.0..1.0).contains(&beta_1), "optimiser.beta_1", beta_1, BELOW_1)?;
        check((0.0..1.0).contains(&beta_2), "optimiser.beta_2", beta_2, BELOW_1)?;
        check(epsilon > 0.0 && epsilon < 1.0, "optimiser.epsilon", epsilon, "above 0 and below 1")?;
        check((0.0..=1.0).contains(&weight_decay), "optimiser.weight_decay", weight_decay, "between 0 and 1")?;
        if let Some(norm) = clip_norm {
            check(norm > 0.0 && norm.is_finite(), "optimiser.clip_norm", norm, "above 0")?;
        }
        if let Some(decay) = ema {
            check((0.0..1.0).contains(&decay), "optimiser.ema", decay, BELOW_1)?;
        }
        let Some(Retrospection { k, update_rate, temperature, max_epochs }) = self.retrospection else { return Ok(()) };
        check((1..=1_000_000).contains(&k), "retrospection.k", k, MILLION)?;
        check((0.0..=1.0).contains(&update_rate), "retrospection.update_rate", update_rate, "between 0 and 1")?;
        check((1..=1_000_000).contains(&max_epochs), "retrospection.max_epochs", max_epochs, MILLION)?;
        let warm = temperature > 0.0 && temperature <= 1000.0;
        check(warm, "retrospection.temperature", temperature, "above 0 and at most 1000")
    }

    fn validate_schedule(&self) -> Result<(), OutOfRange> {
        let epochs = |key, epochs: u64| check(epochs <= 1_000_000, key, epochs, "at most 1000000");
        let rate = |key, rate: f64| check((0.0..=100.0).contains(&rate), key, rate, "between 0 and 100");
        match self.schedule {
            Schedule::Constant => Ok(()),
            Schedule::Step { every, factor } => {
                check((1..=1_000_000).contains(&every), "schedule.every", every, "between 1 and 1000000")?;
                check(factor > 0.0 && factor <= 1.0, "schedule.factor", factor, "above 0 and at most 1")
            }
            Schedule::Cosine { warmup, min_lr } => {
                let share = "a share of the steps, at least 0 and below 1";
                check((0.0..1.0).contains(&warmup), "schedule.warmup", warmup, share)?;
                check((0.0..=self.peak()).contains(&min_lr), "schedule.min_lr", min_lr, "between 0 and lr")
            }
            Schedule::Deit { warmup_epochs, warmup_lr, min_lr, epochs: over } => {
                epochs("schedule.warmup_epochs", warmup_epochs)?;
                epochs("schedule.epochs", over.unwrap_or(0))?;
                rate("schedule.warmup_lr", warmup_lr)?;
                rate("schedule.min_lr", min_lr)
            }
            Schedule::EpochCosine { warmup_epochs, epochs: over } => {
                epochs("schedule.warmup_epochs", warmup_epochs)?;
                epochs("schedule.epochs", over.unwrap_or(0))
            }
        }
    }
}

/// The seed of the teacher in a run with `seed`. Its values differ from the student's.
pub fn teacher_seed(seed: u64) -> u64 {
    seed ^ 0x7eac_4e12
}
