//! The command from outside: what a script sees of it.
//!
//! Why here and not with the other tests: cargo builds a command before the tests of its own package, and of no other.

mod common;

use std::fs;

use common::mnist::{TEST_SAMPLES, digit};
use common::{Place, lines, tensors, texts};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgba};
use serde_json::Value;

#[test]
fn a_run_is_trained_measured_and_used() {
    let place = Place::with_mnist();
    let out = place.train("--name first --train_samples 50 --seed 3");
    assert!(out.contains("--device cpu"), "the device and why are printed:\n{out}");
    for file in ["recipe.toml", "metrics.jsonl", "result.json", "curves.svg", "student.safetensors"] {
        assert!(place.path("runs/first").join(file).is_file(), "{file}");
    }
    assert!(!place.path("runs/first/state.json").exists());
    let result = place.json("runs/first/result.json");
    assert_eq!(result["device"]["kind"], "cpu");
    assert_eq!((&result["dataset"]["train"], &result["dataset"]["test"]), (&50.into(), &TEST_SAMPLES.into()));
    for role in ["teacher", "student", "baseline"] {
        let accuracy = result["models"][role]["accuracy"].as_f64().expect("an accuracy");
        assert!((0.0..=1.0).contains(&accuracy));
        // A second look at the same network sees the same.
        let line = format!("eval @/runs/first --which {role} --dataset mnist --data_dir @/data --json --device cpu");
        let eval = &lines(&place.good(&line, &[]))[0];
        assert_eq!((&eval["accuracy"], &eval["samples"]), (&accuracy.into(), &TEST_SAMPLES.into()));
    }
    let line =
        "eval @/runs/first --dataset MNIST --data-dir @/data --limit 7 --json --device cpu --confusion @/matrix.csv";
    assert_eq!(lines(&place.good(line, &[]))[0]["samples"], 7);
    let matrix = fs::read_to_string(place.path("matrix.csv")).expect("reads");
    let counts =
        matrix.lines().skip(1).flat_map(|row| row.split(',').skip(1)).map(|n| n.parse::<u64>().expect("a number"));
    assert_eq!((matrix.lines().count(), counts.sum::<u64>()), (11, 7));

    // Pictures of the held-out digits are taken for what the digits were taken for.
    let mut names = Vec::new();
    for index in 0..TEST_SAMPLES {
        names.push(place.text(&format!("digit-{index}.png")));
        digit(index).save(&names[index]).expect("writes");
    }
    let more: Vec<&str> = ["--image"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let found = lines(&place.good("predict @/runs/first --json --top 3 --device cpu", &more));
    assert_eq!(found.len(), TEST_SAMPLES);
    let mut right = 0;
    for (index, line) in found.iter().enumerate() {
        assert_eq!(line["image"], names[index].as_str());
        let (logits, top) = (line["logits"].as_array().expect("logits"), line["top"].as_array().expect("top"));
        assert_eq!((logits.len(), top.len()), (10, 3));
        assert_eq!(top[0]["label"], top[0]["index"].to_string().as_str());
        assert!(top[0]["probability"].as_f64() >= top[1]["probability"].as_f64());
        right += usize::from(top[0]["index"] == index % 10);
    }
    let accuracy = result["models"]["student"]["accuracy"].as_f64().expect("an accuracy");
    assert_eq!(right, (accuracy * TEST_SAMPLES as f64).round() as usize);

    // A file for others: half the bytes, and what it says of its accuracy is what measuring it gives.
    let export = "export @/runs/first --half --to @/half.safetensors --dataset MNIST --data-dir @/data --device cpu";
    let said = place.good(export, &[]);
    let eval = place.good("eval @/half.safetensors --dataset MNIST --data-dir @/data --json --device cpu", &[]);
    let accuracy = lines(&eval)[0]["accuracy"].as_f64().expect("an accuracy");
    assert!(said.contains(&format!("right on {:.2} % of {TEST_SAMPLES} samples", 100.0 * accuracy)), "{said}");
    let size = |name: &str| fs::metadata(place.path(name)).expect("is there").len();
    let (whole, half) = (size("runs/first/student.safetensors"), size("half.safetensors"));
    assert!(10 * half < 7 * whole, "{half} of {whole} bytes");

    // A weights file says what it is: it serves as a teacher by itself.
    let teacher = place.text("runs/first/teacher.safetensors");
    place.train(&format!("--name second --teacher {teacher} --set baseline=false"));
    let models = &place.json("runs/second/result.json")["models"];
    assert!(models["student"].is_object() && models["baseline"].is_null());
}

#[test]
fn the_figures_can_be_had_as_json_and_the_recipes_as_a_list() {
    let place = Place::with_mnist();
    let out = place.train("--name run --objective student --json --model-ema --readout class");
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last, place.json("runs/run/result.json"));
    assert!(last["models"]["student"]["average_accuracy"].is_number());
    let list = lines(&place.good("recipes --json", &[]));
    let names: Vec<&str> = list[0].as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
    assert!(names.contains(&"digits") && names.contains(&"mnist-1000"));
    let text = place.good("recipes", &[]);
    assert!(names.iter().all(|name| text.contains(name)));
}

#[test]
fn a_run_without_a_name_gets_a_fresh_folder() {
    let place = Place::with_mnist();
    for _ in 0..2 {
        place.train("--objective student");
    }
    let runs: Vec<_> = fs::read_dir(place.path("runs")).expect("lists").flatten().map(|entry| entry.path()).collect();
    assert_eq!(runs.len(), 2);
    assert!(
        runs.iter()
            .all(|run| run.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mnist-student-00")))
    );
    // The same seed gives the same network, to the last bit.
    assert!(tensors(&runs[0].join("student.safetensors")) == tensors(&runs[1].join("student.safetensors")));
}

#[test]
fn pictures_of_every_kind_are_taken() {
    let place = Place::with_mnist();
    place.train("--name run --objective student");
    let page = |ink: fn(u8) -> u8| {
        let digit = image::imageops::resize(&digit(4), 112, 112, image::imageops::FilterType::Triangle);
        GrayImage::from_fn(160, 220, |x, y| {
            let inside = (20..132).contains(&x) && (80..192).contains(&y);
            Luma([ink(if inside { digit.get_pixel(x - 20, y - 80).0[0] } else { 0 })])
        })
    };
    let (bright, dark) = (page(|v| v), page(|v| 255 - v));
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_fn(160, 220, |x, y| Luma([u16::from(dark.get_pixel(x, y).0[0]) * 257]));
    let clear = image::RgbaImage::from_fn(160, 220, |x, y| Rgba([0, 0, 0, bright.get_pixel(x, y).0[0]]));
    let pictures: [(&str, DynamicImage); 6] = [
        ("white-on-black.png", bright.into()),
        ("grey.png", dark.clone().into()),
        ("grey.jpg", dark.clone().into()),
        ("colour.jpeg", DynamicImage::from(dark.clone()).to_rgb8().into()),
        ("deep.png", deep.into()),
        ("clear.png", clear.into()),
    ];
    let mut names = Vec::new();
    for (name, picture) in pictures {
        names.push(place.text(name));
        picture.save(place.path(name)).expect("writes");
    }
    // What counts is what is in the file, not what it is called.
    names.push(place.text("picture"));
    fs::copy(&names[0], place.path("picture")).expect("copies");
    let more: Vec<&str> = ["--image"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let found = lines(&place.good("predict @/runs/run --json --device cpu", &more));
    let class = |line: &Value| line["top"][0]["index"].clone();
    assert!(found.iter().all(|line| class(line) == class(&found[0])), "{found:#?}");

    // One that cannot be read keeps none of the others from being classified.
    place.write("broken.png", b"\x89PNG\r\n\x1a\nand no more");
    let output =
        place.run("predict @/runs/run --device cpu --image @/broken.png @/grey.png @/none.png @/deep.png", &[]);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(out.contains("grey.png") && out.contains("deep.png") && out.contains('%'), "{out}");
    let complaints: Vec<&str> = err.lines().collect();
    assert_eq!(complaints.len(), 2, "{err}");
    assert!(complaints[0].starts_with("error: ") && complaints[0].contains("broken.png"), "{err}");
    assert!(complaints[1].starts_with("error: ") && complaints[1].contains("none.png"), "{err}");
}

#[test]
fn devices_and_selftest_answer_in_json() {
    let place = Place::with_mnist();
    let devices: Vec<Value> = serde_json::from_str(&place.run_out("devices --json")).expect("JSON");
    assert_eq!(devices.iter().filter(|device| device["default"] == true).count(), 1);
    let cpu: Vec<&Value> = devices.iter().filter(|device| device["kind"] == "cpu").collect();
    assert_eq!((cpu.len(), &cpu[0]["device"], &cpu[0]["usable"]), (1, &"cpu".into(), &true.into()));
    for device in &devices {
        for key in ["name", "api", "driver", "reason"] {
            assert!(device[key].is_string(), "{key} of {device}");
        }
        assert_eq!(device["index"].is_u64(), device["device"].as_str().is_some_and(|name| name.starts_with("gpu:")));
    }
    assert!(place.run_out("devices").contains("--device"));

    let tested: Value = serde_json::from_str(&place.good("selftest --json --device cpu", &[])).expect("JSON");
    assert_eq!((&tested["failed"], &tested["device"]["kind"]), (&0.into(), &"cpu".into()));
    assert_eq!(tested["checks"].as_array().map(|checks| checks.len() as u64), tested["passed"].as_u64());
    assert!(place.good("selftest --device cpu", &[]).contains("0 failed"));
}

#[test]
fn no_more_is_looked_at_than_is_measured_on() {
    let place = Place::with_mnist();
    place.train("--name run --objective student --set data.test_samples=20");
    let log = fs::read_to_string(place.path("runs/run/metrics.jsonl")).expect("reads");
    let checks: Vec<Value> = lines(&log).into_iter().filter(|line| line["held_out_accuracy"].is_number()).collect();
    assert_eq!(checks.len(), 2, "one an epoch");
    assert!(checks.iter().all(|check| check["samples"] == 20), "{checks:?}");
    assert_eq!(place.json("runs/run/result.json")["dataset"]["test"], 20);
}
