//! A loss as a list of weighted terms: what every objective comes down to.
//!
//! Why: each work names its own mixture; one list of parts, each with its weight and numbers, evaluates them all, and a
//! recipe may write such a list down itself. What a part needs of a forward pass, what it refuses and what it computes
//! stand here once.

use core::ops::Range;
use std::borrow::Cow;

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use serde::{Deserialize, Serialize};

use super::labels::hard_loss;
use super::{
    AttentionForcing, ClassToken, Lesson, Loss, Manifold, Matching, Normalisation, ObjectiveError, Term, end_pairs,
    in_range, logits,
};
use crate::kernel;
use crate::model::{NetworkShape, Taps, Trace};

/// Which of a student's heads a term teaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// The distillation head where there is one, else the class head.
    #[default]
    Token,
    /// The class head.
    Class,
    /// The distillation head, which must be there.
    Distill,
}

impl Head {
    fn of(self, student: &Trace) -> &Tensor<2> {
        match self {
            Self::Class => &student.logits,
            Self::Token | Self::Distill => student.distillation_logits.as_ref().unwrap_or(&student.logits),
        }
    }

    fn is_class(self, student: &Trace) -> bool {
        self == Self::Class || student.distillation_logits.is_none()
    }
}

/// A weighted term of a loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "term", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Part {
    /// `labels`: the cross-entropy of the class head with the labels.
    Labels {
        /// Its factor in the total.
        #[serde(default = "one")]
        weight: f64,
        /// Label smoothing ε.
        #[serde(default)]
        smoothing: f64,
    },
    /// `logits`: `τ² KL(σ(z_T / τ) ‖ σ(z / τ))`.
    Logits {
        /// Its factor in the total.
        #[serde(default = "one")]
        weight: f64,
        /// Temperature τ.
        #[serde(default = "two")]
        temperature: f64,
        /// What the divergence is divided by.
        #[serde(default)]
        normalisation: Normalisation,
        /// The head that is taught.
        #[serde(default)]
        head: Head,
    },
    /// `teacher-labels`: the cross-entropy with the teacher's own label.
    TeacherLabels {
        /// Its factor in the total.
        #[serde(default = "one")]
        weight: f64,
        /// Label smoothing of that label.
        #[serde(default)]
        smoothing: f64,
        /// The head that is taught.
        #[serde(default)]
        head: Head,
    },
    /// `softened-teacher`: the cross-entropy of the class head with `σ(z_T / τ)`, the student not softened.
    SoftenedTeacher {
        /// Its factor in the total.
        #[serde(default = "one")]
        weight: f64,
        /// The teacher's temperature τ.
        #[serde(default = "four")]
        temperature: f64,
    },
    /// `attention`: self-attention forcing.
    Attention(AttentionForcing),
    /// `class-token`: the class token and its cosines with the patches.
    ClassToken(ClassToken),
    /// `manifold`: how tokens lie to one another.
    Manifold(Manifold),
    /// `retrospection`: the divergence from what the student itself said some epochs ago, which a [`Lesson`] must then hold.
    /// Made by [`super::Retrospection`], whose table holds those logits.
    Retrospection {
        /// Its factor in the total.
        weight: f64,
        /// Temperature τ.
        temperature: f64,
    },
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

fn four() -> f64 {
    4.0
}

pub(super) fn smooth(field: &'static str, value: f64) -> Result<(), ObjectiveError> {
    in_range(field, value, (0.0..1.0).contains(&value), "at least 0 and below 1")
}

pub(super) fn warm(field: &'static str, tau: f64) -> Result<(), ObjectiveError> {
    in_range(field, tau, tau > 0.0 && tau <= 1000.0, "above 0 and at most 1000")
}

impl Part {
    /// Whether the term reads a teacher's trace.
    pub fn needs_teacher(&self) -> bool {
        !matches!(self, Self::Labels { .. } | Self::Retrospection { .. })
    }

    /// Checks every number.
    pub(super) fn validate(&self) -> Result<(), ObjectiveError> {
        let weight =
            |field, value: f64| in_range(field, value, (0.0..=1e6).contains(&value), "at least 0 and at most 1000000");
        match self {
            Self::Labels { weight: w, smoothing: s } => {
                weight("labels.weight", *w)?;
                smooth("smoothing", *s)
            }
            Self::Logits { weight: w, temperature, .. } => {
                weight("logits.weight", *w)?;
                warm("temperature", *temperature)
            }
            Self::TeacherLabels { weight: w, smoothing: s, .. } => {
                weight("teacher_labels.weight", *w)?;
                smooth("teacher_smoothing", *s)
            }
            Self::SoftenedTeacher { weight: w, temperature } => {
                weight("softened_teacher.weight", *w)?;
                warm("temperature", *temperature)
            }
            Self::Retrospection { weight: w, temperature } => {
                weight("retrospection.weight", *w)?;
                warm("retrospection.temperature", *temperature)
            }
            Self::Attention(saf) => weight("saf.weight", saf.weight),
            Self::ClassToken(method) => {
                weight("class_token.weight", method.weight)?;
                weight("class_token.map_weight", method.map_weight)?;
                weight("class_token.last_weight", method.last_weight)
            }
            Self::Manifold(method) => {
                weight("manifold.weight", method.weight)?;
                weight("manifold.sample", method.sample)?;
                weight("manifold.patch", method.patch)?;
                weight("manifold.random", method.random)?;
                let rows = method.rows;
                in_range("manifold.rows", rows as f64, (1..=65_536).contains(&rows), "between 1 and 65536")
            }
        }
    }

    /// Why the two networks do not fit this term, with what can be done.
    pub(super) fn refusal(&self, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
        let compares_tokens = matches!(self, Self::Attention(_) | Self::ClassToken(_) | Self::Manifold(_));
        let roles = [("student", student), ("teacher", teacher)];
        if let Some((role, _)) = roles.into_iter().find(|(_, network)| compares_tokens && network.tokens == 0) {
            return Some(format!(
                "SAF, CLS and MANIFOLD compare tokens, and the {role} is a convolutional network, which has none; take KD, \
                 which compares logits"
            ));
        }
        match self {
            Self::Logits { head: Head::Distill, .. } | Self::TeacherLabels { head: Head::Distill, .. }
                if !student.distillation_token =>
            {
                Some(
                    "the student has no distillation token to teach; give it one (student.vit.distillation_token = \
                     true, or a model whose name says distilled), or take soft or hard, which then teach the class head"
                        .into(),
                )
            }
            Self::Attention(saf) => {
                attention_refusal(saf, student, teacher).or_else(|| beyond(&saf.pairs, student, teacher))
            }
            Self::ClassToken(method) => {
                beyond(&method.pairs, student, teacher).or_else(|| method.refusal(student, teacher))
            }
            Self::Manifold(method) => {
                beyond(&method.pairs, student, teacher).or_else(|| method.refusal(student, teacher))
            }
            _ => None,
        }
    }

    // The named pairs of blocks whose tokens the term compares, if it compares tokens.
    fn token_pairs(&self) -> Option<&[[usize; 2]]> {
        match self {
            Self::ClassToken(method) => Some(&method.pairs),
            Self::Manifold(method) => Some(&method.pairs),
            _ => None,
        }
    }
}

fn attention_refusal(saf: &AttentionForcing, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
    if student.tokens != teacher.tokens {
        return Some(format!(
            "self-attention forcing compares maps of as many tokens, and the student has {}, the teacher {}; give both \
             the same image_size / patch_size and prefix tokens, or take KD, which compares logits",
            student.tokens, teacher.tokens
        ));
    }
    (saf.pairs.is_empty() && student.depth > teacher.depth).then(|| {
        format!(
            "the student has {} blocks and the teacher {}: there is no even stride; name the pairs in saf.pairs, or \
             take a student of at most {} blocks",
            student.depth, teacher.depth, teacher.depth
        )
    })
}

fn beyond(pairs: &[[usize; 2]], student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
    let blocks = pairs.iter().flat_map(|[s, t]| [("student", *s, student.depth), ("teacher", *t, teacher.depth)]);
    blocks
        .filter(|(_, block, depth)| block >= depth)
        .map(|(role, block, depth)| {
            format!("pairs name the {role}'s block {block}; its blocks are 0 to {}", depth.saturating_sub(1))
        })
        .next()
}

/// The projector's widths, student's and teacher's, where a part needs one.
pub(super) fn projector(parts: &[Part], student: &NetworkShape, teacher: &NetworkShape) -> Option<[usize; 2]> {
    let asks = |part: &Part| matches!(part, Part::ClassToken(method) if method.matching == Matching::Projector);
    (parts.iter().any(asks) && student.width != teacher.width).then_some([student.width, teacher.width])
}

/// What the parts need of the student's and of the teacher's forward pass beside logits.
///
/// Parts that compare tokens tap their pairs one after the other, in the order of the parts; a block that is named twice
/// is kept once, by reference.
pub(super) fn taps(parts: &[Part], student_depth: usize, teacher_depth: usize) -> (Taps, Taps) {
    let (mut student, mut teacher) = (Taps::default(), Taps::default());
    for part in parts {
        for [s, t] in part.token_pairs().into_iter().flat_map(|pairs| end_pairs(pairs, student_depth, teacher_depth)) {
            student.tokens.push(s);
            teacher.tokens.push(t);
        }
        if let Part::Attention(saf) = part {
            for [s, t] in saf.pairs(student_depth, teacher_depth) {
                student.queries_and_keys.push(s);
                teacher.attention_maps.push(t);
            }
        }
    }
    (student, teacher)
}

// The places of each part's pairs among the tapped tokens. Parts that name none share the rest evenly: as `end_pairs`
// has it, they are as many for each.
fn places(parts: &[Part], tapped: usize) -> Vec<Range<usize>> {
    let named: usize = parts.iter().filter_map(Part::token_pairs).map(<[_]>::len).sum();
    let unnamed = parts.iter().filter(|part| part.token_pairs().is_some_and(<[_]>::is_empty)).count();
    let each = tapped.saturating_sub(named) / unnamed.max(1);
    let mut start = 0;
    let length = |part: &Part| match part.token_pairs() {
        None => 0,
        Some([]) => each,
        Some(pairs) => pairs.len(),
    };
    let place = |part: &Part| {
        let range = start..start + length(part);
        start = range.end;
        range
    };
    parts.iter().map(place).collect()
}

/// The loss of a batch: every part's terms, named apart.
pub(super) fn loss(parts: &[Part], student: &Trace, lesson: &Lesson<'_>, targets: Tensor<2>) -> Loss {
    let teacher = || lesson.teacher.expect("distillation has a teacher");
    // Cross-entropy and divergence of the same logits come from one kernel.
    let labels = parts.iter().find_map(|part| match part {
        Part::Labels { smoothing, .. } => Some(*smoothing),
        _ => None,
    });
    let soft = parts.iter().position(|part| match part {
        Part::Logits { head, .. } => head.is_class(student),
        Part::Retrospection { .. } => true,
        _ => false,
    });
    let mut together = labels.zip(soft).map(|(smoothing, place)| {
        let (other, temperature, normalisation) = divergence_of(&parts[place], lesson);
        let (labels, divergence) = logits::labels_and_divergence(
            student.logits.clone(),
            other,
            targets.clone(),
            temperature,
            smoothing,
            normalisation,
        );
        (Some(labels), divergence, place)
    });
    let mut terms: Vec<Term> = Vec::new();
    let mut add = |name: &'static str, weight: f64, value: Tensor<1>| {
        let same = terms.iter().filter(|term| term.name.split(' ').next() == Some(name)).count();
        let name = if same == 0 { Cow::Borrowed(name) } else { Cow::Owned(format!("{name} {}", same + 1)) };
        terms.push(Term { name, weight, value });
    };
    for ((index, part), places) in parts.iter().enumerate().zip(places(parts, student.tokens.len())) {
        match part {
            Part::Labels { weight, smoothing } => {
                let done = together.as_mut().and_then(|(labels, ..)| labels.take());
                let alone = || kernel::cross_entropy(student.logits.clone(), targets.clone(), *smoothing as f32).mean();
                add("labels", *weight, done.unwrap_or_else(alone));
            }
            Part::Logits { weight, .. } | Part::Retrospection { weight, .. } => {
                let (name, logits) = match part {
                    Part::Logits { head, .. } => ("logits", head.of(student)),
                    _ => ("retrospection", &student.logits),
                };
                let done = together.as_ref().filter(|(.., place)| *place == index).map(|(_, value, _)| value.clone());
                add(
                    name,
                    *weight,
                    done.unwrap_or_else(|| {
                        let (other, temperature, normalisation) = divergence_of(part, lesson);
                        logits::labels_and_divergence(
                            logits.clone(),
                            other,
                            targets.clone(),
                            temperature,
                            0.0,
                            normalisation,
                        )
                        .1
                    }),
                );
            }
            Part::TeacherLabels { weight, smoothing, head } => {
                let value = hard_loss(head.of(student).clone(), teacher().logits.clone(), *smoothing);
                add("teacher-labels", *weight, value);
            }
            Part::SoftenedTeacher { weight, temperature } => {
                let soft = softmax(teacher().logits.clone().div_scalar(*temperature), 1);
                add("softened-teacher", *weight, kernel::cross_entropy(student.logits.clone(), soft, 0.0).mean());
            }
            Part::Attention(saf) => add("attention", saf.weight, saf.value(student, teacher())),
            Part::ClassToken(method) => {
                let [class_token, map] = method.values(student, teacher(), places, lesson.projector);
                add("class-token", method.weight, class_token);
                add("class-map", method.map_weight, map);
            }
            Part::Manifold(method) => {
                let [sample, patch, random] = method.values(student, teacher(), places, lesson.step);
                add("samples", method.weight * method.sample, sample);
                add("patches", method.weight * method.patch, patch);
                add("rows", method.weight * method.random, random);
            }
        }
    }
    Loss::of(terms)
}

// Whose logits a divergence is taken from, at which temperature, and what it is divided by.
fn divergence_of(part: &Part, lesson: &Lesson<'_>) -> (Tensor<2>, f64, Normalisation) {
    match part {
        Part::Logits { temperature, normalisation, .. } => {
            let teacher = lesson.teacher.expect("distillation has a teacher");
            (teacher.logits.clone(), *temperature, *normalisation)
        }
        Part::Retrospection { temperature, .. } => {
            let past = lesson.past.clone().expect("retrospection has past logits");
            (past, *temperature, Normalisation::Batchmean)
        }
        _ => unreachable!("only divergences are asked for"),
    }
}
