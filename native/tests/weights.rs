//! Other people's weights from outside: where they lie, what stands beside them, and whose classes they know.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Place, lines, texts};
use image::{Rgb, RgbImage};
use potstill_core::data::Normalisation;
use potstill_core::model::{NetworkConfig, VitConfig};
use potstill_core::weights::{self, Description, Metadata, NamedTensor};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn tensors(name: &str) -> Vec<NamedTensor> {
    weights::from_safetensors(&fs::read(fixture(name)).expect("reads")).expect("safetensors").0
}

/// The picture whose pixels are the fixtures' first input: its numbers are multiples of 1/64 from -2 to 2.
fn input(place: &Place) -> String {
    let number = |place: u64| (((place * 1_103_515_245 + 12_345) % (1 << 31)) >> 16) % 256;
    let picture = RgbImage::from_fn(16, 16, |x, y| {
        Rgb([0, 1, 2].map(|channel| number(u64::from(channel * 256 + y * 16 + x)) as u8))
    });
    picture.save(place.path("input.png")).expect("writes");
    place.text("input.png")
}

/// What a command printed that must succeed, whatever it notes beside it.
fn good(place: &Place, line: &str, more: &[&str]) -> String {
    let output = place.run(line, more);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{line}: {err}");
    out
}

fn logits(line: &Value) -> Vec<f64> {
    line["logits"].as_array().expect("logits").iter().map(|logit| logit.as_f64().expect("a number")).collect()
}

fn expected(name: &str) -> Vec<f32> {
    let logits = tensors(name).into_iter().find(|tensor| tensor.name == "logits").expect("logits");
    logits.values[..logits.shape[1]].to_vec()
}

/// A folder as transformers writes it, of the reduced model of the fixtures.
fn hub_folder(place: &Place, folder: &str) {
    let config = json!({
        "model_type": "vit", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 48, "image_size": 16, "patch_size": 4,
        "id2label": {"0": "ant", "1": "bee", "2": "cat", "3": "dog", "4": "eel"},
    });
    let pictures = json!({
        "do_resize": true, "size": {"height": 16, "width": 16}, "resample": 2, "do_normalize": true,
        "image_mean": [128.0 / 255.0, 128.0 / 255.0, 128.0 / 255.0],
        "image_std": [64.0 / 255.0, 64.0 / 255.0, 64.0 / 255.0],
    });
    place.write(&format!("{folder}/config.json"), config.to_string().as_bytes());
    place.write(&format!("{folder}/preprocessor_config.json"), pictures.to_string().as_bytes());
}

#[test]
fn a_folder_of_a_hub_says_all_that_it_needs() {
    let place = Place::new();
    let image = input(&place);
    hub_folder(&place, "hub");
    fs::copy(fixture("vit_transformers.safetensors"), place.path("hub/model.safetensors")).expect("copies");
    let output = place.run("predict @/hub --json --device cpu --image", &[&image]);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    // What was around the network is said.
    assert!(err.contains("read from below weights"), "{err}");
    let found = &lines(&out)[0];
    // To what transformers computes: its own epsilon, and the folder's mean and deviation.
    for (found, expected) in logits(found).into_iter().zip(expected("vit_transformers.safetensors")) {
        assert!((found - f64::from(expected)).abs() < 1e-5, "{found} and {expected}");
    }
    let label = found["top"][0]["label"].as_str().expect("a name");
    assert!(["ant", "bee", "cat", "dog", "eel"].contains(&label), "{label}");
    let shown = good(&place, "predict @/hub --device cpu --image", &[&image]);
    assert!(shown.contains("16 x 16 (both sides resized to 16, bilinear; mean 0.50196"), "{shown}");

    // The same in shards, and by the name of the index.
    let (one, two): (Vec<_>, Vec<_>) =
        tensors("vit_transformers.safetensors").into_iter().partition(|tensor| tensor.name.contains("layer.0"));
    hub_folder(&place, "shards");
    let mut map = serde_json::Map::new();
    for (name, part) in [("model-1-of-2.safetensors", &one), ("model-2-of-2.safetensors", &two)] {
        place.write(&format!("shards/{name}"), &weights::to_safetensors(part, Metadata::new()).expect("a file"));
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), name.into())));
    }
    place.write("shards/model.safetensors.index.json", json!({ "weight_map": map }).to_string().as_bytes());
    for path in ["shards", "shards/model.safetensors.index.json"] {
        let again = lines(&good(&place, &format!("predict @/{path} --json --device cpu --image"), &[&image]));
        assert_eq!(logits(&again[0]), logits(found), "{path}");
    }
    // Another size resamples the positions.
    let larger = good(&place, "predict @/hub --input-size 32 --device cpu --image", &[&image]);
    assert!(larger.contains("32 x 32"), "{larger}");
}

/// A network of so many named classes on pictures of 16 x 16: which is the brightest of the channels is what it sees.
fn write_network(place: &Place, file: &str, names: &[&str], change: impl Fn(&mut Vec<NamedTensor>)) {
    let config: NetworkConfig = VitConfig {
        image_size: 16,
        patch_size: 16,
        classes: names.len(),
        width: 8,
        depth: 1,
        heads: 1,
        ..VitConfig::default()
    }
    .into();
    let mut description = Description::of("small", config.clone(), &Metadata::new()).expect("valid");
    description.class_names = names.iter().map(|name| (*name).to_owned()).collect();
    description.normalisation = Normalisation::half();
    let network = config.init(3, &burn::tensor::Device::flex()).expect("valid");
    let mut tensors = burn::cubecl::future::block_on(weights::read(&network)).expect("readable");
    change(&mut tensors);
    place.write(file, &weights::to_safetensors(&tensors, description.metadata()).expect("a file"));
}

#[test]
fn classes_go_by_their_names() {
    let place = Place::new();
    write_network(&place, "net.safetensors", &["ant", "bee", "cat"], |_| {});
    let mut images = Vec::new();
    for (class, number) in ["ant", "bee", "cat"].into_iter().flat_map(|class| (0..4).map(move |number| (class, number)))
    {
        let picture =
            RgbImage::from_fn(16, 16, |x, y| Rgb([(x * number * 5) as u8, (y * 9) as u8, class.as_bytes()[0]]));
        let name = format!("data/val/{class}/{number}.png");
        fs::create_dir_all(place.path(&name).parent().expect("a folder")).expect("makes");
        picture.save(place.path(&name)).expect("writes");
        images.push(place.text(&name));
    }
    let eval = |file: &str, data: &str, more: &str| {
        place.run(&format!("eval @/{file} --dataset folder --data-dir @/{data} --json --device cpu {more}"), &[])
    };
    let accuracy = |output: &std::process::Output| {
        let (out, err) = texts(output);
        assert!(output.status.success(), "{err}");
        lines(&out)[0]["accuracy"].as_f64().expect("an accuracy")
    };
    let usual = accuracy(&eval("net.safetensors", "data", ""));

    // The same network with its classes in another order is as good, and that is said.
    write_network(&place, "turned.safetensors", &["cat", "ant", "bee"], |tensors| {
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name.starts_with("head.")) {
            let row = tensor.values.len() / 3;
            tensor.values.rotate_right(row);
        }
    });
    let turned = eval("turned.safetensors", "data", "");
    assert_eq!(accuracy(&turned), usual);
    assert!(texts(&turned).1.contains("another order"), "{}", texts(&turned).1);
    assert!(!texts(&eval("net.safetensors", "data", "")).1.contains("order"));

    // A class of another name is refused with both, unless names are to be ignored.
    fs::rename(place.path("data/val/ant"), place.path("data/val/zoo")).expect("renames");
    let output = eval("net.safetensors", "data", "");
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{err}");
    for part in ["ant", "zoo", "--ignore-class-names", "net.safetensors"] {
        assert!(err.contains(part) && err.lines().count() == 1, "{part}: {err}");
    }
    accuracy(&eval("net.safetensors", "data", "--ignore-class-names"));

    // As a teacher likewise, and with another number of classes.
    fs::create_dir_all(place.path("data/train")).expect("makes");
    for class in ["bee", "cat", "zoo"] {
        fs::create_dir_all(place.path(&format!("data/train/{class}"))).expect("makes");
        fs::copy(place.path(&format!("data/val/{class}/0.png")), place.path(&format!("data/train/{class}/0.png")))
            .expect("copies");
    }
    let train = |more: &str| {
        place.run(
            &format!(
                "train --dataset folder --data-dir @/data --logdir @/runs --teacher @/net.safetensors --device cpu --epochs 1 \
                 --set student.vit={{image_size=16,patch_size=8,width=8,depth=1,heads=1}} --allow-untrained-teacher {more}"
            ),
            &[],
        )
    };
    let (_, err) = texts(&train(""));
    assert!(err.contains("zoo") && err.contains("--ignore-class-names"), "{err}");
    let output = train("--ignore-class-names --name ignored");
    assert!(output.status.success(), "{}", texts(&output).1);
    fs::rename(place.path("data/train/zoo"), place.path("zoo")).expect("renames");
    fs::rename(place.path("data/val/zoo"), place.path("zoo-val")).expect("renames");
    let (_, err) = texts(&train(""));
    assert!(err.contains("has 2 classes") && err.contains("net.safetensors 3"), "{err}");
}

#[test]
fn a_given_teacher_keeps_the_head_that_it_was_trained_with() {
    let place = Place::new();
    for (split, class) in ["train", "val"].into_iter().flat_map(|split| (0..5).map(move |class| (split, class))) {
        let name = format!("data/{split}/class{class}/0.png");
        fs::create_dir_all(place.path(&name).parent().expect("a folder")).expect("makes");
        RgbImage::from_pixel(16, 16, Rgb([50 * class, 99, 3])).save(place.path(&name)).expect("writes");
    }
    let teacher = fixture("vit_timm.pth").display().to_string();
    let small = "image_size=16,patch_size=4,width=12,depth=2,heads=3";
    // As people write it: the model's name stands for 1,000 classes, and the file was trained on the data's five.
    let line = format!(
        "train --dataset folder --data-dir @/data --logdir @/runs --name run --device cpu --epochs 1 --teacher {teacher} \
         --teacher-model hf-hub:timm/deit_tiny_patch16_224.fb_in1k --set teacher.vit={{{small}}} \
         --set student.vit={{{small}}}"
    );
    let output = place.run(&line, &[]);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    assert!(!err.contains("replaced") && out.contains("the data have 5 classes"), "{out}{err}");
    let recipe = fs::read_to_string(place.path("runs/run/recipe.toml")).expect("reads");
    assert!(recipe.contains("classes = 5") && recipe.contains("model = \"deit_tiny_patch16_224\""), "{recipe}");
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let place = Place::new();
    let image = input(&place);
    for (file, value) in [("nan", f32::NAN), ("inf", f32::INFINITY)] {
        write_network(&place, &format!("{file}.safetensors"), &["a", "b"], |tensors| {
            let bias = tensors.iter_mut().find(|tensor| tensor.name == "head.bias").expect("a bias");
            bias.values[1] = value;
        });
        let output = place.run(&format!("predict @/{file}.safetensors --device cpu --image"), &[&image]);
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains("1 of the 2 values of head.bias"), "{err}");
    }
    // Numbers whose products are none.
    write_network(&place, "huge.safetensors", &["a", "b"], |tensors| {
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name.starts_with("blocks.0.mlp")) {
            tensor.values.iter_mut().for_each(|value| *value = 3e38);
        }
    });
    let output = place.run("predict @/huge.safetensors --device cpu --image", &[&image]);
    assert_eq!(output.status.code(), Some(1), "{}", texts(&output).0);
    assert!(texts(&output).1.contains("no numbers for"), "{}", texts(&output).1);
}
