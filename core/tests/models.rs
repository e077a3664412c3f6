//! The architectures: their sizes, their gradients, and what they, the objectives and training compute against PyTorch.
//!
//! What PyTorch computes is in `tests/fixtures`, written by the script there from reduced models with random weights.
#![recursion_limit = "256"]

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;

use burn::backend::read_sync;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use common::devices;
use potstill_core::method::{Aid, Aids, Given, Lesson, Past, Preset};
use potstill_core::model::{
    DistillVitConfig, Network, NetworkConfig, NetworkShape, Pool, Recorder, RegNetConfig, ResNetConfig, Training,
    VitConfig, zoo,
};
use potstill_core::train::{AdamW, AdamWConfig, Learner, StepBatch, training_step};
use potstill_core::weights::{self, Fit, Metadata, NamedTensor, Resampling};

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
            DistillVitConfig { patch_size: 4, depth: 2, heads: 2, published_attention, ..config }
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
        let reason = Preset::named(name).expect(name).check(&vit, &regnet).expect_err(name);
        assert!(reason.to_string().contains("convolutional"), "{name}: {reason}");
    }
    Preset::named("KD").expect("KD").check(&vit, &regnet).expect("logits can be compared");
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
    // A checkpoint holds them, and the step keeps them.
    let tensors = read_sync(weights::read(&renewed)).expect("readable");
    let restored = weights::assign(config.init(7, &device.clone().autodiff()).expect("a valid model"), tensors);
    assert_eq!(evaluated(&restored.expect("fits")), evaluated(&renewed));
    let targets = Tensor::<2>::from_data(TensorData::new(vec![0.2_f32; 20], [4, 5]), &device);
    let lesson = Lesson::labels(0.0, &model.shape());
    let mut optimiser = AdamW::new(AdamWConfig::default());
    let stepped = StepBatch::new(batch.clone(), targets);
    let (learner, _) = training_step(model.clone().into(), &lesson, &mut optimiser, stepped, &training, 0.0);
    assert_eq!(evaluated(&learner.student), evaluated(&renewed), "a step at rate 0 changes statistics alone");
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
        let mut found = devices().map(|(device_name, device)| {
            let model = config.init(3, &device).expect("a valid model");
            (device_name, values(model.forward(images(&config, 2, &device), None).logits))
        });
        let (_, expected) = found.next().expect("the CPU is always there");
        for (device_name, logits) in found {
            close(&format!("{name} on {device_name}"), &logits, &expected, 1e-4);
        }
    }
}

// ---- Against PyTorch

/// A file of `tests/fixtures`: its tensors by name, and its metadata.
fn fixture(name: &str) -> (BTreeMap<String, NamedTensor>, Metadata) {
    let path = format!("{}/../tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (tensors, metadata) = weights::from_safetensors(&bytes).expect("a readable fixture");
    (tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect(), metadata)
}

/// The tensors whose names begin with `prefix`, without it.
fn below(tensors: &BTreeMap<String, NamedTensor>, prefix: &str) -> Vec<NamedTensor> {
    let named = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    named.map(|(name, tensor)| NamedTensor { name: name.to_owned(), ..tensor.clone() }).collect()
}

fn json<T: serde::de::DeserializeOwned>(metadata: &Metadata, key: &str) -> T {
    serde_json::from_str(&metadata[key]).unwrap_or_else(|error| panic!("{key}: {error}"))
}

/// The numbers of the script's function of this name, from its `start` on: multiples of 1/64 from -2 to 2.
fn pixels<const D: usize>(shape: [usize; D], start: u64, device: &Device) -> Tensor<D> {
    let value = |i: u64| (((i * 1_103_515_245 + 12_345) % (1 << 31)) >> 16) % 256;
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (start..start + count).map(|i| value(i) as f32 / 64.0 - 2.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn tensor<const D: usize>(tensor: &NamedTensor, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(tensor.values.clone(), tensor.shape.clone()), device)
}

const MODELS: [&str; 16] = [
    "vit_timm",
    "vit_timm_avg",
    "deit_distilled_timm",
    "vit_torchvision",
    "vit_transformers",
    "deit_transformers",
    "deit_cifar",
    "deit_cifar_mean",
    "distillvit_published",
    "distillvit_corrected",
    "resnet_basic",
    "resnet_bottleneck",
    "regnetx_torchvision",
    "regnety_torchvision",
    "regnetx_timm",
    "regnety_timm",
];

#[test]
fn every_architecture_gives_pytorchs_logits_from_its_weights() {
    for name in MODELS {
        let (tensors, metadata) = fixture(name);
        let config: NetworkConfig = json(&metadata, "config");
        agrees(name, &config, below(&tensors, "weights."), &tensors);
    }
    // What transformers calls the same tensors in files.
    let (tensors, metadata) = fixture("deit_transformers");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/deit_transformers_names.json");
    let names = std::fs::read_to_string(path).expect("readable");
    let names: BTreeMap<String, String> = serde_json::from_str(&names).expect("JSON");
    let renamed = |tensor: NamedTensor| NamedTensor { name: names[&tensor.name].clone(), ..tensor };
    let written: Vec<NamedTensor> = below(&tensors, "weights.").into_iter().map(renamed).collect();
    assert!(written.iter().any(|tensor| tensor.name.contains("attention.attention.query")));
    agrees("transformers' files", &json(&metadata, "config"), written, &tensors);
}

fn agrees(name: &str, config: &NetworkConfig, given: Vec<NamedTensor>, expected: &BTreeMap<String, NamedTensor>) {
    let device = Device::flex();
    let fitted =
        weights::fit(given, config, &Fit::default(), &device).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(fitted.notes.is_empty(), "{name}: {:?}", fitted.notes);
    let side = config.image_size();
    let trace = fitted.network.forward(pixels([2, config.channels(), side, side], 0, &device), None);
    close(name, &values(trace.logits), &expected["logits"].values, 1e-4);
    let heads = trace.distillation_logits.map(values);
    assert_eq!(heads.is_some(), expected.contains_key("distillation_logits"), "{name}");
    if let Some(heads) = heads {
        close(name, &heads, &expected["distillation_logits"].values, 1e-4);
    }
}

#[test]
fn ten_steps_of_training_have_pytorchs_losses() {
    let (tensors, metadata) = fixture("training");
    let (config, rates): (NetworkConfig, Vec<f64>) = (json(&metadata, "config"), json(&metadata, "rates"));
    let device = Device::flex();
    let given = below(&tensors, "weights.");
    let fitted = weights::fit(given, &config, &Fit::default(), &device.clone().autodiff()).expect("fits");
    let mut learner = Learner::from(fitted.network);
    let mut optimiser = AdamW::new(AdamWConfig::default()).leaving(learner.student.undecayed());
    let targets: Tensor<3> = tensor(&tensors["targets"], &device);
    let mut losses = Vec::new();
    for (step, rate) in rates.into_iter().enumerate() {
        let images = pixels([4, 3, 16, 16], (step * 4 * 3 * 16 * 16) as u64, &device);
        let batch = StepBatch::new(images, targets.clone().narrow(0, step, 1).squeeze_dim(0));
        let lesson = Lesson::labels(0.0, &learner.student.shape());
        let training = Training::default();
        let report;
        (learner, report) = training_step(learner, &lesson, &mut optimiser, batch, &training, rate);
        losses.push(values(report.values)[0]);
    }
    close("losses", &losses, &tensors["losses"].values, 1e-4);
}

/// Gradients of a module's parameters, by path, laid out as PyTorch has them.
struct Collected<'a> {
    gradients: &'a burn::tensor::Gradients,
    path: Vec<String>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Collected<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let gradient = if D == 2 { gradient.swap_dims(0, 1) } else { gradient };
            self.found.insert(self.path.join("."), values(gradient));
        }
    }
}

#[test]
fn every_objective_has_pytorchs_value_and_gradients() {
    let (tensors, metadata) = fixture("objectives");
    let mut cases: BTreeMap<String, serde_json::Value> = json(&metadata, "cases");
    assert!(cases.len() >= 19);
    // What the student said before is no term of a list: it comes with the batch, and takes its share from the labels.
    let retrospection = cases.remove("retrospection").expect("a case of retrospection");
    assert_eq!(retrospection["terms"][1]["weight"], 0.375);
    cases.insert("retrospection".into(), serde_json::json!({ "kind": "labels" }));
    let device = Device::flex();
    let tracked = device.clone().autodiff();
    for (name, case) in cases {
        let preset: Preset = serde_json::from_value(case).unwrap_or_else(|error| panic!("{name}: {error}"));
        preset.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        let wanted: BTreeMap<String, NamedTensor> =
            below(&tensors, &format!("gradient.{name}.")).into_iter().map(|t| (t.name.clone(), t)).collect();
        let given = |who: &str, what: String| &tensors[&format!("{who}.{what}")];
        let two_heads = wanted.contains_key("distillation");
        let shape = |depth: usize, width: usize| NetworkShape {
            depth,
            width,
            tokens: 5,
            prefix_tokens: 1,
            classes: tensors["targets"].shape[1],
            class_token: true,
            distillation_token: two_heads || name.starts_with("deit"),
        };
        let lesson = Lesson::for_shapes(&preset.objective(), &shape(2, 6), &shape(4, 10)).expect("networks that fit");
        let [student_taps, teacher_taps] = lesson.taps();
        let logits: Tensor<2> = tensor(given("student", "logits".into()), &tracked).require_grad();
        let head: Tensor<2> = tensor(given("student", "distillation".into()), &tracked).require_grad();
        let tokens: Vec<Tensor<3>> =
            (0..2).map(|i| tensor(given("student", format!("tokens.{i}")), &tracked).require_grad()).collect();
        let qkv: Vec<Tensor<5>> =
            (0..2).map(|i| tensor(given("student", format!("qkv.{i}")), &tracked).require_grad()).collect();
        let mut student = Recorder::new(student_taps);
        for (block, (tokens, qkv)) in tokens.iter().zip(&qkv).enumerate() {
            student.tokens(block, tokens);
            student.attention(block, qkv.clone().into());
        }
        let student = student.trace(logits.clone(), two_heads.then(|| head.clone()), 1);
        let mut teacher = Recorder::new(teacher_taps);
        for block in 0..4 {
            teacher.tokens(block, &tensor(given("teacher", format!("tokens.{block}")), &device));
            teacher.attention(block, tensor::<5>(given("teacher", format!("qkv.{block}")), &device).into());
        }
        let teacher = teacher.trace(tensor(given("teacher", "logits".into()), &device), None, 1);
        let projector =
            weights::assign(Aid::new("projector", &[6, 8, 10], 0, &tracked), below(&tensors, "student.projector."));
        let projector = projector.expect("the fixture's projector fits");
        let aids = Aids::of(vec![("projector".into(), projector.clone())]);
        let past = (name == "retrospection").then(|| Past {
            logits: tensor(&tensors["past"], &device),
            share: 0.375,
            temperature: 5.0,
            seen: None,
        });
        let targets = tensor(&tensors["targets"], &device);
        let given = Given { teacher: Some(&teacher), targets, known: None, aids: &aids, past, step: 0, epoch: 1 };
        let loss = lesson.loss(&student, given).total;
        close(&name, &values(loss.clone()), &tensors[&format!("value.{name}")].values, 1e-5);
        let gradients = loss.backward();
        let mut collected = Collected { gradients: &gradients, path: Vec::new(), found: BTreeMap::new() };
        projector.visit(&mut collected);
        let mut found: BTreeMap<String, Option<Vec<f32>>> =
            collected.found.into_iter().map(|(path, values)| (format!("projector.{path}"), Some(values))).collect();
        found.insert("logits".into(), logits.grad(&gradients).map(values));
        found.insert("distillation".into(), head.grad(&gradients).map(values));
        for (i, (tokens, qkv)) in tokens.iter().zip(&qkv).enumerate() {
            found.insert(format!("tokens.{i}"), tokens.grad(&gradients).map(values));
            found.insert(format!("qkv.{i}"), qkv.grad(&gradients).map(values));
        }
        for (key, wanted) in &wanted {
            let Some(Some(found)) = found.get(key) else {
                // The definition reads a tensor that the program does not touch: then the gradient is nothing.
                assert!(wanted.values.iter().all(|g| *g == 0.0), "{name}: no gradient for {key}");
                continue;
            };
            close(&format!("{name}, gradient of {key}"), found, &wanted.values, 1e-5);
        }
        for (key, _) in
            found.into_iter().filter(|(_, found)| found.as_ref().is_some_and(|f| f.iter().any(|g| *g != 0.0)))
        {
            assert!(wanted.contains_key(&key), "{name}: a gradient of {key}, which the definition has not");
        }
    }
}

#[test]
fn positions_are_resampled_as_pytorch_does() {
    let (tensors, _) = fixture("positions");
    for how in [Resampling::BicubicAntialias, Resampling::Bicubic, Resampling::Bilinear] {
        for side in [2, 4, 12] {
            let found = weights::resample(&tensors["grid"].values, 7, side, 3, how);
            close(how.name(), &found, &tensors[&format!("{}.{side}", how.name())].values, 1e-5);
        }
    }
}

// ---- Weights that do not quite fit

#[test]
fn other_sizes_and_classes_are_fitted_and_said() {
    let device = Device::flex();
    let (tensors, metadata) = fixture("vit_timm");
    let config: NetworkConfig = json(&metadata, "config");
    let given = below(&tensors, "weights.");
    let fitted = weights::fit(given.clone(), &config.clone().with_image_size(32), &Fit::default(), &device);
    let fitted = fitted.expect("positions are resampled");
    assert_eq!(fitted.notes, ["its positions of 4 x 4 patches are resampled to 8 x 8 (bicubic-antialias)"]);
    assert_eq!(fitted.network.shape().tokens, 65);
    let other = config.clone().with_classes(7);
    let error = weights::fit(given.clone(), &other, &Fit::default(), &device).expect_err("another head").to_string();
    assert!(error.contains("head.weight is [5, 12], the model needs [7, 12]"), "{error}");
    let anew = Fit { new_head: Some(1), ..Fit::default() };
    let fitted = weights::fit(given.clone(), &other, &anew, &device).expect("a new head");
    assert_eq!(fitted.notes, ["its head tells 5 classes apart and is replaced by a new one of 7"]);
    let logits = values(fitted.network.forward(pixels([1, 3, 16, 16], 0, &device), None).logits);
    assert!(logits.len() == 7 && logits.iter().all(|z| z.is_finite() && *z != 0.0), "{logits:?}");
    // The same seed gives the same head; one that fits is kept.
    let again = weights::fit(given.clone(), &other, &anew, &device).expect("a new head");
    assert_eq!(values(again.network.forward(pixels([1, 3, 16, 16], 0, &device), None).logits), logits);
    assert!(!weights::fit(given, &config, &anew, &device).expect("fits").new_head);
}

#[test]
fn wrappers_are_opened_and_needless_tensors_left_out() {
    let (tensors, metadata) = fixture("vit_timm");
    let config: NetworkConfig = json(&metadata, "config");
    let extra = |name: &str| NamedTensor { name: name.to_owned(), shape: vec![1], values: vec![0.0] };
    for wrapper in ["model.", "state_dict.module.", "module."] {
        let mut given = below(&tensors, "weights.");
        given.push(extra("pre_logits.fc.weight"));
        given.push(extra("projector.fc1.weight"));
        given.iter_mut().for_each(|tensor| tensor.name.insert_str(0, wrapper));
        if wrapper != "module." {
            given.push(extra("optimizer.state.0"));
        }
        agrees(wrapper, &config, given, &tensors);
    }
}

#[test]
fn what_does_not_fit_is_named_all_at_once() {
    let device = Device::flex();
    let (tensors, metadata) = fixture("vit_transformers");
    let mut given = below(&tensors, "weights.");
    given.retain(|tensor| !tensor.name.ends_with("layers.1.attention.k_proj.weight"));
    given.push(NamedTensor { name: "stranger".into(), shape: vec![2], values: vec![0.0; 2] });
    let norm = given.iter_mut().find(|tensor| tensor.name == "vit.layernorm.bias").expect("there");
    norm.shape = vec![3, 4];
    let error = weights::fit(given, &json(&metadata, "config"), &Fit::default(), &device).expect_err("does not fit");
    let text = error.to_string();
    for part in [
        "blocks.1.attn.qkv.weight [36, 12] is missing",
        "blocks.1.attn.q.weight [12, 12] has no place",
        "stranger [2] has no place",
        "norm.bias is [3, 4], the model needs [12]",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    // A name that is nothing like a network's, and a shape that is beyond every machine.
    let absurd = NamedTensor { name: "cls_token".into(), shape: vec![usize::MAX, usize::MAX], values: vec![1.0] };
    let huge = named("vit_large_patch16_224");
    let error = weights::fit(vec![absurd], &huge, &Fit::default(), &device).expect_err("too small").to_string();
    assert!(error.contains("holds 1 values"), "{error}");
}

/// Every value within `tolerance` of the largest expected one.
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what}: value {index} is {a}, expected {b}");
    }
}
