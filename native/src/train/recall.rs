//! What is known of a teacher's logits without asking it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::cubecl::future::block_on;
use burn::tensor::{Device, Tensor};
use potstill_core::method::Teachers;
use potstill_core::model::Taps;
use potstill_core::train::device_batch::rows_on;
use potstill_core::train::evaluate::logits;
use potstill_core::train::{Batches, DeviceBatch};

use super::source::Source;
use super::teacher_cache::{Keep, TeacherCache, origin};
use crate::error::{Context, Failure, Result};

// Rows of a cache that are held against the teacher before it is believed.
const CHECKED_ROWS: usize = 16;

/// Who teaches, and their logits that are known.
pub struct Recall<'a> {
    teachers: Teachers,
    batches: Batches,
    classes: usize,
    device: &'a Device,
    // By the sample's index, where images are never varied.
    table: Option<Arc<Vec<f32>>>,
    // By epoch and place in it.
    cache: Option<TeacherCache>,
    // Whether what is kept was held against the teacher in this run.
    checked: bool,
    asked: u64,
    spent: Duration,
}

impl<'a> Recall<'a> {
    /// What is known of `teachers` before the first step. Teachers that are asked for `logits_alone` say the same of an image
    /// that is never varied: they are asked once, and `known` is what they said in an earlier stage of the run.
    ///
    /// # Errors
    /// If what is kept cannot be read or written, or is not what the teacher says.
    pub fn open(
        teachers: Teachers,
        logits_alone: bool,
        source: &Source,
        keep: Option<&Keep<'_>>,
        known: Option<Arc<Vec<f32>>>,
        device: &'a Device,
    ) -> Result<Self> {
        let since = Instant::now();
        let (batches, classes) = (source.batches(), teachers.shape().classes);
        let table = known.filter(|_| logits_alone && source.is_still());
        let (cache, checked, asked, spent) = (None, false, 0, Duration::ZERO);
        let mut recall = Self { teachers, batches, classes, device, table, cache, checked, asked, spent };
        if logits_alone && recall.table.is_none() {
            recall.open_logits(source, keep)?;
        }
        recall.spent = since.elapsed();
        Ok(recall)
    }

    fn open_logits(&mut self, source: &Source, keep: Option<&Keep<'_>>) -> Result<()> {
        let (varied, samples) = (!source.is_still(), source.dataset.len());
        let cache = keep.map(|keep| {
            let steps = self.batches.per_epoch() * source.batch_size as u64;
            let rows = if varied { steps } else { samples as u64 };
            TeacherCache::open(keep.root, origin(&self.teachers, source, rows, self.classes, keep)?)
        });
        let mut cache = cache.transpose()?;
        if varied {
            self.cache = cache;
            return Ok(());
        }
        // Rows by index are no rows by (epoch, place): the table takes all of them.
        let kept = cache.as_mut().map(|cache| cache.rows(0, 0, samples)).transpose()?.flatten();
        self.table = Some(Arc::new(match (kept, &mut cache) {
            (Some(kept), Some(cache)) => {
                let sample = self.ask(source, samples.min(CHECKED_ROWS))?;
                cache.check(&kept[..sample.len()], &sample)?;
                kept
            }
            (_, cache) => {
                let all = self.ask(source, samples)?;
                match cache {
                    Some(cache) => {
                        cache.record(0, 0, &all)?;
                        cache.as_kept(all)?
                    }
                    None => all,
                }
            }
        }));
        Ok(())
    }

    // What the teacher says of the first samples as they are.
    fn ask(&mut self, source: &Source, samples: usize) -> Result<Vec<f32>> {
        self.asked += samples as u64;
        let indices: Vec<u64> = (0..samples as u64).collect();
        let says = |images| self.says(images);
        block_on(logits(&says, source.dataset.as_ref(), &source.transform, &indices, self.device))
            .map_err(Failure::work)
    }

    fn says(&self, images: Tensor<4>) -> Tensor<2> {
        self.teachers.trace(images, &Taps::default()).logits
    }

    // The place of a step's first row in its epoch, and that epoch.
    fn place(&self, step: u64) -> (u64, u64) {
        let (epoch, place) = self.batches.place(step);
        (epoch, place * self.batches.batch_size() as u64)
    }

    /// The teacher's logits of the batch of `step`, from 0, if they are known; else it will be asked for them.
    ///
    /// # Errors
    /// If what is kept cannot be read, or is not what the teacher says.
    pub fn rows(&mut self, step: u64, batch: &DeviceBatch) -> Result<Option<Tensor<2>>> {
        let since = Instant::now();
        let known = self.known(step, batch)?;
        self.spent += since.elapsed();
        if known.is_none() {
            self.asked += batch.indices.len() as u64;
        }
        Ok(known.map(|rows| rows_on(rows, self.classes, self.device)))
    }

    fn known(&mut self, step: u64, batch: &DeviceBatch) -> Result<Option<Vec<f32>>> {
        if let Some(table) = &self.table {
            let row = |index: &u64| &table[*index as usize * self.classes..][..self.classes];
            return Ok(Some(batch.indices.iter().flat_map(row).copied().collect()));
        }
        let ((epoch, first), rows) = (self.place(step), batch.indices.len());
        let Some(cache) = &mut self.cache else { return Ok(None) };
        let Some(kept) = cache.rows(epoch, first, rows)? else {
            if !cache.loses() {
                return Ok(None);
            }
            // What another run will read is what teaches in this one.
            let said = self.says(batch.images.clone()).try_into_data().context("the device failed")?;
            let said: Vec<f32> = said.iter().collect();
            self.asked += rows as u64;
            let Some(cache) = &mut self.cache else { return Ok(None) };
            cache.record(epoch, first, &said)?;
            return cache.as_kept(said).map(Some);
        };
        if !self.checked {
            let rows = rows.min(CHECKED_ROWS);
            let said = self.says(batch.images.clone().narrow(0, 0, rows));
            let said: Vec<f32> = said.try_into_data().context("the device failed")?.iter().collect();
            self.cache.as_ref().map(|cache| cache.check(&kept[..said.len()], &said)).transpose()?;
            self.checked = true;
            self.asked += rows as u64;
        }
        Ok(Some(kept))
    }

    /// What the teachers say of every image by its index, where images are never varied.
    pub fn table(&self) -> Option<&Arc<Vec<f32>>> {
        self.table.as_ref()
    }

    /// Whether what the teacher is asked for in a step is to be kept after it.
    pub fn keeps(&self) -> bool {
        self.cache.as_ref().is_some_and(|cache| !cache.loses())
    }

    /// Keeps what the teacher said of the batch of `step`, from 0.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&mut self, step: u64, logits: &[f32]) -> Result<()> {
        let (epoch, first) = self.place(step);
        self.cache.as_mut().map_or(Ok(()), |cache| cache.record(epoch, first, logits))
    }

    /// Images that the teacher was asked about.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Time that looking up took.
    pub fn spent(&self) -> Duration {
        self.spent
    }
}
