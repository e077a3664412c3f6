//! Training on this machine: the loop around core's step, with its files, its progress and its interruptions.
//!
//! A run is a list of stages, each one network. A stage's state after any step is its parameters, its optimiser's moments
//! and the step's number: order, augmentation and dropped branches follow from (seed, epoch, index) and (seed, step), so a
//! resumed run takes the steps that an uninterrupted one would have taken.

mod checkpoint;
mod loader;
mod metrics_log;
mod stage;
mod teacher_cache;

pub use checkpoint::{Checkpoint, RunState, clear as clear_checkpoints, latest as latest_checkpoint};
pub use loader::Source;
pub use metrics_log::{Line as LogLine, MetricsLog, read as read_log};
pub use stage::{Finished, Outcome, Stage, StageData};
pub use teacher_cache::Keep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Context, Result};

/// Set when the person asks to stop.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C. The first asks politely; the second ends the process at once.
    pub fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = flag.clone();
        ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("stopping after this step; press Ctrl-C again to stop without saving");
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(Self(flag))
    }

    /// Whether the person asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
