//! Random numbers from a key, not from a stream.
//!
//! A shared generator makes every sample depend on all that were drawn before it, so that a resume, another worker or
//! a reordered epoch changes the data. Here each sample opens its own generator, keyed by (seed, epoch, index,
//! purpose), and two keys that differ in any part give unrelated numbers. All arithmetic is on `u64` or IEEE `f64`
//! with `libm`, so every platform draws the same bits.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, 2014) read as a counter: number `k` of a key is
//! `mix(key + k * GAMMA)`, where `mix` is Stafford's 13th variant of the MurmurHash3 finaliser and GAMMA is 2^64
//! divided by the golden ratio, made odd.

/// What the numbers are for: two uses of one sample in one epoch must not draw the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Order of an epoch.
    Order = 1,
    /// Choice of a subset.
    Subset = 2,
    /// Training augmentation.
    Augment = 3,
    /// Shape of a training digit.
    DigitsTrain = 4,
    /// Shape of a held-out digit.
    DigitsTest = 5,
    /// Mixing of samples.
    Mix = 6,
    /// Bytes for tests.
    Test = 7,
    /// Initial values of a network's parameters.
    Parameters = 8,
    /// Residual branches dropped in a step.
    DropPath = 9,
    /// Elements dropped in a step.
    Dropout = 10,
    /// Labels that are replaced.
    Labels = 11,
    /// Samples that are held out of a set without a part for it.
    HeldOut = 12,
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A bijection of `u64` in which every input bit reaches every output bit.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The generator of one key.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
    /// The second number of the last Box-Muller pair.
    spare: Option<f64>,
}

impl Rng {
    /// Opens the generator of a key.
    pub const fn new(seed: u64, epoch: u64, index: u64, purpose: Purpose) -> Self {
        // Each part is absorbed and mixed before the next, so (1, 2) and (2, 1) part ways.
        let mut key = mix(seed.wrapping_add(GAMMA));
        key = mix((key ^ epoch).wrapping_add(GAMMA));
        key = mix((key ^ index).wrapping_add(GAMMA));
        key = mix((key ^ purpose as u64).wrapping_add(GAMMA));
        Self { state: key, spare: None }
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-24.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
    }

    /// Uniform between `low` and `high`.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Normal with mean 0 and deviation 1, by Box and Muller. At most 8.6 in size.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// Gamma of the given shape, above 0, and scale 1, by Marsaglia and Tsang (2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // A larger shape's, times u^(1 / shape). The uniform is in (0, 1].
            let uniform = 1.0 - self.uniform();
            return self.gamma(shape + 1.0) * libm::pow(uniform, 1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            if libm::log(1.0 - self.uniform()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Beta of the given shapes, above 0: from 0 to 1.
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        // Of tiny shapes both may round to 0.
        if x + y > 0.0 { x / (x + y) } else { f64::from(u8::from(self.chance(a / (a + b)))) }
    }

    /// Uniform among `0..n` without bias, by Lemire's multiplication with rejection; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // The first 2^64 mod n low halves of each interval would be drawn once too often.
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Puts a slice into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for last in (1..slice.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            slice.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_matches_the_published_sequence() {
        // Seed 1234567: the first numbers of the reference implementation.
        let mut rng = Rng { state: 1234567, spare: None };
        let expected = [6457827717110365317u64, 3203168211198807973, 9817491932198370423];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let first = |a, b, c, p| Rng::new(a, b, c, p).next_u64();
        let base = first(1, 2, 3, Purpose::Order);
        assert_eq!(base, first(1, 2, 3, Purpose::Order));
        for other in [
            first(2, 2, 3, Purpose::Order),
            first(1, 3, 3, Purpose::Order),
            first(1, 2, 4, Purpose::Order),
            first(1, 2, 3, Purpose::Subset),
            first(2, 1, 3, Purpose::Order),
            first(1, 3, 2, Purpose::Order),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn moments_are_right() {
        let mut rng = Rng::new(0, 0, 0, Purpose::Test);
        let n = 100_000;
        let (mut sum, mut squares, mut uniform) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let z = rng.normal();
            sum += z;
            squares += z * z;
            let u = rng.uniform();
            assert!((0.0..1.0).contains(&u));
            uniform += u;
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.02);
        assert!((squares / n - 1.0).abs() < 0.02);
        assert!((uniform / n - 0.5).abs() < 0.005);
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut rng = Rng::new(0, 0, 1, Purpose::Test);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (9_500..10_500).contains(c)), "{counts:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }
}
