//! One run, from its resolved recipe to its results: what `train` does once, a group for each of its seeds and a sweep for
//! each of its runs.

use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::FloatDType;
use potstill_core::model::NetworkConfig;

use super::stages::Run;
use super::{data, teacher};
use crate::device::{self, Chosen, DeviceChoice};
use crate::error::{Failure, Result};
use crate::evaluate::fits;
use crate::progress::say;
use crate::recipe::{Control, Goal, NetworkRecipe, Precision, Recipe};
use crate::report::RunReport;
use crate::run::{Role, RunFolder};
use crate::train::{Interrupt, RunState};
use crate::weights::{epsilon_of, load_start};

/// What all runs of a command share: the device, and whether the person asked to stop.
pub struct Host {
    chosen: Chosen,
    interrupt: OnceLock<Interrupt>,
}

/// A run to train.
pub struct Job<'a> {
    /// What is to be done.
    pub recipe: &'a Recipe,
    /// Where the recipe is from, in words.
    pub base: &'a str,
    /// Where its files go.
    pub place: Place<'a>,
}

/// Where a run's files go.
pub enum Place<'a> {
    /// Into a new folder: the one called `name`, or a fresh one.
    New {
        /// Where folders are made.
        logdir: &'a Path,
        /// The folder's name.
        name: Option<&'a str>,
        /// What a fresh one is called before its number.
        stem: &'a str,
    },
    /// Into the folder of a run that was begun.
    There(RunFolder),
}

impl Host {
    /// Opens the device and says which it is.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        let chosen = device::choose(choice)?;
        say(format_args!("device   {} ({}): {}", chosen.info.name, chosen.info.api, chosen.reason));
        Ok(Self { chosen, interrupt: OnceLock::new() })
    }

    // From here on a run is worth saving when the person asks to stop.
    fn listen(&self) -> Result<&Interrupt> {
        if self.interrupt.get().is_none() {
            self.interrupt.set(Interrupt::listen()?).ok();
        }
        self.interrupt.get().ok_or_else(|| Failure::work("cannot listen for Ctrl-C"))
    }

    /// Trains a run to its end, or goes on with it, and writes its results.
    ///
    /// # Errors
    /// Exit code 2 for what cannot be trained, before anything is written; 130 if the person stopped it and it is saved; 1 if
    /// it fails.
    pub fn train(&self, job: Job<'_>) -> Result<(RunFolder, RunReport)> {
        let (chosen, Job { recipe, base, place }) = (&self.chosen, job);
        let is_resumed = matches!(place, Place::There(_));
        // Everything that can be wrong is found before the run folder is made.
        if recipe.teacher_precision == Precision::Half && !chosen.device.supports_dtype(FloatDType::F16) {
            let name = &chosen.info.name;
            return Err(Failure::usage(format!(
                "--teacher-precision half: {name} has no half precision; leave it out"
            )));
        }
        let data = data::open(recipe)?;
        // What the data and given weights say of the networks.
        let mut recipe = recipe.clone();
        let classes = data.full.held_out.classes();
        match recipe.adopt_classes(classes)?.as_slice() {
            [] => {}
            roles => say(format_args!(
                "note     the data have {classes} classes, and so has the {}",
                roles.join(" and the ")
            )),
        }
        if !is_resumed {
            adopt_epsilons(&mut recipe)?;
        }
        let given_teacher = match recipe.teacher_weights.clone() {
            Some(path) if recipe.objective == Goal::Distillation => {
                Some(teacher::load(&path, &mut recipe, &chosen.device, &data.full)?)
            }
            Some(_) => return Err(Failure::usage("a given teacher (--teacher) needs --objective distillation")),
            None => None,
        };
        let recipe = &recipe;
        let more_teachers = teacher::load_more(recipe, &chosen.device, &data.full)?;
        let networks = networks(recipe)?;
        for (role, network, config) in &networks {
            fits(config, data.full.held_out.as_ref(), &format!("the {}", role.name()))?;
            let checked = data.full.transform_for(config).check();
            checked.map_err(|error| Failure::usage(format!("data for the {}: {error}", role.name())))?;
            refuse_lone_samples(*role, network, config, data.of(*role).source.dataset.len())?;
        }
        for (role, network, config) in networks.iter().filter(|_| !is_resumed) {
            // Weights that do not fit are a fault of now, and not of the hour in which this network's turn comes.
            if let (Some(path), true) = (&network.weights, matches!(role, Role::Teacher | Role::Student)) {
                load_start(path, config, network.resampling, 0, &chosen.device)?;
            }
        }
        let interrupt = self.listen()?;

        let folder = match place {
            Place::There(folder) => folder,
            Place::New { logdir, name, stem } => {
                let folder = RunFolder::create(logdir, name, stem)?;
                folder.write_json("state.json", &RunState::default())?;
                folder
            }
        };
        // With the recipe there, the run can be resumed: it comes last.
        folder.write_recipe(recipe)?;
        let how = if is_resumed { ", resumed" } else { "" };
        say(format_args!("run      {}{how} (recipe: {base}, seed {})", folder.path().display(), recipe.seed));
        say(format_args!("data     {}", data.in_words(&recipe.data.dataset)));
        if let Some(folder) = &recipe.data.unlabelled {
            let (place, images) = (folder.display(), data.unlabelled);
            say(format_args!(
                "data     {place}: {images} images without a class, shown to the student and its teacher"
            ));
        }
        let run = Run {
            recipe,
            chosen,
            data: &data,
            folder: &folder,
            interrupt,
            more_teachers: &more_teachers,
            known: &Default::default(),
        };
        let report = run.finish(&run.train_all(networks, given_teacher)?)?;
        Ok((folder, report))
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
    for control in recipe.controls.iter().filter(|_| recipe.objective == Goal::Distillation) {
        let role = match control {
            Control::HardLabels => Role::HardLabels,
            Control::AllLabels => Role::AllLabels,
        };
        list.push((role, recipe.student()?));
    }
    list.into_iter()
        .map(|(role, network)| {
            let section = if role == Role::Teacher { "teacher" } else { "student" };
            Ok((role, network, network.config(section)?))
        })
        .collect()
}

// Weights to start from may have been trained with another LayerNorm epsilon than the model's name stands for.
fn adopt_epsilons(recipe: &mut Recipe) -> Result<()> {
    let learns = recipe.objective != Goal::Student && recipe.teacher_weights.is_none();
    let teacher = recipe.teacher.as_mut().filter(|_| learns);
    let student = recipe.student.as_mut().filter(|_| recipe.objective != Goal::Teacher);
    for network in [teacher, student].into_iter().flatten() {
        let (Some(path), NetworkConfig::Vit(vit)) = (network.weights.clone(), network.config("network")?) else {
            continue;
        };
        let epsilon = if network.says("layer_norm_eps") { None } else { epsilon_of(&path)? };
        if let Some(epsilon) = epsilon.filter(|epsilon| *epsilon != vit.layer_norm_eps) {
            say(format_args!(
                "note     {}: its layer_norm_eps is {epsilon:e}, and so is the network's",
                path.display()
            ));
            network.set_numbers([("layer_norm_eps".to_owned(), epsilon.into())]);
        }
    }
    Ok(())
}

// The statistics of a batch are of several values a channel, or they say nothing: the variance of one is 0.
fn refuse_lone_samples(role: Role, network: &NetworkRecipe, config: &NetworkConfig, samples: usize) -> Result<()> {
    let batch = network.batch_size.min(samples);
    let part = batch.div_ceil(network.accumulate.max(1)).max(1);
    let least = match batch % part {
        0 => part,
        rest => rest,
    };
    if least >= config.least_batch() {
        return Ok(());
    }
    let (side, role) = (config.image_size(), role.name());
    let cut = if batch > part { format!(" of {batch} samples in {} parts", network.accumulate) } else { String::new() };
    Err(Failure::usage(format!(
        "the {role} normalises by batch, and its last maps of {side} x {side} pictures are single pixels: a batch{cut} that \
         comes to one sample has one value a channel, and no variance; take more samples a batch, fewer parts \
         (--accumulate), or larger pictures (--input-size)"
    )))
}
