//! Pictures in every format and colour: the same pixels as Pillow's, or an error that says what is wrong.
//!
//! The files, and what Pillow makes of them, are written by tests/fixtures/make_pictures.py.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Place, lines, texts};
use image::RgbImage;
use potstill_core::data::{Decoding, Reading, decode};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures")
}

fn refused() -> BTreeMap<String, String> {
    serde_json::from_slice(&fs::read(fixtures().join("refused.json")).expect("reads")).expect("JSON")
}

/// Every picture that is read, with its bytes.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let refused = refused();
    let entries = fs::read_dir(fixtures()).expect("lists").flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let named = files.map(|entry| (entry.file_name().into_string().expect("text"), entry.path()));
    let read = named.filter(|(name, _)| !refused.contains_key(name) && name != "refused.json");
    read.map(|(name, path)| (name, fs::read(path).expect("reads"))).collect()
}

/// The greatest difference of a picture from what Pillow makes of it.
fn difference(bytes: &[u8], reading: Reading, expected: &RgbImage) -> Result<u8, String> {
    let found = decode(bytes, Decoding { reading, ..Decoding::default() }).map_err(|error| error.to_string())?;
    let (width, height) = (found.shape.width as u32, found.shape.height as u32);
    if (width, height) != expected.dimensions() {
        return Err(format!("it is {width} x {height}, and should be {:?}", expected.dimensions()));
    }
    Ok(found.pixels.iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0))
}

#[test]
fn every_picture_has_pillows_pixels() {
    let mut faults = Vec::new();
    let pictures = pictures();
    assert!(pictures.len() > 55, "{} pictures", pictures.len());
    for (name, bytes) in pictures {
        let expected = |reading: &str| {
            let path = fixtures().join(format!("expected/{name}{reading}.png"));
            path.is_file().then(|| image::open(path).expect("reads").into_rgb8())
        };
        let upright = expected("").expect("every picture has its pixels");
        // The decoder of JPEG rounds otherwise than libjpeg-turbo, which Pillow uses.
        let most = if bytes.starts_with(&[0xFF, 0xD8]) { 3 } else { 1 };
        let torchvision = expected(".torchvision").unwrap_or_else(|| upright.clone());
        for (reading, expected) in [(Reading::Upright, upright), (Reading::Torchvision, torchvision)] {
            match difference(&bytes, reading, &expected) {
                Ok(off) if off <= most => {}
                Ok(off) => faults.push(format!("{name} ({}): off by {off}", reading.name())),
                Err(error) => faults.push(format!("{name} ({}): {error}", reading.name())),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_no_picture_is_refused_with_its_name_and_why() {
    let place = Place::new();
    let refused = refused();
    let paths: Vec<String> = refused.keys().map(|name| fixtures().join(name).display().to_string()).collect();
    write_grey_network(&place);
    let more: Vec<&str> = ["--image"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let output = place.run("predict @/grey.safetensors --device cpu", &more);
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{err}");
    let said: Vec<&str> = err.lines().collect();
    assert_eq!(said.len(), refused.len(), "{err}");
    for ((name, reason), line) in refused.iter().zip(said) {
        assert!(line.starts_with("error: ") && line.contains(name) && line.contains(reason), "{reason:?}: {line}");
    }
    // What is cut short is read as far as it goes where that is asked for.
    for name in ["cut.jpg", "no-end.jpg", "cut.png"] {
        let image = fixtures().join(name).display().to_string();
        place.good("predict @/grey.safetensors --device cpu --allow-truncated --image", &[&image]);
    }
}

/// A network of one channel and 28 pixels that has nothing to do with digits.
fn write_grey_network(place: &Place) {
    use potstill_core::data::Normalisation;
    use potstill_core::model::{NetworkConfig, VitConfig};
    use potstill_core::weights::{self, Description, Metadata};

    let config: NetworkConfig = VitConfig {
        image_size: 28,
        patch_size: 14,
        channels: 1,
        classes: 2,
        width: 16,
        depth: 1,
        heads: 2,
        ..VitConfig::default()
    }
    .into();
    let mut description = Description::of("grey", config.clone(), &Metadata::new()).expect("valid");
    description.class_names = ["bright", "dark"].map(str::to_owned).to_vec();
    description.normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
    let network = config.init(3, &burn::tensor::Device::flex()).expect("valid");
    let tensors = futures(weights::read(&network));
    place.write("grey.safetensors", &weights::to_safetensors(&tensors, description.metadata()).expect("a file"));
}

fn futures<T, E: std::fmt::Debug>(read: impl Future<Output = Result<T, E>>) -> T {
    burn::cubecl::future::block_on(read).expect("readable")
}

#[test]
fn predict_sees_what_eval_sees() {
    use image::{Rgba, RgbaImage};

    let place = Place::new();
    write_grey_network(&place);
    let mut names = Vec::new();
    // Of any size, transparent in part, and nothing like ink on paper.
    for (class, level) in [("bright", 200), ("dark", 30)] {
        for number in 0..6u32 {
            let side = 20 + 7 * number;
            let picture = RgbaImage::from_fn(side, side + 3, |x, y| {
                let value = (level as u32 + (x * 5 + y * 3) % 40) as u8;
                Rgba([value, value / 2, 255 - value, if x < side / 4 { 0 } else { 255 }])
            });
            let name = format!("data/val/{class}/{number}.png");
            fs::create_dir_all(place.path(&name).parent().expect("a folder")).expect("makes");
            picture.save(place.path(&name)).expect("writes");
            names.push(place.text(&name));
        }
    }
    let exif = fixtures().join("turned-6.jpg");
    fs::copy(exif, place.path("data/val/dark/turned.jpg")).expect("copies");
    names.push(place.text("data/val/dark/turned.jpg"));
    for view in ["", "--reading torchvision", "--crop-ratio 0.5 --interpolation bilinear", "--mean 0.1 --std 0.3"] {
        let eval = format!("eval @/grey.safetensors --dataset folder --data-dir @/data --json --device cpu {view}");
        let measured = &lines(&place.good(&eval, &[]))[0];
        let more: Vec<&str> = ["--image"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let predicted = lines(&place.good(&format!("predict @/grey.safetensors --json --device cpu {view}"), &more));
        // The mean cross-entropy of what was predicted is the loss that was measured: to its last digits, the same pixels.
        let losses = predicted.iter().map(|line| {
            let logits: Vec<f64> =
                line["logits"].as_array().expect("logits").iter().map(|z| z.as_f64().expect("a number")).collect();
            let label = usize::from(line["image"].as_str().expect("a name").contains("/dark/"));
            logits.iter().map(|z| z.exp()).sum::<f64>().ln() - logits[label]
        });
        let loss = losses.sum::<f64>() / predicted.len() as f64;
        let expected = measured["loss"].as_f64().expect("a loss");
        assert!((loss - expected).abs() < 1e-6, "{view}: {loss} and {expected}");
    }
}
