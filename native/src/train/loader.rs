//! Batches made on other threads while the device works.
//!
//! One thread makes the batches in their order and spreads the samples of each over the workers; two finished ones wait at
//! most. A sample is drawn by its own key and a mixture by its batch's, so the number of workers changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use potstill_core::data::{Batch, Dataset, Draw, Error, Mix, Transform, Visit, epoch_visits};

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
    /// How samples of a batch are mixed.
    pub mix: Mix,
    /// How often an epoch visits the samples that it visits.
    pub repeats: u32,
    /// Threads that read and augment samples; 0 takes as many as there are cores.
    pub workers: usize,
    /// Samples a batch; the last, smaller one of an epoch is left out, unless it is the only one.
    pub batch_size: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Source {
    /// Batches of one epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        let visits = match self.repeats {
            0 | 1 => self.dataset.len(),
            repeats => epoch_visits(self.dataset.len(), self.seed, 0, repeats).len(),
        };
        (visits / self.batch_size).max(1) as u64
    }

    /// Whether every epoch shows the same images with the same labels.
    pub fn is_still(&self) -> bool {
        self.transform.augment.is_none() && self.mix.is_none()
    }

    fn threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    /// Reads one batch on several threads.
    fn batch(&self, visits: &[Visit], epoch: u64, position: u64) -> Result<Batch, Error> {
        let dataset = self.dataset.as_ref();
        let mut batch = Batch::blank(dataset, visits, &self.transform)?;
        let draw = Some(Draw { seed: self.seed, epoch });
        let bytes = self.transform.shape.bytes();
        let read = |visits: &[Visit], images: &mut [f32]| {
            let mut parts = visits.iter().zip(images.chunks_exact_mut(bytes));
            parts.try_for_each(|(&visit, out)| self.transform.sample(dataset, visit, draw, out))
        };
        // A thread is not worth its start for less.
        let share = visits.len().div_ceil(self.threads()).max(PART.div_ceil(bytes));
        std::thread::scope(|scope| {
            let parts = visits.chunks(share).zip(batch.images.chunks_mut(share * bytes));
            let workers: Vec<_> = parts.map(|(visits, images)| scope.spawn(move || read(visits, images))).collect();
            let mut joined = workers.into_iter().map(|worker| worker.join());
            joined.try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        self.mix.apply(&mut batch, self.seed, epoch, position);
        Ok(batch)
    }
}

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
            let per_epoch = source.batches_per_epoch();
            let mut order = (u64::MAX, Vec::new());
            for step in first_step..total_steps {
                let since = Instant::now();
                let (epoch, position) = (step / per_epoch, step % per_epoch);
                if order.0 != epoch {
                    order = (epoch, epoch_visits(source.dataset.len(), source.seed, epoch, source.repeats));
                }
                let start = position as usize * source.batch_size;
                let end = (start + source.batch_size).min(order.1.len());
                let batch = source.batch(&order.1[start..end], epoch, position);
                counted.samples.fetch_add((end - start) as u64, Ordering::Relaxed);
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
    use potstill_core::data::{Augment, Crop, Digits, ImageShape, Normalisation, Split};

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
        assert_eq!(source(1).batches_per_epoch(), 3);
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
