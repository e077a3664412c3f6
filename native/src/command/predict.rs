//! `potstill predict`: what a network takes pictures for.

use std::io::{self, Write};

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::{ImageShape, normalised};
use potstill_core::train::metrics::softmax;
use serde::Serialize;

use crate::cli::Predict;
use crate::device::{self, DeviceChoice};
use crate::error::{Context, Failure, Result};
use crate::prepare;
use crate::run::{LoadedNetwork, load_network};

/// Pictures that go through the network together.
const BATCH: usize = 64;
/// Characters of a full bar.
const BAR: usize = 24;

/// One picture's classification.
#[derive(Debug, Serialize)]
struct Prediction {
    image: String,
    logits: Vec<f32>,
    top: Vec<Class>,
}

#[derive(Debug, Serialize)]
struct Class {
    index: usize,
    label: String,
    probability: f32,
}

/// Classifies every picture that can be read, in the order given.
///
/// # Errors
/// Exit code 1 if a picture could not be read, after the others were classified: each such picture is one line, of which
/// the last is the error that is returned.
pub fn run(options: &Predict, choice: &DeviceChoice) -> Result<()> {
    let chosen = device::choose(choice)?;
    let network = load_network(&options.network, &chosen.device)?;
    let side = network.config.image_size();
    let shape = ImageShape { channels: network.config.channels(), height: side, width: side };
    let mut out = io::stdout().lock();
    let mut unread: Option<Failure> = None;
    let mut named = options.json;
    for paths in options.image.chunks(BATCH) {
        let (mut names, mut pixels) = (Vec::new(), Vec::new());
        for path in paths {
            match prepare::read(path, shape, &network.preprocess) {
                Ok(image) => {
                    names.push(path.display().to_string());
                    pixels.extend(image);
                }
                Err(failure) => {
                    if let Some(earlier) = unread.replace(failure) {
                        eprintln!("error: {earlier}");
                    }
                }
            }
        }
        if names.is_empty() {
            continue;
        }
        let written =
            classify(&network, shape, names, pixels, options.top, &chosen.device)?.iter().try_for_each(|found| {
                if !std::mem::replace(&mut named, true) {
                    writeln!(out, "{} on {chosen}", network.path.display())?;
                }
                match options.json {
                    true => writeln!(out, "{}", serde_json::to_string(found)?),
                    false => out.write_all(for_people(found).as_bytes()),
                }
            });
        match written {
            // Whoever reads has read enough, as `head` has.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot write the predictions")?,
        }
    }
    unread.map_or(Ok(()), Err)
}

/// Runs the pictures, `(N, H, W, C)` bytes, through the network.
fn classify(
    network: &LoadedNetwork,
    shape: ImageShape,
    names: Vec<String>,
    pixels: Vec<u8>,
    top: usize,
    device: &Device,
) -> Result<Vec<Prediction>> {
    let count = names.len();
    let images = normalised(pixels, shape, &network.normalisation).map_err(Failure::work)?;
    let data = TensorData::new(images, [count, shape.channels, shape.height, shape.width]);
    let logits = network.classify(Tensor::<4>::from_data(data, device));
    let logits: Vec<f32> = logits.try_into_data().context("the device failed")?.iter().collect();
    let rows = logits.chunks(network.config.classes());
    Ok(names.into_iter().zip(rows).map(|(image, row)| prediction(image, row, &network.class_names, top)).collect())
}

fn prediction(image: String, logits: &[f32], class_names: &[String], top: usize) -> Prediction {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // Stable: of equals the first class comes first.
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let probabilities = softmax(logits, 1.0);
    let top = order
        .into_iter()
        .take(top)
        .map(|index| Class {
            index,
            label: class_names.get(index).cloned().unwrap_or_else(|| index.to_string()),
            probability: probabilities[index] as f32,
        })
        .collect();
    Prediction { image, logits: logits.to_vec(), top }
}

fn for_people(found: &Prediction) -> String {
    let width = found.top.iter().map(|class| class.label.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", found.image);
    for class in &found.top {
        let share = class.probability.clamp(0.0, 1.0);
        let bar = "#".repeat((share * BAR as f32).round() as usize);
        text += format!("  {:width$}  {:5.1} %  {bar}", class.label, 100.0 * class.probability).trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use potstill_core::data::{Normalisation, Preprocess};
    use potstill_core::method::Readout;
    use potstill_core::model::{NetworkConfig, VitConfig};

    use super::*;

    #[test]
    fn prepared_pictures_are_not_cropped_again() {
        let device = Device::flex();
        let config: NetworkConfig = VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 1,
            heads: 1,
            classes: 3,
            ..VitConfig::default()
        }
        .into();
        let network = LoadedNetwork {
            model: config.init(5, &device).expect("valid"),
            config,
            class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            normalisation: Normalisation::half(),
            preprocess: Preprocess { crop_fraction: 0.5, ..Preprocess::default() },
            readout: Readout::Class,
            name: "small".into(),
            path: "small".into(),
        };
        let shape = ImageShape { channels: 3, height: 16, width: 16 };
        let pixels: Vec<u8> = (0..shape.bytes()).map(|i| (i * i % 251) as u8).collect();
        // (H, W, C) bytes to (C, H, W) numbers from -1 to 1.
        let numbers = (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3));
        let numbers: Vec<f32> = numbers.map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
        let expected = network.classify(Tensor::from_data(TensorData::new(numbers, [1, 3, 16, 16]), &device));
        let found = classify(&network, shape, vec!["x.png".into()], pixels, 3, &device).expect("classified");
        for (found, expected) in found[0].logits.iter().zip(expected.into_data().iter::<f32>()) {
            assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        }
    }

    #[test]
    fn the_top_classes_are_the_likeliest_in_order() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        let found = prediction("x.png".to_owned(), &[1.0, 1000.0, 999.0, 1.0], &names, 3);
        let top: Vec<usize> = found.top.iter().map(|class| class.index).collect();
        assert_eq!(top, [1, 2, 0]);
        assert!((found.top[0].probability - 0.731_058_6).abs() < 1e-6);
        assert_eq!(prediction(String::new(), &[0.0; 4], &names, 9).top.len(), 4);
        let text = for_people(&found);
        assert_eq!(text.lines().nth(1), Some("  b   73.1 %  ##################"));
        assert_eq!(text.lines().nth(3), Some("  a    0.0 %"));
    }
}
