//! One training step and what it is made of. Loops, files and clocks belong to the callers.

pub mod adamw;
mod learner;
pub mod metrics;
pub mod packing;
pub mod probe;
pub mod schedule;
pub mod step;

pub use adamw::{AdamW, AdamWConfig, Decay};
pub use learner::{Learner, Student};
pub use metrics::Evaluation;
pub use packing::Packing;
pub use probe::heads_alone;
pub use schedule::{Schedule, WarmupCosine};
pub use step::{StepBatch, StepReport, training_step};
