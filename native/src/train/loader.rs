//! Batches made on other threads while the device works.
//!
//! One thread makes the batches in their order and spreads the samples of each over the workers; two finished ones wait at
//! most. A sample is drawn by its own key and a mixture by its batch's, so the number of workers changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use potstill_core::data::Batch;

use super::source::Source;
use crate::error::{Context, Failure, Result};

// Two finished batches wait at most: more would only hold memory.
const AHEAD: usize = 2;

/// Batches in order, from `first_step` on.
pub struct Loader {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
    made: Arc<Made>,
    waited: Duration,
}

/// What was read so far, and how long that took without the time in which finished batches waited to be taken.
#[derive(Default)]
struct Made {
    samples: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Loader {
    /// Starts making the batches of steps `first_step..total_steps`.
    pub fn start(source: Source, first_step: u64, total_steps: u64) -> Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let made = Arc::new(Made::default());
        let counted = made.clone();
        let work = move || {
            let batches = source.batches();
            let mut order = batches.order();
            for step in first_step..total_steps {
                let since = Instant::now();
                let visits = order.visits(step);
                let batch = source.batch(visits, batches.place(step));
                counted.samples.fetch_add(visits.len() as u64, Ordering::Relaxed);
                counted.nanoseconds.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
                // The receiver is gone when training stopped early.
                if sender.send(batch.map_err(Failure::work)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("loader".into()).spawn(work).context("cannot start a thread")?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread), made, waited: Duration::ZERO })
    }

    /// The next batch.
    pub fn next(&mut self) -> Result<Batch> {
        let since = Instant::now();
        let received = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        self.waited += since.elapsed();
        received.unwrap_or_else(|| Err(Failure::work("the loader stopped before its last batch")))
    }

    /// How long [`next`](Self::next) has waited in all: time in which the device had nothing to do.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Samples a second that the loader reads by itself, or `None` before the first.
    pub fn rate(&self) -> Option<f64> {
        let seconds = self.made.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9;
        let samples = self.made.samples.load(Ordering::Relaxed) as f64;
        (seconds > 0.0).then(|| samples / seconds)
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

#[cfg(test)]
mod tests {
    use potstill_core::data::{Augment, Crop, Digits, ImageShape, Mix, Normalisation, Split, Transform};

    use super::*;

    fn source(workers: usize) -> Source {
        let shape = ImageShape { channels: 1, height: 20, width: 20 };
        let mut transform = Transform::plain(shape, Normalisation::mnist());
        transform.augment = Augment { crop: Crop::random_resized(), flip: 0.5, ..Augment::none() };
        let mix = Mix { mixup: 0.8, cutmix: 1.0, ..Mix::default() };
        Source {
            dataset: Arc::new(Digits::new(Split::Train, 100)),
            transform,
            mix,
            repeats: 3,
            workers,
            batch_size: 32,
            parts: 1,
            seed: 4,
        }
    }

    fn batches(source: Source, first: u64) -> Vec<Batch> {
        let mut loader = Loader::start(source, first, 7).expect("starts");
        (first..7).map(|_| loader.next().expect("a batch")).collect()
    }

    #[test]
    fn neither_workers_nor_a_resume_change_a_batch() {
        let alone = batches(source(1), 0);
        assert_eq!(alone.len(), 7);
        assert_eq!(source(1).batches().per_epoch(), 3);
        for workers in [2, 5] {
            assert_eq!(batches(source(workers), 0), alone, "{workers} workers");
        }
        assert_eq!(batches(source(3), 4), alone[4..]);
        assert_ne!(alone[0], alone[3]);
        assert_eq!(alone[0].indices[0], alone[0].indices[2]);
        assert_ne!(alone[0].images[..400], alone[0].images[400..800]);
    }

    #[test]
    fn rates_count_what_was_read() {
        let mut loader = Loader::start(source(2), 0, 3).expect("starts");
        (0..3).for_each(|_| drop(loader.next().expect("a batch")));
        assert!(loader.rate().expect("three batches") > 0.0);
        assert!(loader.next().is_err(), "there is no fourth batch");
    }

    #[test]
    fn a_loader_that_is_dropped_early_ends() {
        let mut loader = Loader::start(source(2), 0, 1_000_000).expect("starts");
        loader.next().expect("a batch");
    }
}
