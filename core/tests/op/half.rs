//! Forward passes over numbers of `f16`: what they differ by from the same numbers of `f32` is the rounding of the result.

use burn::tensor::{Device, FloatDType, Tensor};
use potstill_core::op::{QueriesAndKeys, attention, attention_map, attention_with_lse, gelu, layer_norm};

use crate::devices::devices;
use crate::numbers::{error, tensor, values, wave};

/// Half a unit in the last place, relative; but for attention, the definitions round every operation where they are composed.
fn tolerance(what: &str, name: &str) -> f32 {
    if name == "flex" && what != "attention" { 1e-2 } else { 1.0 / 2048.0 }
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
        assert!(error <= tolerance(what, name), "{what} {shape:?} on {name}: {error:e}");
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
fn log_sum_exps_and_maps_of_half_precision_are_single() {
    let shape @ [batch, tokens, _, heads, _] = [2, 37, 3, 3, 16];
    for (name, device) in devices() {
        if !device.supports_dtype(FloatDType::F16) {
            println!("skipped: {name} has no half precision");
            continue;
        }
        let half = tensor(&wave(shape.iter().product(), 0.37, 0.1, 1.5), shape, &device).cast(FloatDType::F16);
        let [found, expected] = [half.clone(), half.cast(FloatDType::F32)].map(|packed: Tensor<5>| {
            let (_, lse) = attention_with_lse(packed.clone(), 0.25); // 16^-½
            assert_eq!((lse.dtype(), lse.dims()), (FloatDType::F32.into(), [batch, heads, tokens]), "{name}");
            let map = attention_map(QueriesAndKeys { packed, lse: Some(lse.clone()) });
            assert_eq!((map.dtype(), map.dims()), (FloatDType::F32.into(), [batch, tokens, tokens]), "{name}");
            [values(lse), values(map)]
        });
        for (found, expected) in found.iter().zip(&expected) {
            assert!(error(found, expected) <= 1e-5, "{name}: {:e}", error(found, expected));
        }
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
