//! What stands beside weights from a hub: `config.json` and `preprocessor_config.json`, as timm and transformers write them.
//!
//! They say which network it is, what its classes are called and how pictures are brought to it. What they say that has no
//! equal here is left to the network's own check of its tensors.

use std::path::Path;

use potstill_core::data::{Interpolation, Normalisation, Preprocess, Resize};
use potstill_core::model::{NetworkConfig, VitConfig, zoo};
use serde_json::Value;

use super::file::bounded;
use crate::error::{Context, Result};

/// The default of transformers' vision transformers, which a `config.json` may leave out.
pub const EPSILON: f64 = 1e-12;

/// What the files beside weights say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// The model's name.
    pub name: String,
    /// Which network it is, if its name is known here.
    pub config: Option<NetworkConfig>,
    /// The classes' names in the order of the logits.
    pub class_names: Option<Vec<String>>,
    /// How pictures are brought to it.
    pub preprocess: Option<Preprocess>,
    /// What they are normalised by.
    pub normalisation: Option<Normalisation>,
}

impl Card {
    /// Reads what lies beside the weights in `folder`; `None` where no `config.json` of a known kind does.
    ///
    /// # Errors
    /// Exit code 1 for a file that is no JSON.
    pub fn beside(folder: &Path) -> Result<Option<Self>> {
        let json = |name: &str| -> Result<Option<Value>> {
            let path = folder.join(name);
            let bytes = path.is_file().then(|| bounded(&path)).transpose()?;
            bytes.map(|bytes| serde_json::from_slice(&bytes).context(path.display())).transpose()
        };
        let Some(config) = json("config.json")? else { return Ok(None) };
        if config["architecture"].is_string() {
            return Ok(Some(Self::of_timm(&config)));
        }
        match config["model_type"].as_str() {
            Some(family @ ("vit" | "deit")) => {
                Ok(Some(Self::of_transformers(family, &config, json("preprocessor_config.json")?.as_ref())))
            }
            _ => Ok(None),
        }
    }

    fn of_timm(config: &Value) -> Self {
        // Older files have its entries at the top.
        let own = if config["pretrained_cfg"].is_object() { &config["pretrained_cfg"] } else { config };
        let name = config["architecture"].as_str().unwrap_or_default().to_owned();
        let network = zoo::named(&name).map(|mut network| {
            if let Some(side) = own["input_size"].get(2).and_then(whole) {
                network = network.with_image_size(side);
            }
            if let Some(classes) = whole(&config["num_classes"]).or_else(|| whole(&own["num_classes"])) {
                network = network.with_classes(classes);
            }
            network
        });
        let labels = [&config["label_names"], &own["label_names"]].into_iter().find_map(names);
        let usual = Preprocess::of_model(&name).map(|(preprocess, _)| preprocess).unwrap_or_default();
        let preprocess = own["crop_pct"].as_f64().map(|crop_fraction| Preprocess {
            crop_fraction,
            interpolation: match own["interpolation"].as_str() {
                Some("bilinear") => Interpolation::Bilinear,
                Some("bicubic") => Interpolation::Bicubic,
                _ => usual.interpolation,
            },
            resize: if own["crop_mode"] == "squash" { Resize::Squash } else { Resize::Shortest },
        });
        let normalisation = statistics(&own["mean"], &own["std"]);
        Self { name, config: network, class_names: labels, preprocess, normalisation }
    }

    fn of_transformers(family: &str, config: &Value, pictures: Option<&Value>) -> Self {
        let usual = VitConfig::default();
        let number = |key: &str, usual: usize| whole(&config[key]).unwrap_or(usual);
        let width = number("hidden_size", 768);
        let labels = labels(&config["id2label"]);
        // A file leaves out what is usual, and two classes are.
        let classes = whole(&config["num_labels"]).or(config["id2label"].as_object().map(|map| map.len())).unwrap_or(2);
        let network = VitConfig {
            image_size: number("image_size", usual.image_size),
            patch_size: number("patch_size", usual.patch_size),
            channels: number("num_channels", usual.channels),
            classes,
            width,
            depth: number("num_hidden_layers", 12),
            heads: number("num_attention_heads", 12),
            qkv_bias: config["qkv_bias"].as_bool().unwrap_or(true),
            mlp_ratio: number("intermediate_size", 4 * width) as f64 / width.max(1) as f64,
            distillation_token: family == "deit",
            layer_norm_eps: config["layer_norm_eps"].as_f64().unwrap_or(EPSILON),
            ..usual
        };
        let pictures = pictures.unwrap_or(&Value::Null);
        Self {
            name: format!("{family}_of_transformers"),
            config: Some(network.into()),
            class_names: labels,
            preprocess: prepared(pictures),
            normalisation: match pictures["do_normalize"].as_bool() {
                Some(false) => Some(Normalisation::identity(3)),
                _ => statistics(&pictures["image_mean"], &pictures["image_std"]),
            },
        }
    }
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// `id2label`, a map from numbers as text; what was never named says nothing.
fn labels(map: &Value) -> Option<Vec<String>> {
    let map = map.as_object()?;
    let of = |index: usize| map.get(&index.to_string()).and_then(Value::as_str).map(str::to_owned);
    let names: Vec<String> = (0..map.len()).map(of).collect::<Option<_>>()?;
    let unnamed = names.iter().enumerate().all(|(index, name)| *name == format!("LABEL_{index}"));
    (!unnamed).then_some(names)
}

fn statistics(mean: &Value, std: &Value) -> Option<Normalisation> {
    let numbers = |value: &Value| -> Option<Vec<f32>> {
        value.as_array()?.iter().map(|number| number.as_f64().map(|number| number as f32)).collect()
    };
    Some(Normalisation { mean: numbers(mean)?, std: numbers(std)? })
}

/// The image processors of transformers resize both sides to `size`, or the shortest where it says so, and keep the middle.
fn prepared(pictures: &Value) -> Option<Preprocess> {
    let side = |size: &Value| {
        let either = [&size["height"], &size["shortest_edge"]].into_iter().find_map(whole);
        whole(size).or(either)
    };
    let size = side(&pictures["size"])?;
    let kept = match pictures["do_center_crop"].as_bool() {
        Some(true) => side(&pictures["crop_size"])?,
        _ => size,
    };
    let preprocess = Preprocess {
        resize: if pictures["size"]["shortest_edge"].is_u64() { Resize::Shortest } else { Resize::Squash },
        crop_fraction: pictures["crop_pct"].as_f64().unwrap_or(kept as f64 / size.max(1) as f64),
        // As Pillow numbers its filters.
        interpolation: if pictures["resample"] == 3 { Interpolation::Bicubic } else { Interpolation::Bilinear },
    };
    preprocess.check().is_ok().then_some(preprocess)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn card(files: &[(&str, &str)]) -> Option<Card> {
        let folder = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).expect("writes"));
        Card::beside(folder.path()).expect("reads")
    }

    #[test]
    fn timms_config_says_all() {
        let text = r#"{"architecture": "deit_tiny_patch16_224", "num_classes": 2, "pretrained_cfg": {"mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25], "crop_pct": 0.95, "crop_mode": "squash", "interpolation": "bilinear",
            "input_size": [3, 384, 384], "label_names": ["cat", "dog"]}}"#;
        let card = card(&[("config.json", text)]).expect("a card");
        let config = card.config.expect("known");
        assert_eq!((config.image_size(), config.classes()), (384, 2));
        assert_eq!(card.class_names, Some(vec!["cat".to_owned(), "dog".to_owned()]));
        assert_eq!(card.normalisation, Some(Normalisation { mean: vec![0.5; 3], std: vec![0.25; 3] }));
        let interpolation = Interpolation::Bilinear;
        assert_eq!(card.preprocess, Some(Preprocess { resize: Resize::Squash, crop_fraction: 0.95, interpolation }));
    }

    #[test]
    fn transformers_configs_say_the_network_and_its_pictures() {
        let config = r#"{"model_type": "vit", "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3,
            "intermediate_size": 384, "image_size": 32, "patch_size": 8, "id2label": {"0": "a", "10": "k", "2": "c"}}"#;
        let pictures = r#"{"do_center_crop": true, "crop_size": {"height": 224, "width": 224}, "resample": 3,
            "size": {"height": 256, "width": 256}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}"#;
        let found = card(&[("config.json", config), ("preprocessor_config.json", pictures)]).expect("a card");
        let Some(NetworkConfig::Vit(vit)) = found.config else { panic!("a vision transformer") };
        assert_eq!((vit.width, vit.depth, vit.classes, vit.layer_norm_eps, vit.mlp_ratio), (192, 3, 3, EPSILON, 2.0));
        assert_eq!(found.class_names, None, "numbers with gaps name nothing");
        let interpolation = Interpolation::Bicubic;
        let squashed = Preprocess { resize: Resize::Squash, crop_fraction: 0.875, interpolation };
        assert_eq!((found.preprocess, found.normalisation.expect("said").mean), (Some(squashed), vec![0.1, 0.2, 0.3]));
        let config = r#"{"model_type": "deit", "layer_norm_eps": 1e-5, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#;
        let found = card(&[("config.json", config)]).expect("a card");
        let Some(NetworkConfig::Vit(vit)) = found.config else { panic!("a vision transformer") };
        assert!(vit.distillation_token && vit.layer_norm_eps == 1e-5);
        assert_eq!((vit.classes, found.class_names, found.preprocess), (2, None, None));
        assert_eq!(card(&[("config.json", r#"{"model_type": "bert"}"#)]), None);
        assert_eq!(card(&[]), None);
    }
}
