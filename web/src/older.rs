//! What older versions of the page saved, in the names of today.
//!
//! The baseline was called the twin, a history was a list for each curve, several of them over the same steps, and every
//! training sample had its label.

use std::iter::zip;

use potstill_core::weights::STATE_PREFIX;
use serde::{Deserialize, Deserializer};

use crate::protocol::{Curve, DistilRecipe, History, Model, Quantity, real_lists, reals};

/// The name that a tensor of a saved run has today.
pub fn name(name: String) -> String {
    match name.strip_prefix(STATE_PREFIX).and_then(|part| part.strip_prefix("twin.")) {
        Some(rest) => format!("{STATE_PREFIX}baseline.{rest}"),
        None => name,
    }
}

/// Reads a saved recipe. One that says nothing of labels is of a time when all were told.
///
/// # Errors
/// If it is none.
pub fn recipe<'de, D: Deserializer<'de>>(from: D) -> Result<DistilRecipe, D::Error> {
    let mut saved = serde_json::Map::deserialize(from)?;
    saved.entry("labels").or_insert(serde_json::Value::Null);
    serde_json::from_value(saved.into()).map_err(serde::de::Error::custom)
}

/// A saved history, of today or before.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Saved {
    curves: Vec<Curve>,
    teacher_steps: Vec<u32>,
    #[serde(deserialize_with = "reals")]
    teacher_loss: Vec<f32>,
    steps: Vec<u32>,
    #[serde(deserialize_with = "reals")]
    student_loss: Vec<f32>,
    #[serde(deserialize_with = "reals")]
    twin_loss: Vec<f32>,
    term_names: Vec<String>,
    #[serde(deserialize_with = "real_lists")]
    terms: Vec<Vec<f32>>,
    checks: Vec<u32>,
    teacher_accuracy: Vec<f32>,
    student_accuracy: Vec<f32>,
    twin_accuracy: Vec<f32>,
    agreement: Vec<f32>,
}

/// Reads a saved history.
///
/// # Errors
/// If it is none.
pub fn history<'de, D: Deserializer<'de>>(from: D) -> Result<History, D::Error> {
    let saved = Saved::deserialize(from)?;
    let (steps, checks) = (saved.steps, saved.checks);
    let mut curves = saved.curves;
    let mut add = |model, quantity, steps: &[u32], values: Vec<f32>| {
        if !values.is_empty() && values.len() == steps.len() {
            curves.push(Curve { model, quantity, steps: steps.to_vec(), values });
        }
    };
    add(Model::Teacher, Quantity::Loss, &saved.teacher_steps, saved.teacher_loss);
    add(Model::Student, Quantity::Loss, &steps, saved.student_loss);
    add(Model::Baseline, Quantity::Loss, &steps, saved.twin_loss);
    for (name, values) in zip(saved.term_names, saved.terms) {
        add(Model::Student, Quantity::Term(name), &steps, values);
    }
    add(Model::Teacher, Quantity::Accuracy, &checks, saved.teacher_accuracy);
    add(Model::Student, Quantity::Accuracy, &checks, saved.student_accuracy);
    add(Model::Baseline, Quantity::Accuracy, &checks, saved.twin_accuracy);
    add(Model::Student, Quantity::Agreement, &checks, saved.agreement);
    Ok(History { curves })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_without_a_word_on_labels_tells_all() {
        let read = |json: &str| recipe(&mut serde_json::Deserializer::from_str(json)).expect("readable");
        let old = read(r#"{"alpha":0.5,"steps":400}"#);
        assert_eq!((old.labels, old.omit.len(), old.label_noise, old.alpha), (None, 0, 0.0, 0.5));
        assert_eq!(read(&serde_json::to_string(&DistilRecipe::default()).expect("text")), DistilRecipe::default());
    }

    #[test]
    fn a_history_of_lists_is_read_as_curves() {
        let json = r#"{"teacherSteps":[],"teacherLoss":[],"steps":[1,2],"studentLoss":[2.5,null],"twinLoss":[2.0,1.0],
            "termNames":["labels"],"terms":[[3.0,1.5]],"checks":[2],"teacherAccuracy":[0.9],"studentAccuracy":[0.5],
            "twinAccuracy":[0.25],"agreement":[0.75]}"#;
        let old = history(&mut serde_json::Deserializer::from_str(json)).expect("readable");
        let curve = |model, quantity| {
            let curve = old.curve(model, &quantity).expect("there is one");
            (curve.steps.clone(), curve.values.clone())
        };
        assert_eq!(old.curves.len(), 7);
        assert_eq!(curve(Model::Baseline, Quantity::Loss), (vec![1, 2], vec![2.0, 1.0]));
        assert_eq!(curve(Model::Student, Quantity::Term("labels".into())), (vec![1, 2], vec![3.0, 1.5]));
        assert_eq!(curve(Model::Baseline, Quantity::Accuracy), (vec![2], vec![0.25]));
        assert_eq!(curve(Model::Student, Quantity::Agreement), (vec![2], vec![0.75]));
        assert!(curve(Model::Student, Quantity::Loss).1[1].is_nan());
        let json = r#"{"curves":[{"model":"baseline","quantity":{"term":"x"},"steps":[1],"values":[2.0]}]}"#;
        let now = history(&mut serde_json::Deserializer::from_str(json)).expect("readable");
        assert_eq!(serde_json::to_string(&now).expect("a text"), json);
    }
}
