//! Teachers from outside: which are taken, and what is kept of what they say.

mod common;

use std::fs;
use std::path::PathBuf;

use common::mnist::TINY;
use common::{Place, lines, texts};
use serde_json::Value;

#[test]
fn a_teacher_that_guesses_is_refused() {
    let place = Place::with_mnist();
    // A learning rate at which nothing is learnt.
    let line = "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --name noise --epochs 1 --lr 1e-9";
    let output = place.run(line, TINY);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for part in ["three standard errors", "30 held-out", "--allow-untrained-teacher"] {
        assert!(err.contains(part), "{part:?} is not in {err:?}");
    }
    assert!(!place.path("runs/noise/result.json").exists());
    // It has been trained: the run goes on with it where that is wanted, and says so in its recipe.
    place.good("--device cpu train --resume --name noise --logdir @/runs --allow-untrained-teacher", &[]);
    assert!(place.json("runs/noise/result.json")["models"]["student"].is_object());
    let recipe = fs::read_to_string(place.path("runs/noise/recipe.toml")).expect("reads");
    assert!(recipe.contains("allow_untrained_teacher = true"), "{recipe}");
}

#[test]
fn a_teacher_of_two_heads_is_refused_where_one_was_not_taught() {
    let place = Place::with_mnist();
    let train = "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --allow-untrained-teacher";
    let two_heads = ["--set", "student.vit.distillation_token=true"];
    place.good(&format!("{train} --epochs 1 --name run --distillation distill"), &[TINY, &two_heads].concat());
    let student = place.text("runs/run/student.safetensors");
    let output = place.run(&format!("{train} --name next"), &[TINY, &["--teacher", &student]].concat());
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("nothing has taught the class head") && err.contains("student.safetensors"), "{err}");
    assert!(!place.path("runs/next").exists());
}

#[test]
fn a_teachers_logits_are_kept_and_teach_the_same() {
    let place = Place::with_mnist();
    place.train("--name first --objective teacher");
    let teacher = place.text("runs/first/teacher.safetensors");
    let line = |more: &str| format!("--teacher {teacher} --set baseline=false --distillation KD --seed 5 {more}");
    let losses = |run: &str| -> Vec<Value> {
        let log = fs::read_to_string(place.path(&format!("runs/{run}/metrics.jsonl"))).expect("reads");
        lines(&log).into_iter().filter(|line| line["terms"].is_object()).collect()
    };
    place.train(&line("--name plain"));
    place.train(&line("--name writes --teacher-cache @/cache"));
    let kept = || -> Vec<PathBuf> {
        let all = place.contents().into_keys();
        all.filter(|path| path.extension().is_some_and(|extension| extension == "logits")).collect()
    };
    assert_eq!(kept().len(), 2, "an epoch is a file");
    place.train(&line("--name reads --teacher-cache @/cache"));
    assert_eq!(kept().len(), 2);
    let plain = losses("plain");
    assert!(!plain.is_empty());
    assert_eq!(losses("writes"), plain, "keeping changes nothing");
    assert_eq!(losses("reads"), plain, "what was kept teaches the same, to the last bit");
    let asked = |run: &str| {
        let student = &place.json(&format!("runs/{run}/result.json"))["models"]["student"];
        assert!(student["recall_seconds"].as_f64() < student["seconds"].as_f64(), "{student}");
        student["teacher_images"].as_u64().expect("a count")
    };
    // Another precision is another teacher.
    let kept_before = kept().len();
    place.train(&line("--name half --teacher-cache @/cache --teacher-precision half"));
    assert_eq!(kept().len(), kept_before + 2);
    let (exact, half) = (losses("plain"), losses("half"));
    let term = |losses: &[Value]| losses[0]["terms"]["logits"].as_f64().expect("a number");
    assert!(term(&exact) != term(&half) && (term(&exact) - term(&half)).abs() < 2e-2 * term(&exact));
    // The second run asks about no image, but for the sample that it holds what is kept against.
    assert!(asked("writes") == asked("plain") && asked("plain") > 16, "{} and {}", asked("writes"), asked("plain"));
    assert!((1..=16).contains(&asked("reads")), "{}", asked("reads"));
    // Nine of ten classes leave one over: all that is lost is half precision, of ten bits.
    let first = |run: &str| losses(run)[0]["terms"]["logits"].as_f64().expect("a number");
    for run in ["most", "most-again"] {
        place.train(&line(&format!("--name {run} --teacher-cache @/most --teacher-cache-top 9")));
    }
    let (exact, kept_most) = (first("plain"), first("most-again"));
    assert!(exact != kept_most && (exact - kept_most).abs() < 2e-3 * exact, "{exact} and {kept_most}");
    // The highest three alone are another teacher, which `Packing` says in full: in the run that keeps them too.
    for run in ["few", "few-again"] {
        place.train(&line(&format!("--name {run} --teacher-cache @/few --teacher-cache-top 3")));
    }
    assert!(first("few") != exact && losses("few") == losses("few-again"));
    // Another seed varies the images otherwise: nothing that is there is taken.
    let files = kept().len();
    place.train(&line("--name other --teacher-cache @/cache --seed 6").replace("--seed 5", ""));
    assert_eq!(kept().len(), files + 2);
    // What is damaged is named and not believed.
    let path = kept().into_iter().find(|path| path.starts_with(place.path("cache"))).expect("a file");
    kept().iter().filter(|path| path.starts_with(place.path("cache"))).for_each(|path| {
        let mut bytes = fs::read(path).expect("reads");
        bytes[11] ^= 4;
        fs::write(path, bytes).expect("writes");
    });
    let base =
        "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --epochs 2 --allow-untrained-teacher";
    let output = place.run(&format!("{base} {}", line("--name damaged --teacher-cache @/cache")), TINY);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(err.contains(&name[..5]) && err.contains("remove it"), "{err}");
}
