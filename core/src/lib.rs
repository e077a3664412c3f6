//! Everything that Potstill's native trainer and its page share: models, methods, operations, data and the training step.
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
