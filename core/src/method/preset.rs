//! Presets: the names under which recipes and command lines know objectives. Each makes a list of weighted terms.
//!
//! `ce_ε` is the label-smoothed cross-entropy, `z_c` and `z_d` are the logits of the class head and the distillation head, `y` is
//! the label of the data, and `ŷ_T = argmax z_T` is the teacher's label. DeiT's modes (Touvron et al., 2021) are:
//!
//! | mode | loss |
//! |---|---|
//! | `none`, `class` | `ce_ε(z_c, y)` |
//! | `soft`, `both` | `(1 − α) ce_ε(z_c, y) + α τ² KL(σ(z_T / τ) ‖ σ(z_d / τ))` |
//! | `hard` | `(1 − α) ce_ε(z_c, y) + α ce_η(z_d, ŷ_T)` |
//! | `distill` | `ce_η(z_d, ŷ_T)`, without the labels of the data |
//!
//! `both` and `distill` need a distillation token. `soft` and `hard` read its head if there is one, and otherwise the class head,
//! as in distillation without a token. `both` has the same formula as `soft`, but requires the token.

use serde::{Deserialize, Serialize};

use super::numbers::{NumberError, Numbers, Range, SHARE, SMOOTHING, TEMPERATURE, numbers};
use super::{
    ClassToken, Head, Labels, Logits, Manifold, Matching, Mismatch, Normalisation, Objective, SoftTargets,
    SoftenedTeacher, Sum, TeacherLabels, Term, methods,
};
use crate::model::NetworkShape;

/// An objective as a recipe states it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "a run has one")]
pub enum Preset {
    /// Cross-entropy with the labels alone. Teachers, and students without a teacher, train this way.
    Labels {
        /// Label smoothing ε.
        #[serde(default)]
        smoothing: f64,
    },
    /// Hinton's distillation with the teacher's logits.
    Kd(LogitDistillation),
    /// DeiT's modes: the labels of the data and the teacher, on one head or two.
    Deit(Deit),
    /// Distillation with a temperature for the teacher's logits only.
    TeacherTemperature(TeacherTemperature),
    /// Several methods at once, each with its weight.
    Sum(Sum),
    /// An explicit list of weighted terms.
    Terms {
        /// The terms.
        terms: Vec<Term>,
    },
}

numbers! {
    /// The numbers of `(1 − α) CE(z_S, y) + α τ² KL(σ(z_T / τ) ‖ σ(z_S / τ))`.
    pub struct LogitDistillation {
        /// Weight α of the teacher. The labels weigh 1 − α.
        alpha: f64 = 0.5, in SHARE;
        /// Temperature τ.
        temperature: f64 = 2.0, in TEMPERATURE;
        /// Divisor of the divergence: `batchmean` (the batch) or `numel` (batch times classes).
        normalisation: Normalisation = Normalisation::Batchmean;
        /// Label smoothing ε of the cross-entropy term.
        smoothing: f64 = 0.0, in SMOOTHING;
    }
}

/// Which labels teach which head. The module's documentation has the equations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Labels alone.
    None,
    /// Labels, and the teacher's softened probabilities.
    Soft,
    /// Labels, and the teacher's label.
    #[default]
    Hard,
    /// Labels alone, on the class token.
    Class,
    /// The teacher's label alone, on the distillation token.
    Distill,
    /// Labels on the class token, the teacher's softened probabilities on the distillation token.
    Both,
}

impl Mode {
    /// The modes by name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("none", Self::None),
        ("soft", Self::Soft),
        ("hard", Self::Hard),
        ("class", Self::Class),
        ("distill", Self::Distill),
        ("both", Self::Both),
    ];
}

numbers! {
    /// The numbers of a distillation on two heads.
    pub struct Deit {
        /// Which labels teach which head.
        mode: Mode = Mode::Hard;
        /// Weight α of the teacher.
        alpha: f64 = 0.5, in SHARE;
        /// Temperature τ of `soft` and `both`.
        temperature: f64 = 2.0, in TEMPERATURE;
        /// Divisor of the divergence: `batchmean` (the batch) or `numel` (batch times classes). DeiT's code uses `numel`.
        normalisation: Normalisation = Normalisation::Batchmean;
        /// Label smoothing ε of the data's labels.
        smoothing: f64 = 0.1, in SMOOTHING;
        /// Label smoothing η of the teacher's labels. DeiT's code has 0, the CIFAR-10 project 0.1.
        teacher_smoothing: f64 = 0.0, in SMOOTHING;
    }
}

impl Deit {
    fn terms(&self) -> Vec<Term> {
        let labels = |weight: f64| Labels { weight, smoothing: self.smoothing }.into();
        // `both` and `distill` need the token. The other modes read its head if there is one.
        let head = if matches!(self.mode, Mode::Both | Mode::Distill) { Head::Distill } else { Head::Token };
        let hard = |weight: f64| TeacherLabels { weight, smoothing: self.teacher_smoothing, head }.into();
        match self.mode {
            Mode::None | Mode::Class => vec![labels(1.0)],
            Mode::Hard => vec![labels(1.0 - self.alpha), hard(self.alpha)],
            Mode::Distill => vec![hard(1.0)],
            Mode::Soft | Mode::Both => {
                let Self { alpha, temperature, normalisation, .. } = *self;
                vec![labels(1.0 - alpha), Logits { weight: alpha, temperature, normalisation, head }.into()]
            }
        }
    }
}

numbers! {
    /// The numbers of `(1 − α) ce_ε(z, y) + α CE(z, σ(z_T / τ))`. Only the teacher has a temperature.
    pub struct TeacherTemperature {
        /// Weight α of the teacher.
        alpha: f64 = 0.5, in SHARE;
        /// The teacher's temperature τ.
        temperature: f64 = 4.0, in TEMPERATURE;
        /// Label smoothing ε of the data's labels.
        smoothing: f64 = 0.0, in SMOOTHING;
    }
}

impl Preset {
    /// The names that [`Preset::named`] knows, as a text.
    pub fn names() -> String {
        let sections: Vec<&str> = methods().iter().map(|method| method.name).collect();
        format!(
            "{}, several of these joined as in SAF+KD, KD-numel, CLS-KD, DistillViT, and DeiT's none, soft, hard, class, \
             distill, both",
            sections.join(", ")
        )
    }

    /// The preset with this name, in any case, with the numbers of its publication.
    ///
    /// `KD` alone divides by the batch. `KD-numel`, and `KD` within a sum, divide by batch times classes, as DViTSAF does.
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
        // A name that appears twice is a mistake, not a weight.
        let mut sum = Sum { alpha: 0.0, ..Sum::default() };
        for part in name.split('+') {
            sum.alpha = sum.add(part.trim())?.max(sum.alpha);
        }
        Some(Self::Sum(sum))
    }

    /// The list of weighted terms.
    pub fn objective(&self) -> Objective {
        Objective::new(match self {
            Self::Labels { smoothing } => return Objective::labels(*smoothing),
            Self::Kd(kd) => {
                let LogitDistillation { alpha, temperature, normalisation, smoothing } = *kd;
                let labels = Labels { weight: 1.0 - alpha, smoothing };
                vec![labels.into(), Logits { weight: alpha, temperature, normalisation, head: Head::Class }.into()]
            }
            Self::Deit(deit) => deit.terms(),
            Self::TeacherTemperature(soft) => {
                let TeacherTemperature { alpha, temperature, smoothing } = *soft;
                let labels = Labels { weight: 1.0 - alpha, smoothing };
                vec![labels.into(), SoftenedTeacher { weight: alpha, temperature }.into()]
            }
            Self::Sum(sum) => {
                let labels = Labels { weight: 1.0 - sum.alpha, smoothing: sum.smoothing };
                [vec![labels.into()], sum.sections()].concat()
            }
            Self::Terms { terms } => terms.clone(),
        })
    }

    /// Checks every number, also those that its mode does not read.
    ///
    /// # Errors
    /// [`NumberError`] naming the number, its value and what is accepted.
    pub fn validate(&self) -> Result<(), NumberError> {
        const NAME: &str = "distillation";
        match self {
            Self::Labels { smoothing } => SMOOTHING.check("distillation.smoothing", *smoothing)?,
            Self::Kd(kd) => kd.check(NAME)?,
            Self::Deit(deit) => deit.check(NAME)?,
            Self::TeacherTemperature(soft) => soft.check(NAME)?,
            Self::Sum(sum) => {
                SHARE.check("distillation.alpha", sum.alpha)?;
                SMOOTHING.check("distillation.smoothing", sum.smoothing)?;
                sum.check_sections()?;
                Range::between(1.0, 100.0).check("the number of methods", sum.sections().len() as f64)?;
            }
            Self::Terms { .. } => {}
        }
        self.objective().validate()
    }

    /// Checks by the sizes alone that `teacher` can teach `student` with this objective.
    ///
    /// # Errors
    /// [`Mismatch`] with the reason and the closest alternative that works.
    pub fn check(&self, student: &NetworkShape, teacher: &NetworkShape) -> Result<(), Mismatch> {
        match self {
            Self::Deit(Deit { mode: Mode::Class, .. }) if !student.class_token => Err(Mismatch(
                "mode class needs a student with a class token; take none, which reads what the student has".into(),
            )),
            _ => self.objective().check(student, teacher),
        }
    }

    /// Makes it small, for a short run that tests everything. Named pairs of blocks become the first and `last`.
    pub fn shrink(&mut self, last: [usize; 2]) {
        match self {
            Self::Sum(sum) => sum.shrink(last),
            Self::Terms { terms } => terms.iter_mut().for_each(|term| term.method_mut().shrink(last)),
            _ => {}
        }
    }
}
