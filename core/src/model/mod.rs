//! The networks: the architectures, one interface to all of them, and the names under which they are asked for.
//!
//! Parameter paths follow timm (`blocks.0.attn.qkv.weight`), so that a checkpoint is mapped by layout and not by a table.
//! Initial values are drawn on the host from (seed, parameter path): every device starts from the same bits.

mod attention;
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
pub mod training;
pub mod vit;
pub mod zoo;

#[cfg(feature = "all-models")]
pub use distillvit::{DistillVit, DistillVitConfig};
pub use init::Initialiser;
pub use network::{ConfigError, Network, NetworkConfig, NetworkShape, Statistics, Taps, Trace};
#[cfg(feature = "all-models")]
pub use regnet::{RegNet, RegNetConfig};
#[cfg(feature = "all-models")]
pub use resnet::{ResNet, ResNetConfig};
pub use training::{DropPath, Training};
pub use vit::{Pool, VisionTransformer, VitConfig};
