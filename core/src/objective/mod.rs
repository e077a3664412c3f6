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
pub mod retrospection;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::model::{NetworkShape, Taps, Trace};
pub use attention_forcing::AttentionForcing;
pub use class_token::{ClassToken, Matching};
pub use labels::{Deit, Mode, Readout, TeacherTemperature};
pub use logits::{LogitDistillation, Normalisation};
pub use manifold::Manifold;
pub use retrospection::{LogitTable, Retrospection};

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
        let total = sum(terms.iter().map(|term| term.value.clone().mul_scalar(term.weight)));
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
    /// Labels of the data and the teacher on one head or two.
    Deit(Deit),
    /// Distillation from logits that are softened for the teacher alone.
    TeacherTemperature(TeacherTemperature),
    /// Several methods at once, each with its weight.
    Sum(Sum),
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
                    class_token: Some(ClassToken::default()),
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

    /// Checks every number.
    ///
    /// # Errors
    /// [`ObjectiveError`] naming the option, its value and what is accepted.
    pub fn validate(&self) -> Result<(), ObjectiveError> {
        let smoothing =
            |field, value: f64| in_range(field, value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        let alpha = |value: f64| in_range("alpha", value, (0.0..=1.0).contains(&value), "between 0 and 1");
        let temperature =
            |field, tau: f64| in_range(field, tau, tau > 0.0 && tau <= 1000.0, "above 0 and at most 1000");
        match self {
            Self::Labels { smoothing: value } => smoothing("smoothing", *value),
            Self::Kd(kd) => {
                smoothing("smoothing", kd.smoothing)?;
                alpha(kd.alpha)?;
                temperature("temperature", kd.temperature)
            }
            Self::Deit(deit) => {
                smoothing("smoothing", deit.smoothing)?;
                smoothing("teacher_smoothing", deit.teacher_smoothing)?;
                alpha(deit.alpha)?;
                temperature("temperature", deit.temperature)
            }
            Self::TeacherTemperature(soft) => {
                smoothing("smoothing", soft.smoothing)?;
                alpha(soft.alpha)?;
                temperature("temperature", soft.temperature)
            }
            Self::Sum(parts) => {
                smoothing("smoothing", parts.smoothing)?;
                alpha(parts.alpha)?;
                parts.validate()?;
                parts.kd.as_ref().map_or(Ok(()), |kd| temperature("kd.temperature", kd.temperature))
            }
        }
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
        let refusal = match self {
            Self::Labels { .. } | Self::Kd(_) | Self::TeacherTemperature(_) => None,
            Self::Deit(deit) => deit.refusal(student),
            Self::Sum(parts) => parts.refusal(student, teacher),
        };
        refusal.map_or(Ok(()), |reason| Err(Mismatch(reason)))
    }

    /// Whether a teacher's trace is needed.
    pub fn needs_teacher(&self) -> bool {
        match self {
            Self::Labels { .. } => false,
            Self::Deit(deit) => deit.needs_teacher(),
            Self::Kd(_) | Self::TeacherTemperature(_) | Self::Sum(_) => true,
        }
    }

    /// What is needed of the student's and of the teacher's forward pass beside logits.
    pub fn taps(&self, student_depth: usize, teacher_depth: usize) -> (Taps, Taps) {
        match self {
            Self::Sum(parts) => parts.taps(student_depth, teacher_depth),
            _ => Default::default(),
        }
    }

    /// The loss of a batch. `targets` is `[B, C]`, each row a distribution over the classes.
    ///
    /// # Panics
    /// If the objective needs a teacher and `teacher` is `None`: the caller builds both from the same objective. Traces
    /// must hold what [`Objective::taps`] asks for.
    pub fn loss(&self, student: &Trace, teacher: Option<&Trace>, targets: Tensor<2>) -> Loss {
        self.loss_at(0, student, teacher, targets)
    }

    /// As [`Objective::loss`], with what is drawn at random drawn for `step`.
    ///
    /// # Panics
    /// As [`Objective::loss`].
    pub fn loss_at(&self, step: u64, student: &Trace, teacher: Option<&Trace>, targets: Tensor<2>) -> Loss {
        let taught = || teacher.expect("distillation has a teacher");
        match self {
            Self::Labels { smoothing } => Loss::of(vec![logits::cross_entropy(student, targets, *smoothing)]),
            Self::Kd(kd) => kd.loss(student, taught(), targets),
            Self::Deit(deit) => deit.loss(student, teacher, targets),
            Self::TeacherTemperature(soft) => soft.loss(student, taught(), targets),
            Self::Sum(parts) => parts.loss(step, student, taught(), targets),
        }
    }
}

impl Sum {
    fn validate(&self) -> Result<(), ObjectiveError> {
        let weight =
            |field, value: f64| in_range(field, value, (0.0..=1e6).contains(&value), "at least 0 and at most 1000000");
        if let Some(kd) = &self.kd {
            weight("kd.weight", kd.weight)?;
        }
        if let Some(saf) = &self.saf {
            weight("saf.weight", saf.weight)?;
        }
        if let Some(class_token) = &self.class_token {
            weight("class_token.weight", class_token.weight)?;
            weight("class_token.map_weight", class_token.map_weight)?;
            weight("class_token.last_weight", class_token.last_weight)?;
        }
        if let Some(manifold) = &self.manifold {
            weight("manifold.weight", manifold.weight)?;
            weight("manifold.sample", manifold.sample)?;
            weight("manifold.patch", manifold.patch)?;
            weight("manifold.random", manifold.random)?;
            let rows = manifold.rows;
            in_range("manifold.rows", rows as f64, (1..=65_536).contains(&rows), "between 1 and 65536")?;
        }
        let parts = [self.kd.is_some(), self.saf.is_some(), self.class_token.is_some(), self.manifold.is_some()];
        let count = parts.into_iter().filter(|part| *part).count();
        in_range("the number of sections", count as f64, count > 0, "at least 1 of kd, saf, class_token and manifold")
    }

    fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        let reads_tokens = self.saf.is_some() || self.class_token.is_some() || self.manifold.is_some();
        for (role, network) in [("student", student), ("teacher", teacher)] {
            if reads_tokens && network.tokens == 0 {
                return Some(format!(
                    "saf, class_token and manifold compare tokens, and the {role} is a convolutional network, which has \
                     none; take KD, which compares logits"
                ));
            }
        }
        if let Some(saf) = &self.saf {
            if student.tokens != teacher.tokens {
                return Some(format!(
                    "self-attention forcing compares maps of as many tokens, and the student has {}, the teacher {}; give \
                     both the same image_size / patch_size and prefix tokens, or take KD, which compares logits",
                    student.tokens, teacher.tokens
                ));
            }
            if saf.pairs.is_empty() && student.depth > teacher.depth {
                return Some(format!(
                    "the student has {} blocks and the teacher {}: there is no even stride; name the pairs in \
                     saf.pairs, or take a student of at most {} blocks",
                    student.depth, teacher.depth, teacher.depth
                ));
            }
        }
        let methods = [
            self.saf.as_ref().map(|saf| &saf.pairs),
            self.class_token.as_ref().map(|class_token| &class_token.pairs),
            self.manifold.as_ref().map(|manifold| &manifold.pairs),
        ];
        for [s, t] in methods.into_iter().flatten().flatten() {
            for (role, block, depth) in [("student", *s, student.depth), ("teacher", *t, teacher.depth)] {
                if block >= depth {
                    let last = depth - 1;
                    return Some(format!("pairs name the {role}'s block {block}; its blocks are 0 to {last}"));
                }
            }
        }
        let class_token = self.class_token.as_ref().and_then(|method| method.refusal(student, teacher));
        class_token.or_else(|| self.manifold.as_ref().and_then(|method| method.refusal(student, teacher)))
    }

    fn taps(&self, student_depth: usize, teacher_depth: usize) -> (Taps, Taps) {
        let (mut student, mut teacher) = (Taps::default(), Taps::default());
        // Class-token and manifold terms tap the pairs one after the other; a block that is named twice is kept once, by
        // reference.
        let places = |pairs: &Vec<[usize; 2]>| end_pairs(pairs, student_depth, teacher_depth);
        let class_token = self.class_token.iter().flat_map(|method| places(&method.pairs));
        for [s, t] in class_token.chain(self.manifold.iter().flat_map(|method| places(&method.pairs))) {
            student.tokens.push(s);
            teacher.tokens.push(t);
        }
        for [s, t] in self.saf.iter().flat_map(|saf| saf.pairs(student_depth, teacher_depth)) {
            student.queries_and_keys.push(s);
            teacher.queries_and_keys.push(t);
        }
        (student, teacher)
    }

    fn loss(&self, step: u64, student: &Trace, teacher: &Trace, targets: Tensor<2>) -> Loss {
        let mut terms = Vec::new();
        let mut add = |name, weight, value| terms.push(Term { name, weight, value });
        match &self.kd {
            Some(kd) => {
                let (labels, divergence) = logits::labels_and_divergence(
                    student.logits.clone(),
                    teacher.logits.clone(),
                    targets,
                    kd.temperature,
                    self.smoothing,
                    kd.normalisation,
                );
                add("labels", 1.0 - self.alpha, labels);
                add("logits", self.alpha * kd.weight, divergence);
            }
            None => {
                let labels = logits::cross_entropy(student, targets, self.smoothing);
                add("labels", 1.0 - self.alpha, labels.value);
            }
        }
        if let Some(saf) = &self.saf {
            add("attention", self.alpha * saf.weight, saf.value(student, teacher));
        }
        // As `taps` laid them out: class token first, manifold after.
        let tapped = student.tokens.len();
        let class_pairs = match (&self.class_token, &self.manifold) {
            (None, _) => 0,
            (Some(_), None) => tapped,
            (Some(method), Some(other)) => match (method.pairs.len(), other.pairs.len()) {
                (0, 0) => tapped / 2,
                (0, named) => tapped - named,
                (named, _) => named,
            },
        };
        if let Some(method) = &self.class_token {
            let [class_token, map] = method.values(student, teacher, 0..class_pairs);
            add("class-token", method.weight, class_token);
            add("class-map", method.map_weight, map);
        }
        if let Some(method) = &self.manifold {
            let [sample, patch, random] = method.values(student, teacher, class_pairs..tapped, step);
            add("samples", method.weight * method.sample, sample);
            add("patches", method.weight * method.patch, patch);
            add("rows", method.weight * method.random, random);
        }
        Loss::of(terms)
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
