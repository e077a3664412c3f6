//! Self-attention forcing (DViTSAF): the student's attention is drawn towards the teacher's.
//!
//! Why: a wide teacher and a narrow student share no features to compare, but both say which tokens look at which. The
//! mean over heads makes 16 heads comparable with 3, without matching heads or projecting.
//!
//! For chosen pairs (s, t) of a student's and a teacher's block, with `A = mean over heads of softmax(q kᵀ / √d)`:
//!
//! `L = Σ_(s, t) mean_{b, i, j} (A_S^(s) − sg A_T^(t))²`
//!
//! a sum over pairs of means. Two rows of probabilities differ by at most 2 in squared length, so a pair adds at most
//! 2 / N: the term is small beside a cross-entropy, and has a weight for that.
//!
//! Of the maps, the teacher's mean over heads is stored, and its difference from the student's: `N` numbers a token
//! ([`kernel::attention_map_loss`]).
//!
//! Without explicit pairs, block i of L_S follows block `r (i + 1) − 1` of L_T with `r = ⌊L_T / L_S⌋`. Both networks must
//! see the same number of tokens: maps are never resampled.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::sum;
use crate::kernel;
use crate::model::Trace;

/// The numbers of self-attention forcing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttentionForcing {
    /// Factor of the term beside the other terms of the teacher.
    pub weight: f64,
    /// Pairs [student's block, teacher's block] from 0; empty for the even stride.
    pub pairs: Vec<[usize; 2]>,
}

impl Default for AttentionForcing {
    fn default() -> Self {
        Self { weight: 1.0, pairs: Vec::new() }
    }
}

impl AttentionForcing {
    /// The pairs of blocks, as asked for or by the even stride; empty if the student is deeper than the teacher.
    pub fn pairs(&self, student_depth: usize, teacher_depth: usize) -> Vec<[usize; 2]> {
        if !self.pairs.is_empty() {
            return self.pairs.clone();
        }
        match teacher_depth / student_depth.max(1) {
            0 => Vec::new(),
            stride => (0..student_depth).map(|i| [i, stride * (i + 1) - 1]).collect(),
        }
    }

    /// The term before its weight, `[1]`, from the traces' taps in the order of the pairs.
    pub(super) fn value(&self, student: &Trace, teacher: &Trace) -> Tensor<1> {
        let pairs = student.queries_and_keys.iter().zip(&teacher.attention_maps);
        sum(pairs.map(|(s, t)| kernel::attention_map_loss(s.clone(), t.clone())))
    }
}
