//! The launches: the map or its difference, and the two backward passes.

use burn::backend::Shape;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::portable::{self, Difference, scale};
use super::{AttentionMap, AttentionMapGradient};
use crate::op::attention::wgsl::{GRADIENT, PLACE, fits};
use crate::op::gpu::{
    ROW_REDUCE, SIDES, Scalar, Shader, Sizes, TILE, TILE_THREADS, contiguous, gangs, launch, launch_tiled, output,
    takes, tile_fits, tiled, wgsl,
};

/// The passes.
#[derive(Clone, Copy)]
enum Pass {
    /// The map.
    Map,
    /// E, and the sums of its squares along each row of a tile.
    Difference,
    Query,
    Key,
}

impl Pass {
    /// The name of its file, without the extension.
    fn file(self) -> &'static str {
        match self {
            Pass::Map | Pass::Difference => "attention_map",
            Pass::Query => "attention_map_backward_query",
            Pass::Key => "attention_map_backward_key",
        }
    }

    /// Whether its invocations go over the tiles of all pairs of rows and over all heads. Otherwise they go over the rows of each
    /// head.
    fn over_pairs(self) -> bool {
        matches!(self, Pass::Map | Pass::Difference)
    }

    fn fits(self, side: usize, head_size: usize) -> bool {
        self.over_pairs() || tile_fits(side, head_size)
    }

    fn shader(self, head_size: usize, side: usize) -> Shader {
        const MAP: &[&str] = &[wgsl!("attention_map.wgsl"), PLACE, TILE, ROW_REDUCE];
        const QUERY: &[&str] = &[wgsl!("attention_map_backward_query.wgsl"), GRADIENT, PLACE, TILE, ROW_REDUCE];
        const KEY: &[&str] = &[wgsl!("attention_map_backward_key.wgsl"), GRADIENT, PLACE, TILE];
        let shader = |texts| tiled(Shader::new(self.file(), texts, TILE_THREADS).value("head_size", head_size), side);
        match self {
            Pass::Map => shader(MAP).flag("against", false).over_few_lanes(),
            Pass::Difference => shader(MAP).flag("against", true).over_few_lanes(),
            Pass::Query => shader(QUERY).flag("map", true).over_few_lanes(),
            Pass::Key => shader(KEY).flag("map", true),
        }
    }

    fn sizes(self, [batch, tokens, _, heads, head_size]: [usize; 5]) -> Sizes {
        let (numbers, times) = if self.over_pairs() { (heads * head_size, 1) } else { (head_size, heads) };
        Sizes { pass: self.file(), numbers, tokens, times: batch * times, half: false }
    }

    /// Launches the pass with tiles of `side` rows. There is a gang of invocations for each image and pair of tiles, or for each
    /// image, head and tile.
    fn launch_tiles(self, [batch, tokens, _, heads, head_size]: [usize; 5], side: usize, buffers: &[&CubeTensor]) {
        let across = tokens.div_ceil(side);
        let tiles = batch * across * if self.over_pairs() { across } else { heads };
        let scale = Scalar::Real(scale(head_size));
        let scalars = [Scalar::Count(tokens), Scalar::Count(heads), Scalar::Count(tiles), scale];
        launch(self.shader(head_size, side), tiles.div_ceil(gangs(side)), buffers, &scalars);
    }

    fn launch(self, shape: [usize; 5], buffers: &[&CubeTensor]) {
        launch_tiled(
            self.sizes(shape),
            buffers,
            move |side| self.fits(side, shape[4]),
            move |side, buffers| self.launch_tiles(shape, side, buffers),
        );
    }
}

/// Whether the shaders accept queries and keys of this shape, and their map.
fn fits_map([batch, tokens, .., head_size]: [usize; 5]) -> bool {
    fits(head_size) && batch.saturating_mul(tokens).saturating_mul(tokens) <= i32::MAX as usize
}

/// Every instance, for common head sizes.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for head_size in [1, 7, 16, 32, 48, 64, 80, 128] {
        for side in SIDES {
            let passes = [Pass::Map, Pass::Difference, Pass::Query, Pass::Key];
            let fitting = passes.into_iter().filter(|pass| pass.fits(side, head_size));
            shaders.extend(fitting.map(|pass| pass.shader(head_size, side)));
        }
    }
    shaders
}

impl AttentionMap for CubeBackend {
    fn attention_map(qkv: FloatTensor<Self>, lse: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape @ [batch, tokens, ..] = qkv.meta.shape().dims::<5>();
        if !takes(fits_map(shape), &[&qkv, &lse]) {
            return portable::map::<CubeBackend>(qkv, lse);
        }
        let [qkv, lse] = [qkv, lse].map(contiguous);
        let map = output(&qkv, [batch, tokens, tokens]);
        Pass::Map.launch(shape, &[&qkv, &lse, &map]);
        map
    }

    fn map_difference_forward(
        qkv: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        target: FloatTensor<Self>,
    ) -> Difference<Self> {
        let shape @ [batch, tokens, ..] = qkv.meta.shape().dims::<5>();
        if !takes(fits_map(shape), &[&qkv, &lse, &target]) {
            return portable::forward::<CubeBackend>(qkv, lse, target);
        }
        let [qkv, lse, target] = [qkv, lse, target].map(contiguous);
        let e = output(&qkv, [batch, tokens, tokens]);
        // The tiles decide how many sums a row has, so a count chooses them.
        let side = Pass::Difference.sizes(shape).counted(|_| true);
        let parts = output(&qkv, [batch, tokens.div_ceil(side), tokens]);
        Pass::Difference.launch_tiles(shape, side, &[&qkv, &lse, &target, &e, &parts]);
        let rows = if tokens > side { CubeBackend::float_sum_dim(parts, 1) } else { parts };
        (CubeBackend::float_reshape(rows, Shape::new([batch, tokens])), e)
    }
}

impl AttentionMapGradient for CubeBackend {
    fn map_difference_backward(
        qkv: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        e: FloatTensor<Self>,
        d_rows: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let shape @ [batch, tokens, _, heads, _] = qkv.meta.shape().dims();
        if !takes(fits_map(shape), &[&qkv, &lse, &e, &d_rows]) {
            return portable::backward::<CubeBackend>(qkv, lse, e, d_rows);
        }
        let [qkv, lse, e, d_rows] = [qkv, lse, e, d_rows].map(contiguous);
        let d_qkv = output(&qkv, shape);
        let delta = output(&qkv, [batch, heads, tokens]);
        Pass::Query.launch(shape, &[&qkv, &lse, &e, &d_rows, &d_qkv, &delta]);
        Pass::Key.launch(shape, &[&qkv, &lse, &e, &d_rows, &delta, &d_qkv]);
        d_qkv
    }
}
