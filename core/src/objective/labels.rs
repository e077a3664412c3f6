//! Labels: the data's and the teacher's, on one head or two (DeiT: Touvron et al., 2021).
//!
//! With `ce_ε` the label-smoothed cross-entropy (Szegedy et al., 2016), `z_c` and `z_d` the logits of the class and the
//! distillation head, `y` the data's label and `ŷ_T = argmax z_T` the teacher's:
//!
//! | mode | loss |
//! |---|---|
//! | `none`, `class` | `ce_ε(z_c, y)` |
//! | `soft`, `both` | `(1 − α) ce_ε(z_c, y) + α τ² KL(σ(z_T / τ) ‖ σ(z_d / τ))` |
//! | `hard` | `(1 − α) ce_ε(z_c, y) + α ce_η(z_d, ŷ_T)` |
//! | `distill` | `ce_η(z_d, ŷ_T)`: no label of the data |
//!
//! `both` and `distill` need the distillation token; `soft` and `hard` read its head where there is one and else the class
//! head, as distillation without a token does. `both` is `soft` by its formula: what differs is that the token must be
//! there.
//!
//! [`TeacherTemperature`] softens the teacher alone: `(1 − α) ce_ε(z, y) + α CE(z, σ(z_T / τ))`, without τ².

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::logits::Normalisation;
use super::parts::{Head, Part};
use crate::kernel;
use crate::model::{NetworkShape, Trace};

/// Which labels teach which head. The equations are in the module's head.
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

/// The numbers of a distillation on two heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deit {
    /// Which labels teach which head.
    pub mode: Mode,
    /// Weight α of the teacher.
    pub alpha: f64,
    /// Temperature τ of `soft` and `both`.
    pub temperature: f64,
    /// What the divergence is divided by; DeiT's own code takes `numel`.
    pub normalisation: Normalisation,
    /// Label smoothing ε of the data's labels.
    pub smoothing: f64,
    /// Label smoothing η of the teacher's labels: 0 as in DeiT's own code; the CIFAR-10 project takes 0.1.
    pub teacher_smoothing: f64,
}

impl Default for Deit {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            alpha: 0.5,
            temperature: 2.0,
            normalisation: Normalisation::Batchmean,
            smoothing: 0.1,
            teacher_smoothing: 0.0,
        }
    }
}

impl Deit {
    pub(super) fn parts(&self) -> Vec<Part> {
        let labels = |weight: f64| Part::Labels { weight, smoothing: self.smoothing };
        // `both` and `distill` need the token; the others read its head where there is one.
        let head = if matches!(self.mode, Mode::Both | Mode::Distill) { Head::Distill } else { Head::Token };
        let hard = |weight: f64| Part::TeacherLabels { weight, smoothing: self.teacher_smoothing, head };
        match self.mode {
            Mode::None | Mode::Class => vec![labels(1.0)],
            Mode::Hard => vec![labels(1.0 - self.alpha), hard(self.alpha)],
            Mode::Distill => vec![hard(1.0)],
            Mode::Soft | Mode::Both => {
                let Self { alpha, temperature, normalisation, .. } = *self;
                vec![labels(1.0 - alpha), Part::Logits { weight: alpha, temperature, normalisation, head }]
            }
        }
    }

    /// Why the student cannot be taught this way, with what can be done.
    pub(super) fn refusal(&self, student: &NetworkShape) -> Option<String> {
        match self.mode {
            Mode::Class if !student.class_token => Some(
                "mode class needs a student with a class token; take none, which reads what the student has".into(),
            ),
            _ => None,
        }
    }
}

/// The numbers of a distillation in which the teacher alone is softened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherTemperature {
    /// Weight α of the teacher.
    pub alpha: f64,
    /// The teacher's temperature τ.
    pub temperature: f64,
    /// Label smoothing ε of the data's labels.
    pub smoothing: f64,
}

impl Default for TeacherTemperature {
    fn default() -> Self {
        Self { alpha: 0.5, temperature: 4.0, smoothing: 0.0 }
    }
}

/// The cross-entropy, `[1]`, of a student's logits `[B, C]` with the teacher's label, smoothed.
pub fn hard_loss(student: Tensor<2>, teacher: Tensor<2>, smoothing: f64) -> Tensor<1> {
    kernel::cross_entropy(student, hard_targets(teacher), smoothing as f32).mean()
}

/// 1 at the largest of each row of `[B, C]`, at the first of equals, and 0 elsewhere.
pub fn hard_targets(logits: Tensor<2>) -> Tensor<2> {
    let [batch, classes] = logits.dims();
    let device = logits.device();
    let largest = logits.argmax(1).expand([batch, classes]);
    let all = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes]).expand([batch, classes]);
    largest.equal(all).float()
}

/// How the heads of a student make one prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// The class head.
    Class,
    /// The distillation head.
    Distill,
    /// The mean of both heads' logits, as DeiT's code does.
    #[default]
    MeanLogits,
    /// The mean of both heads' probabilities, as DeiT's paper says.
    MeanProbabilities,
}

impl Readout {
    /// The read-outs by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("class", Self::Class),
        ("distill", Self::Distill),
        ("mean-logits", Self::MeanLogits),
        ("mean-probabilities", Self::MeanProbabilities),
    ];

    /// The read-out of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, readout)| (known == name).then_some(readout))
    }

    /// Its name, as recipes spell it.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find_map(|(name, readout)| (readout == self).then_some(name)).unwrap_or_default()
    }

    /// Logits `[B, C]` of the prediction; a trace with one head has one readout.
    pub fn of(self, trace: &Trace) -> Tensor<2> {
        let class = trace.logits.clone();
        let Some(token) = trace.distillation_logits.clone() else { return class };
        match self {
            Self::Class => class,
            Self::Distill => token,
            Self::MeanLogits => (class + token).div_scalar(2.0),
            Self::MeanProbabilities => {
                // log ((p + q) / 2) through the larger of the two, so that no probability is rounded to 0.
                let (p, q) = (log_softmax(class, 1), log_softmax(token, 1));
                let peak = p.clone().max_pair(q.clone());
                ((p - peak.clone()).exp() + (q - peak.clone()).exp()).div_scalar(2.0).log() + peak
            }
        }
    }
}
