//! A matrix product for the CPU paths, for operands that fit into the cache.
//!
//! Why: attention's products are too small for the matrix library, and their operands are in scratch memory with a suitable layout.
//!
//! Invariants: the sums of a tile stay in registers over all terms. Every sum has one order, in every tile.

use super::lanes::{LANES, Level, Register};

/// A matrix that is read number by number. `row` and `column` are its strides.
#[derive(Clone, Copy)]
pub(in crate::op) struct Strided<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub column: usize,
}

/// `c = a b`, or `c += a b`, for `c` of `[rows, columns]`. Each sum has `inner` terms.
///
/// The rows of `b` and `c` are contiguous, with strides `b_row` and `c_row`. `columns` is a multiple of [`LANES`].
#[inline(always)]
pub(in crate::op) fn product<L: Level>(
    [rows, inner, columns]: [usize; 3],
    a: Strided,
    (b, b_row): (&[f32], usize),
    (c, c_row): (&mut [f32], usize),
    accumulate: bool,
) {
    let most = if L::ROOMY { 4 } else { 2 };
    let mut row = 0;
    while row < rows {
        let a = Strided { values: &a.values[row * a.row..], ..a };
        let c = &mut c[row * c_row..];
        let whole = rows - row >= most;
        let mut column = 0;
        while column < columns {
            let (b, c) = ((&b[column..], b_row), (&mut c[column..], c_row));
            let wide = columns - column >= 2 * LANES;
            match (L::ROOMY, whole, wide) {
                (true, true, true) => tile::<L, 4, 2>(inner, a, b, c, accumulate),
                (true, true, false) => tile::<L, 4, 1>(inner, a, b, c, accumulate),
                (false, true, true) => tile::<L, 2, 2>(inner, a, b, c, accumulate),
                (false, true, false) => tile::<L, 2, 1>(inner, a, b, c, accumulate),
                (_, false, true) => tile::<L, 1, 2>(inner, a, b, c, accumulate),
                (_, false, false) => tile::<L, 1, 1>(inner, a, b, c, accumulate),
            }
            column += if wide { 2 * LANES } else { LANES };
        }
        row += if whole { most } else { 1 };
    }
}

/// `R` rows of [`product`], each with `W` registers of columns.
#[expect(
    clippy::needless_range_loop,
    reason = "indices with constant bounds are what the compiler unrolls into registers"
)]
#[inline(always)]
fn tile<L: Level, const R: usize, const W: usize>(
    inner: usize,
    a: Strided,
    (b, b_row): (&[f32], usize),
    (c, c_row): (&mut [f32], usize),
    accumulate: bool,
) {
    let last = inner.checked_sub(1).expect("a product has terms");
    assert!(
        (R - 1) * a.row + last * a.column < a.values.len() && last * b_row + W * LANES <= b.len(),
        "a tile's operands"
    );
    let mut sums = [[Register::splat(0.0); W]; R];
    if accumulate {
        for r in 0..R {
            let (line, _) = c[r * c_row..r * c_row + W * LANES].as_chunks::<LANES>();
            sums[r] = std::array::from_fn(|w| Register::load(&line[w]));
        }
    }
    for k in 0..inner {
        // SAFETY: `k` is at most `last`, whose numbers are within `b`, as was just checked.
        let line = unsafe { &*b.as_ptr().add(k * b_row).cast::<[[f32; LANES]; W]>() };
        let terms = line.each_ref().map(Register::load);
        for r in 0..R {
            // SAFETY: as above, and `r` is at most `R - 1`.
            let factor = Register::splat(unsafe { *a.values.get_unchecked(r * a.row + k * a.column) });
            for w in 0..W {
                sums[r][w] = factor.times_plus::<L>(terms[w], sums[r][w]);
            }
        }
    }
    for r in 0..R {
        let (line, _) = c[r * c_row..r * c_row + W * LANES].as_chunks_mut::<LANES>();
        for w in 0..W {
            sums[r][w].store(&mut line[w]);
        }
    }
}
