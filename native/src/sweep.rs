//! A sweep: a grid of recipes, each trained at several seeds, and the choice of one on the validation split.
//!
//! ```text
//! LOGDIR/NAME/
//!   recipe.toml       the recipe that the cells are laid over
//!   sweep.json        the grid; in a finished sweep also the figures and the choice
//!   cell-1/ ...       a cell's group of runs each
//!   teacher-logits/   only in an unfinished sweep: what its teacher said
//!   sweep.svg         where one or two keys are varied
//! ```
//!
//! Held-out samples choose nothing: cells are ordered by their validation split, and the held-out accuracy of the chosen one
//! alone is told. Cells that differ in nothing that their teacher follows from share it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::{Context, Failure, Result};
use crate::folder::Folder;
use crate::group::{Group, Plan, TEACHER_LOGITS, folder_of};
use crate::recipe::{Goal, Recipe};
use crate::report::{Difference, Entry, EntryReport, NetworkReport};
use crate::run::{Role, RunFolder};
use crate::statistics::Summary;

const FILE: &str = "sweep.json";
/// Most runs of a sweep.
const MOST_RUNS: usize = 10_000;

/// A key of a recipe and the values that it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// The key, as `--set` names it.
    pub key: String,
    /// Its values, as `--set` reads them.
    pub values: Vec<String>,
}

impl std::str::FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, values) = text.split_once('=').ok_or("it is not of the form KEY=VALUE,VALUE,...")?;
        let (key, values) = (key.trim().to_owned(), listed(values));
        match () {
            () if key.is_empty() => Err("it needs a key before the equals sign".to_owned()),
            () if values.iter().any(String::is_empty) => Err(format!("a value of {key} is empty")),
            () if key == "seed" => Err("seeds are given by --seeds".to_owned()),
            () => match values.iter().enumerate().find(|(place, value)| values[..*place].contains(value)) {
                Some((_, value)) => Err(format!("{key} has the value {value} twice")),
                None => Ok(Self { key, values }),
            },
        }
    }
}

// Values with commas between them; those inside brackets and quotes are part of a value.
fn listed(text: &str) -> Vec<String> {
    let (mut values, mut depth, mut quote) = (vec![String::new()], 0_i32, None);
    for letter in text.chars() {
        match (letter, quote) {
            (',', None) if depth == 0 => {
                values.push(String::new());
                continue;
            }
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth -= 1,
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            _ => {}
        }
        values.iter_mut().last().into_iter().for_each(|value| value.push(letter));
    }
    values.into_iter().map(|value| value.trim().to_owned()).collect()
}

/// What a sweep is to do, and in the end what it found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepPlan {
    /// What is varied; of the last key the values change from one cell to the next.
    pub vary: Vec<Axis>,
    /// The seeds of every cell.
    pub seeds: Vec<u64>,
    /// Where the recipe is from, in words.
    pub base: String,
    /// The command that trains the recipe on all samples, before the chosen values.
    pub train: Vec<String>,
}

impl SweepPlan {
    /// A cell's values as `--set` takes them.
    fn settings(&self, values: &[String]) -> impl Iterator<Item = String> {
        self.vary.iter().zip(values).map(|(axis, value)| format!("{}={value}", axis.key))
    }
}

/// `sweep.json`.
#[derive(Serialize)]
struct File<'a> {
    #[serde(flatten)]
    plan: &'a SweepPlan,
    #[serde(flatten)]
    report: Option<&'a SweepReport>,
}

/// What a sweep found.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// The network that is looked at.
    pub network: Role,
    /// Samples of the validation split.
    pub validation_samples: usize,
    /// The cells, the best first; of equal ones the earlier.
    pub cells: Vec<Cell>,
    /// The first of them.
    pub chosen: Chosen,
}

/// A cell's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Its folder.
    pub folder: String,
    /// The values of the varied keys, in their order.
    pub values: Vec<String>,
    /// The fraction of the validation split that is right, at each seed.
    pub accuracies: Vec<f64>,
    /// What they say together.
    pub validation: Summary,
}

/// The cell that the validation split chose.
#[derive(Clone, Debug, Serialize)]
pub struct Chosen {
    /// Its values.
    pub values: Vec<String>,
    /// How much better it is than the next, on the validation split; none of a single cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Difference>,
    /// Its accuracy on held-out samples, which chose nothing.
    pub held_out: Summary,
    /// The command that trains with its values on all samples.
    pub command: String,
}

/// A sweep's folder, which exists, and what it is of.
pub struct Sweep {
    folder: Folder,
    plan: SweepPlan,
}

/// A combination of values and the recipe that it makes.
pub struct Combination {
    /// The values of the varied keys, in their order.
    pub values: Vec<String>,
    /// The recipe.
    pub recipe: Recipe,
}

/// The combinations of values, in order: those of the last key change fastest.
///
/// # Errors
/// Exit code 2 if there are too many, or a key is there twice.
pub fn grid(axes: &[Axis], seeds: usize) -> Result<Vec<Vec<String>>> {
    if let Some((_, axis)) = axes.iter().enumerate().find(|(at, axis)| axes[..*at].iter().any(|a| a.key == axis.key)) {
        return Err(Failure::usage(format!("--vary names {} twice; give all its values at once", axis.key)));
    }
    let runs = axes.iter().map(|axis| axis.values.len()).try_fold(seeds, usize::checked_mul);
    if runs.is_none_or(|runs| runs > MOST_RUNS) {
        return Err(Failure::usage(format!("the grid has more than {MOST_RUNS} runs; vary fewer values or seeds")));
    }
    let longer = |cells: Vec<Vec<String>>, axis: &Axis| {
        let with = |cell: &Vec<String>, value: &String| cell.iter().chain([value]).cloned().collect();
        cells.iter().flat_map(|cell| axis.values.iter().map(move |value| with(cell, value))).collect()
    };
    Ok(axes.iter().fold(vec![Vec::new()], longer))
}

impl Sweep {
    /// Makes the folder of a new sweep: a group a combination.
    ///
    /// # Errors
    /// Exit code 2 if `name` is no plain folder name or is taken; 1 if the folder cannot be written.
    pub fn create(
        logdir: &Path,
        name: Option<&str>,
        stem: &str,
        recipe: &Recipe,
        combinations: Vec<Combination>,
        plan: SweepPlan,
    ) -> Result<Self> {
        let sweep = Self { folder: Folder::create(logdir, name, stem)?, plan };
        sweep.folder.write_recipe(recipe)?;
        let mut teachers: Vec<(String, PathBuf)> = Vec::new();
        let cells = combinations.len();
        for (number, combination) in combinations.into_iter().enumerate() {
            let mut recipe = combination.recipe;
            let cell = cell_name(number, cells);
            if recipe.objective == Goal::Distillation && recipe.teacher_weights.is_none() {
                let key = teacher_key(&recipe)?;
                match teachers.iter().find(|(other, _)| *other == key) {
                    Some((_, weights)) => recipe.teacher_weights = Some(weights.clone()),
                    None => {
                        let first = sweep.plan.seeds.first().copied().unwrap_or(recipe.seed);
                        let trains = sweep.folder.folder(&cell).folder(&folder_of(first));
                        teachers.push((key, RunFolder::at(&trains.absolute()).weights(Role::Teacher)));
                    }
                }
            }
            if recipe.teacher_cache.is_none() && recipe.asks_once() {
                recipe.teacher_cache = Some(sweep.folder.absolute().join(TEACHER_LOGITS));
            }
            let base = sweep.plan.settings(&combination.values).collect::<Vec<_>>().join(", ");
            let plan = Plan { seeds: sweep.plan.seeds.clone(), teacher_per_seed: false, base };
            Group::create(sweep.folder.path(), Some(&cell), "", recipe, plan)?;
        }
        // What makes it a sweep comes last: without it there is nothing to go on with.
        sweep.write(None)?;
        Ok(sweep)
    }

    /// Whether a folder is a sweep's.
    pub fn is(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// The sweep in a folder.
    ///
    /// # Errors
    /// If it is none, or cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = Folder::at(folder);
        let plan = folder.read_json(FILE)?;
        Ok(Self { folder, plan })
    }

    /// The sweep in a log folder that was made last and is not finished.
    pub fn latest(logdir: &Path) -> Option<PathBuf> {
        let made = |folder: &Path| folder.join(FILE).metadata().and_then(|found| found.modified()).ok();
        let folders = fs::read_dir(logdir).into_iter().flatten().flatten().map(|entry| entry.path());
        let unfinished = folders.filter(|folder| Self::open(folder).is_ok_and(|sweep| !sweep.is_finished()));
        unfinished.filter_map(|folder| Some((made(&folder)?, folder))).max().map(|(_, folder)| folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// What it is to do.
    pub fn plan(&self) -> &SweepPlan {
        &self.plan
    }

    /// Whether all of it is done.
    pub fn is_finished(&self) -> bool {
        let found: Result<Table> = self.folder.read_json(FILE);
        found.is_ok_and(|found| found.contains_key("chosen"))
    }

    /// The cells' groups with their values, in the order of the grid.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn cells(&self) -> Result<Vec<(Vec<String>, Group)>> {
        let cells = grid(&self.plan.vary, self.plan.seeds.len())?;
        let count = cells.len();
        let group = |number: usize| Group::open(&self.folder.file(&cell_name(number, count)));
        cells.into_iter().enumerate().map(|(number, values)| Ok((values, group(number)?))).collect()
    }

    /// The figures of every cell, named by its values.
    ///
    /// # Errors
    /// Exit code 2 if the sweep is not finished.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let named = |(values, group): (Vec<String>, Group)| Ok(Entry { name: self.called(&values), ..group.entry()? });
        self.cells()?.into_iter().map(named).collect()
    }

    // A cell by its values, without the sections of the keys.
    fn called(&self, values: &[String]) -> String {
        let short = |key: &'_ str| key.rsplit('.').next().map(str::to_owned).unwrap_or_default();
        let named = self.plan.vary.iter().zip(values).map(|(axis, value)| format!("{} {value}", short(&axis.key)));
        named.collect::<Vec<_>>().join(", ")
    }

    /// What the cells' runs show.
    ///
    /// # Errors
    /// Exit code 2 if the sweep is not finished.
    pub fn report(&self) -> Result<SweepReport> {
        let entries = self.entries()?;
        let mut found: Vec<(Cell, NetworkReport)> = Vec::new();
        let mut validation_samples = 0;
        for (entry, (values, group)) in entries.iter().zip(self.cells()?) {
            let folder = group.name();
            let missing = || Failure::work(format!("{folder} of {} has no validation figures", self.path().display()));
            let report: EntryReport = entry.report().ok_or_else(missing)?;
            validation_samples = report.dataset.validation.unwrap_or(0);
            let network = network_of(&report.networks).ok_or_else(missing)?;
            let accuracies = entry.validation(network.network);
            let values_of: Vec<f64> = accuracies.iter().map(|(_, value)| *value).collect();
            let validation = Summary::of(&values_of).ok_or_else(missing)?;
            found.push((Cell { folder, values, accuracies: values_of, validation }, network.clone()));
        }
        // Stable: of equal cells the earlier stays first.
        found.sort_by(|(a, _), (b, _)| b.validation.mean.total_cmp(&a.validation.mean));
        let Some((best, network)) = found.first() else {
            return Err(Failure::work(format!("the sweep {} has no cells", self.path().display())));
        };
        let seeded = |cell: &Cell| -> Vec<(u64, f64)> {
            let mut seeds = self.plan.seeds.clone();
            seeds.sort_unstable();
            seeds.into_iter().zip(cell.accuracies.iter().copied()).collect()
        };
        let ahead = found
            .get(1)
            .and_then(|(next, _)| Difference::between("chosen cell", &seeded(best), "next one", &seeded(next)));
        let chosen = Chosen {
            values: best.values.clone(),
            ahead,
            held_out: network.summary,
            command: self.command(&best.values),
        };
        let network = network.network;
        Ok(SweepReport {
            network,
            validation_samples,
            chosen,
            cells: found.into_iter().map(|(cell, _)| cell).collect(),
        })
    }

    // The command that trains with a cell's values on all samples.
    fn command(&self, values: &[String]) -> String {
        let chosen = self.plan.settings(values).flat_map(|setting| ["--set".to_owned(), setting]);
        let words: Vec<String> = self.plan.train.iter().cloned().chain(chosen).map(|word| quoted(&word)).collect();
        words.join(" ")
    }

    /// Writes the figures, and removes what was only needed to go on.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn finish(&self, report: &SweepReport) -> Result<()> {
        self.write(Some(report))?;
        self.folder.remove(TEACHER_LOGITS)
    }

    /// What `sweep.json` holds of a finished sweep, in a line.
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub fn json(&self, report: &SweepReport) -> Result<String> {
        let file = File { plan: &self.plan, report: Some(report) };
        serde_json::to_string(&file).context("cannot serialise the figures")
    }

    fn write(&self, report: Option<&SweepReport>) -> Result<()> {
        self.folder.write_json(FILE, &File { plan: &self.plan, report })
    }

    /// The command that goes on with it.
    pub fn resume_line(&self) -> String {
        format!("potstill sweep --resume --name {} --logdir {}", self.folder.name(), self.folder.parent().display())
    }
}

// The folder of a cell, from 0; all of a sweep's names are of one length.
fn cell_name(number: usize, cells: usize) -> String {
    format!("cell-{:0digits$}", number + 1, digits = cells.to_string().len())
}

// The network that is swept: what a recipe trains last of student and teacher.
fn network_of(networks: &[NetworkReport]) -> Option<&NetworkReport> {
    let of = |role: Role| networks.iter().find(|network| network.network == role);
    of(Role::Student).or_else(|| of(Role::Teacher))
}

// All that a recipe's teacher follows from.
fn teacher_key(recipe: &Recipe) -> Result<String> {
    let mut table = Table::try_from(recipe).context("cannot serialise a recipe")?;
    let student = table.remove("student");
    table.retain(|key, _| matches!(key, "seed" | "data" | "teacher"));
    if let Some(Value::Table(data)) = table.get_mut("data") {
        // What the student alone is told, and what changes no network.
        data.retain(|key, _| !matches!(key, "labels" | "omit" | "label_noise" | "test_samples" | "workers"));
    }
    // The student's model says how pictures are prepared.
    if let Some(model) = student.as_ref().and_then(|student| student.get("model")) {
        table.insert("student".to_owned(), model.clone());
    }
    Ok(table.to_string())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=,:+@%".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> Axis {
        text.parse().expect(text)
    }

    #[test]
    fn values_stand_between_commas_and_lists_are_values() {
        let values = |text: &str| axis(text).values;
        assert_eq!(values("distillation.alpha=0.5, 0.9"), ["0.5", "0.9"]);
        assert_eq!(values("data.omit=[1,2],[3]"), ["[1,2]", "[3]"]);
        assert_eq!(values("data.dataset=\"a,b\",c"), ["\"a,b\"", "c"]);
        for (wrong, why) in
            [("alpha", "KEY="), ("=1", "key"), ("a=1,,2", "empty"), ("seed=1", "--seeds"), ("a=1,1", "twice")]
        {
            assert!(wrong.parse::<Axis>().is_err_and(|said| said.contains(why)), "{wrong}");
        }
    }

    #[test]
    fn the_grid_is_every_combination_once() {
        let found = grid(&[axis("a=1,2"), axis("b=x,y,z")], 2).expect("a grid");
        let found: Vec<String> = found.iter().map(|cell| cell.join("")).collect();
        assert_eq!(found, ["1x", "1y", "1z", "2x", "2y", "2z"]);
        assert!(grid(&[axis("a=1,2"), axis("a=3")], 1).is_err());
        assert!(grid(&[axis("a=1,2")], 5001).is_err());
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("distillation.alpha=0.9"), "distillation.alpha=0.9");
        assert_eq!(quoted("data.omit=[1]"), "'data.omit=[1]'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_teacher_is_shared_by_what_does_not_change_it() {
        let text = crate::recipe::library::find("digits-few-labels").expect("it ships").recipe().expect("valid");
        let key = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = text.clone();
            change(&mut recipe);
            teacher_key(&recipe).expect("a key")
        };
        let own = key(&|_| {});
        assert_eq!(own, key(&|recipe| recipe.data.labels = Some(100)));
        assert_eq!(own, key(&|recipe| recipe.student.as_mut().expect("a student").epochs = 7));
        assert_eq!(
            own,
            key(&|recipe| recipe.distillation = potstill_core::method::Preset::named("hard").expect("one"))
        );
        assert_ne!(own, key(&|recipe| recipe.teacher.as_mut().expect("a teacher").epochs = 7));
        assert_ne!(own, key(&|recipe| recipe.data.train_samples = Some(100)));
        assert_ne!(own, key(&|recipe| recipe.seed = 1));
    }
}
