//! A student with what is trained beside it and thrown away after.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::method::{Aids, Lesson};
use crate::model::{Network, NetworkShape, Statistics, Taps, Trace, Training};

/// What can be taught: the networks of this crate, and any Burn module that says its sizes and keeps what it is asked for.
pub trait Student: Module + ModuleDisplay {
    /// Its sizes, by which a lesson is checked; 0 of what it has not.
    fn shape(&self) -> NetworkShape;

    /// Its forward pass over `images` `[B, C, S, S]`, with what `taps` ask for kept by a [`Recorder`](crate::model::Recorder).
    /// `training` is `None` outside training.
    fn trace(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace;

    /// The student with the running statistics that a training pass left in its trace, if it keeps any.
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

/// A student with what is trained beside it and thrown away after.
#[derive(Module, Debug)]
pub struct Learner<S: Student = Network> {
    /// The network that is kept.
    pub student: S,
    /// What its lesson asked for.
    pub aids: Aids,
}

impl<S: Student> Learner<S> {
    /// `student` with what `lesson` asks for, drawn from `seed`.
    pub fn new(student: S, lesson: &Lesson, seed: u64, device: &Device) -> Self {
        Self { student, aids: Aids::new(lesson.aids(), seed, device) }
    }
}

impl<S: Student> From<S> for Learner<S> {
    fn from(student: S) -> Self {
        Self { student, aids: Aids::default() }
    }
}
