//! What a stage reads, and how samples become a network's inputs.

use std::sync::Arc;

use potstill_core::data::{Batch, Dataset, Draw, Error, ImageShape, Mix, Transform, Visit};
use potstill_core::model::NetworkConfig;
use potstill_core::train::Batches;

// A check after an epoch, or of a teacher before it teaches, looks at this many held-out samples at most; the final figure
// is taken on all that the recipe measures on.
const CHECK_SAMPLES: usize = 2_000;
// Least pixels that a thread is started for.
const PART: usize = 8 * 28 * 28;

/// Training samples, and how they are read.
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
    /// In how many parts a batch is run, one after the other.
    pub parts: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Source {
    /// Which samples each step visits.
    pub fn batches(&self) -> Batches {
        Batches::new(self.dataset.len(), self.batch_size, self.repeats, self.seed).in_parts(self.parts)
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

    /// Reads the batch at `(epoch, place)` on several threads.
    pub fn batch(&self, visits: &[Visit], (epoch, place): (u64, u64)) -> Result<Batch, Error> {
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
        self.mix.apply(&mut batch, self.seed, epoch, place);
        Ok(batch)
    }
}

/// What a stage reads.
#[derive(Clone)]
pub struct StageData {
    /// Training samples and how they are read.
    pub source: Source,
    /// Held-out samples.
    pub held_out: Arc<dyn Dataset>,
    /// Samples that are looked at in their place before the end, where the recipe has a validation split.
    pub validation: Option<Arc<dyn Dataset>>,
    /// How many of those are looked at before the end.
    pub checked: usize,
    /// How many different training images there are.
    pub images: usize,
    /// How many of them have a label.
    pub labels: usize,
    /// How many of those labels are wrong on purpose.
    pub wrong: usize,
    /// The classes that are left out.
    pub without: Vec<u32>,
}

impl StageData {
    /// What is read, of which at most `test_samples` held-out samples are measured on, and the validation split, if there is
    /// one, before that.
    pub fn new(
        source: Source,
        held_out: Arc<dyn Dataset>,
        validation: Option<Arc<dyn Dataset>>,
        test_samples: Option<usize>,
    ) -> Self {
        // What chooses is looked at whole.
        let checked = match &validation {
            Some(validation) => validation.len(),
            None => test_samples.unwrap_or(CHECK_SAMPLES).min(CHECK_SAMPLES),
        };
        let images = source.dataset.len();
        Self { source, held_out, validation, checked, images, labels: images, wrong: 0, without: Vec::new() }
    }

    /// The samples that are looked at before the end.
    pub fn watched(&self) -> &dyn Dataset {
        self.validation.as_ref().unwrap_or(&self.held_out).as_ref()
    }

    /// The same with other training samples, of which so many images are different and have a label.
    pub fn with(&self, dataset: Arc<dyn Dataset>, images: usize, labels: usize) -> Self {
        let source = Source { dataset, ..self.source.clone() };
        Self { source, images, labels, ..self.clone() }
    }

    /// How samples become a network's inputs.
    pub fn transform_for(&self, config: &NetworkConfig) -> Transform {
        let shape = ImageShape { channels: config.channels(), height: config.image_size(), width: config.image_size() };
        Transform { shape, ..self.source.transform.clone() }
    }

    /// The training samples for a network, in batches of at most `batch_size` that are run in so many `parts`.
    pub fn source_for(&self, config: &NetworkConfig, batch_size: usize, parts: usize) -> Source {
        let source = self.source.clone();
        let (transform, batch_size) = (self.transform_for(config), batch_size.min(source.dataset.len()));
        Source { transform, batch_size, parts, ..source }
    }
}
