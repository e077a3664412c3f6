//! What the CPU paths of the operations share: vector instructions, threads, short sums, an exponential, a small matrix
//! product, and the way in and out of Flex tensors.
//!
//! Why a level of its own: a release build targets the oldest machine of its architecture, and Flex's element-wise
//! operations run one pass of memory each. Here a whole operation is one [`Task`], compiled once for that machine and once
//! for one with 8-wide fused multiply-adds, and the better is taken at run time. Inner loops are plain Rust over arrays of
//! [`LANES`] numbers, which the compiler turns into vector instructions; that holds for WebAssembly's 128 bits as well.
//!
//! Invariants
//! * Everything that a task calls is `#[inline(always)]`, or it would be compiled for the oldest machine.
//! * Work is cut by the shapes alone and every sum has one order, so results do not depend on the number of threads.
//! * Tensors that are not contiguous `f32` take the portable definition.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{DType, Flex, Shape, TensorMetadata};
use burn::tensor::TensorData;

/// Numbers in one step of an inner loop: one 256-bit register.
pub(super) const LANES: usize = 8;

/// Elements below which an element-wise operation is not worth a second thread.
pub(super) const PARALLEL_ELEMENTS: usize = 32 * 1024;

// ---- Vector instructions

/// What the code may assume of the machine.
pub(super) trait Level: Copy + Send + Sync {
    /// Whether a multiply-add is one instruction; emulated, it would be a function call.
    const FUSED: bool;
    /// Whether the registers hold 4 rows of 2 [`LANES`] sums beside what is multiplied.
    const ROOMY: bool;
}

#[derive(Clone, Copy)]
pub(super) struct Plain;
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Fused;

impl Level for Plain {
    // AArch64 has fused instructions on every machine.
    const FUSED: bool = cfg!(target_arch = "aarch64");
    // AArch64 has 32 registers of 128 bits, WebAssembly and the oldest x86-64 in effect 16.
    const ROOMY: bool = cfg!(target_arch = "aarch64");
}

#[cfg(target_arch = "x86_64")]
impl Level for Fused {
    const FUSED: bool = true;
    const ROOMY: bool = true;
}

/// A piece of work compiled for each [`Level`]; mark `run` `#[inline(always)]`.
pub(super) trait Task {
    type Output;
    fn run<L: Level>(self) -> Self::Output;
}

/// Runs `task` with the widest instructions of this machine.
pub(super) fn run<T: Task>(task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn wide<T: Task>(task: T) -> T::Output {
            task.run::<Fused>()
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the machine has the instructions that `wide` is compiled with, as was just checked.
            return unsafe { wide(task) };
        }
    }
    task.run::<Plain>()
}

/// `a b + c`.
#[inline(always)]
pub(super) fn fma<L: Level>(a: f32, b: f32, c: f32) -> f32 {
    if L::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `Σ term(i)` of equally long slices, `term` being given the running sum to add to.
#[inline(always)]
pub(super) fn fold2(a: &[f32], b: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    const WIDE: usize = 2 * LANES;
    let mut sums = [0.0_f32; WIDE];
    let (mut a, mut b) = (a.chunks_exact(WIDE), b.chunks_exact(WIDE));
    for (a, b) in (&mut a).zip(&mut b) {
        for lane in 0..WIDE {
            sums[lane] = term(a[lane], b[lane], sums[lane]);
        }
    }
    for (lane, (a, b)) in a.remainder().iter().zip(b.remainder()).enumerate() {
        sums[lane] = term(*a, *b, sums[lane]);
    }
    total(sums)
}

/// The sum of the lanes, by halves.
#[inline(always)]
pub(super) fn total<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest number of a slice whose length is a multiple of [`LANES`]; NaN is passed over.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut peaks = [f32::NEG_INFINITY; LANES];
    for values in values.chunks_exact(LANES) {
        for lane in 0..LANES {
            peaks[lane] = if values[lane] > peaks[lane] { values[lane] } else { peaks[lane] };
        }
    }
    peaks.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// `(eʳ - 1 - r) / r²` over `|r| <= ln 2 / 2`, lowest power first.
const EXP: [f32; 5] = [0.5, 0.166_665_77, 0.041_666_554, 0.008_363_247, 0.001_392_626_8];

/// `eˣ` for `x` up to 88, within 1.2e-7 of its value; 0 where that is no normal number, NaN of NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `eʳ` is a polynomial and `2ⁿ` is written into the exponent.
#[inline(always)]
pub(super) fn exp<L: Level>(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LOWEST: f32 = -87.336_54;
    // ln 2 in two parts, the first short enough that its product with n is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons let a NaN through, which `max` would not.
    let bounded = if x < LOWEST { LOWEST } else { x };
    let bounded = if bounded > 88.0 { 88.0 } else { bounded };
    let shifted = fma::<L>(bounded, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<L>(n, -LN_2_LOW, fma::<L>(n, -LN_2_HIGH, bounded));
    let mut p = EXP[EXP.len() - 1];
    for c in EXP.iter().rev().skip(1) {
        p = fma::<L>(p, r, *c);
    }
    let power = fma::<L>(r * r, p, r) + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < LOWEST { 0.0 } else { power * scale }
}

// ---- Matrix product

/// A matrix that is read number by number: rows `row` apart and columns `column` apart.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub column: usize,
}

/// `c = a b`, or `c += a b`, for `c` of `[rows, columns]` and a sum of `inner` terms.
///
/// `b` and `c` have whole rows, `b_row` and `c_row` apart; `columns` is a multiple of [`LANES`].
#[inline(always)]
pub(super) fn product<L: Level>(
    [rows, inner, columns]: [usize; 3],
    a: Strided,
    (b, b_row): (&[f32], usize),
    (c, c_row): (&mut [f32], usize),
    accumulate: bool,
) {
    let mut row = 0;
    while row < rows {
        let a = Strided { values: &a.values[row * a.row..], ..a };
        let c = &mut c[row * c_row..];
        let four = rows - row >= 4;
        let mut column = 0;
        while column < columns {
            let (b, c) = (&b[column..], &mut c[column..]);
            let wide = L::ROOMY && columns - column >= 2 * LANES;
            match (four, wide) {
                (true, true) => tile::<L, 4, 2>(inner, a, (b, b_row), (c, c_row), accumulate),
                (true, false) => tile::<L, 4, 1>(inner, a, (b, b_row), (c, c_row), accumulate),
                (false, true) => tile::<L, 1, 2>(inner, a, (b, b_row), (c, c_row), accumulate),
                (false, false) => tile::<L, 1, 1>(inner, a, (b, b_row), (c, c_row), accumulate),
            }
            column += if wide { 2 * LANES } else { LANES };
        }
        row += if four { 4 } else { 1 };
    }
}

/// `R` rows and `W` registers of columns of [`product`], which stay in registers over the whole sum.
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
    let mut sums = [[[0.0_f32; LANES]; W]; R];
    for k in 0..inner {
        let mut terms = [[0.0_f32; LANES]; W];
        let line = &b[k * b_row..k * b_row + W * LANES];
        for w in 0..W {
            terms[w].copy_from_slice(&line[w * LANES..(w + 1) * LANES]);
        }
        for r in 0..R {
            let factor = a.values[r * a.row + k * a.column];
            for w in 0..W {
                for lane in 0..LANES {
                    sums[r][w][lane] = fma::<L>(factor, terms[w][lane], sums[r][w][lane]);
                }
            }
        }
    }
    for r in 0..R {
        let line = &mut c[r * c_row..r * c_row + W * LANES];
        for w in 0..W {
            for lane in 0..LANES {
                let at = w * LANES + lane;
                line[at] = if accumulate { line[at] + sums[r][w][lane] } else { sums[r][w][lane] };
            }
        }
    }
}

// ---- Threads

/// Runs `work` on each of `parts`, on all threads if `parallel`. The parts are independent, so their order is free.
pub(super) fn for_each<T: Send>(parts: impl Iterator<Item = T>, parallel: bool, work: impl Fn(T) + Send + Sync) {
    #[cfg(feature = "native")]
    if parallel {
        use rayon::prelude::*;
        let parts: Vec<T> = parts.collect();
        return parts.into_par_iter().for_each(work);
    }
    let _ = parallel;
    parts.for_each(work);
}

// ---- Tensors

/// The tensor in rows, with its numbers next to each other in memory.
pub(super) fn contiguous(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The numbers of a contiguous tensor, or `None` if they are no `f32`.
pub(super) fn numbers(tensor: &FloatTensor<Flex>) -> Option<&[f32]> {
    tensor.as_slice::<f32>()
}

/// A tensor of `values`.
pub(super) fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Flex> {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// The numbers of `tensor`, if nobody else holds them: then a result may overwrite them.
pub(super) fn exclusive(tensor: &mut FloatTensor<Flex>) -> Option<&mut [f32]> {
    let elements = tensor.shape().num_elements();
    if tensor.dtype() != DType::F32 || !tensor.is_contiguous() || tensor.layout().start_offset() != 0 {
        return None;
    }
    tensor.try_storage_mut::<f32>()?.get_mut(..elements)
}
