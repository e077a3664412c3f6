//! The other side of every measurement: what a user of Burn alone would write, with Burn's modules, operations and gradients.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Distribution, Tensor};
use potstill_core::model::{Pool, VitConfig};

/// Attention from packed `[B, N, 3, H, D]` to `[B, N, H, D]`, with Burn's operation on three tensors.
pub fn packed_attention(qkv: Tensor<5>) -> Tensor<4> {
    let [q, k, v] = [0, 1, 2].map(|part| part_of(&qkv, part));
    // Its default scale is D^-½; a scale that is given, the same even, keeps Burn from its faster kernels.
    attention(q, k, v, None, None, AttentionModuleOptions::default()).swap_dims(1, 2)
}

/// Part 0 (queries), 1 (keys) or 2 (values) as `[B, H, N, D]`.
fn part_of(qkv: &Tensor<5>, part: usize) -> Tensor<4> {
    qkv.clone().narrow(2, part, 1).squeeze_dim::<4>(2).swap_dims(1, 2)
}

/// Cross-entropy and divergence of each row, `[B, 2]`.
pub fn rows_of_losses(
    student: Tensor<2>,
    teacher: Tensor<2>,
    targets: Tensor<2>,
    temperature: f32,
    smoothing: f32,
) -> Tensor<2> {
    let classes = student.dims()[1];
    let targets = targets * (1.0 - smoothing) + smoothing / classes as f32;
    let entropy = -(targets * log_softmax(student.clone(), 1)).sum_dim(1);
    let log_p = log_softmax(teacher / temperature, 1);
    let divergence = (log_p.clone().exp() * (log_p - log_softmax(student / temperature, 1))).sum_dim(1);
    Tensor::cat(vec![entropy, divergence], 1)
}

/// The mean squared difference between two head-averaged attention maps, from packed queries, keys and values.
pub fn map_loss(student: Tensor<5>, teacher: Tensor<5>) -> Tensor<1> {
    let map = |qkv: Tensor<5>| {
        let scale = (qkv.dims()[4] as f32).powf(-0.5);
        softmax((part_of(&qkv, 0) * scale).matmul(part_of(&qkv, 1).swap_dims(2, 3)), 3).mean_dim(1)
    };
    let difference = map(student) - map(teacher);
    (difference.clone() * difference).mean()
}

/// A vision transformer of Burn's modules, with the same sizes as one of Potstill's.
#[derive(Module, Debug)]
pub struct StockVit {
    patches: Conv2d,
    class_token: Option<Param<Tensor<3>>>,
    positions: Param<Tensor<3>>,
    blocks: Vec<StockBlock>,
    norm: LayerNorm,
    head: Linear,
}

#[derive(Module, Debug)]
struct StockBlock {
    norm1: LayerNorm,
    qkv: Linear,
    projection: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    gelu: Gelu,
    fc2: Linear,
    heads: usize,
}

impl StockVit {
    /// A network with the sizes of `config`, which must not have a distillation token.
    pub fn new(config: &VitConfig, device: &Device) -> Self {
        let d = config.width;
        let token = |count| Tensor::random([1, count, d], Distribution::Normal(0.0, 0.02), device);
        let norm = || LayerNormConfig::new(d).with_epsilon(config.layer_norm_eps).init(device);
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let block = |_| StockBlock {
            norm1: norm(),
            qkv: linear(d, 3 * d),
            projection: linear(d, d),
            norm2: norm(),
            fc1: linear(d, config.hidden()),
            gelu: Gelu::new(),
            fc2: linear(config.hidden(), d),
            heads: config.heads,
        };
        let side = [config.patch_size; 2];
        Self {
            patches: Conv2dConfig::new([config.channels, d], side).with_stride(side).init(device),
            class_token: (config.pool == Pool::Class).then(|| Param::from_tensor(token(1))),
            positions: Param::from_tensor(token(config.tokens())),
            blocks: (0..config.depth).map(block).collect(),
            norm: norm(),
            head: linear(d, config.classes),
        }
    }

    /// The logits `[B, classes]` of images `[B, C, S, S]`, and the packed queries, keys and values of each block.
    pub fn forward(&self, images: Tensor<4>) -> (Tensor<2>, Vec<Tensor<5>>) {
        // [B, D, S / P, S / P] -> [B, patches, D]
        let mut x = self.patches.forward(images).flatten::<3>(2, 3).swap_dims(1, 2);
        if let Some(token) = &self.class_token {
            let [batch, _, d] = x.dims();
            x = Tensor::cat(vec![token.val().expand([batch, 1, d]), x], 1);
        }
        x = x + self.positions.val();
        let mut packed = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            x = block.forward(x, &mut packed);
        }
        let pooled = match self.class_token {
            Some(_) => self.norm.forward(x.narrow(1, 0, 1)).squeeze_dim::<2>(1),
            None => self.norm.forward(x.mean_dim(1).squeeze_dim::<2>(1)),
        };
        (self.head.forward(pooled), packed)
    }
}

impl StockBlock {
    fn forward(&self, x: Tensor<3>, packed: &mut Vec<Tensor<5>>) -> Tensor<3> {
        let [batch, tokens, d] = x.dims();
        let size = d / self.heads;
        let qkv = self.qkv.forward(self.norm1.forward(x.clone())).reshape([batch, tokens, 3, self.heads, size]);
        packed.push(qkv.clone());
        let mixed = packed_attention(qkv).reshape([batch, tokens, d]);
        let x = x + self.projection.forward(mixed);
        let hidden = self.gelu.forward(self.fc1.forward(self.norm2.forward(x.clone())));
        x + self.fc2.forward(hidden)
    }
}
