//! SAF: self-attention forcing.

use burn::tensor::{Device, Tensor};
use potstill_core::method::end_pairs;
use potstill_core::method::pairs::stride_pairs;
use potstill_core::op;

use crate::plain::{close_within, mean, plain, plain_head_mean, same_gradient, wave};

/// Queries and keys `[2, 3, 3, H, 3]` whose scores are the raw ones that the golden numbers are given by: a query is a row of
/// scores, undoing the scale, and key j the unit vector j.
fn golden_queries_and_keys(heads: usize, a: f64, b: f64) -> Tensor<5> {
    let raw = plain(&wave(2 * heads * 9, a, b, 2.0), [2, heads, 3, 3]).mul_scalar(3.0_f64.sqrt());
    let part = |rows: Tensor<4>| rows.swap_dims(1, 2).unsqueeze_dim::<5>(2);
    let keys = Tensor::<2>::eye(3, &Device::flex()).unsqueeze::<4>().expand([2, heads, 3, 3]);
    Tensor::cat(vec![part(raw.clone()), part(keys), part(raw.zeros_like())], 2)
}

#[test]
fn attention_forcing_is_the_published_number() {
    let pairs = stride_pairs(&[], 2, 4);
    assert_eq!(pairs, [[0, 1], [1, 3]]);
    let mut total = Tensor::<1>::zeros([1], &Device::flex());
    for ([s, t], expected) in pairs.into_iter().zip([0.016_823_987_6, 0.031_153_278_7]) {
        let (l, k) = (s as f64, t as f64);
        let student = golden_queries_and_keys(2, 0.5 + 0.1 * l, 0.2 * l);
        let teacher = golden_queries_and_keys(4, 0.9 + 0.1 * k, 0.1 * k);
        let loss = op::attention_map_loss(student, op::attention_map(teacher));
        // A mean of squared differences of f32 probabilities: the differences keep about six digits.
        close_within(&format!("pair {s}"), loss.clone(), expected, 1e-5);
        total = total + loss;
    }
    close_within("sum", total, 0.047_977_266_3, 1e-5);
}

#[test]
fn layers_are_paired_by_the_published_strides() {
    assert_eq!(stride_pairs(&[], 12, 24)[0], [0, 1]);
    assert_eq!(stride_pairs(&[], 12, 24)[11], [11, 23]);
    assert!(stride_pairs(&[], 6, 3).is_empty());
    assert_eq!(stride_pairs(&[[0, 2]], 6, 3), [[0, 2]]);
    let published = [0, 1, 2, 3, 8, 9, 10, 11].map(|i| [i, i]);
    assert_eq!(end_pairs(&[], 12, 12), published);
    assert_eq!(end_pairs(&[], 12, 24)[4..], [[8, 20], [9, 21], [10, 22], [11, 23]]);
    assert_eq!(end_pairs(&[], 3, 6), [[0, 0], [1, 1], [2, 5]]);
}

#[test]
fn attention_forcing_has_the_gradient_of_its_equation() {
    let shape = [2, 4, 2, 3];
    let [b, n, h, d] = shape;
    let student = wave(b * n * 3 * h * d, 0.9, 0.2, 1.5);
    let teacher = wave(b * n * 3 * 4 * 2, 1.3, 0.1, 1.5);
    let teacher_map = plain_head_mean(&teacher, [b, n, 4, 2]);
    let teacher = plain(&teacher, [b, n, 3, 4, 2]);
    same_gradient(
        "attention",
        &student,
        [b, n, 3, h, d],
        |qkv| op::attention_map_loss(qkv, op::attention_map(teacher.clone())),
        |qkv| mean(plain_head_mean(qkv, shape).iter().zip(&teacher_map).map(|(s, t)| (s - t).powi(2))),
    );
}
