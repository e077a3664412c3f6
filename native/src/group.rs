//! A group: one recipe at several seeds, a run folder each, and what they say together.
//!
//! ```text
//! LOGDIR/NAME/
//!   recipe.toml       the recipe; that of a run differs in its seed, and in who teaches
//!   group.json        the seeds, and whether one teacher teaches at all of them
//!   seed-0/ ...       a run's folder each
//!   teacher-logits/   only in an unfinished group: what its teacher said
//!   summary.json      the figures; only in a finished group
//!   accuracies.svg
//! ```
//!
//! Nothing of a group's state is kept beside its runs': which seed is next follows from which runs are finished, so that it
//! goes on from any moment at which it was stopped.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::folder::Folder;
use crate::recipe::{Goal, Recipe};
use crate::report::{Entry, RunFigures};
use crate::run::{Role, RunFolder};

/// Most seeds of a group.
const MOST_SEEDS: usize = 1000;
const PLAN: &str = "group.json";
const SUMMARY: &str = "summary.json";
/// What the teacher said of images that are never varied, which are the same at all seeds.
pub const TEACHER_LOGITS: &str = "teacher-logits";

/// Seeds as a command line gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// So many, from the recipe's on.
    Count(usize),
    /// These.
    List(Vec<u64>),
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("it must be a number of seeds from 1 to {MOST_SEEDS}, or seeds with commas between them");
        let seeds = if text.contains(',') {
            let seeds = text.trim_end_matches(',').split(',').map(|seed| seed.trim().parse::<u64>());
            Self::List(seeds.collect::<Result<_, _>>().map_err(|_| wrong())?)
        } else {
            Self::Count(text.trim().parse().map_err(|_| wrong())?)
        };
        match &seeds {
            Self::Count(count) if !(1..=MOST_SEEDS).contains(count) => Err(wrong()),
            Self::List(list) if list.len() > MOST_SEEDS => Err(wrong()),
            // A recipe is a TOML file, whose whole numbers have a sign.
            Self::List(list) if list.iter().any(|seed| i64::try_from(*seed).is_err()) => Err(wrong()),
            Self::List(list) => match list.iter().enumerate().find(|(place, seed)| list[..*place].contains(seed)) {
                Some((_, seed)) => Err(format!("the seed {seed} is there twice")),
                None => Ok(seeds),
            },
            Self::Count(_) => Ok(seeds),
        }
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            // One seed alone is told from a count by its comma.
            Self::List(list) if list.len() == 1 => list.iter().try_for_each(|seed| write!(f, "{seed},")),
            Self::List(list) => f.write_str(&list.iter().map(u64::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

impl Seeds {
    /// Refuses a list beside a `--seed`, which is the first of a count.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn check(&self, has_seed: bool) -> Result<()> {
        match self {
            Self::List(_) if has_seed => {
                Err(Failure::usage("--seeds lists the seeds, so --seed has nothing to say; leave it out"))
            }
            _ => Ok(()),
        }
    }

    /// The seeds, of a recipe whose own is `first`.
    pub fn from(&self, first: u64) -> Vec<u64> {
        match self {
            Self::Count(count) => (0..*count as u64).map(|place| first.saturating_add(place)).collect(),
            Self::List(list) => list.clone(),
        }
    }
}

/// What a group is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its seeds, in the order in which they are trained.
    pub seeds: Vec<u64>,
    /// Whether a teacher is trained at every seed.
    pub teacher_per_seed: bool,
    /// Where its recipe is from, in words.
    pub base: String,
}

/// A group's folder, which exists, and what it is of.
#[derive(Clone, Debug)]
pub struct Group {
    folder: Folder,
    recipe: Recipe,
    plan: Plan,
}

impl Group {
    /// Makes the folder of a new group, with its plan in it.
    ///
    /// # Errors
    /// Exit code 2 if `name` is no plain folder name or is taken; 1 if the folder cannot be written.
    pub fn create(logdir: &Path, name: Option<&str>, stem: &str, recipe: Recipe, plan: Plan) -> Result<Self> {
        let folder = Folder::create(logdir, name, stem)?;
        folder.write_recipe(&recipe)?;
        // What makes it a group comes last: without it there is nothing to go on with.
        folder.write_json(PLAN, &plan)?;
        Ok(Self { folder, recipe, plan })
    }

    /// Whether a folder is a group's.
    pub fn is(folder: &Path) -> bool {
        folder.join(PLAN).is_file()
    }

    /// The group in a folder.
    ///
    /// # Errors
    /// If it is none, or cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = Folder::at(folder);
        let (recipe, plan) = (folder.recipe()?, folder.read_json(PLAN)?);
        Ok(Self { folder, recipe, plan })
    }

    /// The unfinished group in a log folder that was worked on last, and when that was.
    pub fn latest(logdir: &Path) -> Option<(SystemTime, PathBuf)> {
        let folders = fs::read_dir(logdir).into_iter().flatten().flatten().map(|entry| entry.path());
        let unfinished = folders.filter(|folder| Self::is(folder) && !folder.join(SUMMARY).exists());
        unfinished.filter_map(|folder| Some((worked_on(&folder)?, folder))).max()
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The group's name.
    pub fn name(&self) -> String {
        self.folder.name()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// What it is to do.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes a teacher that does no better than chance, from now on.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn allow_untrained_teacher(&mut self) -> Result<()> {
        self.recipe.allow_untrained_teacher = true;
        self.folder.write_recipe(&self.recipe)
    }

    /// Its recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Whether all of it is done.
    pub fn is_finished(&self) -> bool {
        self.folder.has(SUMMARY)
    }

    /// The run of a seed, begun or not.
    pub fn run(&self, seed: u64) -> Folder {
        self.folder.folder(&folder_of(seed))
    }

    /// The seeds whose runs are not finished.
    pub fn open_seeds(&self) -> Vec<u64> {
        self.plan.seeds.iter().copied().filter(|seed| !self.run(*seed).is_finished()).collect()
    }

    /// The recipe of the run of a seed: the group's with that seed. Where one teacher teaches at all of them, it is trained at
    /// the first, and all have the validation split that it has not learnt from.
    pub fn recipe_of(&self, seed: u64) -> Recipe {
        let mut recipe = Recipe { seed, ..self.recipe.clone() };
        let first = self.plan.seeds.first().copied().unwrap_or(seed);
        if self.plan.teacher_per_seed || recipe.objective != Goal::Distillation {
            return recipe;
        }
        if recipe.data.validation > 0.0 {
            recipe.data.validation_seed.get_or_insert(first);
        }
        if recipe.teacher_weights.is_none() && seed != first {
            // A resume may be started from elsewhere.
            recipe.teacher_weights = Some(RunFolder::at(&self.run(first).absolute()).weights(Role::Teacher));
        }
        if recipe.teacher_cache.is_none() && recipe.asks_once() {
            recipe.teacher_cache = Some(self.folder.absolute().join(TEACHER_LOGITS));
        }
        recipe
    }

    /// The figures of all its runs.
    ///
    /// # Errors
    /// Exit code 2 if a run is not finished.
    pub fn entry(&self) -> Result<Entry> {
        if let Some(seed) = self.open_seeds().first() {
            return Err(Failure::usage(format!(
                "the group {} is not finished: its seed {seed} is not trained; go on with it first ({})",
                self.path().display(),
                self.resume_line()
            )));
        }
        let mut runs: Vec<RunFigures> =
            self.plan.seeds.iter().map(|seed| RunFigures::of(&self.run(*seed))).collect::<Result<_>>()?;
        runs.sort_by_key(|run| run.seed);
        Ok(Entry { name: self.name(), runs })
    }

    /// Writes its figures, and removes what was only needed to go on.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn finish(&self, summary: &impl Serialize) -> Result<()> {
        self.folder.write_json(SUMMARY, summary)?;
        self.folder.remove(TEACHER_LOGITS)
    }

    /// The command that goes on with it.
    pub fn resume_line(&self) -> String {
        format!("potstill train --resume --name {} --logdir {}", self.name(), self.folder.parent().display())
    }
}

/// What the folder of the run of a seed is called.
pub fn folder_of(seed: u64) -> String {
    format!("seed-{seed}")
}

// When a group was worked on last: when it, or the run under way, was written to.
fn worked_on(folder: &Path) -> Option<SystemTime> {
    let written = |path: PathBuf| path.metadata().and_then(|found| found.modified()).ok();
    let runs = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let runs = runs.flat_map(|run| [run.join("state.json"), run.join("result.json")]);
    runs.chain([folder.join(PLAN)]).filter_map(written).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(text: &str) -> Result<Vec<u64>, String> {
        text.parse::<Seeds>().map(|seeds| seeds.from(7))
    }

    #[test]
    fn seeds_are_counted_from_the_recipes_or_listed() {
        assert_eq!(seeds("3"), Ok(vec![7, 8, 9]));
        assert_eq!(seeds("0,5, 2"), Ok(vec![0, 5, 2]));
        assert_eq!(seeds("4,"), Ok(vec![4]));
        for wrong in ["0", "-1", "1001", "x", "1,,2", ",", "1,x", "9223372036854775808,1"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seeds("1,2,1"), Err("the seed 1 is there twice".to_owned()));
    }
}
