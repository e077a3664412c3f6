//! Which shipped recipe a command line of a reference project stands for, by its flags.

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
