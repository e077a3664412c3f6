//! The heads of a student: which head a term teaches, and how two heads make one prediction.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use serde::{Deserialize, Serialize};

use super::term::Heads;
use crate::model::{NetworkShape, Trace};

/// Which of a student's heads a term teaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// The distillation head if there is one, otherwise the class head.
    #[default]
    Token,
    /// The class head.
    Class,
    /// The distillation head, which is required.
    Distill,
}

impl Head {
    /// The logits `[B, C]` of the head.
    pub fn of(self, student: &Trace) -> &Tensor<2> {
        match self {
            Self::Class => &student.logits,
            Self::Token | Self::Distill => student.distillation_logits.as_ref().unwrap_or(&student.logits),
        }
    }

    /// Whether this is the class head of the student.
    pub(super) fn is_class(self, student: &Trace) -> bool {
        self == Self::Class || student.distillation_logits.is_none()
    }

    /// The heads that a term of this weight teaches.
    pub(super) fn taught(self, weight: f64) -> Heads {
        let class = self == Self::Class;
        Heads { class: class && weight > 0.0, distillation: !class && weight > 0.0 }
    }

    /// The reason why the student has no such head, with what to do, if it has none.
    pub(super) fn refusal(self, student: &NetworkShape) -> Option<String> {
        (self == Self::Distill && !student.distillation_token).then(|| {
            "the student has no distillation token to teach; give it one (student.vit.distillation_token = true, or a \
             model whose name says distilled), or take soft or hard, which then teach the class head"
                .into()
        })
    }
}

/// How the heads of a student make one prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// The class head.
    Class,
    /// The distillation head.
    Distill,
    /// The mean of both heads' logits, as in DeiT's code.
    #[default]
    MeanLogits,
    /// The mean of both heads' probabilities, as in DeiT's paper.
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

    /// The read-out with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, readout)| (known == name).then_some(readout))
    }

    /// Its name, as recipes spell it.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find_map(|(name, readout)| (readout == self).then_some(name)).unwrap_or_default()
    }

    /// Logits `[B, C]` of the prediction. For a trace with one head, every read-out is that head.
    pub fn of(self, trace: &Trace) -> Tensor<2> {
        let class = trace.logits.clone();
        let Some(token) = trace.distillation_logits.clone() else { return class };
        match self {
            Self::Class => class,
            Self::Distill => token,
            Self::MeanLogits => (class + token).div_scalar(2.0),
            Self::MeanProbabilities => {
                // log ((p + q) / 2), relative to the larger of the two so that no probability is rounded to 0.
                let (p, q) = (log_softmax(class, 1), log_softmax(token, 1));
                let peak = p.clone().max_pair(q.clone());
                ((p - peak.clone()).exp() + (q - peak.clone()).exp()).div_scalar(2.0).log() + peak
            }
        }
    }
}
