//! Training steps of a vision transformer: forward, backward and update, from labels alone or distilled.

use std::cell::RefCell;

use burn::optim::{AdamWConfig as StockAdamW, GradientsParams};
use burn::tensor::{Device, Tensor};
use potstill_core::model::{NetworkConfig, Pool, VitConfig};
use potstill_core::objective::Objective;
use potstill_core::train::{AdamW, AdamWConfig, Learner, StepBatch, training_step};
use serde_json::{Value, json};

use super::stock::{StockVit, map_loss, rows_of_losses};
use super::{Path, Repeats, Row, Work, Workload, measure, random};
use crate::error::{Failure, Result};

/// The sizes of a network; the defaults of the command are DeiT-Ti's.
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
    /// Whether the head reads the mean of the patches and there is no class token.
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

/// Floating-point operations of a forward pass of one image: its matrix products.
pub(super) fn forward_flops(config: &VitConfig) -> f64 {
    let (n, d, h) = (config.tokens() as f64, config.width as f64, config.hidden() as f64);
    let block = 2.0 * n * d * (4.0 * d + 2.0 * h) + 4.0 * n * n * d;
    let patches = 2.0 * (config.patches() * config.channels * config.patch_size.pow(2)) as f64 * d;
    config.depth as f64 * block + patches + 2.0 * d * config.classes as f64
}

/// Measures a step of `batch` images towards the objective called `distillation` (`none`, `KD`, `SAF` or `SAF+KD`).
///
/// # Errors
/// If the sizes or the objective make no sense, or the device fails.
pub fn step(
    device: &Device,
    repeats: Repeats,
    student: Transformer,
    teacher: Transformer,
    batch: usize,
    distillation: &str,
) -> Result<Vec<Row>> {
    let name = distillation.to_ascii_lowercase();
    let (kd, saf) = match name.as_str() {
        "none" => (false, false),
        "kd" => (true, false),
        "saf" => (false, true),
        "saf+kd" | "kd+saf" => (true, true),
        _ => return Err(Failure::usage(format!("--distillation {distillation}: it must be none, KD, SAF or SAF+KD"))),
    };
    let objective = match name.as_str() {
        "none" => Objective::Labels { smoothing: 0.1 },
        other => Objective::named(other).ok_or_else(|| Failure::usage(format!("no objective {other}")))?,
    };
    let (config, teacher_config) = (student.config()?, teacher.config()?);
    if objective.needs_teacher() {
        let shapes = [&config, &teacher_config].map(VitConfig::shape);
        objective.check(&shapes[0], &shapes[1]).map_err(Failure::usage)?;
    }
    let plain = &device.clone().inner();
    let device = &device.clone().autodiff();
    let images = random([batch, student.channels, student.image, student.image], plain, false);
    let targets = Tensor::<2>::full([batch, student.classes], 1.0 / student.classes as f32, plain);
    let taught = kd || saf;

    let build =
        |config: &VitConfig, device| NetworkConfig::from(config.clone()).init(0, device).map_err(Failure::usage);
    let learner = Learner::from(build(&config, device)?);
    let ours = RefCell::new((Some(learner), AdamW::new(AdamWConfig::default())));
    let our_teacher = taught.then(|| build(&teacher_config, plain)).transpose()?;
    let tracked = Tensor::<4>::from_inner(images.clone());
    let our_batch = || StepBatch::new(tracked.clone(), targets.clone());
    let run_ours = || -> Box<dyn std::any::Any> {
        let (learner, optimiser) = &mut *ours.borrow_mut();
        let student = learner.take().expect("put back after every step");
        let training = student.student.draw_training(0, optimiser.steps(), batch, plain);
        let teacher = our_teacher.as_ref();
        let (updated, report) = training_step(student, teacher, optimiser, &objective, our_batch(), &training, 1e-3);
        *learner = Some(updated);
        Box::new(report)
    };
    let hold_ours = || -> Box<dyn std::any::Any> {
        let (learner, _) = &*ours.borrow();
        let student = &learner.as_ref().expect("put back after every step").student;
        let (taps, teacher_taps) = objective.taps(config.depth, teacher_config.depth);
        let teacher = our_teacher.as_ref().map(|teacher| teacher.forward_with(tracked.clone(), None, &teacher_taps));
        let trace = student.forward_with(tracked.clone(), None, &taps);
        Box::new(objective.loss(&trace, teacher.as_ref(), targets.clone()).total)
    };

    let stock_teacher = taught.then(|| StockVit::new(&teacher_config, plain));
    let stride = (teacher_config.depth / config.depth).max(1);
    let optimiser = StockAdamW::new().with_epsilon(1e-8).with_weight_decay(0.05).init();
    let stock = RefCell::new((Some(StockVit::new(&config, device)), optimiser));
    let stock_loss = |student: &StockVit| {
        let (logits, packed) = student.forward(tracked.clone());
        let Some(teacher) = &stock_teacher else {
            let entropy = -(targets.clone() * burn::tensor::activation::log_softmax(logits, 1)).sum_dim(1);
            return entropy.mean();
        };
        let (taught_logits, taught_packed) = teacher.forward(images.clone());
        let rows = rows_of_losses(logits, taught_logits, targets.clone(), 2.0, 0.0);
        let mut loss = match kd {
            true => rows.mean(),
            false => rows.narrow(1, 0, 1).mean(),
        };
        if saf {
            for (index, packed) in packed.into_iter().enumerate() {
                loss = loss + map_loss(packed, taught_packed[stride * (index + 1) - 1].clone());
            }
        }
        loss
    };
    let run_stock = || -> Box<dyn std::any::Any> {
        let (network, optimiser) = &mut *stock.borrow_mut();
        let student = network.take().expect("put back after every step");
        let loss = stock_loss(&student);
        let gradients = loss.backward();
        let gradients = GradientsParams::from_grads(gradients, &student);
        *network = Some(optimiser.step(1e-3, student, gradients));
        Box::new(loss.inner())
    };
    let hold_stock = || -> Box<dyn std::any::Any> {
        let (network, _) = &*stock.borrow();
        Box::new(stock_loss(network.as_ref().expect("put back after every step")))
    };

    let mut case = student.case();
    case["batch"] = json!(batch);
    case["distillation"] = json!(distillation);
    if taught {
        case["teacher"] = teacher.case();
    }
    // A backward pass is two forward passes.
    let teaching = if taught { forward_flops(&teacher_config) } else { 0.0 };
    let flops = batch as f64 * (3.0 * forward_flops(&config) + teaching);
    let work = Work { flops: Some(flops), samples: Some(batch), ..Work::default() };
    let paths = vec![
        Workload { path: Path::Potstill, run: Box::new(run_ours), hold: Some(Box::new(hold_ours)) },
        Workload { path: Path::Stock, run: Box::new(run_stock), hold: Some(Box::new(hold_stock)) },
    ];
    measure("step", &case, work, device, repeats, paths)
}
