//! What a student is taught: weighted terms, each reported by name.
//!
//! Every term is a mean over the batch. The total is the weighted sum, and a log shows each part before and after its
//! weight, so that the scale of a loss is never a guess.

pub mod logits;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::model::Trace;
pub use logits::{LogitDistillation, Normalisation};

/// One named part of a loss.
#[derive(Clone, Debug)]
pub struct Term {
    /// What the log calls it.
    pub name: &'static str,
    /// Its factor in the total.
    pub weight: f64,
    /// Its value before the factor, `[1]`.
    pub value: Tensor<1>,
}

/// A loss with its parts.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The weighted sum, `[1]`; the gradient is taken of this.
    pub total: Tensor<1>,
    /// The parts.
    pub terms: Vec<Term>,
}

impl Loss {
    fn of(terms: Vec<Term>) -> Self {
        let total = terms
            .iter()
            .map(|term| term.value.clone().mul_scalar(term.weight))
            .reduce(|sum, term| sum + term)
            .expect("an objective has at least one term");
        Self { total, terms }
    }
}

/// An objective: what turns a student's trace, a teacher's trace and the targets into a loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Objective {
    /// Cross-entropy with the labels alone: how a teacher and an undistilled student are trained.
    Labels {
        /// Label smoothing ε.
        #[serde(default)]
        smoothing: f64,
    },
    /// Hinton's distillation from the teacher's logits.
    Kd(LogitDistillation),
}

/// Why an objective's numbers make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}; it must be {allowed}")]
pub struct ObjectiveError {
    /// The option's name.
    pub field: &'static str,
    /// What was asked for.
    pub value: f64,
    /// What is accepted, in words.
    pub allowed: &'static str,
}

impl Objective {
    /// Checks every number.
    ///
    /// # Errors
    /// [`ObjectiveError`] naming the option, its value and what is accepted.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        let smoothing =
            |value: f64| in_range("smoothing", value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        match self {
            Self::Labels { smoothing: value } => smoothing(*value),
            Self::Kd(kd) => {
                smoothing(kd.smoothing)?;
                in_range("alpha", kd.alpha, (0.0..=1.0).contains(&kd.alpha), "between 0 and 1")?;
                let tau = kd.temperature;
                in_range("temperature", tau, tau > 0.0 && tau <= 1000.0, "above 0 and at most 1000")
            }
        }
    }

    /// Whether a teacher's trace is needed.
    pub fn needs_teacher(&self) -> bool {
        matches!(self, Self::Kd(_))
    }

    /// The loss of a batch. `targets` is `[B, C]`, each row a distribution over the classes.
    ///
    /// # Panics
    /// If the objective needs a teacher and `teacher` is `None`: the caller builds both from the same objective.
    pub fn loss(&self, student: &Trace, teacher: Option<&Trace>, targets: Tensor<2>) -> Loss {
        match self {
            Self::Labels { smoothing } => Loss::of(vec![logits::cross_entropy(student, targets, *smoothing)]),
            Self::Kd(kd) => kd.loss(student, teacher.expect("distillation has a teacher"), targets),
        }
    }
}

fn in_range(field: &'static str, value: f64, ok: bool, allowed: &'static str) -> Result<(), ObjectiveError> {
    if ok { Ok(()) } else { Err(ObjectiveError { field, value, allowed }) }
}
