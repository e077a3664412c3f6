//! What a student and its baseline are told of one set of training samples.
//!
//! Why: the command and the page must compare the same two networks. The student sees every sample that is not left out. The
//! baseline can learn from labels alone, so it sees the samples whose label is told, as often in an epoch as there are samples
//! for the student: both take the same steps.

use std::sync::Arc;

use super::{Dataset, Error, Relabelled, Subset, without_classes};

/// What is said of training samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telling {
    /// Classes whose samples are left out.
    pub omit: Vec<u32>,
    /// How many samples keep their label; `None`: all.
    pub labels: Option<usize>,
    /// The share of the labels that is replaced by wrong ones, from 0 to 1.
    pub noise: f64,
}

/// What two networks learn from.
#[derive(Clone)]
pub struct Told {
    /// The student's samples: some without a label, or with a wrong one.
    pub student: Arc<dyn Dataset>,
    /// The baseline's, as many; the student's own where all have a label or none has.
    pub baseline: Arc<dyn Dataset>,
    /// How many of the student's samples have a label.
    pub labels: usize,
}

impl Told {
    /// All samples with their labels, for both networks.
    pub fn all(train: Arc<dyn Dataset>) -> Self {
        Self { labels: train.len(), student: train.clone(), baseline: train }
    }
}

impl Telling {
    /// Whether nothing is kept back and nothing is wrong.
    pub fn is_all(&self) -> bool {
        self.omit.is_empty() && self.labels.is_none() && self.noise == 0.0
    }

    /// Says this of `train`; what is drawn follows from `seed`.
    ///
    /// # Errors
    /// If every class is left out, or there are fewer samples than labels are asked for.
    pub fn of(&self, train: Arc<dyn Dataset>, seed: u64) -> Result<Told, Error> {
        if self.is_all() {
            return Ok(Told::all(train));
        }
        let train: Arc<dyn Dataset> = if self.omit.is_empty() {
            train
        } else {
            let kept = without_classes(train.as_ref(), &self.omit);
            if kept.is_empty() {
                return Err(Error::NoClasses { name: train.name().to_string() });
            }
            Arc::new(Subset::of(train, kept)?)
        };
        let told = Relabelled::new(train);
        let told = match self.labels {
            Some(labels) => told.keep(labels, seed)?,
            None => told,
        };
        let student = Arc::new(told.noise(self.noise, seed));
        let labelled: Vec<u64> = (0..student.len())
            .filter(|&index| student.known_label(index).is_some())
            .map(|index| index as u64)
            .collect();
        let (images, labels) = (student.len(), labelled.len());
        let baseline: Arc<dyn Dataset> = if labels == 0 || labels == images {
            student.clone()
        } else {
            Arc::new(Subset::of(student.clone(), labelled.into_iter().cycle().take(images).collect())?)
        };
        Ok(Told { student, baseline, labels })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Digits, Split};
    use super::*;

    fn told(telling: Telling) -> Result<Told, Error> {
        telling.of(Arc::new(Digits::new(Split::Train, 200)), 3)
    }

    #[test]
    fn the_baseline_sees_labelled_samples_alone_and_as_many() {
        let told = told(Telling { labels: Some(30), ..Telling::default() }).expect("enough");
        assert_eq!((told.student.len(), told.baseline.len(), told.labels), (200, 200, 30));
        assert!((0..200).all(|index| told.baseline.known_label(index).is_some()));
        assert_eq!((0..200).filter(|&index| told.student.known_label(index).is_some()).count(), 30);
        assert_eq!(told.baseline.label(0), told.baseline.label(30), "they come again and again");
    }

    #[test]
    fn both_see_the_same_where_all_labels_are_told_or_none() {
        for (telling, labels) in [
            (Telling::default(), 200),
            (Telling { labels: Some(0), ..Telling::default() }, 0),
            (Telling { omit: vec![3], ..Telling::default() }, 180),
            (Telling { noise: 0.5, ..Telling::default() }, 200),
        ] {
            let told = told(telling).expect("enough");
            assert_eq!(told.labels, labels);
            let said = |data: &Arc<dyn Dataset>| (0..data.len()).map(|at| data.known_label(at)).collect::<Vec<_>>();
            assert_eq!(said(&told.student), said(&told.baseline));
        }
    }

    #[test]
    fn what_leaves_nothing_is_refused() {
        assert!(matches!(
            told(Telling { omit: (0..10).collect(), ..Telling::default() }),
            Err(Error::NoClasses { .. })
        ));
        assert!(matches!(told(Telling { labels: Some(201), ..Telling::default() }), Err(Error::Samples { .. })));
    }
}
