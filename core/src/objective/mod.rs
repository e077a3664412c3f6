//! What a student is taught: weighted terms, each reported by name.
//!
//! Every term is a mean over the batch. The total is the weighted sum, and a log shows each part before and after its
//! weight, so that the scale of a loss is never a guess.
//!
//! An objective says beforehand what it needs of a forward pass ([`Objective::taps`]) and whether two networks fit it
//! ([`Objective::check`]), so that nothing is loaded for a combination that makes no sense.

pub mod attention_forcing;
pub mod class_token;
pub mod labels;
pub mod logits;
pub mod manifold;
pub mod parts;
pub mod retrospection;

use std::borrow::Cow;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::model::{NetworkShape, Taps, Trace};
pub use attention_forcing::AttentionForcing;
pub use class_token::{ClassToken, Matching, Projector};
pub use labels::{Deit, Mode, Readout, TeacherTemperature};
pub use logits::{LogitDistillation, Normalisation};
pub use manifold::Manifold;
pub use parts::{Head, Part};
pub use retrospection::{LogitTable, Retrospection};

/// One named part of a loss.
#[derive(Clone, Debug)]
pub struct Term {
    /// What the log calls it; no two terms of a loss share a name.
    pub name: Cow<'static, str>,
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
        let total = sum(terms.iter().map(|term| term.value.clone().mul_scalar(term.weight)));
        Self { total, terms }
    }
}

/// What a loss reads beside the student's trace and the targets.
#[derive(Clone, Debug, Default)]
pub struct Lesson<'a> {
    /// The teacher's trace, where the objective needs one.
    pub teacher: Option<&'a Trace>,
    /// What the student said of the same samples some epochs ago, `[B, C]`, for a retrospection.
    pub past: Option<Tensor<2>>,
    /// What carries the student's class token to the teacher's width, where [`Objective::projector`] asks for it.
    pub projector: Option<&'a Projector>,
    /// Keys what is drawn at random.
    pub step: u64,
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
    /// Labels of the data and the teacher on one head or two.
    Deit(Deit),
    /// Distillation from logits that are softened for the teacher alone.
    TeacherTemperature(TeacherTemperature),
    /// Several methods at once, each with its weight.
    Sum(Sum),
    /// A list of weighted terms, as a recipe may write it down.
    Terms {
        /// The terms.
        terms: Vec<Part>,
    },
}

/// Methods that are added up, each where its section is present:
///
/// `L = (1 − α) CE(z_S, y) + α (w_kd τ² KL + w_saf L_saf) + w_cls L_cls + w_map L_map + β (w_s L_s + w_p L_p + w_r L_r)`
///
/// α weighs labels against logits and attention, as DViTSAF has it; class-token and manifold terms have their own weights
/// alone, as CLS-KD has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sum {
    /// Weight α of logits and attention; the labels weigh 1 − α.
    pub alpha: f64,
    /// Label smoothing ε of the cross-entropy.
    pub smoothing: f64,
    /// The teacher's softened logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kd: Option<SoftTargets>,
    /// The teacher's attention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saf: Option<AttentionForcing>,
    /// The teacher's class token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_token: Option<ClassToken>,
    /// How the teacher's tokens lie to one another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifold: Option<Manifold>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { alpha: 0.5, smoothing: 0.0, kd: None, saf: None, class_token: None, manifold: None }
    }
}

/// Softened logits as a part of a [`Sum`]. The defaults are those of DViTSAF, whose divergence is divided by batch times
/// classes; the objective `kd` on its own divides by the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftTargets {
    /// Factor beside the other terms of the teacher.
    pub weight: f64,
    /// Temperature τ.
    pub temperature: f64,
    /// What the divergence is divided by.
    pub normalisation: Normalisation,
}

impl Default for SoftTargets {
    fn default() -> Self {
        Self { weight: 1.0, temperature: 2.0, normalisation: Normalisation::Numel }
    }
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

/// Why an objective does not fit two networks, and the nearest thing that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// What [`Objective::named`] knows, in words. `KD`, `SAF`, `CLS` and `MANIFOLD` may be joined by `+`.
pub const NAMES: &str = "KD, KD-numel, SAF, CLS, MANIFOLD, any of these four joined as in SAF+KD, CLS-KD, DistillViT, and \
                         DeiT's none, soft, hard, class, distill, both";

impl Objective {
    /// The objective that a name stands for, whatever its case, with the numbers of the work it comes from.
    ///
    /// `KD` alone divides by the batch; `KD-numel`, and KD within a sum, by batch times classes, as DViTSAF does.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        if let Some((_, mode)) = Mode::ALL.into_iter().find(|(mode, _)| *mode == name) {
            return Some(Self::Deit(Deit { mode, ..Deit::default() }));
        }
        match name.as_str() {
            "kd" => return Some(Self::Kd(LogitDistillation::default())),
            "kd-numel" => {
                let normalisation = Normalisation::Numel;
                return Some(Self::Kd(LogitDistillation { normalisation, ..LogitDistillation::default() }));
            }
            "distillvit" => return Some(Self::TeacherTemperature(TeacherTemperature::default())),
            // The published command gives the labels no weight.
            "cls-kd" => {
                return Some(Self::Sum(Sum {
                    alpha: 1.0,
                    kd: Some(SoftTargets {
                        temperature: 1.0,
                        normalisation: Normalisation::Batchmean,
                        ..SoftTargets::default()
                    }),
                    class_token: Some(ClassToken { matching: Matching::Projector, ..ClassToken::default() }),
                    manifold: Some(Manifold::default()),
                    ..Sum::default()
                }));
            }
            _ => {}
        }
        let mut parts = Sum::default();
        for part in name.split('+') {
            // A part that is named twice is a slip, not a weight.
            let fresh = match part.trim() {
                "kd" => parts.kd.replace(SoftTargets::default()).is_none(),
                "saf" => parts.saf.replace(AttentionForcing::default()).is_none(),
                "cls" => parts.class_token.replace(ClassToken::default()).is_none(),
                "manifold" => parts.manifold.replace(Manifold::default()).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        // Without logits or attention, α has nothing to weigh the labels against.
        if parts.kd.is_none() && parts.saf.is_none() {
            parts.alpha = 0.0;
        }
        Some(Self::Sum(parts))
    }

    /// The weighted terms that the objective comes down to.
    pub fn parts(&self) -> Vec<Part> {
        let labels = |weight: f64, smoothing: f64| Part::Labels { weight, smoothing };
        match self {
            Self::Labels { smoothing } => vec![labels(1.0, *smoothing)],
            Self::Kd(kd) => {
                let LogitDistillation { alpha, temperature, normalisation, smoothing } = *kd;
                let head = Head::Class;
                vec![labels(1.0 - alpha, smoothing), Part::Logits { weight: alpha, temperature, normalisation, head }]
            }
            Self::Deit(deit) => deit.parts(),
            Self::TeacherTemperature(soft) => {
                let TeacherTemperature { alpha, temperature, smoothing } = *soft;
                vec![labels(1.0 - alpha, smoothing), Part::SoftenedTeacher { weight: alpha, temperature }]
            }
            Self::Sum(sum) => sum.parts(),
            Self::Terms { terms } => terms.clone(),
        }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`ObjectiveError`] naming the option, its value and what is accepted.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        // The numbers that this mode does not read are checked too: a recipe is right as a whole.
        let (alpha, temperature, smoothing) = match self {
            Self::Labels { .. } | Self::Terms { .. } => (0.0, 1.0, 0.0),
            Self::Kd(kd) => (kd.alpha, kd.temperature, kd.smoothing),
            Self::Deit(deit) => (deit.alpha, deit.temperature, deit.smoothing),
            Self::TeacherTemperature(soft) => (soft.alpha, soft.temperature, soft.smoothing),
            Self::Sum(sum) => (sum.alpha, 1.0, sum.smoothing),
        };
        in_range("alpha", alpha, (0.0..=1.0).contains(&alpha), "between 0 and 1")?;
        parts::warm("temperature", temperature)?;
        parts::smooth("smoothing", smoothing)?;
        if let Self::Deit(deit) = self {
            parts::smooth("teacher_smoothing", deit.teacher_smoothing)?;
        }
        let parts = self.parts();
        let methods = match self {
            Self::Sum(_) => parts.len() - 1,
            _ => parts.len(),
        };
        in_range("the number of terms", methods as f64, methods > 0, "at least 1")?;
        let count = |wanted: fn(&Part) -> bool| parts.iter().filter(|part| wanted(part)).count();
        for (field, found) in [
            ("the number of labels terms", count(|part| matches!(part, Part::Labels { .. }))),
            ("the number of attention terms", count(|part| matches!(part, Part::Attention(_)))),
        ] {
            in_range(field, found as f64, found <= 1, "at most 1")?;
        }
        parts.iter().try_for_each(Part::validate)
    }

    /// Checks that `teacher` can teach `student` this way; sizes alone are looked at.
    ///
    /// # Errors
    /// [`Mismatch`] with the reason and the nearest thing that works.
    pub fn check(&self, student: &NetworkShape, teacher: &NetworkShape) -> Result<(), Mismatch> {
        if self.needs_teacher() && student.classes != teacher.classes {
            return Err(Mismatch(format!(
                "the teacher tells {} classes apart, the student {}; distillation needs them equal: give the student \
                 classes = {}, or the teacher a head for the student's classes",
                teacher.classes, student.classes, teacher.classes
            )));
        }
        let mode = match self {
            Self::Deit(deit) => deit.refusal(student),
            _ => None,
        };
        let refusal = mode.or_else(|| self.parts().iter().find_map(|part| part.refusal(student, teacher)));
        refusal.map_or(Ok(()), |reason| Err(Mismatch(reason)))
    }

    /// Whether a teacher's trace is needed.
    pub fn needs_teacher(&self) -> bool {
        self.parts().iter().any(Part::needs_teacher)
    }

    /// What is needed of the student's and of the teacher's forward pass beside logits.
    pub fn taps(&self, student_depth: usize, teacher_depth: usize) -> (Taps, Taps) {
        parts::taps(&self.parts(), student_depth, teacher_depth)
    }

    /// Widths, student's and teacher's, of the [`Projector`] that the objective trains with the student, if it does.
    pub fn projector(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<[usize; 2]> {
        parts::projector(&self.parts(), student, teacher)
    }

    /// How a student taught this way is best read: a head that nothing teaches says nothing.
    pub fn readout(&self) -> Readout {
        let parts = self.parts();
        let class = |part: &Part| match part {
            Part::Labels { weight, .. } | Part::SoftenedTeacher { weight, .. } | Part::Retrospection { weight, .. } => {
                *weight > 0.0
            }
            Part::Logits { weight, head, .. } | Part::TeacherLabels { weight, head, .. } => {
                *weight > 0.0 && *head == Head::Class
            }
            _ => false,
        };
        let token = |part: &Part| match part {
            Part::Logits { weight, head, .. } | Part::TeacherLabels { weight, head, .. } => {
                *weight > 0.0 && *head != Head::Class
            }
            _ => false,
        };
        match (parts.iter().any(class), parts.iter().any(token)) {
            (true, true) => Readout::MeanLogits,
            (false, true) => Readout::Distill,
            _ => Readout::Class,
        }
    }

    /// The loss of a batch of which a teacher alone is needed beside the student: see [`Objective::loss_with`].
    ///
    /// # Panics
    /// As [`Objective::loss_with`].
    pub fn loss(&self, student: &Trace, teacher: Option<&Trace>, targets: Tensor<2>) -> Loss {
        self.loss_with(student, &Lesson { teacher, ..Lesson::default() }, targets)
    }

    /// The loss of a batch. `targets` is `[B, C]`, each row a distribution over the classes.
    ///
    /// # Panics
    /// If the lesson lacks what the objective needs: the caller builds both from the same objective. Traces must hold
    /// what [`Objective::taps`] asks for.
    pub fn loss_with(&self, student: &Trace, lesson: &Lesson<'_>, targets: Tensor<2>) -> Loss {
        parts::loss(&self.parts(), student, lesson, targets)
    }
}

impl Sum {
    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Labels { weight: 1.0 - self.alpha, smoothing: self.smoothing }];
        parts.extend(self.kd.as_ref().map(|kd| Part::Logits {
            weight: self.alpha * kd.weight,
            temperature: kd.temperature,
            normalisation: kd.normalisation,
            head: Head::Class,
        }));
        let saf = self.saf.clone();
        parts.extend(saf.map(|saf| Part::Attention(AttentionForcing { weight: self.alpha * saf.weight, ..saf })));
        parts.extend(self.class_token.clone().map(Part::ClassToken));
        parts.extend(self.manifold.clone().map(Part::Manifold));
        parts
    }
}

/// The pairs as named, or the first and last blocks of both networks: up to four of each, as CLS-KD and manifold
/// distillation choose them for 12 blocks (0 to 3 and 8 to 11).
pub fn end_pairs(named: &[[usize; 2]], student_depth: usize, teacher_depth: usize) -> Vec<[usize; 2]> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let count = student_depth.min(teacher_depth).min(8);
    let first = count.div_ceil(2);
    let from_end = |place: usize| [student_depth - count + place, teacher_depth - count + place];
    (0..count).map(|place| if place < first { [place, place] } else { from_end(place) }).collect()
}

/// The sum of losses, each `[1]`.
fn sum(losses: impl Iterator<Item = Tensor<1>>) -> Tensor<1> {
    losses.reduce(|sum, loss| sum + loss).expect("an objective has at least one term")
}

/// The mean of the squares of all entries, `[1]`.
///
/// Rows are summed first: a one-stage sum is a single thread's work on adapters without float atomics.
fn mean_square<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let entries = x.shape().num_elements();
    let rows = (x.clone() * x).sum_dim(D - 1).reshape([-1]);
    rows.sum().div_scalar(entries as f64)
}

/// Rows of length 1 along the last axis; a row of zeros stays one.
fn normalise_rows<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // The bound is on the square: a root has no gradient at 0.
    let length = (x.clone() * x.clone()).sum_dim(D - 1).clamp_min(1e-24).sqrt();
    x / length
}

fn in_range(field: &'static str, value: f64, ok: bool, allowed: &'static str) -> Result<(), ObjectiveError> {
    if ok { Ok(()) } else { Err(ObjectiveError { field, value, allowed }) }
}
