//! Names and numbers as the page writes them.

use potstill_protocol::{Curve, DistilRecipe, History, Method, Model, Quantity, Situation};

/// A fraction as a percentage with one decimal; the sign never stands alone on a line.
pub fn percent(fraction: f32) -> String {
    if fraction.is_finite() { format!("{:.1}\u{a0}%", fraction * 100.0) } else { "–".to_owned() }
}

/// A percentage with one decimal.
pub fn percent_of(hundredths: f32) -> String {
    percent(hundredths / 100.0)
}

/// A loss or a rate with about three digits.
pub fn number(value: f32) -> String {
    match value.abs() {
        _ if !value.is_finite() => "not a number".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

/// Bytes in the unit that fits.
pub fn bytes(count: f64) -> String {
    if count < 1e6 { format!("{:.0} kB", (count / 1e3).max(1.0)) } else { format!("{:.1} MB", count / 1e6) }
}

/// A network's name.
pub fn model(model: Model) -> &'static str {
    match model {
        Model::Teacher => "Teacher",
        Model::Student => "Student",
        Model::Baseline => "Baseline",
    }
}

/// The class of a network's colour.
pub fn model_class(model: Model) -> &'static str {
    match model {
        Model::Teacher => "teacher",
        Model::Student => "student",
        Model::Baseline => "baseline",
    }
}

/// What a run is called: its situation, or its method where the numbers are a person's own.
pub fn title(recipe: &DistilRecipe) -> &'static str {
    match Situation::of(recipe) {
        Some(Situation::FewLabels) => "Few labels",
        Some(Situation::NoLabels) => "No labels",
        Some(Situation::UnseenThree) => "Never saw a 3",
        Some(Situation::WrongLabels) => "Wrong labels",
        Some(Situation::AllLabels) => "Everything labelled",
        None => "Your own experiment",
    }
}

/// What a finished run showed, from its own numbers; `None` before its last check.
pub fn sentence(recipe: &DistilRecipe, history: &History) -> Option<String> {
    let last = |model, quantity| {
        let curve = history.curve(model, &quantity).filter(|curve| curve.steps.last() == Some(&recipe.steps));
        Some(100.0 * curve?.values.last()?)
    };
    let (student, baseline) = (last(Model::Student, Quantity::Accuracy)?, last(Model::Baseline, Quantity::Accuracy)?);
    let unseen = last(Model::Student, Quantity::Unseen).zip(last(Model::Baseline, Quantity::Unseen));
    let taught = recipe.method.has_teacher();
    let noise = recipe.label_noise;
    Some(match (recipe.labels, unseen) {
        (_, Some((student, baseline))) => {
            let digit = recipe.omit.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ");
            let raw = format!(
                "The student never saw a {digit}, and reads {student:.0} of 100 of them; the baseline, which had no teacher, {baseline:.0}."
            );
            let last = |model| last(model, Quantity::UnseenCorrected);
            match last(Model::Student).zip(last(Model::Baseline)) {
                Some((student, baseline)) => format!(
                    "{raw} Told one thing more, how often a {digit} comes, the student reads {student:.0} of 100 and the baseline {baseline:.0}."
                ),
                None => raw,
            }
        }
        (Some(0), _) => format!(
            "Without a single label the student reads {student:.0} of 100 digits, all from the teacher's answers. \
             The baseline has nothing to learn from and guesses: {baseline:.0}."
        ),
        (Some(labels), _) if labels < recipe.train_samples => {
            let (who, which) = if taught { (" that listened to the teacher", ", which did not,") } else { ("", "") };
            format!(
                "With {labels} labels the student{who} reads {student:.0} of 100 digits, the baseline{which} {baseline:.0}."
            )
        }
        _ if noise > 0.0 => format!(
            "Of 100 labels {:.0} were wrong. The student reads {student:.0} of 100 digits: its teacher knew better. The baseline, which \
             believed the labels, reads {baseline:.0}.",
            100.0 * noise
        ),
        _ if (student - baseline).abs() < 3.0 => format!(
            "The student reads {student:.0} of 100 digits, the baseline {baseline:.0}: both do well. {} right labels say nearly \
             all there is to say, so a teacher has little to add.",
            recipe.train_samples
        ),
        _ => format!("The student reads {student:.0} of 100 digits, the baseline {baseline:.0}."),
    })
}

/// A curve in a legend or over a column.
pub fn curve(curve: &Curve) -> String {
    match &curve.quantity {
        Quantity::Loss if curve.model == Model::Student => "Student, all terms".to_owned(),
        Quantity::Loss | Quantity::Accuracy => model(curve.model).to_owned(),
        Quantity::Agreement => "Agreement of student and teacher".to_owned(),
        Quantity::Unseen => format!("{}, digits left out", model(curve.model)),
        Quantity::Corrected => format!("{}, corrected", model(curve.model)),
        Quantity::UnseenCorrected => format!("{}, digits left out, corrected", model(curve.model)),
        Quantity::Term(name) => format!("{}: {name}", model(curve.model)),
    }
}

/// What a method does, for a pupil.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::None => {
            "The student learns from labels alone, as the baseline does. Where both see the same pictures, their curves lie on each other."
        }
        Method::Soft => {
            "The student copies the teacher's probabilities at a raised temperature (Hinton and others, 2015)."
        }
        Method::Hard => "The student learns the label, and the digit that the teacher would say (DeiT, 2021).",
        Method::Saf => "The student learns to look where the teacher looks.",
        Method::ClsKd => "The student copies the teacher's summary of the picture and how its parts relate.",
        Method::Lwr => "No teacher: the student learns from what it said itself in an earlier pass over the data.",
        Method::LabelSmoothing => "No teacher: the label gives away a little of its certainty to all other digits.",
    }
}

/// Where in a square map its greatest value lies, for those who do not see it. `map` is `[side, side]`.
pub fn place_of_peak(map: &[f32], side: usize) -> &'static str {
    const NAMES: [[&str; 3]; 3] =
        [["upper left", "top", "upper right"], ["left", "middle", "right"], ["lower left", "bottom", "lower right"]];
    // Sums over ninths, since one bright point says little.
    let mut sums = [[0.0f32; 3]; 3];
    for (at, value) in map.iter().enumerate().take(side * side) {
        sums[(at / side) * 3 / side][(at % side) * 3 / side] += value;
    }
    let mut best = (1, 1);
    for row in 0..3 {
        for column in 0..3 {
            if sums[row][column] > sums[best.0][best.1] {
                best = (row, column);
            }
        }
    }
    NAMES[best.0][best.1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_about_three_digits() {
        let written: Vec<_> = [0.0, 0.01234, 0.5, 12.34, 1234.5, f32::NAN].map(number).into();
        assert_eq!(written, ["0.000", "0.01234", "0.500", "12.3", "1234", "not a number"]);
        assert_eq!(
            (percent(0.9876), bytes(10.0), bytes(2.5e6)),
            ("98.8\u{a0}%".into(), "1 kB".into(), "2.5 MB".into())
        );
    }

    #[test]
    fn a_run_ends_with_its_own_numbers() {
        let told = |situation: Situation, quantity: Quantity, at: u32| {
            let recipe = situation.recipe();
            let mut history = History::default();
            for (model, right) in [(Model::Student, 0.944), (Model::Baseline, 0.608)] {
                history.record(model, Quantity::Accuracy, at, right);
                history.record(model, quantity.clone(), at, right);
            }
            sentence(&recipe, &history)
        };
        let steps = DistilRecipe::default().steps;
        let few = told(Situation::FewLabels, Quantity::Accuracy, steps).expect("finished");
        assert_eq!(
            few,
            "With 100 labels the student that listened to the teacher reads 94 of 100 digits, the baseline, which did not, 61."
        );
        assert_eq!(told(Situation::FewLabels, Quantity::Accuracy, steps - 1), None);
        for one in Situation::ALL {
            let said = told(one, Quantity::Unseen, one.recipe().steps).expect("finished");
            assert!(said.contains("94") && said.contains("61"), "{said}");
        }
    }

    #[test]
    fn the_peak_is_found_in_words() {
        let mut map = vec![0.0; 28 * 28];
        assert_eq!(place_of_peak(&map, 28), "middle");
        map[27 * 28 + 27] = 1.0;
        assert_eq!(place_of_peak(&map, 28), "lower right");
        map[28 * 14] = 2.0;
        assert_eq!(place_of_peak(&map, 28), "left");
    }
}
