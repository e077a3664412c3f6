//! What a network says of one picture, and where it looks.
//!
//! The attention of a layer is the mean over heads of `softmax(q kᵀ / √d)`: the class token's row, which is what the answer
//! is made of, or the mean of all rows for a network that reads the mean of its patches. A map shows patches as squares of
//! pixels, because that is how finely the network sees; each is divided by its largest value.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use potstill_core::data::Normalisation;
use potstill_core::method::Readout;
use potstill_core::model::{Network, Taps};
use potstill_core::op;

use crate::distil::{Clock, values};

/// What was seen of one picture.
pub struct Seen {
    /// What the heads say together.
    pub logits: Vec<f32>,
    /// Milliseconds until they did.
    pub milliseconds: f64,
    /// Attention over the pixels, `[layers, side, side]`, each map from 0 to 1.
    pub attention: Vec<f32>,
    /// How many maps.
    pub layers: usize,
}

/// Shows `network` one picture `[1, C, S, S]`. Networks without attention have no maps.
///
/// # Errors
/// If the device failed.
pub async fn look(network: &Network, picture: Tensor<4>, readout: Readout, clock: Clock) -> Result<Seen, String> {
    let (start, shape) = (clock(), network.shape());
    let side = picture.dims()[3];
    let blocks = if matches!(network, Network::Vit(_)) { shape.depth } else { 0 };
    let mut taps = Taps::default();
    let blocks: Vec<_> = (0..blocks).map(|block| taps.queries_and_keys(block)).collect();
    let trace = network.forward_with(picture, None, &taps);
    let logits = values(readout.of(&trace)).await?;
    let milliseconds = clock() - start;
    let (tokens, prefix) = (shape.tokens, shape.prefix_tokens);
    let map =
        |block| attention(trace.queries_and_keys(block).packed, shape.class_token).narrow(0, prefix, tokens - prefix);
    let maps: Vec<Tensor<1>> = blocks.into_iter().map(map).collect();
    let layers = maps.len();
    let mut attention = Vec::with_capacity(layers * side * side);
    if layers > 0 {
        let patches = values(Tensor::cat(maps, 0)).await?;
        for map in patches.chunks_exact(tokens - prefix) {
            attention.extend(enlarged(map, side));
        }
    }
    Ok(Seen { logits, milliseconds, attention, layers })
}

/// How much each token is attended to, `[N]`, from packed queries, keys and values `[1, N, 3, H, D]`: by the first token, or
/// by all in the mean.
fn attention(qkv: Tensor<5>, by_first: bool) -> Tensor<1> {
    let [_, tokens, _, _, head_size] = qkv.dims();
    // [1, N, 1, H, D] -> [1, H, N, D]
    let part = |index| qkv.clone().narrow(2, index, 1).squeeze_dim::<4>(2).swap_dims(1, 2);
    let rows = if by_first { 1 } else { tokens };
    let queries = part(0).narrow(2, 0, rows).mul_scalar(1.0 / (head_size as f64).sqrt());
    softmax(op::matmul(queries, part(1).swap_dims(2, 3)), 3).mean_dim(1).mean_dim(2).reshape([tokens])
}

/// A square of patches over `side` x `side` pixels, divided by its largest value.
fn enlarged(map: &[f32], side: usize) -> Vec<f32> {
    let across = map.len().isqrt().max(1);
    let largest = map.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let at = |pixel: usize| (pixel * across / side).min(across - 1);
    (0..side * side).map(|pixel| map[at(pixel / side) * across + at(pixel % side)] / largest).collect()
}

/// One grey 28 x 28 picture of bytes as the networks of the Distil view take it.
pub fn grey(pixels: &[u8], device: &Device) -> Tensor<4> {
    let normalisation = Normalisation::mnist();
    let (mean, std) = (normalisation.mean[0], normalisation.std[0]);
    let pixels = pixels.iter().map(|&pixel| (f32::from(pixel) / 255.0 - mean) / std).collect();
    crate::distil::images(pixels, 1, device)
}

#[cfg(test)]
mod tests {
    use burn::cubecl::future::block_on;

    use super::*;
    use crate::plan::network;

    #[test]
    fn maps_cover_the_picture() {
        let device = Device::flex();
        let network = network(2, 8).init(1, &device).expect("valid");
        let pixels: Vec<u8> = (0..784).map(|i| (i % 251) as u8).collect();
        let seen = block_on(look(&network, grey(&pixels, &device), Readout::Class, || 0.0)).expect("seen");
        assert_eq!((seen.layers, seen.logits.len(), seen.attention.len()), (2, 10, 2 * 784));
        for map in seen.attention.chunks(784) {
            assert!(map.iter().all(|x| (0.0..=1.0).contains(x)) && map.contains(&1.0));
        }
        assert_eq!(enlarged(&[1.0, 2.0, 0.0, 4.0], 4)[..8], [0.25, 0.25, 0.5, 0.5, 0.25, 0.25, 0.5, 0.5]);
    }
}
