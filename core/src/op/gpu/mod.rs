//! The shared parts of the WGSL paths.
//!
//! A kernel uses at most 256 invocations and 16 KiB of workgroup memory a group, and 7 storage buffers a pass. Every device has
//! that much. No kernel needs subgroups or `f16`. Kernels that sum over the invocations of a row have a second text with
//! subgroups.

mod choice;
mod launch;
mod shader;
mod tiles;

pub use choice::{Choice, Reduction, Tiles, choose};
pub use launch::runs_wgsl;
pub(super) use launch::{Scalar, contiguous, launch, output, output_of, takes, wgsl_element};
pub(super) use shader::{ROW_REDUCE, Shader, wgsl};
pub(super) use tiles::{SIDES, Sizes, TILE, TILE_THREADS, gangs, launch_tiled, tile_fits, tiled};
