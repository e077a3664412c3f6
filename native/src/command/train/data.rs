//! The data of a run.

use std::sync::Arc;

use potstill_core::data::{Dataset, Subset};

use crate::dataset::{self, Split};
use crate::error::{Failure, Result};
use crate::recipe::Recipe;
use crate::train::{Source, StageData};

/// Opens what a recipe trains and measures on.
///
/// # Errors
/// Exit code 2 for more samples than there are; 1 for files that cannot be read.
pub fn open(recipe: &Recipe) -> Result<StageData> {
    let data = &recipe.data;
    let train = dataset::open_sized(&data.dataset, data.data_dir.as_deref(), Split::Train, data.train_samples)?;
    let held_out = dataset::open(&data.dataset, data.data_dir.as_deref(), data.held_out())?;
    if train.class_names() != held_out.class_names() {
        return Err(Failure::work("the training and the held-out images have other classes"));
    }
    let train: Arc<dyn Dataset> = match data.train_samples {
        Some(samples) if samples != train.len() => {
            Arc::new(Subset::balanced(train, samples, recipe.seed).map_err(Failure::usage)?)
        }
        _ => train,
    };
    // Teacher and student see the same pixels: the network that learns says how they are prepared.
    let learns = recipe.learner();
    let model = learns.map_or("", |network| network.model.as_str());
    let channels = match learns {
        Some(network) => network.config("the network that learns")?.channels(),
        None => 3,
    };
    let source = Source {
        dataset: train,
        transform: data.transform(model, channels),
        mix: data.mix,
        repeats: data.repeats,
        workers: data.workers,
        // Each stage sets its own, and the size of its images.
        batch_size: 1,
        seed: recipe.seed,
    };
    Ok(StageData::new(source, held_out, data.test_samples))
}
