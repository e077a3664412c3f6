//! The architectures: their sizes, their gradients, and what they compute against PyTorch.
//!
//! What PyTorch computes is in `tests/fixtures`, written by the script there from reduced models with random weights.
#![recursion_limit = "256"]

mod common;

use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use common::devices;
use potstill_core::model::{Network, NetworkConfig, Pool, RegNetConfig, ResNetConfig, VitConfig, zoo};
use potstill_core::objective::Objective;

/// A device has one generator of random numbers: tests that draw from it take turns.
static DRAWS: Mutex<()> = Mutex::new(());

fn named(name: &str) -> NetworkConfig {
    zoo::named(name).unwrap_or_else(|| panic!("there is a model {name}"))
}

/// Counts trained values without reading any.
#[derive(Default)]
struct Count {
    path: Vec<String>,
    trained: u64,
}

impl ModuleVisitor for Count {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.path.last().is_some_and(|name| name.starts_with("running_")) {
            self.trained += param.lazy_shape().num_elements() as u64;
        }
    }
}

fn built(config: &NetworkConfig) -> u64 {
    let mut count = Count::default();
    config.blank(&Device::flex()).expect("a valid model").visit(&mut count);
    count.trained
}

#[test]
fn the_full_models_have_the_published_numbers_of_parameters() {
    let no_tokens = |config: NetworkConfig| match config {
        NetworkConfig::Vit(vit) => {
            VitConfig { class_token: false, distillation_token: false, pool: Pool::NormedMean, ..vit }.into()
        }
        other => other,
    };
    let cases = [
        (named("deit_tiny_patch16_224"), 5_717_416),
        (named("deit_tiny_distilled_patch16_224"), 5_910_800),
        (named("deit_small_patch16_224"), 22_050_664),
        (named("deit_small_distilled_patch16_224"), 22_436_432),
        (named("deit_base_patch16_224"), 86_567_656),
        (named("deit_base_distilled_patch16_224"), 87_338_192),
        (named("vit_tiny_patch16_224"), 5_717_416),
        (named("vit_small_patch16_224"), 22_050_664),
        (named("vit_base_patch16_224"), 86_567_656),
        (named("vit_large_patch16_224"), 304_326_632),
        (named("vit_large_patch16_224").with_classes(10), 303_311_882),
        (named("vit_tiny_patch16_224").with_classes(10), 5_526_346),
        (named("regnetx_004"), 5_157_512),
        (named("regnetx_004_tv"), 5_495_976),
        (named("regnetx_004_tv").with_classes(10), 5_098_986),
        (named("regnety_160"), 83_590_140),
        (named("resnet18"), 11_689_512),
        (named("resnet50"), 25_557_032),
        (named("deit_tiny_cifar10"), 5_528_650),
        (no_tokens(named("deit_tiny_cifar10")), 5_527_882),
        (named("distillvit_teacher"), 34_170_310),
        (named("distillvit_student"), 17_130_610),
    ];
    for (config, published) in &cases {
        assert_eq!(config.parameters(), *published, "{config:?}");
        assert_eq!(built(config), *published, "{config:?}");
    }
    for (name, _) in zoo::MODELS {
        assert_eq!(built(&named(name)), named(name).parameters(), "{name}");
    }
    // Published to three digits alone.
    assert_eq!(named("vit_pytorch_patch32_224").parameters() / 100_000, 410);
}

/// Every architecture and option, small: name, configuration.
fn reduced() -> Vec<(&'static str, NetworkConfig)> {
    let vit = |config: NetworkConfig| match config {
        NetworkConfig::Vit(vit) => {
            VitConfig { image_size: 32, patch_size: 8, width: 24, depth: 2, heads: 3, classes: 5, ..vit }
        }
        _ => panic!("a vision transformer"),
    };
    let regnet = RegNetConfig {
        image_size: 64,
        classes: 5,
        stem_width: 8,
        widths: [8, 16, 24, 32],
        depths: [1, 1, 2, 1],
        group_width: 8,
        zero_init_last: false,
        ..RegNetConfig::default()
    };
    let resnet = ResNetConfig {
        image_size: 64,
        classes: 5,
        depths: [1, 1, 2, 1],
        width: 8,
        zero_init_last: false,
        ..ResNetConfig::default()
    };
    let distillvit = |published_attention| match named("distillvit_teacher").with_image_size(12) {
        NetworkConfig::DistillVit(config) => {
            potstill_core::model::DistillVitConfig { patch_size: 4, depth: 2, heads: 2, published_attention, ..config }
        }
        _ => panic!("a DistillViT"),
    };
    vec![
        ("vit", vit(named("vit_tiny_patch16_224")).into()),
        ("deit distilled", vit(named("deit_tiny_distilled_patch16_224")).into()),
        ("deit on CIFAR-10", vit(named("deit_tiny_cifar10")).into()),
        ("vit-pytorch", vit(named("vit_pytorch_patch32_224")).into()),
        ("mean", VitConfig { pool: Pool::Mean, ..vit(named("deit_tiny_distilled_patch16_224")) }.into()),
        ("normed mean", VitConfig { pool: Pool::NormedMean, ..vit(named("deit_tiny_cifar10")) }.into()),
        ("regnetx", regnet.clone().into()),
        ("regnety", RegNetConfig { gate_ratio: 1.0, ..regnet }.into()),
        ("resnet basic", resnet.clone().into()),
        ("resnet bottleneck", ResNetConfig { bottleneck: true, ..resnet }.into()),
        ("DistillViT", distillvit(false).into()),
        ("DistillViT as published", distillvit(true).into()),
    ]
}

fn images(config: &NetworkConfig, batch: usize, device: &Device) -> Tensor<4> {
    let (channels, side) = (config.channels(), config.image_size());
    let values: Vec<f32> = (0..batch * channels * side * side).map(|i| (0.37 * i as f32).sin()).collect();
    Tensor::from_data(TensorData::new(values, [batch, channels, side, side]), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

struct Gradients<'a> {
    gradients: &'a burn::tensor::Gradients,
    path: Vec<String>,
    without: Vec<String>,
}

impl ModuleVisitor for Gradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        match param.val().grad(self.gradients) {
            Some(gradient) => {
                let gradient = values(gradient);
                assert!(gradient.iter().all(|g| g.is_finite()), "{path}");
                assert!(gradient.iter().any(|g| *g != 0.0), "{path} gets only zeros");
            }
            None => self.without.push(path),
        }
    }
}

#[test]
fn every_parameter_of_every_architecture_gets_a_finite_gradient() {
    let _alone = DRAWS.lock();
    for (name, config) in reduced() {
        let device = Device::flex().autodiff();
        let model = config.init(5, &device).expect("a valid model");
        assert_eq!(model.shape(), config.shape(), "{name}");
        let training = model.draw_training(1, 0, 4, &Device::flex());
        let trace = model.forward(images(&config, 4, &Device::flex()), Some(&training));
        assert_eq!(trace.logits.dims(), [4, config.classes()], "{name}");
        assert_eq!(trace.distillation_logits.is_some(), config.shape().distillation_token, "{name}");
        let mut sum = trace.logits.powi_scalar(2).sum();
        if let Some(logits) = trace.distillation_logits {
            sum = sum + logits.powi_scalar(2).sum();
        }
        let gradients = sum.backward();
        let mut check = Gradients { gradients: &gradients, path: Vec::new(), without: Vec::new() };
        model.visit(&mut check);
        // Statistics are not trained, and the projection of the published DistillViT is never applied.
        let trained = check.without.iter().filter(|path| !path.contains("running_"));
        let unused: Vec<_> = trained.filter(|path| !(name.ends_with("published") && path.contains("proj"))).collect();
        assert!(unused.is_empty(), "{name}: no gradient for {unused:?}");
    }
}

#[test]
fn tokens_are_not_compared_with_a_network_that_has_none() {
    let (vit, regnet) = (named("vit_tiny_patch16_224").shape(), named("regnetx_004").shape());
    for name in ["SAF", "CLS", "MANIFOLD"] {
        let reason = Objective::named(name).expect(name).check(&vit, &regnet).expect_err(name);
        assert!(reason.to_string().contains("convolutional"), "{name}: {reason}");
    }
    Objective::named("KD").expect("KD").check(&vit, &regnet).expect("logits can be compared");
}

#[test]
fn dropped_elements_scale_what_is_kept_and_repeat() {
    let _alone = DRAWS.lock();
    for name in ["deit on CIFAR-10", "vit-pytorch", "DistillViT", "DistillViT as published"] {
        let (_, config) = reduced().into_iter().find(|(other, _)| *other == name).expect("a listed model");
        let device = Device::flex();
        let model = config.init(6, &device).expect("a valid model");
        let batch = images(&config, 2, &device);
        let pass = |step: Option<u64>| {
            let training = step.map(|step| model.draw_training(9, step, 2, &device));
            values(model.forward(batch.clone(), training.as_ref()).logits)
        };
        assert_eq!(pass(Some(0)), pass(Some(0)), "{name}");
        assert_ne!(pass(Some(0)), pass(Some(1)), "{name}");
        assert_ne!(pass(Some(0)), pass(None), "{name}");
        assert_eq!(pass(None), pass(None), "{name}");
    }
}

#[test]
fn running_statistics_follow_the_batches_and_are_used_outside_training() {
    let (_, config) = reduced().into_iter().find(|(name, _)| *name == "resnet basic").expect("a listed model");
    let device = Device::flex();
    let model = config.init(6, &device.clone().autodiff()).expect("a valid model");
    let batch = images(&config, 4, &device);
    let evaluated = |model: &Network| values(model.valid().forward(batch.clone(), None).logits);
    let before = evaluated(&model);
    let training = model.draw_training(0, 0, 4, &device);
    let trace = model.forward(batch.clone(), Some(&training));
    assert_eq!(evaluated(&model), before, "a pass changes nothing of itself");
    let statistics = trace.statistics;
    let renewed = model.clone().with_statistics(statistics);
    assert_ne!(evaluated(&renewed), before);
    assert_eq!(evaluated(&model), before, "a clone shares nothing");
    // After many passes over one batch, its own statistics are the running ones, but for the variance's correction.
    let mut settled = renewed;
    for _ in 0..200 {
        let trace = settled.forward(batch.clone(), Some(&training));
        settled = settled.with_statistics(trace.statistics);
    }
    let own = values(settled.forward(batch.clone(), Some(&training)).logits);
    for (running, own) in evaluated(&settled).into_iter().zip(own) {
        assert!((running - own).abs() < 0.1 * own.abs().max(1.0), "{running} and {own}");
    }
}

#[test]
fn architectures_compute_the_same_on_each_device() {
    for (name, config) in reduced().into_iter().filter(|(name, _)| *name == "deit distilled") {
        let mut found = devices().into_iter().map(|(device_name, device)| {
            let model = config.init(3, &device).expect("a valid model");
            (device_name, values(model.forward(images(&config, 2, &device), None).logits))
        });
        let (_, expected) = found.next().expect("the CPU is always there");
        for (device_name, logits) in found {
            close(&format!("{name} on {device_name}"), &logits, &expected, 1e-4);
        }
    }
}

/// Every value within `tolerance` of the largest expected one.
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what}: value {index} is {a}, expected {b}");
    }
}
