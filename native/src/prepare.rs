//! Picture files, read for a model.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::DynamicImage;
use potstill_core::data::{ImageShape, Preprocess, decode, prepare};

use crate::error::{Failure, Result};

/// Most bytes of a picture's file.
const MAX_FILE: u64 = 256 << 20;

/// Reads a PNG or JPEG as `shape` and `preprocess` demand: `(H, W, C)` bytes.
///
/// # Errors
/// Exit code 1 with the file's name and the reason.
pub fn read(path: &Path, shape: ImageShape, preprocess: &Preprocess) -> Result<Vec<u8>> {
    let fail = |reason: String| Failure::work(format!("cannot read the image {}: {reason}", path.display()));
    prepare(&load(path, true).map_err(fail)?, shape, preprocess).map_err(fail)
}

/// Reads and decodes a PNG or JPEG, turned upright where `turn` says so.
///
/// # Errors
/// With the reason alone.
pub fn load(path: &Path, turn: bool) -> Result<DynamicImage, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {} MiB", MAX_FILE >> 20));
    }
    decode(&bytes, turn)
}
