//! The matrix product of linear layers in WebAssembly.
//!
//! Why: in WebAssembly these loops are one and a half times as fast as the matrix library (docs/results/browser.md). In a native
//! build the library is faster: 95 GFLOP/s on one core with 256-bit fused multiply-adds, against 75 to 90 with these loops.
//!
//! A panel consists of [`COLUMNS`] columns of the right operand, with at most [`TERMS`] numbers of each, next to each other in
//! memory. All rows of the left operand are multiplied with it while it is in the cache. Operands are read in place, transposed
//! or not.

use super::lanes::{LANES, Level, Task, run};
use super::product::{Strided, product};

/// Columns of a panel: as many as the widest tile has.
const COLUMNS: usize = 2 * LANES;

/// Numbers of a column in one panel. The panel then has 16 KiB.
const TERMS: usize = 256;

/// `c += a b` for `c` of `[rows, columns]` without gaps. Each sum has `inner` terms.
pub(in crate::op) fn by_panels([rows, inner, columns]: [usize; 3], a: Strided, b: Strided, c: &mut [f32]) {
    assert_eq!(c.len(), rows * columns, "a product of {rows} rows and {columns} columns");
    let mut panel = vec![0.0; TERMS.min(inner) * COLUMNS];
    // The sums of a panel that is wider than the rest of `c`.
    let mut edge = vec![0.0; if columns.is_multiple_of(COLUMNS) { 0 } else { rows * COLUMNS }];
    for first in (0..inner).step_by(TERMS) {
        let terms = TERMS.min(inner - first);
        let a = Strided { values: &a.values[first * a.column..], ..a };
        for column in (0..columns).step_by(COLUMNS) {
            let width = COLUMNS.min(columns - column);
            lay_out(b, [first, column], [terms, width], &mut panel);
            let size = [rows, terms, COLUMNS];
            if width == COLUMNS {
                run(RowsTimesPanel { size, a, panel: &panel, c: (&mut c[column..], columns), accumulate: true });
                continue;
            }
            run(RowsTimesPanel { size, a, panel: &panel, c: (&mut edge, COLUMNS), accumulate: false });
            for (c, sums) in c.chunks_exact_mut(columns).zip(edge.chunks_exact(COLUMNS)) {
                for (c, sum) in c[column..].iter_mut().zip(sums) {
                    *c += sum;
                }
            }
        }
    }
}

/// Copies `[terms, width]` of `b`, from `[first, column]` on, into a panel. Columns beyond `width` keep their old numbers, and
/// their sums are not used.
fn lay_out(b: Strided, [first, column]: [usize; 2], [terms, width]: [usize; 2], panel: &mut [f32]) {
    let from = &b.values[first * b.row + column * b.column..];
    let rows = panel.chunks_exact_mut(COLUMNS).take(terms).enumerate();
    if b.column == 1 {
        for (term, to) in rows {
            to[..width].copy_from_slice(&from[term * b.row..term * b.row + width]);
        }
    } else {
        for (term, to) in rows {
            for (column, to) in to[..width].iter_mut().enumerate() {
                *to = from[term * b.row + column * b.column];
            }
        }
    }
}

/// Multiplies all rows of the left operand with one panel.
struct RowsTimesPanel<'a> {
    size: [usize; 3],
    a: Strided<'a>,
    panel: &'a [f32],
    c: (&'a mut [f32], usize),
    accumulate: bool,
}

impl Task for RowsTimesPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        product::<L>(self.size, self.a, (self.panel, COLUMNS), self.c, self.accumulate);
    }
}

#[cfg(test)]
mod tests {
    use super::{Strided, by_panels};

    /// Sums of small integers are exact, so every order of the terms gives the same result.
    fn small(index: usize) -> f32 {
        (index * 37 % 11) as f32 - 5.0
    }

    #[test]
    fn products_by_panels_are_the_sums() {
        for [rows, inner, columns] in [[1, 1, 1], [2, 3, 16], [5, 300, 19], [7, 256, 33], [4, 513, 8], [3, 0, 5]] {
            let a: Vec<f32> = (0..rows * inner).map(small).collect();
            let b: Vec<f32> = (0..inner * columns).map(|index| small(index + 5)).collect();
            // In place, or with rows and columns exchanged.
            for a_turned in [false, true] {
                for b_turned in [false, true] {
                    let strided = |values, rows, columns, turned| match turned {
                        false => Strided { values, row: columns, column: 1 },
                        true => Strided { values, row: 1, column: rows },
                    };
                    let (a, b) = (strided(&a, rows, inner, a_turned), strided(&b, inner, columns, b_turned));
                    let mut c: Vec<f32> = (0..rows * columns).map(|index| index as f32).collect();
                    by_panels([rows, inner, columns], a, b, &mut c);
                    for row in 0..rows {
                        for column in 0..columns {
                            let term = |k: usize| {
                                a.values[row * a.row + k * a.column] * b.values[k * b.row + column * b.column]
                            };
                            let start = (row * columns + column) as f32;
                            let expected = start + (0..inner).map(term).sum::<f32>();
                            assert_eq!(
                                c[row * columns + column],
                                expected,
                                "{rows} {inner} {columns}, at {row} {column}"
                            );
                        }
                    }
                }
            }
        }
    }
}
