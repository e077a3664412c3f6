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
//! Without explicit pairs, block i of L_S follows block `r (i + 1) − 1` of L_T with `r = ⌊L_T / L_S⌋`. Both networks must
//! see the same number of tokens: maps are never resampled.

use burn::tensor::{Tensor, activation::softmax};
use serde::{Deserialize, Serialize};

use super::{mean_square, sum};
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

    /// The term before its weight, `[1]`, from the traces' queries and keys in the order of the pairs.
    pub(super) fn value(&self, student: &Trace, teacher: &Trace) -> Tensor<1> {
        let pairs = student.queries_and_keys.iter().zip(&teacher.queries_and_keys);
        sum(pairs.map(|(s, t)| map_loss(head_mean(s.clone()), head_mean(t.clone()))))
    }
}

/// The attention probabilities `[B, N, N]`, averaged over heads, of packed queries, keys and values `[B, N, 3, H, D]`.
///
/// This is the definition: it keeps the `[B, H, N, N]` probabilities for the backward pass.
pub fn head_mean(qkv: Tensor<5>) -> Tensor<3> {
    let [_, _, _, _, head_size] = qkv.dims();
    // [B, N, 1, H, D] -> [B, H, N, D]
    let part = |index| qkv.clone().narrow(2, index, 1).squeeze_dim::<4>(2).swap_dims(1, 2);
    let scale = 1.0 / libm::sqrt(head_size as f64);
    let scores = part(0).mul_scalar(scale).matmul(part(1).swap_dims(2, 3));
    softmax(scores, 3).mean_dim(1).squeeze_dim(1)
}

/// The mean squared difference of two attention maps `[B, N, N]`, as `[1]`.
pub fn map_loss(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    mean_square(student - teacher)
}
