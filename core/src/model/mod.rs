//! The networks: the architectures, one interface to all of them, and the names of models.
//!
//! Parameter paths are timm's (`blocks.0.attn.qkv.weight`), so checkpoints need no table of names. Initial values are drawn on
//! the host from (seed, parameter path), so every device starts from the same bits.

mod attention;
mod check;
#[cfg(feature = "all-models")]
mod conv;
#[cfg(feature = "all-models")]
pub mod distillvit;
pub mod init;
pub(crate) mod layers;
pub mod network;
#[cfg(feature = "all-models")]
pub mod regnet;
#[cfg(feature = "all-models")]
pub mod resnet;
mod shape;
pub mod trace;
pub mod training;
pub mod vit;
pub mod zoo;

pub use check::ConfigError;
#[cfg(feature = "all-models")]
pub use distillvit::{DistillVit, DistillVitConfig};
pub use init::Initialiser;
pub use network::{Network, NetworkConfig};
#[cfg(feature = "all-models")]
pub use regnet::{RegNet, RegNetConfig};
#[cfg(feature = "all-models")]
pub use resnet::{ResNet, ResNetConfig};
pub use shape::NetworkShape;
pub use trace::{Recorder, Statistics, Taps, Trace};
pub use training::{DropPath, Training};
pub use vit::{Pool, VisionTransformer, VitConfig};
