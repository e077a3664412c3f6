//! The vision transformer (Dosovitskiy et al., 2021; DeiT: Touvron et al., 2021), pre-norm, with timm's parameter paths.
//!
//! `x ← x + Attn(LN(x))`, `x ← x + MLP(LN(x))`, a last LayerNorm, one linear head on the class token or on the mean of the
//! patch tokens, and where there is a distillation token a second head on it. Attention runs through
//! [`crate::kernel::attention`] from the packed q, k, v product, so no N x N matrix is ever kept.
//!
//! Shapes: B images, C channels, N tokens (prefix tokens first, then patches in row-major order), D width, H heads.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::init::{Initialiser, WeightInit};
use super::network::{ConfigError, NetworkShape, Taps, Trace};
use super::training::Training;
use crate::kernel;

/// Which token the class head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The class token (ViT, DeiT).
    Class,
    /// The mean of the patch tokens, normalised after the mean as timm's `global_pool="avg"` does.
    Mean,
}

/// A vision transformer by its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a square patch, in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Input channels: 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Outputs of each head.
    pub classes: usize,
    /// Width D of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Hidden width of the MLP over `width`.
    pub mlp_ratio: f64,
    /// What the class head reads.
    pub pool: Pool,
    /// Whether there is a class token; needed by [`Pool::Class`].
    pub class_token: bool,
    /// Whether there is a distillation token with a head of its own (DeiT).
    pub distillation_token: bool,
    /// Probability of dropping a residual branch in the last block; rises linearly from 0 in the first (stochastic depth).
    pub drop_path: f64,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// How weights are drawn.
    pub init: WeightInit,
}

impl VitConfig {
    /// Checks every number before anything is allocated.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |field, value: usize, max: usize| {
            if value == 0 || value > max {
                return Err(ConfigError::OutOfRange { field, value: value as f64, min: 1.0, max: max as f64 });
            }
            Ok(())
        };
        range("image_size", self.image_size, 4096)?;
        range("patch_size", self.patch_size, self.image_size)?;
        range("channels", self.channels, 64)?;
        range("classes", self.classes, 1_000_000)?;
        range("width", self.width, 16_384)?;
        range("depth", self.depth, 512)?;
        range("heads", self.heads, self.width)?;
        let real = |field, value: f64, min: f64, max: f64| {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::OutOfRange { field, value, min, max });
            }
            Ok(())
        };
        real("mlp_ratio", self.mlp_ratio, 1.0 / 16.0, 64.0)?;
        real("drop_path", self.drop_path, 0.0, 0.95)?;
        real("layer_norm_eps", self.layer_norm_eps, 1e-12, 1.0)?;
        let divides = |what, whole: usize, part_name, part: usize| {
            if !whole.is_multiple_of(part) {
                return Err(ConfigError::NotDivisible { what, whole, part_name, part });
            }
            Ok(())
        };
        divides("image_size", self.image_size, "patch_size", self.patch_size)?;
        divides("width", self.width, "heads", self.heads)?;
        range("the number of tokens", self.tokens(), 65_535)?;
        real("the number of parameters", self.parameters() as f64, 1.0, 4e9)?;
        if self.pool == Pool::Class && !self.class_token {
            return Err(ConfigError::NoClassToken);
        }
        Ok(())
    }

    /// Tokens that are no patch: class and distillation token.
    pub fn prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distillation_token)
    }

    /// Patches of one image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Length N of the sequence.
    pub fn tokens(&self) -> usize {
        self.prefix_tokens() + self.patches()
    }

    /// Hidden width of the MLP.
    pub fn hidden(&self) -> usize {
        ((self.width as f64 * self.mlp_ratio) as usize).max(1)
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        // Wider than `usize` is in a browser.
        let (d, h) = (self.width as u64, self.hidden() as u64);
        let linear = |inputs: u64, outputs: u64| inputs * outputs + outputs;
        let block = 4 * d + linear(d, 3 * d) + linear(d, d) + linear(d, h) + linear(h, d);
        let heads = 1 + u64::from(self.distillation_token);
        linear((self.channels * self.patch_size.pow(2)) as u64, d)
            + (self.prefix_tokens() + self.tokens()) as u64 * d
            + self.depth as u64 * block
            + 2 * d
            + heads * linear(d, self.classes as u64)
    }

    /// The sizes by which it is compared with another.
    pub fn shape(&self) -> NetworkShape {
        NetworkShape {
            depth: self.depth,
            width: self.width,
            tokens: self.tokens(),
            prefix_tokens: self.prefix_tokens(),
            classes: self.classes,
            class_token: self.class_token,
            distillation_token: self.distillation_token,
        }
    }

    /// Builds the network on `device` with values drawn from `seed`.
    ///
    /// # Errors
    /// Whatever [`VitConfig::validate`] finds.
    pub fn init(&self, seed: u64, device: &Device) -> Result<VisionTransformer, ConfigError> {
        self.validate()?;
        let draw = Initialiser::new(seed, device);
        let d = self.width;
        let token = |path: &str| draw.truncated_normal(path, [1, 1, d], 0.02);
        let blocks = (0..self.depth).map(|i| Block::new(self, i, &draw)).collect();
        Ok(VisionTransformer {
            patch_embed: PatchEmbed::new(self, &draw),
            cls_token: self.class_token.then(|| token("cls_token")),
            dist_token: self.distillation_token.then(|| token("dist_token")),
            pos_embed: draw.truncated_normal("pos_embed", [1, self.tokens(), d], self.init.position_std()),
            blocks,
            norm: (self.pool == Pool::Class).then(|| layer_norm(self, device)),
            fc_norm: (self.pool == Pool::Mean).then(|| layer_norm(self, device)),
            head: head("head", self, &draw),
            head_dist: self.distillation_token.then(|| head("head_dist", self, &draw)),
            drop_path: self.drop_path,
            layer_norm_eps: self.layer_norm_eps,
        })
    }
}

/// The vision transformer. See the module's head.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    patch_embed: PatchEmbed,
    cls_token: Option<Param<Tensor<3>>>,
    dist_token: Option<Param<Tensor<3>>>,
    pos_embed: Param<Tensor<3>>,
    blocks: Vec<Block>,
    // The last LayerNorm has timm's two names: `norm` before a token is read, `fc_norm` after the mean.
    norm: Option<LayerNorm>,
    fc_norm: Option<LayerNorm>,
    head: Linear,
    head_dist: Option<Linear>,
    drop_path: f64,
    layer_norm_eps: f64,
}

impl VisionTransformer {
    /// Its sizes.
    pub fn shape(&self) -> NetworkShape {
        let [_, tokens, width] = self.pos_embed.dims();
        let (class_token, distillation_token) = (self.cls_token.is_some(), self.dist_token.is_some());
        NetworkShape {
            depth: self.blocks.len(),
            width,
            tokens,
            prefix_tokens: usize::from(class_token) + usize::from(distillation_token),
            classes: self.head.weight.dims()[1],
            class_token,
            distillation_token,
        }
    }

    /// Runs the network on `images` `[B, C, S, S]`; `training` is `None` outside training.
    pub fn forward(&self, images: Tensor<4>, training: Option<&Training>) -> Trace {
        self.forward_with(images, training, &Taps::default())
    }

    /// As [`VisionTransformer::forward`], and keeps what `taps` ask for.
    ///
    /// # Panics
    /// If a tap names a block that the network has not; `Objective::check` refuses such an objective.
    pub fn forward_with(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        let drop = training.and_then(Training::drop_path);
        let patches = self.patch_embed.forward(images);
        let [batch, _, width] = patches.dims();
        let prefix: Vec<Tensor<3>> = [&self.cls_token, &self.dist_token]
            .into_iter()
            .flatten()
            .map(|token| token.val().expand([batch, 1, width]))
            .collect();
        let prefix_tokens = prefix.len();
        let mut x =
            if prefix.is_empty() { patches } else { Tensor::cat(prefix.into_iter().chain([patches]).collect(), 1) };
        x = x + self.pos_embed.val();
        let (mut tokens_after, mut qkv_of) = (vec![None; self.blocks.len()], vec![None; self.blocks.len()]);
        for (index, block) in self.blocks.iter().enumerate() {
            let asked = taps.queries_and_keys.contains(&index);
            x = block.forward(x, drop.map(|drop| drop.scales(index)), asked.then_some(&mut qkv_of[index]));
            if taps.tokens.contains(&index) {
                tokens_after[index] = Some(x.clone());
            }
        }
        let trace = |logits, distillation_logits| Trace {
            logits,
            distillation_logits,
            tokens: tapped(&taps.tokens, &tokens_after),
            queries_and_keys: tapped(&taps.queries_and_keys, &qkv_of),
            prefix_tokens,
        };
        let tokens = x.dims()[1];
        if let Some(fc_norm) = &self.fc_norm {
            let patches =
                if prefix_tokens == 0 { x.clone() } else { x.clone().narrow(1, prefix_tokens, tokens - prefix_tokens) };
            let pooled = normalise(fc_norm, patches.mean_dim(1).squeeze_dim::<2>(1), self.layer_norm_eps);
            // The distillation token follows the class token, where there is one.
            let distillation_logits = self.head_dist.as_ref().map(|head| {
                let token = x.narrow(1, prefix_tokens - 1, 1).squeeze_dim::<2>(1);
                head.forward(normalise(fc_norm, token, self.layer_norm_eps))
            });
            return trace(self.head.forward(pooled), distillation_logits);
        }
        // Only the tokens that a head reads are normalised: LayerNorm works token by token.
        let read = x.narrow(1, 0, prefix_tokens);
        let read = match &self.norm {
            Some(norm) => normalise(norm, read, self.layer_norm_eps),
            None => read,
        };
        let token = |index: usize| read.clone().narrow(1, index, 1).squeeze_dim::<2>(1);
        trace(self.head.forward(token(0)), self.head_dist.as_ref().map(|head| head.forward(token(1))))
    }

    /// What a training pass of this network drops: see [`Training::draw`].
    pub fn draw_training(&self, seed: u64, step: u64, batch: usize, device: &Device) -> Training {
        Training::draw(self.drop_path, self.blocks.len(), seed, step, batch, device)
    }
}

// What each tap named, in the order of the taps.
fn tapped<const D: usize>(blocks: &[usize], kept: &[Option<Tensor<D>>]) -> Vec<Tensor<D>> {
    let block = |index: &usize| kept.get(*index).cloned().flatten();
    blocks.iter().map(|index| block(index).unwrap_or_else(|| panic!("there is no block {index} to tap"))).collect()
}

/// Cuts an image into patches and projects each: a convolution whose stride is its kernel, done as one matrix product.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Projection,
}

/// The projection's parameters in the layout of a convolution, as checkpoints store it.
#[derive(Module, Debug)]
struct Projection {
    // [D, C, P, P]
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl PatchEmbed {
    fn new(config: &VitConfig, draw: &Initialiser) -> Self {
        let (d, c, p) = (config.width, config.channels, config.patch_size);
        let inputs = c * p * p;
        let path = "patch_embed.proj.weight";
        let (weight, bias) = match config.init {
            // PyTorch's default for a convolution: Kaiming uniform with a = √5.
            WeightInit::TruncatedNormal => {
                let bound = 1.0 / libm::sqrtf(inputs as f32);
                (draw.uniform(path, [d, c, p, p], bound), draw.uniform("patch_embed.proj.bias", [d], bound))
            }
            WeightInit::Xavier => {
                let bound = libm::sqrtf(6.0 / (inputs + d) as f32);
                (draw.uniform(path, [d, c, p, p], bound), draw.constant([d], 0.0))
            }
        };
        Self { proj: Projection { weight, bias } }
    }

    // images [B, C, S, S] -> [B, patches, D]
    fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = images.dims();
        let weight = self.proj.weight.val();
        let [d, _, p, _] = weight.dims();
        let (rows, columns) = (height / p, width / p);
        let patches = images
            .reshape([batch, channels, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, channels * p * p]);
        let weight = weight.reshape([d, channels * p * p]).transpose();
        kernel::linear(patches, weight, self.proj.bias.val()).reshape([batch, rows * columns, d])
    }
}

/// One pre-norm block.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    eps: f64,
}

impl Block {
    fn new(config: &VitConfig, index: usize, draw: &Initialiser) -> Self {
        let path = |part: &str| format!("blocks.{index}.{part}.weight");
        let (d, h) = (config.width, config.hidden());
        let linear = |part: &str, inputs, outputs, fans| {
            let weight = draw.weight(&path(part), config.init, inputs, outputs, fans);
            Linear { weight, bias: Some(draw.constant([outputs], 0.0)) }
        };
        Self {
            norm1: layer_norm(config, draw.device()),
            attn: Attention {
                qkv: linear("attn.qkv", d, 3 * d, d),
                proj: linear("attn.proj", d, d, d),
                heads: config.heads,
            },
            norm2: layer_norm(config, draw.device()),
            mlp: Mlp { fc1: linear("mlp.fc1", d, h, h), fc2: linear("mlp.fc2", h, d, d) },
            eps: config.layer_norm_eps,
        }
    }

    // x [B, N, D]; drop: the scales [B, 1, 1] of the two branches; qkv: where to leave the packed q, k, v, if asked for
    fn forward(&self, x: Tensor<3>, drop: Option<[Tensor<3>; 2]>, qkv: Option<&mut Option<Tensor<5>>>) -> Tensor<3> {
        let [attention_scale, mlp_scale] = match drop {
            Some([attention, mlp]) => [Some(attention), Some(mlp)],
            None => [None, None],
        };
        let scaled = |branch: Tensor<3>, scale: Option<Tensor<3>>| match scale {
            Some(scale) => branch * scale,
            None => branch,
        };
        let attention = self.attn.forward(normalise(&self.norm1, x.clone(), self.eps), qkv);
        let x = x + scaled(attention, attention_scale);
        let mlp = self.mlp.forward(normalise(&self.norm2, x.clone(), self.eps));
        x + scaled(mlp, mlp_scale)
    }
}

/// Multi-head self-attention with one packed projection.
#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    fn forward(&self, x: Tensor<3>, tap: Option<&mut Option<Tensor<5>>>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let head_size = width / self.heads;
        let qkv = project(&self.qkv, x).reshape([batch, tokens, 3, self.heads, head_size]);
        if let Some(tap) = tap {
            *tap = Some(qkv.clone());
        }
        let scale = 1.0 / libm::sqrtf(head_size as f32);
        let mixed = kernel::attention(qkv, scale).reshape([batch, tokens, width]);
        project(&self.proj, mixed)
    }
}

/// Linear, exact GELU, linear.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(&self.fc2, kernel::gelu(project(&self.fc1, x)))
    }
}

fn layer_norm(config: &VitConfig, device: &Device) -> LayerNorm {
    LayerNormConfig::new(config.width).with_epsilon(config.layer_norm_eps).init(device)
}

fn project<const D: usize>(linear: &Linear, x: Tensor<D>) -> Tensor<D> {
    match &linear.bias {
        Some(bias) => kernel::linear(x, linear.weight.val(), bias.val()),
        None => linear.forward(x),
    }
}

// The parameters are Burn's, whose epsilon is private; the operation is ours.
fn normalise<const D: usize>(norm: &LayerNorm, x: Tensor<D>, eps: f64) -> Tensor<D> {
    let gamma = norm.gamma.val();
    let beta = norm.beta.as_ref().map_or_else(|| gamma.zeros_like(), |beta| beta.val());
    kernel::layer_norm(x, gamma, beta, eps as f32)
}

fn head(path: &str, config: &VitConfig, draw: &Initialiser) -> Linear {
    let (d, classes) = (config.width, config.classes);
    let weight = draw.weight(&format!("{path}.weight"), config.init, d, classes, classes);
    Linear { weight, bias: Some(draw.constant([classes], 0.0)) }
}
