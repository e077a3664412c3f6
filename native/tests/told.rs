//! What a student is told: classes that it never sees, and samples without a label.

mod common;

use std::fs;

use common::mnist::{TEST_SAMPLES, TRAIN_SAMPLES, digit};
use common::{Place, lines};
use image::{Rgb, RgbImage};

#[test]
fn the_biases_of_omitted_classes_are_corrected_without_labels() {
    let place = Place::with_mnist();
    let out = place.train("--name run --omit 3 7 --correct-bias --set controls=['hard-labels']");
    assert!(out.contains("Without the classes 3, 7 in the student's training:"), "{out}");
    let result = place.json("runs/run/result.json");
    assert_eq!(result["dataset"]["omitted"], serde_json::json!(["3", "7"]));
    let models = &result["models"];
    assert_eq!((&models["teacher"]["images"], &models["student"]["images"]), (&TRAIN_SAMPLES.into(), &48.into()));
    assert!(
        models["teacher"]["omitted"]["accuracy"].is_number() && models["teacher"]["omitted"]["corrected"].is_null()
    );
    for role in ["student", "baseline", "hard-labels"] {
        let omitted = &models[role]["omitted"];
        let corrected = &omitted["corrected"];
        for class in ["3", "7"] {
            // Six of sixty images each, those of the left-out classes among them.
            assert_eq!(corrected["predicted"][class].as_f64(), Some(0.1), "{role}: {omitted}");
            assert!(corrected["added"][class].as_f64().is_some_and(f64::is_finite), "{role}: {omitted}");
        }
        assert!(omitted["accuracy"].is_number() && corrected["omitted_accuracy"].is_number(), "{role}: {omitted}");
        // What is written beside the raw weights is what was measured.
        let file = corrected["weights"].as_str().expect("a file");
        assert_eq!(file, format!("{role}-corrected.safetensors"));
        let line = format!("eval @/runs/run/{file} --dataset MNIST --data-dir @/data --json --device cpu");
        let eval = &lines(&place.good(&line, &[]))[0];
        assert_eq!((&eval["accuracy"], &eval["samples"]), (&corrected["accuracy"], &TEST_SAMPLES.into()), "{role}");
        assert!(place.path(&format!("runs/run/{role}.safetensors")).is_file());
    }

    // By shares that are given, for one class.
    let shares = "--set data.shares=[0.05,0.05,0.05,0.3,0.05,0.1,0.1,0.1,0.1,0.1]";
    place.train(&format!("--name third --omit 3 --correct-bias --set baseline=false {shares}"));
    let result = place.json("runs/third/result.json");
    let predicted = &result["models"]["student"]["omitted"]["corrected"]["predicted"];
    assert_eq!(predicted, &serde_json::json!({ "3": 0.3 }));
    // Without the correction, the raw figures alone.
    let out = place.train("--name raw --omit 3");
    assert!(out.contains("Without the class 3"), "{out}");
    let omitted = &place.json("runs/raw/result.json")["models"]["student"]["omitted"];
    assert!(omitted["accuracy"].is_number() && omitted["corrected"].is_null(), "{omitted}");
    let files = fs::read_dir(place.path("runs/raw")).expect("lists").flatten();
    assert!(files.into_iter().all(|file| !file.file_name().to_string_lossy().contains("corrected")));
}

#[test]
fn a_teacher_has_data_of_its_own() {
    let place = Place::with_mnist();
    let own = "--set teacher.data.train_samples=40 --set teacher.data.labels=20 --set teacher.data.label_noise=0.5";
    let out = place.train(&format!("--name run --train-samples 30 --labels 10 --set teacher.data.omit=[3] {own}"));
    let result = place.json("runs/run/result.json");
    let seen = |role: &str| {
        let model = &result["models"][role];
        ["images", "labels", "wrong_labels"].map(|key| model[key].as_u64().unwrap_or(0))
    };
    // It learns from its labels alone; half of them are wrong.
    assert_eq!(seen("teacher"), [20, 20, 10]);
    assert_eq!(result["models"]["teacher"]["without"], serde_json::json!(["3"]));
    assert_eq!((seen("student"), seen("baseline")), ([30, 10, 0], [10, 10, 0]));
    assert!(out.contains("20 (10 wrong)"), "{out}");
    // What is not said of it is as the data set has it, whatever the student is told.
    place.train("--name full --train-samples 30 --labels 10 --label-noise 0.2 --omit 7");
    let full = place.json("runs/full/result.json");
    assert_eq!((&full["models"]["teacher"]["images"], &full["models"]["teacher"]["labels"]), (&30.into(), &30.into()));
    assert_eq!(full["models"]["student"]["wrong_labels"], 2);
    assert!(full["models"]["teacher"]["without"].is_null() && full["models"]["teacher"]["wrong_labels"].is_null());
    // A given teacher's data are not known here.
    let out = place.train("--name given --teacher @/runs/full --labels 10");
    let row = out.lines().find(|line| line.starts_with("teacher  ")).expect("a row");
    assert_eq!(row.split_whitespace().filter(|word| *word == "given").count(), 2, "{row}");
}

#[test]
fn a_student_without_a_teacher_sees_labelled_samples_alone() {
    let place = Place::with_mnist();
    place.train("--name run --objective student --labels 10");
    let student = &place.json("runs/run/result.json")["models"]["student"];
    assert_eq!((&student["images"], &student["labels"]), (&10.into(), &10.into()));
}

/// Writes pictures called by their numbers into a folder.
fn pictures(place: &Place, folder: &str, count: u32) {
    fs::create_dir_all(place.path(folder)).expect("makes");
    for number in 0..count {
        let picture =
            RgbImage::from_fn(20, 16 + number, |x, y| Rgb([(x * y) as u8, (number * 40) as u8, folder.len() as u8]));
        picture.save(place.path(&format!("{folder}/{number}.png"))).expect("writes");
    }
}

#[test]
fn images_without_a_class_join_the_students_samples() {
    let place = Place::with_mnist();
    fs::create_dir_all(place.path("more/deep")).expect("makes");
    (0..5).for_each(|index| digit(index).save(place.path(&format!("more/deep/{index}.png"))).expect("writes"));
    // A picture of another size and in colour is brought to the data set's.
    pictures(&place, "more", 2);
    let out = place.train("--name run --unlabelled @/more --labels 10 --set controls=['hard-labels','all-labels']");
    assert!(out.contains("7 images without a class"), "{out}");
    let result = place.json("runs/run/result.json");
    assert_eq!(result["dataset"]["unlabelled"], 7);
    let seen = |role: &str| ["images", "labels"].map(|key| result["models"][role][key].as_u64());
    for (role, images, labels) in [
        ("teacher", 60, 60),
        ("student", 67, 10),
        ("baseline", 10, 10),
        ("hard-labels", 67, 10),
        ("all-labels", 60, 60),
    ] {
        assert_eq!(seen(role), [Some(images), Some(labels)], "{role}");
    }
    // All students take as many steps.
    let log = fs::read_to_string(place.path("runs/run/metrics.jsonl")).expect("reads");
    let steps =
        |role: &str| lines(&log).iter().filter(|line| line["stage"] == role && line["loss"].is_number()).count();
    assert_eq!(["student", "baseline", "hard-labels", "all-labels"].map(steps), [8; 4]);
    // Pictures are varied, so the teacher is asked about those of every step.
    assert_eq!(result["models"]["student"]["teacher_images"], 128);
}

#[test]
fn a_folder_of_images_brings_its_own_unlabelled_ones() {
    let place = Place::new();
    for class in ["ant", "bee"] {
        pictures(&place, &format!("set/train/{class}"), 8);
        pictures(&place, &format!("set/val/{class}"), 4);
    }
    pictures(&place, "set/unlabelled/of/2024", 5);
    let vit = "depth=1,heads=1,channels=3,image_size=16,patch_size=8,classes=2";
    let recipe = format!(
        "base = 'digits'\n[data]\ndataset = 'folder'\ntrain_samples = 16\n[teacher]\nepochs = 1\nvit = {{{vit},width=16}}\n\
         [student]\nepochs = 1\nbatch_size = 7\nvit = {{{vit},width=8}}\n"
    );
    place.write("pictures.toml", recipe.as_bytes());
    let line = "--device cpu train @/pictures.toml --data-dir @/set --logdir @/runs --allow-untrained-teacher";
    place.good(line, &[]);
    let result = place.json("runs/pictures-001/result.json");
    let images = |role: &str| result["models"][role]["images"].as_u64();
    assert_eq!(["teacher", "student", "baseline"].map(images), [Some(16), Some(21), Some(16)]);
    // The run's own recipe says where they were, so that a resumed run has the same.
    let kept = fs::read_to_string(place.path("runs/pictures-001/recipe.toml")).expect("reads");
    assert!(kept.contains("unlabelled = "), "{kept}");
    // Without a teacher there is nothing to learn from them.
    place.good(&format!("{line} --objective student --name alone"), &[]);
    assert_eq!(place.json("runs/alone/result.json")["models"]["student"]["images"], 16);
}
