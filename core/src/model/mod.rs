//! The networks: the architectures, one interface to all of them, and the names under which they are asked for.
//!
//! Parameter paths follow timm (`blocks.0.attn.qkv.weight`), so that a checkpoint is mapped by layout and not by a table.
//! Initial values are drawn on the host from (seed, parameter path): every device starts from the same bits.

pub mod init;
pub mod network;
pub mod training;
pub mod vit;
pub mod zoo;

pub use init::Initialiser;
pub use network::{ConfigError, Network, NetworkConfig, NetworkShape, Taps, Trace};
pub use training::{DropPath, Training};
pub use vit::{Pool, VisionTransformer, VitConfig};
