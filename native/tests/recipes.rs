//! The recipes that ship with the command, each run small.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Place, lines};
use serde_json::Value;

/// CIFAR's official binary files, of noise.
fn cifar(place: &Place) {
    let mut noise = 1_u32;
    let mut byte = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    let mut records = |count: usize, labels: &dyn Fn(usize) -> Vec<u8>| -> Vec<u8> {
        (0..count).flat_map(|i| labels(i).into_iter().chain((0..3072).map(|_| byte())).collect::<Vec<_>>()).collect()
    };
    let ten = |i: usize| vec![(i % 10) as u8];
    let hundred = |i: usize| vec![(i % 20) as u8, (i % 100) as u8];
    for file in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        place.write(&format!("cifar-10/cifar-10-batches-bin/{file}.bin"), &records(20, &ten));
    }
    let names = |count: usize| (0..count).map(|class| format!("class {class}\n")).collect::<String>();
    place.write("cifar-10/cifar-10-batches-bin/batches.meta.txt", names(10).as_bytes());
    for file in ["train", "test"] {
        place.write(&format!("cifar-100/cifar-100-binary/{file}.bin"), &records(100, &hundred));
    }
    place.write("cifar-100/cifar-100-binary/fine_label_names.txt", names(100).as_bytes());
    place.write("cifar-100/cifar-100-binary/coarse_label_names.txt", names(20).as_bytes());
}

/// A folder of small pictures, one of each class in each split.
fn pictures(place: &Place, name: &str, classes: usize, each: usize) {
    for split in ["train", "val"] {
        for class in 0..classes {
            for index in 0..each {
                let value = |x: u32, y: u32| ((class + index) as u32 * 37 + x * 5 + y * 11) as u8;
                let picture =
                    image::RgbImage::from_fn(10, 8, |x, y| image::Rgb([value(x, y), value(y, x), class as u8]));
                let path = place.path(&format!("{name}/{split}/c{class:04}/{index}.png"));
                fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
                picture.save(path).expect("writes");
            }
        }
    }
}

/// Flowers-102: small pictures beside the two MATLAB files, which `tests/fixtures/make_fixtures.py` wrote.
fn flowers(place: &Place) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/flowers-102");
    let folder = place.path("flowers");
    fs::create_dir_all(folder.join("jpg")).expect("makes");
    for name in ["imagelabels.mat", "setid.mat"] {
        fs::copy(fixtures.join(name), folder.join(name)).expect("copies");
    }
    for id in 1..=204_u32 {
        let picture = image::RgbImage::from_fn(9, 12, |x, y| image::Rgb([id as u8, (x * 20) as u8, (y * 20) as u8]));
        picture.save(folder.join(format!("jpg/image_{id:05}.jpg"))).expect("writes");
    }
}

/// Every recipe of a data set, small: each term of each step is a number, and each network is measured.
fn runs_small(dataset: &str, folder: &str, place: &Place) {
    let list = lines(&place.good("recipes --json", &[]));
    let recipes = list[0].as_array().expect("a list").iter().filter(|recipe| recipe["dataset"] == dataset);
    for recipe in recipes {
        let name = recipe["name"].as_str().expect("a name");
        let line = format!(
            "--device cpu train {name} --smoke --allow-untrained-teacher --data-dir @/{folder} --logdir @/runs --name {name}"
        );
        place.good(&line, &[]);
        let log = fs::read_to_string(place.path(&format!("runs/{name}/metrics.jsonl"))).expect("reads");
        let steps: Vec<Value> = lines(&log).into_iter().filter(|line| line["terms"].is_object()).collect();
        let mut terms = BTreeMap::new();
        for step in &steps {
            assert!(step["loss"].as_f64().is_some_and(f64::is_finite), "{name}: {step}");
            for (term, value) in step["terms"].as_object().expect("terms") {
                assert!(value.as_f64().is_some_and(f64::is_finite), "{name}: {step}");
                terms.entry(term.clone()).or_insert(0);
            }
        }
        let expected: &[&str] = match name {
            _ if name.starts_with("cls-kd") => {
                &["class-map", "class-token", "labels", "logits", "patches", "rows", "samples"]
            }
            "digits-at" => &["activity", "labels"],
            "digits-dist" => &["between-classes", "labels", "within-classes"],
            "digits-dkd" => &["labels", "other-classes", "target-class"],
            "digits-hint" => &["hint", "labels"],
            "digits-kd-standard" => &["labels", "standardised-logits"],
            "digits-rkd" => &["angles", "distances", "labels"],
            "digits-sp" => &["labels", "similarity"],
            _ if name.ends_with("-saf-kd") => &["labels", "logits", "saf"],
            _ if name.ends_with("-saf") => &["labels", "saf"],
            "cifar10-few-labels" => &["labels", "logits"],
            "digits-unseen-three" | "digits-seven-eight" => &["labels", "logits", "teacher-labels"],
            _ if name.ends_with("-labels") => &["labels", "logits", "teacher-labels"],
            _ if name.ends_with("-kd") || name.ends_with("soft") => &["labels", "logits"],
            "cifar10-small-both" | "cifar10-vit-ti" => &["labels", "logits"],
            // The labels are those of the teacher's own new head.
            "deit-cifar-10-distill" => &["labels", "teacher-labels"],
            _ if name.ends_with("hard") || name == "deit-ti-distilled-imagenet" => &["labels", "teacher-labels"],
            "distillvit-student" => &["labels", "softened-teacher"],
            "distillable-vit-lwr" => &["labels", "retrospection"],
            "digits" | "mnist" | "mnist-1000" | "pictures" | "pictures-few" => &["labels", "logits"],
            _ => &["labels"],
        };
        let found: Vec<&str> = terms.keys().map(String::as_str).collect();
        assert_eq!(found, expected, "{name}");
        let models = place.json(&format!("runs/{name}/result.json"))["models"].clone();
        let goal = recipe["objective"].as_str().expect("an objective");
        let trained = if goal == "teacher" { "teacher" } else { "student" };
        assert!(models[trained]["accuracy"].is_number(), "{name}: {models}");
        assert_eq!(models["teacher"].is_object(), goal != "student", "{name}");
    }
}

#[test]
fn the_recipes_of_small_pictures_run_small() {
    let place = Place::with_mnist();
    cifar(&place);
    place.mnist("mnist", 64);
    runs_small("digits", "none", &place);
    runs_small("MNIST", "mnist", &place);
    runs_small("CIFAR-10", "cifar-10", &place);
    runs_small("CIFAR-100", "cifar-100", &place);
}

#[test]
fn the_recipes_of_folders_run_small() {
    let place = Place::with_mnist();
    pictures(&place, "imagenet", 1000, 1);
    pictures(&place, "dogs", 2, 40);
    runs_small("ImageNet", "imagenet", &place);
    runs_small("folder", "dogs", &place);
    flowers(&place);
    runs_small("Flowers-102", "flowers", &place);
}
