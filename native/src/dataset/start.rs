//! Which shipped recipe a command line of a reference project stands for, by its flags.

use std::path::Path;

use crate::given::Given;

/// The row of the work on attention forcing for a data set.
pub fn forcing_row(given: &Given, dataset: &str) -> String {
    let distillation = given.text("distillation").map(str::to_ascii_lowercase);
    let row = match (given.text("objective"), distillation.as_deref()) {
        (Some(alone @ ("teacher" | "student")), _) => alone,
        (_, Some("saf+kd" | "kd+saf")) => "saf-kd",
        (_, None | Some("saf")) => "saf",
        _ => "kd",
    };
    format!("dvitsaf-{dataset}-{row}")
}

/// The recipe of DeiT or CLS-KD whose line this is.
pub fn imagenet_row(given: &Given) -> &'static str {
    let model = given.text("model").unwrap_or_default();
    let distillation = given.text("distillation");
    let cls_kd =
        given.method() == Some("CLS-KD") || distillation.is_some_and(|name| name.eq_ignore_ascii_case("cls-kd"));
    let taught = given.text("distillation-type").is_some_and(|kind| kind != "none");
    let distils = taught || model.contains("distilled") || distillation.is_some();
    match (cls_kd, distils) {
        (true, _) if model.contains("small") => "cls-kd-deit-s",
        (true, _) => "cls-kd-deit-ti",
        (false, true) => "deit-ti-distilled-imagenet",
        (false, false) => "deit-ti-imagenet",
    }
}

/// The flags that leave open which networks there are and how they are trained.
const OF_THE_DATA: [&str; 21] = [
    "--data-dir",
    "--data-path",
    "--dataset",
    "--train-samples",
    "--labels",
    "--reading",
    "--allow-truncated",
    "--workers",
    "--teacher",
    "--teacher-model",
    "--ignore-class-names",
    "--allow-untrained-teacher",
    "--objective",
    "--epochs",
    "--batch-size",
    "--lr",
    "--seed",
    "--name",
    "--logdir",
    "--json",
    "--set",
];
/// Up to how many pictures a recipe is for few, and for some; more are as many as ImageNet's rows are for.
const FEW: usize = 2_000;
const SOME: usize = 50_000;

/// The recipe for a folder of one's own pictures: by their number where nothing but the data is named, else the row that is
/// meant.
pub fn pictures_row(given: &Given) -> String {
    let folder = given.text("data-dir").or(given.text("data-path")).map(Path::new).filter(|folder| folder.is_dir());
    let of_the_data = given.names().iter().all(|name| OF_THE_DATA.contains(&name.as_str()));
    match folder.filter(|_| of_the_data).map(super::count_pictures) {
        Some(1..=FEW) => "pictures-few".to_owned(),
        Some(count) if count > FEW && count <= SOME => "pictures".to_owned(),
        _ => imagenet_row(given).to_owned(),
    }
}
