//! The layers of a recipe, each a TOML table laid over the one before: a built-in recipe, the person's file, the flags, each
//! `--set`.
//!
//! A file that says `base = "none"`
//! stands alone, as the recipes that ship do, and one that says `base = "NAME"` is laid over the recipe of that name.

use std::path::Path;

use toml::{Table, Value};

use super::experiment::{Goal, Recipe};
use super::layer::Layer;
use super::table::{apply_assignment, listed_terms, merge, parse};
use super::{flags, library, smoke};
use crate::cli::Train;
use crate::dataset;
use crate::error::{Context, Failure, Result};
use crate::given::Given;

/// A recipe and where it came from, in words.
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    /// What was taken as its base.
    pub base: String,
    /// What its run folders are called before their number: the recipe's name, or the data set and the goal where flags alone
    /// say what to train.
    pub stem: String,
    /// What was accepted and means nothing here, a line each.
    pub notices: Vec<String>,
}

/// What a command line says of a recipe.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The flags.
    pub given: &'a Given,
    /// A file, or a recipe's name.
    pub recipe: Option<&'a Path>,
    /// `KEY=VALUE` each, laid over all else.
    pub set: &'a [String],
    /// Whether it is to be made small.
    pub smoke: bool,
}

impl<'a> From<&'a Train> for Request<'a> {
    fn from(options: &'a Train) -> Self {
        let Train { given, recipe, set, smoke, .. } = options;
        Self { given, recipe: recipe.as_deref(), set, smoke: *smoke }
    }
}

/// Layers the built-in recipe, the person's file and the command line.
///
/// # Errors
/// Exit code 2 naming the key that is unknown, misshapen or out of range; 1 if the file cannot be read.
pub fn resolve(request: &Request<'_>) -> Result<Resolved> {
    flags::check(request.given)?;
    let mut asked = Table::new();
    let mut base = None;
    let mut stem = request.recipe.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
    if let Some(path) = request.recipe {
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
    for assignment in request.set {
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
            let found = base_for(request, &asked, &sets)?;
            base = Some(found.name.to_owned());
            if found.name == library::FIRST {
                stem.get_or_insert_with(|| found.name.to_owned());
            }
            found.table()?
        }
    };
    merge(&mut table, asked);
    listed_terms(&mut table)?;
    let mut layer = Layer::new(table)?;
    let mut notices = flags::apply(&mut layer, request.given)?;
    merge(&mut layer.0, sets);
    let mut recipe = layer.recipe()?;
    if request.smoke {
        notices.extend(smoke::reduce(&mut recipe)?);
    }
    if recipe.objective == Goal::Distillation {
        recipe.data.find_unlabelled();
    }
    if request.given.has("data-path") && !recipe.data.takes_folders() {
        return Err(Failure::usage(format!(
            "--data-path is a folder of images, which {} is not read from; take --data-dir, or --dataset ImageNet",
            recipe.data.dataset
        )));
    }
    recipe.validate()?;
    let base = base.unwrap_or_else(|| "the file's own".to_owned());
    let of_flags = || format!("{}-{}", recipe.data.dataset.to_lowercase(), recipe.objective.name());
    let stem = stem.unwrap_or_else(of_flags);
    Ok(Resolved { recipe, base, stem, notices })
}

// The recipe that a command line without one, or a file without a base, starts from: its data set's.
fn base_for(request: &Request<'_>, asked: &Table, sets: &Table) -> Result<&'static library::Shipped> {
    let name = base_name(request, asked, sets)?;
    library::find(&name).ok_or_else(|| library::unknown(&name))
}

fn base_name(request: &Request<'_>, asked: &Table, sets: &Table) -> Result<String> {
    let given = request.given;
    // Whoever asks for nothing is shown what distillation is worth.
    let neutral = |name: &String| {
        ["--seed", "--seeds", "--teacher-per-seed", "--name", "--logdir", "--json"].contains(&name.as_str())
    };
    if request.recipe.is_none() && request.set.is_empty() && given.names().iter().all(neutral) {
        return Ok(library::FIRST.to_owned());
    }
    let key = |key: &str| {
        let in_table = |table: &Table| table.get("data").and_then(|data| data.get(key)).cloned();
        in_table(sets).or_else(|| in_table(asked))
    };
    let named = given.text("dataset").map(str::to_owned);
    let named = named.or_else(|| key("dataset").and_then(|v| v.as_str().map(str::to_owned)));
    let dataset = named.unwrap_or_else(|| usual_dataset(request).to_owned());
    let samples: Option<i64> = given.parsed("train-samples")?;
    let samples = samples.or_else(|| key("train_samples").and_then(|value: Value| value.as_integer()));
    (dataset::find(&dataset)?.start)(given, samples)
}

// The data set where none is named. A reference's own line needs no name: its flags are of one data set.
fn usual_dataset(request: &Request<'_>) -> &'static str {
    let given = request.given;
    match request.recipe {
        _ if given.has("data-path") => "imagenet",
        None if given.text("data-dir").is_some_and(|folder| dataset::is_of_pictures(Path::new(folder))) => "folder",
        None if given.has("distill-mode") => "cifar-10",
        None if given.method() == Some("CLS-KD") && !given.has("distillation") => "imagenet",
        _ => "digits",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use potstill_core::method::{Logits, Preset, Term};
    use potstill_core::train::TrainingRecipe;

    use super::*;
    use crate::cli::{Cli, Command};

    /// What a command line comes to.
    pub(in super::super) fn resolve_all(line: &str) -> Result<Resolved> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(Failure::usage)?;
        let Command::Train(options) = cli.command else { panic!("a train line") };
        resolve(&Request::from(options.as_ref()))
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
    fn run_folders_are_called_by_their_recipe() {
        let file = tempfile::Builder::new().prefix("my pictures").suffix(".v2.toml").tempfile().expect("a file");
        std::fs::write(file.path(), "base = 'digits'").expect("writes");
        let own = file.path().file_stem().expect("a name").to_string_lossy().into_owned();
        let cli = ["potstill", "train", &file.path().display().to_string()].map(str::to_owned);
        let Command::Train(options) = Cli::try_parse_from(cli).expect("a line").command else { panic!("a train line") };
        assert_eq!(resolve(&Request::from(options.as_ref())).expect("valid").stem, own);
        for (line, stem) in [
            ("potstill train", "digits-few-labels"),
            ("potstill train --seed 3", "digits-few-labels"),
            ("potstill train digits-dkd --epochs 1 --smoke", "digits-dkd"),
            ("potstill train --epochs 3", "digits-distillation"),
            ("potstill train --dataset MNIST --objective student", "mnist-student"),
        ] {
            assert_eq!(resolve_all(line).expect(line).stem, stem, "{line}");
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
            ("potstill train --labels 0", "baseline"),
            ("potstill train --labels 0 --set baseline=false", "alpha = 1"),
            (
                "potstill train --labels 0 --set baseline=false --distillation DKD --set distillation.alpha=1",
                "reads labels",
            ),
            ("potstill train --labels 0 --objective student", "labels alone"),
            ("potstill train --labels 0 --label-noise 0.2", "keeps none"),
            ("potstill train --objective student --unlabelled DIR", "asks none"),
            ("potstill train --label-noise 1.5", "between 0 and 1"),
            ("potstill train --set teacher.data.labels=0", "--teacher"),
            ("potstill train --set teacher.data.train_samples=0", "teacher.data.train_samples"),
            ("potstill train --set teacher.data.label_noise=2", "teacher.data.label_noise"),
            ("potstill train --set teacher.data.dataset=MNIST", "dataset"),
            ("potstill train --set student.data.labels=3", "[data]"),
            ("potstill train --correct-bias", "--omit"),
            ("potstill train --omit 3 --set data.shares=[0.5,0.5]", "correct_bias"),
            ("potstill train --omit 3 --correct-bias --set data.shares=[0.5,0.4]", "sum to 0.9"),
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
            let built_in = matches!(shipped.name, "digits" | "mnist" | "mnist-1000" | "pictures" | "pictures-few");
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

    #[test]
    fn digits_are_trained_as_the_page_trains_them() {
        let text = library::find("digits").expect("it ships").text;
        let recipe = Recipe::from_resolved(text).expect("valid");
        for network in [recipe.teacher().expect("a teacher"), recipe.student().expect("a student")] {
            assert_eq!(network.training(), TrainingRecipe::digits());
        }
    }
}
