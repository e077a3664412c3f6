//! Batches as a training reads them: drawn, varied and normalised on the host. There is no second path to compare with.

use std::cell::Cell;

use potstill_core::data::{
    Digits, Distortion, Draw, ImageShape, Normalisation, Split, Transform, Visit, assemble_visits, epoch_order,
};
use serde_json::json;

use super::{Passes, Path, Row, Setting, Work, Workload, measure};
use crate::error::{Failure, Result};

/// Samples of the data set, and their shape.
const SAMPLES: usize = 4096;
const SHAPE: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

/// Measures a batch of `batch` drawn digits. If `augmented`, they vary like handwriting.
///
/// # Errors
/// If `batch` is 0 or larger than the data set.
pub fn loader(setting: &Setting, batch: usize, augmented: bool) -> Result<Vec<Row>> {
    if batch == 0 || batch > SAMPLES {
        return Err(Failure::usage(format!("--batch {batch}: it must lie between 1 and {SAMPLES}")));
    }
    let dataset = Digits::new(Split::Train, SAMPLES);
    let mut transform = Transform::plain(SHAPE, Normalisation::mnist());
    transform.augment.distortion = augmented.then(Distortion::handwriting);
    let order = epoch_order(SAMPLES, 0, 0);
    let visits: Vec<Visit> = order[..batch].iter().map(|&index| Visit { index, repeat: 0 }).collect();
    let epoch = Cell::new(0);
    let run = || {
        epoch.set(epoch.get() + 1);
        let draw = augmented.then_some(Draw { seed: 0, epoch: epoch.get() });
        let made = assemble_visits(&dataset, &visits, &transform, draw);
        Box::new(made.ok()) as Box<dyn std::any::Any>
    };
    let case = json!({ "batch": batch, "image": SHAPE.width, "channels": SHAPE.channels, "augmented": augmented });
    let work = Work { samples: Some(batch), ..Work::default() };
    let start = || Ok(Passes { run: Box::new(run), hold: None });
    measure("loader", &case, work, setting, vec![Workload { path: Path::Potstill, start: Box::new(start) }])
}
