//! Training without threads, files or clocks: one step, the course of a whole training and its saved state, evaluation.
//!
//! The command blocks on the async functions and keeps its device busy with threads. A page awaits them.

pub mod adamw;
pub mod batches;
pub mod bias;
pub mod course;
pub mod device_batch;
pub mod evaluate;
mod learner;
pub mod metrics;
pub mod packing;
pub mod probe;
pub mod recipe;
pub mod schedule;
pub mod state;
pub mod step;

pub use adamw::{AdamW, AdamWConfig, Decay};
pub use batches::{Batches, Order};
pub use course::{Course, CourseConfig, Taken};
pub use device_batch::DeviceBatch;
pub use learner::{Learner, Student};
pub use metrics::Evaluation;
pub use packing::Packing;
pub use probe::heads_alone;
pub use recipe::{OutOfRange, Trainable, TrainingRecipe, teacher_seed};
pub use schedule::{Schedule, WarmupCosine};
pub use state::{State, StateError};
pub use step::{StepBatch, StepReport, training_step};

use burn::tensor::ExecutionError;

use crate::data;
use crate::method::retrospection::TableError;

/// An error that ends a training or an evaluation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sample cannot be read.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A sample is not in the table of past logits.
    #[error(transparent)]
    Past(#[from] TableError),
    /// The device was lost, or cannot be read.
    #[error("the device failed: {0}")]
    Device(#[from] ExecutionError),
}
