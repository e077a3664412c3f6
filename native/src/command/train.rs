//! `potstill train`: a teacher, a student distilled from it, and the same student without it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::cubecl::future::block_on;
use potstill_core::data::{Augment, Dataset, ImageShape, Normalisation, Subset, Transform};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::objective::Objective;
use potstill_core::weights::{self, Description};

use crate::cli::Train;
use crate::dataset::{self, Split};
use crate::device::{self, Chosen, DeviceChoice};
use crate::error::{Context, Failure, Result};
use crate::evaluate::{evaluate, fits};
use crate::progress::say;
use crate::recipe::{Goal, NetworkRecipe, Recipe, Resolved, resolve};
use crate::report::{DatasetReport, ModelReport, RunReport};
use crate::run::{LoadedNetwork, Role, RunFolder, load_file, load_from_run, write_whole};
use crate::train::{
    Checkpoint, Interrupt, MetricsLog, Outcome, RunState, Stage, StageData, clear_checkpoints, latest_checkpoint,
};
use crate::{report, train};

/// Trains what the recipe says, or goes on where a run was stopped.
pub fn run(options: &Train, choice: &DeviceChoice) -> Result<()> {
    // Everything that can be wrong is found before the run folder is made.
    let (recipe, resumed, base) = if options.resume {
        refuse_changes(options)?;
        let folder = RunFolder::unfinished(&options.logdir, options.name.as_deref())?;
        let text = std::fs::read_to_string(folder.file("recipe.toml"));
        let text = text.context(format_args!("cannot read {}", folder.file("recipe.toml").display()))?;
        let recipe = Recipe::from_resolved(&text).context(folder.file("recipe.toml").display())?;
        (recipe, Some(folder), "the run's own")
    } else {
        let Resolved { recipe, base } = resolve(options)?;
        (recipe, None, base)
    };
    let chosen = device::choose(choice)?;
    say(format_args!("device   {} ({}): {}", chosen.info.name, chosen.info.api, chosen.reason));
    let data = open_data(&recipe)?;
    let given_teacher = match &recipe.teacher_weights {
        Some(path) if recipe.objective == Goal::Distillation => Some(load_teacher(path, &chosen, &data)?),
        Some(_) => return Err(Failure::usage("a given teacher (--teacher) needs --objective distillation")),
        None => None,
    };
    let networks = networks(&recipe)?;
    for (_, _, config) in &networks {
        fits(config, data.held_out.as_ref())?;
    }
    let interrupt = Interrupt::listen()?;

    let is_resumed = resumed.is_some();
    let folder = match resumed {
        Some(folder) => folder,
        None => {
            let folder = RunFolder::create(&options.logdir, options.name.as_deref(), &stem(&recipe))?;
            let text = toml::to_string(&recipe).context("cannot serialise the recipe")?;
            // With the recipe there, the run can be resumed: it comes last.
            folder.write_json("state.json", &RunState::default())?;
            write_whole(&folder.file("recipe.toml"), text.as_bytes())?;
            folder
        }
    };
    let how = if is_resumed { ", resumed" } else { "" };
    say(format_args!("run      {}{how} (recipe: {base}, seed {})", folder.path().display(), recipe.seed));
    let (train_samples, test_samples) = (data.source.dataset.len(), data.held_out.len());
    say(format_args!("data     {}: {train_samples} training and {test_samples} held-out samples", recipe.data.dataset));
    let session = Session { recipe: &recipe, chosen: &chosen, data: &data, folder: &folder, interrupt: &interrupt };
    session.finish(networks, given_teacher)
}

struct Session<'a> {
    recipe: &'a Recipe,
    chosen: &'a Chosen,
    data: &'a StageData,
    folder: &'a RunFolder,
    interrupt: &'a Interrupt,
}

struct Trained {
    role: Role,
    name: String,
    weights: PathBuf,
    config: NetworkConfig,
    model: Network,
    outcome: Option<Outcome>,
}

impl Session<'_> {
    fn finish(&self, networks: Vec<(Role, &NetworkRecipe, NetworkConfig)>, given: Option<LoadedNetwork>) -> Result<()> {
        let mut state: RunState = self.folder.read_json("state.json")?;
        let checkpoint = latest_checkpoint(self.folder)?.filter(|c| !state.done.contains_key(&c.stage));
        let keep = |line: &train::LogLine| match line.place() {
            (stage, _) if state.done.contains_key(&stage) => true,
            (stage, step) => checkpoint.as_ref().is_some_and(|c| c.stage == stage && step <= c.step),
        };
        let mut log = MetricsLog::open(&self.folder.file("metrics.jsonl"), keep)?;
        let mut trained: Vec<Trained> = Vec::new();
        if let Some(teacher) = given {
            let LoadedNetwork { model, config, name, path, .. } = teacher;
            trained.push(Trained { role: Role::Teacher, name, weights: path, config, model, outcome: None });
        }
        for (role, recipe, config) in networks {
            let teacher = trained.iter().find(|t| t.role == Role::Teacher).map(|t| &t.model);
            let (model, outcome) = match state.done.get(&role) {
                Some(outcome) => {
                    let loaded = load_file(&self.folder.weights(role), None, &self.chosen.device)?;
                    (loaded.model, outcome.clone())
                }
                None => {
                    let checkpoint = checkpoint.as_ref().filter(|c| c.stage == role);
                    let Some((model, outcome)) = self.train(role, recipe, &config, teacher, checkpoint, &mut log)?
                    else {
                        log.flush()?;
                        return Err(self.stopped());
                    };
                    self.keep(role, &recipe.model, &config, &model)?;
                    state.done.insert(role, outcome.clone());
                    self.folder.write_json("state.json", &state)?;
                    (model, outcome)
                }
            };
            let (name, weights) = (recipe.model.clone(), self.folder.weights(role));
            trained.push(Trained { role, name, weights, config, model, outcome: Some(outcome) });
        }
        log.flush()?;
        let report = self.measure(&trained)?;
        let lines = train::read_log(&self.folder.file("metrics.jsonl"))?;
        write_whole(&self.folder.file("curves.svg"), report::curves(&lines, &report)?.as_bytes())?;
        self.folder.write_json("result.json", &report)?;
        // Finished: what is only needed for a resume goes.
        std::fs::remove_file(self.folder.file("state.json")).ok();
        clear_checkpoints(self.folder);
        say(format_args!("\n{}", report.table()));
        say(self.folder.path().display());
        Ok(())
    }

    fn stopped(&self) -> Failure {
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
        teacher: Option<&Network>,
        checkpoint: Option<&Checkpoint>,
        log: &mut MetricsLog,
    ) -> Result<Option<(Network, Outcome)>> {
        let labels = Objective::Labels { smoothing: recipe.smoothing };
        let distilled = role == Role::Student && self.recipe.objective == Goal::Distillation;
        let objective = if distilled { &self.recipe.distillation } else { &labels };
        // The student and its baseline start from the same values: what differs is the objective alone.
        let seed = self.recipe.seed ^ if role == Role::Teacher { 0x7eac_4e12 } else { 0 };
        let (data, device, run) = (self.data, &self.chosen.device, self.folder);
        Stage { role, recipe, config, objective, teacher, data, seed, device, run }.train(
            checkpoint,
            log,
            self.interrupt,
        )
    }

    fn keep(&self, role: Role, name: &str, config: &NetworkConfig, model: &Network) -> Result<()> {
        let tensors = block_on(weights::read(model)).context("cannot read the network back")?;
        let description = Description {
            name: name.to_owned(),
            config: config.clone(),
            class_names: self.data.held_out.class_names().to_vec(),
            normalisation: self.data.source.transform.normalisation.clone(),
            preprocess: self.data.source.transform.preprocess,
        };
        let bytes = weights::to_safetensors(&tensors, description.metadata()).context("cannot serialise weights")?;
        write_whole(&self.folder.weights(role), &bytes)
    }

    fn measure(&self, trained: &[Trained]) -> Result<RunReport> {
        let device = &self.chosen.device;
        let held_out = self.data.held_out.as_ref();
        let mut teacher_says: Option<Vec<u32>> = None;
        let mut models = Vec::new();
        for network in trained {
            if self.interrupt.is_set() {
                return Err(self.stopped());
            }
            let transform = self.data.transform_for(&network.config);
            let (evaluation, predicted) =
                evaluate(&network.model, &network.config, held_out, &transform, None, device)?;
            let agreement = teacher_says.as_ref().map(|teacher| {
                let equal = teacher.iter().zip(&predicted).filter(|(a, b)| a == b).count();
                equal as f64 / predicted.len().max(1) as f64
            });
            let bytes = std::fs::metadata(&network.weights).map(|m| m.len()).ok();
            if network.role == Role::Teacher {
                teacher_says = Some(predicted);
            }
            let report = ModelReport {
                model: network.name.clone(),
                parameters: network.config.parameters(),
                bytes: bytes.unwrap_or(4 * network.config.parameters()),
                accuracy: evaluation.accuracy(),
                agreement: agreement.or((network.role == Role::Teacher).then_some(1.0)),
                seconds: network.outcome.as_ref().map(|o| o.seconds),
                images_per_second: network.outcome.as_ref().map(|o| o.images_per_second),
            };
            models.push((network.role, report));
        }
        Ok(RunReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.chosen.info.clone(),
            dataset: DatasetReport {
                name: self.recipe.data.dataset.clone(),
                train: self.data.source.dataset.len(),
                test: held_out.len(),
            },
            seed: self.recipe.seed,
            models: models.into_iter().collect(),
        })
    }
}

// A resumed run goes on with its own recipe; a flag that would change it is refused rather than ignored.
fn refuse_changes(options: &Train) -> Result<()> {
    let given = [
        ("a recipe file", options.recipe.is_some()),
        ("--objective", options.objective.is_some()),
        ("--distillation", options.distillation.is_some()),
        ("--teacher", options.teacher.is_some()),
        ("--dataset", options.dataset.is_some()),
        ("--data-dir", options.data_dir.is_some()),
        ("--train-samples", options.train_samples.is_some()),
        ("--batch-size", options.batch_size.is_some()),
        ("--epochs", options.epochs.is_some()),
        ("--lr", options.lr.is_some()),
        ("--seed", options.seed.is_some()),
        ("--set", !options.set.is_empty()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::usage(format!("--resume goes on with the run's own recipe; leave out {flag}"))),
        None => Ok(()),
    }
}

// The networks of a run in the order in which they are trained.
fn networks(recipe: &Recipe) -> Result<Vec<(Role, &NetworkRecipe, NetworkConfig)>> {
    let teacher = (Role::Teacher, &recipe.teacher);
    let student = (Role::Student, &recipe.student);
    let baseline = (Role::Baseline, &recipe.student);
    let mut list = match recipe.objective {
        Goal::Teacher => vec![teacher],
        Goal::Student => vec![student],
        Goal::Distillation if recipe.teacher_weights.is_some() => vec![student],
        Goal::Distillation => vec![teacher, student],
    };
    if recipe.objective == Goal::Distillation && recipe.baseline {
        list.push(baseline);
    }
    list.into_iter()
        .map(|(role, network)| {
            let section = if role == Role::Teacher { "teacher" } else { "student" };
            Ok((role, network, network.config(section)?))
        })
        .collect()
}

fn open_data(recipe: &Recipe) -> Result<StageData> {
    let data = &recipe.data;
    let train = dataset::open_sized(&data.dataset, data.data_dir.as_deref(), Split::Train, data.train_samples)?;
    let held_out = dataset::open(&data.dataset, data.data_dir.as_deref(), Split::HeldOut)?;
    if train.class_names() != held_out.class_names() {
        return Err(Failure::work("the training and the held-out images have other classes"));
    }
    let train: Arc<dyn Dataset> = match data.train_samples {
        Some(samples) if samples != train.len() => {
            Arc::new(Subset::balanced(train, samples, recipe.seed).map_err(Failure::usage)?)
        }
        _ => train,
    };
    let grey = train.shape().is_some_and(|shape| shape.channels == 1);
    let transform = Transform {
        augment: Augment { distortion: data.augment.distortion(), ..Augment::none() },
        ..Transform::plain(
            ImageShape { channels: 1, height: 1, width: 1 },
            if grey { Normalisation::mnist() } else { Normalisation::imagenet() },
        )
    };
    Ok(StageData {
        // Each stage sets its own shape and batch size.
        source: train::Source { dataset: train, transform, batch_size: 1, seed: recipe.seed },
        held_out,
    })
}

fn load_teacher(path: &Path, chosen: &Chosen, data: &StageData) -> Result<LoadedNetwork> {
    let teacher = if path.is_dir() {
        load_from_run(path, Role::Teacher, &chosen.device)?
    } else {
        load_file(path, None, &chosen.device)?
    };
    fits(&teacher.config, data.held_out.as_ref())?;
    if teacher.normalisation != data.source.transform.normalisation {
        return Err(Failure::usage(format!("{} was trained on differently normalised images", path.display())));
    }
    Ok(teacher)
}

fn stem(recipe: &Recipe) -> String {
    let goal = recipe.objective.name();
    format!("{}-{goal}", recipe.data.dataset.to_lowercase())
}
