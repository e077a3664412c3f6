//! The squared difference of attention maps on the CPU: the equations of [`super::attention_map`] for [`QUERIES`] rows of
//! an image at a time, all heads of both networks.
//!
//! Why: composed of tensor operations, the probabilities of every head go through memory a dozen times. Here the rows in
//! work stay in the cache, and a head's keys are laid out once.
//!
//! Invariants: forward, some rows of an image are one task; backward, a whole image, whose keys' gradients add up over all
//! its rows. A task writes its own part of every output.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, Shape, TensorMetadata};

use super::attention_cpu::{Layout, PARALLEL_WORK, QUERIES};
use super::attention_map::{portable_backward, portable_forward, row_length, scale};
use super::cpu::{self, LANES, Level, Task, exp, fma, fold2, largest};
use super::product::{Strided, product};

/// An image of one network.
#[derive(Clone, Copy)]
struct Side<'a> {
    at: Layout,
    scale: f32,
    /// `[N, 3, H, D]`.
    qkv: &'a [f32],
}

impl Side<'_> {
    /// The scaled keys of a head, `[D, N]` padded.
    #[inline(always)]
    fn turned_keys(&self, head: usize, to: &mut [f32]) {
        self.at.copy_columns(&self.qkv[self.at.packed(1, head)..], self.at.packed_row(), self.scale, to);
    }

    /// Scores of `rows` queries from `first` with the turned keys.
    #[inline(always)]
    fn scores<L: Level>(&self, head: usize, first: usize, rows: usize, keys: &[f32], scores: &mut [f32]) {
        let at = self.at;
        let queries = Strided {
            values: &self.qkv[at.packed(0, head) + first * at.packed_row()..],
            row: at.packed_row(),
            column: 1,
        };
        let whole = [rows, at.size, at.padded_tokens];
        product::<L>(whole, queries, (keys, at.padded_tokens), (scores, at.padded_tokens), false);
    }
}

/// Turns a row of scores, those past the last token minus infinity, into probabilities; returns its log-sum-exp.
#[inline(always)]
fn softmax<L: Level>(scores: &mut [f32]) -> f32 {
    let peak = largest(scores);
    let mut lanes = [0.0; LANES];
    for scores in scores.chunks_exact_mut(LANES) {
        for lane in 0..LANES {
            scores[lane] = exp::<L>(scores[lane] - peak);
            lanes[lane] += scores[lane];
        }
    }
    let sum = cpu::total(lanes);
    let inverse = 1.0 / sum;
    scores.iter_mut().for_each(|x| *x *= inverse);
    peak + sum.ln()
}

#[inline(always)]
fn add_scaled<L: Level>(to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = fma::<L>(factor, *from, *to);
    }
}

/// Rows and statistics of at most [`QUERIES`] rows of an image.
struct Forward<'a> {
    student: Side<'a>,
    teacher: Side<'a>,
    first: usize,
    rows: &'a mut [f32],
    statistics: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { student, teacher, first, rows, statistics } = self;
        let (heads, tokens, pitch) = (student.at.heads, student.at.tokens, student.at.padded_tokens);
        let count = rows.len();
        let length = row_length(heads, teacher.at.heads);
        let mut keys = vec![0.0; student.at.size.max(teacher.at.size) * pitch];
        // The student's probabilities of each head, then room for one head of the teacher's.
        let mut p = vec![0.0; (heads + 1) * count * pitch];
        let mut e = vec![0.0; count * pitch];
        let networks = [(teacher, -1.0, 2 * heads), (student, 1.0, 0)];
        for (side, sign, level) in networks {
            for head in 0..side.at.heads {
                let place = if sign > 0.0 { head } else { heads };
                let p = &mut p[place * count * pitch..(place + 1) * count * pitch];
                side.turned_keys(head, &mut keys);
                side.scores::<L>(head, first, count, &keys, p);
                let share = sign / side.at.heads as f32;
                for (row, (p, e)) in p.chunks_exact_mut(pitch).zip(e.chunks_exact_mut(pitch)).enumerate() {
                    p[tokens..].fill(f32::NEG_INFINITY);
                    statistics[row * length + level + head] = softmax::<L>(p);
                    add_scaled::<L>(e, p, share);
                }
            }
        }
        for (row, e) in e.chunks_exact(pitch).enumerate() {
            rows[row] = fold2(e, e, |x, y, sum| fma::<L>(x, y, sum));
            for head in 0..heads {
                let p = &p[(head * count + row) * pitch..][..pitch];
                statistics[row * length + heads + head] = fold2(p, e, |x, y, sum| fma::<L>(x, y, sum));
            }
        }
    }
}

/// The student's gradient of one image.
struct Backward<'a> {
    student: Side<'a>,
    teacher: Side<'a>,
    statistics: &'a [f32],
    d_rows: &'a [f32],
    /// `[N, 3, H, D]`, zero.
    d_student: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { student, teacher, statistics, d_rows, d_student } = self;
        let at = student.at;
        let (heads, tokens, pitch) = (at.heads, at.tokens, at.padded_tokens);
        let length = row_length(heads, teacher.at.heads);
        let most = QUERIES.min(tokens);
        // Of every head of both networks, the student's first; of the student's heads also in rows, with gradients.
        let mut turned = Vec::new();
        for side in [student, teacher] {
            for head in 0..side.at.heads {
                let mut keys = vec![0.0; side.at.size * pitch];
                side.turned_keys(head, &mut keys);
                turned.push(keys);
            }
        }
        let whole = tokens * at.padded_size;
        let mut keys = vec![0.0; heads * whole];
        for (head, keys) in keys.chunks_exact_mut(whole).enumerate() {
            at.copy_rows(&student.qkv[at.packed(1, head)..], at.packed_row(), tokens, keys);
        }
        let mut d_keys = vec![0.0; heads * whole];
        let (mut queries, mut d_queries) = (vec![0.0; most * at.padded_size], vec![0.0; most * at.padded_size]);
        let mut p = vec![0.0; (heads + 1) * most * pitch];
        let mut e = vec![0.0; most * pitch];
        for first in (0..tokens).step_by(QUERIES) {
            let rows = QUERIES.min(tokens - first);
            let statistics = |row: usize| &statistics[(first + row) * length..][..length];
            e.fill(0.0);
            for (side, sign, level, others) in [(teacher, -1.0, 2 * heads, heads), (student, 1.0, 0, 0)] {
                for head in 0..side.at.heads {
                    let place = if sign > 0.0 { head } else { heads };
                    let p = &mut p[place * most * pitch..][..rows * pitch];
                    side.scores::<L>(head, first, rows, &turned[others + head], p);
                    let share = sign / side.at.heads as f32;
                    for (row, (p, e)) in p.chunks_exact_mut(pitch).zip(e.chunks_exact_mut(pitch)).enumerate() {
                        let level = statistics(row)[level + head];
                        p.iter_mut().for_each(|x| *x = exp::<L>(*x - level));
                        add_scaled::<L>(e, p, share);
                    }
                }
            }
            for head in 0..heads {
                let slopes = &mut p[head * most * pitch..][..rows * pitch];
                for (row, (p, e)) in slopes.chunks_exact_mut(pitch).zip(e.chunks_exact(pitch)).enumerate() {
                    let factor = 2.0 * student.scale / heads as f32 * d_rows[first + row];
                    let delta = statistics(row)[heads + head];
                    for (p, e) in p.iter_mut().zip(e) {
                        *p *= factor * (e - delta);
                    }
                }
                let own = at.packed(0, head) + first * at.packed_row();
                at.copy_rows(&student.qkv[own..], at.packed_row(), rows, &mut queries);
                let by_rows = Strided { values: slopes, row: pitch, column: 1 };
                let keys = (&keys[head * whole..], at.padded_size);
                let to = (&mut d_queries[..], at.padded_size);
                product::<L>([rows, tokens, at.padded_size], by_rows, keys, to, false);
                at.store(&d_queries, 1.0, &mut d_student[own..], rows);
                let by_columns = Strided { values: slopes, row: 1, column: pitch };
                let to = (&mut d_keys[head * whole..], at.padded_size);
                let queries = (&queries[..], at.padded_size);
                product::<L>([tokens, rows, at.padded_size], by_columns, queries, to, first > 0);
            }
        }
        for (head, d_keys) in d_keys.chunks_exact(whole).enumerate() {
            at.store(d_keys, 1.0, &mut d_student[at.packed(1, head)..], tokens);
        }
    }
}

/// Multiply-adds of the scores of one image.
fn work(student: Layout, teacher: Layout) -> usize {
    let tokens = student.tokens;
    tokens * tokens * (student.row() + teacher.row())
}

/// [`portable_forward`] where it must be, and else the loops above.
pub(super) fn forward(
    student: FloatTensor<Flex>,
    teacher: FloatTensor<Flex>,
) -> (FloatTensor<Flex>, FloatTensor<Flex>) {
    let shape @ [batch, tokens, _, heads, size] = student.shape().dims();
    let teacher_shape @ [_, _, _, teacher_heads, teacher_size] = teacher.shape().dims();
    let [student, teacher] = [student, teacher].map(cpu::contiguous);
    let (Some(own), Some(others)) = (cpu::numbers(&student), cpu::numbers(&teacher)) else {
        return portable_forward::<Flex>(student, teacher);
    };
    if own.is_empty() || others.is_empty() {
        return portable_forward::<Flex>(student, teacher);
    }
    let (at, teacher_at) = (Layout::new(shape), Layout::new(teacher_shape));
    let length = row_length(heads, teacher_heads);
    let mut rows = vec![0.0; batch * tokens];
    let mut statistics = vec![0.0; batch * tokens * length];
    let images = own.chunks_exact(tokens * at.packed_row()).zip(others.chunks_exact(tokens * teacher_at.packed_row()));
    let outputs = rows.chunks_exact_mut(tokens).zip(statistics.chunks_exact_mut(tokens * length));
    let tasks = images.zip(outputs).flat_map(|((own, others), (rows, statistics))| {
        let outputs = rows.chunks_mut(QUERIES).zip(statistics.chunks_mut(QUERIES * length)).enumerate();
        outputs.map(move |(index, (rows, statistics))| Forward {
            student: Side { at, scale: scale(size), qkv: own },
            teacher: Side { at: teacher_at, scale: scale(teacher_size), qkv: others },
            first: index * QUERIES,
            rows,
            statistics,
        })
    });
    cpu::for_each(tasks, batch * work(at, teacher_at) >= PARALLEL_WORK, cpu::run);
    (cpu::tensor(rows, Shape::new([batch, tokens])), cpu::tensor(statistics, Shape::new([batch, tokens, length])))
}

/// [`portable_backward`] where it must be, and else the loops above.
pub(super) fn backward(
    student: FloatTensor<Flex>,
    teacher: FloatTensor<Flex>,
    statistics: FloatTensor<Flex>,
    d_rows: FloatTensor<Flex>,
) -> FloatTensor<Flex> {
    let shape @ [batch, tokens, _, heads, size] = student.shape().dims();
    let teacher_shape @ [_, _, _, teacher_heads, teacher_size] = teacher.shape().dims();
    let [student, teacher, statistics, d_rows] = [student, teacher, statistics, d_rows].map(cpu::contiguous);
    let numbers = [&student, &teacher, &statistics, &d_rows].map(cpu::numbers);
    let [Some(own), Some(others), Some(kept), Some(gradients)] = numbers else {
        return portable_backward::<Flex>(student, teacher, statistics, d_rows);
    };
    if own.is_empty() || others.is_empty() {
        return portable_backward::<Flex>(student, teacher, statistics, d_rows);
    }
    let (at, teacher_at) = (Layout::new(shape), Layout::new(teacher_shape));
    let length = row_length(heads, teacher_heads);
    let mut d_student = vec![0.0; own.len()];
    let image = tokens * at.packed_row();
    let networks = own.chunks_exact(image).zip(others.chunks_exact(tokens * teacher_at.packed_row()));
    let rows = kept.chunks_exact(tokens * length).zip(gradients.chunks_exact(tokens));
    let tasks = networks.zip(rows).zip(d_student.chunks_exact_mut(image)).map(
        |(((own, others), (statistics, d_rows)), d_student)| Backward {
            student: Side { at, scale: scale(size), qkv: own },
            teacher: Side { at: teacher_at, scale: scale(teacher_size), qkv: others },
            statistics,
            d_rows,
            d_student,
        },
    );
    cpu::for_each(tasks, batch > 1 && batch * work(at, teacher_at) >= PARALLEL_WORK, cpu::run);
    cpu::tensor(d_student, Shape::new(shape))
}
