//! A folder of one's own pictures, with nothing said but where it is.

mod common;

use std::fs;

use common::{Place, lines, texts};
use image::{Rgb, RgbImage};

/// Forty pictures in four classes, which their colours tell apart.
fn write_pictures(place: &Place, below: &str) {
    let colours = [("ant", [200, 30, 30]), ("bee", [30, 200, 30]), ("cat", [30, 30, 200]), ("dog", [200, 200, 30])];
    for (class, colour) in colours {
        for number in 0..10u32 {
            let path = place.path(&format!("pictures/{below}{class}/{number}.jpg"));
            fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
            let picture = RgbImage::from_fn(40 + number, 50 - number, |x, y| {
                Rgb(colour.map(|value: u8| value.wrapping_add(((x * 7 + y * 3 + number) % 30) as u8)))
            });
            picture.save(path).expect("writes");
        }
    }
}

#[test]
fn a_folder_alone_is_split_trained_on_and_measured() {
    let place = Place::new();
    write_pictures(&place, "");
    let output =
        place.run("train --data-dir @/pictures --logdir @/runs --name own --seed 4 --epochs 2 --device cpu", &[]);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    for part in
        ["pictures-few", "32 training and 8 held-out", "the data have 4 classes", "teacher", "student", "baseline"]
    {
        assert!(out.contains(part), "{part} is not in {out}");
    }
    assert!(err.contains("8 of its 40 pictures are held out"), "{err}");
    let recipe = fs::read_to_string(place.path("runs/own/recipe.toml")).expect("reads");
    assert!(recipe.contains("dataset = \"folder\"") && recipe.contains("classes = 4"), "{recipe}");
    // What is measured later is what was held out.
    let accuracy = place.json("runs/own/result.json")["models"]["student"]["accuracy"].clone();
    let again = place.run("eval @/runs/own --dataset folder --data-dir @/pictures --json --device cpu", &[]);
    assert_eq!(lines(&texts(&again).0)[0]["accuracy"], accuracy);
}

#[test]
fn parts_go_by_any_of_their_usual_names_and_teachers_by_their_size() {
    let place = Place::new();
    write_pictures(&place, "train/");
    for class in ["ant", "bee", "cat", "dog"] {
        let folder = place.path(&format!("pictures/valid/{class}"));
        fs::create_dir_all(&folder).expect("makes");
        fs::copy(place.path(&format!("pictures/train/{class}/1.jpg")), folder.join("1.jpg")).expect("copies");
    }
    let line = "train --data-dir @/pictures --logdir @/runs --epochs 1 --device cpu --allow-untrained-teacher";
    let teacher =
        place.run(&format!("{line} --name large --objective teacher --set teacher.resnet.image_size=96"), &[]);
    let (out, err) = texts(&teacher);
    assert!(teacher.status.success() && out.contains("40 training and 4 held-out"), "{out}{err}");
    // The student for one's own pictures sees what its teacher sees.
    let file = place.text("runs/large/teacher.safetensors");
    let output = place.run(&format!("{line} --name small --teacher {file}"), &[]);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    assert!(out.contains("pictures of 96 x 96, and so does the student"), "{out}");
    let recipe = fs::read_to_string(place.path("runs/small/recipe.toml")).expect("reads");
    assert!(recipe.contains("image_size = 96") && recipe.contains("patch_size = 12"), "{recipe}");
}
