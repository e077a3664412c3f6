//! What lies beside a weights file: `config.json` and `preprocessor_config.json` of transformers, `config.json` of timm, and a
//! list of names, one a line.
//!
//! Why: the weights alone tell neither how many heads attention has, nor what the classes are called, nor how pictures are
//! prepared. Whatever is missing or makes no sense is passed over and stays a guess, which is noted as one.

use potstill_core::data::{Interpolation, Normalisation, Preprocess, Resize};
use serde_json::Value;

/// A file's name and text.
pub type TextFile = (String, String);

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// Attention heads of a block.
    pub heads: Option<usize>,
    /// Of the layer normalisations.
    pub layer_norm_eps: Option<f64>,
    /// One a class; empty where none are told.
    pub class_names: Vec<String>,
    /// Mean and deviation of a channel.
    pub normalisation: Option<Normalisation>,
    /// How pictures are resized and cut.
    pub preprocess: Option<Preprocess>,
}

impl Beside {
    /// Reads the files in their order.
    ///
    /// # Errors
    /// A line that names the file that is no JSON.
    pub fn read(files: &[TextFile]) -> Result<Self, String> {
        let mut found = Self::default();
        for (name, text) in files {
            if name.to_lowercase().ends_with(".json") {
                let json = serde_json::from_str(text).map_err(|error| format!("{name} is no JSON: {error}"))?;
                found.take(&json);
            } else {
                found.class_names = names(text);
            }
        }
        Ok(found)
    }

    fn take(&mut self, json: &Value) {
        let whole = |key: &str| json[key].as_u64().and_then(|number| usize::try_from(number).ok());
        self.heads = whole("num_attention_heads").or(self.heads);
        self.layer_norm_eps = json["layer_norm_eps"].as_f64().or(self.layer_norm_eps);
        if let Some(names) = labels(&json["id2label"]).or_else(|| list(&json["label_names"])) {
            self.class_names = names;
        }
        let trained = &json["pretrained_cfg"];
        let timm = normalisation(&trained["mean"], &trained["std"]);
        self.normalisation =
            timm.or_else(|| normalisation(&json["image_mean"], &json["image_std"])).or(self.normalisation.take());
        self.preprocess =
            preparation_of_timm(trained).or_else(|| preparation_of_transformers(json)).or(self.preprocess);
    }
}

/// Names, one a line.
pub fn names(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

// `{"0": "tench", "1": "goldfish"}`, in the order of the numbers; placeholders are none.
fn labels(json: &Value) -> Option<Vec<String>> {
    let map = json.as_object()?;
    let names: Vec<_> =
        (0..map.len()).map(|at| map.get(&at.to_string())?.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    let told = names.iter().enumerate().any(|(at, name)| *name != format!("LABEL_{at}"));
    told.then_some(names)
}

fn list(json: &Value) -> Option<Vec<String>> {
    json.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn normalisation(mean: &Value, std: &Value) -> Option<Normalisation> {
    let numbers = |json: &Value| {
        json.as_array()?.iter().map(|number| number.as_f64().map(|number| number as f32)).collect::<Option<Vec<_>>>()
    };
    let (mean, std) = (numbers(mean)?, numbers(std)?);
    (!mean.is_empty() && mean.len() == std.len() && std.iter().all(|std| *std > 0.0))
        .then_some(Normalisation { mean, std })
}

fn preparation_of_timm(json: &Value) -> Option<Preprocess> {
    let interpolation = match json["interpolation"].as_str()? {
        "bilinear" => Interpolation::Bilinear,
        _ => Interpolation::Bicubic,
    };
    let resize = if json["crop_mode"].as_str() == Some("squash") { Resize::Squash } else { Resize::Shortest };
    let own = Preprocess { resize, crop_fraction: json["crop_pct"].as_f64().unwrap_or(1.0), interpolation };
    own.check().is_ok().then_some(own)
}

fn preparation_of_transformers(json: &Value) -> Option<Preprocess> {
    let resample = json["resample"].as_u64()?;
    let side =
        |json: &Value| ["height", "shortest_edge"].iter().find_map(|key| json[key].as_f64()).or_else(|| json.as_f64());
    let resized = side(&json["size"])?;
    // A size of two numbers has both sides resized, and so had older files with a number alone.
    let resize = if json["size"]["shortest_edge"].is_null() { Resize::Squash } else { Resize::Shortest };
    let kept = if json["do_center_crop"].as_bool() == Some(true) { side(&json["crop_size"])? } else { resized };
    let interpolation = if resample == 2 { Interpolation::Bilinear } else { Interpolation::Bicubic };
    let own = Preprocess { resize, crop_fraction: (kept / resized).min(1.0), interpolation };
    own.check().is_ok().then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Beside {
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Beside::read(&files).expect("JSON")
    }

    #[test]
    fn transformers_files_are_read() {
        let found = read(&[
            (
                "config.json",
                r#"{"num_attention_heads":3,"layer_norm_eps":1e-12,"id2label":{"1":"oak","0":"ash","2":"elm"}}"#,
            ),
            (
                "preprocessor_config.json",
                r#"{"size":{"height":256,"width":256},"do_center_crop":true,"crop_size":{"height":224,"width":224},
                    "resample":3,"image_mean":[0.5,0.5,0.5],"image_std":[0.25,0.25,0.25]}"#,
            ),
        ]);
        assert_eq!((found.heads, found.layer_norm_eps), (Some(3), Some(1e-12)));
        assert_eq!(found.class_names, ["ash", "oak", "elm"]);
        assert_eq!(found.normalisation.expect("told").std, [0.25; 3]);
        let expected =
            Preprocess { resize: Resize::Squash, crop_fraction: 0.875, interpolation: Interpolation::Bicubic };
        assert_eq!(found.preprocess, Some(expected));
    }

    #[test]
    fn timm_files_and_lists_are_read() {
        let found = read(&[
            (
                "config.json",
                r#"{"architecture":"vit_tiny_patch16_224","pretrained_cfg":{"interpolation":"bilinear","crop_pct":0.9,
                    "mean":[0.1],"std":[0.2]},"label_names":["a","b"]}"#,
            ),
            ("names.txt", "one\n two \n\nthree"),
        ]);
        assert_eq!(found.class_names, ["one", "two", "three"], "the last file counts");
        let expected =
            Preprocess { crop_fraction: 0.9, interpolation: Interpolation::Bilinear, ..Preprocess::default() };
        assert_eq!(found.preprocess, Some(expected));
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        let found = read(&[(
            "config.json",
            r#"{"id2label":{"0":"LABEL_0","1":"LABEL_1"},"num_attention_heads":-1,"image_mean":[1],"image_std":[0],"resample":3,"size":0}"#,
        )]);
        assert_eq!(found, Beside::default());
        let broken = Beside::read(&[("config.json".to_owned(), "{".to_owned())]).expect_err("no JSON");
        assert!(broken.contains("config.json"), "{broken}");
    }
}
