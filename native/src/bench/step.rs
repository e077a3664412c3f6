//! Training steps of a vision transformer: forward, backward and update, with labels alone or with distillation.

use std::cell::RefCell;
use std::rc::Rc;

use burn::optim::{AdamWConfig as StockAdamW, GradientsParams};
use burn::tensor::Tensor;
use potstill_core::method::{Given, Lesson, Objective, Preset};
use potstill_core::model::{NetworkConfig, Pool, VitConfig};
use potstill_core::train::{AdamW, AdamWConfig, Learner, StepBatch, training_step};
use serde_json::{Value, json};

use super::stock::{StockVit, map_loss, rows_of_losses};
use super::{Passes, Path, Row, Setting, Work, Workload, measure, random};
use crate::error::{Failure, Result};

/// The sizes of a network. The command's defaults are those of DeiT-Ti.
#[derive(Clone, Copy, Debug)]
pub struct Transformer {
    /// Side of the image.
    pub image: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
    /// Width.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads.
    pub heads: usize,
    /// Whether the head reads the mean of the patches. There is then no class token.
    pub mean_pool: bool,
}

impl Transformer {
    pub(super) fn config(self) -> Result<VitConfig> {
        let config = VitConfig {
            image_size: self.image,
            patch_size: self.patch,
            channels: self.channels,
            classes: self.classes,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            pool: if self.mean_pool { Pool::Mean } else { Pool::Class },
            class_token: !self.mean_pool,
            ..VitConfig::default()
        };
        config.validate().map_err(Failure::usage)?;
        Ok(config)
    }

    pub(super) fn case(self) -> Value {
        json!({
            "image": self.image, "patch": self.patch, "channels": self.channels, "width": self.width,
            "depth": self.depth, "heads": self.heads, "classes": self.classes,
        })
    }
}

/// Floating-point operations of a forward pass of one image, in its matrix products.
pub(super) fn forward_flops(config: &VitConfig) -> f64 {
    let (n, d, h) = (config.tokens() as f64, config.width as f64, config.hidden() as f64);
    let block = 2.0 * n * d * (4.0 * d + 2.0 * h) + 4.0 * n * n * d;
    let patches = 2.0 * (config.patches() * config.channels * config.patch_size.pow(2)) as f64 * d;
    config.depth as f64 * block + patches + 2.0 * d * config.classes as f64
}

/// The numbers that the stock path keeps for the backward pass of one image: about 24 for each token and channel of a block, and
/// four maps for each head.
pub(super) fn activations(config: &VitConfig) -> f64 {
    let (n, d, heads) = (config.tokens() as f64, config.width as f64, config.heads as f64);
    config.depth as f64 * n * (24.0 * d + 4.0 * heads * n)
}

/// What is distilled: logits, attention maps, or both.
#[derive(Clone, Copy)]
struct Distilled {
    kd: bool,
    saf: bool,
}

impl Distilled {
    fn taught(self) -> bool {
        self.kd || self.saf
    }
}

fn objective(name: &str) -> Result<(Distilled, Objective)> {
    let (kd, saf) = match name.to_ascii_lowercase().as_str() {
        "none" => return Ok((Distilled { kd: false, saf: false }, Objective::labels(0.1))),
        "kd" => (true, false),
        "saf" => (false, true),
        "saf+kd" | "kd+saf" => (true, true),
        _ => return Err(Failure::usage(format!("--distillation {name}: it must be none, KD, SAF or SAF+KD"))),
    };
    let preset = Preset::named(name).ok_or_else(|| Failure::usage(format!("no objective {name}")))?;
    Ok((Distilled { kd, saf }, preset.objective()))
}

/// Potstill's network, kernels and optimiser.
fn ours(
    setting: &Setting,
    [config, teacher_config]: [&VitConfig; 2],
    batch: usize,
    name: &str,
) -> Result<Passes<'static>> {
    let plain = setting.device.clone();
    let (distilled, objective) = objective(name)?;
    let build =
        |config: &VitConfig, device| NetworkConfig::from(config.clone()).init(0, device).map_err(Failure::usage);
    let device = &plain.clone().autodiff();
    let teacher = distilled.taught().then(|| build(teacher_config, &plain)).transpose()?;
    let lesson = Lesson::new(&objective, &config.shape(), teacher.map(Into::into)).map_err(Failure::usage)?;
    let lesson = Rc::new(lesson);
    let learner = Learner::from(build(config, device)?);
    let state = Rc::new(RefCell::new((Some(learner), AdamW::new(AdamWConfig::default()))));
    let (images, targets) = inputs(setting, config, batch);
    let inputs = move || StepBatch::new(images.clone(), targets.clone());

    let hold = {
        let (state, inputs, lesson) = (state.clone(), inputs.clone(), lesson.clone());
        move || -> Box<dyn std::any::Any> {
            let (learner, _) = &*state.borrow();
            let Learner { student, aids } = learner.as_ref().expect("put back after every step");
            let StepBatch { images, targets, .. } = inputs();
            let teacher = lesson.teachers_trace(&images, None);
            let [taps, _] = lesson.taps();
            let trace = student.forward_with(images, None, taps);
            let given = Given { teacher: teacher.as_ref(), targets, known: None, aids, past: None, step: 0, epoch: 1 };
            Box::new(lesson.loss(&trace, given).total)
        }
    };
    let run = move || -> Box<dyn std::any::Any> {
        let (learner, optimiser) = &mut *state.borrow_mut();
        let student = learner.take().expect("put back after every step");
        let training = student.student.draw_training(0, optimiser.steps(), batch, &plain);
        let (updated, report) = training_step(student, &lesson, optimiser, inputs(), &training, 1e-3);
        *learner = Some(updated);
        Box::new(report)
    };
    Ok(Passes { run: Box::new(run), hold: Some(Box::new(hold)) })
}

/// Burn's modules, composed losses and Burn's optimiser.
fn stock(
    setting: &Setting,
    [config, teacher_config]: [&VitConfig; 2],
    batch: usize,
    distilled: Distilled,
) -> Passes<'static> {
    let teacher = distilled.taught().then(|| StockVit::new(teacher_config, &setting.device));
    let stride = (teacher_config.depth / config.depth).max(1);
    let optimiser = StockAdamW::new().with_epsilon(1e-8).with_weight_decay(0.05).init();
    let network = StockVit::new(config, &setting.device.clone().autodiff());
    let state = Rc::new(RefCell::new((Some(network), optimiser)));
    let (images, targets) = inputs(setting, config, batch);
    let loss = move |student: &StockVit| {
        let (logits, packed) = student.forward(images.clone());
        let Some(teacher) = &teacher else {
            let entropy = -(targets.clone() * burn::tensor::activation::log_softmax(logits, 1)).sum_dim(1);
            return entropy.mean();
        };
        let (taught_logits, taught_packed) = teacher.forward(images.clone().inner());
        let rows = rows_of_losses(logits, taught_logits, targets.clone(), 2.0, 0.0);
        let mut loss = match distilled.kd {
            true => rows.mean(),
            false => rows.narrow(1, 0, 1).mean(),
        };
        if distilled.saf {
            for (index, packed) in packed.into_iter().enumerate() {
                loss = loss + map_loss(packed, taught_packed[stride * (index + 1) - 1].clone());
            }
        }
        loss
    };
    let loss = Rc::new(loss);
    let hold = {
        let (state, loss) = (state.clone(), loss.clone());
        move || -> Box<dyn std::any::Any> {
            let (network, _) = &*state.borrow();
            Box::new(loss(network.as_ref().expect("put back after every step")))
        }
    };
    let run = move || -> Box<dyn std::any::Any> {
        let (network, optimiser) = &mut *state.borrow_mut();
        let student = network.take().expect("put back after every step");
        let loss = loss(&student);
        let gradients = GradientsParams::from_grads(loss.backward(), &student);
        *network = Some(optimiser.step(1e-3, student, gradients));
        Box::new(loss.inner())
    };
    Passes { run: Box::new(run), hold: Some(Box::new(hold)) }
}

/// Images, which are constants in the graph, and soft targets.
fn inputs(setting: &Setting, config: &VitConfig, batch: usize) -> (Tensor<4>, Tensor<2>) {
    let plain = &setting.device;
    let images = random([batch, config.channels, config.image_size, config.image_size], plain, false);
    let targets = Tensor::full([batch, config.classes], 1.0 / config.classes as f32, plain);
    (Tensor::from_inner(images), targets)
}

/// Measures a step of `batch` images with the objective called `distillation` (`none`, `KD`, `SAF` or `SAF+KD`).
///
/// # Errors
/// If the sizes or the objective are not accepted or do not fit, or if the device fails.
pub fn step(
    setting: &Setting,
    student: Transformer,
    teacher: Transformer,
    batch: usize,
    distillation: &str,
) -> Result<Vec<Row>> {
    let (distilled, objective) = objective(distillation)?;
    let (config, teacher_config) = (student.config()?, teacher.config()?);
    let configs = [&config, &teacher_config];
    let mut case = student.case();
    case["batch"] = json!(batch);
    case["distillation"] = json!(distillation);
    let (mut flops, mut numbers) = (3.0 * forward_flops(&config), activations(&config));
    // Parameters, their gradients, two moments, and the vectors of an update, of both paths.
    let mut fixed = 12.0 * config.parameters() as f64;
    if distilled.taught() {
        objective.check(&config.shape(), &teacher_config.shape()).map_err(Failure::usage)?;
        case["teacher"] = teacher.case();
        // A backward pass is two forward passes; the teacher has none.
        flops += forward_flops(&teacher_config);
        numbers += activations(&teacher_config) / 4.0;
        fixed += 2.0 * teacher_config.parameters() as f64;
    }
    setting.admit(&case, batch as f64 * numbers + fixed)?;
    let work = Work { flops: Some(batch as f64 * flops), samples: Some(batch), ..Work::default() };
    let paths = vec![
        Workload { path: Path::Potstill, start: Box::new(|| ours(setting, configs, batch, distillation)) },
        Workload { path: Path::Stock, start: Box::new(|| Ok(stock(setting, configs, batch, distilled))) },
    ];
    measure("step", &case, work, setting, paths)
}
