//! Numbers that are none, and words that are more than words, in weights files and runs.

mod common;

use std::fs;

use common::mnist::{TINY, digit};
use common::{Place, texts};
use potstill_core::weights::{Metadata, NamedTensor, from_safetensors, to_safetensors};

/// A weights file of a place's run, with its tensors and its metadata changed.
fn changed(place: &Place, name: &str, change: impl FnOnce(&mut Vec<NamedTensor>, &mut Metadata)) {
    let bytes = fs::read(place.path("runs/run/student.safetensors")).expect("reads");
    let (mut tensors, mut metadata) = from_safetensors(&bytes).expect("readable");
    change(&mut tensors, &mut metadata);
    place.write(name, &to_safetensors(&tensors, metadata).expect("a file"));
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    let place = Place::with_mnist();
    place.train("--name run --objective student");
    digit(0).save(place.path("digit.png")).expect("writes");
    changed(&place, "bad.safetensors", |tensors, _| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == "head.weight").expect("a head");
        tensor.values[5] = f32::NAN;
    });
    for line in [
        "--device cpu predict @/bad.safetensors --image @/digit.png",
        "--device cpu eval @/bad.safetensors --dataset MNIST --data-dir @/data",
    ] {
        let output = place.run(line, &[]);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{line}: {err}");
        assert!(err.contains("bad.safetensors") && err.contains("head.weight"), "{err}");
    }
}

#[test]
fn a_step_that_is_not_finite_is_named_and_not_saved() {
    let place = Place::with_mnist();
    place.train("--name run --objective student");
    // Finite, and beyond what the first layer can sum.
    changed(&place, "huge.safetensors", |tensors, _| {
        tensors
            .iter_mut()
            .for_each(|tensor| tensor.values.iter_mut().for_each(|value| *value = 3e38_f32.copysign(*value)));
    });
    let line = "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --objective student --epochs 2 \
                --finetune @/huge.safetensors";
    let output = place.run(&format!("{line} --name bad"), TINY);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for part in ["step 1 of the student is not finite: its term", "on the samples ", "--skip-bad-steps", "--lr"] {
        assert!(err.contains(part), "{part:?} is not in {err:?}");
    }
    let log = fs::read_to_string(place.path("runs/bad/metrics.jsonl")).expect("reads");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert!(last["step"] == 1 && last["samples"].as_array().is_some_and(|samples| samples.len() == 16), "{last}");
    assert!(!place.path("runs/bad/checkpoint").exists(), "nothing is saved of it");
    // There is nothing before the first step that could be kept.
    let output = place.run(&format!("{line} --name skip --skip-bad-steps 3"), TINY);
    assert_eq!(output.status.code(), Some(1), "{:?}", texts(&output));
}

#[test]
fn words_of_others_do_nothing_to_a_terminal() {
    let place = Place::with_mnist();
    place.train("--name run --objective student");
    digit(0).save(place.path("digit.png")).expect("writes");
    let mut names: Vec<String> = (0..10).map(|class| format!("\u{1b}]0;title\u{7}{class}\r\n")).collect();
    names[3] = "n".repeat(70_000);
    changed(&place, "names.safetensors", |_, metadata| {
        metadata.insert("potstill.classes".to_owned(), serde_json::to_string(&names).expect("JSON"));
    });
    changed(&place, "tensors.safetensors", |tensors, _| tensors[0].name = "\u{1b}[2Jhead".to_owned());
    for (line, code) in [
        ("--device cpu predict @/names.safetensors --top 10 --image @/digit.png", 0),
        ("--device cpu predict @/names.safetensors --top 10 --json --image @/digit.png", 0),
        ("--device cpu predict @/tensors.safetensors --image @/digit.png", 1),
        ("--device cpu train --set student.\u{1b}[2Jvit=1", 2),
    ] {
        let output = place.run(line, &[]);
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {err}");
        let said = out + &err;
        assert!(said.chars().all(|character| character == '\n' || !character.is_control()), "{said:?}");
        assert!(said.contains("\\u001b"), "{said:?}");
    }
}
