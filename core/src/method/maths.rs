//! Sums that several methods share.

use burn::tensor::Tensor;

/// The sum of losses, each `[1]`.
///
/// # Panics
/// If there are none. An objective has at least one term, and a term at least one pair.
pub(super) fn sum(losses: impl IntoIterator<Item = Tensor<1>>) -> Tensor<1> {
    losses.into_iter().reduce(|sum, loss| sum + loss).expect("at least one loss")
}

/// The mean of the squares of all entries, `[1]`.
///
/// Rows are summed first: a one-stage sum is a single thread's work on adapters without float atomics.
pub(super) fn mean_square<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let entries = x.shape().num_elements();
    let rows = (x.clone() * x).sum_dim(D - 1).reshape([-1]);
    rows.sum().div_scalar(entries as f64)
}

/// Rows of length 1 along the last axis; a row of zeros stays one.
pub(super) fn normalise_rows<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // The bound is on the square: a root has no gradient at 0.
    let length = (x.clone() * x.clone()).sum_dim(D - 1).clamp_min(1e-24).sqrt();
    x / length
}
