//! Attention of packed queries, keys and values, with a backward pass that keeps nothing of `N x N`.
//!
//! Why packed: the one linear layer before attention writes `[B, N, 3, H, D]`, so a kernel that reads that layout needs
//! one buffer and no copies of three, and its gradient goes back in the same layout.
//!
//! For each image and head, with rows `i` of queries and `j` of keys (Vaswani 2017, section 3.2.1):
//!
//! ```text
//! s_ij = scale * q_i . k_j      lse_i = log sum_j exp s_ij      p_ij = exp(s_ij - lse_i)      o_i = sum_j p_ij v_j
//! ```
//!
//! and backward, given `do` (Dao 2022, appendix B.2):
//!
//! ```text
//! delta_i = do_i . o_i        ds_ij = p_ij (do_i . v_j - delta_i)
//! dq_i = scale sum_j ds_ij k_j        dk_j = scale sum_i ds_ij q_i        dv_j = sum_i p_ij do_i
//! ```
//!
//! Invariants: the backward pass reads `qkv`, the output and one log-sum-exp a row, and computes the probabilities again.
//! The gradient of a query is summed by the query's owner, those of a key and a value by the key's: no sum has two
//! writers.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, AutodiffBackend, Backend, DType, Dispatch, Shape, Slice, TensorMetadata};
use burn::tensor::{FloatDType, Tensor};

use super::backend::KernelBackend;
use super::launch::{
    ROW_REDUCE, Scalar, Shader, TILE, TILE_THREADS, contiguous, gangs, launch, output, output_of, runs_wgsl, tiled,
    wgsl, wgsl_element,
};
use super::tiles::{SIDES, Sizes, launch_tiled};

/// What backward passes share, of attention and of its maps.
pub(super) const GRADIENT: &str = wgsl!("attention_gradient.wgsl");

/// The widest head of the WGSL path: of a wider one, the sums over channels would not stay in registers.
pub const WIDEST_HEAD: usize = 128;

/// Attention over packed queries, keys and values: `softmax(scale q kᵀ) v` of each head.
///
/// `qkv` is `[B, N, 3, H, D]`, as timm's one linear layer lays it out after a reshape; the result is `[B, N, H, D]`, ready
/// to be reshaped to `[B, N, H D]`. `scale` is `D^-0.5` in every known model. Any `N` and `D`; heads wider than 128 take
/// the portable definition on every device.
///
/// A row that meets a NaN, or a score of plus infinity, is NaN, as is its gradient; other rows of other heads are not
/// touched.
///
/// # Panics
/// If the third dimension is not 3.
pub fn attention(qkv: Tensor<5>, scale: f32) -> Tensor<4> {
    attention_with_levels(qkv, scale).0
}

/// The same, and the log-sum-exp of each row of scores, `[B, H, N]`, of `f32` also if `qkv` is of half precision: what
/// [`attention_map_loss`] needs to compute a probability on its own. No gradient flows to or through it.
///
/// # Panics
/// As [`attention`].
///
/// [`attention_map_loss`]: super::attention_map_loss
pub fn attention_with_levels(qkv: Tensor<5>, scale: f32) -> (Tensor<4>, Tensor<3>) {
    let [.., parts, heads, head_size] = qkv.dims();
    assert_eq!(
        parts, 3,
        "attention: qkv must be [B, N, 3, H, D], and here dimension 2 is {parts} (H = {heads}, D = {head_size})"
    );
    let (out, levels) = Dispatch::packed_attention(qkv.into_dispatch(), scale);
    (Tensor::from_dispatch(out), Tensor::from_dispatch(levels))
}

/// The type of sums over numbers of `dtype`: `F32` of half precision. In a browser, where nothing is of it, the same.
fn summed_in(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 if !cfg!(target_family = "wasm") => DType::F32,
        dtype => dtype,
    }
}

/// Shapes of the output and of the log-sum-exps, for the lazy stream.
#[cfg(feature = "fusion")]
pub(super) fn forward_specs(qkv: &TensorSpec, _scale: &f32) -> (TensorSpec, TensorSpec) {
    let [batch, tokens, _, heads, head_size] = qkv.shape.dims();
    (
        TensorSpec::new(Shape::new([batch, tokens, heads, head_size]), qkv.dtype),
        TensorSpec::new(Shape::new([batch, heads, tokens]), summed_in(qkv.dtype)),
    )
}

/// The output, of the type of `qkv`, and the log-sum-exps, of `f32` if `qkv` is of half precision.
pub(super) type WithLevels<B> = (FloatTensor<B>, FloatTensor<B>);

// ---- Portable definition

/// Queries, keys and values, each `[B, H, N, D]`.
pub(super) fn unpack<B: Backend>(qkv: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let qkv = B::float_permute(qkv, &[2, 0, 3, 1, 4]);
    [0, 1, 2].map(|part: usize| {
        let third = B::float_slice(qkv.clone(), &[Slice::from(part..part + 1)]);
        B::float_reshape(third, Shape::new([batch, heads, tokens, head_size]))
    })
}

/// Exchanges tokens and heads: `[B, N, H, D]` and `[B, H, N, D]`.
pub(super) fn swap<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(tensor, 1, 2)
}

pub(super) fn portable_forward<B: KernelBackend>(qkv: FloatTensor<B>, scale: f32) -> WithLevels<B> {
    let dtype = qkv.dtype();
    if summed_in(dtype) != dtype {
        let (out, lse) = B::packed_attention(B::float_cast(qkv, FloatDType::F32), scale);
        return (B::float_cast(out, dtype.into()), lse);
    }
    let [batch, tokens, _, heads, _] = qkv.shape().dims();
    let [q, k, v] = unpack::<B>(qkv);
    let scores = B::matmul(B::float_mul_scalar(q, scale.into()), B::float_transpose(k));
    let peak = B::float_max_dim(scores.clone(), 3);
    let weights = B::float_exp(B::float_sub(scores, peak.clone()));
    let sum = B::float_sum_dim(weights.clone(), 3);
    let out = B::float_div(B::matmul(weights, v), sum.clone());
    let lse = B::float_add(peak, B::float_log(sum));
    (swap::<B>(out), B::float_reshape(lse, Shape::new([batch, heads, tokens])))
}

pub(super) fn portable_backward<B: KernelBackend>(
    qkv: FloatTensor<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    d_out: FloatTensor<B>,
    scale: f32,
) -> FloatTensor<B> {
    let dtype = qkv.dtype();
    if summed_in(dtype) != dtype {
        let [qkv, out, d_out] = [qkv, out, d_out].map(|tensor| B::float_cast(tensor, FloatDType::F32));
        return B::float_cast(B::attention_backward(qkv, out, lse, d_out, scale), dtype.into());
    }
    let [batch, tokens, _, heads, head_size] = qkv.shape().dims();
    let delta = B::float_sum_dim(B::float_mul(d_out.clone(), out), 3);
    let (delta, d_out) = (swap::<B>(delta), swap::<B>(d_out));
    let lse = B::float_reshape(lse, Shape::new([batch, heads, tokens, 1]));
    let [q, k, v] = unpack::<B>(qkv);
    let q = B::float_mul_scalar(q, scale.into());
    let scores = B::matmul(q.clone(), B::float_transpose(k.clone()));
    let p = B::float_exp(B::float_sub(scores, lse));
    let dv = B::matmul(B::float_transpose(p.clone()), d_out.clone());
    let dp = B::matmul(d_out, B::float_transpose(v));
    let ds = B::float_mul(p, B::float_sub(dp, delta));
    let dk = B::matmul(B::float_transpose(ds.clone()), q);
    let dq = B::float_mul_scalar(B::matmul(ds, k), scale.into());
    let parts =
        [dq, dk, dv].map(|part| B::float_reshape(swap::<B>(part), Shape::new([batch, tokens, 1, heads, head_size])));
    B::float_cat(parts.into(), 2)
}

// ---- WGSL

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

    /// The name of its file, without the ending.
    fn file(self) -> &'static str {
        match self {
            Pass::Forward => "attention",
            Pass::BackwardQuery => "attention_backward_query",
            Pass::BackwardKey => "attention_backward_key",
        }
    }

    /// Only the forward pass takes another `dtype` than `F32`.
    fn shader(self, head_size: usize, side: usize, dtype: DType) -> Shader {
        let texts: &'static [&'static str] = match self {
            Pass::Forward => &[wgsl!("attention.wgsl"), TILE, ROW_REDUCE],
            Pass::BackwardQuery => &[wgsl!("attention_backward_query.wgsl"), GRADIENT, TILE, ROW_REDUCE],
            Pass::BackwardKey => &[wgsl!("attention_backward_key.wgsl"), GRADIENT, TILE],
        };
        let shader = tiled(Shader::new(self.file(), texts, TILE_THREADS).value("head_size", head_size), side);
        match self {
            Pass::Forward => shader.elements(dtype).over_few_lanes(),
            Pass::BackwardQuery => shader.flag("map", false).over_few_lanes(),
            Pass::BackwardKey => shader.flag("map", false),
        }
    }

    /// Launches the pass over `buffers`: a gang of invocations for each image, head and tile of rows.
    fn launch(self, shape: [usize; 5], buffers: &[&FloatTensor<CubeBackend>], scale: f32) {
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

/// Whether a tile of `side` rows fits the registers if each row has `sums` over channels. Its invocations hold 4 x 4 scores and
/// a share of the sums: small tiles leave each more of them, and past 128 numbers they would not stay there. Tiles of 32
/// rows are taken at any rate.
pub(super) fn tile_fits(side: usize, sums: usize) -> bool {
    // A tile of `side` rows is shared by (side / 4)² invocations, each with 4 rows of sums / (side / 4).
    side == 32 || 4 * sums.div_ceil(side / 4) <= 128
}

/// Whether the shaders take heads of this width.
pub(super) fn fits(head_size: usize) -> bool {
    (1..=WIDEST_HEAD).contains(&head_size)
}

pub(super) fn wgsl_forward(qkv: FloatTensor<CubeBackend>, scale: f32) -> WithLevels<CubeBackend> {
    let shape @ [batch, tokens, _, heads, head_size] = qkv.meta.shape().dims();
    if wgsl_element(fits(head_size), &[&qkv]).is_none() {
        return portable_forward::<CubeBackend>(qkv, scale);
    }
    let qkv = contiguous(qkv);
    let out = output_of(qkv.dtype, &qkv, [batch, tokens, heads, head_size]);
    let lse = output(&qkv, [batch, heads, tokens]);
    Pass::Forward.launch(shape, &[&qkv, &out, &lse], scale);
    (out, lse)
}

pub(super) fn wgsl_backward(
    qkv: FloatTensor<CubeBackend>,
    out: FloatTensor<CubeBackend>,
    lse: FloatTensor<CubeBackend>,
    d_out: FloatTensor<CubeBackend>,
    scale: f32,
) -> FloatTensor<CubeBackend> {
    let shape @ [batch, tokens, _, heads, head_size] = qkv.meta.shape().dims();
    if !runs_wgsl(fits(head_size), &[&qkv, &out, &lse, &d_out]) {
        return portable_backward::<CubeBackend>(qkv, out, lse, d_out, scale);
    }
    let [qkv, out, lse, d_out] = [qkv, out, lse, d_out].map(contiguous);
    let d_qkv = output(&qkv, shape);
    let delta = output(&qkv, [batch, heads, tokens]);
    Pass::BackwardQuery.launch(shape, &[&qkv, &out, &lse, &d_out, &d_qkv, &delta], scale);
    Pass::BackwardKey.launch(shape, &[&qkv, &lse, &d_out, &delta, &d_qkv], scale);
    d_qkv
}

/// Every instance over common head sizes.
pub(super) fn shaders() -> Vec<Shader> {
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

// ---- Gradient

#[derive(Debug)]
struct AttentionBackward;

impl<B: KernelBackend> Backward<B, 1> for AttentionBackward {
    /// `qkv` by its node, the output, the log-sum-exps, the scale.
    type State = (NodeId, FloatTensor<B>, FloatTensor<B>, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (qkv, out, lse, scale) = ops.state;
        let d_out = grads.consume::<B>(&ops.node);
        let qkv = checkpointer.retrieve_node_output::<FloatTensor<B>>(qkv);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::attention_backward(qkv, out, lse, d_out, scale));
        }
    }
}

pub(super) fn tracked<B: KernelBackend, C: CheckpointStrategy>(
    qkv: FloatTensor<Autodiff<B, C>>,
    scale: f32,
) -> WithLevels<Autodiff<B, C>> {
    let prep = AttentionBackward.prepare::<C>([qkv.node()]).compute_bound().stateful();
    let (out, lse) = match prep {
        OpsKind::Tracked(mut prep) => {
            let node = prep.checkpoint(&qkv);
            let (out, lse) = B::packed_attention(qkv.into_primitive(), scale);
            (prep.finish((node, out.clone(), lse.clone(), scale), out), lse)
        }
        OpsKind::UnTracked(prep) => {
            let (out, lse) = B::packed_attention(qkv.into_primitive(), scale);
            (prep.finish(out), lse)
        }
    };
    (out, Autodiff::<B, C>::from_inner(lse))
}
