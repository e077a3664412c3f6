//! A student, together with layers that are trained with it and discarded afterwards.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::method::{Aids, Lesson};
use crate::model::{Network, NetworkShape, Statistics, Taps, Trace, Training};

/// A student: a network of this crate, or any Burn module that knows its sizes and stores what is requested.
pub trait Student: Module + ModuleDisplay {
    /// Its sizes, with which a lesson is checked. A size that it does not have is 0.
    fn shape(&self) -> NetworkShape;

    /// Its forward pass over `images` `[B, C, S, S]`. A [`Recorder`](crate::model::Recorder) stores what `taps` request.
    /// `training` is `None` outside training.
    fn trace(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace;

    /// The student with the running statistics from the trace of a training pass, if it has any.
    fn with_statistics(self, _: Statistics) -> Self {
        self
    }
}

impl Student for Network {
    fn shape(&self) -> NetworkShape {
        Network::shape(self)
    }

    fn trace(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        self.forward_with(images, training, taps)
    }

    fn with_statistics(self, statistics: Statistics) -> Self {
        Network::with_statistics(self, statistics)
    }
}

/// A student, together with layers that are trained with it and discarded afterwards.
#[derive(Module, Debug)]
pub struct Learner<S: Student = Network> {
    /// The network.
    pub student: S,
    /// The layers that its lesson requested.
    pub aids: Aids,
}

impl<S: Student> Learner<S> {
    /// `student` with the layers that `lesson` requests. Their values are drawn from `seed`.
    pub fn new(student: S, lesson: &Lesson, seed: u64, device: &Device) -> Self {
        Self { student, aids: Aids::new(lesson.aids(), seed, device) }
    }
}

impl<S: Student> From<S> for Learner<S> {
    fn from(student: S) -> Self {
        Self { student, aids: Aids::default() }
    }
}
