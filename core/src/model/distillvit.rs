//! The transformer of DistillViT. The pixels of a patch are a token, without a projection or a position embedding. A class token
//! of zeros comes last. Each sum is followed by a normalisation.
//!
//! A block computes `a = LN_a(Attn(x) + x)`, `y = LN(a + x)`, then `y ← dropout(GELU(W y + b))` for each hidden layer, and
//! `LN(y + LN(a + x))`. Both uses of `LN` share their parameters. The head reads all tokens.
//!
//! In the published code the softmax runs over the queries, the heads only scale the scores, and the output projection exists but
//! is never applied. `published_attention` keeps all three. Without it, attention is the usual one: separate heads, a softmax
//! over the keys, and the projection after them. Both have the same parameters.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::attention::{Over, attend, drop, explicit};
use super::check::{ConfigError, divides, range, real};
use super::init::{Initialiser, WeightInit};
use super::layers::{normalise, project};
use super::shape::NetworkShape;
use super::trace::{Recorder, Tap, Taps, Trace};
use super::training::{Dropped, Training};
use crate::op;

const EPS: f64 = 1e-5;

/// The sizes of a DistillViT. The default is its teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillVitConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a square patch, in pixels. Its pixels are the token.
    pub patch_size: usize,
    /// Input channels.
    pub channels: usize,
    /// Outputs of the head.
    pub classes: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads. The number divides the pixels of a patch.
    pub heads: usize,
    /// Linear layers between the two sums of a block.
    pub hidden_layers: usize,
    /// Probability of dropping an element after each of these layers.
    pub dropout: f64,
    /// Probability of dropping a weight of attention. Above 0, training keeps every map.
    pub attention_dropout: f64,
    /// Whether attention is as published: see the module's documentation.
    pub published_attention: bool,
}

impl Default for DistillVitConfig {
    fn default() -> Self {
        Self {
            image_size: 90,
            patch_size: 30,
            channels: 1,
            classes: 10,
            depth: 6,
            heads: 3,
            hidden_layers: 3,
            dropout: 0.1,
            attention_dropout: 0.1,
            published_attention: false,
        }
    }
}

impl DistillVitConfig {
    /// The smallest side of an image that it reads completely.
    pub fn least_side(&self) -> usize {
        16
    }

    /// A small network of the same kind, for a short test run: at most `depth` blocks, for images of `side`.
    pub fn reduced(&self, depth: usize, side: usize) -> Self {
        Self { image_size: side, patch_size: side / 2, depth: self.depth.min(depth), heads: 2, ..self.clone() }
    }

    /// Checks every number before anything is allocated.
    ///
    /// # Errors
    /// [`ConfigError`] naming the number.
    pub fn validate(&self) -> Result<(), ConfigError> {
        range("image_size", self.image_size, 4096)?;
        range("patch_size", self.patch_size, self.image_size)?;
        range("channels", self.channels, 64)?;
        range("classes", self.classes, 1_000_000)?;
        range("depth", self.depth, 512)?;
        range("hidden_layers", self.hidden_layers, 64)?;
        real("dropout", self.dropout, 0.0, 0.95)?;
        real("attention_dropout", self.attention_dropout, 0.0, 0.95)?;
        divides("image_size", self.image_size, "patch_size", self.patch_size)?;
        range("the pixels of a patch", self.width(), 16_384)?;
        range("heads", self.heads, self.width())?;
        divides("the pixels of a patch", self.width(), "heads", self.heads)?;
        range("the number of tokens", self.tokens(), 65_535)?;
        real("the number of parameters", self.parameters() as f64, 1.0, 4e9)
    }

    /// Width D of a token: the pixels of a patch.
    pub fn width(&self) -> usize {
        self.channels * self.patch_size.pow(2)
    }

    /// Length N of the sequence, the class token included.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        let (d, tokens) = (self.width() as u64, self.tokens() as u64);
        let linear = d * d + d;
        let block = (4 + self.hidden_layers as u64) * linear + 4 * d;
        d + self.depth as u64 * block + (tokens * d + 1) * self.classes as u64
    }

    /// The sizes by which it is compared with another network. Its class token is the last token and counts as a patch.
    pub fn shape(&self) -> NetworkShape {
        NetworkShape {
            depth: self.depth,
            width: self.width(),
            tokens: self.tokens(),
            prefix_tokens: 0,
            classes: self.classes,
            class_token: false,
            distillation_token: false,
        }
    }

    /// Builds the network on `device` with values drawn from `seed`.
    ///
    /// # Errors
    /// Whatever [`DistillVitConfig::validate`] finds.
    pub fn init(&self, seed: u64, device: &Device) -> Result<DistillVit, ConfigError> {
        self.validate()?;
        Ok(self.build(&Initialiser::new(seed, device)))
    }

    /// Builds a validated network with values from `draw`.
    pub(super) fn build(&self, draw: &Initialiser) -> DistillVit {
        let (d, tokens) = (self.width(), self.tokens());
        DistillVit {
            cls_token: draw.constant([1, 1, d], 0.0),
            blocks: (0..self.depth).map(|index| Block::new(self, index, draw)).collect(),
            head: draw.linear("head", WeightInit::Xavier, tokens * d, self.classes, 1),
            patch_size: self.patch_size,
            drops_elements: self.dropout + self.attention_dropout > 0.0,
        }
    }
}

/// The network. See the module's documentation.
#[derive(Module, Debug)]
pub struct DistillVit {
    cls_token: Param<Tensor<3>>,
    blocks: Vec<Block>,
    head: Linear,
    patch_size: usize,
    drops_elements: bool,
}

#[derive(Module, Debug)]
struct Block {
    attn: Attention,
    norm: LayerNorm,
    mlp: Vec<Linear>,
    dropout: f64,
}

#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    proj: Linear,
    norm: LayerNorm,
    heads: usize,
    dropout: f64,
    published: bool,
}

impl Block {
    fn new(config: &DistillVitConfig, index: usize, draw: &Initialiser) -> Self {
        let d = config.width();
        let norm = || LayerNormConfig::new(d).with_epsilon(EPS).init(draw.device());
        let linear = |part: String, parts: usize| {
            draw.linear(&format!("blocks.{index}.{part}"), WeightInit::Xavier, d, parts * d, parts)
        };
        Self {
            attn: Attention {
                qkv: linear("attn.qkv".to_owned(), 3),
                proj: linear("attn.proj".to_owned(), 1),
                norm: norm(),
                heads: config.heads,
                dropout: config.attention_dropout,
                published: config.published_attention,
            },
            norm: norm(),
            mlp: (0..config.hidden_layers).map(|layer| linear(format!("mlp.{layer}"), 1)).collect(),
            dropout: config.dropout,
        }
    }

    // x [B, N, D]; tap: where to store the inputs of attention, if they were requested
    fn forward(&self, x: Tensor<3>, training: Option<&Training>, tap: Option<Tap<'_, '_>>) -> Tensor<3> {
        let normed = |x| normalise(&self.norm, x, EPS);
        let x = normed(self.attn.forward(x.clone(), training, tap) + x);
        let hidden = self
            .mlp
            .iter()
            .fold(x.clone(), |hidden, layer| drop(op::gelu(project(layer, hidden)), self.dropout, training));
        normed(hidden + x)
    }
}

impl Attention {
    fn forward(&self, x: Tensor<3>, training: Option<&Training>, tap: Option<Tap<'_, '_>>) -> Tensor<3> {
        let [batch, tokens, d] = x.dims();
        let heads = if self.published { 1 } else { self.heads };
        let qkv = project(&self.qkv, x.clone()).reshape([batch, tokens, 3, heads, d / heads]);
        // As published: the scale is that of a smaller head, although there is only one head.
        let scale = 1.0 / libm::sqrt((d / self.heads) as f64);
        let drops = training.is_some() && self.dropout > 0.0;
        let mixed = if self.published || drops {
            if let Some(tap) = tap {
                tap.leave(qkv.clone().into());
            }
            let over = if self.published { Over::Queries } else { Over::Keys };
            explicit(qkv, scale, over, self.dropout, training)
        } else {
            attend(qkv, scale, tap)
        };
        let mixed = mixed.reshape([batch, tokens, d]);
        let mixed = if self.published { mixed } else { project(&self.proj, mixed) };
        normalise(&self.norm, mixed + x, EPS)
    }
}

impl DistillVit {
    /// The names of the linear layers that give logits, the class head first.
    pub const HEADS: &[&str] = &["head"];
    /// The last parts of the names of the matrices without weight decay.
    pub const UNDECAYED: &[&str] = &["cls_token"];

    /// The type of its parameters.
    pub(super) fn dtype(&self) -> DType {
        self.head.weight.val().dtype()
    }

    /// Its sizes.
    pub fn shape(&self) -> NetworkShape {
        let [.., width] = self.cls_token.dims();
        let [inputs, classes] = self.head.weight.dims();
        NetworkShape {
            depth: self.blocks.len(),
            width,
            tokens: inputs / width,
            prefix_tokens: 0,
            classes,
            class_token: false,
            distillation_token: false,
        }
    }

    /// Runs the network on `images` `[B, C, S, S]`; `training` is `None` outside training.
    ///
    /// # Panics
    /// If a tap names a block that the network does not have.
    pub fn forward_with(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        let [batch, channels, height, width] = images.dims();
        let p = self.patch_size;
        let (rows, columns) = (height / p, width / p);
        let patches = images.reshape([batch, channels, rows, p, columns, p]).permute([0, 2, 4, 1, 3, 5]).reshape([
            batch,
            rows * columns,
            channels * p * p,
        ]);
        let class = self.cls_token.val().expand([batch, 1, channels * p * p]);
        let mut x = Tensor::cat(vec![patches, class], 1);
        let mut recorder = Recorder::new(taps);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, training, Tap::of(&mut recorder, index));
            recorder.tokens(index, &x);
        }
        let [_, tokens, d] = x.dims();
        recorder.features(|| x.clone().mean_dim(1).squeeze_dim(1));
        recorder.trace(project(&self.head, x.reshape([batch, tokens * d])), None, 0)
    }

    /// The elements and branches that a training pass of this network drops: see `Training::draw`.
    pub fn draw_training(&self, seed: u64, step: u64, batch: usize, device: &Device) -> Training {
        let dropped = Dropped { drop_path: 0.0, depth: self.blocks.len(), elements: self.drops_elements };
        Training::draw(&dropped, seed, step, batch, device)
    }
}
