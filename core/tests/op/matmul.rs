//! Products of matrices.

use burn::tensor::{Device, Tensor};
use potstill_core::op::{matmul, matmul_by_shader};

use crate::devices::devices;
use crate::numbers::{error, tensor, values, wave};

/// Matrices, rows, terms, columns: single numbers, both tilings, whole and broken tiles and slices.
const SIZES: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [2, 5, 7, 3], [3, 33, 16, 40], [1, 64, 48, 64], [2, 130, 65, 100], [1, 200, 192, 10]];

/// The sum in `f64`, of `[M, R, K]` and `[M, K, C]`.
fn expected([matrices, rows, terms, columns]: [usize; 4], a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut c = Vec::with_capacity(matrices * rows * columns);
    for m in 0..matrices {
        for i in 0..rows {
            for j in 0..columns {
                let term =
                    |k: usize| f64::from(a[(m * rows + i) * terms + k]) * f64::from(b[(m * terms + k) * columns + j]);
                c.push((0..terms).map(term).sum::<f64>() as f32);
            }
        }
    }
    c
}

/// The same matrices, laid in memory by columns, and read through a view.
fn by_columns(x: Tensor<3>) -> Tensor<3> {
    let [_, rows, columns] = x.dims();
    let turned = x.swap_dims(1, 2) * 1.0;
    let view = turned.swap_dims(1, 2);
    assert_eq!(view.dims()[1..], [rows, columns]);
    view
}

#[test]
fn products_of_the_shader_are_the_sums() {
    for size @ [matrices, rows, terms, columns] in SIZES {
        let a = wave(matrices * rows * terms, 0.37, 0.1, 1.0);
        let b = wave(matrices * terms * columns, 1.3, 0.7, 0.5);
        let sums = expected(size, &a, &b);
        for (name, device) in devices() {
            let a = tensor(&a, [matrices, rows, terms], &device);
            let b = tensor(&b, [matrices, terms, columns], &device);
            for (layout, found) in [
                ("by rows", matmul_by_shader(a.clone(), b.clone())),
                ("left by columns", matmul_by_shader(by_columns(a.clone()), b.clone())),
                ("right by columns", matmul_by_shader(a.clone(), by_columns(b.clone()))),
                ("both by columns", matmul_by_shader(by_columns(a.clone()), by_columns(b.clone()))),
            ] {
                let error = error(&values(found), &sums);
                assert!(error <= 5e-6, "{name}, {size:?}, {layout}: off by {error:e}");
            }
            assert_eq!(
                values(matmul_by_shader(a.clone(), b.clone())),
                values(matmul_by_shader(a, b)),
                "{name}: other bits"
            );
        }
    }
}

#[test]
fn operands_that_no_strides_describe_are_copied() {
    // Heads and tokens exchanged, as attention's queries and keys are.
    let [batch, tokens, heads, size] = [2, 9, 3, 8];
    let x = wave(batch * tokens * heads * size, 0.37, 0.1, 1.0);
    let run = |device: &Device, shader: bool| {
        let rows = tensor(&x, [batch, tokens, heads, size], device).swap_dims(1, 2);
        let other = rows.clone().swap_dims(2, 3);
        values(if shader { matmul_by_shader(rows, other) } else { rows.matmul(other) })
    };
    let sums = run(&Device::flex(), false);
    for (name, device) in devices() {
        let error = error(&run(&device, true), &sums);
        assert!(error <= 2e-6, "{name}: off by {error:e}");
    }
}

#[test]
fn gradients_of_products_are_those_of_burn() {
    let [matrices, rows, terms, columns] = [2, 5, 7, 3];
    let a = wave(matrices * rows * terms, 0.37, 0.1, 1.0);
    let b = wave(matrices * terms * columns, 1.3, 0.7, 0.5);
    let run = |device: &Device, ours: bool| {
        let device = &device.clone().autodiff();
        let a = tensor(&a, [matrices, rows, terms], device).require_grad();
        let b = tensor(&b, [matrices, terms, columns], device).require_grad();
        let c = if ours { matmul(a.clone(), b.clone()) } else { a.clone().matmul(b.clone()) };
        let weights = tensor(&wave(matrices * rows * columns, 0.9, 0.2, 1.0), [matrices, rows, columns], device);
        let gradients = (c * weights).sum().backward();
        [values(a.grad(&gradients).expect("a gradient")), values(b.grad(&gradients).expect("a gradient"))]
    };
    let expected = run(&Device::flex(), false);
    for (name, device) in devices() {
        for (found, expected) in run(&device, true).iter().zip(&expected) {
            let error = error(found, expected);
            assert!(error <= 1e-5, "{name}: off by {error:e}");
        }
    }
}
