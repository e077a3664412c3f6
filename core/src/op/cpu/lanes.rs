//! Vector instructions, short sums and an exponential.
//!
//! Why: a release build targets the oldest machine of its architecture, and each of Flex's element-wise operations is a pass over
//! memory. Here a whole operation is one [`Task`]. It is compiled twice, for the oldest machine and for one with 8-wide fused
//! multiply-adds, and the better version is chosen at run time. Inner loops are plain Rust over arrays of [`LANES`] numbers,
//! which the compiler turns into vector instructions. This also works for WebAssembly's 128 bits.
//!
//! Invariants: everything that a task calls is `#[inline(always)]`, otherwise it would be compiled for the oldest machine. Every
//! sum has one order.

#[cfg(target_family = "wasm")]
use std::arch::wasm32::{self, v128};

/// Numbers in one step of an inner loop: one 256-bit register.
pub(in crate::op) const LANES: usize = 8;

/// What the code may assume about the machine.
pub(in crate::op) trait Level: Copy + Send + Sync {
    /// Whether a multiply-add is one instruction. Otherwise it would be a function call.
    const FUSED: bool;
    /// Whether the registers hold 4 rows of 2 [`LANES`] sums in addition to the factors.
    const ROOMY: bool;
}

#[derive(Clone, Copy)]
pub(in crate::op) struct Plain;
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(in crate::op) struct Fused;

impl Level for Plain {
    // AArch64 has fused instructions on every machine.
    const FUSED: bool = cfg!(target_arch = "aarch64");
    // AArch64 has 32 registers of 128 bits. WebAssembly and the oldest x86-64 have in effect 16.
    const ROOMY: bool = cfg!(target_arch = "aarch64");
}

#[cfg(target_arch = "x86_64")]
impl Level for Fused {
    const FUSED: bool = true;
    const ROOMY: bool = true;
}

/// A piece of work that is compiled for each [`Level`]. Mark `run` with `#[inline(always)]`.
pub(in crate::op) trait Task {
    type Output;
    fn run<L: Level>(self) -> Self::Output;
}

/// Runs `task` with the widest instructions of this machine.
pub(in crate::op) fn run<T: Task>(task: T) -> T::Output {
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
pub(in crate::op) fn fma<L: Level>(a: f32, b: f32, c: f32) -> f32 {
    if L::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// [`LANES`] numbers in registers.
#[cfg(not(target_family = "wasm"))]
#[derive(Clone, Copy)]
pub(in crate::op) struct Register([f32; LANES]);

#[cfg(not(target_family = "wasm"))]
impl Register {
    #[inline(always)]
    pub fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    pub fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    pub fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    /// `a b + c`.
    #[inline(always)]
    pub fn times_plus<L: Level>(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|lane| fma::<L>(self.0[lane], b.0[lane], c.0[lane])))
    }
}

/// The same for WebAssembly. It names the instructions, since the compiler does not reliably find them in the loops above.
#[cfg(target_family = "wasm")]
#[derive(Clone, Copy)]
pub(in crate::op) struct Register([v128; 2]);

#[cfg(target_family = "wasm")]
impl Register {
    #[inline(always)]
    pub fn splat(x: f32) -> Self {
        Self([wasm32::f32x4_splat(x); 2])
    }

    #[inline(always)]
    pub fn load(from: &[f32; LANES]) -> Self {
        let from = std::ptr::from_ref(from).cast::<v128>();
        // SAFETY: eight numbers are two vectors, and vectors need no alignment.
        unsafe { Self([wasm32::v128_load(from), wasm32::v128_load(from.add(1))]) }
    }

    #[inline(always)]
    pub fn store(self, to: &mut [f32; LANES]) {
        let to = std::ptr::from_mut(to).cast::<v128>();
        // SAFETY: as above.
        unsafe {
            wasm32::v128_store(to, self.0[0]);
            wasm32::v128_store(to.add(1), self.0[1]);
        }
    }

    /// `a b + c`.
    #[inline(always)]
    pub fn times_plus<L: Level>(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|half| wasm32::f32x4_add(wasm32::f32x4_mul(self.0[half], b.0[half]), c.0[half])))
    }
}

/// `Σ term(i)` over slices of equal length. `term` gets the running sum and adds to it.
#[inline(always)]
pub(in crate::op) fn fold2(a: &[f32], b: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
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

/// The sum of the lanes, by adding halves.
#[inline(always)]
pub(in crate::op) fn total<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest number of a slice whose length is a multiple of [`LANES`]. NaN is ignored.
#[inline(always)]
pub(in crate::op) fn largest(values: &[f32]) -> f32 {
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

/// `eˣ` for `x` up to 88, with a relative error of at most 1.2e-7. It is 0 if `eˣ` is not a normal number, and NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `eʳ` is a polynomial and `2ⁿ` is written into the exponent.
#[inline(always)]
pub(in crate::op) fn exp<L: Level>(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LOWEST: f32 = -87.336_54;
    // ln 2 in two parts. The first is short enough that its product with n is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // A comparison keeps a NaN; `max` would not.
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
