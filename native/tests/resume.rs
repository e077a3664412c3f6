//! Runs that are interrupted and go on.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::mnist::TINY;
use common::{Place, lines, tensors, texts};
use serde_json::Value;

/// Whether two values are equal, numbers to within the rounding of a decimal.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs(),
            _ => a == b,
        },
        _ => a == b,
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_as_if_nothing_had_been() {
    // The first stage of each is the one that is interrupted.
    let distilled = "--set teacher.epochs=40 --set student.epochs=3 --set baseline=false";
    goes_on(TINY, distilled, &["teacher", "student"]);
    // A mean of the parameters, a table of past logits and gathered gradients are part of where a run stands.
    let own_past = "--objective student --retrospect --lwr-k 2 --lwr-max-epochs 60 --model-ema-decay 0.9 --accumulate 3 \
                    --opt adam --sched step --decay-epochs 4 --set student.epochs=40";
    goes_on(TINY, own_past, &["student", "student-ema"]);
    // So is the best network so far, by the validation split.
    let best = "--objective student --validation 0.3 --keep-best --early-stop 30 --model-ema-decay 0.9 --set \
                student.epochs=40";
    goes_on(TINY, best, &["student", "student-ema"]);
    // And so are the running statistics of a network that normalises over the batch.
    let resnet = "teacher.resnet={image_size=28,channels=1,classes=10,width=4}";
    let small = ["--set", "teacher.model=resnet18", "--set", resnet, "--batch-size", "16"];
    goes_on(&small, "--objective teacher --set teacher.epochs=40", &["teacher"]);
}

#[cfg(unix)]
fn goes_on(networks: &[&str], options: &str, weights: &[&str]) {
    let place = Place::with_mnist();
    let line = |name: &str| {
        format!(
            "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --name {name} \
             --allow-untrained-teacher {options}"
        )
    };
    place.good(&line("whole"), networks);
    let child = place.command(&line("cut"), networks).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the command starts");
    // Interrupted after the first checkpoint, some way into forty epochs.
    while !place.path("runs/cut/checkpoint").exists() {
        assert!(child.try_wait().expect("waits").is_none(), "the run ended before it could be interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(sent.success());
    let output = child.wait_with_output().expect("waits");
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(130), "{out}\n{err}");
    assert!(!place.path("runs/cut/result.json").exists());
    place.good("--device cpu train --resume --logdir @/runs", &[]);
    for name in weights {
        let [whole, cut] = ["whole", "cut"].map(|run| tensors(&place.path(&format!("runs/{run}/{name}.safetensors"))));
        assert!(whole == cut, "{name}: other parameters");
    }
    let figures = |run: &str| {
        let models = place.json(&format!("runs/{run}/result.json"))["models"].clone();
        let of = |model: &Value| [model["accuracy"].clone(), model["average_accuracy"].clone()];
        models.as_object().expect("models").values().map(of).collect::<Vec<_>>()
    };
    assert_eq!(figures("whole"), figures("cut"));
    // The log as a whole, but for what the clock says and the last bit that a number loses on its way through text.
    let log = |run: &str| lines(&fs::read_to_string(place.path(run).join("metrics.jsonl")).expect("reads"));
    let (whole, cut) = (log("runs/whole"), log("runs/cut"));
    assert_eq!(whole.len(), cut.len());
    for (whole, cut) in whole.iter().zip(&cut) {
        assert!(same(whole, cut), "{whole} and {cut}");
    }
}

#[test]
fn a_run_goes_on_with_its_own_recipe() {
    let place = Place::new();
    for (given, named) in [
        ("digits", "the recipe"),
        ("--objective student", "--objective"),
        ("--distillation KD", "--distillation"),
        ("--teacher-path FILE", "--teacher"),
        ("--data-path DIR", "--data-path"),
        ("--teacher-cache DIR", "--teacher-cache"),
        ("--smoke", "--smoke"),
        ("--set seed=3", "--set"),
        ("--opt adam", "--opt"),
        ("--linear-probe", "--linear-probe"),
        ("--mixup 0.8", "--mixup"),
        ("--model deit_tiny_patch16_224", "--model"),
        ("--K 64", "--K"),
        ("--num_workers 4", "--num-workers"),
    ] {
        let output = place.run(&format!("train {given} --resume --name none --json --allow-untrained-teacher"), &[]);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{given}: {err}");
        assert_eq!(err, format!("error: --resume goes on with the run's own recipe; leave out {named}\n"), "{given}");
    }
}
