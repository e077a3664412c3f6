//! The layers of a recipe, each a TOML table laid over the one before: a built-in recipe, the person's file, the flags, each
//! `--set`.
//!
//! Tables are merged key by key; a table of another `kind` replaces the one below it. A file that says `base = "none"`
//! stands alone, and one that says `base = "NAME"` is laid over the recipe of that name.

use toml::{Table, Value};

use super::{Recipe, flags, library, smoke};
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
    let mut asked = Table::new();
    let mut base = None;
    if let Some(path) = &options.recipe {
        // A file is what its path says, whatever recipes there are by that name.
        asked = match path.to_str().and_then(library::find).filter(|_| !path.exists()) {
            Some(found) => {
                base = Some(found.name.to_owned());
                parse(found.text, found.name)?
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
            let mut table = parse(found.text, found.name)?;
            base = Some(found.name.to_owned());
            table.remove("base");
            table
        }
        Some(_) => return Err(Failure::usage("base is the name of a recipe, or none")),
        None => {
            let found = library::base_for(options, &asked, &sets)?;
            base = Some(found.name.to_owned());
            let mut table = parse(found.text, found.name)?;
            table.remove("base");
            table
        }
    };
    merge(&mut table, asked);
    listed_terms(&mut table);
    let mut recipe = read(table)?;
    let notices = flags::apply(&mut recipe, options)?;
    // A number that TOML cannot hold is out of every range.
    let as_table = Table::try_from(&recipe);
    let mut table = as_table.map_err(|error| recipe.validate().err().unwrap_or_else(|| Failure::usage(error)))?;
    merge(&mut table, sets);
    let mut recipe = read(table)?;
    if options.smoke {
        smoke::reduce(&mut recipe)?;
    }
    recipe.validate()?;
    let base = base.unwrap_or_else(|| "the file's own".to_owned());
    Ok(Resolved { recipe, base, notices })
}

fn parse(text: &str, name: &str) -> Result<Table> {
    let parsed: Result<Table, toml::de::Error> = toml::from_str(text);
    parsed.map_err(|error| Failure::usage(format!("{name}: {error}")))
}

fn read(table: Table) -> Result<Recipe> {
    Value::Table(table).try_into().map_err(Failure::usage)
}

// `[[objective]]` tables are the terms of a distillation.
pub(super) fn listed_terms(table: &mut Table) {
    let Some(Value::Array(terms)) = table.get_mut("objective") else { return };
    let mut distillation = Table::new();
    distillation.insert("kind".into(), "terms".into());
    distillation.insert("terms".into(), Value::Array(std::mem::take(terms)));
    table.insert("distillation".into(), Value::Table(distillation));
    table.insert("objective".into(), "distillation".into());
}

fn apply_assignment(table: &mut Table, assignment: &str) -> Result<()> {
    let Some((key, text)) = assignment.split_once('=') else {
        return Err(Failure::usage(format!("--set {assignment:?} is not of the form KEY=VALUE")));
    };
    // A bare word is a string; anything TOML understands is what TOML says.
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| text.into());
    assign(table, key.trim(), value)
}

// Sets `a.b.c` in nested tables.
fn assign(table: &mut Table, path: &str, value: Value) -> Result<()> {
    match path.split_once('.') {
        None if path.is_empty() => Err(Failure::usage("--set needs a key before the equals sign")),
        None => {
            table.insert(path.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => assign(inner, rest, value),
                _ => Err(Failure::usage(format!("{first} is a value and has no {rest} in it"))),
            }
        }
    }
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
mod tests {
    use clap::Parser;

    use potstill_core::objective::{Matching, Mode, Normalisation, Objective, Part};
    use potstill_core::train::{Decay, Schedule};

    use super::super::{Goal, Trainable};
    use super::*;
    use crate::cli::{Cli, Command};

    fn resolve_line(line: &str) -> Result<Recipe> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(Failure::usage)?;
        let Command::Train(options) = cli.command else { panic!("a train line") };
        resolve(&options).map(|resolved| resolved.recipe)
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
            assert_eq!(Some(recipe.distillation.clone()), Objective::named(name), "{name}");
            let text = toml::to_string(&recipe).expect("serialises");
            assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe);
        }
        let line = "potstill train --distillation SAF+KD --set distillation.saf.weight=3 --set distillation.alpha=0.25";
        let Objective::Sum(sum) = resolve_line(line).expect("a valid line").distillation else { panic!("a sum") };
        assert_eq!((sum.alpha, sum.saf.map(|saf| saf.weight)), (0.25, Some(3.0)));
        let line = "potstill train --distillation CLS-KD --set student.vit.class_token=true --set \
                    student.vit.pool=class --set teacher.vit.class_token=true --set teacher.vit.pool=class";
        resolve_line(line).expect("both networks have a class token");
    }

    #[test]
    fn nonsense_is_refused_with_its_key() {
        for (line, key) in [
            ("potstill train --set student.vti.depth=2", "vti"),
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

    fn resolved_line(line: &str) -> (Recipe, Vec<String>) {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Train(options) = cli.command else { panic!("a train line") };
        let resolved = resolve(&options).unwrap_or_else(|failure| panic!("{line}: {failure}"));
        (resolved.recipe, resolved.notices)
    }

    #[test]
    fn every_recipe_that_ships_is_valid_and_says_what_it_is() {
        for shipped in library::RECIPES {
            let (recipe, _) = resolved_line(&format!("potstill train {}", shipped.name));
            let text = toml::to_string(&recipe).unwrap_or_else(|error| panic!("{}: {error}", shipped.name));
            assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe, "{}", shipped.name);
            let built_in = matches!(shipped.name, "digits" | "mnist" | "mnist-1000");
            assert_eq!(recipe.about.is_none(), built_in, "{}", shipped.name);
            resolved_line(&format!("potstill train {} --smoke", shipped.name));
        }
    }

    #[test]
    fn dvitsafs_lines_mean_what_they_meant() {
        let line = "potstill train --objective teacher --dataset CIFAR-100 --batch_size 64";
        let (recipe, _) = resolved_line(line);
        let teacher = recipe.teacher().expect("a teacher");
        assert_eq!((recipe.objective, recipe.data.dataset.as_str()), (Goal::Teacher, "CIFAR-100"));
        assert_eq!((teacher.model.as_str(), teacher.trainable), ("vit_large_patch16_224", Trainable::Head));
        assert_eq!((teacher.batch_size, teacher.epochs, teacher.lr), (64, 40, 1e-4));
        assert_eq!((teacher.schedule, teacher.optimiser.kind), (Schedule::Constant, Decay::Adam));
        assert_eq!(teacher.config("teacher").expect("valid").classes(), 100);

        let line = "potstill train --objective distillation --distillation SAF --dataset CIFAR-100 --batch_size 256";
        let (recipe, _) = resolved_line(line);
        assert_eq!(recipe.objective, Goal::Distillation);
        let Objective::Sum(sum) = &recipe.distillation else { panic!("a sum") };
        assert_eq!((sum.alpha, sum.smoothing, sum.kd.is_none()), (0.5, 0.0, true));
        assert_eq!(sum.saf.as_ref().map(|saf| saf.weight), Some(1.0));
        let student = recipe.student().expect("a student");
        assert_eq!((student.model.as_str(), student.batch_size), ("vit_tiny_patch16_224", 256));

        let (recipe, _) = resolved_line("potstill train --objective student --dataset CIFAR-100 --batch_size 64");
        assert_eq!((recipe.objective, recipe.student().expect("a student").batch_size), (Goal::Student, 64));
        // Its options with their defaults.
        let line = "potstill train --objective distillation --distillation SAF+KD --dataset Flowers-102 --batch_size 256 \
                    --epochs 40 --lr 0.0001 --logdir ./logs";
        let (recipe, _) = resolved_line(line);
        let Objective::Sum(sum) = &recipe.distillation else { panic!("a sum") };
        let kd = sum.kd.as_ref().expect("logits");
        assert_eq!((kd.weight, kd.temperature, kd.normalisation), (1.0, 2.0, Normalisation::Numel));
        assert_eq!(recipe.student().expect("a student").config("student").expect("valid").classes(), 102);
    }

    const CLS_KD: &str = "--distributed --output_dir OUT --data-path DIR --teacher-path FILE --model \
        deit_tiny_patch16_224 --teacher-model deit_base_patch16_224 --distillation-type soft --distillation-alpha 1 \
        --distillation-beta 1 --manifold --w-cls 1.0 --w-atn 2.0 --last-w 4.0 --K 192 --s-id 0 1 2 3 8 9 10 11 --t-id \
        0 1 2 3 8 9 10 11 --drop-path 0 --batch-size 128 --seed 0";

    #[test]
    fn cls_kds_line_means_what_it_meant() {
        let (recipe, notices) = resolved_line(&format!("potstill train {CLS_KD}"));
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains("--distributed"));
        assert_eq!((recipe.objective, recipe.seed), (Goal::Distillation, 0));
        assert_eq!(recipe.data.dataset.to_ascii_lowercase(), "imagenet");
        assert_eq!(recipe.data.data_dir.as_deref(), Some(std::path::Path::new("DIR")));
        assert!(recipe.teacher_weights.as_ref().is_some_and(|path| path.ends_with("FILE")));
        assert_eq!(recipe.teacher().expect("a teacher").model, "deit_base_patch16_224");
        let student = recipe.student().expect("a student");
        assert_eq!((student.model.as_str(), student.batch_size, student.epochs), ("deit_tiny_patch16_224", 128, 300));
        assert!((student.peak() / (5e-4 * 128.0 / 512.0) - 1.0).abs() < 1e-12);
        let Objective::Terms { terms } = &recipe.distillation else { panic!("a list of terms") };
        let [
            Part::Labels { weight: labels, .. },
            Part::Logits { weight, temperature, normalisation, .. },
            Part::ClassToken(class),
            Part::Manifold(manifold),
        ] = &terms[..]
        else {
            panic!("four terms: {terms:?}")
        };
        assert_eq!((*labels, *weight, *temperature, *normalisation), (0.0, 1.0, 1.0, Normalisation::Batchmean));
        assert_eq!((class.weight, class.map_weight, class.last_weight), (1.0, 2.0, 4.0));
        assert_eq!((class.matching, class.detach_weights), (Matching::Projector, false));
        let pairs = [0, 1, 2, 3, 8, 9, 10, 11].map(|block| [block, block]);
        assert_eq!((&class.pairs[..], &manifold.pairs[..]), (&pairs[..], &pairs[..]));
        let weights = (manifold.weight, manifold.sample, manifold.patch, manifold.random, manifold.rows);
        assert_eq!(weights, (1.0, 0.1, 4.0, 0.2, 192));
        // The same numbers as the recipe of the row, where both name them.
        let (row, _) = resolved_line("potstill train cls-kd-deit-ti");
        assert_eq!(row.distillation.parts()[1..], recipe.distillation.parts()[1..]);
        // It is measured by the same line with --eval.
        let line = format!("potstill train --eval {CLS_KD} --resume FILE");
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
        let Command::Train(options) = cli.command else { panic!("a train line") };
        assert!(options.eval && options.resume == Some(Some("FILE".into())));
    }

    #[test]
    fn deits_lines_mean_what_they_meant() {
        let line = "potstill train --model deit_tiny_distilled_patch16_224 --batch-size 256 --data-path DIR --output_dir OUT \
                    --teacher-path FILE --teacher-model regnety_160 --distillation-type hard --num_workers 10 --pin-mem";
        let (recipe, notices) = resolved_line(line);
        assert_eq!(notices.len(), 2, "{notices:?}");
        let Objective::Deit(deit) = &recipe.distillation else { panic!("DeiT's") };
        assert_eq!((deit.mode, deit.alpha, deit.temperature), (Mode::Hard, 0.5, 1.0));
        assert_eq!((deit.normalisation, deit.teacher_smoothing), (Normalisation::Numel, 0.0));
        let student = recipe.student().expect("a student");
        assert_eq!(student.schedule.name(), "deit");
        assert_eq!((student.optimiser.ema, student.optimiser.weight_decay), (Some(0.99996), 0.05));
        assert_eq!(student.config("student").expect("valid").shape().tokens, 198);
        let line = "potstill train --model deit_small_patch16_224 --data-path DIR --drop-path 0.2 --sched cosine --warmup-epochs \
                    10 --warmup-lr 2e-6 --min-lr 2e-5 --opt adamw --weight-decay 0.1 --clip-grad 1 --no-model-ema";
        let (recipe, _) = resolved_line(line);
        let student = recipe.student().expect("a student");
        assert_eq!(recipe.objective, Goal::Student);
        let schedule = Schedule::Deit { warmup_epochs: 10, warmup_lr: 2e-6, min_lr: 2e-5, epochs: None };
        assert_eq!((student.schedule, student.optimiser.ema), (schedule, None));
        assert_eq!((student.optimiser.weight_decay, student.optimiser.clip_norm), (0.1, Some(1.0)));
    }

    #[test]
    fn the_cifar_projects_modes_and_retrospection_are_taken() {
        for (mode, goal) in [
            ("none", Goal::Student),
            ("class", Goal::Student),
            ("soft", Goal::Distillation),
            ("hard", Goal::Distillation),
            ("distill", Goal::Distillation),
            ("both", Goal::Distillation),
        ] {
            let (recipe, _) = resolved_line(&format!("potstill train --distill_mode {mode}"));
            assert_eq!((recipe.objective, recipe.data.dataset.as_str()), (goal, "CIFAR-10"), "{mode}");
            let student = recipe.student().expect("a student");
            assert!((student.peak() - 6.25e-5).abs() < 1e-12 && student.optimiser.decay_all);
            if let Objective::Deit(deit) = &recipe.distillation {
                let known = Mode::ALL.into_iter().find(|(name, _)| *name == mode).map(|(_, mode)| mode);
                // Its criterion smooths the teacher's label too, where there is one.
                let smoothing = if goal == Goal::Distillation { 0.1 } else { 0.0 };
                assert_eq!((Some(deit.mode), deit.temperature, deit.teacher_smoothing), (known, 2.0, smoothing));
            }
        }
        let line = "potstill train --objective student --smoothing 0.1";
        assert_eq!(resolved_line(line).0.student().expect("a student").smoothing, 0.1);
        let line = "potstill train --objective student --retrospect --lwr-k 1 --lwr-update-rate 0.9 --lwr-tau 5 \
                    --lwr-max-epochs 20";
        let (recipe, _) = resolved_line(line);
        let past = recipe.student().expect("a student").retrospection.clone().expect("a past");
        assert_eq!((past.k, past.update_rate, past.temperature, past.max_epochs), (1, 0.9, 5.0, 20));
    }

    #[test]
    fn a_list_of_terms_in_a_file_is_a_distillation() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "[[objective]]\nterm = \"labels\"\nweight = 0.25\n[[objective]]\nterm = \"logits\"\nweight = 0.75\n\
                    temperature = 3.0\n[[objective]]\nterm = \"attention\"\nweight = 2.0\n";
        std::fs::write(file.path(), text).expect("writes");
        let (recipe, _) = resolved_line(&format!("potstill train {}", file.path().display()));
        assert_eq!(recipe.objective, Goal::Distillation);
        let Objective::Terms { terms } = &recipe.distillation else { panic!("a list") };
        assert_eq!(terms.len(), 3);
        assert!(matches!(terms[1], Part::Logits { weight: 0.75, temperature: 3.0, .. }));
        let text = toml::to_string(&recipe).expect("serialises");
        assert_eq!(Recipe::from_resolved(&text).expect("reads back"), recipe);
    }
}
