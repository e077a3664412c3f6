//! Methods: against numbers worked out in f64 apart from this code, gradients against central differences of an f64
//! model of each equation, and each as a student learns by it. A file a family of methods.
#![recursion_limit = "256"]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/digits.rs"]
mod digits;
#[path = "../common/tiny.rs"]
mod tiny;

mod at;
mod class_token;
mod combinations;
mod dist;
mod dkd;
mod hint;
mod kd_standard;
mod labels;
mod logits;
mod manifold;
mod plain;
mod retrospection;
mod rkd;
mod saf;
mod sp;
mod teachers;
mod training;
mod unlabelled;
