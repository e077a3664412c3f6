//! Subsets of a data set.
//!
//! Students are compared for different N and different seeds. So the choice of N samples is random, fixed by the seed, and as
//! balanced between the classes as the set allows. It is also nested: the subset of N + 1 samples begins with the subset of N
//! samples.

use super::{Dataset, Error, ImageShape, Picture, Purpose, Rng};

/// The indices of a class-balanced random subset.
///
/// Each class is shuffled. Then the classes take turns, in a shuffled order, until `samples` are chosen. A class without more
/// samples is skipped.
///
/// # Errors
/// If `samples` is 0 or more than there are.
pub fn balanced_indices(dataset: &dyn Dataset, samples: usize, seed: u64) -> Result<Vec<u64>, Error> {
    let len = dataset.len();
    if samples == 0 || samples > len {
        return Err(Error::Samples { name: dataset.name().to_string(), asked: samples as u64, len: len as u64 });
    }
    let mut classes = vec![Vec::new(); dataset.classes()];
    for index in 0..len {
        classes[dataset.label(index) as usize].push(index as u64);
    }
    for (class, indices) in classes.iter_mut().enumerate() {
        Rng::new(seed, 0, class as u64, Purpose::Subset).shuffle(indices);
    }
    // The order of the turns has a key that no class uses.
    Rng::new(seed, 1, 0, Purpose::Subset).shuffle(&mut classes);
    let mut chosen = Vec::with_capacity(samples);
    let mut turn = 0;
    while chosen.len() < samples {
        chosen.extend(classes.iter().filter_map(|class| class.get(turn)).take(samples - chosen.len()));
        turn += 1;
    }
    Ok(chosen)
}

/// The indices of `samples` samples that represent the whole set, or of all if it has no more. They are fixed and spread evenly
/// over the set, and each class has its share, whatever the order of the classes in the set.
pub fn spread_indices(dataset: &dyn Dataset, samples: usize) -> Vec<u64> {
    let len = dataset.len();
    let samples = samples.min(len);
    // Class by class, each in the set's order. If the classes alternate, as in the drawn digits, even steps through the set
    // itself would only reach some of them.
    let mut by_class: Vec<usize> = (0..len).collect();
    by_class.sort_by_key(|&index| dataset.label(index));
    let mut chosen: Vec<u64> = (0..samples).map(|place| by_class[place * len / samples] as u64).collect();
    chosen.sort_unstable();
    chosen
}

/// A view of some samples of a data set, under new indices.
#[derive(Debug, Clone)]
pub struct Subset<D> {
    inner: D,
    indices: Vec<u64>,
}

impl<D: Dataset> Subset<D> {
    /// A class-balanced random subset, chosen by [`balanced_indices`].
    ///
    /// # Errors
    /// If `samples` is 0 or more than there are.
    pub fn balanced(inner: D, samples: usize, seed: u64) -> Result<Self, Error> {
        let indices = balanced_indices(&inner, samples, seed)?;
        Ok(Self { inner, indices })
    }

    /// The samples with the given indices, in that order.
    ///
    /// # Errors
    /// If an index is beyond the set.
    pub fn of(inner: D, indices: Vec<u64>) -> Result<Self, Error> {
        let len = inner.len() as u64;
        match indices.iter().find(|&&index| index >= len) {
            Some(&index) => Err(Error::Index { name: inner.name().to_string(), index, len }),
            None => Ok(Self { inner, indices }),
        }
    }

    /// The indices in the whole set, in the order of the subset.
    pub fn indices(&self) -> &[u64] {
        &self.indices
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn class_names(&self) -> &[String] {
        self.inner.class_names()
    }

    fn shape(&self) -> Option<ImageShape> {
        self.inner.shape()
    }

    fn label(&self, index: usize) -> u32 {
        self.inner.label(self.indices[index] as usize)
    }

    fn known_label(&self, index: usize) -> Option<u32> {
        self.inner.known_label(self.indices[index] as usize)
    }

    fn image(&self, index: usize) -> Result<Picture<'_>, Error> {
        self.inner.image(self.indices[index] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Images;
    use super::*;

    /// Pixel `i` of value `i`; class 0 is rare.
    fn set() -> Images {
        let labels: Vec<u32> = (0..100).map(|i| if i < 4 { 0 } else { 1 + i % 2 }).collect();
        let names = ["a", "b", "c"].map(String::from).to_vec();
        let shape = ImageShape { channels: 1, height: 1, width: 1 };
        Images::new("set", shape, names, (0..100).collect(), labels).unwrap()
    }

    fn counts(set: &dyn Dataset) -> [usize; 3] {
        let mut counts = [0; 3];
        (0..set.len()).for_each(|i| counts[set.label(i) as usize] += 1);
        counts
    }

    #[test]
    fn is_balanced_nested_and_fixed_by_the_seed() {
        let whole = set();
        assert_eq!(counts(&Subset::balanced(&whole, 9, 5).unwrap()), [3, 3, 3]);
        assert_eq!(counts(&Subset::balanced(&whole, 24, 5).unwrap()), [4, 10, 10]);
        assert_eq!(counts(&Subset::balanced(&whole, 100, 5).unwrap()), counts(&whole));
        let ten = balanced_indices(&whole, 10, 5).unwrap();
        assert_eq!(ten, balanced_indices(&whole, 11, 5).unwrap()[..10]);
        assert_ne!(ten, balanced_indices(&whole, 10, 6).unwrap());
        let mut all = balanced_indices(&whole, 100, 5).unwrap();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..100));
    }

    #[test]
    fn a_spread_keeps_the_shares_of_the_classes() {
        // Classes 0, 1, 2, 0, 1, 2, ...: every third sample is of one class.
        let names = ["a", "b", "c"].map(String::from).to_vec();
        let shape = ImageShape { channels: 1, height: 1, width: 1 };
        let whole = Images::new("set", shape, names, (0..90).collect(), (0..90).map(|i| i % 3).collect()).unwrap();
        let spread = |set: &Images, samples| Subset::of(set.clone(), spread_indices(set, samples)).unwrap();
        assert_eq!(counts(&spread(&whole, 18)), [6, 6, 6]);
        let thirds = |set: &dyn Fn(u64) -> bool| spread(&whole, 18).indices.iter().filter(|&&i| set(i)).count();
        assert_eq!([thirds(&|i| i < 30), thirds(&|i| (30..60).contains(&i)), thirds(&|i| i >= 60)], [6, 6, 6]);
        assert_eq!(counts(&spread(&set(), 25)), [1, 12, 12]);
        assert!(spread_indices(&whole, 200).into_iter().eq(0..90));
        assert!(spread_indices(&whole, 0).is_empty());
    }

    #[test]
    fn maps_images_and_labels_together() {
        let whole = set();
        let some = Subset::balanced(&whole, 20, 1).unwrap();
        for (i, &index) in some.indices().iter().enumerate() {
            assert_eq!(u64::from(some.image(i).unwrap().pixels[0]), index);
            assert_eq!(some.label(i), whole.label(index as usize));
        }
    }

    #[test]
    fn refuses_sizes_and_indices_that_do_not_exist() {
        let whole = set();
        for asked in [0, 101] {
            let error = Subset::balanced(&whole, asked, 0).unwrap_err();
            assert_eq!(error, Error::Samples { name: "set".into(), asked: asked as u64, len: 100 });
        }
        let error = Subset::of(&whole, vec![3, 100]).unwrap_err();
        assert_eq!(error, Error::Index { name: "set".into(), index: 100, len: 100 });
    }
}
