//! Models, objectives and the training step: on every device at hand, against Burn's own parts and against themselves.
#![recursion_limit = "256"]

mod common;
#[path = "common/course.rs"]
mod course;
#[path = "common/digits.rs"]
mod digits;
#[path = "common/tiny.rs"]
mod tiny;

use burn::backend::read_sync;
use burn::module::{Module, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig as BurnAdamConfig, AdamWConfig as BurnAdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use common::devices;
use course::{course, drive, recipe};
use digits::{batch, values};
use potstill_core::method::{Lesson, Preset};
use potstill_core::model::init::WeightInit;
use potstill_core::model::{Network, NetworkConfig, Pool, Taps, Training, VisionTransformer, VitConfig};
use potstill_core::op::cross_entropy;
use potstill_core::train::{AdamW, AdamWConfig, Decay, Learner, StepBatch, Taken, heads_alone, training_step};
use potstill_core::weights;
use tiny::tiny;

fn deit_like() -> VitConfig {
    VitConfig {
        pool: Pool::Class,
        class_token: true,
        distillation_token: true,
        init: WeightInit::TruncatedNormal,
        channels: 3,
        patch_size: 14,
        drop_path: 0.1,
        ..tiny()
    }
}

/// A student that is to learn.
fn learner(seed: u64, device: &Device) -> Learner {
    Network::from(tiny().init(seed, &device.clone().autodiff()).expect("a valid model")).into()
}

/// A teacher and a student with gradients.
fn pair(device: &Device) -> (Network, Learner) {
    let teacher = NetworkConfig::Vit(VitConfig { depth: 3, ..tiny() }).init(1, device).expect("a valid model");
    (teacher, learner(2, device))
}

/// Plain distillation of a student.
fn kd(student: &Learner, teacher: Option<Network>) -> Lesson {
    let objective = Preset::named("KD").expect("a known method").objective();
    Lesson::new(&objective, &student.student.shape(), teacher.map(Into::into)).expect("networks that fit")
}

/// The losses of some steps of distillation of a tiny student from a tiny, untrained teacher.
fn losses(device: &Device, steps: u64) -> Vec<f32> {
    let teacher = NetworkConfig::Vit(VitConfig { depth: 3, ..tiny() }).init(1, device).expect("a valid model");
    let kd = Preset::named("KD").expect("a known method");
    let recipe = recipe(16, 2e-3, AdamWConfig { clip_norm: Some(1.0), ..AdamWConfig::default() });
    let mut course = course(&tiny().into(), 2, (&kd, Some(&teacher)), recipe, steps, device);
    let taken = drive(&mut [&mut course], steps, 10, device).remove(0);
    let names = |taken: &Taken| taken.terms.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert!(taken.iter().all(|taken| names(taken) == ["labels", "logits"]));
    taken.into_iter().map(|taken| taken.loss).collect()
}

#[test]
fn twenty_steps_of_distillation_agree_between_devices() {
    let mut curves = devices().map(|(name, device)| (name, losses(&device, 20)));
    let (_, expected) = curves.next().expect("the CPU is always there");
    assert!(expected[19] < expected[0], "the loss falls: {expected:?}");
    for (name, curve) in curves {
        for (step, (a, b)) in expected.iter().zip(&curve).enumerate() {
            let error = (a - b).abs() / a.abs();
            assert!(error < 1e-3, "{name}, step {step}: {a} and {b} differ by {error:e}");
        }
    }
}

#[test]
fn a_network_in_half_precision_says_nearly_the_same() {
    let config = NetworkConfig::from(VitConfig { depth: 3, width: 48, heads: 3, ..deit_like() });
    println!("skipped: adapters, since Burn's products of `f16` take a software adapter many minutes to tune");
    let device = Device::flex();
    let single = config.init(3, &device).expect("a valid model");
    let mut taps = Taps::default();
    let asked = [0, 1, 2].map(|block| (taps.attention_map(block), taps.queries_and_keys(block)));
    let images = Tensor::cat(vec![batch(0, 6, &device).images; 3], 1);
    let [exact, found] = [single.clone(), single.halved()].map(|model| {
        let trace = model.forward_with(images.clone(), None, &taps);
        let maps = asked.map(|(map, _)| values(trace.attention_map(map))).concat();
        let packed = asked.map(|(_, block)| values(trace.queries_and_keys(block).packed)).concat();
        [values(trace.logits), values(trace.distillation_logits.expect("two heads")), maps, packed]
    });
    for (exact, found) in exact.iter().zip(&found) {
        let largest = exact.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        assert_eq!(exact.len(), found.len());
        let error = exact.iter().zip(found).fold(0.0_f32, |worst, (x, y)| worst.max((x - y).abs())) / largest;
        println!("half precision within {error:e} of the largest");
        // Ten bits of a fraction, and three blocks of roundings.
        assert!(error > 0.0 && error < 1e-2, "{error:e}");
    }
}

#[test]
fn logits_computed_before_teach_the_same() {
    let device = Device::flex();
    let (teacher, _) = pair(&device);
    let report = |teacher_logits: Option<Tensor<2>>| {
        let (_, student) = pair(&device);
        let lesson = kd(&student, Some(teacher.clone()));
        let mut optimiser = AdamW::new(AdamWConfig::default());
        let batch = StepBatch { teacher_logits, ..batch(0, 16, &device) };
        training_step(student, &lesson, &mut optimiser, batch, &Training::default(), 2e-3).1
    };
    let logits = teacher.forward(batch(0, 16, &device).images, None).logits;
    let [known, asked] = [report(Some(logits)), report(None)];
    assert!(known.teacher_logits.is_none() && asked.teacher_logits.is_some(), "who is known is not asked");
    assert_eq!(values(known.values), values(asked.values));
}

#[test]
fn the_same_run_twice_gives_the_same_bits_on_each_device() {
    let bits = |device: &Device| losses(device, 5).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for (name, device) in devices() {
        // Where matrix products are tuned, the first run settles which are used.
        bits(&device);
        assert_eq!(bits(&device), bits(&device), "{name}");
    }
}

#[test]
fn the_flat_optimiser_is_burns_adamw() {
    let device = Device::flex().autodiff();
    // A key's bias has no gradient but rounding noise, which a tiny ε would blow up to whole steps.
    let config = AdamWConfig { weight_decay: 0.1, epsilon: 1e-4, ..AdamWConfig::default() };
    let reference = |decay: f32| {
        BurnAdamWConfig::new().with_beta_1(0.9).with_beta_2(0.999).with_epsilon(1e-4).with_weight_decay(decay)
    };
    let undecayed = ParamGroup::from_regex(r"bias|gamma|beta|pos_embed|cls_token|dist_token").expect("a valid pattern");
    let mut theirs = tiny().init(3, &device).expect("a valid model");
    let mut ours = theirs.clone();
    let mut their_optimiser = reference(0.1).init().with_group(undecayed, reference(0.0).build(), None);
    let mut our_optimiser = AdamW::new(config).leaving(VisionTransformer::UNDECAYED);
    for step in 0..100 {
        let loss = |model: &VisionTransformer| {
            let batch = batch(step, 8, &Device::flex());
            cross_entropy(model.forward(batch.images, None).logits, batch.targets, 0.0).mean()
        };
        let gradients = loss(&theirs).backward();
        let gradients = GradientsParams::from_grads(gradients, &theirs);
        theirs = their_optimiser.step(1e-3, theirs, gradients);
        let gradients = loss(&ours).backward();
        ours = our_optimiser.step(ours, gradients, 1e-3);
    }
    let read = |model: &VisionTransformer| read_sync(weights::read(model)).expect("readable");
    let (theirs, ours) = (read(&theirs), read(&ours));
    for (a, b) in theirs.iter().zip(&ours) {
        assert_eq!(a.name, b.name);
        let error = a.values.iter().zip(&b.values).fold(0.0_f32, |m, (x, y)| m.max((x - y).abs()));
        assert!(error < 1e-5, "{}: {error:e}", a.name);
    }
}

/// Some steps of a student on labels, and what is left of them.
fn trained(config: AdamWConfig, student: Learner, parts: usize, steps: u64) -> (Learner, AdamW, Vec<f32>) {
    let (mut student, mut optimiser, mut losses) = (student, AdamW::new(config), Vec::new());
    for step in 0..steps {
        let batch = StepBatch { parts, ..batch(step, 12, &Device::flex()) };
        let lesson = Lesson::labels(0.1, &student.student.shape());
        let report;
        (student, report) = training_step(student, &lesson, &mut optimiser, batch, &Training::default(), 1e-3);
        assert_eq!(report.logits.dims(), [12, 10]);
        losses.push(values(report.values)[0]);
    }
    (student, optimiser, losses)
}

fn parameters<M: Module>(module: &M) -> Vec<weights::NamedTensor> {
    read_sync(weights::read(module)).expect("readable")
}

/// The largest difference between two networks' parameters.
fn difference<M: Module, N: Module>(a: &M, b: &N) -> f32 {
    let (a, b) = (parameters(a), parameters(b));
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(&b).flat_map(|(a, b)| a.values.iter().zip(&b.values));
    pairs.fold(0.0, |most, (x, y)| f32::max(most, (x - y).abs()))
}

#[test]
fn adam_decays_through_the_gradient_as_burns_does() {
    // The same pull on everything: Burn's Adam knows no groups here.
    let config =
        AdamWConfig { kind: Decay::Adam, weight_decay: 0.1, decay_all: true, epsilon: 1e-4, ..AdamWConfig::default() };
    let device = Device::flex();
    let (ours, ..) = trained(config, learner(3, &device), 1, 20);
    let mut theirs = learner(3, &device).student;
    let mut optimiser =
        BurnAdamConfig::new().with_epsilon(1e-4).with_weight_decay(Some(WeightDecayConfig::new(0.1))).init();
    for step in 0..20 {
        let batch = batch(step, 12, &device);
        let loss = cross_entropy(theirs.forward(batch.images, None).logits, batch.targets, 0.1).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &theirs);
        theirs = optimiser.step(1e-3, theirs, gradients);
    }
    let error = difference(&ours.student, &theirs);
    assert!(error < 1e-5, "{error:e}");
}

#[test]
fn a_batch_in_parts_is_the_batch() {
    let config = || AdamWConfig { clip_norm: Some(1.0), epsilon: 1e-4, ..AdamWConfig::default() };
    let device = Device::flex();
    let (whole, _, losses) = trained(config(), learner(2, &device), 1, 6);
    // Five does not divide twelve: the last part is smaller and weighs less.
    for parts in [3, 5, 12] {
        let (cut, _, cut_losses) = trained(config(), learner(2, &device), parts, 6);
        let error = difference(&whole, &cut);
        assert!(error < 1e-5, "{parts} parts: {error:e}");
        for (a, b) in losses.iter().zip(&cut_losses) {
            assert!((a - b).abs() < 1e-5, "{parts} parts: {losses:?} and {cut_losses:?}");
        }
    }
}

#[test]
fn the_exponential_mean_follows_its_equation() {
    let device = Device::flex();
    let config = AdamWConfig { ema: Some(0.75), ..AdamWConfig::default() };
    let mut expected: Vec<Vec<f64>> = Vec::new();
    for steps in 0..=4 {
        // The same run, cut off after each step.
        let (student, optimiser, _) = trained(config.clone(), learner(2, &device), 1, steps);
        let now = parameters(&student.student);
        if steps == 0 {
            expected = now.iter().map(|t| t.values.iter().map(|v| f64::from(*v)).collect()).collect();
            assert!(optimiser.averaged(student.student).is_none(), "there is no mean of nothing");
            continue;
        }
        for (mean, now) in expected.iter_mut().zip(&now) {
            mean.iter_mut().zip(&now.values).for_each(|(mean, now)| *mean = 0.75 * *mean + 0.25 * f64::from(*now));
        }
        let averaged = optimiser.averaged(student).expect("a mean is kept").student;
        for (found, expected) in parameters(&averaged).iter().zip(&expected) {
            let error = found.values.iter().zip(expected).fold(0.0, |m, (a, b)| f64::max(m, (f64::from(*a) - b).abs()));
            assert!(error < 1e-6, "{}: {error:e}", found.name);
        }
    }
}

#[test]
fn an_optimiser_goes_on_from_its_record_to_the_last_bit() {
    let device = Device::flex();
    let config = AdamWConfig { ema: Some(0.9), clip_norm: Some(1.0), ..AdamWConfig::default() };
    let go_on = |mut student: Learner, mut optimiser: AdamW| {
        for step in 3..6 {
            let batch = batch(step, 12, &device);
            let lesson = Lesson::labels(0.0, &student.student.shape());
            (student, _) = training_step(student, &lesson, &mut optimiser, batch, &Training::default(), 1e-3);
        }
        let averaged = optimiser.averaged(student.clone()).expect("a mean is kept");
        (parameters(&student), parameters(&averaged))
    };
    let (student, optimiser, _) = trained(config.clone(), learner(2, &device), 1, 3);
    let record = read_sync(optimiser.record()).expect("readable").expect("three steps");
    let loaded = weights::assign(learner(9, &device), parameters(&student)).expect("fits");
    let resumed = AdamW::new(config.clone()).resume(record.clone(), &loaded).expect("fits");
    assert_eq!(go_on(student, optimiser), go_on(loaded, resumed));
    // A record without the mean does not fit an optimiser that keeps one.
    let mut cut = record;
    cut.moments[0].average = None;
    assert!(AdamW::new(config).resume(cut, &learner(9, &device)).is_none());
}

#[test]
fn a_linear_probe_moves_the_heads_alone() {
    let device = Device::flex();
    let before = heads_alone(learner(2, &device), VisionTransformer::HEADS);
    let (after, ..) = trained(AdamWConfig::default(), before.clone(), 1, 3);
    for (old, new) in parameters(&before).iter().zip(&parameters(&after)) {
        assert_eq!(old.values != new.values, old.name.starts_with("student.head."), "{}", old.name);
    }
}

#[test]
fn clipping_bounds_the_step_by_the_global_norm() {
    // With β₁ = 0 and a huge ε, AdamW moves by lr · g / ε: the move shows the gradient that was used.
    let device = Device::flex().autodiff();
    let model = tiny().init(4, &device).expect("a valid model");
    let moved = |clip_norm: Option<f64>| {
        let config = AdamWConfig { beta_1: 0.0, epsilon: 1e6, weight_decay: 0.0, clip_norm, ..AdamWConfig::default() };
        let batch = batch(0, 8, &Device::flex());
        let loss = cross_entropy(model.forward(batch.images, None).logits, batch.targets, 0.0).mean();
        let stepped = AdamW::new(config).step(model.clone(), loss.backward(), 1e6);
        let before = read_sync(weights::read(&model)).expect("readable");
        let after = read_sync(weights::read(&stepped)).expect("readable");
        let square = |(a, b): (&weights::NamedTensor, &weights::NamedTensor)| -> f64 {
            a.values.iter().zip(&b.values).map(|(x, y)| f64::from(x - y).powi(2)).sum()
        };
        before.iter().zip(&after).map(square).sum::<f64>().sqrt()
    };
    let free = moved(None);
    assert!(free > 0.1, "the gradient's norm is {free}");
    let limit = free / 4.0;
    assert!((moved(Some(limit)) / limit - 1.0).abs() < 1e-2);
    assert!((moved(Some(free * 4.0)) / free - 1.0).abs() < 1e-2, "a small gradient is left alone");
}

#[test]
fn dropped_branches_scale_what_is_kept_and_repeat() {
    let config = VitConfig { drop_path: 0.5, depth: 4, ..tiny() };
    let device = Device::flex();
    let model = config.init(6, &device).expect("a valid model");
    let images = batch(0, 8, &device).images;
    let forward = |step: u64| {
        let training = model.draw_training(9, step, 8, &device);
        values(model.forward(images.clone(), Some(&training)).logits)
    };
    assert_eq!(forward(0), forward(0));
    assert_ne!(forward(0), forward(1));
    assert_ne!(forward(0), values(model.forward(images.clone(), None).logits));
    let still = tiny().init(6, &device).expect("a valid model");
    assert!(still.draw_training(9, 0, 8, &device).drop_path().is_none());
}

#[test]
fn weights_go_out_and_in_unchanged_under_timms_names() {
    let device = Device::flex();
    let config = deit_like();
    let model = config.init(7, &device).expect("a valid model");
    let tensors = read_sync(weights::read(&model)).expect("readable");
    let shape = |name: &str| tensors.iter().find(|t| t.name == name).map(|t| t.shape.clone());
    assert_eq!(shape("cls_token"), Some(vec![1, 1, 16]));
    assert_eq!(shape("dist_token"), Some(vec![1, 1, 16]));
    assert_eq!(shape("pos_embed"), Some(vec![1, 6, 16]));
    assert_eq!(shape("patch_embed.proj.weight"), Some(vec![16, 3, 14, 14]));
    assert_eq!(shape("blocks.1.norm1.weight"), Some(vec![16]));
    assert_eq!(shape("blocks.1.attn.qkv.weight"), Some(vec![48, 16]));
    assert_eq!(shape("blocks.0.mlp.fc2.weight"), Some(vec![16, 32]));
    assert_eq!(shape("norm.bias"), Some(vec![16]));
    assert_eq!(shape("head_dist.weight"), Some(vec![10, 16]));
    let bytes = weights::to_safetensors(&tensors, [("key".to_owned(), "value".to_owned())].into()).expect("serialises");
    let (read_back, metadata) = weights::from_safetensors(&bytes).expect("reads back");
    assert_eq!(metadata["key"], "value");
    let other = config.init(8, &device).expect("a valid model");
    let loaded = weights::assign(other, read_back).expect("fits");
    assert_eq!(read_sync(weights::read(&loaded)).expect("readable"), tensors);
    let images = Tensor::<4>::ones([2, 3, 28, 28], &device);
    let logits = |model: &VisionTransformer| values(model.forward(images.clone(), None).logits);
    assert_eq!(logits(&loaded), logits(&model));
}

#[test]
fn weights_that_do_not_fit_are_listed() {
    let device = Device::flex();
    let mut tensors = read_sync(weights::read(&tiny().init(0, &device).expect("valid"))).expect("readable");
    tensors.retain(|t| t.name != "head.bias");
    tensors[0].name = "stranger".into();
    let last = tensors.len() - 1;
    tensors[last].shape.reverse();
    tensors[last].shape.push(1);
    let error = weights::assign(tiny().init(1, &device).expect("valid"), tensors).expect_err("does not fit");
    let text = error.to_string();
    for part in ["head.bias", "is missing", "stranger", "has no place", "the model needs"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn broken_safetensors_are_errors() {
    let tensors = read_sync(weights::read(&tiny().init(0, &Device::flex()).expect("valid"))).expect("readable");
    let good = weights::to_safetensors(&tensors, Default::default()).expect("serialises");
    for length in (0..good.len()).step_by(good.len() / 97) {
        assert!(weights::from_safetensors(&good[..length]).is_err(), "{length} bytes of {}", good.len());
    }
    let mut lying = good.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(weights::from_safetensors(&lying).is_err());
    // Any single byte of the header may be wrong: that is an error or another reading, never a panic.
    for index in 0..2_000 {
        let mut mutated = good.clone();
        mutated[index] ^= 1 << (index % 8);
        let _ = weights::from_safetensors(&mutated);
    }
}

#[test]
fn a_configuration_that_describes_no_network_is_refused() {
    let cases = [
        (VitConfig { heads: 3, ..tiny() }, "heads"),
        (VitConfig { patch_size: 5, ..tiny() }, "patch_size"),
        (VitConfig { depth: 0, ..tiny() }, "depth"),
        (VitConfig { width: 1 << 20, ..tiny() }, "width"),
        (VitConfig { mlp_ratio: f64::NAN, ..tiny() }, "mlp_ratio"),
        (VitConfig { drop_path: 1.0, ..tiny() }, "drop_path"),
        (VitConfig { pool: Pool::Class, ..tiny() }, "class_token"),
        (VitConfig { classes: 0, ..tiny() }, "classes"),
    ];
    for (config, part) in cases {
        let error = config.init(0, &Device::flex()).expect_err(part).to_string();
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}
