//! Every architecture behind one interface, and what the rest of the crate asks of a network.
//!
//! [`NetworkConfig`] is what recipes, checkpoints and the zoo hold; [`Network`] is what trains, evaluates and teaches.
//! Nothing outside this folder names an architecture.

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

/// Every family of models, in one list: its name in recipes and checkpoints, what describes it, what runs.
///
/// A description (`VitConfig`) has `image_size`, `channels` and `classes`, and the methods that [`NetworkConfig`] asks of it: its
/// limits, its sizes, how it is made small, how it is built. What runs (`VisionTransformer`) has those that [`Network`] asks of it,
/// and says the names of its heads and of what never decays.
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
        /// A network by its numbers. In JSON and TOML `family` says which.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family")]
        pub enum NetworkConfig {
            $($(#[$cfg])? #[doc = $doc] #[serde(rename = $name)] $variant($config),)*
        }

        /// A network. Its parameters go by timm's names whatever the architecture.
        // A process holds a handful of networks; a box around each would only cost a name in every path of a parameter.
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

            /// The last part of the names of the matrices that weight decay leaves alone. Vectors it leaves alone in every
            /// network.
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

/// The same expression for every architecture: `each!(self, NetworkConfig(config) => config.validate())`.
macro_rules! each {
    ($network:expr, $kind:ident($inner:ident) => $body:expr) => {
        families!(dispatch!($network, $kind, $inner, $body))
    };
}

impl NetworkConfig {
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
        each!(self, Network(model) => model.forward_with(images, training, taps))
    }

    /// The network with its parameters in half precision (`f16`), for inference. It reads images of `f32` and gives a trace
    /// of `f32`; what lies between is rounded to `f16` after every operation, and sums are of `f32`.
    pub fn halved(self) -> Self {
        self.map(&mut Halved)
    }

    fn is_half(&self) -> bool {
        // All its parameters have one type.
        each!(self, Network(model) => model.dtype()) == DType::F16
    }

    /// Draws what one training step of `batch` images drops; the same `seed` and `step` give the same.
    pub fn draw_training(&self, seed: u64, step: u64, batch: usize, device: &Device) -> Training {
        each!(self, Network(model) => model.draw_training(seed, step, batch, device))
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

struct Halved;

impl ModuleMapper for Halved {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|values| values.cast(FloatDType::F16))
    }
}
