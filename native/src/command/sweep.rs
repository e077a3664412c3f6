//! `potstill sweep`: a grid of recipes at several seeds, and the choice of one on the validation split.

use std::path::Path;

use super::train::{Host, train_runs};
use crate::cli::Sweep as Options;
use crate::device::DeviceChoice;
use crate::error::{Failure, Result};
use crate::folder::{plain_name, write_whole};
use crate::progress::say;
use crate::recipe::{Recipe, Request, Resolved, resolve};
use crate::report::{aligned, percent, range, sweep_picture};
use crate::sweep::{Axis, Combination, Sweep, SweepPlan, SweepReport, grid};

/// The share of the training samples that chooses, where the recipe does not say it.
const VALIDATION: f64 = 0.1;

/// Trains the grid, or goes on with it where it was stopped.
pub fn run(options: &Options, choice: &DeviceChoice) -> Result<()> {
    let sweep = if options.resume { to_resume(options)? } else { begin(options)? };
    let host = Host::open(choice)?;
    let cells = sweep.cells()?;
    for (number, (_, group)) in cells.iter().enumerate() {
        if !group.open_seeds().is_empty() {
            say(format_args!("\ncell {} of {}: {}", number + 1, cells.len(), group.plan().base));
            // Held-out figures are not told: only what chooses is looked at.
            train_runs(group, &host, &sweep.resume_line(), |network| network.validation_accuracy)?;
        }
    }
    let report = sweep.report()?;
    if let Some(svg) = sweep_picture(&sweep.plan().vary, &report)? {
        write_whole(&sweep.file("sweep.svg"), svg.as_bytes())?;
    }
    sweep.finish(&report)?;
    if options.json {
        say(sweep.json(&report)?);
    } else {
        say(format_args!("\n{}", told(&sweep.plan().vary, &report)));
        say(sweep.path().display());
    }
    Ok(())
}

fn told(axes: &[Axis], report: &SweepReport) -> String {
    let head = ["validation", "±", "deviation", "seeds"].map(str::to_owned);
    let head = axes.iter().map(|axis| axis.key.clone()).chain(head).collect();
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{:.2}", 100.0 * value));
    let row = |cell: &crate::sweep::Cell| {
        let found = &cell.validation;
        let numbers = [
            percent(found.mean),
            or_dash(found.interval.map(|interval| 0.5 * (interval.high - interval.low))),
            or_dash(found.deviation),
            found.count.to_string(),
        ];
        cell.values.iter().cloned().chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = [head].into_iter().chain(report.cells.iter().map(row)).collect();
    let chosen = &report.chosen;
    let values: Vec<String> =
        axes.iter().zip(&chosen.values).map(|(axis, value)| format!("{} = {value}", axis.key)).collect();
    let ahead = chosen.ahead.as_ref().map(|ahead| format!("\n{}", ahead.says)).unwrap_or_default();
    let seeds =
        if chosen.held_out.count == 1 { "1 seed".to_owned() } else { format!("{} seeds", chosen.held_out.count) };
    let interval = match chosen.held_out.interval {
        Some(_) => format!(", 95 % interval {}", range(chosen.held_out.interval)),
        None => String::new(),
    };
    format!(
        "{}\nchosen by {} validation samples, on which no network was trained: {}{ahead}\nheld-out accuracy of the chosen {}: {} \
         over {seeds}{interval} (held-out samples chose nothing)\ntrain with these values on all samples: {}\n",
        aligned(&rows, axes.len()),
        report.validation_samples,
        values.join(", "),
        report.network.name(),
        percent(chosen.held_out.mean),
        chosen.command
    )
}

fn to_resume(options: &Options) -> Result<Sweep> {
    let taken = ["--resume", "--logdir", "--name", "--json"];
    if let Some(given) = options.given.0.names().iter().find(|given| !taken.contains(&given.as_str())) {
        return Err(Failure::usage(format!("--resume goes on with the sweep's own grid; leave out {given}")));
    }
    if !options.vary.is_empty() {
        return Err(Failure::usage("--resume goes on with the sweep's own grid; leave out --vary"));
    }
    let folder = match &options.name {
        Some(name) => options.logdir.join(plain_name(name)?),
        None => Sweep::latest(&options.logdir).ok_or_else(|| {
            Failure::usage(format!("there is no unfinished sweep in {} to resume", options.logdir.display()))
        })?,
    };
    if !Sweep::is(&folder) {
        return Err(Failure::usage(format!("{} is no sweep to resume: it holds no sweep.json", folder.display())));
    }
    let sweep = Sweep::open(&folder)?;
    match sweep.is_finished() {
        true => Err(Failure::usage(format!("the sweep {} is finished; there is nothing to resume", folder.display()))),
        false => Ok(sweep),
    }
}

fn begin(options: &Options) -> Result<Sweep> {
    let given = &options.given.0;
    options.seeds.check(given.has("seed"))?;
    let request = Request { given, recipe: options.recipe.as_deref(), set: &options.set, smoke: options.smoke };
    if let Some(axis) = options.vary.iter().find(|axis| changes_validation(&axis.key)) {
        return Err(Failure::usage(format!(
            "--vary {} changes the samples that choose; keep one data set, and compare groups of runs instead \
             (potstill train --seeds, potstill compare)",
            axis.key
        )));
    }
    let Resolved { recipe, base, stem, notices } = resolve(&request)?;
    notices.iter().for_each(|notice| say(format_args!("note     {notice}")));
    if recipe.data.validation == 0.0 {
        say(format_args!(
            "note     {VALIDATION} of the training samples are the validation split, which chooses (data.validation)"
        ));
    }
    if recipe.baseline || !recipe.controls.is_empty() {
        say("note     the baseline and the controls are not trained: a sweep compares its own combinations");
    }
    let seeds = options.seeds.from(recipe.seed);
    let prepare = |recipe: Recipe| {
        let mut recipe = Recipe { baseline: false, controls: Vec::new(), ..recipe };
        recipe.seed = seeds.first().copied().unwrap_or(recipe.seed);
        if recipe.data.validation == 0.0 {
            recipe.data.validation = VALIDATION;
        }
        // One split for all: what differs between cells is then what is varied, and no teacher has learnt from it.
        recipe.data.validation_seed.get_or_insert(recipe.seed);
        recipe
    };
    // Every cell is resolved before anything is made.
    let combination = |values: Vec<String>| {
        let own = options.vary.iter().zip(&values).map(|(axis, value)| format!("{}={value}", axis.key));
        let set: Vec<String> = options.set.iter().cloned().chain(own.clone()).collect();
        let resolved = resolve(&Request { set: &set, ..request });
        let resolved = resolved.map_err(|failure| failure.at(&own.collect::<Vec<_>>().join(", ")))?;
        Ok(Combination { values, recipe: prepare(resolved.recipe) })
    };
    let combinations: Vec<Combination> =
        grid(&options.vary, seeds.len())?.into_iter().map(combination).collect::<Result<_>>()?;
    say(format_args!(
        "sweep    {} cells of {} seeds, {} runs (recipe: {base})",
        combinations.len(),
        seeds.len(),
        combinations.len() * seeds.len()
    ));
    let train = train_line(options, &recipe);
    let stem = format!("{stem}-sweep");
    let recipe = prepare(recipe);
    let plan = SweepPlan { vary: options.vary.clone(), seeds, base, train };
    Sweep::create(&options.logdir, options.name.as_deref(), &stem, &recipe, combinations, plan)
}

// Whether a key says which samples there are to choose by.
fn changes_validation(key: &str) -> bool {
    let keys = ["dataset", "data_dir", "train_samples", "validation", "validation_seed"];
    key.strip_prefix("data.").is_some_and(|key| keys.contains(&key))
}

// The command that trains the recipe as it was given, on all samples.
fn train_line(options: &Options, recipe: &Recipe) -> Vec<String> {
    let mut words = vec!["potstill".to_owned(), "train".to_owned()];
    words.extend(options.recipe.as_ref().map(|recipe| recipe.display().to_string()));
    // A training in which the validation split has a say keeps it.
    let keeps = recipe.chooses();
    words.extend(options.given.0.words().filter(|words| keeps || words[0] != "--validation").flatten());
    for set in options.set.iter().filter(|set| keeps || !set.trim_start().starts_with("data.validation")) {
        words.extend(["--set".to_owned(), set.clone()]);
    }
    if recipe.data.validation > 0.0 && !keeps {
        words.extend(["--set", "data.validation=0"].map(str::to_owned));
    }
    if options.smoke {
        words.push("--smoke".to_owned());
    }
    words.extend(["--seeds".to_owned(), options.seeds.to_string()]);
    if options.logdir != Path::new("runs") {
        words.extend(["--logdir".to_owned(), options.logdir.display().to_string()]);
    }
    words
}
