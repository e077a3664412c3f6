//! Loading a checkpoint into a network that differs from it: other names, another image size, other classes.

use burn::tensor::Device;

use super::layout::to_timm;
use super::positions::resample;
use super::state::assign_but;
use super::{AssignError, NamedTensor, Resampling};
use crate::model::{ConfigError, Network, NetworkConfig};

/// The allowed changes to a checkpoint that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// How position embeddings are resampled for another image size.
    pub resampling: Resampling,
    /// The seed of a new head, if the file's head has other classes or if there is none. With `None`, such a file is an error,
    /// since an untrained head is useless.
    pub new_head: Option<u64>,
}

/// A network with a file's weights.
#[derive(Debug)]
pub struct Fitted {
    /// The network.
    pub network: Network,
    /// The changes that made the file fit, one sentence each.
    pub notes: Vec<String>,
    /// Whether the head is new.
    pub new_head: bool,
}

/// Why a network cannot be built from a file's tensors.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The configuration is not accepted.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file is much smaller than the network.
    #[error("it holds {held} values, the model needs {needed}")]
    TooFew {
        /// Values in the file.
        held: u64,
        /// Values of the network.
        needed: u64,
    },
    /// The tensors do not fit.
    #[error(transparent)]
    Assign(#[from] AssignError),
}

/// Builds the network `config` on `device` from `tensors`, with the names of any known library.
///
/// # Errors
/// [`FitError`], with every tensor that is missing, unexpected or of the wrong shape. If the file is much smaller than the
/// network, it is refused before memory for the network is allocated.
pub fn fit(tensors: Vec<NamedTensor>, config: &NetworkConfig, how: &Fit, device: &Device) -> Result<Fitted, FitError> {
    config.validate()?;
    let mut tensors = to_timm(tensors);
    let held: u64 = tensors.iter().map(|tensor| tensor.values.len() as u64).sum();
    let needed = config.parameters();
    if needed > held.saturating_mul(2).saturating_add(1_000_000) {
        return Err(FitError::TooFew { held, needed });
    }
    let mut notes = Vec::new();
    notes.extend(resized(&mut tensors, config, how.resampling));
    let heads = config.heads();
    let found = classes(&tensors, config);
    let Some(seed) = how.new_head.filter(|_| found != Some(config.classes())) else {
        let network = assign_but(config.blank(device)?, tensors, &[])?;
        return Ok(Fitted { network, notes, new_head: false });
    };
    tensors.retain(|tensor| !heads.iter().any(|head| belongs(&tensor.name, head)));
    notes.push(match found {
        Some(classes) => {
            format!("its head tells {classes} classes apart and is replaced by a new one of {}", config.classes())
        }
        None => format!("it has no head and gets a new one of {} classes", config.classes()),
    });
    let network = assign_but(config.blank_but_heads(seed, device)?, tensors, heads)?;
    Ok(Fitted { network, notes, new_head: true })
}

/// The number of classes of the head in `tensors`, which have timm's names, for a network like `config`.
pub fn classes(tensors: &[NamedTensor], config: &NetworkConfig) -> Option<usize> {
    let is_head = |tensor: &&NamedTensor| config.heads().iter().any(|head| tensor.name == format!("{head}.weight"));
    tensors.iter().find(is_head)?.shape.first().copied()
}

/// The side of the square pictures that the position embedding in `tensors`, by timm's names, is of, for a network like
/// `config`; `None` where there is none, or it is of no square.
pub fn image_size(tensors: &[NamedTensor], config: &NetworkConfig) -> Option<usize> {
    #[cfg_attr(not(feature = "all-models"), allow(irrefutable_let_patterns))]
    let NetworkConfig::Vit(vit) = config else { return None };
    let &[1, tokens, _] = tensors.iter().find(|tensor| tensor.name == "pos_embed")?.shape.as_slice() else {
        return None;
    };
    let patches = tokens.checked_sub(vit.prefix_tokens())?;
    let across = patches.isqrt();
    (across > 0 && across * across == patches).then(|| across * vit.patch_size)
}

/// Whether the tensor `name` belongs to the layer `layer`.
pub(super) fn belongs(name: &str, layer: &str) -> bool {
    name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.'))
}

// Resamples the position embedding to the network's number of patches, and adds a note.
fn resized(tensors: &mut [NamedTensor], config: &NetworkConfig, how: Resampling) -> Option<String> {
    #[cfg_attr(not(feature = "all-models"), allow(irrefutable_let_patterns))]
    let NetworkConfig::Vit(vit) = config else { return None };
    let has = |name: &str| tensors.iter().any(|tensor| tensor.name == name);
    let prefix = usize::from(has("cls_token")) + usize::from(has("dist_token"));
    let positions = tensors.iter_mut().find(|tensor| tensor.name == "pos_embed")?;
    let &[1, tokens, width] = positions.shape.as_slice() else { return None };
    let from = tokens.checked_sub(prefix)?.isqrt();
    let to = vit.image_size / vit.patch_size;
    // Anything else has the wrong shape and is reported like that.
    let square = from > 0 && from * from + prefix == tokens && positions.values.len() == tokens * width;
    if !square || from == to || prefix != vit.prefix_tokens() || width != vit.width {
        return None;
    }
    let (kept, grid) = positions.values.split_at(prefix * width);
    positions.values = [kept, &resample(grid, from, to, width, how)].concat();
    positions.shape = vec![1, prefix + to * to, width];
    Some(format!("its positions of {from} x {from} patches are resampled to {to} x {to} ({})", how.name()))
}
