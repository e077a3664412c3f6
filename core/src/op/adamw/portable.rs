//! The definition in tensor operations.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

/// Parameters and both moments.
pub(super) type Three<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub struct AdamWNumbers {
    /// Decay β₁ of the first moment.
    pub beta_1: f32,
    /// Decay β₂ of the second moment.
    pub beta_2: f32,
    /// ε in the denominator.
    pub epsilon: f32,
    /// The learning rate over `1 - β₁ᵗ`.
    pub step_size: f32,
    /// `1 - β₂ᵗ`.
    pub correction_2: f32,
    /// The learning rate times the weight decay.
    pub decay: f32,
    /// Weight decay that is added to the gradient (Kingma and Ba, 2015) after its norm has been bounded.
    pub pull: f32,
    /// Largest norm of the gradient; infinity means no bound.
    pub limit: f32,
}

/// Added to the norm before the division.
pub(super) const NORM_EPSILON: f32 = 1e-6;

/// The gradient, scaled to a norm of at most `limit`.
fn clip<B: Backend>(gradient: FloatTensor<B>, limit: f32) -> FloatTensor<B> {
    if limit == f32::INFINITY {
        return gradient;
    }
    let square = B::float_sum(B::float_mul(gradient.clone(), gradient.clone()));
    let norm = B::float_add_scalar(B::float_sqrt(square), NORM_EPSILON.into());
    let factor = B::float_mul_scalar(B::float_recip(norm), limit.into());
    B::float_mul(gradient, B::float_clamp_max(factor, 1.0.into()))
}

pub(super) fn update<B: Backend>(
    parameters: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    gradient: FloatTensor<B>,
    decayed: FloatTensor<B>,
    numbers: AdamWNumbers,
) -> Three<B> {
    let AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay, pull, limit } = numbers;
    let times = |tensor: FloatTensor<B>, factor: f32| B::float_mul_scalar(tensor, factor.into());
    let mut gradient = clip::<B>(gradient, limit);
    if pull != 0.0 {
        gradient = B::float_add(gradient, B::float_mul(times(decayed.clone(), pull), parameters.clone()));
    }
    let square = B::float_mul(gradient.clone(), gradient.clone());
    let first = B::float_add(times(first, beta_1), times(gradient, 1.0 - beta_1));
    let second = B::float_add(times(second, beta_2), times(square, 1.0 - beta_2));
    let root = B::float_sqrt(B::float_div_scalar(second.clone(), correction_2.into()));
    let denominator = B::float_add_scalar(root, epsilon.into());
    let step = times(B::float_div(first.clone(), denominator), step_size);
    let decay = B::float_mul(parameters.clone(), times(decayed, decay));
    (B::float_sub(B::float_sub(parameters, step), decay), first, second)
}
