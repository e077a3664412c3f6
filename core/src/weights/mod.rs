//! Parameters by name: out of a network, into a network, and as safetensors bytes.
//!
//! Names and layouts are timm's (`blocks.0.attn.qkv.weight` as `[outputs, inputs]`). So a file that is written here loads in
//! timm, and a file from timm loads here. Files with the names of torchvision and transformers are translated when they are read.
//! Burn stores linear weights as `[inputs, outputs]` and calls LayerNorm's values gamma and beta. Only this module translates
//! between the two.

mod description;
mod fit;
mod layout;
mod positions;
mod safetensors;
mod state;

pub use self::safetensors::{Metadata, WeightsError, from_safetensors, to_safetensors, to_safetensors_half};
pub use description::{Description, DescriptionError, Measured, STATE_PREFIX};
pub use fit::{Fit, FitError, Fitted, classes, fit, image_size};
pub use layout::{Located, is_of_transformers, locate, to_timm};
pub use positions::{Resampling, resample};
pub(crate) use state::Path;
pub use state::{AssignError, NamedTensor, assign, read};
