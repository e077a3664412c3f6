//! How training images are varied and mixed, by the names that DeiT's and timm's command lines give.

use potstill_core::data::{ColorJitter, EraseMode, Interpolation, Preprocess, RandAugment, Reading};

use super::flag::Flag;
use crate::error::{Failure, Result};
use crate::given::{Given, words};
use crate::recipe::layer::Layer;

pub(super) const FLAGS: &[Flag] = &[
    Flag::number("mixup", "A", "α of Mixup; 0 is none").sets(&["data.mix.mixup"]),
    Flag::number("cutmix", "A", "α of CutMix; 0 is none").sets(&["data.mix.cutmix"]),
    Flag::number("mixup-prob", "P", "How often a batch is mixed").sets(&["data.mix.probability"]),
    Flag::number("mixup-switch-prob", "P", "How often, of the two, a batch is mixed by CutMix")
        .sets(&["data.mix.switch"]),
    Flag::word("mixup-mode", "MODE", || vec!["batch"], "Whole batches are mixed"),
    Flag::switch("repeated-aug", "3", "Visit a sample three times in an epoch that visits it").sets(&["data.repeats"]),
    Flag::switch("no-repeated-aug", "1", "Visit each sample once").sets(&["data.repeats"]),
    Flag::word(
        "reading",
        "HOW",
        words::<Reading>,
        "upright: a camera's note of rotation is followed and transparency shows white; torchvision: neither",
    )
    .sets(&["data.reading"]),
    Flag::switch("allow-truncated", "true", "Read damaged picture files as far as they go")
        .sets(&["data.allow_truncated"]),
    Flag::whole("workers", "N", "Threads that read images; 0 takes as many as there are cores").sets(&["data.workers"]),
    Flag::text("aa", "POLICY", "A policy of random operations: rand-m9-mstd0.5-inc1, torchvision-n2-m9, or none")
        .does(vary),
    Flag::number(
        "color-jitter",
        "AMOUNT",
        "Amount of random brightness, contrast and saturation; taken where there is no --aa",
    )
    .does(vary),
    Flag::word(
        "train-interpolation",
        "FILTER",
        words::<Interpolation>,
        "Filter of random crops and of a policy's maps",
    )
    .sets(&["data.transform.interpolation", "data.transform.crop.interpolation?"]),
    Flag::number("reprob", "P", "How often a rectangle of an image is erased").does(erase),
    Flag::word("remode", "MODE", words::<EraseMode>, "What an erased rectangle shows").does(erase),
    Flag::whole("recount", "N", "How many rectangles share the erased area").does(erase),
];

// By the network that learns, which the flags about networks and distillation name.
pub(super) const CROP: &[Flag] =
    &[Flag::number("eval-crop-ratio", "SHARE", "The network's side over the side that a held-out image is resized to")
        .does(preprocess)
        .sets(&["data.preprocess.crop_fraction"])];

// As timm has it: a policy takes the place of the jitter.
fn vary(layer: &mut Layer, given: &Given) -> Result<()> {
    let amount: Option<f64> = given.parsed("color-jitter")?;
    layer.rewrite(|recipe| {
        let transform = &mut recipe.data.transform;
        match given.text("aa") {
            None => {}
            Some("" | "none") => transform.auto_augment = None,
            Some(name) => {
                let policy = RandAugment::named(name).map_err(|error| Failure::usage(format!("--aa: {error}")))?;
                transform.auto_augment = Some(policy);
            }
        }
        if let Some(amount) = amount {
            transform.color_jitter = (amount > 0.0).then(|| ColorJitter::all(amount));
        }
        if transform.auto_augment.is_some() {
            transform.color_jitter = None;
        }
        Ok(())
    })
}

// An erasing that happens never is none.
fn erase(layer: &mut Layer, given: &Given) -> Result<()> {
    let (probability, count) = (given.parsed("reprob")?, given.parsed("recount")?);
    let mode: Option<EraseMode> = given.word("remode")?;
    layer.rewrite(|recipe| {
        let erase = recipe.data.transform.erase.get_or_insert_default();
        erase.probability = probability.unwrap_or(erase.probability);
        erase.mode = mode.unwrap_or(erase.mode);
        erase.count = count.unwrap_or(erase.count);
        recipe.data.transform.erase.take_if(|erase| erase.probability == 0.0);
        Ok(())
    })
}

// What else is done to a picture stays the recipe's, or that of the network that learns.
fn preprocess(layer: &mut Layer, _: &Given) -> Result<()> {
    layer.rewrite(|recipe| {
        let published = recipe.learner().and_then(|network| Preprocess::of_model(&network.model));
        recipe.data.preprocess.get_or_insert(published.map(|(preprocess, _)| preprocess).unwrap_or_default());
        Ok(())
    })
}
