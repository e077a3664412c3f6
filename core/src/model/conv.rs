//! The parts of convolutional networks: convolution, batch normalisation, and their initial values.
//!
//! Batch normalisation is functional: a training pass returns the new running statistics in its `Trace` and changes nothing. So
//! clones of a network do not share them, and a checkpoint never misses an update. Running statistics are parameters without a
//! gradient. They are saved and loaded like parameters, and no optimiser changes them. The running variance is unbiased, as in
//! PyTorch.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::module::{batch_norm, batch_norm_train, conv2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation};

use super::init::Initialiser;
use super::trace::Statistics;

/// The number that is added to the variance, and the share of a batch in the running statistics. Both are PyTorch's defaults,
/// which every network here uses.
const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// How a forward pass normalises: with the running statistics, or with the batch's own statistics, which it collects.
pub(super) type Collected<'a> = Option<&'a mut Statistics>;

/// A convolution with a square kernel. Its padding keeps the size if the stride is 1.
#[derive(Module, Debug)]
pub(super) struct Conv {
    // [outputs, inputs / groups, k, k]
    weight: Param<Tensor<4>>,
    bias: Option<Param<Tensor<1>>>,
    stride: usize,
    groups: usize,
}

/// The sizes of a [`Conv`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvSize {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
}

impl ConvSize {
    /// A 1 x 1 convolution of stride 1.
    pub fn pointwise(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, kernel: 1, stride: 1, groups: 1 }
    }

    /// Weights without a bias.
    pub fn parameters(self) -> u64 {
        (self.outputs * (self.inputs / self.groups) * self.kernel.pow(2)) as u64
    }
}

impl Conv {
    /// Weights from a normal distribution with variance `2 / (k² outputs / fan_groups)` (He et al., 2015, by fan out), and no bias.
    pub fn new(path: &str, size: ConvSize, fan_groups: usize, draw: &Initialiser) -> Self {
        let ConvSize { inputs, outputs, kernel, stride, groups } = size;
        let fan_out = kernel.pow(2) * outputs / fan_groups;
        let std = libm::sqrtf(2.0 / fan_out as f32);
        let shape = [outputs, inputs / groups, kernel, kernel];
        let weight = draw.normal(&format!("{path}.weight"), shape, std);
        Self { weight, bias: None, stride, groups }
    }

    /// Adds a bias of zeros.
    pub fn with_bias(mut self, draw: &Initialiser) -> Self {
        self.bias = Some(draw.constant([self.weight.dims()[0]], 0.0));
        self
    }

    /// From `[B, inputs, H, W]` to `[B, outputs, ⌈H / stride⌉, ⌈W / stride⌉]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val();
        let padding = weight.dims()[2] / 2;
        let options = ConvOptions::new([self.stride; 2], [padding; 2], [1; 2], self.groups);
        conv2d(x, weight, self.bias.as_ref().map(|bias| bias.val()), options)
    }
}

/// Batch normalisation (Ioffe and Szegedy, 2015) of `[B, C, H, W]` over all but C.
#[derive(Module, Debug)]
pub(super) struct BatchNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
}

impl BatchNorm {
    /// `gain` is usually 1. With 0, a residual branch starts as zero.
    pub fn new(channels: usize, gain: f32, draw: &Initialiser) -> Self {
        Self {
            weight: draw.constant([channels], gain),
            bias: draw.constant([channels], 0.0),
            running_mean: draw.statistic(channels, 0.0),
            running_var: draw.statistic(channels, 1.0),
        }
    }

    pub fn forward(&self, x: Tensor<4>, collected: Collected) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let (mean, variance) = (self.running_mean.val(), self.running_var.val());
        let Some(collected) = collected else {
            return batch_norm(x, weight, bias, mean, variance, EPS);
        };
        let [batch, _, height, width] = x.dims();
        let count = (batch * height * width) as f64;
        let normed = batch_norm_train(x, weight, bias, EPS);
        // PyTorch refuses a single value; its variance is 0 whatever the correction.
        let unbiased = normed.variance.mul_scalar(count / (count - 1.0).max(1.0));
        for (running, old, new) in [(&self.running_mean, mean, normed.mean), (&self.running_var, variance, unbiased)] {
            let updated = old.inner().mul_scalar(1.0 - MOMENTUM) + new.inner().mul_scalar(MOMENTUM);
            collected.0.push((running.id, updated));
        }
        normed.output
    }
}

/// A convolution followed by batch normalisation.
#[derive(Module, Debug)]
pub(super) struct ConvNorm {
    conv: Conv,
    bn: BatchNorm,
}

impl ConvNorm {
    pub fn new(path: &str, size: ConvSize, fan_groups: usize, gain: f32, draw: &Initialiser) -> Self {
        let conv = Conv::new(&format!("{path}.conv"), size, fan_groups, draw);
        Self { conv, bn: BatchNorm::new(size.outputs, gain, draw) }
    }

    pub fn forward(&self, x: Tensor<4>, collected: Collected) -> Tensor<4> {
        self.bn.forward(self.conv.forward(x), collected)
    }
}

/// The number of weights of a convolution and of the gain and shift after it.
pub(super) fn conv_norm_parameters(size: ConvSize) -> u64 {
    size.parameters() + 2 * size.outputs as u64
}

/// The mean over the image: from `[B, C, H, W]` to `[B, C]`.
pub(super) fn mean_over_image(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}

/// Squeeze and excitation (Hu et al., 2018): a gate for each channel, computed from the mean over the image.
#[derive(Module, Debug)]
pub(super) struct SqueezeExcitation {
    fc1: Conv,
    fc2: Conv,
}

impl SqueezeExcitation {
    pub fn new(path: &str, channels: usize, reduced: usize, draw: &Initialiser) -> Self {
        let conv = |name: &str, inputs, outputs| {
            Conv::new(&format!("{path}.{name}"), ConvSize::pointwise(inputs, outputs), 1, draw).with_bias(draw)
        };
        Self { fc1: conv("fc1", channels, reduced), fc2: conv("fc2", reduced, channels) }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, ..] = x.dims();
        let squeezed = mean_over_image(x.clone()).reshape([batch, channels, 1, 1]);
        let gate = self.fc2.forward(activation::relu(self.fc1.forward(squeezed)));
        x * activation::sigmoid(gate)
    }
}

/// The linear head of a convolutional network.
#[derive(Module, Debug)]
pub(super) struct Head {
    pub fc: Linear,
}
