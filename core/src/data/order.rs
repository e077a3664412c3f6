//! The order in which an epoch visits its samples.
//!
//! It depends on (seed, epoch) alone: a run that is resumed at any batch of any epoch sees what the whole run would
//! have seen.

use super::{Purpose, Rng};

/// A random permutation of `0..len` for one epoch.
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..len as u64).collect();
    Rng::new(seed, epoch, 0, Purpose::Order).shuffle(&mut order);
    order
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
}
