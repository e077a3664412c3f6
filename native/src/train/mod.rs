//! Training on this machine: what core's course is driven with, its threads, files, progress and interruptions.
//!
//! A run is a list of stages, each one network and its course.

mod checkpoint;
mod interrupt;
mod ledger;
mod loader;
mod metrics_log;
mod recall;
mod source;
mod stage;
mod teacher_cache;

pub use checkpoint::Checkpoint;
pub use interrupt::{Interrupt, hold as hold_signals};
pub use ledger::{ALLOWED, Ledger, RunState};
pub use metrics_log::{Line as LogLine, read as read_log};
pub use source::{Source, StageData};
pub use stage::{Finished, Outcome, Stage};
pub use teacher_cache::{Keep, probe as probe_cache};
