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
use super::attention_map::{portable_backward, portable_forward, scale};
use super::cpu::{self, Level, Task, exp, fma, fold2};
use super::product::{Strided, product};

/// An image of one network.
#[derive(Clone, Copy)]
struct Side<'a> {
    at: Layout,
    scale: f32,
    /// `[N, 3, H, D]`.
    qkv: &'a [f32],
    /// `[H, N]`.
    levels: &'a [f32],
}

impl Side<'_> {
    /// The scaled keys of a head, `[D, N]` padded.
    #[inline(always)]
    fn turned_keys(&self, head: usize, to: &mut [f32]) {
        self.at.copy_columns(&self.qkv[self.at.packed(1, head)..], self.at.packed_row(), self.scale, to);
    }

    /// Probabilities of `rows` queries from `first` for the turned keys; those past the last token mean nothing.
    #[inline(always)]
    fn probabilities<L: Level>(&self, head: usize, first: usize, rows: usize, keys: &[f32], p: &mut [f32]) {
        let at = self.at;
        let queries = Strided {
            values: &self.qkv[at.packed(0, head) + first * at.packed_row()..],
            row: at.packed_row(),
            column: 1,
        };
        let whole = [rows, at.size, at.padded_tokens];
        product::<L>(whole, queries, (keys, at.padded_tokens), (p, at.padded_tokens), false);
        let levels = &self.levels[head * at.tokens + first..];
        for (p, level) in p.chunks_exact_mut(at.padded_tokens).zip(levels) {
            p.iter_mut().for_each(|x| *x = exp::<L>(*x - level));
        }
    }
}

#[inline(always)]
fn add_scaled<L: Level>(to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = fma::<L>(factor, *from, *to);
    }
}

/// At most [`QUERIES`] rows of an image.
struct Forward<'a> {
    student: Side<'a>,
    teacher: Side<'a>,
    first: usize,
    rows: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { student, teacher, first, rows } = self;
        let (tokens, pitch) = (student.at.tokens, student.at.padded_tokens);
        let count = rows.len();
        let mut keys = vec![0.0; student.at.size.max(teacher.at.size) * pitch];
        let mut p = vec![0.0; count * pitch];
        let mut e = vec![0.0; count * pitch];
        for (side, sign) in [(teacher, -1.0), (student, 1.0)] {
            for head in 0..side.at.heads {
                side.turned_keys(head, &mut keys);
                side.probabilities::<L>(head, first, count, &keys, &mut p);
                add_scaled::<L>(&mut e, &p, sign / side.at.heads as f32);
            }
        }
        for (row, e) in rows.iter_mut().zip(e.chunks_exact(pitch)) {
            *row = fold2(&e[..tokens], &e[..tokens], |x, y, sum| fma::<L>(x, y, sum));
        }
    }
}

/// The student's gradient of one image.
struct Backward<'a> {
    student: Side<'a>,
    teacher: Side<'a>,
    d_rows: &'a [f32],
    /// `[N, 3, H, D]`, zero.
    d_student: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { student, teacher, d_rows, d_student } = self;
        let at = student.at;
        let (heads, tokens, pitch) = (at.heads, at.tokens, at.padded_tokens);
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
            e.fill(0.0);
            for (side, sign, others) in [(teacher, -1.0, heads), (student, 1.0, 0)] {
                for head in 0..side.at.heads {
                    let place = if sign > 0.0 { head } else { heads };
                    let p = &mut p[place * most * pitch..][..rows * pitch];
                    side.probabilities::<L>(head, first, rows, &turned[others + head], p);
                    add_scaled::<L>(&mut e, p, sign / side.at.heads as f32);
                }
            }
            for head in 0..heads {
                let slopes = &mut p[head * most * pitch..][..rows * pitch];
                for (row, (p, e)) in slopes.chunks_exact_mut(pitch).zip(e.chunks_exact(pitch)).enumerate() {
                    let factor = 2.0 * student.scale / heads as f32 * d_rows[first + row];
                    let delta = fold2(&p[..tokens], &e[..tokens], |x, y, sum| fma::<L>(x, y, sum));
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

/// The images of a network, and where things are in each.
struct Network<'a> {
    at: Layout,
    qkv: &'a [f32],
    levels: &'a [f32],
}

impl<'a> Network<'a> {
    /// `None` where the loops do not take it.
    fn new(qkv: &'a FloatTensor<Flex>, levels: &'a FloatTensor<Flex>) -> Option<Self> {
        let at = Layout::new(qkv.shape().dims());
        let (qkv, levels) = (cpu::numbers(qkv)?, cpu::numbers(levels)?);
        (!qkv.is_empty()).then_some(Self { at, qkv, levels })
    }

    fn images(&self) -> impl Iterator<Item = Side<'a>> {
        let (at, scale) = (self.at, scale(self.at.size));
        let images =
            self.qkv.chunks_exact(at.tokens * at.packed_row()).zip(self.levels.chunks_exact(at.heads * at.tokens));
        images.map(move |(qkv, levels)| Side { at, scale, qkv, levels })
    }
}

/// [`portable_forward`] where it must be, and else the loops above.
pub(super) fn forward(
    student: FloatTensor<Flex>,
    student_levels: FloatTensor<Flex>,
    teacher: FloatTensor<Flex>,
    teacher_levels: FloatTensor<Flex>,
) -> FloatTensor<Flex> {
    let [batch, tokens, ..] = student.shape().dims::<5>();
    let [student, student_levels, teacher, teacher_levels] =
        [student, student_levels, teacher, teacher_levels].map(cpu::contiguous);
    let networks = (Network::new(&student, &student_levels), Network::new(&teacher, &teacher_levels));
    let (Some(own), Some(others)) = networks else {
        return portable_forward::<Flex>(student, student_levels, teacher, teacher_levels);
    };
    let mut rows = vec![0.0; batch * tokens];
    let images = own.images().zip(others.images()).zip(rows.chunks_exact_mut(tokens));
    let tasks = images.flat_map(|((student, teacher), rows)| {
        let rows = rows.chunks_mut(QUERIES).enumerate();
        rows.map(move |(index, rows)| Forward { student, teacher, first: index * QUERIES, rows })
    });
    cpu::for_each(tasks, batch * work(own.at, others.at) >= PARALLEL_WORK, cpu::run);
    cpu::tensor(rows, Shape::new([batch, tokens]))
}

/// [`portable_backward`] where it must be, and else the loops above.
pub(super) fn backward(
    student: FloatTensor<Flex>,
    student_levels: FloatTensor<Flex>,
    teacher: FloatTensor<Flex>,
    teacher_levels: FloatTensor<Flex>,
    d_rows: FloatTensor<Flex>,
) -> FloatTensor<Flex> {
    let shape @ [batch, tokens, ..] = student.shape().dims::<5>();
    let [student, student_levels, teacher, teacher_levels, d_rows] =
        [student, student_levels, teacher, teacher_levels, d_rows].map(cpu::contiguous);
    let networks = (Network::new(&student, &student_levels), Network::new(&teacher, &teacher_levels));
    let ((Some(own), Some(others)), Some(gradients)) = (networks, cpu::numbers(&d_rows)) else {
        return portable_backward::<Flex>(student, student_levels, teacher, teacher_levels, d_rows);
    };
    let mut d_student = vec![0.0; own.qkv.len()];
    let images = own.images().zip(others.images());
    let outputs = gradients.chunks_exact(tokens).zip(d_student.chunks_exact_mut(tokens * own.at.packed_row()));
    let tasks = images.zip(outputs).map(|((student, teacher), (d_rows, d_student))| Backward {
        student,
        teacher,
        d_rows,
        d_student,
    });
    cpu::for_each(tasks, batch > 1 && batch * work(own.at, others.at) >= PARALLEL_WORK, cpu::run);
    cpu::tensor(d_student, Shape::new(shape))
}
