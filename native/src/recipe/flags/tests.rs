//! What command lines come to: the references' own first, then ours.

use clap::Parser;
use potstill_core::method::{Labels, Logits, Matching, Mode, Normalisation, Preset, TeacherLabels, Term};
use potstill_core::train::{Decay, Schedule};

use super::super::experiment::{Goal, Recipe, Trainable};
use super::super::layers::tests::resolve_all;
use crate::cli::{Cli, Command};

fn resolved_line(line: &str) -> (Recipe, Vec<String>) {
    let resolved = resolve_all(line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
    (resolved.recipe, resolved.notices)
}

/// What is said of a line that is refused.
fn refusal(line: &str) -> String {
    let failure = resolve_all(line).err().unwrap_or_else(|| panic!("{line} is taken"));
    assert_eq!(failure.code(), 2, "{line}: {failure}");
    failure.to_string()
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
    let Preset::Sum(sum) = &recipe.distillation else { panic!("a sum") };
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
    let Preset::Sum(sum) = &recipe.distillation else { panic!("a sum") };
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
    assert!(recipe.data.data_dir.as_ref().is_some_and(|path| path.is_absolute() && path.ends_with("DIR")));
    assert!(recipe.teacher_weights.as_ref().is_some_and(|path| path.ends_with("FILE")));
    assert_eq!(recipe.teacher().expect("a teacher").model, "deit_base_patch16_224");
    let student = recipe.student().expect("a student");
    assert_eq!((student.model.as_str(), student.batch_size, student.epochs), ("deit_tiny_patch16_224", 128, 300));
    assert!((student.training().peak() / (5e-4 * 128.0 / 512.0) - 1.0).abs() < 1e-12);
    let Preset::Terms { terms } = &recipe.distillation else { panic!("a list of terms") };
    let [
        Term::Labels(Labels { weight: labels, .. }),
        Term::Logits(Logits { weight, temperature, normalisation, .. }),
        Term::ClassToken(class),
        Term::Manifold(manifold),
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
    assert_eq!(row.distillation.objective().terms()[1..], recipe.distillation.objective().terms()[1..]);
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
    let Preset::Deit(deit) = &recipe.distillation else { panic!("DeiT's") };
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
        assert!((student.training().peak() - 6.25e-5).abs() < 1e-12 && student.optimiser.decay_all);
        if let Preset::Deit(deit) = &recipe.distillation {
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
fn cls_kds_options_change_the_distillation_that_is_named() {
    let named = || match Preset::named("CLS-KD") {
        Some(Preset::Sum(sum)) => sum,
        other => panic!("{other:?}"),
    };
    let line = "potstill train --dataset ImageNet --distillation CLS-KD --last-w 2 --K 64 --dim-match relation --s-id 0 11 \
                --t-id 0 11 --distillation-alpha 0.75 --distillation-tau 3";
    let mut expected = named();
    expected.alpha = 0.75;
    expected.kd.as_mut().expect("logits").temperature = 3.0;
    let class_token = expected.class_token.as_mut().expect("a class token");
    (class_token.last_weight, class_token.matching) = (2.0, Matching::Relation);
    class_token.pairs = vec![[0, 0], [11, 11]];
    let manifold = expected.manifold.as_mut().expect("a manifold");
    (manifold.rows, manifold.pairs) = (64, vec![[0, 0], [11, 11]]);
    assert_eq!(resolved_line(line).0.distillation, Preset::Sum(expected));
    let (recipe, _) = resolved_line("potstill train --dataset ImageNet --distillation CLS-KD --no-manifold");
    let mut expected = named();
    expected.manifold = None;
    assert_eq!(recipe.distillation, Preset::Sum(expected));
    // And those of a recipe.
    let Preset::Sum(mut row) = resolved_line("potstill train cls-kd-deit-s").0.distillation else { panic!("a sum") };
    row.manifold.as_mut().expect("a manifold").weight = 0.5;
    let (recipe, _) = resolved_line("potstill train cls-kd-deit-s --distillation-beta 0.5");
    assert_eq!(recipe.distillation, Preset::Sum(row));
    let line = "potstill train --dataset ImageNet --distillation CLS+MANIFOLD --w-atn 3 --w-rand 0.5";
    let Preset::Sum(sum) = resolved_line(line).0.distillation else { panic!("a sum") };
    assert_eq!((sum.class_token.map(|c| c.map_weight), sum.manifold.map(|m| m.random)), (Some(3.0), Some(0.5)));
    // Its own command says by --distillation-type what is taught beside.
    for (kind, beside) in [("none", "labels"), ("hard", "teacher-labels")] {
        let (recipe, _) = resolved_line(&format!("potstill train --distillation-type {kind} --last-w 2 --no-manifold"));
        let objective = recipe.distillation.objective();
        let weights: Vec<f64> = match objective.terms() {
            [Term::Labels(Labels { weight, .. }), Term::ClassToken(class)] if beside == "labels" => {
                vec![*weight, class.last_weight]
            }
            [Term::Labels(_), Term::TeacherLabels(TeacherLabels { weight, .. }), Term::ClassToken(class)] => {
                vec![2.0 * weight, class.last_weight]
            }
            other => panic!("{kind}: {other:?}"),
        };
        assert_eq!(weights, [1.0, 2.0], "{kind}");
    }
    for (line, word) in [
        ("--distillation KD --w-cls 1", "--w-cls"),
        ("--distillation KD --manifold", "--manifold"),
        ("--distillation CLS --K 64", "--K"),
        ("--distillation SAF --s-id 0 --t-id 0", "--s-id"),
        ("--distill-mode soft --last-w 2", "--last-w"),
        ("digits --last-w 2", "--distillation CLS-KD"),
        ("--distillation KD --distillation-type soft", "--distillation-type"),
        ("--distill-mode soft --distillation-type soft", "--distillation-type"),
    ] {
        let said = refusal(&format!("potstill train {line}"));
        assert!(said.contains(word), "{line}: {said}");
    }
}

#[test]
fn a_recipe_or_a_data_set_that_is_named_is_the_base() {
    let class_tokens = "--set student.vit.class_token=true --set student.vit.pool=class --set \
                        teacher.vit.class_token=true --set teacher.vit.pool=class";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.toml");
    std::fs::write(&file, "[student]\nepochs = 7\n").expect("writes");
    let file = file.display();
    for (line, base, dataset) in [
        ("digits --distill-mode soft", "digits", "digits"),
        ("--dataset digits --distill-mode soft", "digits", "digits"),
        ("--set data.dataset=digits --distill-mode soft", "digits", "digits"),
        (&format!("{file} --distill-mode soft"), "digits", "digits"),
        (&format!("digits --distillation CLS-KD --last-w 2 {class_tokens}"), "digits", "digits"),
        (&format!("--dataset digits --distillation CLS-KD --last-w 2 {class_tokens}"), "digits", "digits"),
        (&format!("--distillation CLS-KD --last-w 2 {class_tokens}"), "digits", "digits"),
        ("mnist --train-samples 1000", "mnist", "MNIST"),
        ("digits --dataset MNIST", "digits", "MNIST"),
        ("--distill-mode soft", "deit-cifar-10-soft", "CIFAR-10"),
        ("--dataset cifar-10 --distill-mode both", "deit-cifar-10-both-soft", "cifar-10"),
        ("--dataset CIFAR-100 --distill-mode soft", "dvitsaf-cifar-100-saf", "CIFAR-100"),
        ("--last-w 2", "cls-kd-deit-ti", "ImageNet"),
        ("--data-path DIR --last-w 2 --model deit_small_patch16_224", "cls-kd-deit-s", "ImageNet"),
        ("--dataset folder --distillation CLS-KD", "cls-kd-deit-ti", "folder"),
        ("--data-path DIR --distillation hard", "deit-ti-distilled-imagenet", "ImageNet"),
    ] {
        let resolved = resolve_all(&format!("potstill train {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!((&*resolved.base, &*resolved.recipe.data.dataset), (base, dataset), "{line}");
    }
    // Nothing of another data set's recipe is below one that is named.
    let (recipe, _) = resolved_line("potstill train mnist --train-samples 1000");
    let (whole, _) = resolved_line("potstill train mnist");
    assert_eq!((recipe.student.clone(), recipe.data.augment), (whole.student, whole.data.augment));
}

#[test]
fn a_distillation_that_is_named_is_what_is_trained() {
    let line = "potstill train deit-ti-imagenet --distillation KD --teacher FILE";
    let (recipe, _) = resolved_line(line);
    assert_eq!((recipe.objective, Some(recipe.distillation)), (Goal::Distillation, Preset::named("KD")));
    assert_eq!(resolved_line("potstill train --distillation KD --objective student").0.objective, Goal::Student);
    assert!(refusal("potstill train dvitsaf-cifar-10-student --distillation SAF").contains("[teacher]"));
}

#[test]
fn a_batch_keeps_the_size_of_its_parts() {
    for (line, batch, parts) in [
        (CLS_KD, 128, 1),
        ("--data-path DIR --model deit_tiny_patch16_224 --batch-size 2", 2, 1),
        ("deit-ti-imagenet --batch-size 192", 192, 2),
        ("deit-ti-imagenet --batch-size 2048", 2048, 16),
        ("cls-kd-deit-ti --batch-size 128 --accumulate 4", 128, 4),
        ("cls-kd-deit-ti", 512, 4),
        // Undivided is undivided.
        ("digits --batch-size 128", 128, 1),
    ] {
        let (recipe, _) = resolved_line(&format!("potstill train {line}"));
        let student = recipe.student().expect("a student");
        assert_eq!((student.batch_size, student.accumulate), (batch, parts), "{line}");
    }
    assert!(refusal("potstill train deit-ti-imagenet --batch-size 0").contains("batch_size"));
}

#[test]
fn another_model_has_other_weights() {
    let (recipe, _) = resolved_line("potstill train dvitsaf-cifar-10-student --model resnet18");
    assert_eq!(recipe.student().expect("a student").weights, None);
    let (recipe, _) = resolved_line("potstill train dvitsaf-cifar-10-student --model vit_tiny_patch16_224");
    assert!(recipe.student().expect("a student").weights.is_some());
    let (recipe, _) = resolved_line("potstill train dvitsaf-cifar-10-kd --teacher-model vit_base_patch16_224");
    let teacher = recipe.teacher().expect("a teacher");
    assert_eq!((&teacher.weights, teacher.trainable), (&None, Trainable::All));
    // A linear probe of the weights that are given stays one.
    for flag in ["--model", "--teacher-model"] {
        let line = format!("potstill train dvitsaf-cifar-10-teacher {flag} vit_base_patch16_224 --finetune FILE");
        let (recipe, _) = resolved_line(&line);
        let teacher = recipe.teacher().expect("a teacher");
        assert!(teacher.weights.as_ref().is_some_and(|path| path.is_absolute() && path.ends_with("FILE")), "{line}");
        assert_eq!((&*teacher.model, teacher.trainable), ("vit_base_patch16_224", Trainable::Head), "{line}");
    }
    // A given teacher is of the model that the recipe names beside it.
    let line = "potstill train cls-kd-deit-ti --teacher-model deit_small_patch16_224";
    assert!(refusal(line).contains("weights/deit_base_patch16_224.safetensors are of deit_base_patch16_224"));
    let (recipe, _) = resolved_line(&format!("{line} --teacher FILE"));
    assert_eq!(recipe.teacher().expect("a teacher").model, "deit_small_patch16_224");
}

#[test]
fn folders_of_images_are_for_data_sets_that_take_them() {
    for line in
        ["digits --data-path DIR", "--dataset MNIST --data-path DIR", "--data-path DIR --set data.dataset=digits"]
    {
        let said = refusal(&format!("potstill train {line}"));
        assert!(said.contains("--data-path") && said.contains("--data-dir"), "{line}: {said}");
    }
    for line in
        ["--dataset CIFAR-10 --data-path DIR", "--dataset folder --data-path DIR", "--dataset MNIST --data-dir DIR"]
    {
        let (recipe, _) = resolved_line(&format!("potstill train {line}"));
        let folder = recipe.data.data_dir.unwrap_or_else(|| panic!("{line}: no folder"));
        assert!(folder.is_absolute() && folder.ends_with("DIR"), "{line}: {}", folder.display());
    }
}

#[test]
fn a_small_run_says_which_weights_it_leaves_out() {
    let (recipe, notices) =
        resolved_line("potstill train dvitsaf-cifar-10-kd --smoke --teacher TEACHER --finetune START");
    let weights = [recipe.teacher_weights.clone(), recipe.student().expect("a student").weights.clone()];
    assert_eq!(weights, [None, None]);
    for path in ["TEACHER", "START", "weights/vit_large_patch16_224.safetensors"] {
        assert!(notices.iter().any(|notice| notice.contains(path) && notice.contains("--smoke")), "{notices:?}");
    }
    assert_eq!(notices.len(), 3, "{notices:?}");
}

#[test]
fn a_crop_keeps_what_else_is_done_to_a_picture() {
    use potstill_core::data::{Interpolation, Resize};
    // The recipe's own, and that of the network that learns.
    for (line, interpolation) in [
        ("--dataset ImageNet --model deit_tiny_patch16_224", Interpolation::Bicubic),
        ("digits --model resnet18", Interpolation::Bilinear),
    ] {
        let (recipe, _) = resolved_line(&format!("potstill train --objective student {line} --eval-crop-ratio 0.95"));
        let preprocess = recipe.data.preprocess.expect("set");
        assert_eq!(
            (preprocess.resize, preprocess.interpolation, preprocess.crop_fraction),
            (Resize::Shortest, interpolation, 0.95),
            "{line}"
        );
    }
}
