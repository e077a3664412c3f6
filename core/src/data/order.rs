//! The order in which an epoch visits its samples.
//!
//! It depends only on (seed, epoch). A run that is resumed at any batch of any epoch visits the same samples as an uninterrupted
//! run.

use super::{Purpose, Rng, Visit};

/// A random permutation of `0..len` for one epoch.
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..len as u64).collect();
    Rng::new(seed, epoch, 0, Purpose::Order).shuffle(&mut order);
    order
}

/// The visits of a repeated epoch are cut to a multiple of this, as in DeiT's sampler.
const MULTIPLE: usize = 256;

/// The visits of one epoch. Usually each sample is visited once. With `repeats` above 1, a sample is visited that many times in
/// succession (repeated augmentation, Hoffer et al., 2019). A repeated epoch is not longer, so it visits only about one sample in
/// `repeats`. It has `len` visits, cut to a multiple of 256 if there are at least that many.
pub fn epoch_visits(len: usize, seed: u64, epoch: u64, repeats: u32) -> Vec<Visit> {
    let visits = match repeats {
        0 | 1 => len,
        _ if len < MULTIPLE => len,
        _ => len / MULTIPLE * MULTIPLE,
    };
    let order = epoch_order(len, seed, epoch).into_iter();
    order.flat_map(|index| (0..repeats.max(1)).map(move |repeat| Visit { index, repeat })).take(visits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_permutation_that_changes_with_seed_and_epoch() {
        let order = epoch_order(1000, 7, 3);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_eq!(order, epoch_order(1000, 7, 3));
        assert_ne!(order, epoch_order(1000, 7, 4));
        assert_ne!(order, epoch_order(1000, 8, 3));
        assert!(epoch_order(0, 1, 1).is_empty());
    }

    #[test]
    fn a_repeated_epoch_visits_a_third_of_the_samples_three_times() {
        let visits = epoch_visits(1000, 7, 3, 3);
        assert_eq!(visits.len(), 768);
        for (three, &index) in visits.chunks(3).zip(&epoch_order(1000, 7, 3)) {
            assert!(three.iter().zip(0..).all(|(visit, repeat)| *visit == Visit { index, repeat }));
        }
        assert_eq!(epoch_visits(1000, 7, 3, 1).len(), 1000);
        assert_eq!(epoch_visits(10, 7, 3, 3).len(), 10);
    }
}
