//! `potstill bench` from outside.

mod common;

use common::{Place, lines, texts};
use serde_json::Value;

/// Runs a benchmark and returns its objects.
fn bench(line: &str) -> Vec<Value> {
    let place = Place::new();
    lines(&place.good(&format!("bench {line} --json --repeats 2 --warmup 1"), &[]))
}

#[test]
fn a_benchmark_prints_an_object_a_path() {
    let small = "--image 8 --patch 4 --channels 1 --classes 5 --width 16 --depth 2 --heads 2";
    for (line, rows) in [
        ("attention --case 2,2,5,8 --case 1,1,3,4", 4),
        ("distillation-loss --case 3,5", 2),
        ("saf --case 2,5,2,4,3,4", 2),
        (
            &*format!(
                "step --batch 2 {small} --teacher-width 24 --teacher-depth 2 --teacher-heads 3 \
                    --distillation none --distillation KD --distillation SAF+KD"
            ),
            6,
        ),
        (&*format!("inference --batch 1 --batch 3 {small}"), 4),
        (&*format!("inference --batch 3 --only stock {small}"), 1),
    ] {
        let found = bench(&format!("{line} --device cpu"));
        let (ceiling, measured) = found.split_first().expect("lines");
        assert_eq!((&ceiling["bench"], &ceiling["device"]["kind"]), (&"ceiling".into(), &"cpu".into()));
        assert!(ceiling["ceiling"]["gflop_per_s"].as_f64() > Some(0.0));
        assert_eq!(measured.len(), rows, "{line}");
        let first = if rows == 1 { ["stock"; 2] } else { ["potstill", "stock"] };
        for (row, path) in measured.iter().zip(first.into_iter().cycle()) {
            assert_eq!(row["path"], path, "{line}: the paths take turns");
            assert!(line.starts_with(row["bench"].as_str().expect("a name")) && row["case"]["batch"].is_u64());
            assert!(row["median_ms"].as_f64() > Some(0.0) && row["spread_ms"].as_f64() >= Some(0.0), "{row}");
            // The CPU launches nothing and counts no bytes.
            assert!(["dispatches", "kept_bytes", "peak_bytes"].iter().all(|key| row[*key].is_null()), "{row}");
        }
    }
    let loader = bench("loader --batch 7 --augment --device cpu");
    assert_eq!((loader.len(), &loader[0]["case"]["augmented"]), (1, &true.into()));
}

#[test]
fn a_benchmark_counts_what_kernels_launch_and_keep() {
    let place = Place::new();
    let devices: Value = serde_json::from_str(&place.good("devices --json", &[])).expect("JSON");
    if !devices.as_array().expect("a list").iter().any(|device| device["device"] == "software") {
        println!("skipped: there is no software adapter, the device whose kernels are the same everywhere");
        return;
    }
    let (rows, classes) = (6, 10);
    let found = bench(&format!("distillation-loss --case {rows},{classes} --kernels --device software"));
    let [_, ours, stock] = found.as_slice() else { panic!("{found:?}") };
    // A dispatch each way, and one for the gradient of ones that the backward pass begins with.
    assert_eq!((&ours["forward_dispatches"], &ours["dispatches"]), (&1.into(), &3.into()));
    assert!(stock["dispatches"].as_u64() > ours["dispatches"].as_u64(), "{stock}");
    let by_kernel = ours["kernels"].as_object().expect("names").values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(Some(by_kernel), ours["dispatches"].as_u64());
    // Two numbers a row, in whole pieces of what the device lets a binding begin at.
    let kept = ours["kept_bytes"].as_u64().expect("the runtime tells");
    assert!((8 * rows..8 * rows + 256).contains(&kept), "{kept} bytes");
    assert!(ours["peak_bytes"].as_u64() >= Some(kept));
}

#[test]
fn a_benchmark_refuses_what_makes_no_sense_or_does_not_fit() {
    let place = Place::new();
    for (line, word) in [
        ("attention --case 100000,12,197,4096", "GiB"),
        ("attention --case 4000000000,4000000000,4000000000,4000000000", "GiB"),
        ("distillation-loss --case 4000000000,4000000000", "GiB"),
        ("saf --case 100000,1970,3,64,12,64", "GiB"),
        ("step --batch 1000000 --distillation SAF+KD", "GiB"),
        ("inference --batch 100000000", "GiB"),
        ("step --heads 7", "heads"),
        ("step --distillation everything", "everything"),
        ("inference --batch 0", "0"),
        ("attention --case 1,2,3", "4 whole numbers"),
        ("loader --batch 0", "0"),
        ("loader --batch 1000000", "4096"),
        ("loader --repeats 0", "0"),
        ("loader --only stock", "--only"),
    ] {
        let output = place.run(&format!("--device cpu bench {line}"), &["--warmup", "1"]);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {err}");
        assert!(err.starts_with("error: ") && err.contains(word) && !err.contains("panicked"), "{line}: {err}");
    }
}
