//! `potstill compare`: finished runs, groups and sweeps in one table, one picture.

use std::path::{Path, PathBuf};

use toml::Table;

use crate::cli::Compare;
use crate::error::{Context, Failure, Result};
use crate::folder::{Folder, write_whole};
use crate::group::Group;
use crate::progress::say;
use crate::recipe::Recipe;
use crate::report::{Comparison, Entry, RunFigures, csv, html, picture, table};
use crate::sweep::Sweep;

/// Compares what the folders hold.
pub fn run(options: &Compare) -> Result<()> {
    let mut entries: Vec<Gathered> = Vec::new();
    for folder in &options.folders {
        gather(folder, &options.folders, &mut entries)?;
    }
    let entries: Vec<Entry> = named_apart(entries);
    let comparison = Comparison::of(&entries);
    let mut written = Vec::new();
    if let Some(path) = &options.svg {
        write_whole(path, picture(&comparison.entries)?.as_bytes())?;
        written.push(path);
    }
    if let Some(path) = &options.html {
        write_whole(path, html(&comparison)?.as_bytes())?;
        written.push(path);
    }
    if options.json {
        say(serde_json::to_string(&comparison).context("cannot serialise the figures")?);
    } else if options.csv {
        say(csv(&comparison.entries).trim_end());
    } else {
        say(table(&comparison).trim_end());
        written.iter().for_each(|path| say(path.display()));
    }
    Ok(())
}

// An entry in the making.
struct Gathered {
    entry: Entry,
    // The folder as it was given, for entries of one name.
    folder: PathBuf,
    // What its runs have in common, if more may join them.
    key: Option<String>,
}

fn gather(folder: &Path, all: &[PathBuf], entries: &mut Vec<Gathered>) -> Result<()> {
    let place = || folder.to_owned();
    if Sweep::is(folder) {
        let cells = Sweep::open(folder)?.entries()?;
        entries.extend(cells.into_iter().map(|entry| Gathered { entry, folder: place(), key: None }));
        return Ok(());
    }
    if Group::is(folder) {
        entries.push(Gathered { entry: Group::open(folder)?.entry()?, folder: place(), key: None });
        return Ok(());
    }
    let run = Folder::at(folder);
    if !folder.is_dir() {
        return Err(Failure::usage(format!("there is no folder {}", folder.display())));
    }
    if !run.is_finished() {
        let folder = folder.display();
        return Err(Failure::usage(match run.is_run() {
            true => format!("the run {folder} is not finished; go on with it first (potstill train --resume)"),
            false => {
                format!("{folder} is no run, group or sweep: there is no result.json, group.json or sweep.json in it")
            }
        }));
    }
    let (figures, key) = (RunFigures::of(&run)?, key(&run.recipe()?, folder, all)?);
    let joins = |gathered: &&mut Gathered| {
        let seeds = || gathered.entry.runs.iter().map(|run| run.seed);
        gathered.key.as_ref() == Some(&key) && !seeds().any(|seed| seed == figures.seed)
    };
    if let Some(gathered) = entries.iter_mut().find(joins) {
        gathered.entry.runs.push(figures);
        gathered.entry.runs.sort_by_key(|run| run.seed);
        return Ok(());
    }
    let entry = Entry { name: name_of(folder), runs: vec![figures] };
    entries.push(Gathered { entry, folder: place(), key: Some(key) });
    Ok(())
}

// A recipe without what differs between its seeds, and what changes no figure.
fn key(recipe: &Recipe, folder: &Path, all: &[PathBuf]) -> Result<String> {
    let mut recipe = Recipe { seed: 0, teacher_cache: None, allow_untrained_teacher: false, ..recipe.clone() };
    (recipe.data.validation_seed, recipe.data.workers) = (None, 0);
    // Runs of a group have the teacher that one of them trained.
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let of_one = |teacher: &PathBuf| {
        let teacher = teacher.parent().map(absolute);
        let beside = |other: &Path| absolute(other).parent() == absolute(folder).parent();
        all.iter().any(|other| beside(other) && Some(absolute(other)) == teacher)
    };
    recipe.teacher_weights = recipe.teacher_weights.take_if(|teacher| !of_one(teacher));
    let table = Table::try_from(&recipe).context("cannot serialise a recipe")?;
    Ok(table.to_string())
}

fn name_of(folder: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    // Of `.` and `..` only the folder itself knows its name.
    let found = name(folder).or_else(|| folder.canonicalize().ok().and_then(|path| name(&path)));
    found.unwrap_or_else(|| folder.display().to_string())
}

// Entries whose names tell them apart: by their paths where their names do not, and with how many runs joined the first.
fn named_apart(gathered: Vec<Gathered>) -> Vec<Entry> {
    let names: Vec<String> = gathered.iter().map(|gathered| gathered.entry.name.clone()).collect();
    let several = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
    gathered
        .into_iter()
        .map(|Gathered { mut entry, folder, key }| {
            if several(&entry.name) {
                entry.name = folder.display().to_string();
            }
            let more = entry.runs.len() - 1;
            if key.is_some() && more > 0 {
                entry.name += &format!(" and {more} more");
            }
            entry
        })
        .collect()
}
