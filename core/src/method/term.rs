//! What a distillation method is to the rest: one [`Method`], a file each.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};

use super::aid::{AidTap, Aids};
use super::pairs::Pairs;
use crate::model::trace::TokensTap;
use crate::model::{NetworkShape, Taps, Trace};

/// A distillation method as a term of a loss: its numbers, what it needs, and its losses.
pub trait Method {
    /// Whether it reads a teacher's trace.
    fn needs_teacher(&self) -> bool {
        true
    }

    /// Why the two networks do not fit it, with the nearest thing that works.
    fn refusal(&self, _student: &NetworkShape, _teacher: &NetworkShape) -> Option<String> {
        None
    }

    /// Which of the student's heads it teaches.
    fn teaches(&self) -> Heads {
        Heads::default()
    }

    /// Says what it reads of the two networks and what is trained beside the student, and returns how its losses follow from
    /// that. Called once a training, for networks that [`Method::refusal`] let pass.
    fn prepare(&self, ask: &mut Ask) -> Evaluate;

    /// Makes it small for a run that is to show that everything works: what names blocks then names these, a student's and a
    /// teacher's, beside the first ones.
    fn shrink(&mut self, _last: [usize; 2]) {}
}

/// How the losses of a term follow from a batch.
pub type Evaluate = Box<dyn Fn(&Scene<'_>) -> Vec<NamedLoss> + Send + Sync>;

/// What a term asks for before a training.
#[derive(Debug)]
pub struct Ask {
    /// The student's sizes.
    pub student: NetworkShape,
    /// The teacher's; the student's own where there is no teacher.
    pub teacher: NetworkShape,
    /// What is asked of the student's forward pass.
    pub student_taps: Taps,
    /// What is asked of the teacher's.
    pub teacher_taps: Taps,
    pub(super) aids: Vec<(String, Vec<usize>)>,
}

impl Ask {
    /// Of networks of these sizes, for nothing yet.
    pub fn new(student: NetworkShape, teacher: NetworkShape) -> Self {
        let (student_taps, teacher_taps) = Default::default();
        Self { student, teacher, student_taps, teacher_taps, aids: Vec::new() }
    }

    /// Asks for the tokens after each pair of blocks.
    pub(super) fn token_pairs(&mut self, pairs: Pairs) -> Vec<(TokensTap, TokensTap)> {
        pairs.into_iter().map(|[s, t]| (self.student_taps.tokens(s), self.teacher_taps.tokens(t))).collect()
    }

    /// Asks for a linear layer, or two with a GELU between, to be trained beside the student: from the first width to the last.
    /// Its parameters are called `name.fc1` and `name.fc2`; two terms that ask for the same name share it.
    pub fn aid(&mut self, name: impl Into<String>, widths: &[usize]) -> AidTap {
        let name = name.into();
        let known = self.aids.iter().position(|(other, _)| *other == name);
        AidTap(known.unwrap_or_else(|| {
            self.aids.push((name, widths.to_vec()));
            self.aids.len() - 1
        }))
    }
}

/// What a term's losses are computed from.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The student's forward pass.
    pub student: &'a Trace,
    /// The teacher's, without gradients. A lesson without a teacher has no term that reads it.
    pub teacher: &'a Trace,
    /// The targets `[B, C]`, a distribution over the classes for each sample.
    pub targets: &'a Tensor<2>,
    /// Which labels are known; `None` where all are.
    pub known: Option<&'a Known>,
    /// What is trained beside the student.
    pub aids: &'a Aids,
    /// The number of the step, from 0; keys what is drawn at random.
    pub step: u64,
    /// The number of the epoch, from 1.
    pub epoch: u64,
}

impl Scene<'_> {
    /// The mean, `[1]`, over the samples whose label is known, of what a term that reads labels says of each, `[B]`.
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
    /// By how much each label of a batch counts.
    pub fn new(shares: Vec<f32>, device: &Device) -> Self {
        let total = shares.iter().map(|share| f64::from(*share)).sum();
        let count = shares.len();
        Self { shares: Tensor::from_data(TensorData::new(shares, [count]), device), total }
    }

    /// Of a part of the batch that is a `share` of it. The part's mean times its share is then its part of the batch's mean,
    /// however many of its own labels are known.
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
    /// What the log calls it; no two parts of a loss share a name.
    pub name: Cow<'static, str>,
    /// Its factor in the total.
    pub weight: f64,
    /// Its value before the factor, `[1]`.
    pub value: Tensor<1>,
}

impl NamedLoss {
    /// A part of a loss.
    pub fn new(name: &'static str, weight: f64, value: Tensor<1>) -> Self {
        Self { name: Cow::Borrowed(name), weight, value }
    }
}

/// Some of a student's heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// The class head.
    pub class: bool,
    /// The distillation head.
    pub distillation: bool,
}

impl Heads {
    /// The class head, of a term of this weight.
    pub(super) fn class(weight: f64) -> Self {
        Self { class: weight > 0.0, distillation: false }
    }

    /// Those of either.
    pub(super) fn or(self, other: Self) -> Self {
        Self { class: self.class || other.class, distillation: self.distillation || other.distillation }
    }
}
