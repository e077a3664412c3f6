//! The update of flat vectors.

use potstill_core::op::{AdamWNumbers, adamw};

use crate::devices::devices;
use crate::numbers::{tensor, values, wave};

const NUMBERS: AdamWNumbers = AdamWNumbers {
    beta_1: 0.9,
    beta_2: 0.99,
    epsilon: 1e-8,
    step_size: 0.01,
    correction_2: 0.3,
    decay: 0.02,
    pull: 0.0,
    limit: f32::INFINITY,
};

#[test]
fn adamw_matches_its_definition() {
    // Norms of the gradient are 0.1 to 190: unbounded, bounded, and within the bound.
    // The last pulls weights down through the gradient.
    for (length, limit, pull) in
        [(1, f32::INFINITY, 0.0), (7, 0.5, 0.0), (7, 100.0, 0.3), (70_001, f32::INFINITY, 0.0), (70_001, 2.0, 0.3)]
    {
        let numbers = AdamWNumbers { limit, pull, ..NUMBERS };
        let [p, m, g] = [0.3, 0.7, 1.1].map(|a| wave(length, a, 0.1, 1.0));
        let v: Vec<f32> = wave(length, 0.9, 0.4, 1.0).iter().map(|x| x * x).collect();
        let norm = g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let factor = (f64::from(limit) / (norm + 1e-6)).min(1.0);
        let decayed: Vec<f32> = (0..length).map(|i| (i % 2) as f32).collect();
        for (name, device) in devices() {
            let of = |values: &[f32]| tensor(values, [length], &device);
            let parameters = of(&p);
            // A second holder, whose numbers must stay.
            let view = parameters.clone();
            let found = adamw([parameters, of(&m), of(&v)], of(&g), of(&decayed), numbers).map(values);
            assert_eq!(values(view), p, "{name}");
            for i in 0..length {
                let p = f64::from(p[i]);
                let g = factor * f64::from(g[i]) + f64::from(pull) * f64::from(decayed[i]) * p;
                let m = 0.9 * f64::from(m[i]) + 0.1 * g;
                let v = 0.99 * f64::from(v[i]) + 0.01 * g * g;
                let step = 0.01 * m / ((v / 0.3).sqrt() + 1e-8);
                let expected = [p - step - p * f64::from(decayed[i]) * 0.02, m, v];
                for (found, expected) in found.iter().zip(expected) {
                    let difference = (f64::from(found[i]) - expected).abs();
                    // A moment near 0 makes a step far above 1.
                    assert!(
                        difference <= 2e-6 * expected.abs().max(1.0),
                        "{name}, {i} of {length}: {} and not {expected}",
                        found[i]
                    );
                }
            }
        }
    }
}

#[test]
fn adamw_overwrites_no_moment_that_is_held() {
    for (name, device) in devices() {
        let of = |a: f32| tensor(&wave(300, a, 0.1, 1.0), [300], &device);
        // One tensor as both moments, and held outside as well.
        let moments = of(0.7).abs();
        let before = values(moments.clone());
        let state = [of(0.3), moments.clone(), moments.clone()];
        let [_, first, second] = adamw(state, of(1.1), of(0.0), NUMBERS).map(values);
        assert_eq!(values(moments), before, "{name}");
        assert!(first != before && second != before && first != second, "{name}");
    }
}

#[test]
fn adamw_shows_a_fault_of_the_gradient() {
    for (name, device) in devices() {
        let of = |values: &[f32]| tensor(values, [4], &device);
        let run = |limit| {
            let state = [of(&[1.0; 4]), of(&[0.5; 4]), of(&[0.5; 4])];
            let [parameters, ..] =
                adamw(state, of(&[0.1, f32::NAN, 0.1, 0.1]), of(&[0.0; 4]), AdamWNumbers { limit, ..NUMBERS });
            values(parameters).iter().map(|x| x.is_nan()).collect::<Vec<_>>()
        };
        assert_eq!(run(f32::INFINITY), [false, true, false, false], "{name}");
        // The norm is that of all.
        assert_eq!(run(1.0), [true; 4], "{name}");
    }
}
