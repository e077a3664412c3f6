//! The update of flat vectors.

use potstill_core::kernel::{AdamWNumbers, adamw};

use crate::common::devices;
use crate::numbers::{tensor, values, wave};

#[test]
fn adamw_matches_its_definition() {
    let numbers =
        AdamWNumbers { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, step_size: 0.01, correction_2: 0.3, decay: 0.02 };
    for length in [1, 7, 70_001] {
        let [p, m, g] = [0.3, 0.7, 1.1].map(|a| wave(length, a, 0.1, 1.0));
        let v: Vec<f32> = wave(length, 0.9, 0.4, 1.0).iter().map(|x| x * x).collect();
        let decayed: Vec<f32> = (0..length).map(|i| (i % 2) as f32).collect();
        for (name, device) in devices() {
            let of = |values: &[f32]| tensor(values, [length], &device);
            let parameters = of(&p);
            // A second holder, whose numbers must stay.
            let view = parameters.clone();
            let found = adamw([parameters, of(&m), of(&v)], of(&g), of(&decayed), numbers).map(values);
            assert_eq!(values(view), p, "{name}");
            for i in 0..length {
                let (g, p) = (f64::from(g[i]), f64::from(p[i]));
                let m = 0.9 * f64::from(m[i]) + 0.1 * g;
                let v = 0.99 * f64::from(v[i]) + 0.01 * g * g;
                let step = 0.01 * m / ((v / 0.3).sqrt() + 1e-8);
                let expected = [p - step - p * f64::from(decayed[i]) * 0.02, m, v];
                for (found, expected) in found.iter().zip(expected) {
                    let difference = (f64::from(found[i]) - expected).abs();
                    assert!(difference <= 2e-6, "{name}, {i} of {length}: {} and not {expected}", found[i]);
                }
            }
        }
    }
}
