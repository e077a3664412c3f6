//! The names of other libraries. Checkpoints of timm, torchvision and transformers are recognised by their keys.
//!
//! All tensors get timm's names, and queries, keys and values are packed. Tensors that no network needs are left out. An unknown
//! name is kept, so that it is reported as unexpected.

use std::collections::BTreeMap;

use super::NamedTensor;

/// The keys under which a file may hold its tensors, if they are not at the top.
const WRAPPERS: [&str; 7] =
    ["model.", "state_dict.", "model_state_dict.", "state.", "module.", "_orig_mod.", "model_ema."];

/// The library whose names a file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Timm,
    TorchvisionVit,
    TorchvisionRegNet,
    Transformers,
}

/// `tensors` with timm's names, from the names of any known library. Tensors that no network needs are left out.
pub fn to_timm(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let tensors = unwrapped(tensors);
    let layout = recognise(&tensors);
    let rename: fn(&str) -> Option<String> = match layout {
        Layout::Timm => |_| None,
        Layout::TorchvisionVit => torchvision_vit,
        Layout::TorchvisionRegNet => torchvision_regnet,
        Layout::Transformers => transformers,
    };
    let tensors = tensors
        .into_iter()
        .filter(|tensor| !is_needless(&tensor.name))
        .map(|tensor| NamedTensor { name: rename(&tensor.name).unwrap_or(tensor.name), ..tensor })
        .collect();
    if layout == Layout::Transformers { packed(tensors) } else { tensors }
}

fn recognise(tensors: &[NamedTensor]) -> Layout {
    let has = |part: &str| tensors.iter().any(|tensor| tensor.name.contains(part));
    if has("embeddings.cls_token") {
        Layout::Transformers
    } else if has("trunk_output.") {
        Layout::TorchvisionRegNet
    } else if has("encoder.layers.encoder_layer_") {
        Layout::TorchvisionVit
    } else {
        Layout::Timm
    }
}

// Training scripts store the network next to the optimiser. Wrappers of modules add their name as a prefix.
fn unwrapped(mut tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    // At most two of them are nested.
    for _ in 0..2 {
        let is_network = |tensor: &NamedTensor| {
            let first = tensor.name.split('.').next().unwrap_or_default();
            matches!(first, "cls_token" | "patch_embed" | "conv_proj" | "vit" | "deit" | "stem" | "conv1" | "blocks")
        };
        if tensors.iter().any(is_network) {
            break;
        }
        let holds = |wrapper: &&&str| tensors.iter().any(|tensor| tensor.name.starts_with(**wrapper));
        let Some(wrapper) = WRAPPERS.iter().find(holds) else { break };
        tensors.retain_mut(|tensor| match tensor.name.strip_prefix(wrapper) {
            Some(rest) => {
                tensor.name = rest.to_owned();
                true
            }
            None => false,
        });
    }
    tensors
}

fn is_needless(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
        || name.starts_with("pre_logits.")
        || name.contains(".pooler.")
        || name.ends_with("embeddings.mask_token")
        // Layers of CLS-KD's students for the comparison with the teacher. They are not needed to classify.
        || name.starts_with("projector.")
}

fn torchvision_vit(name: &str) -> Option<String> {
    let whole = [
        ("class_token", "cls_token"),
        ("conv_proj.", "patch_embed.proj."),
        ("encoder.pos_embedding", "pos_embed"),
        ("encoder.ln.", "norm."),
        ("heads.head.", "head."),
    ];
    if let Some(rest) = name.strip_prefix("encoder.layers.encoder_layer_") {
        let (index, rest) = rest.split_once('.')?;
        let parts = [
            ("ln_1.", "norm1."),
            ("self_attention.in_proj_", "attn.qkv."),
            ("self_attention.out_proj.", "attn.proj."),
            ("ln_2.", "norm2."),
            ("mlp.0.", "mlp.fc1."),
            ("mlp.linear_1.", "mlp.fc1."),
            ("mlp.3.", "mlp.fc2."),
            ("mlp.linear_2.", "mlp.fc2."),
        ];
        return Some(format!("blocks.{index}.{}", begin(rest, &parts)?));
    }
    begin(name, &whole)
}

fn torchvision_regnet(name: &str) -> Option<String> {
    let Some(rest) = name.strip_prefix("trunk_output.block") else {
        return begin(name, &[("stem.0.", "stem.conv."), ("stem.1.", "stem.bn."), ("fc.", "head.fc.")]);
    };
    // block1.block1-0.f.a.0.weight: stage, block from 0, branch, layer, convolution (0) or normalisation (1).
    let (stage, rest) = rest.split_once('.')?;
    let (block, rest) = rest.split_once('.')?;
    let index: usize = block.split_once('-')?.1.parse().ok()?;
    let parts = [
        ("proj.0.", "downsample.conv."),
        ("proj.1.", "downsample.bn."),
        ("f.a.0.", "conv1.conv."),
        ("f.a.1.", "conv1.bn."),
        ("f.b.0.", "conv2.conv."),
        ("f.b.1.", "conv2.bn."),
        ("f.se.", "se."),
        ("f.c.0.", "conv3.conv."),
        ("f.c.1.", "conv3.bn."),
    ];
    Some(format!("s{stage}.b{}.{}", index.checked_add(1)?, begin(rest, &parts)?))
}

fn transformers(name: &str) -> Option<String> {
    let inner = name.strip_prefix("vit.").or_else(|| name.strip_prefix("deit.")).unwrap_or(name);
    let layer = inner.strip_prefix("encoder.layer.").or_else(|| inner.strip_prefix("layers."));
    if let Some((index, rest)) = layer.and_then(|rest| rest.split_once('.')) {
        // The names in files, and the names that version 5 uses in memory.
        let parts = [
            ("layernorm_before.", "norm1."),
            ("attention.attention.query.", "attn.q."),
            ("attention.attention.key.", "attn.k."),
            ("attention.attention.value.", "attn.v."),
            ("attention.q_proj.", "attn.q."),
            ("attention.k_proj.", "attn.k."),
            ("attention.v_proj.", "attn.v."),
            ("attention.output.dense.", "attn.proj."),
            ("attention.o_proj.", "attn.proj."),
            ("layernorm_after.", "norm2."),
            ("intermediate.dense.", "mlp.fc1."),
            ("output.dense.", "mlp.fc2."),
            ("mlp.", "mlp."),
        ];
        return Some(format!("blocks.{index}.{}", begin(rest, &parts)?));
    }
    let whole = [
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.distillation_token", "dist_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("layernorm.", "norm."),
        ("classifier.", "head."),
        ("cls_classifier.", "head."),
        ("distillation_classifier.", "head_dist."),
    ];
    begin(inner, &whole)
}

// `name` with its prefix replaced, by the first of `pairs` that matches.
fn begin(name: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}

// Queries, keys and values of a block in one tensor, with the rows in this order. An incomplete set does not change.
fn packed(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let mut sets: BTreeMap<String, [Option<NamedTensor>; 3]> = BTreeMap::new();
    let mut all = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let part = ["q", "k", "v"].iter().position(|part| tensor.name.contains(&format!(".attn.{part}.")));
        match part {
            Some(part) => {
                let name = tensor.name.replacen([".attn.q.", ".attn.k.", ".attn.v."][part], ".attn.qkv.", 1);
                sets.entry(name).or_default()[part] = Some(tensor);
            }
            None => all.push(tensor),
        }
    }
    for (name, set) in sets {
        match set {
            [Some(q), Some(k), Some(v)] if q.shape == k.shape && k.shape == v.shape && !q.shape.is_empty() => {
                let mut shape = q.shape;
                shape[0] *= 3;
                all.push(NamedTensor { name, shape, values: [q.values, k.values, v.values].concat() });
            }
            incomplete => all.extend(incomplete.into_iter().flatten()),
        }
    }
    all
}
