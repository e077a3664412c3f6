//! How many rows a tile of attention or of its maps has: by a count of the work, or by what was measured on the device.
//!
//! Why measured: tiles of 32 rows read memory least often and tiles of 8 leave the fewest invocations idle, and what weighs
//! more depends on a device's registers, caches and ways to hide waiting, which no count knows.
//!
//! A pass that meets new sizes, and has enough to do, is run with each tile that can hold them, by cubecl's tuner, as Burn's
//! matrix products are. The fastest is kept on disk by device, so a later process finds it there.
//!
//! Invariants
//! * A pass whose results have a shape that follows from its tiles is counted.
//! * A launch writes all of its results and reads none of them, so it can be run again.
//! * Tiles decide in which order a sum is taken: measured ones give the same bits only after they have been measured.

use burn::backend::wgpu::CubeTensor;

#[cfg(feature = "autotune")]
use super::choice::{Tiles, choice};
use super::shader::{Shader, wgsl};

/// The rows that a tile may have.
pub(in crate::op) const SIDES: [usize; 3] = [32, 16, 8];

/// What shaders share that work on tiles of rows in registers.
pub(in crate::op) const TILE: &str = wgsl!("tile.wgsl");

/// Invocations of a workgroup of such a shader, whatever its tiles.
pub(in crate::op) const TILE_THREADS: usize = 64;

/// Fills what [`TILE`] asks for: tiles of `side` rows, which is 8, 16 or 32.
pub(in crate::op) fn tiled(shader: Shader, side: usize) -> Shader {
    // In reads of four rows. An odd pitch spreads neighbouring channels over the banks; of 8 rows it would not fit 16 KiB.
    let pitch = if side == 8 { 2 } else { side / 4 + 1 };
    shader.value("side", side).value("pitch", pitch)
}

/// Gangs of invocations in a workgroup of such a shader, each at work on a tile of its own.
pub(in crate::op) fn gangs(side: usize) -> usize {
    TILE_THREADS / (side / 4).pow(2)
}

/// Whether a tile of `side` rows fits the registers if each row has `sums` over channels. Its invocations hold 4 x 4 scores and
/// a share of the sums: small tiles leave each more of them, and past 128 numbers they would not stay there. Tiles of 32
/// rows are taken at any rate.
pub(in crate::op) fn tile_fits(side: usize, sums: usize) -> bool {
    // A tile of `side` rows is shared by (side / 4)² invocations, each with 4 rows of sums / (side / 4).
    side == 32 || 4 * sums.div_ceil(side / 4) <= 128
}

/// A pass over tiles, and the sizes that say how much work it is.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "autotune"), expect(dead_code, reason = "what is counted depends on the tokens alone"))]
pub(in crate::op) struct Sizes {
    /// The pass, by its file's name.
    pub pass: &'static str,
    /// Numbers of a row that are compared by one invocation: those of a head, or of all heads.
    pub numbers: usize,
    /// Rows that are compared with each other.
    pub tokens: usize,
    /// How many times: heads of all images, or images.
    pub times: usize,
    /// Whether elements are of `f16`.
    pub half: bool,
}

impl Sizes {
    /// Rows of a tile by a count, of those that `fits`, and 32 if none does. Rows past the last token are wasted work, and small
    /// tiles load each row more often: covering the tokens by `side` is counted as the scores that are made, times `1 + 8 /
    /// side`. That weight is an estimate.
    pub fn counted(&self, fits: impl Fn(usize) -> bool) -> usize {
        let cost = |side: usize| self.tokens.next_multiple_of(side).pow(2) * (side + 8) / side;
        SIDES.into_iter().filter(|&side| fits(side)).min_by_key(|&side| cost(side)).unwrap_or(32)
    }
}

/// Has `launch` launch a pass over `buffers` with tiles of as many rows as its device's [`Tiles`] say, of those that `fits`.
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

    /// Whether a product has so many multiply-adds, 4 million, that a launch takes a GPU more than being launched: others are
    /// counted.
    pub fn worth(sizes: &Sizes) -> bool {
        sizes.times * sizes.tokens * sizes.tokens * sizes.numbers >= 1 << 22
    }

    /// What a measurement holds for, as it is kept on disk: `times` up to the next power of two.
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

    /// A launch with tiles of so many rows; an error says that they do not fit.
    type Launch = Arc<dyn Fn(usize) -> Result<(), &'static str> + Send + Sync>;

    /// Launches with the tiles that are fastest on the device of `like`, found out first if they are not known.
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
