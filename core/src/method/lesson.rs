//! A lesson: an objective together with the teachers, checked against the networks and ready to compute losses.
//!
//! A lesson exists only if all of its parts are there, so a loss never meets a missing part.

use std::borrow::Cow;

use burn::tensor::Tensor;

use super::aid::Aids;
use super::logits::{Divergence, labels_and_divergence};
use super::maths::sum;
use super::objective::{Mismatch, Objective};
use super::retrospection::Past;
use super::teacher::Teachers;
use super::term::{Ask, Evaluate, Known, Method, NamedLoss, Scene};
use super::{Labels, Logits, Normalisation, Term};
use crate::model::{NetworkShape, Taps, Trace};

/// A loss with its parts.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The weighted sum, `[1]`; the gradient is taken of this.
    pub total: Tensor<1>,
    /// The parts.
    pub parts: Vec<NamedLoss>,
}

/// An objective and its teachers, for students of one shape.
pub struct Lesson {
    terms: Vec<(Term, Evaluate)>,
    teachers: Option<Teachers>,
    ask: Ask,
}

/// The inputs of a batch's losses, besides the student's trace and the lesson.
#[derive(Clone)]
pub struct Given<'a> {
    /// The teachers' trace for the batch, from [`Lesson::teachers_trace`].
    pub teacher: Option<&'a Trace>,
    /// The targets `[B, C]`, a distribution over the classes for each sample.
    pub targets: Tensor<2>,
    /// Which labels are known; `None` if all are.
    pub known: Option<Known>,
    /// The layers that are trained with the student.
    pub aids: &'a Aids,
    /// The student's earlier logits for the same samples, if the training uses them.
    pub past: Option<Past>,
    /// The number of the step, from 0. Random draws are keyed by it.
    pub step: u64,
    /// The number of the epoch, from 1.
    pub epoch: u64,
}

impl Lesson {
    /// `objective` for students of this shape, with `teachers`. If the objective reads no teacher, the teachers are never run.
    ///
    /// # Errors
    /// [`Mismatch`] if the networks do not fit the objective, or if a teacher is needed and there is none.
    pub fn new(objective: &Objective, student: &NetworkShape, teachers: Option<Teachers>) -> Result<Self, Mismatch> {
        let teachers = teachers.filter(|_| objective.needs_teacher());
        let shape = teachers.as_ref().map_or(*student, Teachers::shape);
        if objective.needs_teacher() && teachers.is_none() {
            return Err(Mismatch("this objective needs a teacher, and there is none".into()));
        }
        if let Some(reason) = teachers.as_ref().and_then(Teachers::refusal) {
            return Err(Mismatch(reason));
        }
        let mut lesson = Self::for_shapes(objective, student, &shape)?;
        if teachers.as_ref().is_some_and(Teachers::are_several) && !lesson.ask.teacher_taps.is_empty() {
            return Err(Mismatch(
                "several teachers are averaged by their logits alone, and this objective compares tokens or features; take KD \
                 or another method of logits, or one teacher"
                    .into(),
            ));
        }
        lesson.teachers = teachers;
        Ok(lesson)
    }

    /// Cross-entropy with smoothed labels alone, for students of this shape. Teachers and students without a teacher train this
    /// way.
    pub fn labels(smoothing: f64, student: &NetworkShape) -> Self {
        let labels = Labels { smoothing, ..Labels::default() };
        let mut ask = Ask::new(*student, *student);
        let evaluate = labels.prepare(&mut ask);
        Self { terms: vec![(labels.into(), evaluate)], teachers: None, ask }
    }

    /// `objective` for networks of these shapes. The caller supplies the teacher's traces.
    ///
    /// # Errors
    /// [`Mismatch`] if the networks do not fit the objective.
    pub fn for_shapes(objective: &Objective, student: &NetworkShape, teacher: &NetworkShape) -> Result<Self, Mismatch> {
        objective.check(student, teacher)?;
        let mut ask = Ask::new(*student, *teacher);
        let terms = objective.terms().iter().map(|term| (term.clone(), term.method().prepare(&mut ask))).collect();
        Ok(Self { terms, teachers: None, ask })
    }

    /// What the forward passes of student and teacher must store in their traces.
    pub fn taps(&self) -> [&Taps; 2] {
        [&self.ask.student_taps, &self.ask.teacher_taps]
    }

    /// Whether the teachers must see the images even if their logits are known.
    pub fn asks_more_than_logits(&self) -> bool {
        !self.ask.teacher_taps.is_empty()
    }

    /// The layers to train with the student: names and widths.
    pub(crate) fn aids(&self) -> &[(String, Vec<usize>)] {
        &self.ask.aids
    }

    /// The teachers, if the objective reads one.
    pub fn teachers(&self) -> Option<&Teachers> {
        self.teachers.as_ref()
    }

    /// The teachers' trace for `images` `[B, C, S, S]`, which are normalised for the student; `None` without teachers. `known` are
    /// the teachers' logits `[B, C]`, if they were computed before. Then the teachers run only if more than logits is needed.
    pub fn teachers_trace(&self, images: &Tensor<4>, known: Option<Tensor<2>>) -> Option<Trace> {
        let teachers = self.teachers.as_ref()?;
        let taps = &self.ask.teacher_taps;
        let known = known.filter(|_| taps.is_empty()).map(Trace::of_logits);
        Some(known.unwrap_or_else(|| teachers.trace(images.clone(), taps)))
    }

    /// The loss of a batch, from a student's trace with the [`Lesson::taps`].
    pub fn loss(&self, student: &Trace, given: Given<'_>) -> Loss {
        let Given { teacher, targets, known, aids, past, step, epoch } = given;
        let scene = Scene {
            student,
            teacher: teacher.unwrap_or(student),
            targets: &targets,
            known: known.as_ref(),
            aids,
            step,
            epoch,
        };
        let mut list = List::default();
        let fused = self.fused(&scene, past.as_ref());
        let mut past_weight = None;
        for (place, (term, evaluate)) in self.terms.iter().enumerate() {
            match (term, &fused) {
                (Term::Labels(Labels { weight, .. }), _) => {
                    // The share of the labels' weight that the past takes.
                    let given = past.as_ref().map_or(0.0, |past| past.share);
                    past_weight = Some(weight * given);
                    let value = fused.as_ref().map(|fused| fused.labels.clone());
                    let value = value.unwrap_or_else(|| evaluate(&scene).remove(0).value);
                    list.add(NamedLoss::new("labels", weight * (1.0 - given), value));
                }
                (Term::Logits(Logits { weight, .. }), Some(fused)) if fused.place == Some(place) => {
                    list.add(NamedLoss::new("logits", *weight, fused.divergence.clone()));
                }
                _ => evaluate(&scene).into_iter().for_each(|loss| list.add(loss)),
            }
        }
        if let (Some(past), Some(weight)) = (past, past_weight) {
            let known = fused.filter(|fused| fused.place.is_none()).map(|fused| fused.divergence);
            let alone = || labels_and_divergence(student.logits.clone(), of_past(&past), &scene, 0.0)[1].clone();
            list.add(NamedLoss::new("retrospection", weight, known.unwrap_or_else(alone)));
        }
        list.loss()
    }

    // One kernel computes cross-entropy and divergence of the same logits: the labels' term and the first divergence of the class
    // head.
    fn fused(&self, scene: &Scene<'_>, past: Option<&Past>) -> Option<Fused> {
        let smoothing = self.terms.iter().find_map(|(term, _)| match term {
            Term::Labels(labels) => Some(labels.smoothing),
            _ => None,
        })?;
        let divergences = self.terms.iter().enumerate().filter_map(|(place, (term, _))| match term {
            Term::Logits(logits) if logits.head.is_class(scene.student) => Some((place, logits)),
            _ => None,
        });
        let first = divergences.map(|(place, logits)| {
            let Logits { temperature, normalisation, .. } = *logits;
            let divergence = Divergence { other: scene.teacher.logits.clone(), temperature, normalisation };
            (Some(place), divergence)
        });
        let (place, divergence) = first.chain(past.map(|past| (None, of_past(past)))).next()?;
        let [labels, divergence] = labels_and_divergence(scene.student.logits.clone(), divergence, scene, smoothing);
        Some(Fused { labels, divergence, place })
    }
}

// Two terms that one kernel computes.
struct Fused {
    labels: Tensor<1>,
    divergence: Tensor<1>,
    // The index of the divergence among the terms; `None` for the past, which is not a term.
    place: Option<usize>,
}

fn of_past(past: &Past) -> Divergence {
    let Past { logits, temperature, .. } = past.clone();
    Divergence { other: logits, temperature, normalisation: Normalisation::Batchmean }
}

// Gives each part of a loss a unique name.
#[derive(Default)]
struct List(Vec<NamedLoss>);

impl List {
    fn add(&mut self, mut loss: NamedLoss) {
        let same = self.0.iter().filter(|known| known.name.split(' ').next() == Some(&*loss.name)).count();
        if same > 0 {
            loss.name = Cow::Owned(format!("{} {}", loss.name, same + 1));
        }
        self.0.push(loss);
    }

    fn loss(self) -> Loss {
        let total = sum(self.0.iter().map(|part| part.value.clone().mul_scalar(part.weight)));
        Loss { total, parts: self.0 }
    }
}
