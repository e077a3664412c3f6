//! `potstill train`: a teacher, a student distilled from it, and the same student without it.

mod correct;
mod data;
mod measure;
mod stages;
mod teacher;

use std::path::PathBuf;

use burn::tensor::FloatDType;
use potstill_core::model::NetworkConfig;

use self::stages::Run;
use super::eval;
use crate::cli::{self, Eval, Train};
use crate::device::{self, DeviceChoice};
use crate::error::{Context, Failure, Result};
use crate::evaluate::fits;
use crate::progress::say;
use crate::recipe::{Control, Goal, NetworkRecipe, Precision, Recipe, Resolved, resolve};
use crate::run::{Role, RunFolder, load_start, write_whole};
use crate::train::{Interrupt, RunState};

/// Trains what the recipe says, or goes on where a run was stopped.
pub fn run(options: &Train, choice: &DeviceChoice) -> Result<()> {
    if options.eval {
        return eval::run(&as_eval(options)?, choice);
    }
    // Everything that can be wrong is found before the run folder is made.
    let (recipe, resumed, base, stem) = if let Some(file) = &options.resume {
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
        (recipe, Some(folder), "the run's own".to_owned(), String::new())
    } else {
        let Resolved { recipe, base, stem, notices } = resolve(options)?;
        notices.iter().for_each(|notice| say(format_args!("note     {notice}")));
        (recipe, None, base, stem)
    };
    let chosen = device::choose(choice)?;
    say(format_args!("device   {} ({}): {}", chosen.info.name, chosen.info.api, chosen.reason));
    if recipe.teacher_precision == Precision::Half && !chosen.device.supports_dtype(FloatDType::F16) {
        let name = &chosen.info.name;
        return Err(Failure::usage(format!("--teacher-precision half: {name} has no half precision; leave it out")));
    }
    let data = data::open(&recipe)?;
    let given_teacher = match &recipe.teacher_weights {
        Some(path) if recipe.objective == Goal::Distillation => {
            Some(teacher::load(path, &recipe, &chosen.device, &data.full)?)
        }
        Some(_) => return Err(Failure::usage("a given teacher (--teacher) needs --objective distillation")),
        None => None,
    };
    let more_teachers = teacher::load_more(&recipe, &chosen.device, &data.full)?;
    let networks = networks(&recipe)?;
    for (role, _, config) in &networks {
        fits(config, data.full.held_out.as_ref())?;
        let checked = data.full.transform_for(config).check();
        checked.map_err(|error| Failure::usage(format!("data for the {}: {error}", role.name())))?;
    }
    for (role, network, config) in networks.iter().filter(|_| resumed.is_none()) {
        // Weights that do not fit are a fault of now, and not of the hour in which this network's turn comes.
        if let (Some(path), true) = (&network.weights, matches!(role, Role::Teacher | Role::Student)) {
            load_start(path, config, network.resampling, 0, &chosen.device)?;
        }
    }
    let interrupt = Interrupt::listen()?;

    let is_resumed = resumed.is_some();
    let folder = match resumed {
        Some(folder) => folder,
        None => {
            let folder = RunFolder::create(&options.logdir, options.name.as_deref(), &stem)?;
            folder.write_json("state.json", &RunState::default())?;
            folder
        }
    };
    // With the recipe there, the run can be resumed: it comes last.
    let text = toml::to_string(&recipe).context("cannot serialise the recipe")?;
    write_whole(&folder.file("recipe.toml"), text.as_bytes())?;
    let how = if is_resumed { ", resumed" } else { "" };
    say(format_args!("run      {}{how} (recipe: {base}, seed {})", folder.path().display(), recipe.seed));
    let (train_samples, test_samples) = (data.full.source.dataset.len(), data.full.held_out.len());
    say(format_args!("data     {}: {train_samples} training and {test_samples} held-out samples", recipe.data.dataset));
    if let Some(folder) = &recipe.data.unlabelled {
        let (place, images) = (folder.display(), data.unlabelled);
        say(format_args!("data     {place}: {images} images without a class, shown to the student and its teacher"));
    }
    let run = Run {
        recipe: &recipe,
        chosen: &chosen,
        data: &data,
        folder: &folder,
        interrupt: &interrupt,
        more_teachers: &more_teachers,
        known: &Default::default(),
    };
    run.finish(&run.train_all(networks, given_teacher)?, options.json)
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
