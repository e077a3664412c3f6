//! Batches made on another thread while the device works.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use potstill_core::data::{Batch, Dataset, Draw, Error, Transform, Visit, epoch_order};

use crate::error::{Context, Failure, Result};

// Two finished batches wait at most: more would only hold memory.
const AHEAD: usize = 2;
// Least pixels that a thread is started for.
const PART: usize = 8 * 28 * 28;

/// What a loader reads, and how.
#[derive(Clone)]
pub struct Source {
    /// The training samples.
    pub dataset: Arc<dyn Dataset>,
    /// How they become the network's inputs.
    pub transform: Transform,
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

    /// Reads one batch on several threads. Samples are drawn by their own keys, so their number changes nothing.
    fn batch(&self, visits: &[Visit], epoch: u64, threads: usize) -> Result<Batch, Error> {
        let dataset = self.dataset.as_ref();
        let mut batch = Batch::blank(dataset, visits, &self.transform)?;
        let draw = Some(Draw { seed: self.seed, epoch });
        let bytes = self.transform.shape.bytes();
        let read = |visits: &[Visit], images: &mut [f32]| {
            let mut parts = visits.iter().zip(images.chunks_exact_mut(bytes));
            parts.try_for_each(|(&visit, out)| self.transform.sample(dataset, visit, draw, out))
        };
        // A thread is not worth its start for less.
        let share = visits.len().div_ceil(threads).max(PART.div_ceil(bytes));
        std::thread::scope(|scope| {
            let parts = visits.chunks(share).zip(batch.images.chunks_mut(share * bytes));
            let workers: Vec<_> = parts.map(|(visits, images)| scope.spawn(move || read(visits, images))).collect();
            let joined = workers.into_iter().map(|worker| worker.join());
            joined
                .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect::<Result<(), _>>()
        })?;
        Ok(batch)
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
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let work = move || {
            let per_epoch = source.batches_per_epoch();
            let mut order = (u64::MAX, Vec::new());
            for step in first_step..total_steps {
                let (epoch, position) = (step / per_epoch, (step % per_epoch) as usize);
                if order.0 != epoch {
                    let visit = |index| Visit { index, repeat: 0 };
                    order =
                        (epoch, epoch_order(source.dataset.len(), source.seed, epoch).into_iter().map(visit).collect());
                }
                let start = position * source.batch_size;
                let end = (start + source.batch_size).min(order.1.len());
                let batch = source.batch(&order.1[start..end], epoch, threads);
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
