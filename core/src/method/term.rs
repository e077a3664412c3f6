//! The interface of a distillation method: [`Method`]. Every method implements it in a file of its own.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};

use super::aid::{AidTap, Aids};
use super::pairs::Pairs;
use crate::model::trace::TokensTap;
use crate::model::{NetworkShape, Taps, Trace};

/// A distillation method as a term of the loss: what it needs of the two networks, and its losses.
pub trait Method {
    /// Whether it reads a teacher's trace.
    fn needs_teacher(&self) -> bool {
        true
    }

    /// Whether it reads the labels of the data: it then learns nothing from samples without one.
    fn needs_labels(&self) -> bool {
        false
    }

    /// Why the method does not fit the two networks, with the closest alternative that works; `None` if it fits.
    fn refusal(&self, _student: &NetworkShape, _teacher: &NetworkShape) -> Option<String> {
        None
    }

    /// The student's heads that it teaches.
    fn teaches(&self) -> Heads {
        Heads::default()
    }

    /// Requests what it reads of the two networks and the layers to train with the student. Returns the function that computes its
    /// losses. Called once for a training, with networks that [`Method::refusal`] accepts.
    fn prepare(&self, ask: &mut Ask) -> Evaluate;

    /// Makes it small, for a short run that tests everything. Named pairs of blocks become the first pair and `last`, a student's
    /// and a teacher's block.
    fn shrink(&mut self, _last: [usize; 2]) {}
}

/// Computes the losses of a term for a batch.
pub type Evaluate = Box<dyn Fn(&Scene<'_>) -> Vec<NamedLoss> + Send + Sync>;

/// The requests of a term, before a training.
#[derive(Debug)]
pub struct Ask {
    /// The student's sizes.
    pub student: NetworkShape,
    /// The teacher's sizes; the student's if there is no teacher.
    pub teacher: NetworkShape,
    /// Requests to the student's forward pass.
    pub student_taps: Taps,
    /// Requests to the teacher's forward pass.
    pub teacher_taps: Taps,
    pub(super) aids: Vec<(String, Vec<usize>)>,
}

impl Ask {
    /// No requests yet, for networks of these sizes.
    pub fn new(student: NetworkShape, teacher: NetworkShape) -> Self {
        let (student_taps, teacher_taps) = Default::default();
        Self { student, teacher, student_taps, teacher_taps, aids: Vec::new() }
    }

    /// Requests the tokens after each pair of blocks.
    pub(super) fn token_pairs(&mut self, pairs: Pairs) -> Vec<(TokensTap, TokensTap)> {
        pairs.into_iter().map(|[s, t]| (self.student_taps.tokens(s), self.teacher_taps.tokens(t))).collect()
    }

    /// Requests a layer that is trained with the student, from the first width to the last: one linear layer, or two with a GELU
    /// between them. Its parameters are called `name.fc1` and `name.fc2`. Two terms that request the same name share the layer.
    pub fn aid(&mut self, name: impl Into<String>, widths: &[usize]) -> AidTap {
        let name = name.into();
        let known = self.aids.iter().position(|(other, _)| *other == name);
        AidTap(known.unwrap_or_else(|| {
            self.aids.push((name, widths.to_vec()));
            self.aids.len() - 1
        }))
    }
}

/// The inputs of a term's losses.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The trace of the student.
    pub student: &'a Trace,
    /// The trace of the teacher, without gradients. In a lesson without a teacher, no term reads it.
    pub teacher: &'a Trace,
    /// The targets `[B, C]`, a distribution over the classes for each sample.
    pub targets: &'a Tensor<2>,
    /// Which labels are known; `None` if all are.
    pub known: Option<&'a Known>,
    /// The layers that are trained with the student.
    pub aids: &'a Aids,
    /// The number of the step, from 0. Random draws are keyed by it.
    pub step: u64,
    /// The number of the epoch, from 1.
    pub epoch: u64,
}

impl Scene<'_> {
    /// The mean, `[1]`, of a term's losses `[B]` over the samples whose label is known.
    pub fn mean_of_labelled(&self, rows: Tensor<1>) -> Tensor<1> {
        match self.known {
            Some(known) => known.mean(rows),
            None => rows.mean(),
        }
    }
}

/// Which labels of a batch are known.
#[derive(Clone, Debug)]
pub struct Known {
    // How much of each sample's label is known, [B].
    shares: Tensor<1>,
    // What a sum over them is divided by.
    total: f64,
}

impl Known {
    /// From the weight of each label of a batch.
    pub fn new(shares: Vec<f32>, device: &Device) -> Self {
        let total = shares.iter().map(|share| f64::from(*share)).sum();
        let count = shares.len();
        Self { shares: Tensor::from_data(TensorData::new(shares, [count]), device), total }
    }

    /// For a part that is a `share` of the batch. The part's mean times its share is then its contribution to the batch's mean,
    /// however many labels of the part are known.
    pub(crate) fn narrow(&self, start: usize, length: usize, share: f64) -> Self {
        Self { shares: self.shares.clone().narrow(0, start, length), total: self.total * share }
    }

    // 0 where no label is known.
    fn mean(&self, rows: Tensor<1>) -> Tensor<1> {
        (rows * self.shares.clone()).sum().div_scalar(if self.total > 0.0 { self.total } else { 1.0 })
    }
}

/// One named part of a loss.
#[derive(Clone, Debug)]
pub struct NamedLoss {
    /// Its name in the log. The parts of a loss have different names.
    pub name: Cow<'static, str>,
    /// Its weight in the total.
    pub weight: f64,
    /// Its value without the weight, `[1]`.
    pub value: Tensor<1>,
}

impl NamedLoss {
    /// A part of a loss.
    pub fn new(name: &'static str, weight: f64, value: Tensor<1>) -> Self {
        Self { name: Cow::Borrowed(name), weight, value }
    }
}

/// A set of a student's heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// The class head.
    pub class: bool,
    /// The distillation head.
    pub distillation: bool,
}

impl Heads {
    /// The class head, for a term of this weight. A term of weight 0 teaches no head.
    pub(super) fn class(weight: f64) -> Self {
        Self { class: weight > 0.0, distillation: false }
    }

    /// The union of two sets.
    pub(super) fn or(self, other: Self) -> Self {
        Self { class: self.class || other.class, distillation: self.distillation || other.distillation }
    }
}
