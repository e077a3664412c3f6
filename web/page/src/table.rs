//! Which curves belong in one chart; curves and confusion matrices as CSV.

use potstill_protocol::{Curve, Evaluation, History, Model, Quantity};

use crate::words;

/// All losses, totals before their terms: of a teacher that is trained here first, and alone, then of those without one.
pub fn losses(history: &History) -> Vec<&Curve> {
    let of = |teacher: bool| {
        let is_loss = |curve: &&Curve| matches!(curve.quantity, Quantity::Loss | Quantity::Term(_));
        let fits = move |curve: &&Curve| is_loss(curve) && (curve.model == Model::Teacher) == teacher;
        let (mut found, terms): (Vec<_>, Vec<_>) =
            history.curves.iter().filter(fits).partition(|curve| curve.quantity == Quantity::Loss);
        found.extend(terms);
        found
    };
    Some(of(false)).filter(|curves| !curves.is_empty()).unwrap_or_else(|| of(true))
}

/// Parts losses into those on the labels, in which student and baseline can be compared, and the others: a total with
/// a teacher's terms in it is no match for one without.
pub fn by_labels<'a>(losses: &[&'a Curve]) -> [Vec<&'a Curve>; 2] {
    let labels = |curve: &Curve| matches!(&curve.quantity, Quantity::Term(name) if name == "labels");
    let has_term = |model| losses.iter().any(|curve| curve.model == model && labels(curve));
    let on_labels = |curve: &&&'a Curve| labels(curve) || (curve.quantity == Quantity::Loss && !has_term(curve.model));
    let (on, other): (Vec<_>, Vec<_>) = losses.iter().partition(on_labels);
    [on, other]
}

/// The curves of the accuracy table, of which the chart shows those of the networks.
pub fn accuracies(history: &History) -> Vec<&Curve> {
    let fits = |curve: &&Curve| matches!(curve.quantity, Quantity::Accuracy | Quantity::Agreement | Quantity::Unseen);
    history.curves.iter().filter(fits).collect()
}

/// The steps that the curves of one chart share: those of its longest.
pub fn steps<'a>(curves: &[&'a Curve]) -> &'a [u32] {
    curves.iter().max_by_key(|curve| curve.steps.len()).map_or(&[], |curve| &curve.steps)
}

/// At most `most` positions of `length`, evenly spaced, the last one among them.
pub fn thin(length: usize, most: usize) -> Vec<usize> {
    let stride = length.div_ceil(most.max(1)).max(1);
    (0..length).filter(|at| (length - 1 - at).is_multiple_of(stride)).collect()
}

/// A round number, 1, 2 or 5 times a power of ten, of at least `least`.
pub fn round_spacing(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    let spacing = [1.0, 2.0, 5.0].into_iter().find(|part| part * power >= least * (1.0 - 1e-9));
    spacing.unwrap_or(10.0) * power
}

/// A mark of an axis, without the noise of its arithmetic.
pub fn mark_text(mark: f64) -> String {
    ((mark * 1e6).round() / 1e6).to_string()
}

/// Curves of one chart, a column each, a line a step.
pub fn curves(curves: &[&Curve]) -> String {
    let steps = steps(curves);
    let columns: Vec<_> = curves.iter().map(|curve| curve.at(steps)).collect();
    let mut csv = String::from("step");
    for curve in curves {
        let whose = words::model_class(curve.model);
        csv.push_str(&match &curve.quantity {
            Quantity::Loss => format!(",{whose} loss"),
            Quantity::Accuracy => format!(",{whose} accuracy"),
            Quantity::Agreement => ",agreement".to_owned(),
            Quantity::Unseen => format!(",{whose} accuracy on digits left out"),
            Quantity::Corrected => format!(",{whose} accuracy corrected"),
            Quantity::UnseenCorrected => format!(",{whose} accuracy on digits left out corrected"),
            Quantity::Term(name) => format!(",{}", quoted(name)),
        });
    }
    csv.push('\n');
    for (at, step) in steps.iter().enumerate() {
        csv.push_str(&step.to_string());
        columns.iter().for_each(|values| csv.push_str(&cell(values[at])));
        csv.push('\n');
    }
    csv
}

/// All confusion matrices, a line a cell.
pub fn confusions(evaluation: &Evaluation, names: &[String]) -> String {
    let mut csv = String::from("network,label,answer,pictures\n");
    for model in &evaluation.models {
        let classes = side(model.confusion.len());
        for (at, count) in model.confusion.iter().enumerate().take(classes * classes) {
            let name = |class: usize| names.get(class).map_or_else(|| class.to_string(), |name| quoted(name));
            let (label, answer) = (name(at / classes), name(at % classes));
            csv.push_str(&format!("{},{label},{answer},{count}\n", words::model_class(model.model)));
        }
    }
    csv
}

/// Classes of a square matrix with so many cells.
pub fn side(cells: usize) -> usize {
    cells.isqrt()
}

fn cell(value: f32) -> String {
    if value.is_finite() { format!(",{value}") } else { ",".to_owned() }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use potstill_protocol::ModelEvaluation;

    #[test]
    fn curves_stand_side_by_side() {
        let mut history = History::default();
        history.record(Model::Teacher, Quantity::Loss, 9, 0.5);
        assert_eq!(curves(&losses(&history)), "step,teacher loss\n9,0.5\n");
        for step in 1..=3 {
            history.record(Model::Student, Quantity::Loss, step, step as f32 + 0.5);
            if step > 1 {
                history.record(Model::Student, Quantity::Term("a, \"b\"".into()), step, step as f32);
            }
        }
        (1..=3).for_each(|step| history.record(Model::Baseline, Quantity::Loss, step, f32::NAN));
        history.record(Model::Student, Quantity::Agreement, 3, 0.75);
        let csv = "step,student loss,baseline loss,\"a, \"\"b\"\"\"\n1,1.5,,\n2,2.5,,2\n3,3.5,,3\n";
        assert_eq!(curves(&losses(&history)), csv);
        assert_eq!(curves(&accuracies(&history)), "step,agreement\n3,0.75\n");
        assert_eq!(curves(&[]), "step\n");
    }

    #[test]
    fn losses_on_labels_stand_together() {
        let mut history = History::default();
        history.record(Model::Student, Quantity::Loss, 1, 3.0);
        history.record(Model::Baseline, Quantity::Loss, 1, 2.0);
        let parts = |history: &History| {
            by_labels(&losses(history)).map(|curves| curves.iter().map(|curve| curve.values[0]).collect::<Vec<_>>())
        };
        assert_eq!(parts(&history), [vec![3.0, 2.0], vec![]]);
        for (name, value) in [("labels", 2.5), ("logits", 0.5)] {
            history.record(Model::Student, Quantity::Term(name.into()), 1, value);
        }
        let [mut on, other] = parts(&history);
        on.sort_by(f32::total_cmp);
        assert_eq!((on, other), (vec![2.0, 2.5], vec![3.0, 0.5]));
    }

    #[test]
    fn axes_are_marked_with_round_numbers() {
        assert_eq!([0.9, 1.0, 1.1, 3.0, 7.0, 0.03].map(round_spacing), [1.0, 1.0, 2.0, 5.0, 10.0, 0.05]);
        assert_eq!([0.1 + 0.2, 40.0].map(mark_text), ["0.3", "40"]);
    }

    #[test]
    fn thinning_keeps_the_last() {
        assert_eq!(thin(0, 5), Vec::<usize>::new());
        assert_eq!(thin(4, 5), [0, 1, 2, 3]);
        let thinned = thin(1001, 100);
        assert!(thinned.len() <= 100 && thinned.last() == Some(&1000));
    }

    #[test]
    fn a_matrix_is_written_cell_by_cell() {
        let models = vec![ModelEvaluation { model: Model::Student, accuracy: 0.75, confusion: vec![2, 1, 0, 1] }];
        let csv = confusions(&Evaluation { samples: 4, models, agreement: 1.0 }, &["zero".into(), "one".into()]);
        assert_eq!(
            csv,
            "network,label,answer,pictures\nstudent,zero,zero,2\nstudent,zero,one,1\nstudent,one,zero,0\nstudent,one,one,1\n"
        );
    }
}
