//! One training step and what it is made of. Loops, files and clocks belong to the callers.

pub mod adamw;
pub mod metrics;
pub mod schedule;
pub mod step;

pub use adamw::{AdamW, AdamWConfig};
pub use metrics::Evaluation;
pub use schedule::WarmupCosine;
pub use step::{StepBatch, StepReport, training_step};
