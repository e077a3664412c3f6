//! How many rows a tile of attention has: by a count of the work, or by what was measured on the device.
//!
//! Why measured: tiles of 32 rows read memory least often and tiles of 8 leave the fewest invocations idle, and what weighs
//! more depends on a device's registers, caches and ways to hide waiting, which no count knows.
//!
//! A pass that meets new sizes, and has enough to do, is run with each tile that can hold them, by cubecl's tuner, as Burn's
//! matrix products are. The fastest is kept on disk by device, so a later process finds it there.
//!
//! Invariants
//! * A launch writes all of its results and reads none of them, so it can be run again.
//! * Tiles decide in which order a sum is taken: measured ones give the same bits only after they have been measured.

use std::sync::OnceLock;

/// How the tiles of a pass are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tiles {
    /// The least work by a count, on every device the same.
    #[default]
    Counted,
    /// The fastest on the device, measured at the first launch on new sizes.
    Measured,
}

static TILES: OnceLock<Tiles> = OnceLock::new();

/// Has the kernels of this process take `tiles`, and says whether they do: the first word stands, and launching a kernel
/// before says [`Tiles::Counted`]. Without the feature `autotune`, as in a browser, that is the only one.
pub fn choose_tiles(tiles: Tiles) -> bool {
    (cfg!(feature = "autotune") || tiles == Tiles::Counted) && *TILES.get_or_init(|| tiles) == tiles
}

/// What was chosen.
pub fn tiles() -> Tiles {
    *TILES.get_or_init(Tiles::default)
}

/// The rows that a tile may have.
pub(super) const SIDES: [usize; 3] = [32, 16, 8];

#[cfg(feature = "autotune")]
pub(super) use measured::{Sizes, WORTH_MEASURING, launch_fastest};

#[cfg(feature = "autotune")]
mod measured {
    use std::borrow::Cow;
    use std::fmt;
    use std::sync::Arc;

    use burn::backend::wgpu::CubeTensor;
    use burn::cubecl::CubeTuneId;
    use burn::cubecl::tune::{AutotuneKey, LocalTuner, Tunable, TunableSet, local_tuner};
    use serde::{Deserialize, Serialize};

    use super::SIDES;

    /// Multiply-adds of a product below which a launch takes a GPU little more than being launched: those are counted.
    pub const WORTH_MEASURING: usize = 1 << 22;

    /// What a measurement holds for.
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct Sizes {
        /// The pass, by its file's name.
        pub pass: Cow<'static, str>,
        /// Numbers of a row.
        pub head_size: usize,
        /// Rows.
        pub tokens: usize,
        /// Heads of all images, up to the next power of two.
        pub heads: usize,
        /// Whether elements are of `f16`.
        pub half: bool,
    }

    impl fmt::Display for Sizes {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self { pass, head_size, tokens, heads, half } = self;
            write!(f, "{pass}, {heads} heads of {tokens} x {head_size}, {}", if *half { "f16" } else { "f32" })
        }
    }

    impl AutotuneKey for Sizes {}

    /// A launch with tiles of so many rows; an error says that they do not fit.
    type Launch = Arc<dyn Fn(usize) -> Result<(), &'static str> + Send + Sync>;

    /// Launches with the tiles that are fastest on the device of `like`, found out first if they are not known.
    pub fn launch_fastest(
        sizes: Sizes,
        like: &CubeTensor,
        launch: impl Fn(usize) -> Result<(), &'static str> + Send + Sync + 'static,
    ) {
        static TUNER: LocalTuner<Sizes, CubeTuneId> = local_tuner!("tiles");

        let id = CubeTuneId::new(&like.client, &like.device);
        let set = TUNER.init(&id, || {
            let set = TunableSet::new(
                |(sizes, _): &(Sizes, Launch)| sizes.clone(),
                |_: &Sizes, inputs: &(Sizes, Launch)| inputs.clone(),
            );
            SIDES.into_iter().fold(set, |set, side| {
                set.with(Tunable::new(&format!("{side} rows"), move |(_, launch): (Sizes, Launch)| launch(side)))
            })
        });
        TUNER.execute(&id, &like.client, set, (sizes, Arc::new(launch)));
    }
}
