//! Learning-rate schedules as pure functions of the step.

use serde::{Deserialize, Serialize};

/// Linear warm-up to the peak, then half a cosine down to the floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmupCosine {
    /// Highest learning rate, reached at the end of the warm-up.
    pub peak: f64,
    /// Learning rate after the last step.
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Steps in all, warm-up included.
    pub total_steps: u64,
}

impl WarmupCosine {
    /// The learning rate of `step`, counted from 0. Beyond the last step it stays at the floor.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let done = (step - self.warmup_steps).min(span) as f64 / span as f64;
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + libm::cos(core::f64::consts::PI * done))
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
    }
}
