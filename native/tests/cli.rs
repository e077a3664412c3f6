//! The command from outside: what a script sees of it.
//!
//! Why here and not with the other tests: cargo builds a command before the tests of its own package, and of no other.
//!
//! Invariants that every refused input is held to: the exit code that the table states, one line on the error stream that
//! begins with `error:` (the argument parser's own messages have more), no panic, and not a file written anywhere.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Place, lines, texts};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgba};
use potstill_core::data::{Dataset, Digits, Split};
use serde_json::Value;

const TRAIN_SAMPLES: usize = 60;
const TEST_SAMPLES: usize = 30;

/// Networks small enough for a run of a second.
const TINY: &[&str] = &[
    "--set",
    "teacher.vit={depth=1,width=16,heads=2}",
    "--set",
    "student.vit={depth=1,width=8,heads=1}",
    "--batch-size",
    "16",
];

impl Place {
    /// With MNIST's files, of drawn digits, in the folder `data`.
    fn with_mnist() -> Self {
        let place = Self::new();
        place.mnist("data", TRAIN_SAMPLES);
        place
    }

    /// Writes the four files of MNIST into a folder, with as many training samples.
    fn mnist(&self, folder: &str, train: usize) {
        for (split, stem, samples) in [(Split::Train, "train", train), (Split::Test, "t10k", TEST_SAMPLES)] {
            let set = Digits::new(split, samples);
            let mut pixels = vec![0; samples * 784];
            pixels.chunks_mut(784).enumerate().for_each(|(index, image)| set.draw(index, image));
            let labels: Vec<u8> = (0..samples).map(|index| set.label(index) as u8).collect();
            self.write(&format!("{folder}/{stem}-images-idx3-ubyte"), &idx(&[samples as u32, 28, 28], &pixels));
            self.write(&format!("{folder}/{stem}-labels-idx1-ubyte"), &idx(&[samples as u32], &labels));
        }
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        fs::write(path, bytes).expect("writes");
    }

    fn train(&self, line: &str) -> String {
        self.good(
            &format!(
                "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --epochs 2 \
                 --allow-untrained-teacher {line}"
            ),
            TINY,
        )
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).expect("reads")).expect("JSON")
    }

    /// Every file below the place with its bytes.
    fn contents(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("lists") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path.clone());
                    found.insert(path, None);
                } else {
                    found.insert(path.clone(), fs::read(path).ok());
                }
            }
        }
        found
    }
}

fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(data);
    bytes
}

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

/// The values of a weights file, without the header, whose entries have no order.
fn tensors(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[8 + header..].to_vec()
}

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

/// A held-out digit of the place's data set.
fn digit(index: usize) -> GrayImage {
    let mut pixels = vec![0; 784];
    Digits::new(Split::Test, TEST_SAMPLES).draw(index, &mut pixels);
    GrayImage::from_raw(28, 28, pixels).expect("28 x 28")
}

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
fn a_teacher_that_guesses_is_refused() {
    let place = Place::with_mnist();
    // A learning rate at which nothing is learnt.
    let line = "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --name noise --epochs 1 --lr 1e-9";
    let output = place.run(line, TINY);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for part in ["three standard errors", "30 held-out", "--allow-untrained-teacher"] {
        assert!(err.contains(part), "{part:?} is not in {err:?}");
    }
    assert!(!place.path("runs/noise/result.json").exists());
}

#[test]
fn a_teacher_of_two_heads_is_refused_where_one_was_not_taught() {
    let place = Place::with_mnist();
    let train = "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --allow-untrained-teacher";
    let two_heads = ["--set", "student.vit.distillation_token=true"];
    place.good(&format!("{train} --epochs 1 --name run --distillation distill"), &[TINY, &two_heads].concat());
    let student = place.text("runs/run/student.safetensors");
    let output = place.run(&format!("{train} --name next"), &[TINY, &["--teacher", &student]].concat());
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("nothing has taught the class head") && err.contains("student.safetensors"), "{err}");
    assert!(!place.path("runs/next").exists());
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
fn a_teachers_logits_are_kept_and_teach_the_same() {
    let place = Place::with_mnist();
    place.train("--name first --objective teacher");
    let teacher = place.text("runs/first/teacher.safetensors");
    let line = |more: &str| format!("--teacher {teacher} --set baseline=false --distillation KD --seed 5 {more}");
    let losses = |run: &str| -> Vec<Value> {
        let log = fs::read_to_string(place.path(&format!("runs/{run}/metrics.jsonl"))).expect("reads");
        lines(&log).into_iter().filter(|line| line["terms"].is_object()).collect()
    };
    place.train(&line("--name plain"));
    place.train(&line("--name writes --teacher-cache @/cache"));
    let kept = || -> Vec<PathBuf> {
        let all = place.contents().into_keys();
        all.filter(|path| path.extension().is_some_and(|extension| extension == "logits")).collect()
    };
    assert_eq!(kept().len(), 2, "an epoch is a file");
    place.train(&line("--name reads --teacher-cache @/cache"));
    assert_eq!(kept().len(), 2);
    let plain = losses("plain");
    assert!(!plain.is_empty());
    assert_eq!(losses("writes"), plain, "keeping changes nothing");
    assert_eq!(losses("reads"), plain, "what was kept teaches the same, to the last bit");
    let asked = |run: &str| {
        let student = &place.json(&format!("runs/{run}/result.json"))["models"]["student"];
        assert!(student["recall_seconds"].as_f64() < student["seconds"].as_f64(), "{student}");
        student["teacher_images"].as_u64().expect("a count")
    };
    // Another precision is another teacher.
    let kept_before = kept().len();
    place.train(&line("--name half --teacher-cache @/cache --teacher-precision half"));
    assert_eq!(kept().len(), kept_before + 2);
    let (exact, half) = (losses("plain"), losses("half"));
    let term = |losses: &[Value]| losses[0]["terms"]["logits"].as_f64().expect("a number");
    assert!(term(&exact) != term(&half) && (term(&exact) - term(&half)).abs() < 2e-2 * term(&exact));
    // The second run asks about no image, but for the sample that it holds what is kept against.
    assert!(asked("writes") == asked("plain") && asked("plain") > 16, "{} and {}", asked("writes"), asked("plain"));
    assert!((1..=16).contains(&asked("reads")), "{}", asked("reads"));
    // Nine of ten classes leave one over: all that is lost is half precision, of ten bits.
    let first = |run: &str| losses(run)[0]["terms"]["logits"].as_f64().expect("a number");
    for run in ["most", "most-again"] {
        place.train(&line(&format!("--name {run} --teacher-cache @/most --teacher-cache-top 9")));
    }
    let (exact, kept_most) = (first("most"), first("most-again"));
    assert!(exact != kept_most && (exact - kept_most).abs() < 2e-3 * exact, "{exact} and {kept_most}");
    // The highest three alone are another teacher, which `Packing` says in full.
    for run in ["few", "few-again"] {
        place.train(&line(&format!("--name {run} --teacher-cache @/few --teacher-cache-top 3")));
    }
    assert!(first("few") == exact && first("few-again") != exact);
    // Another seed varies the images otherwise: nothing that is there is taken.
    let files = kept().len();
    place.train(&line("--name other --teacher-cache @/cache --seed 6").replace("--seed 5", ""));
    assert_eq!(kept().len(), files + 2);
    // What is damaged is named and not believed.
    let path = kept().into_iter().find(|path| path.starts_with(place.path("cache"))).expect("a file");
    kept().iter().filter(|path| path.starts_with(place.path("cache"))).for_each(|path| {
        let mut bytes = fs::read(path).expect("reads");
        bytes[11] ^= 4;
        fs::write(path, bytes).expect("writes");
    });
    let base =
        "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --epochs 2 --allow-untrained-teacher";
    let output = place.run(&format!("{base} {}", line("--name damaged --teacher-cache @/cache")), TINY);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(err.contains(&name[..5]) && err.contains("remove it"), "{err}");
}

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
            _ if name.ends_with("-saf-kd") => &["attention", "labels", "logits"],
            _ if name.ends_with("-saf") => &["attention", "labels"],
            _ if name.ends_with("-kd") || name.ends_with("soft") => &["labels", "logits"],
            "cifar10-small-both" | "cifar10-vit-ti" => &["labels", "logits"],
            // The labels are those of the teacher's own new head.
            "deit-cifar-10-distill" => &["labels", "teacher-labels"],
            _ if name.ends_with("hard") || name == "deit-ti-distilled-imagenet" => &["labels", "teacher-labels"],
            "distillvit-student" => &["labels", "softened-teacher"],
            "distillable-vit-lwr" => &["labels", "retrospection"],
            "mnist" | "mnist-1000" => &["labels", "logits"],
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

#[test]
fn a_run_without_a_name_gets_a_fresh_folder() {
    let place = Place::with_mnist();
    for _ in 0..2 {
        place.train("--objective student");
    }
    let runs: Vec<_> = fs::read_dir(place.path("runs")).expect("lists").flatten().map(|entry| entry.path()).collect();
    assert_eq!(runs.len(), 2);
    // The same seed gives the same network, to the last bit.
    assert!(tensors(&runs[0].join("student.safetensors")) == tensors(&runs[1].join("student.safetensors")));
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

impl Place {
    /// What a command printed that must succeed; graphics drivers may say what they like on the error stream.
    fn run_out(&self, line: &str) -> String {
        let output = self.run(line, &[]);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{line}\n{out}\n{err}");
        out
    }
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
        ("--name taken/../../x", "name"),
        ("--name ..", "name"),
        ("--resume", "resume"),
        ("--resume --name none", "resume"),
    ] {
        add(format!("{train} {flag}"), 2, Command, word);
    }
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
