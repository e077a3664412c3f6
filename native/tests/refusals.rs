//! What is refused.
//!
//! Invariants that every refused input is held to: the exit code that the table states, one line on the error stream that
//! begins with `error:` (the argument parser's own messages have more), no panic, and not a file written anywhere.

mod common;

use std::fs;

use common::mnist::idx;
use common::{Place, texts};
use serde_json::Value;

/// A safetensors file of one tensor.
fn safetensors(name: &str, shape: &[usize]) -> Vec<u8> {
    let length = 4 * shape.iter().product::<usize>();
    let header =
        serde_json::json!({ name: { "dtype": "F32", "shape": shape, "data_offsets": [0, length] } }).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + length, 0);
    bytes
}

/// Who refuses: the command, in one line, or the parser of its arguments, in several.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Command,
    Parser,
}

#[test]
fn every_bad_input_is_refused_in_one_line() {
    use By::{Command, Parser};
    let place = Place::with_mnist();
    let file = |name: &str| fs::read(place.path("data").join(name)).expect("reads");
    let (images, labels) = (file("train-images-idx3-ubyte"), file("train-labels-idx1-ubyte"));
    let bad_data = |folder: &str, images: &[u8], labels: &[u8]| {
        for (name, bytes) in [("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)] {
            place.write(&format!("{folder}/train-{name}"), bytes);
            place.write(&format!("{folder}/t10k-{name}"), bytes);
        }
    };
    bad_data("cut", &images[..images.len() - 9], &labels);
    bad_data("vast", &idx(&[u32::MAX, 28, 28], &[]), &labels);
    bad_data("swapped", &labels, &images);
    bad_data("fewer", &images, &idx(&[59], &[0; 59]));
    bad_data("beyond", &images, &idx(&[60], &[10; 60]));
    bad_data("empty", &idx(&[0, 28, 28], &[]), &idx(&[0], &[]));
    place.write("gz/train-images-idx3-ubyte.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03broken");
    place.write("gz/train-labels-idx1-ubyte", &labels);
    fs::create_dir_all(place.path("runs/taken")).expect("makes");
    place.write("other.safetensors", &safetensors("head.weight", &[3, 5]));
    let whole = safetensors("head.weight", &[10, 64]);
    place.write("cut.safetensors", &whole[..whole.len() - 100]);
    place.write("noise.safetensors", &[0xff; 64]);
    place.write("unknown.toml", b"[student]\nwidht = 3\n");
    place.write("broken.toml", b"seed = [1,\n");
    place.write("noise.png", b"no picture");
    place.write("binary.toml", &[0xff, 0xfe, 0]);

    let train = "train --dataset MNIST --data-dir @/data --logdir @/new";
    let digits = "train --dataset digits --logdir @/new";
    let data = "train --dataset MNIST --logdir @/new --data-dir";
    let weights = "--dataset MNIST --data-dir @/data --model digits_student --weights";
    let mut table: Vec<(String, i32, By, &str)> = Vec::new();
    let mut add = |line: String, code: i32, by: By, word: &'static str| table.push((line, code, by, word));
    // Data.
    add(format!("{data} @/nowhere"), 1, Command, "download");
    add(format!("{data} @/cut"), 1, Command, "truncated");
    add(format!("{data} @/vast"), 1, Command, "declare");
    add(format!("{data} @/swapped"), 1, Command, "magic");
    add(format!("{data} @/fewer"), 1, Command, "labels");
    add(format!("{data} @/beyond"), 1, Command, "classes");
    add(format!("{data} @/empty"), 1, Command, "declare 0");
    add(format!("{data} @/gz"), 1, Command, "decompress");
    add("train --dataset nothing --logdir @/new".into(), 2, Command, "digits");
    add("eval @/runs/taken --dataset nothing".into(), 1, Command, "taken");
    // Numbers.
    for (flag, word) in [
        ("--batch-size 0", "batch_size"),
        ("--batch-size 1000000000000", "batch_size"),
        ("--epochs 0", "epochs"),
        ("--epochs 9223372036854775808", "epochs"),
        ("--train-samples 0", "samples"),
        ("--train-samples 61", "60"),
        ("--train-samples 1000000000000", "samples"),
        ("--train-samples 18446744073709551615", "samples"),
        ("--labels 61", "ask for 1 to 60"),
        ("--omit 3 --labels 55", "ask for 1 to 54"),
        ("--omit 0 1 2 3 4 5 6 7 8 9", "every class"),
        ("--set teacher.data.labels=61", "teacher.data.labels"),
        ("--set teacher.data.omit=[11]", "teacher.data.omit names the class 11"),
        ("--omit 10", "data.omit names the class 10"),
        ("--omit 3 --correct-bias --set data.shares=[0.5,0.5]", "10 classes"),
        ("--lr nan", "lr"),
        ("--lr inf", "lr"),
        ("--lr=-1", "lr"),
        ("--lr 0", "lr"),
        ("--set student.vit.heads=7", "heads"),
        ("--set student.vit.width=0", "width"),
        ("--set student.vit.depth=1000000000", "depth"),
        ("--set student.vti.depth=2", "vti"),
        ("--set student.vit.dpeth=2", "dpeth"),
        ("--set student.epochs=soon", "epochs"),
        ("--set student.epochs=-3", "epochs"),
        ("--set student", "KEY=VALUE"),
        ("--set =3", "key"),
        ("--set seed.x=3", "seed"),
        ("--set distillation.temperature=0", "temperature"),
        ("--set distillation.alpha=nan", "alpha"),
        ("--set student.model=resnet9000", "resnet9000"),
        ("--distillation magic", "magic"),
        ("--set data.normalisation={mean=[0.5],std=[0.0]}", "deviation"),
        ("--set data.normalisation={mean=[0.5,0.5],std=[1,1]}", "normalisation"),
        ("--set student.vit.channels=2 --set teacher.vit.channels=2", "channels"),
        ("--name taken/../../x", "name"),
        ("--name ..", "name"),
        ("--resume", "resume"),
        ("--resume --name none", "resume"),
    ] {
        add(format!("{train} {flag}"), 2, Command, word);
    }
    add(format!("{train} --unlabelled @/cwd"), 1, Command, "holds no");
    add(format!("{train} --unlabelled @/nowhere"), 1, Command, "nowhere");
    add(format!("{train} --objective student --unlabelled @/cwd"), 2, Command, "asks none");
    add(format!("{digits} --train-samples 1000000000000"), 2, Command, "samples");
    add("train --dataset MNIST --data-dir @/data --logdir @/runs --name taken".into(), 2, Command, "taken");
    add(format!("{train} --teacher @/runs/taken"), 1, Command, "teacher");
    add(format!("{train} --teacher @/nowhere"), 1, Command, "nowhere");
    add(format!("{train} --teacher @/cut.safetensors"), 1, Command, "cut.safetensors");
    // Recipes.
    add("train @/unknown.toml --logdir @/new".into(), 2, Command, "widht");
    add("train @/broken.toml --logdir @/new".into(), 2, Command, "broken.toml");
    add("train @/binary.toml --logdir @/new".into(), 1, Command, "binary.toml");
    add("train @/none.toml --logdir @/new".into(), 1, Command, "none.toml");
    // Networks.
    add("eval @/runs/taken --dataset digits".into(), 1, Command, "taken");
    add("eval @/runs/none --dataset digits".into(), 1, Command, "none");
    add("eval @/runs/taken --dataset digits --limit 0".into(), 2, Command, "limit");
    add("eval @/runs/taken --dataset digits --confusion x.png".into(), 2, Command, ".svg");
    add("eval --dataset digits --model nothing --weights @/other.safetensors".into(), 2, Command, "digits_student");
    add(format!("eval {weights} @/other.safetensors"), 1, Command, "other.safetensors");
    add(format!("eval {weights} @/cut.safetensors"), 1, Command, "cut.safetensors");
    add(format!("eval {weights} @/noise.safetensors"), 1, Command, "noise.safetensors");
    add(format!("eval {weights} @/none.safetensors"), 1, Command, "none.safetensors");
    add(format!("eval {weights} @/cwd"), 1, Command, "cwd");
    add("eval @/other.safetensors --which teacher --dataset digits".into(), 2, Command, "--which");
    add("export @/other.safetensors --which student --to @/new.safetensors".into(), 2, Command, "--which");
    add("predict @/runs/taken --image @/noise.png".into(), 1, Command, "taken");
    add("export @/runs/taken --to @/new/half.safetensors".into(), 1, Command, "taken");
    add("export @/runs/taken --to @/half.bin".into(), 2, Command, ".safetensors");
    // The command line.
    add("".into(), 2, Parser, "Usage");
    add("distil".into(), 2, Parser, "distil");
    add(format!("{train} --lr -1"), 2, Parser, "-1");
    add(format!("{train} --epochs many"), 2, Parser, "many");
    add(format!("{train} --batch-size -4"), 2, Parser, "-4");
    add(format!("{train} --device teapot"), 2, Parser, "gpu:N");
    add(format!("{train} --objective sleep"), 2, Parser, "distillation");
    add("eval --dataset digits".into(), 2, Parser, "RUN");
    add("eval @/runs/taken".into(), 2, Parser, "--dataset");
    add("eval --dataset digits --weights @/other.safetensors".into(), 2, Command, "--model");
    add("predict @/runs/taken".into(), 2, Parser, "--image");
    add("predict @/runs/taken --top 0 --image @/noise.png".into(), 2, Parser, "--top");

    let devices: Vec<Value> = serde_json::from_str(&place.run_out("devices --json")).expect("JSON");
    if !devices.iter().any(|device| device["index"].is_u64()) {
        add(format!("{train} --device gpu"), 1, Command, "--device cpu");
        add(format!("{train} --device gpu:3"), 1, Command, "--device cpu");
        add("selftest --device gpu".into(), 1, Command, "--device cpu");
    }

    let before = place.contents();
    let mut wrong = Vec::new();
    for (line, code, by, word) in &table {
        let more: &[&str] = if line.contains("--device") || line.is_empty() { &[] } else { &["--device", "cpu"] };
        let output = place.run(line, more);
        let (out, err) = texts(&output);
        // Drivers may have something to say while a GPU is looked for.
        let quiet = !line.contains("--device gpu");
        let own: Vec<&str> = err.lines().filter(|line| quiet || line.starts_with("error:")).collect();
        let begins = own.first().is_some_and(|first| first.starts_with("error:")) || (line.is_empty() && *by == Parser);
        let fine = output.status.code() == Some(*code)
            && begins
            && (own.len() == 1 || *by == Parser)
            && err.contains(word)
            && !err.contains("panicked");
        if !fine {
            wrong
                .push(format!("{line}\n  wanted {code} and {word:?}\n  {}\n  out: {out}\n  err: {err}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    let after = place.contents();
    let changed: Vec<_> = after.keys().filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "something was written: {changed:?}");
}

#[test]
fn shaders_with_subgroups_are_refused_where_there_are_none() {
    let output = Place::with_mnist().run("--device cpu --shaders subgroups selftest", &[]);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.starts_with("error: --shaders subgroups") && err.contains("CPU") && err.lines().count() == 1, "{err}");
}
