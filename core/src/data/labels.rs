//! Labels that not every sample has, or that are wrong: what a student is told of a data set.
//!
//! Why: a teacher pays where labels are scarce or bad. The samples stay what they are; only what is said of them changes, by
//! the seed alone.

use super::subset::balanced_indices;
use super::{Dataset, Error, ImageShape, Picture, Purpose, Rng};

/// What is said of the samples of a data set.
#[derive(Clone, Debug)]
pub struct Relabelled<D> {
    inner: D,
    // By index; `None` of a sample without a label.
    labels: Vec<Option<u32>>,
}

impl<D: Dataset> Relabelled<D> {
    /// The labels as they are.
    pub fn new(inner: D) -> Self {
        let labels = (0..inner.len()).map(|index| inner.known_label(index)).collect();
        Self { inner, labels }
    }

    /// `labels` samples, drawn evenly over the classes by the seed, keep their label; 0 keeps none.
    ///
    /// # Errors
    /// If there are fewer samples than that.
    pub fn keep(mut self, labels: usize, seed: u64) -> Result<Self, Error> {
        let kept = if labels == 0 { Vec::new() } else { balanced_indices(&self.inner, labels, seed)? };
        let mut chosen = vec![None; self.labels.len()];
        kept.into_iter().for_each(|index| chosen[index as usize] = self.labels[index as usize]);
        self.labels = chosen;
        Ok(self)
    }

    /// A `share` of the labels, drawn by the seed, is replaced, each by any other class.
    pub fn noise(mut self, share: f64, seed: u64) -> Self {
        let classes = self.inner.classes() as u64;
        let mut labelled: Vec<usize> = (0..self.labels.len()).filter(|&index| self.labels[index].is_some()).collect();
        let mut rng = Rng::new(seed, 0, 0, Purpose::Labels);
        rng.shuffle(&mut labelled);
        let replaced = (share * labelled.len() as f64).round() as usize;
        for index in labelled.into_iter().take(if classes > 1 { replaced } else { 0 }) {
            // Another class than its own: one of the others, counted on from it.
            let step = 1 + Rng::new(seed, 1, index as u64, Purpose::Labels).below(classes - 1);
            self.labels[index] = self.labels[index].map(|label| ((u64::from(label) + step) % classes) as u32);
        }
        self
    }

    /// How many samples have another label than their own.
    pub fn wrong(&self) -> usize {
        let labels = self.labels.iter().enumerate();
        labels.filter(|(index, label)| label.is_some_and(|label| label != self.inner.label(*index))).count()
    }

    /// How many samples have a label.
    pub fn labelled(&self) -> usize {
        self.labels.iter().flatten().count()
    }
}

/// The indices of the samples that are of none of the classes `omit`.
pub fn without_classes(dataset: &dyn Dataset, omit: &[u32]) -> Vec<u64> {
    (0..dataset.len()).filter(|&index| !omit.contains(&dataset.label(index))).map(|index| index as u64).collect()
}

impl<D: Dataset> Dataset for Relabelled<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn class_names(&self) -> &[String] {
        self.inner.class_names()
    }

    fn shape(&self) -> Option<ImageShape> {
        self.inner.shape()
    }

    fn label(&self, index: usize) -> u32 {
        self.inner.label(index)
    }

    fn known_label(&self, index: usize) -> Option<u32> {
        self.labels[index]
    }

    fn image(&self, index: usize) -> Result<Picture<'_>, Error> {
        self.inner.image(index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Digits, Split};
    use super::*;

    fn labels<D: Dataset>(dataset: &Relabelled<D>) -> Vec<Option<u32>> {
        (0..dataset.len()).map(|index| dataset.known_label(index)).collect()
    }

    #[test]
    fn labels_are_kept_evenly_over_the_classes() {
        let kept = Relabelled::new(Digits::new(Split::Train, 500)).keep(50, 3).expect("enough");
        assert_eq!((kept.labelled(), kept.len()), (50, 500));
        for class in 0..10 {
            assert_eq!(labels(&kept).iter().filter(|label| **label == Some(class)).count(), 5, "class {class}");
        }
        let digits = || Relabelled::new(Digits::new(Split::Train, 500));
        assert_eq!(labels(&digits().keep(50, 3).expect("enough")), labels(&kept));
        assert_ne!(labels(&digits().keep(50, 4).expect("enough")), labels(&kept));
        assert_eq!(digits().keep(0, 3).expect("none is fine").labelled(), 0);
        digits().keep(501, 3).expect_err("more than there are");
        // What is measured on keeps its labels.
        assert!((0..500).all(|index| kept.known_label(index).is_none_or(|label| label == kept.label(index))));
    }

    #[test]
    fn noise_replaces_its_share_by_other_classes() {
        let digits = Relabelled::new(Digits::new(Split::Train, 200)).keep(100, 0).expect("enough");
        let noisy = digits.clone().noise(0.4, 7);
        let changed = labels(&digits).iter().zip(labels(&noisy)).filter(|(a, b)| **a != *b).count();
        assert_eq!((changed, noisy.labelled(), noisy.wrong(), digits.wrong()), (40, 100, 40, 0));
        assert!(labels(&noisy).iter().flatten().all(|label| *label < 10));
        assert_eq!(labels(&digits.clone().noise(0.4, 7)), labels(&noisy));
        assert_eq!(labels(&digits.clone().noise(0.0, 7)), labels(&digits));
    }

    #[test]
    fn classes_are_left_out() {
        let digits = Digits::new(Split::Train, 100);
        let kept = without_classes(&digits, &[3, 7]);
        assert_eq!(kept.len(), 80);
        assert!(kept.iter().all(|&index| ![3, 7].contains(&digits.label(index as usize))));
    }
}
