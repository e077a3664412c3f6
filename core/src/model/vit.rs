//! The vision transformer (Dosovitskiy et al., 2021; DeiT: Touvron et al., 2021), pre-norm, with timm's parameter paths.
//!
//! A block computes `x ← x + Attn(LN(x))` and `x ← x + MLP(LN(x))`. After the blocks there are a last LayerNorm and a linear
//! head, which reads the class token or the mean of the patch tokens. A distillation token has a second head. Attention is
//! [`crate::op::attention`] of the packed q, k, v product. So no N x N matrix is kept, unless weights of attention are dropped or
//! an attention map is requested.
//!
//! Shapes: B images, C channels, N tokens (prefix tokens first, then patches in row-major order), D width, H heads.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::attention::{Over, attend, drop, explicit};
use super::check::{ConfigError, divides, range, real};
use super::init::{Initialiser, WeightInit};
use super::layers::{add_and_normalise, normalise, project};
use super::shape::NetworkShape;
use super::trace::{Recorder, Tap, Taps, Trace};
use super::training::{Dropped, Training};
use crate::op;

/// Which token the class head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// The class token (ViT, DeiT).
    Class,
    /// The mean of the patch tokens, normalised after the mean, as in timm's `global_pool="avg"`.
    Mean,
    /// The mean of the patch tokens, each normalised before the mean.
    NormedMean,
}

/// The sizes of a vision transformer. The default is `vit_tiny_patch16_224`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a square patch, in pixels. It divides `image_size`.
    pub patch_size: usize,
    /// Input channels: 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Outputs of each head.
    pub classes: usize,
    /// Width D of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head, if it is not `width / heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_size: Option<usize>,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Hidden width of the MLP, relative to `width`.
    pub mlp_ratio: f64,
    /// What the class head reads.
    pub pool: Pool,
    /// Whether there is a class token. [`Pool::Class`] needs one.
    pub class_token: bool,
    /// Whether there is a distillation token with its own head (DeiT).
    pub distillation_token: bool,
    /// Whether the class token's head also reads the distillation token, so that there is one head.
    pub shared_head: bool,
    /// Whether there is a LayerNorm before and after the patch projection (vit-pytorch).
    pub patch_norm: bool,
    /// Probability of dropping a residual branch in the last block. It rises linearly from 0 in the first block (stochastic depth).
    pub drop_path: f64,
    /// Probability of dropping an element of the embedded tokens.
    pub embedding_dropout: f64,
    /// Probability of dropping a weight of attention. Above 0, training keeps every map.
    pub attention_dropout: f64,
    /// Probability of dropping an element after the projection of attention and after each layer of the MLP.
    pub dropout: f64,
    /// Added to the variance in every LayerNorm.
    pub layer_norm_eps: f64,
    /// How weights are drawn.
    pub init: WeightInit,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            channels: 3,
            classes: 1000,
            width: 192,
            depth: 12,
            heads: 3,
            head_size: None,
            qkv_bias: true,
            mlp_ratio: 4.0,
            pool: Pool::Class,
            class_token: true,
            distillation_token: false,
            shared_head: false,
            patch_norm: false,
            drop_path: 0.0,
            embedding_dropout: 0.0,
            attention_dropout: 0.0,
            dropout: 0.0,
            layer_norm_eps: 1e-6,
            init: WeightInit::TruncatedNormal,
        }
    }
}

impl VitConfig {
    /// The smallest side of an image that it reads completely.
    pub fn least_side(&self) -> usize {
        2 * self.patch_size
    }

    /// A small network of the same kind, for a short test run: at most `depth` blocks, for images of `side`.
    pub fn reduced(&self, depth: usize, side: usize) -> Self {
        // At most four heads of width eight.
        let heads = self.heads.min(4);
        Self {
            image_size: side,
            depth: self.depth.min(depth),
            heads,
            width: 8 * heads,
            head_size: self.head_size.map(|_| 8),
            ..self.clone()
        }
    }

    /// Checks every number before anything is allocated.
    pub fn validate(&self) -> Result<(), ConfigError> {
        range("image_size", self.image_size, 4096)?;
        range("patch_size", self.patch_size, self.image_size)?;
        range("channels", self.channels, 64)?;
        range("classes", self.classes, 1_000_000)?;
        range("width", self.width, 16_384)?;
        range("depth", self.depth, 512)?;
        range("heads", self.heads, self.width)?;
        real("mlp_ratio", self.mlp_ratio, 1.0 / 16.0, 64.0)?;
        real("drop_path", self.drop_path, 0.0, 0.95)?;
        real("embedding_dropout", self.embedding_dropout, 0.0, 0.95)?;
        real("attention_dropout", self.attention_dropout, 0.0, 0.95)?;
        real("dropout", self.dropout, 0.0, 0.95)?;
        real("layer_norm_eps", self.layer_norm_eps, 1e-12, 1.0)?;
        divides("image_size", self.image_size, "patch_size", self.patch_size)?;
        match self.head_size {
            Some(size) => range("head_size", size, 16_384)?,
            None => divides("width", self.width, "heads", self.heads)?,
        }
        range("the number of tokens", self.tokens(), 65_535)?;
        real("the number of parameters", self.parameters() as f64, 1.0, 4e9)?;
        if self.pool == Pool::Class && !self.class_token {
            return Err(ConfigError::NoClassToken);
        }
        Ok(())
    }

    /// Prefix tokens: class and distillation token.
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

    /// Width of a head.
    pub fn head_size(&self) -> usize {
        self.head_size.unwrap_or(self.width / self.heads)
    }

    /// Hidden width of the MLP.
    pub fn hidden(&self) -> usize {
        ((self.width as f64 * self.mlp_ratio) as usize).max(1)
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        // `usize` is too small in a browser.
        let (d, h) = (self.width as u64, self.hidden() as u64);
        let inner = self.heads as u64 * self.head_size() as u64;
        let patch = (self.channels * self.patch_size.pow(2)) as u64;
        let linear = |inputs: u64, outputs: u64| inputs * outputs + outputs;
        let qkv = 3 * inner * d + if self.qkv_bias { 3 * inner } else { 0 };
        let block = 4 * d + qkv + linear(inner, d) + linear(d, h) + linear(h, d);
        let heads = if self.distillation_token && !self.shared_head { 2 } else { 1 };
        linear(patch, d)
            + if self.patch_norm { 2 * (patch + d) } else { 0 }
            + (self.prefix_tokens() + self.tokens()) as u64 * d
            + self.depth as u64 * block
            + 2 * d
            + heads * linear(d, self.classes as u64)
    }

    /// The sizes by which it is compared with another network.
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
        Ok(self.build(&Initialiser::new(seed, device)))
    }

    /// Builds a validated network with values from `draw`.
    pub(super) fn build(&self, draw: &Initialiser) -> VisionTransformer {
        let d = self.width;
        let tokens = |path: &str, count, std| match self.init {
            WeightInit::Pytorch => draw.normal(path, [1, count, d], std),
            WeightInit::TruncatedNormal | WeightInit::Xavier => draw.truncated_normal(path, [1, count, d], std),
        };
        let token = |path: &str| tokens(path, 1, self.init.token_std());
        let head = |path: &str| draw.linear(path, self.init, d, self.classes, 1);
        let blocks = (0..self.depth).map(|i| Block::new(self, i, draw)).collect();
        VisionTransformer {
            patch_embed: PatchEmbed::new(self, draw),
            cls_token: self.class_token.then(|| token("cls_token")),
            dist_token: self.distillation_token.then(|| token("dist_token")),
            pos_embed: tokens("pos_embed", self.tokens(), self.init.position_std()),
            blocks,
            norm: (self.pool != Pool::Mean).then(|| layer_norm(self, d, draw)),
            fc_norm: (self.pool == Pool::Mean).then(|| layer_norm(self, d, draw)),
            head: head("head"),
            head_dist: (self.distillation_token && !self.shared_head).then(|| head("head_dist")),
            pools_patches: self.pool != Pool::Class,
            drop_path: self.drop_path,
            embedding_dropout: self.embedding_dropout,
            drops_elements: self.embedding_dropout + self.attention_dropout + self.dropout > 0.0,
            layer_norm_eps: self.layer_norm_eps,
        }
    }
}

/// The vision transformer. See the module's documentation.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    patch_embed: PatchEmbed,
    cls_token: Option<Param<Tensor<3>>>,
    dist_token: Option<Param<Tensor<3>>>,
    pos_embed: Param<Tensor<3>>,
    blocks: Vec<Block>,
    // The last LayerNorm has two names in timm: `norm` before a token is read, `fc_norm` after the mean.
    norm: Option<LayerNorm>,
    fc_norm: Option<LayerNorm>,
    head: Linear,
    head_dist: Option<Linear>,
    pools_patches: bool,
    drop_path: f64,
    embedding_dropout: f64,
    drops_elements: bool,
    layer_norm_eps: f64,
}

impl VisionTransformer {
    /// The names of the linear layers that give logits, the class head first.
    pub const HEADS: &[&str] = &["head", "head_dist"];
    /// The last parts of the names of the matrices without weight decay, as DeiT does.
    pub const UNDECAYED: &[&str] = &["cls_token", "dist_token", "pos_embed"];

    /// The type of its parameters.
    pub(super) fn dtype(&self) -> DType {
        self.pos_embed.val().dtype()
    }

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

    /// As [`VisionTransformer::forward`], and stores what `taps` request.
    ///
    /// # Panics
    /// If a tap names a block that the network does not have. `Objective::check` refuses such an objective.
    pub fn forward_with(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        let patches = self.patch_embed.forward(images, self.layer_norm_eps);
        let [batch, _, width] = patches.dims();
        let prefix: Vec<Tensor<3>> = [&self.cls_token, &self.dist_token]
            .into_iter()
            .flatten()
            .map(|token| token.val().expand([batch, 1, width]))
            .collect();
        let prefix_tokens = prefix.len();
        let mut x =
            if prefix.is_empty() { patches } else { Tensor::cat(prefix.into_iter().chain([patches]).collect(), 1) };
        x = drop(x + self.pos_embed.val(), self.embedding_dropout, training);
        let mut recorder = Recorder::new(taps);
        let mut normed = None;
        for (index, block) in self.blocks.iter().enumerate() {
            let next = self.blocks.get(index + 1).map(|block| &block.norm1);
            (x, normed) = block.forward(x, normed, next, index, training, Tap::of(&mut recorder, index));
            recorder.tokens(index, &x);
        }
        let (logits, distillation_logits) = self.read_out(x, prefix_tokens, &mut recorder);
        recorder.trace(logits, distillation_logits, prefix_tokens)
    }

    // From the last tokens [B, N, D] to the logits of both heads.
    fn read_out(
        &self,
        x: Tensor<3>,
        prefix_tokens: usize,
        recorder: &mut Recorder<'_>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let patches = x.dims()[1] - prefix_tokens;
        let eps = self.layer_norm_eps;
        // LayerNorm works token by token, so only the tokens that a head reads are normalised.
        let normed = |x: Tensor<3>| match &self.norm {
            Some(norm) => normalise(norm, x, eps),
            None => x,
        };
        let (prefix, pooled) = if self.pools_patches {
            let mean = normed(x.clone().narrow(1, prefix_tokens, patches)).mean_dim(1);
            ((prefix_tokens > 0).then(|| normed(x.narrow(1, 0, prefix_tokens))), Some(mean))
        } else {
            (Some(normed(x.narrow(1, 0, prefix_tokens))), None)
        };
        // The features of a token [B, 1, D] for a head.
        let read = |token: Tensor<3>| {
            let token = token.squeeze_dim::<2>(1);
            match &self.fc_norm {
                Some(norm) => normalise(norm, token, eps),
                None => token,
            }
        };
        let token = |index: usize| prefix.clone().map(|prefix| prefix.narrow(1, index, 1));
        // The distillation token is the last before the patches; its head may be the class token's.
        let distillation = self.dist_token.as_ref().and_then(|_| {
            let token = token(prefix_tokens - 1)?;
            Some(project(self.head_dist.as_ref().unwrap_or(&self.head), read(token)))
        });
        let class = pooled.or_else(|| token(0)).expect("a valid configuration pools, or has a class token");
        let features = read(class);
        recorder.features(|| features.clone());
        (project(&self.head, features), distillation)
    }

    /// The elements and branches that a training pass of this network drops: see `Training::draw`.
    pub fn draw_training(&self, seed: u64, step: u64, batch: usize, device: &Device) -> Training {
        let dropped = Dropped { drop_path: self.drop_path, depth: self.blocks.len(), elements: self.drops_elements };
        Training::draw(&dropped, seed, step, batch, device)
    }
}

/// Cuts an image into patches and projects each. This is a convolution whose stride is its kernel size, computed as one matrix
/// product.
#[derive(Module, Debug)]
struct PatchEmbed {
    // Over the pixels of a patch, in the order of `proj.weight`: channel, row, column.
    norm_in: Option<LayerNorm>,
    proj: Projection,
    norm_out: Option<LayerNorm>,
}

/// The parameters of the projection, in the layout of a convolution, which checkpoints have.
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
            WeightInit::TruncatedNormal | WeightInit::Pytorch => {
                let bound = 1.0 / libm::sqrtf(inputs as f32);
                (draw.uniform(path, [d, c, p, p], bound), draw.uniform("patch_embed.proj.bias", [d], bound))
            }
            WeightInit::Xavier => {
                let bound = libm::sqrtf(6.0 / (inputs + d) as f32);
                (draw.uniform(path, [d, c, p, p], bound), draw.constant([d], 0.0))
            }
        };
        let norm = |size| config.patch_norm.then(|| layer_norm(config, size, draw));
        Self { norm_in: norm(inputs), proj: Projection { weight, bias }, norm_out: norm(d) }
    }

    // images [B, C, S, S] -> [B, patches, D]
    fn forward(&self, images: Tensor<4>, eps: f64) -> Tensor<3> {
        let normed = |norm: &Option<LayerNorm>, x: Tensor<2>| match norm {
            Some(norm) => normalise(norm, x, eps),
            None => x,
        };
        let [batch, channels, height, width] = images.dims();
        let weight = self.proj.weight.val();
        let [d, _, p, _] = weight.dims();
        let (rows, columns) = (height / p, width / p);
        let patches = images
            .reshape([batch, channels, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, channels * p * p]);
        let weight = weight.reshape([d, channels * p * p]).transpose();
        let embedded = op::linear(normed(&self.norm_in, patches), weight, self.proj.bias.val());
        normed(&self.norm_out, embedded).reshape([batch, rows * columns, d])
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
        let (d, h, inner) = (config.width, config.hidden(), config.heads * config.head_size());
        let linear = |part: &str, inputs, outputs, parts| {
            draw.linear(&format!("blocks.{index}.{part}"), config.init, inputs, outputs, parts)
        };
        let mut qkv = linear("attn.qkv", d, 3 * inner, 3);
        if !config.qkv_bias {
            qkv.bias = None;
        }
        Self {
            norm1: layer_norm(config, d, draw),
            attn: Attention {
                qkv,
                proj: linear("attn.proj", inner, d, 1),
                heads: config.heads,
                attention_dropout: config.attention_dropout,
                dropout: config.dropout,
            },
            norm2: layer_norm(config, d, draw),
            mlp: Mlp { fc1: linear("mlp.fc1", d, h, 1), fc2: linear("mlp.fc2", h, d, 1), dropout: config.dropout },
            eps: config.layer_norm_eps,
        }
    }

    // x [B, N, D]; normed: `norm1` of x, if it is known; next: a norm for the result, which is then returned normalised as well;
    // tap: where to store the inputs of attention, if they were requested
    fn forward(
        &self,
        x: Tensor<3>,
        normed: Option<Tensor<3>>,
        next: Option<&LayerNorm>,
        index: usize,
        training: Option<&Training>,
        tap: Option<Tap<'_, '_>>,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        // The scales [B, 1, 1] of the two branches.
        let scales = training.and_then(Training::drop_path).map(|drop_path| drop_path.scales(index));
        let scale = |branch: usize| scales.as_ref().map(|scales| scales[branch].clone());
        let normed = normed.unwrap_or_else(|| normalise(&self.norm1, x.clone(), self.eps));
        let mixed = self.attn.forward(normed, training, tap);
        let attention =
            Branch { layer: &self.attn.proj, input: mixed, dropout: self.attn.dropout, scale: scale(0), training };
        let [x, normed] = attention.add_and_normalise(x, &self.norm2, self.eps);
        let hidden = self.mlp.forward(normed, training);
        let mlp = Branch { layer: &self.mlp.fc2, input: hidden, dropout: self.mlp.dropout, scale: scale(1), training };
        match next {
            Some(norm) => {
                let [x, normed] = mlp.add_and_normalise(x, norm, self.eps);
                (x, Some(normed))
            }
            None => (mlp.add(x), None),
        }
    }
}

/// The end of a residual branch.
struct Branch<'a> {
    layer: &'a Linear,
    input: Tensor<3>,
    // For the output of the layer.
    dropout: f64,
    // The scale of each image's branch, [B, 1, 1], if branches are dropped.
    scale: Option<Tensor<3>>,
    training: Option<&'a Training>,
}

impl Branch<'_> {
    fn add(self, x: Tensor<3>) -> Tensor<3> {
        let branch = drop(project(self.layer, self.input), self.dropout, self.training);
        x + match self.scale {
            Some(scale) => branch * scale,
            None => branch,
        }
    }

    fn add_and_normalise(self, x: Tensor<3>, norm: &LayerNorm, eps: f64) -> [Tensor<3>; 2] {
        let drops = self.training.is_some() && self.dropout > 0.0;
        if !drops && self.scale.is_none() {
            return add_and_normalise(x, self.layer, self.input, norm, eps);
        }
        let sum = self.add(x);
        [sum.clone(), normalise(norm, sum, eps)]
    }
}

/// Multi-head self-attention with one packed projection.
#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    attention_dropout: f64,
    dropout: f64,
}

impl Attention {
    // Up to the input of `proj`.
    fn forward(&self, x: Tensor<3>, training: Option<&Training>, tap: Option<Tap<'_, '_>>) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let qkv = project(&self.qkv, x);
        let inner = qkv.dims()[2] / 3;
        let head_size = inner / self.heads;
        let qkv = qkv.reshape([batch, tokens, 3, self.heads, head_size]);
        let scale = 1.0 / libm::sqrt(head_size as f64);
        let mixed = if training.is_some() && self.attention_dropout > 0.0 {
            if let Some(tap) = tap {
                tap.leave(qkv.clone().into());
            }
            explicit(qkv, scale, Over::Keys, self.attention_dropout, training)
        } else {
            attend(qkv, scale, tap)
        };
        mixed.reshape([batch, tokens, inner])
    }
}

/// Linear, exact GELU, linear.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
    dropout: f64,
}

impl Mlp {
    // Up to the input of `fc2`.
    fn forward(&self, x: Tensor<3>, training: Option<&Training>) -> Tensor<3> {
        drop(op::gelu(project(&self.fc1, x)), self.dropout, training)
    }
}

fn layer_norm(config: &VitConfig, size: usize, draw: &Initialiser) -> LayerNorm {
    LayerNormConfig::new(size).with_epsilon(config.layer_norm_eps).init(draw.device())
}
