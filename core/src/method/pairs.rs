//! Pairs of a student's and a teacher's blocks: which pairs are compared, and whether their blocks exist.

use burn::tensor::Tensor;

use super::term::Scene;
use crate::model::NetworkShape;
use crate::model::trace::TokensTap;

/// Pairs [student's block, teacher's block], from 0.
pub type Pairs = Vec<[usize; 2]>;

/// The `named` pairs. If there are none, the first and the last blocks of both networks, up to four of each. CLS-KD and manifold
/// distillation choose these for 12 blocks (0 to 3 and 8 to 11).
pub fn end_pairs(named: &[[usize; 2]], student_depth: usize, teacher_depth: usize) -> Pairs {
    if !named.is_empty() {
        return named.to_vec();
    }
    let count = student_depth.min(teacher_depth).min(8);
    let first = count.div_ceil(2);
    let from_end = |place: usize| [student_depth - count + place, teacher_depth - count + place];
    (0..count).map(|place| if place < first { [place, place] } else { from_end(place) }).collect()
}

/// The `named` pairs. If there are none, evenly spaced blocks of the teacher: block i of the student's L_S is compared with block
/// `r (i + 1) − 1` of the teacher's L_T, with `r = ⌊L_T / L_S⌋`. Empty if the student is deeper than the teacher.
pub fn stride_pairs(named: &[[usize; 2]], student_depth: usize, teacher_depth: usize) -> Pairs {
    if !named.is_empty() {
        return named.to_vec();
    }
    match teacher_depth / student_depth.max(1) {
        0 => Vec::new(),
        stride => (0..student_depth).map(|i| [i, stride * (i + 1) - 1]).collect(),
    }
}

/// Why [`stride_pairs`] finds no pairs, if it does not.
pub(super) fn no_stride(named: &[[usize; 2]], student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
    (named.is_empty() && student.depth > teacher.depth).then(|| {
        format!(
            "the student has {} blocks and the teacher {}, so the blocks cannot be paired evenly; name the pairs \
             (saf.pairs, for example), or use a student with at most {} blocks",
            student.depth, teacher.depth, teacher.depth
        )
    })
}

/// Why `method`, which compares patches, does not fit two networks that cut an image into different patches.
pub(super) fn other_patches(method: &str, student: &NetworkShape, teacher: &NetworkShape) -> Option<String> {
    (student.patches() != teacher.patches()).then(|| {
        format!(
            "the student cuts an image into {} patches, the teacher into {}; {method} needs the same number: give both the \
             same image_size / patch_size, or take KD, which compares logits",
            student.patches(),
            teacher.patches()
        )
    })
}

/// The tokens `[B, N, D]` after a pair of blocks. If the two networks have different prefix tokens, only the patches.
pub(super) fn same_tokens(scene: &Scene<'_>, s: TokensTap, t: TokensTap) -> (Tensor<3>, Tensor<3>) {
    let [student, teacher] = [scene.student, scene.teacher].map(|trace| trace.prefix_tokens);
    let rows = |tokens: Tensor<3>, prefix: usize| {
        let prefix = if student == teacher { 0 } else { prefix };
        let count = tokens.dims()[1];
        tokens.narrow(1, prefix, count - prefix)
    };
    (rows(scene.student.tokens(s), student), rows(scene.teacher.tokens(t), teacher))
}

/// Why `method`, which compares tokens, does not fit: a network has no tokens, or a pair names a block that does not exist.
pub(super) fn refusal(
    method: &str,
    pairs: &[[usize; 2]],
    student: &NetworkShape,
    teacher: &NetworkShape,
) -> Option<String> {
    let roles = [("student", student), ("teacher", teacher)];
    if let Some((role, _)) = roles.into_iter().find(|(_, network)| network.tokens == 0) {
        return Some(format!(
            "{method} compares tokens, and the {role} is a convolutional network, which has none; take KD, which \
             compares logits"
        ));
    }
    let blocks = pairs.iter().flat_map(|[s, t]| [("student", *s, student.depth), ("teacher", *t, teacher.depth)]);
    let mut beyond = blocks.filter(|(_, block, depth)| block >= depth);
    beyond.next().map(|(role, block, depth)| {
        format!("pairs name the {role}'s block {block}; its blocks are 0 to {}", depth.saturating_sub(1))
    })
}

/// Replaces named pairs by the first and the last blocks of smaller networks. An empty list stays empty.
pub(super) fn shrink(pairs: &mut Pairs, last: [usize; 2]) {
    if !pairs.is_empty() {
        *pairs = vec![[0, 0], last];
    }
}
