//! One file a subcommand; each has `run(options, device)`.

pub mod bench;
pub mod compare;
pub mod devices;
pub mod eval;
pub mod export;
pub mod fetch;
pub mod predict;
pub mod recipes;
pub mod selftest;
pub mod sweep;
pub mod train;
