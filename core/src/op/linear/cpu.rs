//! The CPU's matrix products, and its passes over rows.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, Shape, TensorMetadata};

use super::portable::{self, flat};
use super::{Linear, LinearGradient};
use crate::op::cpu::{self, Level, PARALLEL_ELEMENTS, Task};

/// Number of multiply-adds from which the matrix library uses several threads: for one product, and for a batch of products.
const LIBRARY_SHARES: usize = 192 * 192 * 192;
const LIBRARY_SHARES_BATCH: usize = 128 * 128 * 128;

/// Number of pieces for a product between these two sizes.
const PIECES: usize = 4;

/// Rows in one task.
const ROWS: usize = 64;

/// Whether a product with this many multiply-adds is divided along its `rows`.
fn in_pieces(work: usize, rows: usize) -> bool {
    cfg!(feature = "native") && (LIBRARY_SHARES_BATCH..LIBRARY_SHARES).contains(&work) && rows.is_multiple_of(PIECES)
}

/// `[rows, K] [K, M]` in one piece, with the matrix library.
#[cfg(not(target_family = "wasm"))]
fn whole_product(x: FloatTensor<Flex>, weight: FloatTensor<Flex>) -> FloatTensor<Flex> {
    Flex::float_matmul(x, weight)
}

/// `[rows, K] [K, M]` with panels.
#[cfg(target_family = "wasm")]
fn whole_product(x: FloatTensor<Flex>, weight: FloatTensor<Flex>) -> FloatTensor<Flex> {
    use cpu::by_panels;
    let (Some(a), Some(b)) = (cpu::strided(&x), cpu::strided(&weight)) else {
        return Flex::float_matmul(x, weight);
    };
    let [rows, inputs] = x.shape().dims();
    let [_, outputs] = weight.shape().dims();
    let mut y = vec![0.0; rows * outputs];
    by_panels([rows, inputs, outputs], a, b, &mut y);
    cpu::tensor(y, Shape::new([rows, outputs]))
}

/// `[rows, K] [K, M]`.
fn product(x: FloatTensor<Flex>, weight: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let [rows, inputs] = x.shape().dims();
    let [_, outputs] = weight.shape().dims();
    if !in_pieces(rows * inputs * outputs, rows) {
        return whole_product(x, weight);
    }
    let x = Flex::float_reshape(x, Shape::new([PIECES, rows / PIECES, inputs]));
    let weight = Flex::float_expand(weight, Shape::new([1, inputs, outputs]));
    Flex::float_reshape(Flex::float_matmul(x, weight), Shape::new([rows, outputs]))
}

struct AddRow<'a> {
    row: &'a [f32],
    to: &'a mut [f32],
}

impl Task for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        for to in self.to.chunks_exact_mut(self.row.len()) {
            for (to, x) in to.iter_mut().zip(self.row) {
                *to += x;
            }
        }
    }
}

struct SumRows<'a> {
    rows: &'a [f32],
    sum: &'a mut [f32],
}

impl Task for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        for row in self.rows.chunks_exact(self.sum.len()) {
            for (sum, x) in self.sum.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

/// The sum of rows of `columns` numbers.
fn sum_rows(rows: &[f32], columns: usize) -> Vec<f32> {
    let chunk = ROWS * columns;
    let mut parts = vec![0.0; rows.len().div_ceil(chunk) * columns];
    let work = rows.chunks(chunk).zip(parts.chunks_exact_mut(columns));
    cpu::for_each(work, rows.len() >= PARALLEL_ELEMENTS, |(rows, sum)| cpu::run(SumRows { rows, sum }));
    let mut sum = vec![0.0; columns];
    cpu::run(SumRows { rows: &parts, sum: &mut sum });
    sum
}

impl Linear for Flex {
    fn linear_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut shape = x.shape();
        let last = shape.num_dims() - 1;
        let bias = cpu::contiguous(bias);
        let Some(row) = cpu::numbers(&bias).filter(|row| !row.is_empty()) else {
            return portable::forward::<Flex>(x, weight, bias);
        };
        shape[last] = row.len();
        let (x, _) = flat::<Flex>(x);
        let mut y = product(x, weight);
        match cpu::exclusive(&mut y) {
            Some(values) => {
                let parallel = values.len() >= PARALLEL_ELEMENTS;
                cpu::for_each(values.chunks_mut(ROWS * row.len()), parallel, |to| cpu::run(AddRow { row, to }));
            }
            None => y = Flex::float_add(y, Flex::float_reshape(bias.clone(), Shape::new([1, row.len()]))),
        }
        Flex::float_reshape(y, shape)
    }
}

impl LinearGradient for Flex {
    fn linear_backward_x(weight: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        let mut shape = dy.shape();
        let last = shape.num_dims() - 1;
        let [inputs, _] = weight.shape().dims();
        shape[last] = inputs;
        let (dy, _) = flat::<Flex>(dy);
        Flex::float_reshape(product(dy, Flex::float_transpose(weight)), shape)
    }

    fn linear_backward_parameters(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let dy = cpu::contiguous(dy);
        let Some(numbers) = cpu::numbers(&dy).filter(|numbers| !numbers.is_empty()) else {
            return portable::backward_parameters::<Flex>(x, dy);
        };
        let (x, [rows, inputs]) = flat::<Flex>(x);
        let outputs = numbers.len() / rows;
        let d_bias = cpu::tensor(sum_rows(numbers, outputs), Shape::new([outputs]));
        let (dy, _) = flat::<Flex>(dy);
        if !in_pieces(rows * inputs * outputs, rows) {
            return (whole_product(Flex::float_transpose(x), dy), d_bias);
        }
        let x = Flex::float_reshape(x, Shape::new([PIECES, rows / PIECES, inputs]));
        let dy = Flex::float_reshape(dy, Shape::new([PIECES, rows / PIECES, outputs]));
        let pieces = Flex::float_matmul(Flex::float_transpose(x), dy);
        let d_weight = match cpu::numbers(&pieces) {
            Some(pieces) => cpu::tensor(sum_rows(pieces, inputs * outputs), Shape::new([inputs, outputs])),
            None => Flex::float_reshape(Flex::float_sum_dim(pieces, 0), Shape::new([inputs, outputs])),
        };
        (d_weight, d_bias)
    }
}
