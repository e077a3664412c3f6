//! The classes that the student's training leaves out: how a network does on them, as it is and with their biases corrected.

use burn::cubecl::future::block_on;
use burn::tensor::{Tensor, TensorData};
use potstill_core::train::evaluate::logits;
use potstill_core::train::{Evaluation, bias};

use super::stages::{Run, Trained};
use crate::error::{Context, Failure, Result};
use crate::evaluate::evaluate;
use crate::report::{CorrectedReport, OmittedReport};
use crate::run::Role;

impl Run<'_> {
    /// How a network that is right as `raw` says does on the left-out classes; none where none is left out.
    ///
    /// # Errors
    /// If a sample cannot be read, a file cannot be written, or the device fails.
    pub fn omitted(&self, network: &Trained, raw: &Evaluation) -> Result<Option<OmittedReport>> {
        if self.data.left_out.is_empty() {
            return Ok(None);
        }
        let correct = self.recipe.correct_bias && network.role != Role::Teacher;
        let corrected = if correct { Some(self.corrected(network)?) } else { None };
        Ok(Some(OmittedReport { accuracy: raw.accuracy_on(&self.data.left_out_classes()), corrected }))
    }

    // The constants follow from all training images, those of the left-out classes among them, and from no label.
    fn corrected(&self, network: &Trained) -> Result<CorrectedReport> {
        let (images, device) = (self.data.full.source.dataset.as_ref(), &self.chosen.device);
        let transform = self.transform_of(network);
        let raw = |images| network.readout.of(&network.model.forward(images, None));
        let all: Vec<u64> = (0..images.len() as u64).collect();
        let said = block_on(logits(&raw, images, &transform, &all, device)).map_err(Failure::work)?;
        let classes = images.classes();
        let found = bias::correct(&said, classes, &self.data.left_out);
        let found = found.context(format_args!("correct_bias, {}", network.role.name()))?;

        let added = Tensor::<2>::from_data(TensorData::new(found.added.clone(), [1, classes]), device);
        let corrected = |images| raw(images) + added.clone();
        let (held_out, limit) = (self.data.full.held_out.as_ref(), self.recipe.data.test_samples);
        let (evaluation, _) = evaluate(&corrected, &network.config, held_out, &transform, limit, device)?;
        let weights = self.keep_corrected(network, &found.added)?;
        let named = self.data.left_out_classes().into_iter().map(|class| {
            let place = class as usize;
            (images.class_names()[place].clone(), (found.added[place], found.shares[place]))
        });
        Ok(CorrectedReport {
            accuracy: evaluation.accuracy(),
            omitted_accuracy: evaluation.accuracy_on(&self.data.left_out_classes()),
            added: named.clone().map(|(name, (added, _))| (name, added)).collect(),
            predicted: named.map(|(name, (_, share))| (name, share)).collect(),
            weights,
        })
    }
}
