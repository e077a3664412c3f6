//! `potstill train --seeds`: a recipe at several seeds, one after the other.

use crate::cli::Train;
use crate::error::{Context, Failure, Result};
use crate::folder::{plain_name, write_whole};
use crate::group::{Group, Plan, Seeds};
use crate::progress::say;
use crate::recipe::{Goal, Recipe};
use crate::report::{Comparison, ModelReport, picture, table};
use crate::run::RunFolder;
use crate::sweep::Sweep;

use super::job::{Host, Job, Place};

/// Makes the group that a command line asks for.
///
/// # Errors
/// Exit code 2 if it makes no sense; 1 if its folder cannot be written.
pub fn begin(options: &Train, seeds: &Seeds, recipe: Recipe, base: String, stem: &str) -> Result<Group> {
    seeds.check(options.given.has("seed"))?;
    let trains_teacher = recipe.objective == Goal::Distillation && recipe.teacher_weights.is_none();
    if options.teacher_per_seed && !trains_teacher {
        return Err(Failure::usage(
            "--teacher-per-seed has nothing to train: this recipe trains no teacher for a student",
        ));
    }
    let plan = Plan { seeds: seeds.from(recipe.seed), teacher_per_seed: options.teacher_per_seed, base };
    Group::create(&options.logdir, options.name.as_deref(), &format!("{stem}-seeds"), recipe, plan)
}

/// The group that a resume goes on with: the one that is named, or the latest unless a run is later.
///
/// # Errors
/// Exit code 2 if the named one is finished; 1 if it cannot be read.
pub fn to_resume(options: &Train) -> Result<Option<Group>> {
    if let Some(name) = &options.name {
        let folder = options.logdir.join(plain_name(name)?);
        if Sweep::is(&folder) {
            let line = Sweep::open(&folder)?.resume_line();
            return Err(Failure::usage(format!("{} is a sweep; go on with it by: {line}", folder.display())));
        }
        if !Group::is(&folder) {
            return Ok(None);
        }
        let group = Group::open(&folder)?;
        if group.is_finished() {
            let folder = folder.display();
            return Err(Failure::usage(format!("the group {folder} is finished; there is nothing to resume")));
        }
        return Ok(Some(group));
    }
    let Some((worked_on, folder)) = Group::latest(&options.logdir) else { return Ok(None) };
    let run = RunFolder::unfinished(&options.logdir, None).ok();
    let later = run.and_then(|run| run.file("state.json").metadata().ok()?.modified().ok());
    if later.is_some_and(|later| later > worked_on) {
        return Ok(None);
    }
    Group::open(&folder).map(Some)
}

/// Trains what is left of a group, and says what its runs show together.
///
/// # Errors
/// As [`Host::train`]; exit code 130 if the person stopped it and it is saved.
pub fn train(group: &Group, host: &Host, json: bool) -> Result<()> {
    train_runs(group, host, &group.resume_line(), |network| Some(network.accuracy))?;
    let comparison = Comparison::of(&[group.entry()?]);
    let Some(report) = comparison.entries.first() else { return Ok(()) };
    write_whole(&group.file("accuracies.svg"), picture(&comparison.entries)?.as_bytes())?;
    group.finish(report)?;
    if json {
        say(serde_json::to_string(report).context("cannot serialise the figures")?);
    } else {
        say(format_args!("\n{}", table(&comparison)));
        say(group.path().display());
    }
    Ok(())
}

/// Trains the runs of a group that are not finished. `resume_line` is the command that goes on with them, and `told` the figure
/// of a network that is printed when a run ends.
///
/// # Errors
/// As [`train`].
pub fn train_runs(
    group: &Group,
    host: &Host,
    resume_line: &str,
    told: impl Fn(&ModelReport) -> Option<f64>,
) -> Result<()> {
    let (seeds, open) = (&group.plan().seeds, group.open_seeds());
    for (place, seed) in seeds.iter().enumerate().filter(|(_, seed)| open.contains(seed)) {
        let run = group.run(*seed);
        say(format_args!("\nseed {seed}, {} of {} of {}", place + 1, seeds.len(), group.path().display()));
        let name = run.name();
        let begun = run.is_run();
        if !begun {
            // Stopped while it was made: nothing of it was trained.
            group.folder().remove(&name)?;
        }
        let mut recipe = if begun { run.recipe()? } else { group.recipe_of(*seed) };
        recipe.allow_untrained_teacher |= group.recipe().allow_untrained_teacher;
        let place = match begun {
            true => Place::There(RunFolder::unfinished(group.path(), Some(&name))?),
            false => Place::New { logdir: group.path(), name: Some(&name), stem: "" },
        };
        let trained = host.train(Job { recipe: &recipe, base: &group.plan().base, place });
        let (_, report) = trained.map_err(|failure| failure.resumed_by(resume_line))?;
        let figures = report.models.iter().filter_map(|(role, model)| Some((role.name(), told(model)?)));
        let figures: Vec<String> = figures.map(|(name, share)| format!("{name} {:.2} %", 100.0 * share)).collect();
        say(format_args!("seed {seed}: {}", figures.join(", ")));
    }
    Ok(())
}
