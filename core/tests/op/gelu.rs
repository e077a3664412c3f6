//! The exact GELU.

use potstill_core::op::gelu;

use crate::devices::devices;
use crate::numbers::{evaluate, tensor, values};

/// `x Φ(x)` and its derivative.
fn plain_gelu(x: f64) -> [f64; 2] {
    let cdf = 0.5 * libm::erfc(-x / 2f64.sqrt());
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    [x * cdf, cdf + x * density]
}

#[test]
fn gelu_matches_its_definition() {
    let mut input: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 / 2_000.0).collect();
    input.extend([0.0, -0.0, 1e-30, -1e-30, 1e30, 50.0, -50.0]);
    for (name, device) in devices() {
        // A build with a lazy stream takes the portable definition on adapters, whose 1 + erf cancels.
        let limit = if name == "flex" { 2e-7 } else { 5e-6 };
        let device = device.autodiff();
        let x = tensor(&input, [input.len()], &device).require_grad();
        let y = gelu(x.clone());
        let gradients = y.clone().sum().backward();
        let found = [values(y), values(x.grad(&gradients).expect("a gradient"))];
        let mut worst = [0.0_f64; 2];
        for (i, x) in input.iter().enumerate() {
            for (part, expected) in plain_gelu(f64::from(*x)).into_iter().enumerate() {
                let difference = (f64::from(found[part][i]) - expected).abs() / expected.abs().max(1.0);
                assert!(difference <= limit, "{name}, {part}: {} at {x}, not {expected}", found[part][i]);
                worst[part] = worst[part].max(difference);
            }
        }
        println!("gelu on {name}: within {:e}, derivative within {:e}", worst[0], worst[1]);
    }
}

#[test]
fn gelu_of_a_fault_is_a_fault() {
    for (name, device) in devices() {
        let found = evaluate(&device, &[f32::NAN, 1.0, f32::INFINITY], [3], gelu);
        assert!(found[0][0].is_nan() && found[1][0].is_nan(), "{name}: {found:?}");
        assert!(found[0][1].is_finite() && found[0][2] == f32::INFINITY, "{name}: {found:?}");
    }
}
