//! Forward passes over numbers of `f16`: what they differ by from the same numbers of `f32` is the rounding of the result.

use burn::tensor::{Device, FloatDType, Tensor};
use potstill_core::kernel::{attention, gelu, layer_norm};

use crate::common::devices;
use crate::numbers::{error, tensor, values, wave};

/// Half a unit in the last place, relative; the definitions round every operation where they are composed.
fn tolerance(name: &str) -> f32 {
    if name == "flex" { 1e-2 } else { 1.0 / 2048.0 }
}

fn check<const I: usize, const O: usize>(
    what: &str,
    shape: [usize; I],
    run: impl Fn(Tensor<I>, &Device, FloatDType) -> Tensor<O>,
) {
    for (name, device) in devices() {
        if !device.supports_dtype(FloatDType::F16) {
            println!("skipped: {name} has no half precision");
            continue;
        }
        let x = tensor(&wave(shape.iter().product(), 0.37, 0.1, 1.5), shape, &device).cast(FloatDType::F16);
        let expected = values(run(x.clone().cast(FloatDType::F32), &device, FloatDType::F32));
        let found = run(x, &device, FloatDType::F16);
        assert_eq!(found.dtype(), FloatDType::F16.into(), "{name}");
        let error = error(&values(found.cast(FloatDType::F32)), &expected);
        assert!(error <= tolerance(name), "{what} {shape:?} on {name}: {error:e}");
    }
}

#[test]
fn attention_of_half_precision_sums_in_single() {
    for [batch, tokens, heads, size] in [[1, 1, 1, 1], [2, 5, 3, 7], [2, 65, 2, 32], [1, 197, 1, 64]] {
        let scale = (size as f32).powf(-0.5);
        check("attention", [batch, tokens, 3, heads, size], |qkv, _, _| attention(qkv, scale));
    }
}

#[test]
fn layer_norm_of_half_precision_sums_in_single() {
    for [rows, columns] in [[1, 1], [5, 33], [7, 192], [3, 1280]] {
        check("layer_norm", [rows, columns], |x, device, dtype| {
            let row = |a: f32| {
                let values = wave(columns, a, 0.2, 0.5);
                tensor(&values, [columns], device).cast(FloatDType::F16).cast(dtype)
            };
            layer_norm(x, row(0.9), row(1.3), 1e-6)
        });
    }
}

#[test]
fn gelu_of_half_precision_computes_in_single() {
    check("gelu", [3, 1001], |x, _, _| gelu(x));
}
