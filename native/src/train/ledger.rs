//! What an unfinished run says of itself: `state.json`, the folder of its checkpoints, and its log.
//!
//! Nothing of it is believed unchecked. A checkpoint that was made and is not there, or cannot be read, ends the command: the
//! stage is not begun again in silence. A damaged one is named, and the one before it is taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use potstill_core::train::State;
use serde::{Deserialize, Serialize};

use super::checkpoint::{About, Checkpoint, Place};
use super::metrics_log::{Line, Mark, MetricsLog, read};
use super::stage::{Outcome, StageProgress};
use crate::error::{Context, Failure, Result};
use crate::progress::say;
use crate::report::FileReport;
use crate::run::{CHECKPOINTS, RECIPE, Role, RunFolder, STATE, listed, read_if_there, sha256, unsealed, write_sealed};

/// `state.json`: the stages that are done, and what the run was begun with. It also marks a run as one that can be resumed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunState {
    /// The program's version; none where it kept no hashes yet, and nothing below but `done` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// SHA-256 of each file that the run was given: teachers, and weights to start from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<String, String>,
    /// What each finished stage gave.
    pub done: BTreeMap<Role, Outcome>,
    /// SHA-256 of each weights file of a finished stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// The newest checkpoint that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Place>,
    /// How far the log had come when the last stage was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Mark>,
}

impl RunState {
    /// That of a run before its first step, of a recipe's text and the files that it names.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn begin(recipe: &str, given: &[&Path]) -> Result<Self> {
        let hash = |path: &&Path| FileReport::of(path).map(|file| (file.path, file.sha256));
        Ok(Self {
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            recipe: Some(recipe_hash(recipe)),
            given: given.iter().map(hash).collect::<Result<_>>()?,
            ..Self::default()
        })
    }

    /// That of an unfinished run.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn read(run: &RunFolder) -> Result<Self> {
        let path = run.file(STATE);
        let path = path.display();
        match read_if_there(&run.file(STATE))?.map(unsealed) {
            Some(Ok(state)) => Ok(state),
            Some(Err(why)) => Err(Failure::work(format!(
                "{path} is damaged: {why}. It says which networks are trained; put a copy of it back, or begin another run"
            ))),
            None => Err(Failure::work(format!(
                "there is no {path}, which says which networks are trained; put it back, or begin another run"
            ))),
        }
    }

    /// Refuses a recipe that is another than the run was begun with.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn check_recipe(&self, run: &RunFolder, text: &str) -> Result<()> {
        if self.recipe.as_ref().is_some_and(|recipe| *recipe != recipe_hash(text)) {
            return Err(other_recipe(run, STATE));
        }
        Ok(())
    }

    /// Refuses a file that is another than the run was begun with.
    ///
    /// # Errors
    /// Exit code 1, also if it cannot be read.
    pub fn check_given(&self, path: &Path) -> Result<()> {
        let Some(said) = self.given.get(&path.display().to_string()) else { return Ok(()) };
        if FileReport::of(path)?.sha256 == *said {
            return Ok(());
        }
        Err(Failure::work(format!(
            "{} is another file than the run was begun with (its SHA-256 was {said}); put that one back, or begin another run",
            path.display()
        )))
    }
}

// The one line that a resume may add to a recipe changes no run.
fn recipe_hash(text: &str) -> String {
    sha256(text.lines().filter(|line| *line != ALLOWED).flat_map(|line| [line, "\n"]).collect::<String>())
}

/// The line of a recipe that takes a teacher which does no better than a guess.
pub const ALLOWED: &str = "allow_untrained_teacher = true";

fn other_recipe(run: &RunFolder, holder: &str) -> Failure {
    Failure::usage(format!(
        "{} is not the recipe that {holder} was made with; put that one back, or begin another run with this one",
        run.file(RECIPE).display()
    ))
}

/// The state of a run under way, its checkpoints and its log.
pub struct Ledger<'a> {
    run: &'a RunFolder,
    state: RunState,
    keep: usize,
    /// The log, up to where the run stands.
    pub log: MetricsLog,
}

impl<'a> Ledger<'a> {
    /// The ledger of `run`, which keeps the last `keep` checkpoints, and the one to go on from: the newest whole one of a stage
    /// that is not done, if the run has made one. What is damaged or dropped is said.
    ///
    /// # Errors
    /// If checkpoints cannot be listed or read, all are damaged, one that was made is not there, or it is of another recipe.
    pub fn open(run: &'a RunFolder, mut state: RunState, keep: usize) -> Result<(Self, Option<Checkpoint>)> {
        let checkpoint = latest(run, &mut state)?;
        let path = run.file("metrics.jsonl");
        check_log(run, &state, &read(&path)?, checkpoint.as_ref())?;
        let keeps = |line: &Line| match line.place() {
            (stage, _) if state.done.contains_key(&stage) => true,
            (stage, step) => {
                let place = checkpoint.as_ref().map(Checkpoint::place);
                place.is_some_and(|place| place.stage == stage && step <= place.step)
            }
        };
        let mark = checkpoint.as_ref().map_or(state.log.as_ref(), |checkpoint| checkpoint.about.log.as_ref());
        let (log, note) = MetricsLog::open(&path, mark, keeps)?;
        note.iter().for_each(|note| say(format_args!("note     {note}")));
        Ok((Self { run, state, keep: keep.max(1), log }, checkpoint))
    }

    /// What is written in `state.json`.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    fn write(&self) -> Result<()> {
        write_sealed(&self.run.file(STATE), &self.state)
    }

    /// Saves where a stage stands.
    ///
    /// # Errors
    /// If it cannot be written; the checkpoints before it are then as they were.
    pub fn save(&mut self, progress: StageProgress, state: &State) -> Result<()> {
        let StageProgress { stage, seconds, check_due, skipped } = progress;
        let place = Place { stage, step: state.step };
        let RunState { version, recipe, given, .. } = self.state.clone();
        let (log, files) = (Some(self.log.mark()?), BTreeMap::new());
        let step = state.step;
        let about = About { version, stage, step, seconds, check_due, skipped, recipe, given, log, files };
        Checkpoint::write(self.run, about, state)?;
        self.state.newest = Some(place);
        self.write()?;
        self.remove_older(place);
        Ok(())
    }

    // What cannot be removed is only left over: the newest checkpoint still wins. A folder loses its files one by one, so that
    // it is first given a name that is passed over.
    fn remove_older(&self, newest: Place) {
        let mut places = all_places(self.run).unwrap_or_default();
        places.sort();
        let own = places.iter().filter(|(place, _)| place.stage == newest.stage).count();
        let (mut left, keep) = (own, self.keep);
        for (place, folder) in places {
            if place.stage == newest.stage {
                if left <= keep {
                    continue;
                }
                left -= 1;
            }
            let going = folder.with_file_name(format!(".{}", place.name()));
            fs::remove_dir_all(&going).ok();
            if fs::rename(&folder, &going).is_ok() {
                fs::remove_dir_all(&going).ok();
            }
        }
    }

    /// Says that a stage is done, and which files it left, each with its SHA-256.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(
        &mut self,
        stage: Role,
        outcome: Outcome,
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<()> {
        self.state.done.insert(stage, outcome);
        self.state.files.extend(files);
        self.state.log = Some(self.log.mark()?);
        self.write()
    }

    /// Refuses a weights file of a finished stage that is another than the run has written.
    ///
    /// # Errors
    /// If it is, or cannot be read.
    pub fn check_file(&self, path: &Path) -> Result<()> {
        let Some(said) = path.file_name().and_then(|name| self.state.files.get(name.to_str()?)) else { return Ok(()) };
        if FileReport::of(path)?.sha256 == *said {
            return Ok(());
        }
        Err(Failure::work(format!(
            "{} is not the file that the run has written (its SHA-256 was {said}); put that one back, or begin another run",
            path.display()
        )))
    }
}

fn all_places(run: &RunFolder) -> Result<Vec<(Place, PathBuf)>> {
    let place = |path: PathBuf| Some((Place::named(path.file_name()?.to_str()?)?, path));
    Ok(listed(&run.file(CHECKPOINTS))?.into_iter().filter_map(place).collect())
}

// The newest whole checkpoint of a stage that is not done. Damaged ones after it are named and removed.
fn latest(run: &RunFolder, state: &mut RunState) -> Result<Option<Checkpoint>> {
    let mut damaged = Vec::new();
    let mut found = None;
    let places = open_places(run, state)?;
    let newest = places.last().map(|(place, _)| *place);
    for (place, folder) in places.into_iter().rev() {
        match Checkpoint::read(&folder, place)? {
            Ok(checkpoint) => {
                found = Some(checkpoint);
                break;
            }
            Err(why) => damaged.push((folder, why)),
        }
    }
    let made = state.newest.filter(|place| !state.done.contains_key(&place.stage));
    if let Some(made) = made.filter(|made| newest.is_none_or(|newest| newest < *made)) {
        let (said, checkpoints) = (run.file(STATE), run.file(CHECKPOINTS));
        return Err(Failure::work(format!(
            "{} says that the checkpoint {} was made, and it is not in {}; put it back, or begin another run",
            said.display(),
            made.name(),
            checkpoints.display()
        )));
    }
    let Some(checkpoint) = found else {
        return match damaged.first() {
            None => Ok(None),
            Some((folder, why)) => Err(Failure::work(format!(
                "the checkpoint {} is damaged: {why}; there is none before it. Put a copy back, or begin another run",
                folder.display()
            ))),
        };
    };
    if checkpoint.about.recipe.is_some() && checkpoint.about.recipe != state.recipe {
        return Err(other_recipe(run, &checkpoint.folder().display().to_string()));
    }
    if !damaged.is_empty() {
        // From here on the older one is the newest, also for a process that comes after this one.
        state.newest = Some(checkpoint.place());
        write_sealed(&run.file(STATE), state)?;
    }
    for (folder, why) in damaged {
        let step = checkpoint.about.step;
        say(format_args!("note     the checkpoint {} is damaged: {why}; taking that of step {step}", folder.display()));
        fs::remove_dir_all(&folder).context(format_args!("cannot remove {}", folder.display()))?;
    }
    Ok(Some(checkpoint))
}

// Where there are checkpoints of stages that are not done, in the order in which they were made.
fn open_places(run: &RunFolder, state: &RunState) -> Result<Vec<(Place, PathBuf)>> {
    let mut places: Vec<(Place, PathBuf)> = all_places(run)?;
    places.retain(|(place, _)| !state.done.contains_key(&place.stage));
    places.sort();
    Ok(places)
}

// Refuses a log that has gone on far beyond every checkpoint, in a run that does not say itself which it has made: after the
// first look at held-out samples there was one.
fn check_log(run: &RunFolder, state: &RunState, lines: &[Line], checkpoint: Option<&Checkpoint>) -> Result<()> {
    if state.version.is_some() {
        return Ok(());
    }
    let beyond = lines.iter().filter(|line| matches!(line, Line::Check(_))).map(Line::place).filter(|(stage, step)| {
        let place = Place { stage: *stage, step: *step };
        !state.done.contains_key(stage) && checkpoint.is_none_or(|checkpoint| checkpoint.place() < place)
    });
    match beyond.collect::<Vec<_>>()[..] {
        [_, .., (stage, step)] => Err(Failure::work(format!(
            "the log has come to step {step} of the {}, and {} holds no checkpoint of it; put it back, or begin another \
             run",
            stage.name(),
            run.file(CHECKPOINTS).display()
        ))),
        _ => Ok(()),
    }
}
