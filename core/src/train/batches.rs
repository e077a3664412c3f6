//! The samples that each step of a training visits. They follow from (seed, step), so a resumed run sees the same samples, and so
//! does a second network.

use crate::data::{Visit, epoch_visits};

/// The batches of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    samples: usize,
    batch_size: usize,
    repeats: u32,
    parts: usize,
    seed: u64,
    per_epoch: u64,
}

impl Batches {
    /// Batches of `batch_size` out of `samples` samples, at most all of them. An epoch visits each of its samples `repeats`
    /// times. The last batch of an epoch is left out if it is smaller, unless it is the only one.
    pub fn new(samples: usize, batch_size: usize, repeats: u32, seed: u64) -> Self {
        let visits = match repeats {
            0 | 1 => samples,
            repeats => epoch_visits(samples, seed, 0, repeats).len(),
        };
        let batch_size = batch_size.min(samples).max(1);
        Self { samples, batch_size, repeats, parts: 1, seed, per_epoch: (visits / batch_size).max(1) as u64 }
    }

    /// The same for batches that are run in so many parts, one after the other. Where samples are looked at several times,
    /// each part takes every so-manieth visit, as each of so many processes does with DeiT's sampler: the looks at a sample
    /// go to several parts, and a part sees more samples.
    #[must_use]
    pub fn in_parts(self, parts: usize) -> Self {
        Self { parts: parts.max(1), ..self }
    }

    /// The number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Samples in a batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Batches in one epoch.
    pub fn per_epoch(&self) -> u64 {
        self.per_epoch
    }

    /// The epoch of `step` and its place in it, all from 0.
    pub fn place(&self, step: u64) -> (u64, u64) {
        (step / self.per_epoch, step % self.per_epoch)
    }

    /// The visits of the steps, in their order.
    pub fn order(self) -> Order {
        Order { batches: self, drawn: None }
    }
}

/// Returns the visits of steps. It draws the order of one epoch at a time, so it is fastest to ask for steps in their order.
#[derive(Clone, Debug)]
pub struct Order {
    batches: Batches,
    drawn: Option<(u64, Vec<Visit>)>,
}

impl Order {
    /// The visits of `step`, from 0.
    pub fn visits(&mut self, step: u64) -> &[Visit] {
        let Batches { samples, batch_size, repeats, parts, seed, .. } = self.batches;
        let (epoch, place) = self.batches.place(step);
        if self.drawn.as_ref().is_some_and(|(drawn, _)| *drawn != epoch) {
            self.drawn = None;
        }
        let (_, visits) = self.drawn.get_or_insert_with(|| {
            let mut visits = epoch_visits(samples, seed, epoch, repeats);
            if repeats > 1 && parts > 1 {
                visits.chunks_mut(batch_size).for_each(|batch| deal(batch, parts));
            }
            (epoch, visits)
        });
        let start = place as usize * batch_size;
        &visits[start..(start + batch_size).min(visits.len())]
    }
}

// Deals a batch's visits out to its parts in turn, and puts the parts one after the other. All but the last are of one
// length, as a step cuts them.
fn deal(batch: &mut [Visit], parts: usize) {
    let length = batch.len().div_ceil(parts);
    let mut dealt: Vec<Vec<Visit>> = vec![Vec::new(); parts];
    let mut next = 0;
    for &visit in batch.iter() {
        // A part that is full takes no more.
        while dealt[next].len() == length.min(batch.len().saturating_sub(next * length)) {
            next = (next + 1) % parts;
        }
        dealt[next].push(visit);
        next = (next + 1) % parts;
    }
    batch.iter_mut().zip(dealt.into_iter().flatten()).for_each(|(to, visit)| *to = visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_every_sample_of_its_whole_batches_once() {
        let batches = Batches::new(10, 3, 1, 7);
        let mut order = batches.order();
        let mut seen: Vec<u64> = (3..6).flat_map(|step| order.visits(step).to_vec()).map(|visit| visit.index).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((batches.per_epoch(), seen.len(), batches.place(5)), (3, 9, (1, 2)));
        // A second call and a second instance give the same.
        let second = order.visits(4).to_vec();
        order.visits(0);
        assert_eq!(order.visits(4), second);
        assert_eq!(batches.order().visits(4), second);
    }

    #[test]
    fn parts_of_a_batch_see_different_samples() {
        let distinct = |visits: &[Visit]| {
            let mut indices: Vec<u64> = visits.iter().map(|visit| visit.index).collect();
            indices.sort_unstable();
            indices.dedup();
            indices.len()
        };
        let whole = Batches::new(2048, 512, 3, 7);
        let dealt = whole.in_parts(4);
        for step in [0, 3] {
            let (before, after) = (whole.order().visits(step).to_vec(), dealt.order().visits(step).to_vec());
            assert_eq!(before[..128].chunks(3).count(), distinct(&before[..128]));
            // Part j takes visits j, j + 4, ...: no two of three in succession.
            for (part, visits) in after.chunks(128).enumerate() {
                assert!(visits.iter().eq(before.iter().skip(part).step_by(4)));
                assert_eq!(distinct(visits), 128);
            }
        }
        // Without repeats, or in one part, nothing moves.
        let once = Batches::new(100, 32, 1, 7);
        assert_eq!(once.in_parts(4).order().visits(1), once.order().visits(1));
        // Parts of two lengths hold what the batch holds.
        for (length, parts) in [(7, 3), (10, 4), (5, 4), (4, 4), (3, 8), (9, 2)] {
            let before: Vec<Visit> = (0..length).map(|index| Visit { index, repeat: 0 }).collect();
            let mut after = before.clone();
            deal(&mut after, parts);
            assert_eq!(after[0], before[0]);
            after.sort_by_key(|visit| visit.index);
            assert_eq!(after, before, "{length} in {parts}");
        }
    }

    #[test]
    fn a_batch_is_no_larger_than_the_data() {
        let batches = Batches::new(5, 64, 1, 0);
        assert_eq!((batches.batch_size(), batches.per_epoch(), batches.order().visits(1).len()), (5, 1, 5));
        // A third of the samples, three visits each.
        let repeated = Batches::new(100, 32, 3, 4);
        let first = repeated.order().visits(0)[..4].to_vec();
        assert_eq!(first.iter().map(|visit| visit.repeat).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(repeated.per_epoch(), 3);
    }
}
