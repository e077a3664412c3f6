//! The networks: one configurable vision transformer, its parts, and the names under which it is asked for.
//!
//! Parameter paths follow timm (`blocks.0.attn.qkv.weight`), so that a checkpoint is mapped by layout and not by a table.
//! Initial values are drawn on the host from (seed, parameter path): every device starts from the same bits.

pub mod init;
pub mod vit;
pub mod zoo;

pub use init::Initialiser;
pub use vit::{DropPath, NetworkShape, Pool, Taps, Trace, VisionTransformer, VitConfig};
