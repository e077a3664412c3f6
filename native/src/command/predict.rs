//! `potstill predict`: what a network takes pictures for.

use std::io::{self, Write};
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::Transform;
use potstill_core::train::metrics::softmax;
use serde::Serialize;

use crate::cli::Predict;
use crate::device::{self, DeviceChoice};
use crate::error::{Context, Failure, Result};
use crate::pictures;
use crate::weights::{LoadedNetwork, load_network};

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
    let transform = network.transform();
    let mut out = io::stdout().lock();
    let mut unread: Option<Failure> = None;
    let mut named = options.json;
    for paths in options.image.chunks(BATCH) {
        let (mut names, mut images) = (Vec::new(), Vec::new());
        for path in paths {
            match read(path, &network, &transform) {
                Ok(image) => {
                    names.push(path.display().to_string());
                    images.extend(image);
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
        let written = classify(&network, names, images, options.top, &chosen.device)?.iter().try_for_each(|found| {
            if !std::mem::replace(&mut named, true) {
                writeln!(out, "{} on {chosen}\npictures  {}", network.path.display(), network.pictures())?;
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

/// A picture as the network reads it, `(C, H, W)`: what `eval` makes of the same file in a folder.
fn read(path: &Path, network: &LoadedNetwork, transform: &Transform) -> Result<Vec<f32>> {
    let fail = |reason: String| Failure::work(format!("cannot read the image {}: {reason}", path.display()));
    let picture = pictures::load(path, network.decoding).map_err(fail)?;
    let picture = transform.prepare(picture).map_err(|error| fail(error.to_string()))?;
    Ok(transform.numbers(&picture))
}

/// Runs the pictures, `(N, C, H, W)`, through the network.
fn classify(
    network: &LoadedNetwork,
    names: Vec<String>,
    images: Vec<f32>,
    top: usize,
    device: &Device,
) -> Result<Vec<Prediction>> {
    let (channels, side) = (network.config.channels(), network.config.image_size());
    let data = TensorData::new(images, [names.len(), channels, side, side]);
    let logits = network.classify(Tensor::<4>::from_data(data, device));
    let logits: Vec<f32> = logits.try_into_data().context("the device failed")?.iter().collect();
    let rows = logits.chunks(network.config.classes());
    for (name, row) in names.iter().zip(rows.clone()) {
        if row.iter().any(|logit| !logit.is_finite()) {
            let path = network.path.display();
            return Err(Failure::work(format!(
                "{path} gives no numbers for {name} (NaN or infinite): nothing is predicted"
            )));
        }
    }
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
    use super::*;

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
