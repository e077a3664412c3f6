//! Distillation of vision transformers in Rust, on any device that [Burn](burn) supports: models, methods, operations with their
//! own WGSL kernels, data, and the training step. Potstill's command and its web page are built on this crate.
//!
//! A [`Lesson`](method::Lesson) consists of an objective and its teachers, for students of one shape. A
//! [`training_step`](train::training_step) trains a student with it:
//!
//! ```
//! # #![recursion_limit = "256"]
//! use burn::tensor::Device;
//! use potstill_core::data::{Dataset, Digits, Normalisation, Split, Transform, assemble};
//! use potstill_core::method::{Lesson, Preset};
//! use potstill_core::model::{Network, Training, zoo};
//! use potstill_core::train::{AdamW, AdamWConfig, DeviceBatch, Learner, StepBatch, training_step};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::flex();
//! let tracked = device.clone().autodiff();
//!
//! // 16 drawn digits, normalised.
//! let digits = Digits::new(Split::Train, 16);
//! let transform = Transform::plain(digits.shape().ok_or("several shapes")?, Normalisation::mnist());
//! let batch = DeviceBatch::new(assemble(&digits, &(0..16).collect::<Vec<_>>(), &transform)?, &device);
//!
//! let teacher: Network = zoo::named("digits_teacher").ok_or("no such model")?.init(1, &device)?;
//! let config = zoo::named("digits_student").ok_or("no such model")?;
//! let objective = Preset::named("KD").ok_or("no such method")?.objective();
//! let lesson = Lesson::new(&objective, &config.shape(), Some(teacher.into()))?;
//!
//! let mut learner = Learner::new(config.init(2, &tracked)?, &lesson, 0, &tracked);
//! let mut optimiser = AdamW::new(AdamWConfig::default());
//! let mut losses = Vec::new();
//! for _ in 0..3 {
//!     let inputs = StepBatch::new(batch.images.clone(), batch.targets.clone());
//!     let report;
//!     (learner, report) = training_step(learner, &lesson, &mut optimiser, inputs, &Training::default(), 1e-3);
//!     losses.push(report.values.try_into_data()?.iter::<f32>().next().ok_or("no loss")?);
//! }
//! assert!(losses[2] < losses[0]);
//! # Ok(())
//! # }
//! ```
//!
//! The folder `examples` has more: a student of your own, and an objective that is written by hand.
//!
//! | module | contents |
//! |---|---|
//! | [`data`] | pictures, labels (some unknown), augmentation, readers of data sets, drawn digits |
//! | [`model`] | vision transformers, ResNets, RegNets, and their names |
//! | [`method`] | distillation methods, a file for each; objectives as lists of weighted terms |
//! | [`op`] | operations with their own kernels, a folder for each |
//! | [`train`] | the training step, the course of a training, the optimiser, evaluation |
//! | [`weights`] | reading and writing checkpoints, also those of timm, transformers and torchvision |
//!
//! This crate builds for `wasm32-unknown-unknown`: it opens no file, starts no thread and reads no clock.
#![recursion_limit = "256"]
#![warn(missing_docs)]

pub mod data;
pub mod method;
pub mod model;
pub mod op;
pub mod train;
pub mod weights;
