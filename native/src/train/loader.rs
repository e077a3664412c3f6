//! Batches made on another thread while the device works.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use potstill_core::data::{Augment, Batch, Dataset, Normalisation, assemble, epoch_order};

use crate::error::{Context, Failure, Result};

// Two finished batches wait at most: more would only hold memory.
const AHEAD: usize = 2;

/// What a loader reads, and how.
#[derive(Clone)]
pub struct Source {
    /// The training samples.
    pub dataset: Arc<dyn Dataset>,
    /// How images are varied.
    pub augment: Option<Augment>,
    /// What pixels are normalised by.
    pub normalisation: Normalisation,
    /// Samples a batch; the last, smaller one of an epoch is left out, unless it is the only one.
    pub batch_size: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Source {
    /// Batches of one epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        (self.dataset.len() / self.batch_size).max(1) as u64
    }
}

/// Batches in order, from `first_step` on.
pub struct Loader {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts making the batches of steps `first_step..total_steps`.
    pub fn start(source: Source, first_step: u64, total_steps: u64) -> Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let work = move || {
            let per_epoch = source.batches_per_epoch();
            let mut order = (u64::MAX, Vec::new());
            for step in first_step..total_steps {
                let (epoch, position) = (step / per_epoch, (step % per_epoch) as usize);
                if order.0 != epoch {
                    order = (epoch, epoch_order(source.dataset.len(), source.seed, epoch));
                }
                let start = position * source.batch_size;
                let end = (start + source.batch_size).min(order.1.len());
                let indices = &order.1[start..end];
                let (data, augment) = (source.dataset.as_ref(), source.augment.as_ref());
                let batch = assemble(data, indices, augment, source.seed, epoch, &source.normalisation);
                // The receiver is gone when training stopped early.
                if sender.send(batch.map_err(Failure::work)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("loader".into()).spawn(work).context("cannot start a thread")?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread) })
    }

    /// The next batch.
    pub fn next(&mut self) -> Result<Batch> {
        let received = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        received.unwrap_or_else(|| Err(Failure::work("the loader stopped before its last batch")))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing the channel ends the thread's next send.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the missing batch.
            thread.join().ok();
        }
    }
}
