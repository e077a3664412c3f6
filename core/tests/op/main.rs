//! The operations on every device at hand: each test is a parity test over the portable CPU backend and a wgpu adapter.
//!
//! Oracles: the same formulas composed of tensor operations under Burn's own gradients on the CPU; published golden
//! numbers; central differences of plain Rust in `f64`.
#![recursion_limit = "256"]

#[path = "../common/mod.rs"]
mod adapters;

mod adamw;
mod attention;
mod attention_map;
mod devices;
mod gelu;
mod gram;
mod graphs;
mod half;
mod join;
mod layer_norm;
mod linear;
mod losses;
mod matmul;
mod numbers;
mod residual_norm;
