//! Which samples each step of a training visits: it follows from (seed, step), so that a resumed run, or a second network
//! beside the first, sees the same.

use crate::data::{Visit, epoch_visits};

/// The batches of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    samples: usize,
    batch_size: usize,
    repeats: u32,
    seed: u64,
    per_epoch: u64,
}

impl Batches {
    /// Batches of `batch_size` of `samples` samples, at most all of them. An epoch looks `repeats` times at each sample that
    /// it visits; its last, smaller batch is left out, unless it is the only one.
    pub fn new(samples: usize, batch_size: usize, repeats: u32, seed: u64) -> Self {
        let visits = match repeats {
            0 | 1 => samples,
            repeats => epoch_visits(samples, seed, 0, repeats).len(),
        };
        let batch_size = batch_size.min(samples).max(1);
        Self { samples, batch_size, repeats, seed, per_epoch: (visits / batch_size).max(1) as u64 }
    }

    /// Samples that there are.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Samples a batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Batches of one epoch.
    pub fn per_epoch(&self) -> u64 {
        self.per_epoch
    }

    /// The epoch of `step` and its place in it, all from 0.
    pub fn place(&self, step: u64) -> (u64, u64) {
        (step / self.per_epoch, step % self.per_epoch)
    }

    /// The visits of the steps, one after the other.
    pub fn order(self) -> Order {
        Order { batches: self, drawn: None }
    }
}

/// Hands out the visits of steps. The order of one epoch is drawn at a time, so steps are best asked for in their order.
#[derive(Clone, Debug)]
pub struct Order {
    batches: Batches,
    drawn: Option<(u64, Vec<Visit>)>,
}

impl Order {
    /// What `step`, from 0, visits.
    pub fn visits(&mut self, step: u64) -> &[Visit] {
        let Batches { samples, batch_size, repeats, seed, .. } = self.batches;
        let (epoch, place) = self.batches.place(step);
        if self.drawn.as_ref().is_some_and(|(drawn, _)| *drawn != epoch) {
            self.drawn = None;
        }
        let (_, visits) = self.drawn.get_or_insert_with(|| (epoch, epoch_visits(samples, seed, epoch, repeats)));
        let start = place as usize * batch_size;
        &visits[start..(start + batch_size).min(visits.len())]
    }
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
        // Asked again, and by another, it says the same.
        let second = order.visits(4).to_vec();
        order.visits(0);
        assert_eq!(order.visits(4), second);
        assert_eq!(batches.order().visits(4), second);
    }

    #[test]
    fn a_batch_is_no_larger_than_the_data() {
        let batches = Batches::new(5, 64, 1, 0);
        assert_eq!((batches.batch_size(), batches.per_epoch(), batches.order().visits(1).len()), (5, 1, 5));
        // Three looks at each of a third of the samples.
        let repeated = Batches::new(100, 32, 3, 4);
        let first = repeated.order().visits(0)[..4].to_vec();
        assert_eq!(first.iter().map(|visit| visit.repeat).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(repeated.per_epoch(), 3);
    }
}
