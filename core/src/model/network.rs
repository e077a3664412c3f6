//! Every architecture behind one interface, and what the rest of the crate asks of a network.
//!
//! [`NetworkConfig`] is what recipes, checkpoints and the zoo hold; [`Network`] is what trains, evaluates and teaches.
//! Nothing outside this folder names an architecture.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::training::Training;
use super::vit::{VisionTransformer, VitConfig};

/// A network by its numbers. In JSON and TOML `family` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// A vision transformer (ViT, DeiT).
    Vit(VitConfig),
}

impl From<VitConfig> for NetworkConfig {
    fn from(config: VitConfig) -> Self {
        Self::Vit(config)
    }
}

impl NetworkConfig {
    /// The architecture's name, as `family` spells it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Vit(_) => "vit",
        }
    }

    /// Checks every number before anything is allocated.
    ///
    /// # Errors
    /// [`ConfigError`] naming the number, its value and what is accepted.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Vit(config) => config.validate(),
        }
    }

    /// Builds the network on `device` with values drawn from `seed`.
    ///
    /// # Errors
    /// Whatever [`NetworkConfig::validate`] finds.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Network, ConfigError> {
        match self {
            Self::Vit(config) => config.init(seed, device).map(Network::Vit),
        }
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Vit(config) => config.parameters(),
        }
    }

    /// The sizes by which it is compared with another.
    pub fn shape(&self) -> NetworkShape {
        match self {
            Self::Vit(config) => config.shape(),
        }
    }

    /// Side of the square input, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(config) => config.image_size,
        }
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        match self {
            Self::Vit(config) => config.channels,
        }
    }

    /// Outputs of each head.
    pub fn classes(&self) -> usize {
        match self {
            Self::Vit(config) => config.classes,
        }
    }
}

/// A network. Its parameters go by timm's names whatever the architecture.
#[derive(Module, Debug)]
pub enum Network {
    /// A vision transformer.
    Vit(VisionTransformer),
}

impl From<VisionTransformer> for Network {
    fn from(model: VisionTransformer) -> Self {
        Self::Vit(model)
    }
}

impl Network {
    /// Its sizes.
    pub fn shape(&self) -> NetworkShape {
        match self {
            Self::Vit(model) => model.shape(),
        }
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
        match self {
            Self::Vit(model) => model.forward_with(images, training, taps),
        }
    }

    /// Draws what one training step of `batch` images drops; the same `seed` and `step` give the same.
    pub fn draw_training(&self, seed: u64, step: u64, batch: usize, device: &Device) -> Training {
        match self {
            Self::Vit(model) => model.draw_training(seed, step, batch, device),
        }
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
}

impl Taps {
    /// Whether logits alone are asked for.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.queries_and_keys.is_empty()
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
    /// Packed queries, keys and values `[B, N, 3, H, D]` of each block of [`Taps::queries_and_keys`], in its order: what
    /// attention maps follow from, and never the maps.
    pub queries_and_keys: Vec<Tensor<5>>,
    /// How many of the tokens are no patches; they come first.
    pub prefix_tokens: usize,
}

impl Trace {
    /// A trace of class logits `[B, classes]` alone, such as those computed before.
    pub fn of_logits(logits: Tensor<2>) -> Self {
        Self { logits, distillation_logits: None, tokens: Vec::new(), queries_and_keys: Vec::new(), prefix_tokens: 0 }
    }
}
