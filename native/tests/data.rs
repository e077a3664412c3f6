//! Data sets from outside: what the command makes of archives, folders of images and downloads.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// Networks small enough for a run of a second, of three channels.
const TINY: &str = "--set student.vit={depth=1,width=8,heads=1,patch_size=8,channels=3,image_size=16,classes=10} \
                    --objective student --epochs 1 --batch-size 8 --device cpu --logdir runs --name run";

fn potstill(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_potstill"));
    // A layer of Mesa's Vulkan complains where there is no desktop session.
    command
        .args(line.split_whitespace())
        .current_dir(folder)
        .env("NODEVICE_SELECT", "1")
        .output()
        .expect("the command starts")
}

fn runs(folder: &Path, line: &str) -> String {
    let output = potstill(folder, line);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn result(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("runs/run/result.json")).expect("a result")).expect("JSON")
}

/// Records of CIFAR-10's labels in turn.
fn records(count: usize) -> Vec<u8> {
    let record = |index: usize| [vec![(index % 10) as u8], vec![(index * 20) as u8; 3072]].concat();
    (0..count).flat_map(record).collect()
}

#[test]
fn cifar_trains_augmented_and_mixed() {
    let folder = TempDir::new().expect("a folder");
    let place = folder.path().join("data/cifar-10-batches-bin");
    fs::create_dir_all(&place).expect("makes");
    (1..6).for_each(|n| fs::write(place.join(format!("data_batch_{n}.bin")), records(10)).expect("writes"));
    fs::write(place.join("test_batch.bin"), records(20)).expect("writes");
    let recipe = "base = 'digits'\n[data]\ndataset = 'CIFAR-10'\ntrain_samples = 50\n[data.transform]\nflip = 0.5\n\
                  crop = { kind = 'random-resized' }\n[data.preprocess]\nresize = 'squash'";
    fs::write(folder.path().join("recipe.toml"), recipe).expect("writes");
    let flags = "--aa rand-m9-mstd0.5-inc1 --reprob 0.5 --mixup 0.8 --cutmix 1.0 --repeated-aug --smoothing 0.1";
    runs(folder.path(), &format!("train recipe.toml {TINY} {flags}"));
    let result = result(folder.path());
    assert_eq!((result["dataset"]["train"].as_u64(), result["dataset"]["test"].as_u64()), (Some(50), Some(20)));
    let student = &result["models"]["student"];
    for key in ["images_per_second", "loader_images_per_second", "step_images_per_second"] {
        assert!(student[key].as_f64().is_some_and(|rate| rate > 0.0), "{key}: {student}");
    }
    let kept = fs::read_to_string(folder.path().join("runs/run/recipe.toml")).expect("a recipe");
    for word in ["rand-n2-m9-mstd0.5-inc1", "repeats = 3", "cutmix = 1.0", "random-resized"] {
        assert!(kept.contains(word), "{word} is not in {kept}");
    }
}

#[test]
fn a_folder_of_images_of_any_size_trains_and_is_measured() {
    let folder = TempDir::new().expect("a folder");
    for (split, class) in ["train", "val"].into_iter().flat_map(|split| (0..10).map(move |class| (split, class))) {
        let place = folder.path().join(format!("images/{split}/class{class}"));
        fs::create_dir_all(&place).expect("makes");
        for number in 0..2 {
            let image = RgbImage::from_pixel(20 + class, 30 + number, Rgb([25 * class as u8, 99, 3]));
            image.save(place.join(format!("{number}.{}", ["png", "jpg"][number as usize]))).expect("writes");
        }
    }
    fs::write(folder.path().join("recipe.toml"), "base = 'digits'\n[data]\ndataset = 'folder'\ntrain_samples = 20")
        .expect("writes");
    runs(folder.path(), &format!("train recipe.toml --data-dir images {TINY}"));
    assert_eq!(result(folder.path())["dataset"]["train"].as_u64(), Some(20));
    let line = "eval runs/run --dataset folder --data-dir images --device cpu --json";
    let measured: Value = serde_json::from_str(&runs(folder.path(), line)).expect("JSON");
    assert_eq!(measured["samples"].as_u64(), Some(20));
    let predicted = runs(folder.path(), "predict runs/run --image images/val/class3/0.png --device cpu");
    assert!(predicted.contains("class"), "{predicted}");
    // A file that breaks in the middle of the work is named.
    fs::write(folder.path().join("images/val/class4/1.jpg"), b"no picture").expect("writes");
    let output = potstill(folder.path(), line);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && errors.contains("class4/1.jpg") && errors.lines().count() == 1,
        "{errors}"
    );
}

#[test]
fn fetching_says_what_to_put_where() {
    let folder = TempDir::new().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/mirror/", listener.local_addr().expect("an address"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let asked = BufReader::new(&stream).lines().next().expect("a line").expect("a request");
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("answers");
        asked
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_potstill"));
    command.args(["fetch", "cifar-10", "--data-dir", "sets"]).env("POTSTILL_FETCH_BASE", address);
    let output = command.current_dir(folder.path()).output().expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(server.join().expect("served").starts_with("GET /mirror/cifar-10-binary.tar.gz "));
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("404") && errors.contains("sets/cifar-10-binary.tar.gz"), "{errors}");
    assert_eq!((errors.lines().count(), fs::read_dir(folder.path().join("sets")).expect("made").count()), (1, 0));
    let output = potstill(folder.path(), "fetch digits");
    assert_eq!(output.status.code(), Some(2));
}
