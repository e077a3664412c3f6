//! What is measured of the networks of a finished run, and told.

use std::time::{SystemTime, UNIX_EPOCH};

use super::stages::{Run, Trained};
use crate::error::Result;
use crate::folder::write_whole;
use crate::recipe::Goal;
use crate::report::{self, DatasetReport, FileReport, ModelReport, ObjectiveReport, RunReport};
use crate::run::Role;
use crate::train::{clear_checkpoints, read_log};

impl Run<'_> {
    /// Measures what was trained and writes the run's results.
    ///
    /// # Errors
    /// If a network cannot be measured, or a file cannot be written.
    pub fn finish(&self, trained: &[Trained]) -> Result<RunReport> {
        let report = self.measure(trained)?;
        let lines = read_log(&self.folder.file("metrics.jsonl"))?;
        write_whole(&self.folder.file("curves.svg"), report::curves(&lines, &report)?.as_bytes())?;
        self.folder.write_json("result.json", &report)?;
        // Finished: what is only needed for a resume goes.
        std::fs::remove_file(self.folder.file("state.json")).ok();
        clear_checkpoints(self.folder);
        Ok(report)
    }

    fn measure(&self, trained: &[Trained]) -> Result<RunReport> {
        let mut teacher_says: Option<Vec<u32>> = None;
        let names = self.data.full.held_out.class_names();
        let named = |classes: &[u32]| classes.iter().map(|class| names[*class as usize].clone()).collect::<Vec<_>>();
        let mut models = Vec::new();
        for network in trained {
            if self.interrupt.is_set() {
                return Err(self.stopped());
            }
            let limit = self.recipe.data.test_samples;
            let (evaluation, predicted) = self.evaluate(network, &network.model, limit)?;
            let agreement = teacher_says.as_ref().map(|teacher| {
                let equal = teacher.iter().zip(&predicted).filter(|(a, b)| a == b).count();
                equal as f64 / predicted.len().max(1) as f64
            });
            let omitted = self.omitted(network, &evaluation)?;
            let validation = self.data.full.validation.as_ref();
            let validation_accuracy =
                validation.map(|set| self.evaluate_on(set.as_ref(), network, &network.model, None)).transpose()?;
            let average = network.average.as_ref().map(|average| self.evaluate(network, average, limit));
            let average_accuracy = average.transpose()?.map(|(found, _)| found.accuracy());
            let bytes = std::fs::metadata(&network.weights).map(|m| m.len()).ok();
            if network.role == Role::Teacher {
                teacher_says = Some(predicted);
            }
            let trained_on = network.outcome.as_ref().map(|_| self.data.of(network.role));
            let report = ModelReport {
                model: network.name.clone(),
                images: trained_on.map(|data| data.images),
                labels: trained_on.map(|data| data.labels),
                wrong_labels: trained_on.map_or(0, |data| data.wrong),
                without: trained_on.map_or(Vec::new(), |data| named(&data.without)),
                parameters: network.config.parameters(),
                bytes: bytes.unwrap_or(4 * network.config.parameters()),
                accuracy: evaluation.accuracy(),
                average_accuracy,
                omitted,
                validation_accuracy: validation_accuracy.map(|(found, _)| found.accuracy()),
                agreement: agreement.or((network.role == Role::Teacher).then_some(1.0)),
                seconds: network.outcome.as_ref().map(|o| o.seconds),
                images_per_second: network.outcome.as_ref().map(|o| o.images_per_second),
                loader_images_per_second: network.outcome.as_ref().and_then(|o| o.loader_images_per_second),
                step_images_per_second: network.outcome.as_ref().and_then(|o| o.step_images_per_second),
                teacher_images: network.outcome.as_ref().map(|o| o.teacher_images),
                recall_seconds: network.outcome.as_ref().map(|o| o.recall_seconds),
                epochs: network.outcome.as_ref().and_then(|o| o.epochs),
                kept_epoch: network.outcome.as_ref().and_then(|o| o.kept_epoch),
            };
            models.push((network.role, report));
        }
        let given = trained.iter().find(|network| network.outcome.is_none());
        Ok(RunReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("POTSTILL_COMMIT"),
            command: std::env::args().skip(1).collect(),
            finished: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            objective: ObjectiveReport {
                goal: self.recipe.objective.name(),
                distillation: (self.recipe.objective == Goal::Distillation).then(|| self.recipe.distillation.clone()),
                row: self.recipe.about.as_ref().map(|about| about.row.clone()),
            },
            given_teacher: given.map(|teacher| FileReport::of(&teacher.weights)).transpose()?,
            device: self.chosen.info.clone(),
            dataset: DatasetReport {
                name: self.recipe.data.dataset.clone(),
                train: self.data.full.source.dataset.len(),
                unlabelled: self.data.unlabelled,
                omitted: named(&self.data.left_out_classes()),
                validation: self.data.full.validation.as_ref().map(|set| set.len()),
                test: self.recipe.data.test_samples.unwrap_or(usize::MAX).min(self.data.full.held_out.len()),
            },
            seed: self.recipe.seed,
            models: models.into_iter().collect(),
        })
    }
}
