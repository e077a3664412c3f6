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
use crate::cli::{self, Eval, Train, View};
use crate::device::{self, DeviceChoice};
use crate::error::{Context, Failure, Result};
use crate::evaluate::fits;
use crate::progress::say;
use crate::recipe::{Control, Goal, NetworkRecipe, Precision, Recipe, Resolved, resolve};
use crate::run::{Role, RunFolder, write_whole};
use crate::train::{Interrupt, RunState};
use crate::weights::{epsilon_of, load_start};

/// Trains what the recipe says, or goes on where a run was stopped.
pub fn run(options: &Train, choice: &DeviceChoice) -> Result<()> {
    if options.eval {
        return eval::run(&as_eval(options)?, choice);
    }
    // Everything that can be wrong is found before the run folder is made.
    let (mut recipe, resumed, base, stem) = if let Some(file) = &options.resume {
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
    let classes = data.full.held_out.classes();
    match recipe.adopt_classes(classes)?.as_slice() {
        [] => {}
        roles => {
            say(format_args!("note     the data have {classes} classes, and so has the {}", roles.join(" and the ")))
        }
    }
    if resumed.is_none() {
        adopt_epsilons(&mut recipe)?;
    }
    let given_teacher = match recipe.teacher_weights.clone() {
        Some(path) if recipe.objective == Goal::Distillation => {
            Some(teacher::load(&path, &mut recipe, &chosen.device, &data.full)?)
        }
        Some(_) => return Err(Failure::usage("a given teacher (--teacher) needs --objective distillation")),
        None => None,
    };
    let more_teachers = teacher::load_more(&recipe, &chosen.device, &data.full)?;
    let networks = networks(&recipe)?;
    for (role, network, config) in &networks {
        fits(config, data.full.held_out.as_ref(), &format!("the {}", role.name()))?;
        let checked = data.full.transform_for(config).check();
        checked.map_err(|error| Failure::usage(format!("data for the {}: {error}", role.name())))?;
        refuse_lone_samples(*role, network, config, data.of(*role).source.dataset.len())?;
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
            view: view(options)?,
        },
        dataset: dataset.ok_or_else(|| Failure::usage("--eval needs --dataset or --data-path"))?.to_owned(),
        data_dir: given.text("data-path").or(given.text("data-dir")).map(PathBuf::from),
        limit: None,
        confusion: None,
        ignore_class_names: given.has("ignore-class-names"),
        json: options.json,
    })
}

// How pictures are to come to the network that --eval measures: what the line says of them, and nothing else of a recipe.
fn view(options: &Train) -> Result<View> {
    let given = &options.given;
    let mut view = View {
        input_size: given.parsed("input-size")?,
        crop_ratio: given.parsed("eval-crop-ratio")?,
        reading: given.word("reading")?,
        allow_truncated: given.has("allow-truncated"),
        ..View::default()
    };
    for assignment in &options.set {
        let (key, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        let wrong = |error| Failure::usage(format!("--set {assignment}: {error}"));
        let word = || serde_json::Value::from(value.trim().trim_matches(['"', '\'']));
        match key.trim() {
            "data.preprocess.resize" => view.resize = Some(serde_json::from_value(word()).map_err(wrong)?),
            "data.preprocess.interpolation" => {
                view.interpolation = Some(serde_json::from_value(word()).map_err(wrong)?)
            }
            "data.preprocess.crop_fraction" => view.crop_ratio = Some(serde_json::from_str(value).map_err(wrong)?),
            _ => {
                return Err(Failure::usage(format!(
                    "--eval measures what is in the weights, and --set {assignment} changes a training; leave it out (of \
                     data.preprocess the keys are resize, interpolation and crop_fraction)"
                )));
            }
        }
    }
    Ok(view)
}
