//! Run folders that are killed, damaged and fought over: nothing is lost, and nothing is believed unchecked.
//!
//! `POTSTILL_KILLS` and `POTSTILL_FLIPS` say how often a run is killed and how many bytes of each file are changed; the
//! usual numbers are small.

#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::mnist::TINY;
use common::{Place, tensors, texts};

const BASE: &str = "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --allow-untrained-teacher";

fn times(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|times| times.parse().ok()).unwrap_or(usual)
}

fn start(place: &Place, line: &str) -> Child {
    let mut command = place.command(&format!("{BASE} {line}"), TINY);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts")
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill starts");
    assert!(sent.success());
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(120), "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(run.join("checkpoint")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = listed.filter(|path| path.join("checkpoint.json").exists()).collect();
    found.retain(|path| !path.file_name().expect("a name").to_string_lossy().starts_with('.'));
    found.sort();
    found
}

/// A run `cut` that is killed once it has two checkpoints of the stage, and `whole`, the same that was left alone.
fn killed(options: &str, stage: &str) -> Place {
    let place = Place::with_mnist();
    place.good(&format!("{BASE} --name whole {options}"), TINY);
    let mut child = start(&place, &format!("--name cut {options}"));
    let run = place.path("runs/cut");
    until("a second checkpoint", || {
        assert!(child.try_wait().expect("waits").is_none(), "the run ended before it could be killed");
        checkpoints(&run).iter().filter(|path| path.display().to_string().contains(&format!("/{stage}-"))).count() > 1
    });
    child.kill().expect("killed");
    child.wait().expect("waits");
    assert!(!run.join("result.json").exists());
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry").path();
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() { copy(&entry, &target) } else { fs::copy(&entry, &target).map(drop).expect("copies") }
    }
}

fn resume(place: &Place, name: &str) -> Output {
    place.run(&format!("--device cpu train --resume --name {name} --logdir @/runs"), &[])
}

fn same(place: &Place, name: &str, networks: &[&str]) {
    for network in networks {
        let of = |run: &str| tensors(&place.path(&format!("runs/{run}/{network}.safetensors")));
        assert!(of("whole") == of(name), "{name}: another {network}");
    }
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).expect("reads");
    let place = place % bytes.len();
    bytes[place] ^= 1 << (place % 7);
    fs::write(path, bytes).expect("writes");
}

const DISTILLED: &str = "--set teacher.epochs=2 --set student.epochs=40 --set baseline=false --checkpoint-every 2";

#[test]
fn one_process_works_in_a_folder() {
    let place = Place::with_mnist();
    let mut child = start(&place, "--name one --epochs 300");
    until("a recipe", || place.path("runs/one/recipe.toml").exists());
    let pid = format!("process {} is at work in", child.id());
    for line in [&format!("{BASE} --name one"), "--device cpu train --resume --name one --logdir @/runs"] {
        let (_, err) = texts(&place.run(line, &[]));
        assert!(err.contains(&pid), "{line}: {err}");
        assert_eq!(place.run(line, &[]).status.code(), Some(2), "{line}");
    }
    let output = place.run("--device cpu train --resume --logdir @/runs", &[]);
    let (_, err) = texts(&output);
    assert!(output.status.code() == Some(2) && err.contains("being worked on"), "{err}");
    child.kill().expect("killed");
    child.wait().expect("waits");
    // The lock has gone with its process, and what that was writing goes with the next.
    let left = ["runs/one/.tmpabc", "runs/one/checkpoint/.filling-abc/model.safetensors"];
    left.iter().for_each(|name| place.write(name, b"half"));
    place.path("runs/one/state.json").metadata().expect("it is there");
    let mut child = place.command("--device cpu train --resume --logdir @/runs", &[]).stdout(Stdio::null()).spawn();
    let child = child.as_mut().expect("the command starts");
    until("order", || left.iter().all(|name| !place.path(name).exists()));
    child.kill().expect("killed");
    child.wait().expect("waits");
}

#[test]
fn a_folder_that_holds_no_run_is_taken_over_or_left_alone() {
    let place = Place::with_mnist();
    place.write("runs/begun/state.json", b"{\"done\":{}}");
    place.write("runs/begun/.tmpabc", b"half");
    let (_, err) = texts(&resume(&place, "begun"));
    assert!(err.contains("has no recipe.toml") && err.contains("train --name begun"), "{err}");
    place.train("--name begun --set baseline=false");
    assert!(place.path("runs/begun/result.json").exists() && !place.path("runs/begun/.tmpabc").exists());
    place.write("runs/mine/letter.txt", b"dear");
    place.write("runs/mine/.tmpmine", b"mine");
    let output = place.run(&format!("{BASE} --name mine"), TINY);
    let (_, err) = texts(&output);
    assert!(output.status.code() == Some(2) && err.contains("letter.txt"), "{err}");
    assert!(place.path("runs/mine/.tmpmine").exists(), "nothing of another's is removed");
    // Killed after its result.
    place.write("runs/begun/checkpoint/student-00000001/checkpoint.json", b"{}");
    place.write("runs/begun/state.json", b"{\"done\":{}}");
    let (_, err) = texts(&resume(&place, "begun"));
    assert!(err.contains("is finished"), "{err}");
    assert!(!place.path("runs/begun/checkpoint").exists() && !place.path("runs/begun/state.json").exists());
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_is_used() {
    let place = killed(DISTILLED, "student");
    let cut = place.path("runs/cut");
    let copied = |name: &str| {
        let run = place.path(&format!("runs/{name}"));
        copy(&cut, &run);
        run
    };
    let refused = |name: &str, code: i32, words: &[&str]| {
        let output = resume(&place, name);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {err}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{name}: {err}");
        words.iter().for_each(|word| assert!(err.contains(word), "{name}: {word:?} is not in {err:?}"));
        assert!(!place.path(&format!("runs/{name}/result.json")).exists());
    };
    let [older, newest] = &checkpoints(&cut)[..] else { panic!("the last two are kept: {:?}", checkpoints(&cut)) };
    let step = |path: &Path| path.display().to_string().rsplit('-').next().map(str::to_owned).expect("a step");

    let run = copied("damaged");
    flip(&run.join("checkpoint").join(newest.file_name().expect("a name")).join("optimiser.safetensors"), 1234);
    let output = resume(&place, "damaged");
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    for word in
        ["is damaged: optimiser.safetensors", &format!("goes on from step {} of", step(older).trim_start_matches('0'))]
    {
        assert!(out.contains(word), "{word:?} is not in {out}");
    }
    same(&place, "damaged", &["teacher", "student"]);

    for path in checkpoints(&copied("all-damaged")) {
        fs::remove_file(path.join("model.safetensors")).expect("removed");
    }
    refused("all-damaged", 1, &["is damaged: model.safetensors is missing", "there is none before it"]);
    fs::remove_dir_all(copied("gone").join("checkpoint")).expect("removed");
    // It may have been killed before state.json named the newest.
    refused("gone", 1, &["state.json says that the checkpoint student-", "was made"]);
    // A folder that cannot be listed is no folder without checkpoints.
    let run = copied("unlisted");
    fs::rename(run.join("checkpoint"), run.join("elsewhere")).expect("renamed");
    fs::write(run.join("checkpoint"), "no folder").expect("written");
    refused("unlisted", 1, &["cannot list"]);
    flip(&copied("state").join("state.json"), 40);
    refused("state", 1, &["state.json is damaged"]);
    flip(&copied("teacher").join("teacher.safetensors"), 3000);
    refused("teacher", 1, &["teacher.safetensors is not the file that the run has written"]);

    let other = |name: &str, from: &str, to: &str| {
        let path = copied(name).join("recipe.toml");
        let text = fs::read_to_string(&path).expect("reads");
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).expect("writes");
    };
    other("recipe", "seed = 0", "seed = 1");
    refused("recipe", 2, &["recipe.toml is not the recipe that state.json was made with"]);
    // As runs of before have it, without hashes.
    other("invalid", "batch_size = 16", "batch_size = 0");
    fs::write(place.path("runs/invalid/state.json"), "{\"done\":{}}").expect("writes");
    refused("invalid", 2, &["recipe.toml", "batch_size is 0"]);

    let path = copied("log").join("metrics.jsonl");
    let text = fs::read_to_string(&path).expect("reads");
    let first = text.lines().next().expect("a line");
    fs::write(&path, text.replacen(first, "{\"stage\":\"teacher\",\u{0}", 1)).expect("writes");
    let output = resume(&place, "log");
    let (out, err) = texts(&output);
    assert!(output.status.success() && out.contains("1 lines that cannot be read are dropped"), "{out}{err}");
    same(&place, "log", &["teacher", "student"]);
    let (whole, log) = (place.path("runs/whole/metrics.jsonl"), fs::read_to_string(path).expect("reads"));
    let whole = fs::read_to_string(whole).expect("reads");
    assert_eq!(whole.split_once('\n').expect("lines").1, log, "all others keep their text");
}

#[test]
fn no_changed_byte_gives_another_result_in_silence() {
    let place = killed(DISTILLED, "student");
    let cut = place.path("runs/cut");
    let mut files: Vec<PathBuf> =
        ["recipe.toml", "metrics.jsonl", "state.json", "teacher.safetensors"].map(|name| cut.join(name)).to_vec();
    for folder in checkpoints(&cut) {
        files.extend(fs::read_dir(folder).expect("lists").map(|entry| entry.expect("an entry").path()));
    }
    let (mut refused, mut equal) = (0, 0);
    for (number, file) in files.iter().enumerate() {
        let size = fs::metadata(file).expect("is there").len() as usize;
        let flips = times("POTSTILL_FLIPS", 1);
        for place_in_file in (0..flips).map(|flip| (size * flip / flips + number * 7919 + flip * 104_729) % size) {
            let run = place.path("runs/flipped");
            copy(&cut, &run);
            flip(&run.join(file.strip_prefix(&cut).expect("in the run")), place_in_file);
            let output = resume(&place, "flipped");
            let what = format!("byte {place_in_file} of {}", file.display());
            match output.status.code() {
                Some(0) => {
                    same(&place, "flipped", &["teacher", "student"]);
                    let log = |run: &str| fs::read(place.path(&format!("runs/{run}/metrics.jsonl"))).expect("reads");
                    let said = texts(&output).0.contains("metrics.jsonl has changed since it was written");
                    assert!(said || log("whole") == log("flipped"), "{what}: another log");
                    equal += 1;
                }
                Some(1 | 2) => refused += 1,
                code => panic!("{what}: {code:?} {:?}", texts(&output)),
            }
            fs::remove_dir_all(run).expect("removed");
        }
    }
    println!("{} changed bytes: {refused} refused, {equal} the same result", refused + equal);
    // And of a finished run: what is measured is what was trained.
    let measured = || {
        let output = place.run("--device cpu eval @/runs/whole --dataset MNIST --data-dir @/data --json", &[]);
        let figures: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        (output.status.code(), figures.map(|figures| (figures["accuracy"].clone(), figures["loss"].clone())))
    };
    let student = place.path("runs/whole/student.safetensors");
    let (good, expected) = (fs::read(&student).expect("reads"), measured());
    assert!(expected.1.is_some());
    for number in 0..2 * times("POTSTILL_FLIPS", 1) {
        flip(&student, 8 + number * 7919);
        let found = measured();
        assert!(found == (Some(1), None) || found == expected, "{found:?}");
        fs::write(&student, &good).expect("writes");
    }
}

#[test]
fn killed_at_any_moment_a_run_ends_as_if_nothing_had_been() {
    let settings: [(&str, &[&str]); 5] = [
        ("--epochs 3 --set baseline=false", &["teacher", "student"]),
        (
            "--objective student --retrospect --lwr-k 1 --lwr-max-epochs 60 --model-ema-decay 0.9 --accumulate 3 --epochs 8",
            &["student", "student-ema"],
        ),
        ("--epochs 3 --set baseline=false --distillation KD --teacher-cache @/cache", &["teacher", "student"]),
        ("--epochs 3 --distillation SAF", &["teacher", "student", "baseline"]),
        ("--epochs 6 --set baseline=false --checkpoint-every 5 --keep 1", &["teacher", "student"]),
    ];
    let rounds = times("POTSTILL_KILLS", 2);
    let mut kills = 0;
    for (number, (options, networks)) in settings.into_iter().enumerate() {
        let place = Place::with_mnist();
        let since = Instant::now();
        place.good(&format!("{BASE} --name whole {options}"), TINY);
        let takes = since.elapsed();
        for round in 0..rounds {
            let name = format!("killed-{round}");
            let mut begun = false;
            // Each attempt is killed later than the one before, so that every run ends.
            for attempt in 0.. {
                let line = match begun {
                    true => format!("--device cpu train --resume --name {name} --logdir @/runs"),
                    false => format!("{BASE} --name {name} {options}"),
                };
                let mut command = place.command(&line, if begun { &[] } else { TINY });
                let mut child =
                    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
                // Spread over the run without a clock or a generator.
                let share = ((round * 5 + number) * 61 + attempt * 37) % 100;
                std::thread::sleep(takes.mul_f64(share as f64 / 100.0 * (1.0 + attempt as f64 / 8.0)));
                if child.try_wait().expect("waits").is_none() {
                    child.kill().expect("killed");
                    kills += 1;
                }
                let output = child.wait_with_output().expect("waits");
                let (out, err) = texts(&output);
                assert!(output.status.success() || output.status.code().is_none(), "{name} {options}: {out}{err}");
                assert!(err.is_empty(), "{err}");
                begun = place.path(&format!("runs/{name}/recipe.toml")).exists();
                if output.status.success() {
                    break;
                }
                if place.path(&format!("runs/{name}/result.json")).exists() {
                    // Killed at the very end: what is left of the checkpoints goes with the next look at it.
                    assert_eq!(resume(&place, &name).status.code(), Some(2));
                    break;
                }
            }
            same(&place, &name, networks);
            let log = |run: &str| fs::read_to_string(place.path(&format!("runs/{run}/metrics.jsonl"))).expect("reads");
            assert!(log("whole") == log(&name), "{name} {options}: another log");
            assert!(!place.path(&format!("runs/{name}/checkpoint")).exists());
        }
    }
    println!("{kills} kills");
}

#[test]
fn signals_that_come_together_are_one_wish_to_stop() {
    let place = Place::with_mnist();
    for signals in [&["INT", "INT", "INT"][..], &["TERM", "HUP"], &["HUP", "INT", "TERM"]] {
        let name = signals.concat();
        let child = start(&place, &format!("--name {name} --epochs 400 --checkpoint-every 1000000"));
        until("a step", || {
            fs::metadata(place.path(&format!("runs/{name}/metrics.jsonl"))).is_ok_and(|log| log.len() > 0)
        });
        signals.iter().for_each(|name| signal(&child, name));
        let output = child.wait_with_output().expect("waits");
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(130), "{out}{err}");
        assert!(err.contains("stopped and saved"), "{err}");
        assert_eq!(checkpoints(&place.path(&format!("runs/{name}"))).len(), 1, "{signals:?}");
    }
}

#[test]
fn a_cache_that_cannot_be_used_ends_no_run() {
    let place = Place::with_mnist();
    place.write("file", b"no folder");
    let line = "--set baseline=false --distillation KD";
    let out = place.train(&format!("--name without --teacher-cache @/file/cache {line}"));
    let note = out.find("the teacher cache is left out").expect("a note");
    assert!(note < out.find("teacher  epoch").expect("a teacher"), "before the teacher is trained:\n{out}");
    place.train(&format!("--name whole {line}"));
    same(&place, "without", &["teacher", "student"]);
    // Its files are for whoever may read the others.
    place.train(&format!("--name with --teacher-cache @/cache {line}"));
    use std::os::unix::fs::MetadataExt;
    let mode = |path: &Path| fs::metadata(path).expect("is there").mode() & 0o777;
    let usual = mode(&place.path("runs/with/metrics.jsonl"));
    for (path, _) in place.contents().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "logits")) {
        assert_eq!(mode(&path), usual, "{}", path.display());
    }
    same(&place, "with", &["teacher", "student"]);
}

#[test]
fn a_stream_that_is_full_or_closed_is_told_by_the_exit_code_alone() {
    let place = Place::with_mnist();
    place.train("--name run --set baseline=false");
    let full = || File::options().write(true).open("/dev/full").expect("it is there");
    let eval = "--device cpu eval @/runs/run --dataset MNIST --data-dir @/data";
    for line in [eval, &format!("{eval} --json"), "recipes", "recipes --json"] {
        let output = place.command(line, &[]).stdout(full()).output().expect("the command starts");
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {err}");
        assert!(err.starts_with("error: cannot write to standard output"), "{line}: {err}");
    }
    for (line, code) in [("predict @/runs/run --image @/nothing.png", 1), ("train --epochs 0", 2), (eval, 0)] {
        let code_of = |stderr: Stdio| place.command(line, &[]).stderr(stderr).status().expect("starts").code();
        assert_eq!(code_of(full().into()), Some(code), "{line}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(code_of(writer.into()), Some(code), "{line}");
    }
}
