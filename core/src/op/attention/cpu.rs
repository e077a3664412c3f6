//! Attention on the CPU: the equations of [`attention`](fn@super::attention) as loops over one image and one head at a time.
//!
//! Why: tensor operations copy the 16 tokens of a small model into four new layouts, and a dozen element-wise passes go through
//! memory. Here the keys and values of a head are laid out once in a few KiB of scratch memory. [`QUERIES`] rows of scores at a
//! time stay in the cache from the first product to the last.
//!
//! Invariants: an image is one task and writes its own part of every output, so no two tasks share a sum. The backward pass
//! computes the scores with the same product as the forward pass, so a probability exceeds 1 only by rounding.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, Shape, TensorMetadata};
use burn::tensor::FloatDType;

use super::portable::{self, WithLse, summed_in};
use super::{Attention, AttentionGradient};
use crate::op::cpu::{self, LANES, Level, Strided, Task, exp, fma, fold2, largest, product};

/// Rows of scores that are processed together.
pub(in crate::op) const QUERIES: usize = 32;

/// Number of multiply-adds below which a second thread costs more than it saves.
pub(in crate::op) const PARALLEL_WORK: usize = 256 * 1024;

/// The layout of one image of `[N, 3, H, D]` or `[N, H, D]`.
#[derive(Clone, Copy)]
pub(in crate::op) struct Layout {
    pub tokens: usize,
    pub heads: usize,
    pub size: usize,
    /// `tokens` and `size` rounded up to whole registers.
    pub padded_tokens: usize,
    pub padded_size: usize,
}

impl Layout {
    pub fn new([_, tokens, _, heads, size]: [usize; 5]) -> Self {
        Self {
            tokens,
            heads,
            size,
            padded_tokens: tokens.next_multiple_of(LANES),
            padded_size: size.next_multiple_of(LANES),
        }
    }

    /// Number of values of one token in the packed tensor and in the output.
    pub fn packed_row(&self) -> usize {
        3 * self.heads * self.size
    }
    pub fn row(&self) -> usize {
        self.heads * self.size
    }

    /// The start of part `part` (q, k, v) of `head`, for token 0.
    pub fn packed(&self, part: usize, head: usize) -> usize {
        (part * self.heads + head) * self.size
    }

    fn parallel(&self, batch: usize) -> bool {
        batch > 1 && batch * self.heads * self.tokens * self.tokens * self.size >= PARALLEL_WORK
    }

    /// Copies rows of `D` numbers, at a distance of `row`, to rows padded with zeros.
    #[inline(always)]
    pub fn copy_rows(&self, from: &[f32], row: usize, rows: usize, to: &mut [f32]) {
        for (index, to) in to.chunks_exact_mut(self.padded_size).take(rows).enumerate() {
            to[..self.size].copy_from_slice(&from[index * row..index * row + self.size]);
        }
    }

    /// Does the same, multiplied by `factor` and with rows and columns exchanged: `[D, N]`.
    #[inline(always)]
    pub fn copy_columns(&self, from: &[f32], row: usize, factor: f32, to: &mut [f32]) {
        for token in 0..self.tokens {
            let from = &from[token * row..token * row + self.size];
            for (channel, x) in from.iter().enumerate() {
                to[channel * self.padded_tokens + token] = x * factor;
            }
        }
    }

    /// Writes padded rows, multiplied by `factor`, into the packed gradient.
    #[inline(always)]
    pub fn store(&self, from: &[f32], factor: f32, to: &mut [f32], rows: usize) {
        for row in 0..rows {
            let to = &mut to[row * self.packed_row()..row * self.packed_row() + self.size];
            for (to, from) in to.iter_mut().zip(&from[row * self.padded_size..]) {
                *to = from * factor;
            }
        }
    }
}

/// The output and the log-sum-exps of one image.
struct Forward<'a> {
    layout: Layout,
    scale: f32,
    qkv: &'a [f32],
    out: &'a mut [f32],
    lse: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { layout: at, scale, qkv, out, lse } = self;
        let mut keys = vec![0.0; at.size * at.padded_tokens];
        let mut values = vec![0.0; at.tokens * at.padded_size];
        let mut scores = vec![0.0; QUERIES.min(at.tokens) * at.padded_tokens];
        let mut mixed = vec![0.0; QUERIES.min(at.tokens) * at.padded_size];
        for head in 0..at.heads {
            at.copy_columns(&qkv[at.packed(1, head)..], at.packed_row(), scale, &mut keys);
            at.copy_rows(&qkv[at.packed(2, head)..], at.packed_row(), at.tokens, &mut values);
            for first in (0..at.tokens).step_by(QUERIES) {
                let rows = QUERIES.min(at.tokens - first);
                let queries = Strided {
                    values: &qkv[at.packed(0, head) + first * at.packed_row()..],
                    row: at.packed_row(),
                    column: 1,
                };
                let whole = [rows, at.size, at.padded_tokens];
                product::<L>(whole, queries, (&keys, at.padded_tokens), (&mut scores, at.padded_tokens), false);
                let mut sums = [0.0; QUERIES];
                for row in 0..rows {
                    let scores = &mut scores[row * at.padded_tokens..(row + 1) * at.padded_tokens];
                    scores[at.tokens..].fill(f32::NEG_INFINITY);
                    let peak = largest(scores);
                    let mut lanes = [0.0; LANES];
                    for scores in scores.chunks_exact_mut(LANES) {
                        for lane in 0..LANES {
                            scores[lane] = exp::<L>(scores[lane] - peak);
                            lanes[lane] += scores[lane];
                        }
                    }
                    sums[row] = cpu::total(lanes);
                    lse[head * at.tokens + first + row] = peak + sums[row].ln();
                }
                let weights = Strided { values: &scores, row: at.padded_tokens, column: 1 };
                let whole = [rows, at.tokens, at.padded_size];
                product::<L>(whole, weights, (&values, at.padded_size), (&mut mixed, at.padded_size), false);
                for row in 0..rows {
                    let begin = (first + row) * at.row() + head * at.size;
                    let inverse = 1.0 / sums[row];
                    let mixed = &mixed[row * at.padded_size..];
                    for (out, mixed) in out[begin..begin + at.size].iter_mut().zip(mixed) {
                        *out = mixed * inverse;
                    }
                }
            }
        }
    }
}

/// The gradient of one image.
struct Backward<'a> {
    layout: Layout,
    scale: f32,
    qkv: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    d_out: &'a [f32],
    d_qkv: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { layout: at, scale, qkv, out, lse, d_out, d_qkv } = self;
        let most = QUERIES.min(at.tokens);
        let tile = || vec![0.0; most * at.padded_size];
        let rows_of = || vec![0.0; at.tokens * at.padded_size];
        let columns_of = || vec![0.0; at.size * at.padded_tokens];
        let (mut keys, mut turned_keys, mut turned_values) = (rows_of(), columns_of(), columns_of());
        let (mut d_keys, mut d_values) = (rows_of(), rows_of());
        let (mut queries, mut d_mixed, mut d_queries) = (tile(), tile(), tile());
        let mut weights = vec![0.0; most * at.padded_tokens];
        let mut d_scores = vec![0.0; most * at.padded_tokens];
        for head in 0..at.heads {
            let part = |part: usize| &qkv[at.packed(part, head)..];
            at.copy_rows(part(1), at.packed_row(), at.tokens, &mut keys);
            at.copy_columns(part(1), at.packed_row(), scale, &mut turned_keys);
            at.copy_columns(part(2), at.packed_row(), 1.0, &mut turned_values);
            for first in (0..at.tokens).step_by(QUERIES) {
                let rows = QUERIES.min(at.tokens - first);
                let begin = first * at.row() + head * at.size;
                at.copy_rows(&part(0)[first * at.packed_row()..], at.packed_row(), rows, &mut queries);
                at.copy_rows(&d_out[begin..], at.row(), rows, &mut d_mixed);
                let by_rows = |values| Strided { values, row: at.padded_size, column: 1 };
                let pairs = [rows, at.size, at.padded_tokens];
                let turned = (&turned_keys[..], at.padded_tokens);
                product::<L>(pairs, by_rows(&queries), turned, (&mut weights, at.padded_tokens), false);
                let turned = (&turned_values[..], at.padded_tokens);
                product::<L>(pairs, by_rows(&d_mixed), turned, (&mut d_scores, at.padded_tokens), false);
                for row in 0..rows {
                    let begin = begin + row * at.row();
                    let (out, d_out) = (&out[begin..begin + at.size], &d_out[begin..begin + at.size]);
                    let delta = fold2(out, d_out, |x, y, sum| fma::<L>(x, y, sum));
                    let lse = lse[head * at.tokens + first + row];
                    let line = row * at.padded_tokens..(row + 1) * at.padded_tokens;
                    for (weight, d_score) in weights[line.clone()].iter_mut().zip(&mut d_scores[line]) {
                        *weight = exp::<L>(*weight - lse);
                        *d_score = *weight * (*d_score - delta);
                    }
                }
                let by_columns = |values| Strided { values, row: 1, column: at.padded_tokens };
                let whole = [at.tokens, rows, at.padded_size];
                let more = first > 0;
                product::<L>(
                    whole,
                    by_columns(&weights),
                    (&d_mixed, at.padded_size),
                    (&mut d_values, at.padded_size),
                    more,
                );
                product::<L>(
                    whole,
                    by_columns(&d_scores),
                    (&queries, at.padded_size),
                    (&mut d_keys, at.padded_size),
                    more,
                );
                let by_rows = Strided { values: &d_scores, row: at.padded_tokens, column: 1 };
                let whole = [rows, at.tokens, at.padded_size];
                product::<L>(whole, by_rows, (&keys, at.padded_size), (&mut d_queries, at.padded_size), false);
                at.store(&d_queries, scale, &mut d_qkv[at.packed(0, head) + first * at.packed_row()..], rows);
            }
            at.store(&d_keys, scale, &mut d_qkv[at.packed(1, head)..], at.tokens);
            at.store(&d_values, 1.0, &mut d_qkv[at.packed(2, head)..], at.tokens);
        }
    }
}

impl Attention for Flex {
    fn attention_forward(qkv: FloatTensor<Self>, scale: f32) -> WithLse<Self> {
        let dtype = qkv.dtype();
        if summed_in(dtype) != dtype {
            let (out, lse) = Self::attention_forward(Self::float_cast(qkv, FloatDType::F32), scale);
            return (Self::float_cast(out, dtype.into()), lse);
        }
        let shape @ [batch, tokens, _, heads, size] = qkv.shape().dims();
        let qkv = cpu::contiguous(qkv);
        let Some(numbers) = cpu::numbers(&qkv).filter(|numbers| !numbers.is_empty()) else {
            return portable::forward::<Flex>(qkv, scale);
        };
        let layout = Layout::new(shape);
        let mut out = vec![0.0; batch * tokens * heads * size];
        let mut lse = vec![0.0; batch * heads * tokens];
        let images = numbers
            .chunks_exact(tokens * layout.packed_row())
            .zip(out.chunks_exact_mut(tokens * layout.row()).zip(lse.chunks_exact_mut(heads * tokens)));
        cpu::for_each(images, layout.parallel(batch), |(qkv, (out, lse))| {
            cpu::run(Forward { layout, scale, qkv, out, lse });
        });
        (
            cpu::tensor(out, Shape::new([batch, tokens, heads, size])),
            cpu::tensor(lse, Shape::new([batch, heads, tokens])),
        )
    }
}

impl AttentionGradient for Flex {
    fn attention_backward(
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        d_out: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let shape @ [batch, tokens, _, heads, _] = qkv.shape().dims();
        let [qkv, out, lse, d_out] = [qkv, out, lse, d_out].map(cpu::contiguous);
        let numbers = [&qkv, &out, &lse, &d_out].map(cpu::numbers);
        let [Some(numbers), Some(outputs), Some(sums), Some(d_outputs)] = numbers else {
            return portable::backward::<Flex>(qkv, out, lse, d_out, scale);
        };
        if numbers.is_empty() {
            return portable::backward::<Flex>(qkv, out, lse, d_out, scale);
        }
        let layout = Layout::new(shape);
        let mut d_qkv = vec![0.0; numbers.len()];
        let images = numbers
            .chunks_exact(tokens * layout.packed_row())
            .zip(d_qkv.chunks_exact_mut(tokens * layout.packed_row()))
            .zip(outputs.chunks_exact(tokens * layout.row()).zip(d_outputs.chunks_exact(tokens * layout.row())))
            .zip(sums.chunks_exact(heads * tokens));
        cpu::for_each(images, layout.parallel(batch), |(((qkv, d_qkv), (out, d_out)), lse)| {
            cpu::run(Backward { layout, scale, qkv, out, lse, d_out, d_qkv });
        });
        cpu::tensor(d_qkv, Shape::new(shape))
    }
}
