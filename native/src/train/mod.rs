//! Training on this machine: what core's course is driven with, its threads, files, progress and interruptions.
//!
//! A run is a list of stages, each one network and its course.

mod best;
mod checkpoint;
mod loader;
mod metrics_log;
mod recall;
mod source;
mod stage;
mod teacher_cache;

pub use checkpoint::{Checkpoint, RunState, clear as clear_checkpoints, latest as latest_checkpoint};
pub use metrics_log::{Line as LogLine, MetricsLog, read as read_log};
pub use source::{Source, StageData};
pub use stage::{Finished, Outcome, Stage};
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
