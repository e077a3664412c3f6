//! Images, samples and batches, and the readers that make them from bytes.
//!
//! A run must be repeatable bit for bit on any machine, in any order and with any number of workers. So:
//!
//! * every random number is drawn from a key of (seed, epoch, sample index, purpose), never from a shared stream:
//!   the order in which samples are read does not change a sample;
//! * transcendental functions come from `libm`, and no sum is left to the platform: the same key gives the same bytes
//!   on x86-64, Arm and WebAssembly;
//! * readers take bytes. Files, archives and downloads belong to the crate that has a file system, or to the page.
//!
//! Pixels are 8-bit and channel-last, `(H, W, C)`, until [`assemble`] makes the normalised `(B, C, H, W)` floats that a
//! model takes.

mod augment;
mod batch;
pub mod cifar;
mod dataset;
mod digits;
mod distort;
mod error;
pub mod idx;
mod images;
mod labels;
pub mod mix;
pub mod ops;
mod order;
mod prepare;
pub mod preprocess;
mod rand_augment;
mod rng;
mod subset;
mod told;

pub use augment::{Augment, ColorJitter, Crop, EraseMode, RandomErasing};
pub use batch::{Batch, Draw, Normalisation, Transform, Visit, assemble, assemble_visits};
pub use dataset::{Dataset, ImageShape, Picture};
pub use digits::{Digits, Split};
pub use distort::{Distortion, Elastic, Erase};
pub use error::Error;
pub use images::Images;
pub use labels::{Relabelled, without_classes};
pub use mix::Mix;
pub use order::{epoch_order, epoch_visits};
pub use prepare::{decode, normalised, prepare};
pub use preprocess::{Interpolation, Preprocess, Resize};
pub use rand_augment::RandAugment;
pub use rng::{Purpose, Rng};
pub use subset::{Subset, balanced_indices, spread_indices};
pub use told::{Telling, Told};
