//! The definition in tensor operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Shape, Slice, TensorMetadata, get_or_init_device_settings};

/// The numbers of a distillation loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DistillationNumbers {
    pub temperature: f32,
    pub smoothing: f32,
}

/// `log_softmax(z / τ)`, and the logarithm `[B, 1]` of its sum.
fn log_softmax<B: Backend>(logits: FloatTensor<B>, temperature: f32) -> (FloatTensor<B>, FloatTensor<B>) {
    let peak = B::float_max_dim(logits.clone(), 1);
    let mut shifted = B::float_sub(logits, peak);
    if temperature != 1.0 {
        shifted = B::float_mul_scalar(shifted, (1.0 / temperature).into());
    }
    let log_sum = B::float_log(B::float_sum_dim(B::float_exp(shifted.clone()), 1));
    (B::float_sub(shifted, log_sum.clone()), log_sum)
}

fn smoothed<B: Backend>(targets: FloatTensor<B>, smoothing: f32) -> FloatTensor<B> {
    if smoothing == 0.0 {
        return targets;
    }
    let [_, classes] = targets.shape().dims();
    let targets = B::float_mul_scalar(targets, (1.0 - smoothing).into());
    B::float_add_scalar(targets, (smoothing / classes as f32).into())
}

/// `Σ_c weights · values` as `[B, 1]`, where a weight of 0 adds nothing.
fn weigh<B: Backend>(weights: FloatTensor<B>, values: FloatTensor<B>) -> FloatTensor<B> {
    let bool_dtype = get_or_init_device_settings::<B>(&weights.device()).bool_dtype;
    let nothing = B::float_equal_elem(weights.clone(), 0.0.into(), bool_dtype);
    let terms = B::float_mask_fill(B::float_mul(weights, values), nothing, 0.0.into());
    B::float_sum_dim(terms, 1)
}

/// Cross-entropies `[B, 1]`.
fn cross_entropies<B: Backend>(student: FloatTensor<B>, targets: FloatTensor<B>, smoothing: f32) -> FloatTensor<B> {
    let (log_q, log_sum) = log_softmax::<B>(student, 1.0);
    let loss = B::float_neg(weigh::<B>(smoothed::<B>(targets, smoothing), log_q));
    // Logits that have no softmax make the row NaN even if no target has weight. Otherwise this adds 0.
    B::float_add(loss, B::float_mul_scalar(log_sum, 0.0.into()))
}

pub(super) fn forward<B: Backend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    targets: FloatTensor<B>,
    DistillationNumbers { temperature, smoothing }: DistillationNumbers,
) -> FloatTensor<B> {
    let entropy = cross_entropies::<B>(student.clone(), targets, smoothing);
    let (log_q, _) = log_softmax::<B>(student, temperature);
    let (log_p, _) = log_softmax::<B>(teacher, temperature);
    let divergence = weigh::<B>(B::float_exp(log_p.clone()), B::float_sub(log_p, log_q));
    B::float_cat(vec![entropy, divergence], 1)
}

pub(super) fn cross_entropy<B: Backend>(
    student: FloatTensor<B>,
    targets: FloatTensor<B>,
    smoothing: f32,
) -> FloatTensor<B> {
    let [batch, _] = student.shape().dims();
    B::float_reshape(cross_entropies::<B>(student, targets, smoothing), Shape::new([batch]))
}

/// `softmax(z / τ)`.
fn softmax<B: Backend>(logits: FloatTensor<B>, temperature: f32) -> FloatTensor<B> {
    B::float_exp(log_softmax::<B>(logits, temperature).0)
}

/// The gradient of the logits, from the gradient `[B, 1]` of the cross-entropies.
fn entropy_gradient<B: Backend>(
    student: FloatTensor<B>,
    targets: FloatTensor<B>,
    d_entropy: FloatTensor<B>,
    smoothing: f32,
) -> FloatTensor<B> {
    let targets = smoothed::<B>(targets, smoothing);
    let mass = B::float_sum_dim(targets.clone(), 1);
    let slope = B::float_sub(B::float_mul(softmax::<B>(student, 1.0), mass), targets);
    B::float_mul(slope, d_entropy)
}

pub(super) fn backward<B: Backend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    targets: FloatTensor<B>,
    d_rows: FloatTensor<B>,
    DistillationNumbers { temperature, smoothing }: DistillationNumbers,
) -> FloatTensor<B> {
    let column = |c: usize| B::float_slice(d_rows.clone(), &[Slice::full(), Slice::from(c..c + 1)]);
    let gradient = entropy_gradient::<B>(student.clone(), targets, column(0), smoothing);
    let slope = B::float_sub(softmax::<B>(student, temperature), softmax::<B>(teacher, temperature));
    let d_divergence = B::float_mul_scalar(column(1), (1.0 / temperature).into());
    B::float_add(gradient, B::float_mul(slope, d_divergence))
}

pub(super) fn cross_entropy_backward<B: Backend>(
    student: FloatTensor<B>,
    targets: FloatTensor<B>,
    d_rows: FloatTensor<B>,
    smoothing: f32,
) -> FloatTensor<B> {
    let [batch, _] = student.shape().dims();
    let d_entropy = B::float_reshape(d_rows, Shape::new([batch, 1]));
    entropy_gradient::<B>(student, targets, d_entropy, smoothing)
}
