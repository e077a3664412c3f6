//! The teachers of a student: one network, or several whose logits are averaged.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::readout::Readout;
use crate::model::{Network, NetworkShape, Taps, Trace};

/// How the logits of several teachers are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mean {
    /// The weighted mean of their logits.
    #[default]
    Logits,
    /// The logarithm of the weighted mean of their probabilities.
    Probabilities,
}

/// Changes images from the student's normalisation to the teacher's: `x · std_s / std_t + (mean_s − mean_t) / std_t`.
#[derive(Clone, Debug)]
pub struct Renormalise {
    // Each [1, C, 1, 1].
    factor: Tensor<4>,
    summand: Tensor<4>,
}

impl Renormalise {
    /// From the factor and the summand of each channel, which [`crate::data::Normalisation::to`] returns.
    pub fn new(channels: &[(f32, f32)], device: &Device) -> Self {
        let row = |values: Vec<f32>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [1, count, 1, 1]), device)
        };
        let (factors, summands) = channels.iter().copied().unzip();
        Self { factor: row(factors), summand: row(summands) }
    }

    /// Images `[B, C, S, S]` in the teacher's normalisation.
    pub fn apply(&self, images: Tensor<4>) -> Tensor<4> {
        images * self.factor.clone() + self.summand.clone()
    }
}

/// A teacher.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// The network, without gradients.
    pub network: Network,
    /// The change of normalisation, if it differs from the student's.
    pub view: Option<Renormalise>,
    /// Its weight among several teachers.
    pub weight: f64,
}

impl From<Network> for Teacher {
    fn from(network: Network) -> Self {
        Self { network, view: None, weight: 1.0 }
    }
}

impl Teacher {
    // A teacher with two heads speaks as DeiT is evaluated, with one voice.
    fn trace(&self, images: Tensor<4>, taps: &Taps) -> Trace {
        let images = self.view.as_ref().map_or(images.clone(), |view| view.apply(images));
        let mut trace = self.network.forward_with(images, None, taps);
        trace.logits = Readout::MeanLogits.of(&trace);
        trace
    }
}

/// One teacher, or several. The logits of several are averaged by weight before any term reads them (You et al., KDD 2017).
#[derive(Clone, Debug)]
pub struct Teachers {
    first: Teacher,
    others: Vec<Teacher>,
    mean: Mean,
}

impl From<Network> for Teachers {
    fn from(network: Network) -> Self {
        Teacher::from(network).into()
    }
}

impl From<Teacher> for Teachers {
    fn from(first: Teacher) -> Self {
        Self { first, others: Vec::new(), mean: Mean::default() }
    }
}

impl Teachers {
    /// `first` and `others`, with `mean` of their logits.
    pub fn several(first: Teacher, others: Vec<Teacher>, mean: Mean) -> Self {
        Self { first, others, mean }
    }

    /// The sizes of the first teacher.
    pub fn shape(&self) -> NetworkShape {
        self.first.network.shape()
    }

    /// The networks, in their order.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        std::iter::once(&self.first).chain(&self.others).map(|teacher| &teacher.network)
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// Why they cannot be averaged, if their classes differ.
    pub(super) fn refusal(&self) -> Option<String> {
        let classes = self.shape().classes;
        let other = self.others.iter().map(|teacher| teacher.network.shape().classes).find(|own| *own != classes)?;
        Some(format!("one teacher has {classes} classes and another {other}; give all of them the same classes"))
    }

    /// The trace for `images` `[B, C, S, S]`, which are normalised for the student: the mean of the logits, and the `taps` of the
    /// first teacher.
    pub fn trace(&self, images: Tensor<4>, taps: &Taps) -> Trace {
        let mut trace = self.first.trace(images.clone(), taps);
        if !self.are_several() {
            return trace;
        }
        let own = [(self.first.weight, trace.logits.clone())].into_iter();
        let others =
            self.others.iter().map(|teacher| (teacher.weight, teacher.trace(images.clone(), &Taps::default()).logits));
        trace.logits = mean_logits(own.chain(others).collect(), self.mean);
        trace
    }
}

/// The weighted mean of logits `[B, C]`, or the logarithm of the weighted mean of their probabilities. Weights are relative to
/// their sum.
pub fn mean_logits(all: Vec<(f64, Tensor<2>)>, mean: Mean) -> Tensor<2> {
    let total: f64 = all.iter().map(|(weight, _)| weight).sum();
    let said = |logits: Tensor<2>| match mean {
        Mean::Logits => logits,
        Mean::Probabilities => softmax(logits, 1),
    };
    let parts = all.into_iter().map(|(weight, logits)| said(logits).mul_scalar(weight / total));
    let sum = parts.reduce(|sum, part| sum + part).expect("at least one teacher");
    match mean {
        Mean::Logits => sum,
        // A probability that is rounded to 0 would be a logit of minus infinity.
        Mean::Probabilities => sum.clamp_min(1e-30).log(),
    }
}
