//! The number of rows in a tile of attention or of its maps. A count of the work chooses it, or a measurement on the device.
//!
//! Why measure: tiles of 32 rows read memory least often, and tiles of 8 leave the fewest invocations idle. Which matters more
//! depends on the registers, the caches and the latency hiding of the device. A count does not know these.
//!
//! If a pass meets new sizes and has enough work, cubecl's tuner runs it with each tile that fits, and uses the fastest. It does
//! the same for Burn's matrix products. With the feature `autotune-cache`, the result is kept on disk for each device, and later
//! processes use it.
//!
//! Invariants
//! * A pass is counted, not measured, if the shape of its results depends on its tiles.
//! * A launch writes all of its results and reads none of them, so it can be repeated.
//! * Tiles decide the order of a sum. Measured tiles give the same bits only after the measurement.

use burn::backend::wgpu::CubeTensor;

#[cfg(feature = "autotune")]
use super::choice::{Tiles, choice};
use super::shader::{Shader, wgsl};

/// The possible numbers of rows in a tile.
pub(in crate::op) const SIDES: [usize; 3] = [32, 16, 8];

/// The text that shaders share which work on tiles in registers.
pub(in crate::op) const TILE: &str = wgsl!("tile.wgsl");

/// Invocations of a workgroup of such a shader, with any tiles.
pub(in crate::op) const TILE_THREADS: usize = 64;

/// Fills the placeholders of [`TILE`], for tiles of `side` rows: 8, 16 or 32.
pub(in crate::op) fn tiled(shader: Shader, side: usize) -> Shader {
    // Counted in reads of four rows. An odd pitch spreads neighbouring channels over the banks. For 8 rows it would not fit into
    // 16 KiB.
    let pitch = if side == 8 { 2 } else { side / 4 + 1 };
    shader.value("side", side).value("pitch", pitch)
}

/// Gangs of invocations in a workgroup of such a shader. Each works on its own tile.
pub(in crate::op) fn gangs(side: usize) -> usize {
    TILE_THREADS / (side / 4).pow(2)
}

/// Whether a tile of `side` rows fits into registers if each row has `sums` sums over channels. An invocation holds 4 x 4 scores
/// and a share of the sums. The smaller the tile, the larger this share, and more than 128 numbers would not stay in registers.
/// Tiles of 32 rows always count as fitting.
pub(in crate::op) fn tile_fits(side: usize, sums: usize) -> bool {
    // (side / 4)² invocations share a tile of `side` rows. Each has 4 rows of sums / (side / 4) numbers.
    side == 32 || 4 * sums.div_ceil(side / 4) <= 128
}

/// A pass over tiles, with the sizes that determine its work.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "autotune"), expect(dead_code, reason = "what is counted depends on the tokens alone"))]
pub(in crate::op) struct Sizes {
    /// The name of the pass's file.
    pub pass: &'static str,
    /// Length of the rows that are compared: the numbers of one head, or of all heads.
    pub numbers: usize,
    /// Rows that are compared with each other.
    pub tokens: usize,
    /// Number of such comparisons: the heads of all images, or the images.
    pub times: usize,
    /// Whether the elements are `f16`.
    pub half: bool,
}

impl Sizes {
    /// The rows of a tile by a count, among the tiles that fit; 32 if none fits. Rows past the last token are wasted work, and
    /// small tiles load each row more often. The cost of tiles with `side` rows is the number of computed scores times
    /// `1 + 8 / side`. This factor is an estimate.
    pub fn counted(&self, fits: impl Fn(usize) -> bool) -> usize {
        let cost = |side: usize| self.tokens.next_multiple_of(side).pow(2) * (side + 8) / side;
        SIDES.into_iter().filter(|&side| fits(side)).min_by_key(|&side| cost(side)).unwrap_or(32)
    }
}

/// Calls `launch` for a pass over `buffers`. The device's [`Tiles`] decide the rows of a tile, among the tiles that fit.
pub(in crate::op) fn launch_tiled(
    sizes: Sizes,
    buffers: &[&CubeTensor],
    fits: impl Fn(usize) -> bool + Send + Sync + 'static,
    launch: impl Fn(usize, &[&CubeTensor]) + Send + Sync + 'static,
) {
    #[cfg(feature = "autotune")]
    if choice(&buffers[0].device).tiles == Tiles::Measured && measured::worth(&sizes) {
        let owned: Vec<_> = buffers.iter().map(|&buffer| buffer.clone()).collect();
        return measured::launch_fastest(sizes, buffers[0], move |side| {
            if !fits(side) {
                return Err("tiles of so few rows do not fit the registers");
            }
            launch(side, &owned.iter().collect::<Vec<_>>());
            Ok(())
        });
    }
    launch(sizes.counted(fits), buffers);
}

#[cfg(feature = "autotune")]
mod measured {
    use std::borrow::Cow;
    use std::fmt;
    use std::sync::Arc;

    use burn::backend::wgpu::CubeTensor;
    use burn::cubecl::CubeTuneId;
    use burn::cubecl::tune::{AutotuneKey, LocalTuner, Tunable, TunableSet, local_tuner};
    use serde::{Deserialize, Serialize};

    use super::{SIDES, Sizes};

    /// Whether a product has at least 4 million multiply-adds. A smaller launch takes a GPU no longer than the launch itself, and
    /// is counted.
    pub fn worth(sizes: &Sizes) -> bool {
        sizes.times * sizes.tokens * sizes.tokens * sizes.numbers >= 1 << 22
    }

    /// The key of a measurement, also on disk. `times` is rounded up to a power of two.
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Key {
        pass: Cow<'static, str>,
        numbers: usize,
        tokens: usize,
        times: usize,
        half: bool,
    }

    impl From<Sizes> for Key {
        fn from(Sizes { pass, numbers, tokens, times, half }: Sizes) -> Self {
            Self { pass: pass.into(), numbers, tokens, times: times.next_power_of_two(), half }
        }
    }

    impl fmt::Display for Key {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self { pass, numbers, tokens, times, half } = self;
            write!(f, "{pass}, {times} times {tokens} x {numbers}, {}", if *half { "f16" } else { "f32" })
        }
    }

    impl AutotuneKey for Key {}

    /// A launch with tiles of this many rows, or an error if they do not fit.
    type Launch = Arc<dyn Fn(usize) -> Result<(), &'static str> + Send + Sync>;

    /// Launches with the fastest tiles on the device of `like`. They are measured first if they are not known.
    pub fn launch_fastest(
        sizes: Sizes,
        like: &CubeTensor,
        launch: impl Fn(usize) -> Result<(), &'static str> + Send + Sync + 'static,
    ) {
        static TUNER: LocalTuner<Key, CubeTuneId> = local_tuner!("tiles");

        let id = CubeTuneId::new(&like.client, &like.device);
        let set = TUNER.init(&id, || {
            let set = TunableSet::new(
                |(key, _): &(Key, Launch)| key.clone(),
                |_: &Key, inputs: &(Key, Launch)| inputs.clone(),
            );
            SIDES.into_iter().fold(set, |set, side| {
                set.with(Tunable::new(&format!("{side} rows"), move |(_, launch): (Key, Launch)| launch(side)))
            })
        });
        TUNER.execute(&id, &like.client, set, (Key::from(sizes), Arc::new(launch)));
    }
}
