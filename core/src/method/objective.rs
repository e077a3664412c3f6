//! An objective: a list of weighted terms, checked as a whole.

use super::numbers::{NumberError, Range};
use super::readout::Readout;
use super::term::{Ask, Heads};
use super::{Labels, Term};
use crate::model::NetworkShape;

/// A list of weighted terms. The loss is their weighted sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    terms: Vec<Term>,
}

/// Why an objective does not fit two networks, with the closest alternative that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

impl Objective {
    /// The sum of `terms`.
    pub fn new(terms: Vec<Term>) -> Self {
        Self { terms }
    }

    /// Labels alone. Teachers, and students without a teacher, train this way.
    pub fn labels(smoothing: f64) -> Self {
        Self::new(vec![Labels { smoothing, ..Labels::default() }.into()])
    }

    /// The terms.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Checks every number of every term, and the list.
    ///
    /// # Errors
    /// [`NumberError`] naming the number, its value and what is accepted.
    pub fn validate(&self) -> Result<(), NumberError> {
        let count = self.terms.len();
        Range::between(1.0, 100.0).check("the number of terms", count as f64)?;
        let labels = self.terms.iter().filter(|term| matches!(term, Term::Labels(_))).count();
        Range::between(0.0, 1.0).check("the number of labels terms", labels as f64)?;
        self.terms.iter().try_for_each(Term::validate)
    }

    /// Checks by the sizes alone that `teacher` can teach `student` with this objective.
    ///
    /// # Errors
    /// [`Mismatch`] with the reason and the closest alternative that works.
    pub fn check(&self, student: &NetworkShape, teacher: &NetworkShape) -> Result<(), Mismatch> {
        if self.needs_teacher() && student.classes != teacher.classes {
            return Err(Mismatch(format!(
                "the teacher has {} classes, the student {}; distillation needs the same number: give the student classes = \
                 {}, or the teacher a head for the student's classes",
                teacher.classes, student.classes, teacher.classes
            )));
        }
        let refusal = self.terms.iter().find_map(|term| term.method().refusal(student, teacher));
        refusal.map_or(Ok(()), |reason| Err(Mismatch(reason)))
    }

    /// Whether it compares only logits. Stored logits of a teacher are then enough.
    pub fn reads_logits_alone(&self) -> bool {
        let shape = NetworkShape {
            depth: 1,
            width: 1,
            tokens: 2,
            prefix_tokens: 1,
            classes: 2,
            class_token: true,
            distillation_token: false,
        };
        let mut ask = Ask::new(shape, shape);
        self.terms.iter().for_each(|term| drop(term.method().prepare(&mut ask)));
        ask.student_taps.is_empty() && ask.teacher_taps.is_empty()
    }

    /// Whether a teacher's trace is needed.
    pub fn needs_teacher(&self) -> bool {
        self.terms.iter().any(|term| term.method().needs_teacher())
    }

    /// How to read a student that this objective trained. A head that no term teaches is not read.
    pub fn readout(&self) -> Readout {
        let taught = self.terms.iter().map(|term| term.method().teaches());
        match taught.fold(Heads::default(), Heads::or) {
            Heads { class: true, distillation: true } => Readout::MeanLogits,
            Heads { class: false, distillation: true } => Readout::Distill,
            _ => Readout::Class,
        }
    }
}
