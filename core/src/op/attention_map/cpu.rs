//! Head-averaged attention on the CPU, and its squared difference from another network's: the equations of
//! [`attention_map`](fn@super::attention_map), for [`QUERIES`] rows of an image at a time.
//!
//! Why: with tensor operations, the probabilities of every head go through memory a dozen times. Here the current rows stay in
//! the cache, and the keys of a head are laid out once.
//!
//! Invariants: in the forward pass, some rows of an image are one task. In the backward pass a whole image is one task, since the
//! gradients of its keys are sums over all of its rows. A task writes its own part of every output.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, Shape, TensorMetadata};

use super::portable::{self, Difference, scale};
use super::{AttentionMap, AttentionMapGradient};
use crate::op::attention::cpu::{Layout, PARALLEL_WORK, QUERIES};
use crate::op::cpu::{self, Level, Strided, Task, exp, fma, fold2, product};

/// An image.
#[derive(Clone, Copy)]
struct Image<'a> {
    at: Layout,
    scale: f32,
    /// `[N, 3, H, D]`.
    qkv: &'a [f32],
    /// `[H, N]`.
    lse: &'a [f32],
}

impl Image<'_> {
    /// The scaled keys of a head, `[D, N]` padded.
    #[inline(always)]
    fn turned_keys(&self, head: usize, to: &mut [f32]) {
        self.at.copy_columns(&self.qkv[self.at.packed(1, head)..], self.at.packed_row(), self.scale, to);
    }

    /// Probabilities of `rows` queries from `first` on, for the transposed keys. Values past the last token have no meaning.
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
        let lse = &self.lse[head * at.tokens + first..];
        for (p, lse) in p.chunks_exact_mut(at.padded_tokens).zip(lse) {
            p.iter_mut().for_each(|x| *x = exp::<L>(*x - lse));
        }
    }
}

/// At most [`QUERIES`] rows of an image's map, from row `first` on.
struct Map<'a> {
    image: Image<'a>,
    first: usize,
    /// `[rows, N]`: zeros, or the negative of the map to compare with.
    map: &'a mut [f32],
}

impl Task for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { image, first, map } = self;
        let at = image.at;
        let rows = map.len() / at.tokens;
        let mut keys = vec![0.0; at.size * at.padded_tokens];
        let mut p = vec![0.0; rows * at.padded_tokens];
        let share = 1.0 / at.heads as f32;
        for head in 0..at.heads {
            image.turned_keys(head, &mut keys);
            image.probabilities::<L>(head, first, rows, &keys, &mut p);
            for (map, p) in map.chunks_exact_mut(at.tokens).zip(p.chunks_exact(at.padded_tokens)) {
                for (map, p) in map.iter_mut().zip(p) {
                    *map = fma::<L>(share, *p, *map);
                }
            }
        }
    }
}

/// The gradient of one image.
struct Backward<'a> {
    image: Image<'a>,
    /// `[N, N]`.
    e: &'a [f32],
    d_rows: &'a [f32],
    /// `[N, 3, H, D]`, zero.
    d_qkv: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let Self { image, e, d_rows, d_qkv } = self;
        let at = image.at;
        let (tokens, pitch) = (at.tokens, at.padded_tokens);
        let most = QUERIES.min(tokens);
        let mut turned = vec![0.0; at.size * pitch];
        let mut keys = vec![0.0; tokens * at.padded_size];
        let mut d_keys = vec![0.0; tokens * at.padded_size];
        let (mut queries, mut d_queries) = (vec![0.0; most * at.padded_size], vec![0.0; most * at.padded_size]);
        let mut p = vec![0.0; most * pitch];
        for head in 0..at.heads {
            image.turned_keys(head, &mut turned);
            at.copy_rows(&image.qkv[at.packed(1, head)..], at.packed_row(), tokens, &mut keys);
            for first in (0..tokens).step_by(QUERIES) {
                let rows = QUERIES.min(tokens - first);
                let slopes = &mut p[..rows * pitch];
                image.probabilities::<L>(head, first, rows, &turned, slopes);
                let e = e[first * tokens..].chunks_exact(tokens);
                for (row, (p, e)) in slopes.chunks_exact_mut(pitch).zip(e).enumerate() {
                    let p = &mut p[..tokens];
                    let factor = 2.0 * image.scale / at.heads as f32 * d_rows[first + row];
                    let delta = fold2(p, e, |x, y, sum| fma::<L>(x, y, sum));
                    for (p, e) in p.iter_mut().zip(e) {
                        *p *= factor * (e - delta);
                    }
                }
                let own = at.packed(0, head) + first * at.packed_row();
                at.copy_rows(&image.qkv[own..], at.packed_row(), rows, &mut queries);
                let by_rows = Strided { values: slopes, row: pitch, column: 1 };
                let to = (&mut d_queries[..], at.padded_size);
                product::<L>([rows, tokens, at.padded_size], by_rows, (&keys, at.padded_size), to, false);
                at.store(&d_queries, 1.0, &mut d_qkv[own..], rows);
                let by_columns = Strided { values: slopes, row: 1, column: pitch };
                let to = (&mut d_keys[..], at.padded_size);
                product::<L>([tokens, rows, at.padded_size], by_columns, (&queries, at.padded_size), to, first > 0);
            }
            at.store(&d_keys, 1.0, &mut d_qkv[at.packed(1, head)..], tokens);
        }
    }
}

/// The images of a network.
struct Images<'a> {
    at: Layout,
    qkv: &'a [f32],
    lse: &'a [f32],
}

impl<'a> Images<'a> {
    /// `None` if the loops do not accept them.
    fn new(qkv: &'a FloatTensor<Flex>, lse: &'a FloatTensor<Flex>) -> Option<Self> {
        let at = Layout::new(qkv.shape().dims());
        let (qkv, lse) = (cpu::numbers(qkv)?, cpu::numbers(lse)?);
        (!qkv.is_empty()).then_some(Self { at, qkv, lse })
    }

    fn each(&self) -> impl Iterator<Item = Image<'a>> {
        let (at, scale) = (self.at, scale(self.at.size));
        let lse = self.lse.chunks_exact(at.heads * at.tokens);
        let images = self.qkv.chunks_exact(at.tokens * at.packed_row()).zip(lse);
        images.map(move |(qkv, lse)| Image { at, scale, qkv, lse })
    }

    /// Whether the work on all of them, or on half of them, is worth a second thread.
    fn parallel(&self) -> bool {
        self.qkv.len() / 3 * self.at.tokens >= PARALLEL_WORK
    }

    /// Adds their maps to `[B, N, N]`.
    fn add_to(&self, maps: &mut [f32]) {
        let tokens = self.at.tokens;
        let tasks = self.each().zip(maps.chunks_exact_mut(tokens * tokens)).flat_map(|(image, map)| {
            let parts = map.chunks_mut(QUERIES * tokens).enumerate();
            parts.map(move |(index, map)| Map { image, first: index * QUERIES, map })
        });
        cpu::for_each(tasks, self.parallel(), cpu::run);
    }
}

impl AttentionMap for Flex {
    fn attention_map(qkv: FloatTensor<Self>, lse: FloatTensor<Self>) -> FloatTensor<Self> {
        let [batch, tokens, ..] = qkv.shape().dims::<5>();
        let [qkv, lse] = [qkv, lse].map(cpu::contiguous);
        let Some(images) = Images::new(&qkv, &lse) else {
            return portable::map::<Flex>(qkv, lse);
        };
        let mut maps = vec![0.0; batch * tokens * tokens];
        images.add_to(&mut maps);
        cpu::tensor(maps, Shape::new([batch, tokens, tokens]))
    }

    fn map_difference_forward(
        qkv: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> Difference<Self> {
        let [batch, tokens, ..] = qkv.shape().dims::<5>();
        let [qkv, lse, target] = [qkv, lse, target].map(cpu::contiguous);
        let (Some(images), Some(wanted)) = (Images::new(&qkv, &lse), cpu::numbers(&target)) else {
            return portable::forward::<Flex>(qkv, lse, target);
        };
        let mut e: Vec<f32> = wanted.iter().map(|x| -x).collect();
        images.add_to(&mut e);
        let rows = e.chunks_exact(tokens).map(|e| fold2(e, e, |x, y, sum| sum + x * y)).collect();
        (cpu::tensor(rows, Shape::new([batch, tokens])), cpu::tensor(e, Shape::new([batch, tokens, tokens])))
    }
}

impl AttentionMapGradient for Flex {
    fn map_difference_backward(
        qkv: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        e: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let shape @ [batch, tokens, ..] = qkv.shape().dims::<5>();
        let [qkv, lse, e, d_rows] = [qkv, lse, e, d_rows].map(cpu::contiguous);
        let numbers = (Images::new(&qkv, &lse), cpu::numbers(&e), cpu::numbers(&d_rows));
        let (Some(images), Some(differences), Some(gradients)) = numbers else {
            return portable::backward::<Flex>(qkv, lse, e, d_rows);
        };
        let mut d_qkv = vec![0.0; images.qkv.len()];
        let inputs = images.each().zip(differences.chunks_exact(tokens * tokens)).zip(gradients.chunks_exact(tokens));
        let tasks = inputs
            .zip(d_qkv.chunks_exact_mut(tokens * images.at.packed_row()))
            .map(|(((image, e), d_rows), d_qkv)| Backward { image, e, d_rows, d_qkv });
        cpu::for_each(tasks, batch > 1 && images.parallel(), cpu::run);
        cpu::tensor(d_qkv, Shape::new(shape))
    }
}
