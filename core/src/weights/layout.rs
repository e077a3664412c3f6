//! The names of other libraries. Checkpoints of timm, torchvision and transformers are recognised by their keys.
//!
//! All tensors get timm's names, and queries, keys and values are packed. Tensors that no network needs are left out. An unknown
//! name is kept, so that it is reported as unexpected.

use std::collections::BTreeMap;

use super::NamedTensor;

/// Names by which a network is known wherever it lies in a file: its first layer's, of each layout.
const FIRST: [&str; 6] = [
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "conv_proj.weight",
    "stem.conv.weight",
    "stem.0.weight",
    "layer1.0.conv1.weight",
];
/// What a network without such a layer has.
const BLOCKS: &str = "blocks.0.";

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
    let tensors = locate(tensors, None).tensors;
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

/// Whether tensors have transformers' names.
pub fn is_of_transformers(tensors: &[NamedTensor]) -> bool {
    recognise(tensors) == Layout::Transformers
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

/// The network in a file: training scripts keep it beside an optimiser or a second network, and wrappers of modules put
/// their names before all others, several around each other.
#[derive(Debug)]
pub struct Located {
    /// Its tensors, without what stood before their names.
    pub tensors: Vec<NamedTensor>,
    /// What stood before their names, with its dot; empty of a file that is a network.
    pub prefix: String,
    /// Where the file has other networks.
    pub others: Vec<String>,
}

/// Finds the network among a file's tensors: below `prefix` if that is given, else the one that was trained and no mean of
/// it, and a student rather than its teacher. Tensors without a network are left as they are.
pub fn locate(mut tensors: Vec<NamedTensor>, prefix: Option<&str>) -> Located {
    let mut places = places(&tensors);
    let chosen = match prefix {
        Some(prefix) if prefix.is_empty() || prefix.ends_with('.') => prefix.to_owned(),
        Some(prefix) => format!("{prefix}."),
        None => places.iter().min_by_key(|place| (rank(place), place.len())).cloned().unwrap_or_default(),
    };
    places.retain(|place| *place != chosen);
    tensors.retain_mut(|tensor| {
        let Some(rest) = tensor.name.strip_prefix(&chosen) else { return false };
        // Another network inside this one's place.
        let inside = |place: &String| place.len() > chosen.len() && tensor.name.starts_with(place.as_str());
        let own = !places.iter().any(inside);
        tensor.name = rest.to_owned();
        own
    });
    Located { tensors, prefix: chosen, others: places }
}

// What stands before the names of each network in a file.
fn places(tensors: &[NamedTensor]) -> Vec<String> {
    let before = |part: &str| -> Vec<String> {
        let of = |tensor: &NamedTensor| {
            let (at, _) = tensor.name.match_indices(part).find(|(at, _)| is_start(&tensor.name, *at))?;
            let prefix = &tensor.name[..at];
            // transformers' own wrapper around the body, which the head is not in.
            let outer = prefix.strip_suffix("vit.").or_else(|| prefix.strip_suffix("deit."));
            Some(outer.filter(|outer| is_start(prefix, outer.len())).unwrap_or(prefix).to_owned())
        };
        tensors.iter().filter_map(of).collect()
    };
    let mut places: Vec<String> = FIRST.iter().flat_map(|first| before(first)).collect();
    if places.is_empty() {
        places = before(BLOCKS);
    }
    places.sort();
    places.dedup();
    places
}

// Whether a part of a dotted name begins at `at`.
fn is_start(name: &str, at: usize) -> bool {
    at == 0 || name[..at].ends_with('.')
}

// Which of several networks in a file is meant: the lower.
fn rank(place: &str) -> u8 {
    let has = |word: &str| place.contains(word);
    match () {
        () if ["ema", "averag", "swa", "shadow", "momentum"].into_iter().any(has) => 2,
        () if has("teacher") => 1,
        () => 0,
    }
}

fn is_needless(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
        || name.starts_with("pre_logits.")
        || name.starts_with("pooler.")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<NamedTensor> {
        names.iter().map(|name| NamedTensor { name: (*name).to_owned(), shape: vec![], values: vec![] }).collect()
    }

    fn below(prefixes: &[&str], names: &[&str]) -> Vec<NamedTensor> {
        let all: Vec<String> =
            prefixes.iter().flat_map(|prefix| names.iter().map(move |name| format!("{prefix}{name}"))).collect();
        named(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn a_network_is_found_below_any_wrapper() {
        let timm = ["cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight", "head.weight"];
        let torchvision = ["class_token", "conv_proj.weight", "encoder.ln.weight", "heads.head.weight"];
        let hub =
            ["vit.embeddings.cls_token", "vit.embeddings.patch_embeddings.projection.weight", "classifier.weight"];
        let body = ["embeddings.cls_token", "embeddings.patch_embeddings.projection.weight", "pooler.dense.weight"];
        let resnet = ["conv1.weight", "layer1.0.conv1.weight", "fc.weight"];
        let regnet = ["stem.0.weight", "trunk_output.block1.block1-0.f.a.0.weight"];
        let blocks = ["blocks.0.attn.qkv.weight", "head.weight"];
        for names in [&timm[..], &torchvision, &hub, &body, &resnet, &regnet, &blocks] {
            for prefix in [
                "",
                "module.",
                "state_dict.model._orig_mod.",
                "student.module.backbone.",
                "net.",
                "a.b.c.d.e.",
                "state_dict_ema.",
            ] {
                let mut tensors = below(&[prefix], names);
                tensors.extend(named(&["optimiser.state.0"]).into_iter().filter(|_| !prefix.is_empty()));
                let found = locate(tensors, None);
                let left: Vec<&str> = found.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
                assert_eq!((found.prefix.as_str(), &left[..]), (prefix, names));
                assert!(found.others.is_empty());
            }
        }
    }

    #[test]
    fn of_several_the_trained_one_is_taken_and_all_are_named() {
        let names = ["cls_token", "patch_embed.proj.weight"];
        for (prefixes, taken) in [
            (["state_dict_ema.", "state_dict."], "state_dict."),
            (["model_ema.module.", "model."], "model."),
            (["teacher.backbone.", "student.module.backbone."], "student.module.backbone."),
            (["", "momentum_encoder."], ""),
            (["ema.", "teacher."], "teacher."),
        ] {
            let other = prefixes.into_iter().find(|prefix| *prefix != taken).expect("two");
            let found = locate(below(&prefixes, &names), None);
            assert_eq!((found.prefix.as_str(), &found.others[..]), (taken, &[other.to_owned()][..]));
            assert_eq!(found.tensors, named(&names));
            let asked = locate(below(&prefixes, &names), Some(other.trim_end_matches('.')));
            assert_eq!((asked.prefix.as_str(), asked.tensors.len()), (other, 2));
        }
    }
}
