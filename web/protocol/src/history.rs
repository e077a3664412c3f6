//! The curves of a run, one for each quantity of each model.
//!
//! A curve has steps of its own, so a term that appears late or a model that is measured rarely needs no filling.

use serde::{Deserialize, Serialize};

use crate::{Model, reals};

/// What a curve shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// The total loss.
    Loss,
    /// A term of the loss by its name, before its weight.
    Term(String),
    /// The fraction of held-out samples that the model is right about.
    Accuracy,
    /// The fraction of held-out samples on which the model and its teacher decide alike.
    Agreement,
    /// The fraction of held-out samples of the classes that the student does not see that the model is right about.
    Unseen,
    /// The accuracy with the biases of those classes corrected, at the end: each is said as often as it comes.
    Corrected,
    /// And of those classes alone.
    UnseenCorrected,
}

/// One quantity of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Whose.
    pub model: Model,
    /// What.
    pub quantity: Quantity,
    /// Steps that the model had taken, ascending.
    pub steps: Vec<u32>,
    /// A value a step; a loss of a run that failed may be no number.
    #[serde(deserialize_with = "reals")]
    pub values: Vec<f32>,
}

impl Curve {
    /// The values at `steps`; not a number where the curve has none.
    pub fn at(&self, steps: &[u32]) -> Vec<f32> {
        let value = |step| self.steps.binary_search(step).map_or(f32::NAN, |at| self.values[at]);
        steps.iter().map(value).collect()
    }
}

/// All curves of a run, in the order in which they began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// At most one for each model and quantity.
    pub curves: Vec<Curve>,
}

/// How much of a history is known elsewhere: the points of each of its curves.
#[derive(Clone, Debug, Default)]
pub struct Mark(Vec<usize>);

impl History {
    /// One curve, if it has begun.
    pub fn curve(&self, model: Model, quantity: &Quantity) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.model == model && curve.quantity == *quantity)
    }

    /// A curve's last value, if it has begun.
    pub fn last(&self, model: Model, quantity: &Quantity) -> Option<f32> {
        self.curve(model, quantity)?.values.last().copied()
    }

    /// Adds a point to a curve, which begins where there is none yet.
    pub fn record(&mut self, model: Model, quantity: Quantity, step: u32, value: f32) {
        self.extend(Self { curves: vec![Curve { model, quantity, steps: vec![step], values: vec![value] }] });
    }

    /// How much there is now.
    pub fn mark(&self) -> Mark {
        Mark(self.curves.iter().map(|curve| curve.steps.len()).collect())
    }

    /// What came after `mark`.
    pub fn since(&self, mark: &Mark) -> Self {
        let known = mark.0.iter().copied().chain(std::iter::repeat(0));
        let new = self.curves.iter().zip(known).filter(|(curve, known)| curve.steps.len() > *known);
        let new = new.map(|(curve, known)| Curve {
            model: curve.model,
            quantity: curve.quantity.clone(),
            steps: curve.steps[known..].to_vec(),
            values: curve.values[known..].to_vec(),
        });
        Self { curves: new.collect() }
    }

    /// Appends what is new.
    pub fn extend(&mut self, new: Self) {
        for curve in new.curves {
            let own = self.curves.iter_mut().find(|own| own.model == curve.model && own.quantity == curve.quantity);
            match own {
                Some(own) => {
                    own.steps.extend(curve.steps);
                    own.values.extend(curve.values);
                }
                None => self.curves.push(curve),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_pieces_is_the_whole() {
        let (mut whole, mut told) = (History::default(), History::default());
        let mut mark = whole.mark();
        for step in 1..=6 {
            whole.record(Model::Student, Quantity::Loss, step, step as f32);
            if step > 2 {
                whole.record(Model::Student, Quantity::Term("past".into()), step, 0.5);
            }
            whole.record(Model::Baseline, Quantity::Loss, step, 1.0);
            if step % 2 == 0 {
                told.extend(whole.since(&mark));
                mark = whole.mark();
                assert_eq!(told, whole);
            }
        }
        assert_eq!(whole.since(&mark), History::default());
        let term = whole.curve(Model::Student, &Quantity::Term("past".into())).expect("it began");
        assert_eq!(term.steps, [3, 4, 5, 6]);
        assert!(term.at(&[2, 3])[0].is_nan() && term.at(&[2, 3])[1] == 0.5);
        assert_eq!(whole.last(Model::Student, &Quantity::Loss), Some(6.0));
    }
}
