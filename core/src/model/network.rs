//! Every architecture behind one interface, and what the rest of the crate asks of a network.
//!
//! [`NetworkConfig`] is what recipes, checkpoints and the zoo hold; [`Network`] is what trains, evaluates and teaches.
//! Nothing outside this folder names an architecture.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

#[cfg(feature = "all-models")]
use super::distillvit::{DistillVit, DistillVitConfig};
use super::init::Initialiser;
#[cfg(feature = "all-models")]
use super::regnet::{RegNet, RegNetConfig};
#[cfg(feature = "all-models")]
use super::resnet::{ResNet, ResNetConfig};
use super::training::Training;
use super::vit::{VisionTransformer, VitConfig};
use crate::kernel::{QueriesAndKeys, attention_map};

/// The same expression for every architecture: `each!(self, NetworkConfig(config) => config.validate())`.
macro_rules! each {
    ($network:expr, $kind:ident($inner:ident) => $body:expr) => {
        match $network {
            $kind::Vit($inner) => $body,
            #[cfg(feature = "all-models")]
            $kind::RegNet($inner) => $body,
            #[cfg(feature = "all-models")]
            $kind::ResNet($inner) => $body,
            #[cfg(feature = "all-models")]
            $kind::DistillVit($inner) => $body,
        }
    };
}

/// A network by its numbers. In JSON and TOML `family` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum NetworkConfig {
    /// A vision transformer (ViT, DeiT).
    Vit(VitConfig),
    /// A RegNet.
    #[cfg(feature = "all-models")]
    RegNet(RegNetConfig),
    /// A ResNet.
    #[cfg(feature = "all-models")]
    ResNet(ResNetConfig),
    /// A transformer of DistillViT.
    #[cfg(feature = "all-models")]
    DistillVit(DistillVitConfig),
}

impl From<VitConfig> for NetworkConfig {
    fn from(config: VitConfig) -> Self {
        Self::Vit(config)
    }
}

#[cfg(feature = "all-models")]
impl From<RegNetConfig> for NetworkConfig {
    fn from(config: RegNetConfig) -> Self {
        Self::RegNet(config)
    }
}

#[cfg(feature = "all-models")]
impl From<ResNetConfig> for NetworkConfig {
    fn from(config: ResNetConfig) -> Self {
        Self::ResNet(config)
    }
}

#[cfg(feature = "all-models")]
impl From<DistillVitConfig> for NetworkConfig {
    fn from(config: DistillVitConfig) -> Self {
        Self::DistillVit(config)
    }
}

impl NetworkConfig {
    /// The architecture's name, as `family` spells it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Vit(_) => "vit",
            #[cfg(feature = "all-models")]
            Self::RegNet(_) => "regnet",
            #[cfg(feature = "all-models")]
            Self::ResNet(_) => "resnet",
            #[cfg(feature = "all-models")]
            Self::DistillVit(_) => "distillvit",
        }
    }

    /// Checks every number before anything is allocated.
    ///
    /// # Errors
    /// [`ConfigError`] naming the number, its value and what is accepted.
    pub fn validate(&self) -> Result<(), ConfigError> {
        each!(self, NetworkConfig(config) => config.validate())
    }

    /// The least side of an image that it reads whole.
    pub fn least_side(&self) -> usize {
        each!(self, NetworkConfig(config) => config.least_side())
    }

    /// The same kind of network made small, to see that all of it runs: at most `depth` blocks, where it is of blocks, for
    /// images of `side`.
    pub fn reduced(&self, depth: usize, side: usize) -> Self {
        each!(self, NetworkConfig(config) => config.reduced(depth, side).into())
    }

    /// Builds the network on `device` with values drawn from `seed`.
    ///
    /// # Errors
    /// Whatever [`NetworkConfig::validate`] finds.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Network, ConfigError> {
        self.validate()?;
        Ok(self.build(&Initialiser::new(seed, device)))
    }

    /// Builds the network with zeros that take no memory before they are read, to be filled with given weights.
    ///
    /// # Errors
    /// Whatever [`NetworkConfig::validate`] finds.
    pub fn blank(&self, device: &Device) -> Result<Network, ConfigError> {
        self.validate()?;
        Ok(self.build(&Initialiser::blank(device)))
    }

    /// As [`NetworkConfig::blank`], with heads drawn from `seed`.
    ///
    /// # Errors
    /// Whatever [`NetworkConfig::validate`] finds.
    pub fn blank_but_heads(&self, seed: u64, device: &Device) -> Result<Network, ConfigError> {
        self.validate()?;
        Ok(self.build(&Initialiser::blank_but(seed, self.heads(), device)))
    }

    /// The names of the linear layers that give logits, the class head first.
    pub fn heads(&self) -> &'static [&'static str] {
        match self {
            Self::Vit(_) => &["head", "head_dist"],
            #[cfg(feature = "all-models")]
            Self::RegNet(_) => &["head.fc"],
            #[cfg(feature = "all-models")]
            Self::ResNet(_) => &["fc"],
            #[cfg(feature = "all-models")]
            Self::DistillVit(_) => &["head"],
        }
    }

    fn build(&self, draw: &Initialiser) -> Network {
        each!(self, NetworkConfig(config) => config.build(draw).into())
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        each!(self, NetworkConfig(config) => config.parameters())
    }

    /// The sizes by which it is compared with another.
    pub fn shape(&self) -> NetworkShape {
        each!(self, NetworkConfig(config) => config.shape())
    }

    /// Side of the square input, in pixels.
    pub fn image_size(&self) -> usize {
        each!(self, NetworkConfig(config) => config.image_size)
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        each!(self, NetworkConfig(config) => config.channels)
    }

    /// Outputs of each head.
    pub fn classes(&self) -> usize {
        each!(self, NetworkConfig(config) => config.classes)
    }

    /// The same for images of another size.
    pub fn with_image_size(mut self, image_size: usize) -> Self {
        each!(&mut self, NetworkConfig(config) => config.image_size = image_size);
        self
    }

    /// The same for images of other channels.
    pub fn with_channels(mut self, channels: usize) -> Self {
        each!(&mut self, NetworkConfig(config) => config.channels = channels);
        self
    }

    /// The same for other classes.
    pub fn with_classes(mut self, classes: usize) -> Self {
        each!(&mut self, NetworkConfig(config) => config.classes = classes);
        self
    }
}

/// A network. Its parameters go by timm's names whatever the architecture.
// A process holds a handful of networks; a box around each would only cost a name in every path of a parameter.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Network {
    /// A vision transformer (ViT, DeiT).
    Vit(VisionTransformer),
    /// A RegNet.
    #[cfg(feature = "all-models")]
    RegNet(RegNet),
    /// A ResNet.
    #[cfg(feature = "all-models")]
    ResNet(ResNet),
    /// A transformer of DistillViT.
    #[cfg(feature = "all-models")]
    DistillVit(DistillVit),
}

impl From<VisionTransformer> for Network {
    fn from(model: VisionTransformer) -> Self {
        Self::Vit(model)
    }
}

#[cfg(feature = "all-models")]
impl From<RegNet> for Network {
    fn from(model: RegNet) -> Self {
        Self::RegNet(model)
    }
}

#[cfg(feature = "all-models")]
impl From<ResNet> for Network {
    fn from(model: ResNet) -> Self {
        Self::ResNet(model)
    }
}

#[cfg(feature = "all-models")]
impl From<DistillVit> for Network {
    fn from(model: DistillVit) -> Self {
        Self::DistillVit(model)
    }
}

impl Network {
    /// Its sizes.
    pub fn shape(&self) -> NetworkShape {
        each!(self, Network(model) => model.shape())
    }

    /// Runs the network on `images` `[B, C, S, S]`; `training` is `None` outside training.
    pub fn forward(&self, images: Tensor<4>, training: Option<&Training>) -> Trace {
        self.forward_with(images, training, &Taps::default())
    }

    /// As [`Network::forward`], and keeps what `taps` ask for.
    ///
    /// # Panics
    /// If a tap names a block that the network has not; `Objective::check` refuses such an objective.
    pub fn forward_with(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        if self.is_half() {
            return self.forward_in_its_own(images.cast(FloatDType::F16), training, taps).single();
        }
        self.forward_in_its_own(images, training, taps)
    }

    // In the precision of its parameters, which is that of `images` and of the trace.
    fn forward_in_its_own(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        match self {
            Self::Vit(model) => model.forward_with(images, training, taps),
            #[cfg(feature = "all-models")]
            Self::DistillVit(model) => model.forward_with(images, training, taps),
            #[cfg(feature = "all-models")]
            Self::RegNet(_) | Self::ResNet(_) if !taps.is_empty() => {
                panic!("a convolutional network has no tokens to tap")
            }
            #[cfg(feature = "all-models")]
            Self::RegNet(model) => model.forward(images, training),
            #[cfg(feature = "all-models")]
            Self::ResNet(model) => model.forward(images, training),
        }
    }

    /// The network with its parameters in half precision (`f16`), for inference. It reads images of `f32` and gives a trace
    /// of `f32`; what lies between is rounded to `f16` after every operation, and sums are of `f32`.
    pub fn halved(self) -> Self {
        self.map(&mut Halved)
    }

    fn is_half(&self) -> bool {
        // All its parameters have one type.
        #[cfg_attr(not(feature = "all-models"), allow(irrefutable_let_patterns))]
        let Self::Vit(model) = self else { return false };
        model.dtype() == DType::F16
    }

    /// Draws what one training step of `batch` images drops; the same `seed` and `step` give the same.
    pub fn draw_training(&self, seed: u64, step: u64, batch: usize, device: &Device) -> Training {
        match self {
            Self::Vit(model) => model.draw_training(seed, step, batch, device),
            #[cfg(feature = "all-models")]
            Self::DistillVit(model) => model.draw_training(seed, step, batch, device),
            #[cfg(feature = "all-models")]
            Self::RegNet(_) | Self::ResNet(_) => Training::default(),
        }
    }

    /// The network with the running statistics that a training pass left in its [`Trace`].
    pub fn with_statistics(self, statistics: Statistics) -> Self {
        if statistics.0.is_empty() {
            return self;
        }
        self.map(&mut Renewal(statistics.0.into_iter().collect()))
    }
}

/// Puts new values into the parameters that have one.
struct Renewal(HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for Renewal {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.0.remove(&param.id) else { return param };
        param.map(|old| {
            let value = value.reshape(old.shape());
            if old.device().is_autodiff() { Tensor::from_inner(value) } else { value }
        })
    }
}

/// Why a configuration describes no network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A size is zero or beyond what any such network has.
    #[error("{field} is {value}; it must lie between {min} and {max}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// What was asked for.
        value: f64,
        /// The least that is accepted.
        min: f64,
        /// The most that is accepted.
        max: f64,
    },
    /// One size must divide another.
    #[error("{what} ({whole}) is not a multiple of {part_name} ({part})")]
    NotDivisible {
        /// What is divided.
        what: &'static str,
        /// Its size.
        whole: usize,
        /// By what.
        part_name: &'static str,
        /// The divisor.
        part: usize,
    },
    /// Class pooling without a class token.
    #[error("pool = \"class\" needs class_token = true; set it, or pool = \"mean\"")]
    NoClassToken,
}

/// Checks a size; `field` names it.
pub(super) fn range(field: &'static str, value: usize, max: usize) -> Result<(), ConfigError> {
    real(field, value as f64, 1.0, max as f64)
}

/// Checks a number; NaN is refused.
pub(super) fn real(field: &'static str, value: f64, min: f64, max: f64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { field, value, min, max }) }
}

/// Checks that `part` divides `whole`.
pub(super) fn divides(
    what: &'static str,
    whole: usize,
    part_name: &'static str,
    part: usize,
) -> Result<(), ConfigError> {
    if whole.is_multiple_of(part) { Ok(()) } else { Err(ConfigError::NotDivisible { what, whole, part_name, part }) }
}

/// What the blocks of a transformer leave for taps, as they run.
pub(super) struct Left<'a> {
    taps: &'a Taps,
    // By block, of those that are asked for.
    tokens: HashMap<usize, Tensor<3>>,
    queries_and_keys: HashMap<usize, QueriesAndKeys>,
    attention_maps: HashMap<usize, Tensor<3>>,
}

impl<'a> Left<'a> {
    pub(super) fn new(taps: &'a Taps) -> Self {
        let (tokens, queries_and_keys, attention_maps) = Default::default();
        Self { taps, tokens, queries_and_keys, attention_maps }
    }

    /// Where a block's attention leaves what is asked for, if anything is.
    pub(super) fn tap(&mut self, block: usize) -> Option<Tap<'_, 'a>> {
        let asked = [&self.taps.queries_and_keys, &self.taps.attention_maps].into_iter().any(|of| of.contains(&block));
        asked.then_some(Tap { left: self, block })
    }

    /// Keeps the tokens `[B, N, D]` after a block, if they are asked for.
    pub(super) fn leave_tokens(&mut self, block: usize, tokens: &Tensor<3>) {
        if self.taps.tokens.contains(&block) {
            self.tokens.insert(block, tokens.clone());
        }
    }

    /// The trace with these logits.
    ///
    /// # Panics
    /// If a tap names a block that did not run.
    pub(super) fn trace(
        self,
        logits: Tensor<2>,
        distillation_logits: Option<Tensor<2>>,
        prefix_tokens: usize,
    ) -> Trace {
        Trace {
            logits,
            distillation_logits,
            tokens: named(&self.taps.tokens, &self.tokens),
            queries_and_keys: named(&self.taps.queries_and_keys, &self.queries_and_keys),
            attention_maps: named(&self.taps.attention_maps, &self.attention_maps),
            prefix_tokens,
            statistics: Statistics::default(),
        }
    }
}

/// Where a block's attention leaves what is asked for.
pub(super) struct Tap<'l, 'a> {
    left: &'l mut Left<'a>,
    block: usize,
}

impl Tap<'_, '_> {
    /// Keeps what is asked for, a map without what it follows from.
    pub(super) fn leave(self, attended: QueriesAndKeys) {
        let Self { left, block } = self;
        if left.taps.queries_and_keys.contains(&block) {
            left.queries_and_keys.insert(block, attended.clone());
        }
        if left.taps.attention_maps.contains(&block) {
            left.attention_maps.insert(block, attention_map(attended));
        }
    }
}

// What each tap named, in the order of the taps.
fn named<T: Clone>(taps: &[usize], left: &HashMap<usize, T>) -> Vec<T> {
    let block = |index| left.get(index).cloned().unwrap_or_else(|| panic!("there is no block {index} to tap"));
    taps.iter().map(block).collect()
}

/// The sizes by which two networks are compared before one teaches the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkShape {
    /// Blocks.
    pub depth: usize,
    /// Width D of the residual stream.
    pub width: usize,
    /// Tokens N, prefix tokens among them.
    pub tokens: usize,
    /// Tokens that are no patch; they come first.
    pub prefix_tokens: usize,
    /// Outputs of each head.
    pub classes: usize,
    /// Whether there is a class token, the first of all.
    pub class_token: bool,
    /// Whether there is a distillation token, the last before the patches.
    pub distillation_token: bool,
}

impl NetworkShape {
    /// Of a network that has no tokens: 0 of everything but classes.
    #[cfg(feature = "all-models")]
    pub(super) fn without_tokens(classes: usize) -> Self {
        Self { depth: 0, width: 0, tokens: 0, prefix_tokens: 0, classes, class_token: false, distillation_token: false }
    }

    /// Tokens that are patches.
    pub fn patches(&self) -> usize {
        self.tokens - self.prefix_tokens
    }
}

/// What an objective asks of a forward pass beside logits. Nothing else is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taps {
    /// Blocks, from 0, after which the tokens are kept.
    pub tokens: Vec<usize>,
    /// Blocks, from 0, whose queries and keys are kept.
    pub queries_and_keys: Vec<usize>,
    /// Blocks, from 0, whose head-averaged attention `[B, N, N]` is kept.
    pub attention_maps: Vec<usize>,
}

impl Taps {
    /// Whether logits alone are asked for.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.queries_and_keys.is_empty() && self.attention_maps.is_empty()
    }
}

/// What a forward pass hands to objectives and read-outs.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Class logits `[B, classes]`.
    pub logits: Tensor<2>,
    /// Logits of the distillation head `[B, classes]`, where there is one.
    pub distillation_logits: Option<Tensor<2>>,
    /// The residual stream `[B, N, D]` after each block of [`Taps::tokens`], in its order.
    pub tokens: Vec<Tensor<3>>,
    /// What attention was computed from, packed `[B, N, 3, H, D]`, of each block of [`Taps::queries_and_keys`], in its order.
    pub queries_and_keys: Vec<QueriesAndKeys>,
    /// The [`attention_map()`] `[B, N, N]` of each block of [`Taps::attention_maps`], in its order. No gradient flows through
    /// it.
    pub attention_maps: Vec<Tensor<3>>,
    /// How many of the tokens are no patches; they come first.
    pub prefix_tokens: usize,
    /// In a training pass: the running statistics after this batch, for [`Network::with_statistics`].
    pub statistics: Statistics,
}

/// New values of a network's running statistics, after one training pass. Empty where nothing is normalised by batch.
#[derive(Clone, Debug, Default)]
pub struct Statistics(pub(super) Vec<(ParamId, Tensor<1>)>);

struct Halved;

impl ModuleMapper for Halved {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|values| values.cast(FloatDType::F16))
    }
}

impl Trace {
    // The same in `f32`.
    fn single(self) -> Self {
        Self {
            logits: self.logits.cast(FloatDType::F32),
            distillation_logits: self.distillation_logits.map(|logits| logits.cast(FloatDType::F32)),
            tokens: self.tokens.into_iter().map(|tokens| tokens.cast(FloatDType::F32)).collect(),
            queries_and_keys: self
                .queries_and_keys
                .into_iter()
                .map(|QueriesAndKeys { packed, levels }| QueriesAndKeys {
                    packed: packed.cast(FloatDType::F32),
                    levels,
                })
                .collect(),
            ..self
        }
    }

    /// A trace of class logits `[B, classes]` alone, such as those computed before.
    pub fn of_logits(logits: Tensor<2>) -> Self {
        Self {
            logits,
            distillation_logits: None,
            tokens: Vec::new(),
            queries_and_keys: Vec::new(),
            attention_maps: Vec::new(),
            prefix_tokens: 0,
            statistics: Statistics::default(),
        }
    }
}
