//! The Classify view: a network from a file, and what it takes a picture for.
//!
//! A file that `potstill` wrote says what its network is, what its classes are called and how its pictures are prepared. Of
//! any other vision transformer the numbers are read off the shapes of its tensors, by the names of timm, torchvision or
//! transformers; what shapes cannot tell is taken as published for such networks, and each such guess is noted.

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::data::preprocess::Resize;
use potstill_core::data::{
    ImageShape, Interpolation, Normalisation, Preprocess, Transform, decode, normalised, prepare,
};
use potstill_core::method::Readout;
use potstill_core::model::{Network, NetworkConfig, Pool, VitConfig};
use potstill_core::op::{LONGEST_ROW, WIDEST_HEAD};
use potstill_core::train::metrics::softmax;
use potstill_core::weights::{self, Description, Measured, Metadata, NamedTensor, STATE_PREFIX, to_timm};

use crate::beside::{Beside, TextFile};
use crate::distil::Clock;
use crate::look::look;
use crate::protocol::{Classified, ClassifierReport, Preparation, ReadoutChoice};
use crate::session::{Buffers, bytes_of};

/// Width of a head in every published vision transformer.
const HEAD: usize = 64;
/// Classes that are reported.
const TOP: usize = 5;

/// A network ready to classify pictures.
pub struct Classifier {
    report: ClassifierReport,
    network: Network,
    transform: Transform,
}

impl Classifier {
    /// Reads a classifier from safetensors bytes, and what lies beside them.
    ///
    /// # Errors
    /// One line: why a file is none, or does not go with the others.
    pub fn read(name: String, bytes: &[u8], beside: &[TextFile], device: &Device) -> Result<Self, String> {
        let (tensors, metadata) = weights::from_safetensors(bytes).map_err(|error| error.to_string())?;
        let described = Description::read(&metadata).map_err(|error| error.to_string())?;
        let beside = Beside::read(beside)?;
        let mut notes = Vec::new();
        let mut description = match described {
            Some(description) => description,
            None => guess(&name, &tensors, &metadata, &beside, &mut notes)?,
        };
        let (told, classes) = (beside.class_names.len(), description.class_names.len());
        if told > 0 && told != classes {
            return Err(format!("there are {told} names beside it, and it tells {classes} classes apart"));
        }
        if told > 0 {
            description.class_names = beside.class_names;
        }
        description.normalisation = beside.normalisation.unwrap_or(description.normalisation);
        description.preprocess = beside.preprocess.unwrap_or(description.preprocess);
        fits_the_page(&description.config)?;
        let network = description.network(tensors, device).map_err(|error| error.to_string())?;
        let Description { config, class_names, normalisation, preprocess, readout, .. } = description;
        let (side, channels) = (config.image_size(), config.channels());
        let shape = ImageShape { channels, height: side, width: side };
        let transform = Transform { preprocess, ..Transform::plain(shape, normalisation) };
        transform.check().map_err(|error| error.to_string())?;
        let report = ClassifierReport {
            name,
            summary: summary(&config),
            parameters: config.parameters().try_into().unwrap_or(u32::MAX),
            side: side as u32,
            class_names,
            two_heads: config.shape().distillation_token,
            readout: match readout {
                Readout::Class => ReadoutChoice::Class,
                Readout::Distill => ReadoutChoice::Distill,
                Readout::MeanLogits => ReadoutChoice::MeanLogits,
                Readout::MeanProbabilities => ReadoutChoice::Mean,
            },
            preparation: preparation(&transform),
            measured: Measured::read(&metadata).map(|measured| {
                let Measured { dataset, samples, accuracy } = measured;
                format!(
                    "When it was written, it was right on {:.1} % of {samples} pictures of {dataset}.",
                    100.0 * accuracy
                )
            }),
            notes,
        };
        Ok(Self { report, network, transform })
    }

    /// Prepares pictures otherwise from now on.
    ///
    /// # Errors
    /// What makes no sense; it is then as before.
    pub fn prepare(&mut self, wanted: Preparation) -> Result<(), String> {
        let Preparation { mean, std, crop, squash, bilinear } = wanted;
        let channels = self.transform.shape.channels;
        if (mean.len(), std.len()) != (channels, channels) || std.iter().any(|std| !(*std > 0.0 && std.is_finite())) {
            return Err(format!("mean and deviation are {channels} numbers each, and a deviation is above 0"));
        }
        let preprocess = Preprocess {
            resize: if squash { Resize::Squash } else { Resize::Shortest },
            crop_fraction: f64::from(crop),
            interpolation: if bilinear { Interpolation::Bilinear } else { Interpolation::Bicubic },
        };
        let transform = Transform { preprocess, ..Transform::plain(self.transform.shape, Normalisation { mean, std }) };
        transform.check().map_err(|error| error.to_string())?;
        self.report.preparation = preparation(&transform);
        self.transform = transform;
        Ok(())
    }

    /// What the file says of itself.
    pub fn report(&self) -> &ClassifierReport {
        &self.report
    }

    /// What the network takes the picture in `file` (PNG or JPEG) for. Buffers: the picture as the network saw it, RGBA, and
    /// its attention.
    ///
    /// # Errors
    /// One line: why the file is no picture, or that the device failed.
    pub async fn classify(
        &self,
        file: &[u8],
        readout: ReadoutChoice,
        device: &Device,
        clock: Clock,
    ) -> Result<(Classified, Buffers), String> {
        let shape = self.transform.shape;
        let pixels = prepare(&decode(file, true)?, shape, &self.transform.preprocess)?;
        let seen_as = rgba(&pixels, shape.channels);
        let images = normalised(pixels, shape, &self.transform.normalisation)?;
        let data = TensorData::new(images, [1, shape.channels, shape.height, shape.width]);
        let readout = match readout {
            _ if !self.report.two_heads => Readout::Class,
            ReadoutChoice::Class => Readout::Class,
            ReadoutChoice::Distill => Readout::Distill,
            ReadoutChoice::Mean => Readout::MeanProbabilities,
            ReadoutChoice::MeanLogits => Readout::MeanLogits,
        };
        let seen = look(&self.network, Tensor::<4>::from_data(data, device), readout, clock).await?;
        let probabilities = softmax(&seen.logits, 1.0);
        let mut order: Vec<u32> = (0..probabilities.len() as u32).collect();
        // Stable: of equals the first class comes first.
        order.sort_by(|&a, &b| probabilities[b as usize].total_cmp(&probabilities[a as usize]));
        let classified = Classified {
            top: order.into_iter().take(TOP).map(|class| (class, probabilities[class as usize] as f32)).collect(),
            logits: seen.logits,
            milliseconds: seen.milliseconds as f32,
            layers: seen.layers as u32,
            side: shape.height as u32,
            note: is_cut_jpeg(file).then(|| "The file ends early, so a part of the picture is missing.".into()),
        };
        Ok((classified, vec![seen_as, bytes_of(&seen.attention)]))
    }
}

fn preparation(transform: &Transform) -> Preparation {
    let Normalisation { mean, std } = transform.normalisation.clone();
    Preparation {
        mean,
        std,
        crop: transform.preprocess.crop_fraction as f32,
        squash: transform.preprocess.resize == Resize::Squash,
        bilinear: transform.preprocess.interpolation == Interpolation::Bilinear,
    }
}

/// Refuses what the page's kernels on a GPU do not take, on every device alike.
fn fits_the_page(config: &NetworkConfig) -> Result<(), String> {
    #[allow(irrefutable_let_patterns, reason = "the page's build has no other family")]
    let NetworkConfig::Vit(vit) = config else { return Ok(()) };
    let head_size = vit.head_size.unwrap_or(vit.width / vit.heads.max(1));
    let patch = if vit.patch_norm { vit.channels * vit.patch_size.pow(2) } else { 0 };
    for (what, wide, most) in [
        ("heads", head_size, WIDEST_HEAD),
        ("tokens", vit.width, LONGEST_ROW),
        ("normalised patches", patch, LONGEST_ROW),
    ] {
        if wide > most {
            return Err(format!("its {what} are {wide} wide, and the page takes up to {most}; use the native program"));
        }
    }
    Ok(())
}

fn summary(config: &NetworkConfig) -> String {
    let side = config.image_size();
    match config {
        NetworkConfig::Vit(vit) => {
            format!("ViT, {} blocks of width {}, patch {} on {side} x {side}", vit.depth, vit.width, vit.patch_size)
        }
        #[allow(unreachable_patterns, reason = "the page's build has no other family")]
        other => format!("{} on {side} x {side}", other.family()),
    }
}

/// The description of a vision transformer that does not describe itself.
fn guess(
    name: &str,
    tensors: &[NamedTensor],
    metadata: &Metadata,
    beside: &Beside,
    notes: &mut Vec<String>,
) -> Result<Description, String> {
    let from_transformers = tensors.iter().any(|tensor| tensor.name.contains("embeddings.cls_token"));
    // Shapes alone are of interest, and values may be many.
    let shapes = |tensor: &NamedTensor| NamedTensor { values: Vec::new(), ..tensor.clone() };
    let plain = tensors.iter().filter(|tensor| !tensor.name.starts_with(STATE_PREFIX));
    let tensors = to_timm(plain.map(shapes).collect());
    let shape = |name: &str| tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.shape.as_slice());
    let unknown = |what: &str| {
        format!("it is no vision transformer known here: {what}; take a file that potstill, timm or transformers wrote")
    };
    let Some(&[width, channels, patch_size, _]) = shape("patch_embed.proj.weight") else {
        return Err(unknown("there is no patch_embed.proj.weight of four sizes"));
    };
    let Some(&[_, tokens, _]) = shape("pos_embed") else { return Err(unknown("there is no pos_embed of three sizes")) };
    let Some(&[classes, _]) = shape("head.weight") else { return Err(unknown("there is no head.weight of two sizes")) };
    let Some(&[hidden, _]) = shape("blocks.0.mlp.fc1.weight") else { return Err(unknown("its MLP is missing")) };
    let (class_token, distillation_token) = (shape("cls_token").is_some(), shape("dist_token").is_some());
    let prefix = usize::from(class_token) + usize::from(distillation_token);
    let across = tokens.saturating_sub(prefix).isqrt();
    if width == 0 || across == 0 || across * across + prefix != tokens {
        return Err(unknown(&format!("{tokens} positions are no square of patches")));
    }
    let heads = beside.heads.filter(|heads| *heads > 0 && width.is_multiple_of(*heads));
    let told = heads.is_some();
    let heads = heads.unwrap_or(if width.is_multiple_of(HEAD) { width / HEAD } else { 1 });
    let config = NetworkConfig::Vit(VitConfig {
        image_size: across.saturating_mul(patch_size),
        patch_size,
        channels,
        classes,
        width,
        depth: (0..).take_while(|block| shape(&format!("blocks.{block}.norm1.weight")).is_some()).count(),
        heads,
        qkv_bias: shape("blocks.0.attn.qkv.bias").is_some(),
        mlp_ratio: hidden as f64 / width as f64,
        pool: if shape("fc_norm.weight").is_some() { Pool::Mean } else { Pool::Class },
        class_token,
        distillation_token,
        layer_norm_eps: beside.layer_norm_eps.unwrap_or(if from_transformers { 1e-12 } else { 1e-6 }),
        ..VitConfig::default()
    });
    if !told {
        notes.push(format!(
            "The file does not say how many heads attention has; {heads} of width {} is usual.",
            width / heads
        ));
    }
    let stem = name.to_lowercase().replace('-', "_");
    let family = if distillation_token { "deit_" } else { "vit_" };
    let like = if Preprocess::of_model(&stem).is_some() { stem.as_str() } else { family };
    if beside.normalisation.is_none() || beside.preprocess.is_none() {
        let family = if like.starts_with("deit_") { "DeiT" } else { "ViT" };
        notes.push(format!(
            "The file does not say how pictures are prepared; it is assumed as for published {family} networks. Change it below if you know better."
        ));
    }
    let mut description = Description::of(like, config, metadata).map_err(|error| unknown(&error.to_string()))?;
    description.name = name.to_owned();
    Ok(description)
}

/// Whether a file is a JPEG without its end, which a decoder fills with grey and does not complain of.
fn is_cut_jpeg(file: &[u8]) -> bool {
    if !file.starts_with(&[0xff, 0xd8]) {
        return false;
    }
    let mut at = 2;
    // From marker to marker; what belongs to one may hold a small picture with an end of its own.
    while let Some(&[mark, kind]) = file.get(at..at + 2) {
        match (mark, kind) {
            (0xff, 0xd9) => return false,
            // Fill, numbers that only look like a marker, and restarts, which have no length.
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, _) => {
                let Some(&[high, low]) = file.get(at + 2..at + 4) else { return true };
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
            // The picture's own numbers.
            _ => at += 1,
        }
    }
    true
}

/// Pixels of 1 or 3 channels as a canvas takes them.
fn rgba(pixels: &[u8], channels: usize) -> Vec<u8> {
    pixels
        .chunks_exact(channels)
        .flat_map(|pixel| match *pixel {
            [red, green, blue] => [red, green, blue, 255],
            [grey, ..] => [grey, grey, grey, 255],
            [] => [0; 4],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::cubecl::future::block_on;

    use super::*;

    fn file(config: &NetworkConfig, rename: impl Fn(&str) -> String) -> Vec<u8> {
        let network = config.init(9, &Device::flex()).expect("valid");
        let mut tensors = block_on(weights::read(&network)).expect("readable");
        tensors.iter_mut().for_each(|tensor| tensor.name = rename(&tensor.name));
        weights::to_safetensors(&tensors, Metadata::default()).expect("a file")
    }

    #[test]
    fn a_jpeg_without_its_end_is_noticed() {
        // A segment that holds an end, numbers with an escaped 0xff and a restart, a second scan, and the end.
        let whole = [
            &[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 1, 2, 0xff, 0xda, 0, 3, 0][..],
            &[5, 0xff, 0, 7, 0xff, 0xd0, 9, 0xff, 0xda, 0, 2, 4, 0xff, 0xd9, 0, 0],
        ]
        .concat();
        assert!(!is_cut_jpeg(&whole) && !is_cut_jpeg(b"\x89PNG"));
        for length in 2..whole.len() - 3 {
            assert!(is_cut_jpeg(&whole[..length]), "{length}");
        }
    }

    #[test]
    fn a_timm_file_is_known_by_its_shapes() {
        let config: NetworkConfig = VitConfig {
            image_size: 32,
            classes: 7,
            width: 128,
            depth: 2,
            heads: 2,
            distillation_token: true,
            ..VitConfig::default()
        }
        .into();
        let bytes = file(&config, str::to_owned);
        let classifier = Classifier::read("x".into(), &bytes, &[], &Device::flex()).expect("known");
        let report = classifier.report();
        assert_eq!(report.summary, "ViT, 2 blocks of width 128, patch 16 on 32 x 32");
        assert_eq!((report.side, report.two_heads, report.class_names.len(), report.notes.len()), (32, true, 7, 2));
        assert_eq!(u64::from(report.parameters), config.parameters());
    }

    #[test]
    fn what_lies_beside_a_file_counts() {
        let config: NetworkConfig =
            VitConfig { image_size: 32, classes: 2, width: 64, depth: 1, heads: 2, ..VitConfig::default() }.into();
        let bytes = file(&config, str::to_owned);
        let json = r#"{"num_attention_heads":2,"id2label":{"0":"ash","1":"oak"},"image_mean":[0.1,0.2,0.3],
            "image_std":[1,1,1],"resample":2,"size":{"height":32,"width":32}}"#;
        let beside = [("config.json".to_owned(), json.to_owned())];
        let mut classifier = Classifier::read("x".into(), &bytes, &beside, &Device::flex()).expect("known");
        assert_eq!((classifier.report().class_names.join(" "), classifier.report().notes.len()), ("ash oak".into(), 0));
        let told = classifier.report().preparation.clone();
        let expected =
            Preparation { mean: vec![0.1, 0.2, 0.3], std: vec![1.0; 3], crop: 1.0, squash: true, bilinear: true };
        assert_eq!(told, expected);
        let other = Preparation { crop: 0.5, squash: false, ..told.clone() };
        classifier.prepare(other.clone()).expect("fits");
        assert_eq!(classifier.report().preparation, other);
        for wrong in [
            Preparation { crop: 0.0, ..told.clone() },
            Preparation { mean: vec![0.0], ..told.clone() },
            Preparation { std: vec![0.0; 3], ..told },
        ] {
            classifier.prepare(wrong).expect_err("refused");
        }
        assert_eq!(classifier.report().preparation, other);
        let three = [("names.txt".to_owned(), "a\nb\nc".to_owned())];
        let error = Classifier::read("x".into(), &bytes, &three, &Device::flex()).err().expect("refused");
        assert!(error.contains("3 names") && error.contains("2 classes"), "{error}");
    }

    #[test]
    fn what_is_shown_is_what_was_classified() {
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
        let network = config.init(9, &device).expect("valid");
        let tensors = block_on(weights::read(&network)).expect("readable");
        let mut description = Description::of("small", config, &Metadata::new()).expect("valid");
        description.normalisation = potstill_core::data::Normalisation::half();
        description.preprocess.crop_fraction = 0.5;
        let mut metadata = description.metadata();
        Measured { dataset: "samples".into(), samples: 10, accuracy: 0.5 }.write(&mut metadata);
        let bytes = weights::to_safetensors(&tensors, metadata).expect("a file");
        let classifier = Classifier::read("x".into(), &bytes, &[], &device).expect("read");
        assert!(classifier.report().measured.as_ref().is_some_and(|line| line.contains("50.0 % of 10 pictures")));
        let frog = include_bytes!("../samples/frog.png");
        let (found, buffers) =
            block_on(classifier.classify(frog, ReadoutChoice::Class, &device, || 0.0)).expect("classified");
        let numbers = (0..3).flat_map(|channel| buffers[0].iter().skip(channel).step_by(4));
        let numbers: Vec<f32> = numbers.map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
        let seen = Tensor::<4>::from_data(TensorData::new(numbers, [1, 3, 16, 16]), &device);
        for (found, expected) in found.logits.iter().zip(network.forward(seen, None).logits.into_data().iter::<f32>()) {
            assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        }
    }

    #[test]
    fn what_the_page_cannot_run_is_refused_in_a_line() {
        let small = VitConfig {
            image_size: 16,
            patch_size: 8,
            width: 8,
            depth: 1,
            heads: 1,
            classes: 2,
            ..VitConfig::default()
        };
        let patches = VitConfig { image_size: 40, patch_size: 40, patch_norm: true, ..small.clone() };
        for (config, said) in [
            (VitConfig { width: 136, ..small.clone() }, "heads are 136"),
            (VitConfig { width: 4160, heads: 65, ..small }, "tokens are 4160"),
            (patches, "patches are 4800"),
        ] {
            let metadata = Description::of("wide", config.into(), &Metadata::new()).expect("valid").metadata();
            let bytes = weights::to_safetensors(&[], metadata).expect("a file");
            let error = Classifier::read("x".into(), &bytes, &[], &Device::flex()).err().expect("refused");
            assert!(!error.contains('\n') && error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_no_transformer_is_refused_in_a_line() {
        let config: NetworkConfig =
            VitConfig { image_size: 32, width: 64, depth: 1, heads: 1, classes: 2, ..VitConfig::default() }.into();
        for part in ["patch_embed", "pos_embed", "head.", "mlp.fc1"] {
            let bytes = file(&config, |name| name.replace(part, "other."));
            let error = Classifier::read("x".into(), &bytes, &[], &Device::flex()).err().expect("refused");
            assert!(!error.contains('\n') && error.contains("no vision transformer"), "{error}");
        }
    }
}
