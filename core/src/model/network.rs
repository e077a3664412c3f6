//! One interface to all architectures, for the rest of the crate.
//!
//! Recipes, checkpoints and the zoo hold a [`NetworkConfig`]. A [`Network`] is trained, evaluated, or teaches. Nothing outside
//! this folder names an architecture.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use super::check::ConfigError;
#[cfg(feature = "all-models")]
use super::distillvit::{DistillVit, DistillVitConfig};
use super::init::Initialiser;
#[cfg(feature = "all-models")]
use super::regnet::{RegNet, RegNetConfig};
#[cfg(feature = "all-models")]
use super::resnet::{ResNet, ResNetConfig};
use super::shape::NetworkShape;
use super::trace::{Statistics, Taps, Trace};
use super::training::Training;
use super::vit::{VisionTransformer, VitConfig};

/// The list of all families of models. A line has the family's name in recipes and checkpoints, its configuration and its network.
///
/// A configuration (`VitConfig`) has `image_size`, `channels` and `classes`, and the methods that [`NetworkConfig`] calls: its
/// limits, its sizes, how to make it small, how to build it. A network (`VisionTransformer`) has the methods that [`Network`]
/// calls. It also names its heads, and the parameters without weight decay.
macro_rules! families {
    ($with:ident! $given:tt) => {
        $with! { $given
            [] Vit "vit" VitConfig VisionTransformer "A vision transformer (ViT, DeiT).";
            [cfg(feature = "all-models")] RegNet "regnet" RegNetConfig RegNet "A RegNet.";
            [cfg(feature = "all-models")] ResNet "resnet" ResNetConfig ResNet "A ResNet.";
            [cfg(feature = "all-models")] DistillVit "distillvit" DistillVitConfig DistillVit "A transformer of DistillViT.";
        }
    };
}

macro_rules! define {
    (() $([$($cfg:meta)?] $variant:ident $name:literal $config:ident $model:ident $doc:literal;)*) => {
        /// The configuration of a network. In JSON and TOML, `family` names the architecture.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family")]
        pub enum NetworkConfig {
            $($(#[$cfg])? #[doc = $doc] #[serde(rename = $name)] $variant($config),)*
        }

        /// A network. In every architecture, its parameters have timm's names.
        // A process holds only a few networks. A box around each would add a name to every parameter's path.
        #[allow(clippy::large_enum_variant)]
        #[derive(Module, Debug)]
        pub enum Network {
            $($(#[$cfg])? #[doc = $doc] $variant($model),)*
        }

        /// The names of all families, as `family` spells them.
        pub const FAMILIES: &[&str] = &[$($(#[$cfg])? $name,)*];

        impl NetworkConfig {
            /// The architecture's name, as `family` spells it.
            pub fn family(&self) -> &'static str {
                match self {
                    $($(#[$cfg])? Self::$variant(_) => $name,)*
                }
            }

            /// The names of the linear layers that give logits, the class head first.
            pub fn heads(&self) -> &'static [&'static str] {
                match self {
                    $($(#[$cfg])? Self::$variant(_) => $model::HEADS,)*
                }
            }
        }

        impl Network {
            /// The names of the linear layers that give logits, the class head first.
            pub fn heads(&self) -> &'static [&'static str] {
                match self {
                    $($(#[$cfg])? Self::$variant(_) => $model::HEADS,)*
                }
            }

            /// The last parts of the names of the matrices without weight decay. Vectors have no weight decay in any network.
            pub fn undecayed(&self) -> &'static [&'static str] {
                match self {
                    $($(#[$cfg])? Self::$variant(_) => $model::UNDECAYED,)*
                }
            }
        }

        $($(#[$cfg])? impl From<$config> for NetworkConfig {
            fn from(config: $config) -> Self {
                Self::$variant(config)
            }
        }

        $(#[$cfg])? impl From<$model> for Network {
            fn from(model: $model) -> Self {
                Self::$variant(model)
            }
        })*
    };
}

families!(define!());

macro_rules! dispatch {
    (
        ($network:expr, $kind:ident, $inner:ident, $body:expr)
        $([$($cfg:meta)?] $variant:ident $name:literal $config:ident $model:ident $doc:literal;)*
    ) => {
        match $network {
            $($(#[$cfg])? $kind::$variant($inner) => $body,)*
        }
    };
}

/// Applies the same expression to every architecture: `each!(self, NetworkConfig(config) => config.validate())`.
macro_rules! each {
    ($network:expr, $kind:ident($inner:ident) => $body:expr) => {
        families!(dispatch!($network, $kind, $inner, $body))
    };
}

impl NetworkConfig {
    /// Checks every number before anything is allocated.
    ///
    /// # Errors
    /// [`ConfigError`] with the number, its value and the accepted range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        each!(self, NetworkConfig(config) => config.validate())
    }

    /// Samples of which a training step needs so many at once: two where it normalises by batch over maps of one pixel.
    pub fn least_batch(&self) -> usize {
        match self {
            Self::Vit(_) => 1,
            #[cfg(feature = "all-models")]
            Self::DistillVit(_) => 1,
            // Five layers halve the side, rounded up.
            #[cfg(feature = "all-models")]
            Self::RegNet(_) | Self::ResNet(_) => 1 + usize::from(self.image_size() <= 32),
        }
    }

    /// The smallest side of an image that it reads completely.
    pub fn least_side(&self) -> usize {
        each!(self, NetworkConfig(config) => config.least_side())
    }

    /// A small network of the same kind, for a short test run: at most `depth` blocks, if it has blocks, for images of `side`.
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

    /// Builds the network with zeros that take no memory before they are read. It then gets given weights.
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

    fn build(&self, draw: &Initialiser) -> Network {
        each!(self, NetworkConfig(config) => config.build(draw).into())
    }

    /// Trainable values of the network, without building it.
    pub fn parameters(&self) -> u64 {
        each!(self, NetworkConfig(config) => config.parameters())
    }

    /// The sizes by which it is compared with another network.
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

    /// The same network for another image size.
    pub fn with_image_size(mut self, image_size: usize) -> Self {
        each!(&mut self, NetworkConfig(config) => config.image_size = image_size);
        self
    }

    /// The same network for another number of channels.
    pub fn with_channels(mut self, channels: usize) -> Self {
        each!(&mut self, NetworkConfig(config) => config.channels = channels);
        self
    }

    /// The same network for another number of classes.
    pub fn with_classes(mut self, classes: usize) -> Self {
        each!(&mut self, NetworkConfig(config) => config.classes = classes);
        self
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

    /// As [`Network::forward`], and stores what `taps` request.
    ///
    /// # Panics
    /// If a tap names a block that the network does not have. `Objective::check` refuses such an objective.
    pub fn forward_with(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        if self.is_half() {
            return self.forward_in_its_own(images.cast(FloatDType::F16), training, taps).single();
        }
        self.forward_in_its_own(images, training, taps)
    }

    // Runs in the precision of the parameters. `images` and the trace have the same precision.
    fn forward_in_its_own(&self, images: Tensor<4>, training: Option<&Training>, taps: &Taps) -> Trace {
        each!(self, Network(model) => model.forward_with(images, training, taps))
    }

    /// The network with its parameters in half precision (`f16`), for inference. It reads `f32` images and returns an `f32`
    /// trace. In between, every operation rounds to `f16`, and sums are `f32`.
    pub fn halved(self) -> Self {
        self.map(&mut Halved)
    }

    fn is_half(&self) -> bool {
        // All parameters have the same type.
        each!(self, Network(model) => model.dtype()) == DType::F16
    }

    /// Draws what a training step drops for `batch` images. The same `seed` and `step` give the same draws.
    pub fn draw_training(&self, seed: u64, step: u64, batch: usize, device: &Device) -> Training {
        each!(self, Network(model) => model.draw_training(seed, step, batch, device))
    }

    /// The network with the running statistics from the [`Trace`] of a training pass.
    pub fn with_statistics(self, statistics: Statistics) -> Self {
        if statistics.0.is_empty() {
            return self;
        }
        self.map(&mut Renewal(statistics.0.into_iter().collect()))
    }
}

/// Replaces the values of parameters that have a new value.
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

struct Halved;

impl ModuleMapper for Halved {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|values| values.cast(FloatDType::F16))
    }
}
