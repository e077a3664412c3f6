//! A checkpoint into a network that it was not quite made for: other names, other image sizes, other classes.

use burn::tensor::Device;

use super::layout::to_timm;
use super::positions::resample;
use super::state::assign_but;
use super::{AssignError, NamedTensor, Resampling};
use crate::model::{ConfigError, Network, NetworkConfig};

/// What may be changed of a checkpoint to make it fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// How position embeddings of another image size are resampled.
    pub resampling: Resampling,
    /// The seed of a new head, where the file's tells other classes apart or it has none. `None` takes such a file for
    /// misshapen: a head that nothing trained says nothing.
    pub new_head: Option<u64>,
}

/// A network with a file's weights.
#[derive(Debug)]
pub struct Fitted {
    /// The network.
    pub network: Network,
    /// What was changed to make the file fit, a sentence each.
    pub notes: Vec<String>,
    /// Whether the head is new.
    pub new_head: bool,
}

/// Why a file's tensors make no network.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The configuration describes no network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A small file for a huge network.
    #[error("it holds {held} values, the model needs {needed}")]
    TooFew {
        /// Values in the file.
        held: u64,
        /// Values of the network.
        needed: u64,
    },
    /// Tensors that do not fit.
    #[error(transparent)]
    Assign(#[from] AssignError),
}

/// Builds the network `config` on `device` from `tensors`, by whosever names.
///
/// # Errors
/// [`FitError`], with every missing, extra and misshapen tensor; nothing of the network's size is allocated for a file that
/// is far smaller.
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

/// How many classes the head in `tensors`, by timm's names, tells apart, for a network like `config`.
pub fn classes(tensors: &[NamedTensor], config: &NetworkConfig) -> Option<usize> {
    let is_head = |tensor: &&NamedTensor| config.heads().iter().any(|head| tensor.name == format!("{head}.weight"));
    tensors.iter().find(is_head)?.shape.first().copied()
}

/// Whether the tensor `name` is one of the layer `layer`.
pub(super) fn belongs(name: &str, layer: &str) -> bool {
    name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.'))
}

// Brings the position embedding to the network's number of patches, and says so.
fn resized(tensors: &mut [NamedTensor], config: &NetworkConfig, how: Resampling) -> Option<String> {
    #[cfg_attr(not(feature = "all-models"), allow(irrefutable_let_patterns))]
    let NetworkConfig::Vit(vit) = config else { return None };
    let has = |name: &str| tensors.iter().any(|tensor| tensor.name == name);
    let prefix = usize::from(has("cls_token")) + usize::from(has("dist_token"));
    let positions = tensors.iter_mut().find(|tensor| tensor.name == "pos_embed")?;
    let &[1, tokens, width] = positions.shape.as_slice() else { return None };
    let from = tokens.checked_sub(prefix)?.isqrt();
    let to = vit.image_size / vit.patch_size;
    // Anything else is misshapen, and reported as that.
    let square = from > 0 && from * from + prefix == tokens && positions.values.len() == tokens * width;
    if !square || from == to || prefix != vit.prefix_tokens() || width != vit.width {
        return None;
    }
    let (kept, grid) = positions.values.split_at(prefix * width);
    positions.values = [kept, &resample(grid, from, to, width, how)].concat();
    positions.shape = vec![1, prefix + to * to, width];
    Some(format!("its positions of {from} x {from} patches are resampled to {to} x {to} ({})", how.name()))
}
