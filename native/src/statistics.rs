//! What a few measurements say: mean, spread, and Student's 95 % intervals.
//!
//! Runs that differ in their seed alone are a sample of what a recipe gives. Their mean is known to within an interval; two
//! networks of the same seeds are compared seed by seed, so that what a seed does to both cancels.
//!
//! Degrees of freedom are whole numbers here, of which the incomplete beta function behind Student's distribution is a finite
//! sum of positive terms. That sum is exact to rounding, so no library of special functions is needed.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

use serde::Serialize;

/// How often an interval holds the true value.
pub const CONFIDENCE: f64 = 0.95;

/// From where to where a value lies, with [`CONFIDENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether zero lies outside: whether what it is of is a difference.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// What some measurements say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are; at least 1.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with n - 1; none of a single one.
    pub deviation: Option<f64>,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// Where the mean of all that could be measured lies, by Student's t; none of a single one.
    pub interval: Option<Interval>,
}

impl Summary {
    /// What `values` say; none if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let (&first, count) = (values.first()?, values.len());
        // Around the first value: the mean of equal values is that value, and what is small beside it is not lost.
        let mean = first + values.iter().map(|value| value - first).sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        let interval = deviation.map(|deviation| {
            let half = t_quantile(count - 1) * deviation / (count as f64).sqrt();
            Interval { low: mean - half, high: mean + half }
        });
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { count, mean, deviation, least, greatest, interval })
    }

    /// What the differences of pairs say, the first of each less the second; none if there are no pairs.
    pub fn of_differences(pairs: &[(f64, f64)]) -> Option<Self> {
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
        Self::of(&differences)
    }
}

/// The t that Student's |T| stays below with [`CONFIDENCE`], of `freedom` degrees of freedom, at least 1.
///
/// It is sought by halving the angle θ with t = √freedom · tan θ, in which the probability grows steadily from 0 to 1.
pub fn t_quantile(freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if central_probability(middle, freedom) < CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    (freedom as f64).sqrt() * (0.5 * (low + high)).tan()
}

// P(|T| < √freedom · tan θ) for Student's T of `freedom` degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn central_probability(angle: f64, freedom: usize) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    // The powers of the cosine run to freedom - 2: from 1 of an odd number, from 0 of an even one.
    let mut power = usize::from(odd);
    while power + 2 <= freedom {
        sum += term;
        term *= cosine * cosine * (power + 1) as f64 / (power + 2) as f64;
        power += 2;
    }
    if odd { FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    // Written by tests/fixtures/statistics.py with scipy.
    #[derive(Deserialize)]
    struct Fixture {
        quantiles: Vec<(usize, f64)>,
        samples: Vec<Sample>,
        pairs: Vec<Pairs>,
    }

    #[derive(Deserialize)]
    struct Sample {
        values: Vec<f64>,
        mean: f64,
        deviation: f64,
        low: f64,
        high: f64,
    }

    #[derive(Deserialize)]
    struct Pairs {
        first: Vec<f64>,
        second: Vec<f64>,
        mean: f64,
        low: f64,
        high: f64,
    }

    fn fixture() -> Fixture {
        serde_json::from_str(include_str!("../../tests/fixtures/statistics.json")).expect("a fixture")
    }

    fn near(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= 1e-12 * expected.abs().max(1.0)
    }

    #[test]
    fn quantiles_are_scipys() {
        for (freedom, expected) in fixture().quantiles {
            let found = t_quantile(freedom);
            assert!((found - expected).abs() <= 1e-11 * expected, "{freedom}: {found}, and not {expected}");
        }
    }

    #[test]
    fn means_deviations_and_intervals_are_scipys() {
        for sample in fixture().samples {
            let found = Summary::of(&sample.values).expect("values");
            let (deviation, interval) = (found.deviation.expect("several"), found.interval.expect("several"));
            assert!(near(found.mean, sample.mean) && near(deviation, sample.deviation), "{found:?}");
            assert!(near(interval.low, sample.low) && near(interval.high, sample.high), "{found:?}");
            assert_eq!(found.count, sample.values.len());
            assert!(sample.values.iter().all(|value| (found.least..=found.greatest).contains(value)));
        }
    }

    #[test]
    fn paired_differences_are_scipys() {
        for pairs in fixture().pairs {
            let both: Vec<(f64, f64)> = pairs.first.iter().copied().zip(pairs.second).collect();
            let found = Summary::of_differences(&both).expect("pairs");
            let interval = found.interval.expect("several");
            assert!(near(found.mean, pairs.mean), "{found:?}");
            assert!(near(interval.low, pairs.low) && near(interval.high, pairs.high), "{found:?}");
        }
    }

    #[test]
    fn one_value_has_no_spread_and_equal_ones_none_either() {
        assert_eq!(Summary::of(&[]), None);
        let one = Summary::of(&[0.25]).expect("a value");
        assert_eq!((one.count, one.mean, one.deviation, one.interval), (1, 0.25, None, None));
        let equal = Summary::of(&[0.1; 7]).expect("values");
        assert_eq!((equal.mean, equal.deviation), (0.1, Some(0.0)));
        assert_eq!(equal.interval, Some(Interval { low: 0.1, high: 0.1 }));
        let holds = |low, high| Interval { low, high }.excludes_zero();
        assert_eq!([holds(0.1, 0.2), holds(-0.2, -0.1), holds(-0.1, 0.1), holds(0.0, 0.0)], [true, true, false, false]);
    }
}
