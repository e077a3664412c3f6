//! A student with what is trained beside it and thrown away after.

use burn::module::Module;
use burn::tensor::Device;

use crate::method::{Aids, Lesson};
use crate::model::Network;

/// A student with what is trained beside it and thrown away after.
#[derive(Module, Debug)]
pub struct Learner {
    /// The network that is kept.
    pub student: Network,
    /// What its lesson asked for.
    pub aids: Aids,
}

impl Learner {
    /// `student` with what `lesson` asks for, drawn from `seed`.
    pub fn new(student: Network, lesson: &Lesson, seed: u64, device: &Device) -> Self {
        Self { student, aids: Aids::new(lesson.aids(), seed, device) }
    }
}

impl From<Network> for Learner {
    fn from(student: Network) -> Self {
        Self { student, aids: Aids::default() }
    }
}
