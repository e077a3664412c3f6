//! Names and numbers as the page writes them.

use potstill_protocol::{Curve, Method, Model, Quantity};

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
        Model::Baseline => "Without a teacher",
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

/// A curve in a legend or over a column.
pub fn curve(curve: &Curve) -> String {
    match &curve.quantity {
        Quantity::Loss if curve.model == Model::Student => "Student, all terms".to_owned(),
        Quantity::Loss | Quantity::Accuracy => model(curve.model).to_owned(),
        Quantity::Agreement => "Agreement of student and teacher".to_owned(),
        Quantity::Term(name) => format!("{}: {name}", model(curve.model)),
    }
}

/// What a method does, for a pupil.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::None => {
            "The student learns from labels alone, as the one without a teacher does. The two curves should lie on each other."
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
    fn the_peak_is_found_in_words() {
        let mut map = vec![0.0; 28 * 28];
        assert_eq!(place_of_peak(&map, 28), "middle");
        map[27 * 28 + 27] = 1.0;
        assert_eq!(place_of_peak(&map, 28), "lower right");
        map[28 * 14] = 2.0;
        assert_eq!(place_of_peak(&map, 28), "left");
    }
}
