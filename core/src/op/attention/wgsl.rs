//! The launches of the three passes.

use burn::backend::DType;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::portable::{self, WithLse};
use super::{Attention, AttentionGradient};
use crate::op::gpu::{
    ROW_REDUCE, SIDES, Scalar, Shader, Sizes, TILE, TILE_THREADS, contiguous, gangs, launch, launch_tiled, output,
    output_of, takes, tile_fits, tiled, wgsl, wgsl_element,
};

/// The text that all passes of attention and of its maps share.
pub(in crate::op) const PLACE: &str = wgsl!("attention_place.wgsl");

/// The text that the backward passes of attention and of its maps share.
pub(in crate::op) const GRADIENT: &str = wgsl!("attention_gradient.wgsl");

/// The widest head of the WGSL path. The sums over channels of a wider head would not stay in registers.
pub const WIDEST_HEAD: usize = 128;

/// The three passes.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    BackwardQuery,
    BackwardKey,
}

impl Pass {
    fn fits(self, side: usize, head_size: usize) -> bool {
        tile_fits(side, head_size * if matches!(self, Pass::BackwardKey) { 2 } else { 1 })
    }

    /// The name of its file, without the extension.
    fn file(self) -> &'static str {
        match self {
            Pass::Forward => "attention",
            Pass::BackwardQuery => "attention_backward_query",
            Pass::BackwardKey => "attention_backward_key",
        }
    }

    /// Only the forward pass accepts a `dtype` other than `F32`.
    fn shader(self, head_size: usize, side: usize, dtype: DType) -> Shader {
        let texts: &'static [&'static str] = match self {
            Pass::Forward => &[wgsl!("attention.wgsl"), PLACE, TILE, ROW_REDUCE],
            Pass::BackwardQuery => &[wgsl!("attention_backward_query.wgsl"), GRADIENT, PLACE, TILE, ROW_REDUCE],
            Pass::BackwardKey => &[wgsl!("attention_backward_key.wgsl"), GRADIENT, PLACE, TILE],
        };
        let shader = tiled(Shader::new(self.file(), texts, TILE_THREADS).value("head_size", head_size), side);
        match self {
            Pass::Forward => shader.elements(dtype).over_few_lanes(),
            Pass::BackwardQuery => shader.flag("map", false).over_few_lanes(),
            Pass::BackwardKey => shader.flag("map", false),
        }
    }

    /// Launches the pass over `buffers`, with a gang of invocations for each image, head and tile of rows.
    fn launch(self, shape: [usize; 5], buffers: &[&CubeTensor], scale: f32) {
        let [batch, tokens, _, heads, head_size] = shape;
        let half = buffers[0].dtype == DType::F16;
        let sizes = Sizes { pass: self.file(), numbers: head_size, tokens, times: batch * heads, half };
        launch_tiled(
            sizes,
            buffers,
            move |side| self.fits(side, head_size),
            move |side, buffers| {
                let tiles = batch * heads * tokens.div_ceil(side);
                let scalars = [Scalar::Count(tokens), Scalar::Count(heads), Scalar::Count(tiles), Scalar::Real(scale)];
                launch(self.shader(head_size, side, buffers[0].dtype), tiles.div_ceil(gangs(side)), buffers, &scalars);
            },
        );
    }
}

/// Whether the shaders accept heads of this width.
pub(in crate::op) fn fits(head_size: usize) -> bool {
    (1..=WIDEST_HEAD).contains(&head_size)
}

/// Every instance, for common head sizes.
pub(in crate::op) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for head_size in [1, 7, 16, 32, 48, 64, 80, 128] {
        for pass in [Pass::Forward, Pass::BackwardQuery, Pass::BackwardKey] {
            for side in SIDES.into_iter().filter(|&side| pass.fits(side, head_size)) {
                for dtype in [DType::F32, DType::F16] {
                    let shader = pass.shader(head_size, side, dtype);
                    if !shaders.contains(&shader) {
                        shaders.push(shader);
                    }
                }
            }
        }
    }
    shaders
}

impl Attention for CubeBackend {
    fn attention_forward(qkv: FloatTensor<Self>, scale: f32) -> WithLse<Self> {
        let shape @ [batch, tokens, _, heads, head_size] = qkv.meta.shape().dims();
        if wgsl_element(fits(head_size), &[&qkv]).is_none() {
            return portable::forward::<CubeBackend>(qkv, scale);
        }
        let qkv = contiguous(qkv);
        let out = output_of(qkv.dtype, &qkv, [batch, tokens, heads, head_size]);
        let lse = output(&qkv, [batch, heads, tokens]);
        Pass::Forward.launch(shape, &[&qkv, &out, &lse], scale);
        (out, lse)
    }
}

impl AttentionGradient for CubeBackend {
    fn attention_backward(
        qkv: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        d_out: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let shape @ [batch, tokens, _, heads, head_size] = qkv.meta.shape().dims();
        if !takes(fits(head_size), &[&qkv, &out, &lse, &d_out]) {
            return portable::backward::<CubeBackend>(qkv, out, lse, d_out, scale);
        }
        let [qkv, out, lse, d_out] = [qkv, out, lse, d_out].map(contiguous);
        let d_qkv = output(&qkv, shape);
        let delta = output(&qkv, [batch, heads, tokens]);
        Pass::BackwardQuery.launch(shape, &[&qkv, &out, &lse, &d_out, &d_qkv, &delta], scale);
        Pass::BackwardKey.launch(shape, &[&qkv, &lse, &d_out, &delta, &d_qkv], scale);
        d_qkv
    }
}
