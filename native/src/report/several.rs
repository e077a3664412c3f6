//! What several runs say together: one recipe at several seeds, and recipes beside each other.
//!
//! All of it is worked out from the runs' `result.json`, so that the same runs give the same bytes whenever they are asked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::folder::Folder;
use crate::run::Role;
use crate::statistics::{Interval, Summary};

/// What is read back of a finished run's `result.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct RunFigures {
    /// What it learnt from.
    pub dataset: DatasetFigures,
    /// Its seed.
    pub seed: u64,
    /// The file of a teacher that was not trained there.
    #[serde(default)]
    pub given_teacher: Option<GivenTeacher>,
    /// Its networks.
    pub models: BTreeMap<Role, ModelFigures>,
}

/// A data set and how many samples of it are for what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatasetFigures {
    /// As the recipe names it.
    pub name: String,
    /// Training samples.
    pub train: usize,
    /// Samples of the validation split; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Held-out samples.
    pub test: usize,
}

/// A teacher from a file.
#[derive(Clone, Debug, Deserialize)]
pub struct GivenTeacher {
    /// SHA-256 of the file.
    pub sha256: String,
}

/// One network of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct ModelFigures {
    /// Its model's name.
    pub model: String,
    /// Training images; absent if it was not trained there.
    pub images: Option<usize>,
    /// How many of them with a label; likewise.
    pub labels: Option<usize>,
    /// Trainable values.
    pub parameters: u64,
    /// Fraction of the held-out samples that are right.
    pub accuracy: f64,
    /// The same of the validation split; absent without one.
    pub validation_accuracy: Option<f64>,
    /// Seconds of training; absent if it was not trained there.
    pub seconds: Option<f64>,
}

impl RunFigures {
    /// The figures of a finished run.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn of(run: &Folder) -> Result<Self> {
        run.read_json("result.json")
    }
}

/// Runs of one recipe, each with a seed of its own.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the table calls it.
    pub name: String,
    /// Its runs, at least one, in the order of their seeds.
    pub runs: Vec<RunFigures>,
}

/// The figures of an entry.
#[derive(Clone, Debug, Serialize)]
pub struct EntryReport {
    /// Its name.
    pub name: String,
    /// What its runs learnt from.
    pub dataset: DatasetFigures,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// Its networks.
    pub networks: Vec<NetworkReport>,
    /// The student's accuracy less that of each network beside it, seed by seed.
    pub differences: Vec<Difference>,
}

/// One network's figures over several seeds: fractions of the held-out samples.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkReport {
    /// Which of a run's networks.
    pub network: Role,
    /// Its model's name.
    pub model: String,
    /// The seeds that it was trained at; one of a teacher that the others were given.
    pub seeds: Vec<u64>,
    /// The fraction that is right at each of them.
    pub accuracies: Vec<f64>,
    /// What they say together.
    #[serde(flatten)]
    pub summary: Summary,
    /// The same of the validation split; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Summary>,
    /// Training images; absent if it was not trained there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// How many of them with a label; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
    /// Trainable values.
    pub parameters: u64,
}

/// How much better one network is than another, seed by seed, as a fraction of the held-out samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The one.
    pub of: String,
    /// The other.
    pub from: String,
    /// The seeds at which both were trained.
    pub seeds: Vec<u64>,
    /// The mean of the differences.
    pub mean: f64,
    /// Where it lies; none of a single seed.
    pub interval: Option<Interval>,
    /// The same in a sentence.
    pub says: String,
}

impl Difference {
    /// Of two networks, by name, with the accuracies of each by seed; none if they have no seed in common.
    pub fn between(of: &str, ours: &[(u64, f64)], from: &str, theirs: &[(u64, f64)]) -> Option<Self> {
        let theirs: BTreeMap<u64, f64> = theirs.iter().copied().collect();
        let common = ours.iter().filter_map(|(seed, value)| Some((*seed, (*value, *theirs.get(seed)?))));
        let (seeds, pairs): (Vec<u64>, Vec<(f64, f64)>) = common.unzip();
        let found = Summary::of_differences(&pairs)?;
        let says = in_words(of, from, &found);
        let (of, from) = (of.to_owned(), from.to_owned());
        Some(Self { of, from, seeds, mean: found.mean, interval: found.interval, says })
    }
}

// Points are hundredths; where a whole one is much, more of them are shown.
fn in_words(of: &str, from: &str, found: &Summary) -> String {
    let ends = found.interval.map_or([found.mean; 2], |interval| [interval.low, interval.high]);
    let least = ends.into_iter().chain([found.mean]).map(f64::abs).fold(f64::INFINITY, f64::min);
    let digits = if least < 0.01 { 2 } else { 1 };
    // No zero with a sign.
    let points = |value: f64| format!("{:.digits$}", 100.0 * value).replace("-0.00", "0.00");
    let (sign, word) = if found.mean < 0.0 { (-1.0, "worse") } else { (1.0, "better") };
    let mean = points(sign * found.mean);
    match found.interval {
        None if found.mean == 0.0 => format!("at the one seed the {of} is as good as the {from}"),
        None => format!("at the one seed the {of} is {mean} points {word} than the {from}; other seeds may differ"),
        Some(interval) if interval.excludes_zero() => {
            let (a, b) = (points(sign * interval.low), points(sign * interval.high));
            let (low, high) = if sign < 0.0 { (b, a) } else { (a, b) };
            format!(
                "over {} seeds the {of} is {mean} points {word} than the {from}, 95 % interval {low} to {high}",
                found.count
            )
        }
        Some(interval) => format!(
            "no difference between the {of} and the {from} that {} seeds could show: {} points on average, 95 % interval \
             {} to {}",
            found.count,
            points(found.mean),
            points(interval.low),
            points(interval.high)
        ),
    }
}

impl Entry {
    /// What the runs say together.
    pub fn report(&self) -> Option<EntryReport> {
        let first = self.runs.first()?;
        let roles: BTreeSet<Role> = self.runs.iter().flat_map(|run| run.models.keys().copied()).collect();
        let student = self.accuracies(Role::Student);
        let beside = roles.iter().filter(|role| !matches!(role, Role::Teacher | Role::Student));
        let difference =
            |role: &Role| Difference::between("student", &student, &in_full(*role), &self.accuracies(*role));
        Some(EntryReport {
            name: self.name.clone(),
            dataset: first.dataset.clone(),
            seeds: self.runs.iter().map(|run| run.seed).collect(),
            networks: roles.iter().filter_map(|role| self.network(*role)).collect(),
            differences: beside.filter_map(difference).collect(),
        })
    }

    /// A network's accuracy by seed.
    pub fn accuracies(&self, role: Role) -> Vec<(u64, f64)> {
        self.trained(role).into_iter().map(|(seed, model)| (seed, model.accuracy)).collect()
    }

    /// A network's accuracy on the validation split, by seed; empty without one.
    pub fn validation(&self, role: Role) -> Vec<(u64, f64)> {
        self.trained(role).into_iter().filter_map(|(seed, model)| Some((seed, model.validation_accuracy?))).collect()
    }

    // The runs that trained a network. One that all were given counts once, whatever the number of runs.
    fn trained(&self, role: Role) -> Vec<(u64, &ModelFigures)> {
        let all = || self.runs.iter().filter_map(|run| Some((run, run.models.get(&role)?)));
        let here: Vec<(u64, &ModelFigures)> =
            all().filter(|(_, model)| model.seconds.is_some()).map(|(run, model)| (run.seed, model)).collect();
        if !here.is_empty() {
            return here;
        }
        let mut files = BTreeSet::new();
        let mut is_new = |run: &RunFigures| files.insert(run.given_teacher.as_ref().map(|file| file.sha256.clone()));
        all().filter(|(run, _)| is_new(run)).map(|(run, model)| (run.seed, model)).collect()
    }

    fn network(&self, role: Role) -> Option<NetworkReport> {
        let trained = self.trained(role);
        let (seeds, models): (Vec<u64>, Vec<&ModelFigures>) = trained.into_iter().unzip();
        let accuracies: Vec<f64> = models.iter().map(|model| model.accuracy).collect();
        let validation: Option<Vec<f64>> = models.iter().map(|model| model.validation_accuracy).collect();
        let first = models.first()?;
        Some(NetworkReport {
            network: role,
            model: first.model.clone(),
            seeds,
            summary: Summary::of(&accuracies)?,
            accuracies,
            validation: validation.and_then(|values| Summary::of(&values)),
            images: first.images,
            labels: first.labels,
            parameters: first.parameters,
        })
    }
}

// A network as a sentence calls it.
fn in_full(role: Role) -> String {
    match role {
        Role::HardLabels | Role::AllLabels => format!("{} control", role.name()),
        role => role.name().to_owned(),
    }
}

/// Entries beside each other.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Each by itself.
    pub entries: Vec<EntryReport>,
    /// What each other entry's network is better than the first's by.
    pub between: Vec<Difference>,
    /// Why some are not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Comparison {
    /// The entries beside each other, the later ones against the first.
    pub fn of(entries: &[Entry]) -> Self {
        let reports: Vec<EntryReport> = entries.iter().filter_map(Entry::report).collect();
        let mut comparison = Self { entries: reports, between: Vec::new(), notes: Vec::new() };
        let Some((first, others)) = entries.split_first() else { return comparison };
        for other in others {
            comparison.compare(first, other);
        }
        comparison
    }

    fn compare(&mut self, first: &Entry, other: &Entry) {
        let of = |entry: &Entry| entry.runs.first().map(|run| (run.dataset.name.clone(), run.dataset.test));
        if of(first) != of(other) {
            let note = format!("{} and {} are measured on other samples and are not compared", first.name, other.name);
            return self.notes.push(note);
        }
        let has = |role: Role| [first, other].into_iter().all(|entry| !entry.accuracies(role).is_empty());
        let Some(role) = [Role::Student, Role::Teacher].into_iter().find(|role| has(*role)) else { return };
        let called = |entry: &Entry| format!("{} of {}", role.name(), entry.name);
        let (ours, theirs) = (other.accuracies(role), first.accuracies(role));
        match Difference::between(&called(other), &ours, &called(first), &theirs) {
            Some(difference) => self.between.push(difference),
            None => self.notes.push(format!(
                "{} and {} have no seed in common and are not compared seed by seed",
                first.name, other.name
            )),
        }
    }

    /// All sentences: of each entry, then between entries.
    pub fn sentences(&self) -> Vec<String> {
        let many = self.entries.len() > 1;
        let own = self.entries.iter().flat_map(|entry| {
            entry.differences.iter().map(move |found| match many {
                true => format!("{}: {}", entry.name, found.says),
                false => found.says.clone(),
            })
        });
        own.chain(self.between.iter().map(|found| found.says.clone())).chain(self.notes.iter().cloned()).collect()
    }
}

/// A fraction as a percentage.
pub fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}

/// An interval of fractions as percentages.
pub fn range(interval: Option<Interval>) -> String {
    let shown = |interval: Interval| format!("{:.2} to {:.2}", 100.0 * interval.low, 100.0 * interval.high);
    interval.map_or_else(|| "-".to_owned(), shown)
}

/// The cells of the table: its head, then a row a network. The first column, of names, is there for several entries.
pub fn cells(entries: &[EntryReport]) -> Vec<Vec<String>> {
    let many = entries.len() > 1;
    let validates = entries.iter().flat_map(|entry| &entry.networks).any(|network| network.validation.is_some());
    let head = ["network", "model", "seeds", "mean", "deviation", "least", "greatest", "95 % interval"];
    let row = |name: &str, cells: Vec<String>, validation: String, counts: [String; 2]| -> Vec<String> {
        let name = Some(name.to_owned()).filter(|_| many);
        let validation = Some(validation).filter(|_| validates);
        name.into_iter().chain(cells).chain(validation).chain(counts).collect()
    };
    let head =
        row("run", head.map(str::to_owned).to_vec(), "validation".to_owned(), ["images", "labels"].map(str::to_owned));
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let rows = entries.iter().flat_map(|entry| entry.networks.iter().map(move |network| (entry, network)));
    let rows = rows.map(|(entry, network)| {
        let found = &network.summary;
        let cells = vec![
            network.network.name().to_owned(),
            network.model.clone(),
            found.count.to_string(),
            percent(found.mean),
            or_dash(found.deviation.map(|value| format!("{:.2}", 100.0 * value))),
            percent(found.least),
            percent(found.greatest),
            range(found.interval),
        ];
        let counts = [network.images, network.labels].map(|count| or_dash(count.map(|count| count.to_string())));
        row(&entry.name, cells, or_dash(network.validation.map(|found| percent(found.mean))), counts)
    });
    std::iter::once(head).chain(rows).collect()
}

/// The table for people, and below it what it says in sentences.
pub fn table(comparison: &Comparison) -> String {
    let cells = cells(&comparison.entries);
    let names = 2 + usize::from(comparison.entries.len() > 1);
    let sentences: String = comparison.sentences().iter().map(|sentence| format!("{sentence}\n")).collect();
    format!("{}{}{sentences}", aligned(&cells, names), if sentences.is_empty() { "" } else { "\n" })
}

/// Rows of cells in columns, of which the first `names` stand at the left and the others at the right.
pub fn aligned(rows: &[Vec<String>], names: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column < names {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            })
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The networks as comma-separated values, a row a network; accuracies are fractions.
pub fn csv(entries: &[EntryReport]) -> String {
    let mut text = String::from(
        "run,network,model,seeds,mean,deviation,least,greatest,low,high,validation,images,labels,parameters\n",
    );
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let count = |value: Option<usize>| value.map(|value| value.to_string()).unwrap_or_default();
    for (entry, network) in entries.iter().flat_map(|entry| entry.networks.iter().map(move |n| (entry, n))) {
        let found = &network.summary;
        let cells = [
            csv_text(&entry.name),
            network.network.name().to_owned(),
            csv_text(&network.model),
            found.count.to_string(),
            found.mean.to_string(),
            number(found.deviation),
            found.least.to_string(),
            found.greatest.to_string(),
            number(found.interval.map(|interval| interval.low)),
            number(found.interval.map(|interval| interval.high)),
            number(network.validation.map(|found| found.mean)),
            count(network.images),
            count(network.labels),
            network.parameters.to_string(),
        ];
        text += &cells.join(",");
        text.push('\n');
    }
    text
}

// A name as a cell. What a spreadsheet would take for a formula begins with an apostrophe, by which it takes it for text.
fn csv_text(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    let quoted = formula || text.contains([',', '"', '\n', '\r']);
    if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    // A run whose networks have these accuracies.
    fn run(seed: u64, teacher: bool, student: f64, baseline: f64) -> RunFigures {
        let model = |accuracy: f64, seconds: bool| {
            let seconds = if seconds { "1.5" } else { "null" };
            format!(r#"{{"model": "m", "parameters": 7, "bytes": 28, "accuracy": {accuracy}, "seconds": {seconds}}}"#)
        };
        let (teacher, student, baseline) = (model(0.98, teacher), model(student, true), model(baseline, true));
        let text = format!(
            r#"{{"dataset": {{"name": "digits", "train": 60, "test": 30}}, "seed": {seed},
                "models": {{"teacher": {teacher}, "student": {student}, "baseline": {baseline}}}}}"#
        );
        serde_json::from_str(&text).expect("figures")
    }

    pub fn entry(name: &str) -> Entry {
        let runs = [(0, 0.98, 0.81), (1, 0.97, 0.79), (2, 0.975, 0.80)];
        let runs = runs.map(|(seed, student, baseline)| run(seed, seed == 0, student, baseline));
        Entry { name: name.to_owned(), runs: runs.to_vec() }
    }

    #[test]
    fn a_shared_teacher_is_one_seed_and_students_are_paired() {
        let report = entry("g").report().expect("runs");
        let counts: Vec<(Role, usize)> = report.networks.iter().map(|n| (n.network, n.summary.count)).collect();
        assert_eq!(counts, [(Role::Teacher, 1), (Role::Student, 3), (Role::Baseline, 3)]);
        assert_eq!(report.seeds, [0, 1, 2]);
        let difference = &report.differences[0];
        // Differences 0.17, 0.18 and 0.175: mean 0.175, deviation 0.005, t 4.302653.
        let half = 4.302_652_729_749_46 * 0.005 / 3.0_f64.sqrt();
        let interval = difference.interval.expect("three seeds");
        assert!((interval.low - (0.175 - half)).abs() < 1e-12 && (interval.high - (0.175 + half)).abs() < 1e-12);
        assert_eq!(
            difference.says,
            "over 3 seeds the student is 17.5 points better than the baseline, 95 % interval 16.3 to 18.7"
        );
    }

    #[test]
    fn sentences_say_no_more_than_the_seeds() {
        let says = |ours: &[f64], theirs: &[f64]| {
            let by_seed = |values: &[f64]| (0..).zip(values.iter().copied()).collect::<Vec<(u64, f64)>>();
            Difference::between("a", &by_seed(ours), "b", &by_seed(theirs)).map(|found| found.says)
        };
        assert_eq!(
            says(&[0.5, 0.52, 0.51], &[0.51, 0.5, 0.515]).expect("three seeds"),
            "no difference between the a and the b that 3 seeds could show: 0.17 points on average, 95 % interval -3.83 to \
             4.16"
        );
        assert_eq!(
            says(&[0.5, 0.6, 0.55], &[0.7, 0.81, 0.74]).expect("three seeds"),
            "over 3 seeds the a is 20.0 points worse than the b, 95 % interval 17.5 to 22.5"
        );
        assert_eq!(
            says(&[0.75], &[0.5]).expect("a seed"),
            "at the one seed the a is 25.0 points better than the b; other seeds may differ"
        );
        assert_eq!(says(&[0.5], &[0.5]).expect("a seed"), "at the one seed the a is as good as the b");
        assert_eq!(says(&[], &[0.5]), None);
    }

    #[test]
    fn entries_are_compared_seed_by_seed_where_they_can_be() {
        let (first, mut other) = (entry("first"), entry("other"));
        other.runs.remove(0);
        let comparison = Comparison::of(&[first.clone(), other.clone()]);
        assert_eq!(comparison.between[0].seeds, [1, 2]);
        assert!(comparison.between[0].says.starts_with("no difference between the student of other"));
        other.runs.iter_mut().for_each(|run| run.seed += 10);
        let comparison = Comparison::of(&[first.clone(), other.clone()]);
        assert!(comparison.between.is_empty() && comparison.notes[0].contains("no seed in common"));
        other.runs.iter_mut().for_each(|run| run.dataset.test = 7);
        assert!(Comparison::of(&[first, other]).notes[0].contains("other samples"));
    }

    #[test]
    fn the_table_is_aligned_and_its_cells_are_text() {
        let comparison = Comparison::of(&[entry("first"), entry("=cmd|' /C calc'!A0")]);
        let text = table(&comparison);
        let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 7);
        let ends: Vec<Option<usize>> =
            lines.iter().map(|line| line.find(" %").filter(|_| line.starts_with("first"))).collect();
        assert_eq!(ends[1], ends[2]);
        let csv = csv(&comparison.entries);
        assert!(csv.contains("\n\"'=cmd|' /C calc'!A0\",teacher,m,1,0.98,,0.98,0.98,,,,,,7\n"), "{csv}");
        for (name, cell) in
            [("-1", "\"'-1\""), ("@a", "\"'@a\""), ("+a", "\"'+a\""), ("a,\"b", "\"a,\"\"b\""), ("a", "a")]
        {
            assert_eq!(csv_text(name), cell);
        }
    }
}
