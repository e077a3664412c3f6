//! Several seeds as one thing: groups, comparisons, sweeps and the split that chooses.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::mnist::TINY;
use common::{Place, lines, texts};
use serde_json::Value;

const TRAIN: &str = "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --allow-untrained-teacher \
                     --distillation KD --set data.augment=none";

#[test]
fn a_validation_split_is_measured_in_place_of_the_held_out_samples() {
    let place = Place::with_mnist();
    let out = place.train("--name run --validation 0.2");
    assert!(out.contains("48 training, 12 validation and 30 held-out samples"), "{out}");
    let log = lines(&fs::read_to_string(place.path("runs/run/metrics.jsonl")).expect("reads"));
    let checks: Vec<&Value> = log.iter().filter(|line| line["validation_accuracy"].is_number()).collect();
    assert_eq!(checks.len(), 2 * 3, "one an epoch of each network");
    assert!(checks.iter().all(|check| check["samples"] == 12 && check["held_out_accuracy"].is_null()), "{checks:?}");
    assert_eq!(out.matches("  validation ").count(), 6, "{out}");
    let result = place.json("runs/run/result.json");
    let dataset = &result["dataset"];
    assert_eq!([&dataset["train"], &dataset["validation"], &dataset["test"]], [48, 12, 30]);
    for (role, model) in result["models"].as_object().expect("models") {
        assert_eq!(model["images"], 48, "{role}");
        // The last check is of the network that is kept.
        let last = checks.iter().rfind(|check| check["stage"] == role.as_str()).expect("a check");
        assert_eq!(model["validation_accuracy"], last["validation_accuracy"], "{role}");
        assert!(model["accuracy"].is_number());
    }
    let svg = fs::read_to_string(place.path("runs/run/curves.svg")).expect("reads");
    assert!(svg.contains("validation accuracy (%)"));
    for (share, why) in [("1", "below 1"), ("0.001", "leaves some")] {
        let output = place.run(&format!("{TRAIN} --name wrong --validation {share}"), TINY);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains("data.validation") && err.contains(why), "{err}");
        assert!(!place.path("runs/wrong").exists());
    }
}

#[test]
fn the_best_network_is_kept_and_a_training_that_gains_nothing_ends() {
    let place = Place::with_mnist();
    let out = place.train(
        "--name run --objective student --validation 0.3 --keep-best --early-stop 3 --set student.epochs=40 --set \
         student.schedule.kind=constant",
    );
    let log = lines(&fs::read_to_string(place.path("runs/run/metrics.jsonl")).expect("reads"));
    let seen: Vec<f64> = log.iter().filter_map(|line| line["validation_accuracy"].as_f64()).collect();
    let best = seen.iter().copied().fold(0.0, f64::max);
    let first = 1 + seen.iter().position(|accuracy| *accuracy == best).expect("the best");
    assert!(seen.len() < 40 && out.contains("ends early"), "{seen:?}");
    let student = &place.json("runs/run/result.json")["models"]["student"];
    assert_eq!((&student["kept_epoch"], &student["epochs"]), (&first.into(), &seen.len().into()));
    assert_eq!((student["validation_accuracy"].as_f64(), seen.len()), (Some(best), first + 3));
    // Held-out samples choose nothing.
    for given in ["--keep-best", "--early-stop 3", "--early-stop 0 --validation 0.2"] {
        let output = place.run(&format!("{TRAIN} --name wrong {given}"), TINY);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{given}: {err}");
        assert!(err.contains("validation split") || err.contains("at least 1"), "{given}: {err}");
    }
}

// Starts a command and ends it as soon as `there` is.
fn killed(place: &Place, line: &str, more: &[&str], there: &Path) {
    let mut child = place.command(line, more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    while !there.exists() {
        assert!(child.try_wait().expect("waits").is_none(), "it ended before {}", there.display());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().expect("it is killed");
    child.wait().expect("waits");
}

#[test]
fn a_group_that_is_killed_goes_on_and_shares_its_teacher() {
    let place = Place::with_mnist();
    let line = |name: &str| format!("{TRAIN} --name {name} --seeds 3 --seed 4 --epochs 20");
    let out = place.good(&line("whole"), TINY);
    assert!(out.contains("over 3 seeds") || out.contains("that 3 seeds could show"), "{out}");
    killed(&place, &line("cut"), TINY, &place.path("runs/cut/seed-5/checkpoint"));
    let first = fs::read(place.path("runs/cut/seed-4/result.json")).expect("the first seed is finished");
    assert!(!place.path("runs/cut/summary.json").exists());
    let output = place.run("compare @/runs/cut", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.contains("is not finished: its seed 5 is not trained"), "{}", texts(&output).1);
    // Without a name the latest is gone on with, be it a run or a group.
    let resumed = place.good("--device cpu train --resume --json --logdir @/runs", &[]);
    assert_eq!(fs::read(place.path("runs/cut/seed-4/result.json")).expect("reads"), first, "it is not trained again");
    let (whole, mut cut) = (place.json("runs/whole/summary.json"), place.json("runs/cut/summary.json"));
    let said: Value = serde_json::from_str(resumed.lines().last().expect("a line")).expect("JSON");
    assert_eq!(said, cut);
    cut["name"] = "whole".into();
    assert_eq!(whole, cut);

    assert_eq!(whole["seeds"], serde_json::json!([4, 5, 6]));
    let networks = whole["networks"].as_array().expect("networks");
    let counts: Vec<(&Value, &Value)> = networks.iter().map(|found| (&found["network"], &found["count"])).collect();
    let expected =
        [("teacher", 1), ("student", 3), ("baseline", 3)].map(|(name, count)| (Value::from(name), Value::from(count)));
    assert!(counts.into_iter().eq(expected.iter().map(|(name, count)| (name, count))), "{networks:?}");
    assert_eq!(whole["differences"][0]["from"], "baseline");
    assert!(whole["differences"][0]["interval"]["low"].is_number());
    for file in ["recipe.toml", "group.json", "accuracies.svg"] {
        assert!(place.path("runs/whole").join(file).is_file(), "{file}");
    }
    // The teacher is one file, which is asked once: what it said is looked up at the other seeds.
    assert!(!place.path("runs/whole/seed-5/teacher.safetensors").exists());
    assert!(!place.path("runs/whole/teacher-logits").exists());
    let asked = |seed: u64| {
        place.json(&format!("runs/whole/seed-{seed}/result.json"))["models"]["student"]["teacher_images"].clone()
    };
    assert_eq!((asked(4), asked(5), asked(6)), (60.into(), 16.into(), 16.into()));
    let output = place.run("train --resume --name whole --logdir @/runs", &[]);
    assert_eq!((output.status.code(), texts(&output).1.contains("is finished")), (Some(2), true));
}

#[test]
fn teachers_of_every_seed_and_single_seeds() {
    let place = Place::with_mnist();
    place.good(&format!("{TRAIN} --name own --seeds 2,7 --teacher-per-seed --validation 0.2 --epochs 1"), TINY);
    let summary = place.json("runs/own/summary.json");
    assert_eq!(summary["networks"][0]["seeds"], serde_json::json!([2, 7]));
    assert!(summary["networks"][0]["validation"]["mean"].is_number());
    // Each teacher has its own split; one for all has the first seed's.
    let recipe = |group: &str, seed: u64| {
        fs::read_to_string(place.path(&format!("runs/{group}/seed-{seed}/recipe.toml"))).expect("reads")
    };
    assert!(!recipe("own", 7).contains("validation_seed"));
    place.good(&format!("{TRAIN} --name one --seeds 2,7 --validation 0.2 --epochs 1"), TINY);
    assert!([2, 7].into_iter().all(|seed| recipe("one", seed).contains("validation_seed = 2")));
    let out = place.good(&format!("{TRAIN} --name single --seeds 1 --epochs 1"), TINY);
    assert!(out.contains("at the one seed the student is"), "{out}");
    for (given, why) in [
        ("--seeds 0", "number of seeds"),
        ("--seeds 1,1", "twice"),
        ("--seeds 1,2 --seed 3", "--seed has nothing to say"),
        ("--seeds 2 --teacher-per-seed --objective student", "no teacher"),
        ("--teacher-per-seed", "--seeds"),
    ] {
        let output = place.run(&format!("{TRAIN} --name wrong {given}"), TINY);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{given}: {err}");
        assert!(err.contains(why), "{given}: {err}");
        assert!(!place.path("runs/wrong").exists());
    }
}

#[test]
fn runs_and_groups_are_compared() {
    let place = Place::with_mnist();
    place.good(&format!("{TRAIN} --name group --seeds 2 --epochs 1"), TINY);
    for seed in 0..2 {
        place.good(&format!("{TRAIN} --name run-{seed} --seed {seed} --epochs 2"), TINY);
    }
    let all = "@/runs/group @/runs/run-0 @/runs/run-1";
    let out = place.good(&format!("compare {all} --svg @/all.svg --html @/all.html"), &[]);
    assert!(out.contains("run-0 and 1 more") && out.contains("student of group"), "{out}");
    let svg = fs::read_to_string(place.path("all.svg")).expect("reads");
    assert!(svg.contains("<desc>") && svg.contains("group, student"));
    let page = fs::read_to_string(place.path("all.html")).expect("reads");
    assert!(page.starts_with("<!doctype html>") && page.contains("<table>") && page.contains("<svg"));
    let json: Value = serde_json::from_str(&place.good(&format!("compare {all} --json"), &[])).expect("JSON");
    let names: Vec<&str> =
        json["entries"].as_array().expect("entries").iter().filter_map(|e| e["name"].as_str()).collect();
    assert_eq!(names, ["group", "run-0 and 1 more"]);
    assert_eq!(json["between"][0]["seeds"], serde_json::json!([0, 1]));
    // The runs of a group by themselves are that group.
    let json: Value =
        serde_json::from_str(&place.good("compare @/runs/group/seed-0 @/runs/group/seed-1 --json", &[])).expect("JSON");
    assert_eq!(json["entries"].as_array().map(Vec::len), Some(1));
    let mut folded = json["entries"][0].clone();
    folded["name"] = "group".into();
    assert_eq!(folded, place.json("runs/group/summary.json"));
    let csv = place.good(&format!("compare {all} --csv"), &[]);
    assert_eq!((csv.lines().count(), csv.lines().next().expect("a head").split(',').count()), (7, 14));
    // A name that a spreadsheet would take for a formula is text.
    fs::rename(place.path("runs/run-0"), place.path("runs/=1+1")).expect("renames");
    let csv = place.good("compare @/runs/=1+1 --csv", &[]);
    assert!(csv.lines().nth(1).expect("a row").starts_with("\"'=1+1\",teacher,"), "{csv}");
    for (given, why) in [("@/runs/none", "there is no folder"), ("@/runs", "is no run, group or sweep")] {
        let output = place.run(&format!("compare {given}"), &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(texts(&output).1.contains(why), "{}", texts(&output).1);
    }
}

#[test]
fn a_sweep_that_is_killed_goes_on_to_the_same_table() {
    let place = Place::with_mnist();
    let grid = ["--vary", "distillation.temperature=1,4", "--vary", "distillation.alpha=0.5,0.9"];
    let line = |name: &str| {
        format!(
            "--device cpu sweep mnist --data-dir @/data --logdir @/runs --allow-untrained-teacher --name {name} --seeds 2 \
             --epochs 8 --distillation KD --set data.augment=none"
        )
    };
    let more = [TINY, &grid].concat();
    let out = place.good(&line("whole"), &more);
    for part in [
        "0.1 of the training samples",
        "4 cells of 2 seeds, 8 runs",
        "chosen by 6 validation samples",
        "held-out accuracy of the chosen student: ",
        "train with these values on all samples: potstill train mnist ",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    assert_eq!(out.matches("held-out accuracy").count(), 1, "it is told once");
    assert!(!out.contains("held-out 1") && !out.contains("  held-out "), "no epoch is measured on it\n{out}");
    killed(&place, &line("cut"), &more, &place.path("runs/cut/cell-2/seed-0/checkpoint"));
    let resumed = place.good("--device cpu sweep --resume --logdir @/runs", &[]);
    let table = |text: &str| -> String {
        let lines = text.lines().skip_while(|line| !line.starts_with("distillation.temperature"));
        lines.filter(|line| !line.contains("/runs/") || line.starts_with("train with")).collect::<Vec<_>>().join("\n")
    };
    assert!(table(&out).lines().count() >= 8, "{out}");
    assert_eq!(table(&out), table(&resumed));
    let file = |name: &str| fs::read(place.path(&format!("runs/{name}/sweep.json"))).expect("reads");
    assert_eq!(file("whole"), file("cut"), "to the byte");
    let svg = |name: &str| fs::read_to_string(place.path(&format!("runs/{name}/sweep.svg"))).expect("reads");
    assert!(svg("whole") == svg("cut") && svg("whole").contains("Chosen: distillation.temperature"));

    let found = place.json("runs/whole/sweep.json");
    let means: Vec<f64> = found["cells"]
        .as_array()
        .expect("cells")
        .iter()
        .filter_map(|cell| cell["validation"]["mean"].as_f64())
        .collect();
    assert!(means.len() == 4 && means.is_sorted_by(|a, b| a >= b), "{means:?}");
    // One teacher for all of it.
    let teachers = place.contents().into_keys().filter(|path| path.ends_with("teacher.safetensors")).count();
    assert_eq!(teachers, 2, "one in each sweep");
    // The command that it prints is one.
    let command = found["chosen"]["command"].as_str().expect("a command");
    let command = command.strip_prefix("potstill ").expect("ours").replace('\'', "");
    assert!(!command.contains("validation") && command.contains("--set distillation.alpha="), "{command}");
    place.good(&format!("--device cpu {} --name chosen --epochs 1", command.replace("--epochs 8", "")), &[]);
    assert!(place.path("runs/chosen/summary.json").is_file());
    let cells: Value = serde_json::from_str(&place.good("compare @/runs/whole --json", &[])).expect("JSON");
    assert_eq!(cells["entries"][0]["name"], "temperature 1, alpha 0.5");
    assert_eq!(cells["entries"].as_array().map(Vec::len), Some(4));
}

#[test]
fn sweeps_that_make_no_sense_are_refused_before_anything_is_made() {
    let place = Place::with_mnist();
    for (given, why) in [
        ("", "--vary"),
        ("--vary alpha", "KEY=VALUE"),
        ("--vary distillation.alpha=0.5,2", "distillation.alpha=2"),
        ("--vary distillation.alhpa=0.5", "alhpa"),
        ("--vary data.validation=0.1,0.2", "samples that choose"),
        ("--vary distillation.alpha=0.5 --vary distillation.alpha=0.9", "twice"),
        ("--resume --vary distillation.alpha=0.5", "leave out --vary"),
        ("--resume --epochs 3", "leave out --epochs"),
        ("--resume", "no unfinished sweep"),
    ] {
        let recipe = if given.contains("--resume") { "" } else { "digits" };
        let output = place.run(&format!("--device cpu sweep {recipe} --logdir @/runs {given}"), &[]);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{given}: {err}");
        assert!(err.contains(why), "{given}: {err}");
        assert!(!place.path("runs").exists(), "{given}");
    }
}
