//! Learning-rate schedules as pure functions of the step.

use core::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate changes over a training. Steps and epochs count from 0. `peak` is the rate in the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Always the peak.
    Constant,
    /// The peak, multiplied by `factor` after every `every` epochs.
    Step {
        /// Epochs between two changes.
        every: u64,
        /// The factor of a change.
        factor: f64,
    },
    /// Changes at every step: see [`WarmupCosine`].
    Cosine {
        /// Share of the steps over which the rate rises.
        #[serde(default)]
        warmup: f64,
        /// The rate of the last step.
        #[serde(default)]
        min_lr: f64,
    },
    /// DeiT's schedule, which changes at every epoch. Epoch e has the rate of `t = max(e − 1, 0)`, since DeiT's code steps the
    /// schedule with the index of the epoch that just ended.
    ///
    /// For `t < w` it is `warmup_lr + t (peak − warmup_lr) / w`. After that it is the cosine without a warm-up,
    /// `min_lr + ½ (peak − min_lr) (1 + cos(π t / T))`. w is `warmup_epochs`, and T is the number of all epochs.
    Deit {
        /// Epochs of warm-up.
        #[serde(default = "five")]
        warmup_epochs: u64,
        /// The rate that the warm-up starts from.
        #[serde(default = "deit_warmup_lr")]
        warmup_lr: f64,
        /// The rate after T epochs.
        #[serde(default = "deit_min_lr")]
        min_lr: f64,
        /// T, if it is not the number of trained epochs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epochs: Option<u64>,
    },
    /// A factor for each epoch, as in the CIFAR-10 project. For `e < w` it is `e / w`, so the first epoch has rate 0. After that
    /// it is half a cosine, `½ (1 + cos(π (e − w) / (T − w)))`.
    EpochCosine {
        /// Epochs of warm-up w.
        #[serde(default = "five")]
        warmup_epochs: u64,
        /// T, if it is not the number of trained epochs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epochs: Option<u64>,
    },
}

fn five() -> u64 {
    5
}

fn deit_warmup_lr() -> f64 {
    1e-6
}

fn deit_min_lr() -> f64 {
    1e-5
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Cosine { warmup: 0.0, min_lr: 0.0 }
    }
}

impl Schedule {
    /// The name of the schedule's kind, as in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Step { .. } => "step",
            Self::Cosine { .. } => "cosine",
            Self::Deit { .. } => "deit",
            Self::EpochCosine { .. } => "epoch-cosine",
        }
    }

    /// The learning rate of `step` in a training of `total_steps`, with `steps_per_epoch`.
    pub fn at(&self, peak: f64, step: u64, steps_per_epoch: u64, total_steps: u64) -> f64 {
        let steps_per_epoch = steps_per_epoch.max(1);
        let (epoch, epochs) = (step / steps_per_epoch, total_steps.div_ceil(steps_per_epoch));
        match *self {
            Self::Constant => peak,
            Self::Step { every, factor } => peak * libm::pow(factor, (epoch / every.max(1)) as f64),
            Self::Cosine { warmup, min_lr } => {
                let warmup_steps = (warmup * total_steps as f64) as u64;
                WarmupCosine { peak, floor: min_lr, warmup_steps, total_steps }.at(step)
            }
            Self::Deit { warmup_epochs, warmup_lr, min_lr, epochs: over } => {
                deit_rate(epoch.saturating_sub(1), peak, warmup_epochs, warmup_lr, min_lr, over.unwrap_or(epochs))
            }
            Self::EpochCosine { warmup_epochs, epochs: over } => {
                if epoch < warmup_epochs {
                    return peak * epoch as f64 / warmup_epochs as f64;
                }
                let span = over.unwrap_or(epochs).saturating_sub(warmup_epochs).max(1);
                let done = (epoch - warmup_epochs).min(span) as f64 / span as f64;
                peak * 0.5 * (1.0 + libm::cos(PI * done))
            }
        }
    }
}

/// DeiT's schedule at epoch `t` of `total`, without the shift by one in its training loop.
pub fn deit_rate(t: u64, peak: f64, warmup_epochs: u64, warmup_lr: f64, min_lr: f64, total: u64) -> f64 {
    if t < warmup_epochs {
        return warmup_lr + t as f64 * (peak - warmup_lr) / warmup_epochs as f64;
    }
    let done = t.min(total) as f64 / total.max(1) as f64;
    min_lr + 0.5 * (peak - min_lr) * (1.0 + libm::cos(PI * done))
}

/// Linear warm-up to the peak, then half a cosine down to the lowest rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmupCosine {
    /// Highest learning rate, reached at the end of the warm-up.
    pub peak: f64,
    /// Learning rate after the last step.
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Number of all steps, including the warm-up.
    pub total_steps: u64,
}

impl WarmupCosine {
    /// The learning rate of `step`, counted from 0. After the last step it stays at the lowest rate.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let done = (step - self.warmup_steps).min(span) as f64 / span as f64;
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + libm::cos(PI * done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_the_floor() {
        let schedule = WarmupCosine { peak: 1.0, floor: 0.1, warmup_steps: 4, total_steps: 104 };
        assert_eq!(schedule.at(0), 0.25);
        assert_eq!(schedule.at(3), 1.0);
        assert_eq!(schedule.at(4), 1.0);
        assert!((schedule.at(54) - 0.55).abs() < 1e-12);
        assert!((schedule.at(104) - 0.1).abs() < 1e-12);
        assert_eq!(schedule.at(104), schedule.at(100_000));
    }

    #[test]
    fn needs_no_warm_up() {
        let schedule = WarmupCosine { peak: 0.5, floor: 0.0, warmup_steps: 0, total_steps: 10 };
        assert_eq!(schedule.at(0), 0.5);
        // Given as shares of the steps, it is the same.
        let shared = Schedule::Cosine { warmup: 0.25, min_lr: 0.1 };
        let counted = WarmupCosine { peak: 2.0, floor: 0.1, warmup_steps: 5, total_steps: 20 };
        (0..20).for_each(|step| assert_eq!(shared.at(2.0, step, 4, 20), counted.at(step)));
    }

    #[test]
    fn deits_rates_are_the_published_ones() {
        for (t, expected) in [
            (0, 1e-6),
            (1, 1.008e-4),
            (4, 4.002e-4),
            (5, 4.996_642_4e-4),
            (10, 4.986_578_6e-4),
            (150, 2.55e-4),
            (299, 1.001_343_4e-5),
        ] {
            let found = deit_rate(t, 5e-4, 5, 1e-6, 1e-5, 300);
            assert!((found / expected - 1.0).abs() < 1e-7, "t = {t}: {found}");
        }
        // Epoch e has the rate of the epoch before it, so the first two have the same rate.
        let schedule = Schedule::Deit { warmup_epochs: 5, warmup_lr: 1e-6, min_lr: 1e-5, epochs: None };
        let rate = |step: u64| schedule.at(5e-4, step, 10, 3000);
        assert_eq!([rate(0), rate(9), rate(19)], [1e-6; 3]);
        assert_eq!((rate(20), rate(29)), (deit_rate(1, 5e-4, 5, 1e-6, 1e-5, 300), rate(20)));
        assert_eq!(rate(2999), deit_rate(298, 5e-4, 5, 1e-6, 1e-5, 300));
    }

    #[test]
    fn a_factor_an_epoch_is_constant_within_it() {
        let step = Schedule::Step { every: 5, factor: 0.1 };
        let rate = |epoch: u64| step.at(1e-4, 3 * epoch + 2, 3, 150);
        assert_eq!(rate(4), 1e-4);
        assert!((rate(5) / 1e-5 - 1.0).abs() < 1e-12 && (rate(10) / 1e-6 - 1.0).abs() < 1e-12);
        let cosine = Schedule::EpochCosine { warmup_epochs: 5, epochs: Some(50) };
        let rate = |epoch: u64| cosine.at(6.25e-5, 7 * epoch, 7, 140);
        assert_eq!((rate(0), rate(1), rate(5)), (0.0, 6.25e-5 / 5.0, 6.25e-5));
        // If it is trained for fewer epochs than the schedule has, the rate never reaches its end.
        assert!(rate(19) > 0.7 * 6.25e-5 && rate(50).abs() < 1e-12);
        assert_eq!(Schedule::Constant.at(0.3, 12345, 7, 63), 0.3);
    }
}
