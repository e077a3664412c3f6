//! Batches as training reads them: drawn, varied and normalised on the host. There is no other path to hold it against.

use burn::tensor::Device;
use potstill_core::data::{Augment, Digits, Normalisation, Split, assemble, epoch_order};
use serde_json::json;

use super::{Path, Repeats, Row, Work, Workload, measure};
use crate::error::{Failure, Result};

/// Samples of the data set.
const SAMPLES: usize = 4096;

/// Measures a batch of `batch` drawn digits, varied as handwriting is if `augmented`.
///
/// # Errors
/// If `batch` is 0 or more than the data set holds.
pub fn loader(repeats: Repeats, batch: usize, augmented: bool) -> Result<Vec<Row>> {
    if batch == 0 || batch > SAMPLES {
        return Err(Failure::usage(format!("--batch {batch}: it must lie between 1 and {SAMPLES}")));
    }
    let dataset = Digits::new(Split::Train, SAMPLES);
    let normalisation = Normalisation::mnist();
    let augment = augmented.then(Augment::handwriting);
    let order = epoch_order(SAMPLES, 0, 0);
    let mut epoch = 0;
    let run = || {
        epoch += 1;
        let made = assemble(&dataset, &order[..batch], augment.as_ref(), 0, epoch, &normalisation);
        Box::new(made.ok()) as Box<dyn std::any::Any>
    };
    let case = json!({ "batch": batch, "image": 28, "channels": 1, "augmented": augmented });
    let work = Work { samples: Some(batch), ..Work::default() };
    let paths = vec![Workload { path: Path::Potstill, run: Box::new(run), hold: None }];
    // Nothing is launched: the host does it.
    measure("loader", &case, work, &Device::flex(), repeats, paths)
}
