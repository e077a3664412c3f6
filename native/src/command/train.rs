//! `potstill train`: a teacher, a student distilled from it, and the same student without it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use burn::cubecl::future::block_on;
use burn::tensor::FloatDType;
use potstill_core::data::{Dataset, Normalisation, Subset, Transform};
use potstill_core::model::{Network, NetworkConfig};
use potstill_core::objective::{Objective, Readout};
use potstill_core::train::Renormalise;
use potstill_core::weights::{self, Description, Fit};

use super::eval;
use crate::cli::{self, Eval, Train};
use crate::dataset::{self, Split};
use crate::device::{self, Chosen, DeviceChoice};
use crate::error::{Context, Failure, Result};
use crate::evaluate::{evaluate, fits};
use crate::progress::say;
use crate::recipe::{Goal, NetworkRecipe, Precision, Recipe, Resolved, resolve};
use crate::report::{DatasetReport, FileReport, ModelReport, ObjectiveReport, RunReport};
use crate::run::{LoadedNetwork, Model, Role, RunFolder, load_file, load_from_run, load_start, write_whole};
use crate::train::{
    Checkpoint, Finished, Interrupt, Keep, MetricsLog, Outcome, RunState, Stage, StageData, clear_checkpoints,
    latest_checkpoint,
};
use crate::{report, train};

/// Trains what the recipe says, or goes on where a run was stopped.
pub fn run(options: &Train, choice: &DeviceChoice) -> Result<()> {
    if options.eval {
        return eval::run(&as_eval(options)?, choice);
    }
    // Everything that can be wrong is found before the run folder is made.
    let (recipe, resumed, base) = if let Some(file) = &options.resume {
        if let Some(file) = file {
            return Err(Failure::usage(format!(
                "--resume {} names weights, which --eval measures and --finetune starts from; a run is gone on with by \
                 --resume --name NAME",
                file.display()
            )));
        }
        refuse_changes(options)?;
        let folder = RunFolder::unfinished(&options.logdir, options.name.as_deref())?;
        let text = std::fs::read_to_string(folder.file("recipe.toml"));
        let text = text.context(format_args!("cannot read {}", folder.file("recipe.toml").display()))?;
        let mut recipe = Recipe::from_resolved(&text).context(folder.file("recipe.toml").display())?;
        recipe.allow_untrained_teacher |= options.given.has("allow-untrained-teacher");
        (recipe, Some(folder), "the run's own".to_owned())
    } else {
        let Resolved { recipe, base, notices } = resolve(options)?;
        notices.iter().for_each(|notice| say(format_args!("note     {notice}")));
        (recipe, None, base)
    };
    let chosen = device::choose(choice)?;
    say(format_args!("device   {} ({}): {}", chosen.info.name, chosen.info.api, chosen.reason));
    if recipe.teacher_precision == Precision::Half && !chosen.device.supports_dtype(FloatDType::F16) {
        let name = &chosen.info.name;
        return Err(Failure::usage(format!("--teacher-precision half: {name} has no half precision; leave it out")));
    }
    let data = open_data(&recipe)?;
    let given_teacher = match &recipe.teacher_weights {
        Some(path) if recipe.objective == Goal::Distillation => Some(load_teacher(path, &recipe, &chosen, &data)?),
        Some(_) => return Err(Failure::usage("a given teacher (--teacher) needs --objective distillation")),
        None => None,
    };
    let networks = networks(&recipe)?;
    for (role, _, config) in &networks {
        fits(config, data.held_out.as_ref())?;
        let checked = data.transform_for(config).check();
        checked.map_err(|error| Failure::usage(format!("data for the {}: {error}", role.name())))?;
    }
    for (role, network, config) in networks.iter().filter(|_| resumed.is_none()) {
        // Weights that do not fit are a fault of now, and not of the hour in which this network's turn comes.
        if let (Some(path), true) = (&network.weights, *role != Role::Baseline) {
            load_start(path, config, network.resampling, 0, &chosen.device)?;
        }
    }
    let interrupt = Interrupt::listen()?;

    let is_resumed = resumed.is_some();
    let folder = match resumed {
        Some(folder) => folder,
        None => {
            let folder = RunFolder::create(&options.logdir, options.name.as_deref(), &stem(&recipe))?;
            folder.write_json("state.json", &RunState::default())?;
            folder
        }
    };
    // With the recipe there, the run can be resumed: it comes last.
    let text = toml::to_string(&recipe).context("cannot serialise the recipe")?;
    write_whole(&folder.file("recipe.toml"), text.as_bytes())?;
    let how = if is_resumed { ", resumed" } else { "" };
    say(format_args!("run      {}{how} (recipe: {base}, seed {})", folder.path().display(), recipe.seed));
    let (train_samples, test_samples) = (data.source.dataset.len(), data.held_out.len());
    say(format_args!("data     {}: {train_samples} training and {test_samples} held-out samples", recipe.data.dataset));
    let session = Session {
        recipe: &recipe,
        chosen: &chosen,
        data: &data,
        folder: &folder,
        interrupt: &interrupt,
        json: options.json,
    };
    session.finish(networks, given_teacher)
}

struct Session<'a> {
    recipe: &'a Recipe,
    chosen: &'a Chosen,
    data: &'a StageData,
    folder: &'a RunFolder,
    interrupt: &'a Interrupt,
    json: bool,
}

struct Trained {
    role: Role,
    name: String,
    weights: PathBuf,
    config: NetworkConfig,
    model: Network,
    average: Option<Network>,
    readout: Readout,
    normalisation: Normalisation,
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
            let LoadedNetwork { model, config, name, path: weights, readout, normalisation, .. } = teacher;
            let (role, average, outcome) = (Role::Teacher, None, None);
            trained.push(Trained { role, name, weights, config, model, average, readout, normalisation, outcome });
        }
        for (role, recipe, config) in networks {
            let teacher = trained.iter().find(|t| t.role == Role::Teacher);
            if let Some(teacher) = teacher.filter(|_| role == Role::Student && !state.done.contains_key(&role)) {
                self.refuse_untrained(teacher)?;
            }
            let Finished { model, average, outcome } = match state.done.get(&role) {
                Some(outcome) => {
                    let load = |path: &Path| Ok(load_file(path, None, &self.chosen.device)?.model);
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
            let normalisation = self.data.source.transform.normalisation.clone();
            trained.push(Trained { role, name, weights, config, model, average, readout, normalisation, outcome });
        }
        log.flush()?;
        let report = self.measure(&trained)?;
        let lines = train::read_log(&self.folder.file("metrics.jsonl"))?;
        write_whole(&self.folder.file("curves.svg"), report::curves(&lines, &report)?.as_bytes())?;
        self.folder.write_json("result.json", &report)?;
        // Finished: what is only needed for a resume goes.
        std::fs::remove_file(self.folder.file("state.json")).ok();
        clear_checkpoints(self.folder);
        if self.json {
            let text = serde_json::to_string(&report).context("cannot serialise the result")?;
            say(text);
        } else {
            say(format_args!("\n{}", report.table()));
            say(self.folder.path().display());
        }
        Ok(())
    }

    // How held-out samples become a network's inputs.
    fn transform(&self, network: &Trained) -> Transform {
        Transform { normalisation: network.normalisation.clone(), ..self.data.transform_for(&network.config) }
    }

    // A teacher that guesses teaches guessing: distillation from an untrained head has been mistaken for a result.
    fn refuse_untrained(&self, teacher: &Trained) -> Result<()> {
        let (held_out, transform) = (self.data.held_out.as_ref(), self.transform(teacher));
        let read = |images| teacher.readout.of(&teacher.model.forward(images, None));
        let limit = Some(self.data.checked);
        let (found, _) = evaluate(&read, &teacher.config, held_out, &transform, limit, &self.chosen.device)?;
        let chance = found.chance();
        let error = (chance * (1.0 - chance) / found.samples().max(1) as f64).sqrt();
        if self.recipe.allow_untrained_teacher || found.accuracy() > chance + 3.0 * error {
            return Ok(());
        }
        Err(Failure::work(format!(
            "the teacher is right on {:.2} % of {} held-out samples, and a guess on {:.2} %: within three standard errors \
             it has learnt nothing that it could teach; train it first (--objective teacher, or more teacher.epochs), or \
             pass --allow-untrained-teacher",
            100.0 * found.accuracy(),
            found.samples(),
            100.0 * chance
        )))
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
        teacher: Option<&Trained>,
        checkpoint: Option<&Checkpoint>,
        log: &mut MetricsLog,
    ) -> Result<Option<Finished>> {
        let objective = &self.objective(role, recipe);
        let readout = self.readout(role, recipe);
        // The student and its baseline start from the same values: what differs is the objective alone.
        let seed = self.recipe.seed ^ if role == Role::Teacher { 0x7eac_4e12 } else { 0 };
        let (data, device, run) = (self.data, &self.chosen.device, self.folder);
        // Both see the same pixels, each normalised as it was trained.
        let own = &self.data.source.transform.normalisation;
        let other = teacher.map(|teacher| &teacher.normalisation).filter(|other| *other != own);
        let view = other.map(|other| own.to(other)).transpose().map_err(Failure::usage)?;
        let view = view.map(|channels| Renormalise::new(&channels, device));
        let half = self.recipe.teacher_precision == Precision::Half;
        let cache = self.recipe.teacher_cache.as_deref().zip(teacher).map(|(root, teacher)| Keep {
            root,
            packing: self.recipe.packing(),
            forward: format!("{:?}, {:?}, {:?}", teacher.config, teacher.normalisation, self.recipe.teacher_precision),
        });
        let halved = teacher.filter(|_| half).map(|teacher| teacher.model.clone().halved());
        let teacher = halved.as_ref().or(teacher.map(|teacher| &teacher.model));
        Stage { role, recipe, config, objective, teacher, view, readout, cache, data, seed, device, run }.train(
            checkpoint,
            log,
            self.interrupt,
        )
    }

    // What a network is taught.
    fn objective(&self, role: Role, recipe: &NetworkRecipe) -> Objective {
        match (role, self.recipe.objective) {
            (Role::Student, Goal::Distillation) => self.recipe.distillation.clone(),
            _ => Objective::Labels { smoothing: recipe.smoothing },
        }
    }

    // The baseline's heads are those that labels teach, whatever the student's read-out is.
    fn readout(&self, role: Role, recipe: &NetworkRecipe) -> Readout {
        let own = recipe.readout.filter(|_| role != Role::Baseline);
        own.unwrap_or_else(|| self.objective(role, recipe).readout())
    }

    fn keep(&self, path: &Path, name: &str, config: &NetworkConfig, model: &Network, readout: Readout) -> Result<()> {
        let tensors = block_on(weights::read(model)).context("cannot read the network back")?;
        let description = Description {
            name: name.to_owned(),
            config: config.clone(),
            class_names: self.data.held_out.class_names().to_vec(),
            normalisation: self.data.source.transform.normalisation.clone(),
            preprocess: self.data.source.transform.preprocess,
            readout,
        };
        let bytes = weights::to_safetensors(&tensors, description.metadata()).context("cannot serialise weights")?;
        write_whole(path, &bytes)
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
            let transform = self.transform(network);
            let read = |model: &Network| {
                let (model, readout) = (model.clone(), network.readout);
                move |images| readout.of(&model.forward(images, None))
            };
            let (evaluation, predicted) = evaluate(
                &read(&network.model),
                &network.config,
                held_out,
                &transform,
                self.recipe.data.test_samples,
                device,
            )?;
            let agreement = teacher_says.as_ref().map(|teacher| {
                let equal = teacher.iter().zip(&predicted).filter(|(a, b)| a == b).count();
                equal as f64 / predicted.len().max(1) as f64
            });
            let average_accuracy = match &network.average {
                Some(average) => {
                    let found = evaluate(
                        &read(average),
                        &network.config,
                        held_out,
                        &transform,
                        self.recipe.data.test_samples,
                        device,
                    )?;
                    Some(found.0.accuracy())
                }
                None => None,
            };
            let bytes = std::fs::metadata(&network.weights).map(|m| m.len()).ok();
            if network.role == Role::Teacher {
                teacher_says = Some(predicted);
            }
            let report = ModelReport {
                model: network.name.clone(),
                parameters: network.config.parameters(),
                bytes: bytes.unwrap_or(4 * network.config.parameters()),
                accuracy: evaluation.accuracy(),
                average_accuracy,
                agreement: agreement.or((network.role == Role::Teacher).then_some(1.0)),
                seconds: network.outcome.as_ref().map(|o| o.seconds),
                images_per_second: network.outcome.as_ref().map(|o| o.images_per_second),
                loader_images_per_second: network.outcome.as_ref().and_then(|o| o.loader_images_per_second),
                step_images_per_second: network.outcome.as_ref().and_then(|o| o.step_images_per_second),
                teacher_images: network.outcome.as_ref().map(|o| o.teacher_images),
                recall_seconds: network.outcome.as_ref().map(|o| o.recall_seconds),
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
                train: self.data.source.dataset.len(),
                test: self.recipe.data.test_samples.unwrap_or(usize::MAX).min(held_out.len()),
            },
            seed: self.recipe.seed,
            models: models.into_iter().collect(),
        })
    }
}

// A resumed run goes on with its own recipe; a flag that would change it is refused rather than ignored.
fn refuse_changes(options: &Train) -> Result<()> {
    // Which run, how it is shown, and what changes none of its numbers.
    let taken = ["--resume", "--logdir", "--name", "--json", "--allow-untrained-teacher"];
    match options.given.names().iter().find(|given| !taken.contains(&given.as_str())) {
        Some(given) => Err(Failure::usage(format!("--resume goes on with the run's own recipe; leave out {given}"))),
        None => Ok(()),
    }
}

// The networks of a run in the order in which they are trained.
fn networks(recipe: &Recipe) -> Result<Vec<(Role, &NetworkRecipe, NetworkConfig)>> {
    let mut list = Vec::new();
    let given = recipe.teacher_weights.is_some();
    if recipe.objective == Goal::Teacher || (recipe.objective == Goal::Distillation && !given) {
        list.push((Role::Teacher, recipe.teacher()?));
    }
    if recipe.objective != Goal::Teacher {
        list.push((Role::Student, recipe.student()?));
    }
    if recipe.objective == Goal::Distillation && recipe.baseline {
        list.push((Role::Baseline, recipe.student()?));
    }
    list.into_iter()
        .map(|(role, network)| {
            let section = if role == Role::Teacher { "teacher" } else { "student" };
            Ok((role, network, network.config(section)?))
        })
        .collect()
}

// What a reference's `--eval --resume FILE` asks for.
fn as_eval(options: &Train) -> Result<Eval> {
    let Some(Some(weights)) = &options.resume else {
        return Err(Failure::usage("--eval measures the weights of --resume FILE, which is missing"));
    };
    let given = &options.given;
    let folder = given.has("data-path").then_some("ImageNet");
    let dataset = given.text("dataset").or(folder);
    Ok(Eval {
        network: cli::Network {
            run: None,
            which: None,
            model: given.text("model").map(str::to_owned),
            weights: Some(weights.clone()),
            readout: given.word("readout")?,
        },
        dataset: dataset.ok_or_else(|| Failure::usage("--eval needs --dataset or --data-path"))?.to_owned(),
        data_dir: given.text("data-path").or(given.text("data-dir")).map(PathBuf::from),
        limit: None,
        confusion: None,
        json: options.json,
    })
}

fn open_data(recipe: &Recipe) -> Result<StageData> {
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
    let source = train::Source {
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

fn load_teacher(path: &Path, recipe: &Recipe, chosen: &Chosen, data: &StageData) -> Result<LoadedNetwork> {
    let teacher = if path.is_dir() {
        load_from_run(path, Role::Teacher, &chosen.device)?
    } else {
        let named = |teacher: &NetworkRecipe| {
            let fit = Fit { resampling: teacher.resampling, new_head: Some(recipe.seed) };
            Ok(Model { name: teacher.model.clone(), config: teacher.config("teacher")?, fit, yields: true })
        };
        let model = recipe.teacher.as_ref().map(named).transpose()?;
        load_file(path, model, &chosen.device)?
    };
    // What the file says of itself is known only now.
    recipe.check_pair(&teacher.config, &recipe.student()?.config("student")?)?;
    let untaught = match teacher.readout {
        Readout::Class => Some("distillation"),
        Readout::Distill => Some("class"),
        Readout::MeanLogits | Readout::MeanProbabilities => None,
    };
    if let Some(head) = untaught.filter(|_| teacher.config.shape().distillation_token) {
        return Err(Failure::usage(format!(
            "nothing has taught the {head} head of {}, and a teacher with two heads speaks with both; distil from \
             another, or train it with both",
            path.display()
        )));
    }
    fits(&teacher.config, data.held_out.as_ref())?;
    Ok(teacher)
}

fn stem(recipe: &Recipe) -> String {
    let goal = recipe.objective.name();
    format!("{}-{goal}", recipe.data.dataset.to_lowercase())
}
