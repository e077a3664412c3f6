//! `potstill train`: a teacher, a student distilled from it, and the same student without it.

mod correct;
mod data;
mod group;
mod job;
mod measure;
mod stages;
mod teacher;

use std::path::PathBuf;

pub use self::group::train_runs;
pub use self::job::Host;
use self::job::{Job, Place};
use super::eval;
use crate::cli::{self, Eval, Train, View};
use crate::device::DeviceChoice;
use crate::error::{Context, Failure, Result};
use crate::progress::say;
use crate::recipe::{Request, Resolved, resolve};
use crate::report::RunReport;
use crate::run::RunFolder;

/// Trains what the recipe says, or goes on where a run was stopped.
pub fn run(options: &Train, choice: &DeviceChoice) -> Result<()> {
    if options.eval {
        return eval::run(&as_eval(options)?, choice);
    }
    if let Some(file) = &options.resume {
        if let Some(file) = file {
            return Err(Failure::usage(format!(
                "--resume {} names weights, which --eval measures and --finetune starts from; a run is gone on with by \
                 --resume --name NAME",
                file.display()
            )));
        }
        refuse_changes(options)?;
        if let Some(mut group) = group::to_resume(options)? {
            if options.given.has("allow-untrained-teacher") {
                group.allow_untrained_teacher()?;
            }
            return group::train(&group, &Host::open(choice)?, options.json);
        }
        let folder = RunFolder::unfinished(&options.logdir, options.name.as_deref())?;
        let mut recipe = folder.recipe()?;
        recipe.allow_untrained_teacher |= options.given.has("allow-untrained-teacher");
        let host = Host::open(choice)?;
        let job = Job { recipe: &recipe, base: "the run's own", place: Place::There(folder) };
        return show(&host.train(job)?, options.json);
    }
    let Resolved { recipe, base, stem, notices } = resolve(&Request::from(options))?;
    notices.iter().for_each(|notice| say(format_args!("note     {notice}")));
    if let Some(seeds) = &options.seeds {
        let group = group::begin(options, seeds, recipe, base, &stem)?;
        return group::train(&group, &Host::open(choice)?, options.json);
    }
    let host = Host::open(choice)?;
    let place = Place::New { logdir: &options.logdir, name: options.name.as_deref(), stem: &stem };
    show(&host.train(Job { recipe: &recipe, base: &base, place })?, options.json)
}

// The figures of a finished run, as a table for people or as JSON.
fn show((folder, report): &(RunFolder, RunReport), json: bool) -> Result<()> {
    if json {
        say(serde_json::to_string(report).context("cannot serialise the result")?);
    } else {
        say(format_args!("\n{}", report.table()));
        say(folder.path().display());
    }
    Ok(())
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
