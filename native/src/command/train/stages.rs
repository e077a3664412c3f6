//! The stages of a run, one network after the other.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::cubecl::future::block_on;
use potstill_core::data::{Dataset, Normalisation, Transform};
use potstill_core::method::{Head, Labels, Preset, Readout, Renormalise, Teacher, TeacherLabels, Teachers, Term};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::train::{Evaluation, bias, teacher_seed};
use potstill_core::weights::{self, Description, NamedTensor};

use super::data::RunData;
use super::teacher::refuse_untrained;
use crate::cli::View;
use crate::device::Chosen;
use crate::error::{Context, Failure, Result};
use crate::evaluate::evaluate;
use crate::folder::write_whole;
use crate::recipe::{Goal, NetworkRecipe, Precision, Recipe};
use crate::run::{Role, RunFolder};
use crate::train::{
    Checkpoint, Finished, Interrupt, Keep, LogLine, MetricsLog, Outcome, RunState, Stage, latest_checkpoint,
};
use crate::weights::{LoadedNetwork, load_file};

/// A run under way.
pub struct Run<'a> {
    /// What is to be done.
    pub recipe: &'a Recipe,
    /// On which device.
    pub chosen: &'a Chosen,
    /// On which samples.
    pub data: &'a RunData,
    /// Where its files go.
    pub folder: &'a RunFolder,
    /// Whether the person asked to stop.
    pub interrupt: &'a Interrupt,
    /// Teachers beside the first one.
    pub more_teachers: &'a [LoadedNetwork],
    /// What the teachers say of every image of the student's, once a stage has asked them.
    pub known: &'a RefCell<Option<Arc<Vec<f32>>>>,
}

/// A network that is trained or given.
pub struct Trained {
    /// Which of the run's networks.
    pub role: Role,
    /// The name of its model.
    pub name: String,
    /// Its file.
    pub weights: PathBuf,
    /// What it is.
    pub config: NetworkConfig,
    /// The network, without gradients.
    pub model: Network,
    /// The exponential mean of its parameters, where one was kept.
    pub average: Option<Network>,
    /// How its heads make one prediction.
    pub readout: Readout,
    /// What its inputs are normalised by.
    pub normalisation: Normalisation,
    /// What its training cost; none of a given network.
    pub outcome: Option<Outcome>,
}

impl Run<'_> {
    /// Trains the networks in their order, or reads back what is trained already.
    ///
    /// # Errors
    /// Exit code 130 if the person stopped it and it is saved; 1 or 2 if a network cannot be trained.
    pub fn train_all(
        &self,
        networks: Vec<(Role, &NetworkRecipe, NetworkConfig)>,
        given: Option<LoadedNetwork>,
    ) -> Result<Vec<Trained>> {
        let mut state: RunState = self.folder.read_json("state.json")?;
        let checkpoint = latest_checkpoint(self.folder)?.filter(|c| !state.done.contains_key(&c.stage));
        let keep = |line: &LogLine| match line.place() {
            (stage, _) if state.done.contains_key(&stage) => true,
            (stage, step) => checkpoint.as_ref().is_some_and(|c| c.stage == stage && step <= c.step),
        };
        let mut log = MetricsLog::open(&self.folder.file("metrics.jsonl"), keep)?;
        let mut trained: Vec<Trained> = Vec::new();
        if let Some(teacher) = given {
            let LoadedNetwork { model, config, name, path: weights, readout, normalisation, .. } = teacher;
            let (role, average, outcome) = (Role::Teacher, None, None);
            trained.push(Trained { role, name, weights, config, model, average, readout, normalisation, outcome });
        }
        for (role, recipe, config) in networks {
            let teacher = trained.iter().find(|t| t.role == Role::Teacher);
            if let Some(teacher) = teacher.filter(|_| role == Role::Student && !state.done.contains_key(&role)) {
                refuse_untrained(self, teacher)?;
            }
            let Finished { model, average, outcome } = match state.done.get(&role) {
                Some(outcome) => {
                    let load = |path: &Path| Ok(load_file(path, None, &View::default(), &self.chosen.device)?.model);
                    let average = Some(self.folder.average(role)).filter(|path| path.exists());
                    Finished {
                        model: load(&self.folder.weights(role))?,
                        average: average.map(|path| load(&path)).transpose()?,
                        outcome: outcome.clone(),
                    }
                }
                None => {
                    let checkpoint = checkpoint.as_ref().filter(|c| c.stage == role);
                    let Some(finished) = self.train(role, recipe, &config, teacher, checkpoint, &mut log)? else {
                        log.flush()?;
                        return Err(self.stopped());
                    };
                    let readout = self.readout(role, recipe);
                    let keep = |path: &Path, model: &Network| self.keep(path, &recipe.model, &config, model, readout);
                    keep(&self.folder.weights(role), &finished.model)?;
                    if let Some(average) = &finished.average {
                        keep(&self.folder.average(role), average)?;
                    }
                    state.done.insert(role, finished.outcome.clone());
                    self.folder.write_json("state.json", &state)?;
                    finished
                }
            };
            let (name, weights) = (recipe.model.clone(), self.folder.weights(role));
            let (readout, outcome) = (self.readout(role, recipe), Some(outcome));
            let normalisation = self.data.full.source.transform.normalisation.clone();
            trained.push(Trained { role, name, weights, config, model, average, readout, normalisation, outcome });
        }
        log.flush()?;
        Ok(trained)
    }

    /// Runs `model`, `network` or the mean of its parameters, on at most `limit` held-out samples: the counts and the
    /// predicted classes.
    ///
    /// # Errors
    /// If a sample cannot be read, or the device fails.
    pub fn evaluate(&self, network: &Trained, model: &Network, limit: Option<usize>) -> Result<(Evaluation, Vec<u32>)> {
        self.evaluate_on(self.data.full.held_out.as_ref(), network, model, limit)
    }

    /// The same on samples of `set`.
    ///
    /// # Errors
    /// As [`Run::evaluate`].
    pub fn evaluate_on(
        &self,
        set: &dyn Dataset,
        network: &Trained,
        model: &Network,
        limit: Option<usize>,
    ) -> Result<(Evaluation, Vec<u32>)> {
        let transform = self.transform_of(network);
        let read = |images| network.readout.of(&model.forward(images, None));
        evaluate(&read, &network.config, set, &transform, limit, &self.chosen.device)
    }

    /// How samples become a network's inputs.
    pub fn transform_of(&self, network: &Trained) -> Transform {
        Transform { normalisation: network.normalisation.clone(), ..self.data.full.transform_for(&network.config) }
    }

    /// Writes a network with constants `added` to its logits beside the network as it is, and says which file it is; none where
    /// its heads cannot take them up.
    ///
    /// # Errors
    /// If the network cannot be read from its device, or the file cannot be written.
    pub fn keep_corrected(&self, network: &Trained, added: &[f32]) -> Result<Option<String>> {
        let mut tensors = block_on(weights::read(&network.model)).context("cannot read the network back")?;
        if !bias::add_to_heads(&mut tensors, &network.config, network.readout, added) {
            return Ok(None);
        }
        let path = self.folder.corrected(network.role);
        self.write(&path, &tensors, (&network.name, &network.config, network.readout))?;
        Ok(path.file_name().map(|name| name.to_string_lossy().into_owned()))
    }

    /// How the command ends when the person stopped it.
    pub fn stopped(&self) -> Failure {
        let logdir = self.folder.path().parent().unwrap_or(Path::new("."));
        let (name, logdir) = (self.folder.name(), logdir.display());
        Failure::interrupted(format!(
            "stopped and saved; go on with: potstill train --resume --name {name} --logdir {logdir}"
        ))
    }

    fn train(
        &self,
        role: Role,
        recipe: &NetworkRecipe,
        config: &NetworkConfig,
        teacher: Option<&Trained>,
        checkpoint: Option<&Checkpoint>,
        log: &mut MetricsLog,
    ) -> Result<Option<Finished>> {
        let objective = &self.objective(role, recipe);
        let readout = self.readout(role, recipe);
        // The student and its baseline start from the same values: what differs is the objective alone.
        let seed = if role == Role::Teacher { teacher_seed(self.recipe.seed) } else { self.recipe.seed };
        let (data, device, run) = (self.data.of(role), &self.chosen.device, self.folder);
        let cache = self.recipe.teacher_cache.as_deref().zip(teacher).map(|(root, teacher)| Keep {
            root,
            packing: self.recipe.packing(),
            forward: self.forward(teacher),
        });
        let teachers = teacher.map(|teacher| self.teachers(teacher)).transpose()?;
        let known = self.known;
        Stage { role, recipe, config, objective, teachers, readout, cache, known, data, seed, device, run }.train(
            checkpoint,
            log,
            self.interrupt,
        )
    }

    // All that the teachers' logits follow from beside their weights and the images.
    fn forward(&self, first: &Trained) -> String {
        let precision = self.recipe.teacher_precision;
        let mut text = format!("{:?}, {:?}, {precision:?}", first.config, first.normalisation);
        for (loaded, more) in self.more_teachers.iter().zip(&self.recipe.more_teachers) {
            let mean = self.recipe.teacher_mean;
            text += &format!("; {:?}, {:?}, {}, {mean:?}", loaded.config, loaded.normalisation, more.weight);
        }
        text
    }

    // Who teaches. All see the same pixels, each normalised as it was trained.
    fn teachers(&self, first: &Trained) -> Result<Teachers> {
        let teacher = |network: &Network, normalisation: &Normalisation, weight: f64| {
            let own = &self.data.full.source.transform.normalisation;
            let view = (normalisation != own).then(|| own.to(normalisation)).transpose().map_err(Failure::usage)?;
            let view = view.map(|channels| Renormalise::new(&channels, &self.chosen.device));
            let half = self.recipe.teacher_precision == Precision::Half;
            let network = if half { network.clone().halved() } else { network.clone() };
            Ok::<_, Failure>(Teacher { network, view, weight })
        };
        let others = self.more_teachers.iter().zip(&self.recipe.more_teachers);
        let others = others.map(|(loaded, more)| teacher(&loaded.model, &loaded.normalisation, more.weight));
        let first = teacher(&first.model, &first.normalisation, 1.0)?;
        Ok(Teachers::several(first, others.collect::<Result<_>>()?, self.recipe.teacher_mean))
    }

    // What a network is taught.
    fn objective(&self, role: Role, recipe: &NetworkRecipe) -> Preset {
        match (role, self.recipe.objective) {
            (Role::Student, Goal::Distillation) => self.recipe.distillation.clone(),
            (Role::HardLabels, _) => hard_labels(&self.recipe.distillation),
            _ => Preset::Labels { smoothing: recipe.smoothing },
        }
    }

    // A control's heads are those that its own objective teaches, whatever the student's read-out is.
    fn readout(&self, role: Role, recipe: &NetworkRecipe) -> Readout {
        let own = recipe.readout.filter(|_| matches!(role, Role::Teacher | Role::Student));
        own.unwrap_or_else(|| self.objective(role, recipe).objective().readout())
    }

    fn keep(&self, path: &Path, name: &str, config: &NetworkConfig, model: &Network, readout: Readout) -> Result<()> {
        let tensors = block_on(weights::read(model)).context("cannot read the network back")?;
        self.write(path, &tensors, (name, config, readout))
    }

    fn write(
        &self,
        path: &Path,
        tensors: &[NamedTensor],
        (name, config, readout): (&str, &NetworkConfig, Readout),
    ) -> Result<()> {
        let description = Description {
            name: name.to_owned(),
            config: config.clone(),
            class_names: self.data.full.held_out.class_names().to_vec(),
            normalisation: self.data.full.source.transform.normalisation.clone(),
            preprocess: self.data.full.source.transform.preprocess,
            reading: self.recipe.data.reading,
            readout,
        };
        let bytes = weights::to_safetensors(tensors, description.metadata()).context("cannot serialise weights")?;
        write_whole(path, &bytes)
    }
}

// The labels as the distillation weighs them, and the teacher's answer in place of all else that is read of it.
fn hard_labels(distillation: &Preset) -> Preset {
    let labels = distillation.objective().terms().iter().find_map(|term| match term {
        Term::Labels(labels) => Some(labels.clone()),
        _ => None,
    });
    let labels = labels.unwrap_or(Labels { weight: 0.0, smoothing: 0.0 });
    let weight = (1.0 - labels.weight).max(0.0);
    // Where labels have the whole weight, the answer counts as much beside them.
    let weight = if weight > 0.0 { weight } else { 1.0 };
    Preset::Terms { terms: vec![labels.into(), TeacherLabels { weight, smoothing: 0.0, head: Head::Class }.into()] }
}
