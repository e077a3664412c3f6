//! The layers of a recipe, each a TOML table laid over the one before: a built-in recipe, the person's file, the flags, each
//! `--set`.
//!
//! Tables are merged key by key; a table of another `kind` replaces the one below it. A file that says `base = "none"`
//! stands alone, as the recipes that ship do, and one that says `base = "NAME"` is laid over the recipe of that name.

use toml::{Table, Value};

use super::{NetworkRecipe, Recipe, flags, library, smoke};
use crate::cli::Train;
use crate::error::{Context, Failure, Result};

/// A recipe and where it came from, in words.
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    /// What was taken as its base.
    pub base: String,
    /// What was accepted and means nothing here, a line each.
    pub notices: Vec<String>,
}

/// Layers the built-in recipe, the person's file and the command line.
///
/// # Errors
/// Exit code 2 naming the key that is unknown, misshapen or out of range; 1 if the file cannot be read.
pub fn resolve(options: &Train) -> Result<Resolved> {
    flags::check(&options.given)?;
    let mut asked = Table::new();
    let mut base = None;
    if let Some(path) = &options.recipe {
        // A file is what its path says, whatever recipes there are by that name.
        asked = match path.to_str().and_then(library::find).filter(|_| !path.exists()) {
            Some(found) => {
                base = Some(found.name.to_owned());
                found.table()?
            }
            // A bare word is meant as a name.
            None if !path.exists() && path.extension().is_none() && path.components().count() == 1 => {
                return Err(library::unknown(&path.display().to_string()));
            }
            None => {
                let text = std::fs::read_to_string(path);
                let text = text.context(format_args!("cannot read the recipe {}", path.display()))?;
                parse(&text, &path.display().to_string())?
            }
        };
    }
    let mut sets = Table::new();
    for assignment in &options.set {
        apply_assignment(&mut sets, assignment)?;
    }
    let mut table = match asked.remove("base") {
        Some(Value::String(name)) if name == "none" => Table::new(),
        Some(Value::String(name)) => {
            let found = library::find(&name).ok_or_else(|| library::unknown(&name))?;
            base = Some(found.name.to_owned());
            found.table()?
        }
        Some(_) => return Err(Failure::usage("base is the name of a recipe, or none")),
        // A recipe that ships stands by itself.
        None if base.is_some() => Table::new(),
        None => {
            let found = library::base_for(options, &asked, &sets)?;
            base = Some(found.name.to_owned());
            found.table()?
        }
    };
    merge(&mut table, asked);
    listed_terms(&mut table)?;
    let mut layer = Layer::new(table)?;
    let mut notices = flags::apply(&mut layer, &options.given)?;
    merge(&mut layer.0, sets);
    let mut recipe = layer.recipe()?;
    if options.smoke {
        notices.extend(smoke::reduce(&mut recipe)?);
    }
    if options.given.has("data-path") && !recipe.data.takes_folders() {
        return Err(Failure::usage(format!(
            "--data-path is a folder of images, which {} is not read from; take --data-dir, or --dataset ImageNet",
            recipe.data.dataset
        )));
    }
    recipe.validate()?;
    let base = base.unwrap_or_else(|| "the file's own".to_owned());
    Ok(Resolved { recipe, base, notices })
}

pub(super) fn parse(text: &str, name: &str) -> Result<Table> {
    let parsed: Result<Table, toml::de::Error> = toml::from_str(text);
    parsed.map_err(|error| Failure::usage(format!("{name}: {error}")))
}

/// What became of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Laid {
    /// It is set.
    Done,
    /// The recipe has no place for it.
    NoPlace,
    /// The recipe has no such section.
    NoSection,
}

/// A recipe in the making: its table, with every key that has a value.
pub(super) struct Layer(Table);

impl Layer {
    fn new(table: Table) -> Result<Self> {
        let mut layer = Self(table.clone());
        layer.rewrite(|_| Ok(()))?;
        // A section that does nothing is left out of a recipe, and its numbers are still below those that come.
        merge(&mut layer.0, table);
        Ok(layer)
    }

    fn recipe(&self) -> Result<Recipe> {
        let read = Value::Table(self.0.clone()).try_into();
        read.map_err(|error: toml::de::Error| {
            let nearest = nearest(error.message()).map(|name| format!("; the nearest is `{name}`"));
            Failure::usage(format!("{error}{}", nearest.unwrap_or_default()))
        })
    }

    /// Changes the recipe as a whole.
    ///
    /// # Errors
    /// Exit code 2 if it is none, and what the change fails with.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Recipe) -> Result<()>) -> Result<()> {
        let mut recipe = self.recipe()?;
        change(&mut recipe)?;
        self.0 = Table::try_from(&recipe).map_err(Failure::usage)?;
        Ok(())
    }

    /// Changes the section of each network.
    ///
    /// # Errors
    /// As [`Layer::rewrite`].
    pub fn each(&mut self, change: impl FnMut(&mut NetworkRecipe)) -> Result<()> {
        self.rewrite(|recipe| {
            [recipe.teacher.as_mut(), recipe.student.as_mut()].into_iter().flatten().for_each(change);
            Ok(())
        })
    }

    /// A section of the recipe.
    pub fn section(&mut self, name: &str) -> Option<&mut Table> {
        self.0.get_mut(name).and_then(Value::as_table_mut)
    }

    /// The text of a key, given by its parts.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, part| value.get(part))?.as_str()
    }

    // The section of the network that learns by the recipe's objective.
    fn learner_name(&self) -> &'static str {
        if self.text(&["objective"]) == Some("teacher") { "teacher" } else { "student" }
    }

    /// Sets a key, whose section may be called `learner`; after a part with a question mark only what is there is set.
    ///
    /// # Errors
    /// Exit code 2 for a key below a value.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<Laid> {
        let Some((section, rest)) = key.split_once('.') else { return lay(&mut self.0, key, value) };
        let section = if section == "learner" { self.learner_name() } else { section };
        self.section(section).map_or(Ok(Laid::NoSection), |table| lay(table, rest, value))
    }
}

// Sets `a.b.c` in nested tables, or `b.c` in each of a list of terms that is called b.
fn lay(table: &mut Table, path: &str, value: &Value) -> Result<Laid> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, only_there) = first.strip_suffix('?').map_or((first, false), |name| (name, true));
    let there = table.contains_key(name);
    if let (Some(rest), false, Some(Value::Array(terms))) = (rest, there, table.get_mut("terms")) {
        let called = name.replace('_', "-");
        let mut laid = Laid::NoPlace;
        for term in terms.iter_mut().filter_map(Value::as_table_mut) {
            if term.get("term").and_then(Value::as_str) == Some(&called) {
                laid = lay(term, rest, value)?;
            }
        }
        return Ok(laid);
    }
    if name.is_empty() {
        return Err(Failure::usage("--set needs a key before the equals sign"));
    }
    match rest {
        _ if only_there && !there => Ok(Laid::NoPlace),
        None => {
            table.insert(name.to_owned(), value.clone());
            Ok(Laid::Done)
        }
        Some(rest) => match table.entry(name).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => lay(inner, rest, value),
            _ => Err(Failure::usage(format!("{name} is a value and has no {rest} in it"))),
        },
    }
}

// The known key or word that is nearest to the one that is not known.
fn nearest(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown"))?;
    let (distance, name) = quoted.map(|name| (distance(unknown, name), name)).min()?;
    (2 * distance <= name.len().max(unknown.len())).then_some(name)
}

// How many letters are to be put in, left out, exchanged for others or for their neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(row[j - 1] + 1).min(rows[i - 1][j] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

// `[[objective]]` tables are the terms of a distillation.
pub(super) fn listed_terms(table: &mut Table) -> Result<()> {
    let Some(Value::Array(terms)) = table.get_mut("objective") else { return Ok(()) };
    let named = |term: &Value, name: &str| term.get("term").and_then(Value::as_str) == Some(name);
    if terms.iter().any(|term| named(term, "retrospection")) {
        return Err(Failure::usage(
            "retrospection is no term of a distillation, since it needs what the student said before; give the student \
             a section for it, [student.retrospection], or --retrospect",
        ));
    }
    let mut distillation = Table::new();
    distillation.insert("kind".into(), "terms".into());
    distillation.insert("terms".into(), Value::Array(std::mem::take(terms)));
    table.insert("distillation".into(), Value::Table(distillation));
    table.insert("objective".into(), "distillation".into());
    Ok(())
}

fn apply_assignment(table: &mut Table, assignment: &str) -> Result<()> {
    let Some((key, text)) = assignment.split_once('=') else {
        return Err(Failure::usage(format!("--set {assignment:?} is not of the form KEY=VALUE")));
    };
    match lay(table, key.trim(), &value_of(text))? {
        Laid::Done => Ok(()),
        _ => Err(Failure::usage(format!("--set: a recipe has no key {key:?}"))),
    }
}

/// A value as it is written: what TOML understands is what TOML says, and a bare word is a string.
pub(super) fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    parsed.and_then(|mut parsed| parsed.remove("value")).unwrap_or_else(|| text.into())
}

// Lays `over` on `table`: tables are merged key by key, anything else is replaced. Tables of two kinds have nothing in
// common: the numbers of one objective or schedule do not fit another.
pub(super) fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => {
                if value.get("kind").is_some_and(|kind| inner.get("kind").is_some_and(|other| other != kind)) {
                    inner.clear();
                }
                merge(inner, value);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use potstill_core::method::{Logits, Preset, Term};

    use super::super::Goal;
    use super::*;
    use crate::cli::{Cli, Command};

    /// What a command line comes to.
    pub(in super::super) fn resolve_all(line: &str) -> Result<Resolved> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(Failure::usage)?;
        let Command::Train(options) = cli.command else { panic!("a train line") };
        resolve(&options)
    }

    fn resolve_line(line: &str) -> Result<Recipe> {
        resolve_all(line).map(|resolved| resolved.recipe)
    }

    #[test]
    fn every_built_in_recipe_is_valid() {
        for line in
            ["potstill train", "potstill train --dataset MNIST", "potstill train --dataset mnist --train-samples 1000"]
        {
            let recipe = resolve_line(line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
            let text = toml::to_string(&recipe).expect("serialises");
            assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe);
        }
    }

    #[test]
    fn flags_beat_the_recipe_and_set_beats_flags() {
        let line = "potstill train --epochs 7 --lr 0.5 --batch_size 3 --set student.epochs=2 --set student.vit.depth=1";
        let recipe = resolve_line(line).expect("a valid line");
        let (teacher, student) = (recipe.teacher().expect("a teacher"), recipe.student().expect("a student"));
        assert_eq!((teacher.epochs, student.epochs), (7, 2));
        assert_eq!((teacher.lr, student.batch_size), (0.5, 3));
        assert_eq!(student.config("student").expect("valid").shape().depth, 1);
    }

    #[test]
    fn a_named_distillation_replaces_the_built_in_one() {
        for name in ["KD", "KD-numel", "SAF", "SAF+KD", "MANIFOLD", "KD+MANIFOLD", "DistillViT", "soft", "hard", "none"]
        {
            let recipe = resolve_line(&format!("potstill train --distillation {name}")).expect(name);
            assert_eq!(Some(recipe.distillation.clone()), Preset::named(name), "{name}");
            let text = toml::to_string(&recipe).expect("serialises");
            assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe);
        }
        let line = "potstill train --distillation SAF+KD --set distillation.saf.weight=3 --set distillation.alpha=0.25";
        let Preset::Sum(sum) = resolve_line(line).expect("a valid line").distillation else { panic!("a sum") };
        assert_eq!((sum.alpha, sum.saf.map(|saf| saf.weight)), (0.25, Some(3.0)));
        let line = "potstill train --distillation CLS-KD --set student.vit.class_token=true --set \
                    student.vit.pool=class --set teacher.vit.class_token=true --set teacher.vit.pool=class";
        resolve_line(line).expect("both networks have a class token");
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        for (line, key) in [
            ("potstill train --set student.vti.depth=2", "the nearest is `vit`"),
            ("potstill train --set student.optimiser.betta_1=0.5", "the nearest is `beta_1`"),
            ("potstill train --set student.resnet.width=2", "student.vit"),
            ("potstill train --set student.vit.family=resnet", "family"),
            ("potstill train --set student.vit.heads=7", "heads"),
            ("potstill train --epochs 0", "epochs"),
            ("potstill train --lr nan", "lr"),
            ("potstill train --set distillation.alpha=2", "alpha"),
            ("potstill train --set seed", "KEY=VALUE"),
            ("potstill train --set student.vit.image_size=14", "image_size"),
            ("potstill train --train-samples 0", "train_samples"),
            ("potstill train --dataset nonesuch", "nonesuch"),
            ("potstill train --distillation nonesuch", "nonesuch"),
            ("potstill train --distillation both", "distillation token"),
            ("potstill train --distillation CLS-KD", "class token"),
            ("potstill train --set student.schedule.kind=step", "every"),
            ("potstill train --warmup-lr 1e-6", "--sched deit"),
            ("potstill train --sched nonesuch", "nonesuch"),
            ("potstill train --lwr-k 3", "--retrospect"),
            ("potstill train --objective student --retrospect --mixup 0.8", "mixed images"),
            ("potstill train nonesuch-recipe", "nonesuch-recipe"),
            ("potstill train --distillation KD --distill-mode hard", "--distill-mode"),
            ("potstill train --s-id 0 1 --t-id 0", "--t-id"),
            ("potstill train --distillation SAF --linear-probe", "linear probe"),
            ("potstill train --distillation SAF --teacher-cache DIR", "logits"),
            ("potstill train --teacher-cache DIR --teacher-cache-top 10", "classes"),
            ("potstill train --readout distill", "distillation head"),
            ("potstill train --set teacher.vit.classes=7", "classes"),
            ("potstill train --set teacher.vit.image_size=56", "image_size"),
            ("potstill train --set teacher.vit.channels=3", "channels"),
            ("potstill train --set teacher.vit.distillation_token=true", "teacher"),
            ("potstill train --distillation class", "class token"),
            (
                "potstill train --objective distillation --set distillation.kind=labels --set distillation.smoothing=0.0",
                "asks a teacher nothing",
            ),
            ("potstill train --set student.schedule.warmup=1.5", "schedule.warmup"),
            ("potstill train --set student.optimiser.ema=1", "optimiser.ema"),
            ("potstill train --set student.accumulate=33", "accumulate"),
            ("potstill train --distillation SAF --set student.vit.patch_size=14", "tokens"),
            ("potstill train --distillation SAF --set distillation.saf.weihgt=2", "weihgt"),
            ("potstill train --distillation SAF --set distillation.saf.weight=-2", "saf.weight"),
        ] {
            let failure = resolve_line(line).expect_err(line);
            assert_eq!(failure.code(), 2, "{line}");
            assert!(failure.to_string().contains(key), "{line}: {failure}");
        }
    }

    #[test]
    fn every_recipe_that_ships_is_valid_and_says_what_it_is() {
        for shipped in library::RECIPES {
            let line = format!("potstill train {}", shipped.name);
            let recipe = resolve_line(&line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
            let text = toml::to_string(&recipe).unwrap_or_else(|error| panic!("{}: {error}", shipped.name));
            assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe, "{}", shipped.name);
            let built_in = matches!(shipped.name, "digits" | "mnist" | "mnist-1000");
            let of_a_start = built_in || !shipped.text.contains("\nbase = \"none\"");
            assert_eq!(recipe.about.is_none(), built_in, "{}", shipped.name);
            // A published figure does not change with what is usual.
            assert_eq!(recipe.data.preprocess.is_none(), of_a_start, "{}", shipped.name);
            let line = format!("{line} --smoke");
            resolve_line(&line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
        }
    }

    #[test]
    fn a_list_of_terms_in_a_file_is_a_distillation() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "[[objective]]\nterm = \"labels\"\nweight = 0.25\n[[objective]]\nterm = \"logits\"\nweight = 0.75\n\
                    temperature = 3.0\n[[objective]]\nterm = \"saf\"\nweight = 2.0\n";
        std::fs::write(file.path(), text).expect("writes");
        let recipe = resolve_line(&format!("potstill train {}", file.path().display())).expect("a valid file");
        assert_eq!(recipe.objective, Goal::Distillation);
        let Preset::Terms { terms } = &recipe.distillation else { panic!("a list") };
        assert_eq!(terms.len(), 3);
        assert!(matches!(terms[1], Term::Logits(Logits { weight: 0.75, temperature: 3.0, .. })));
        let text = toml::to_string(&recipe).expect("serialises");
        assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe);
        let past = "[[objective]]\nterm = \"labels\"\n[[objective]]\nterm = \"retrospection\"\nweight = 0.1\n\
                    temperature = 5.0\n";
        std::fs::write(file.path(), past).expect("writes");
        let failure = resolve_line(&format!("potstill train {}", file.path().display())).expect_err("no such term");
        assert!(failure.code() == 2 && failure.to_string().contains("[student.retrospection]"), "{failure}");
    }
}
