//! Curves and confusion matrices as CSV, and a run's history as it grows.

use potstill_protocol::{Evaluation, History};

use crate::words;

/// Appends what is new. Terms may appear later than the first loss; then earlier steps have none of them.
pub fn append(history: &mut History, new: History) {
    let before = history.steps.len();
    history.steps.extend(&new.steps);
    history.student_loss.extend(&new.student_loss);
    history.twin_loss.extend(&new.twin_loss);
    for (name, values) in new.term_names.into_iter().zip(new.terms) {
        let at = history.term_names.iter().position(|known| *known == name).unwrap_or_else(|| {
            history.term_names.push(name);
            history.terms.push(vec![f32::NAN; before]);
            history.terms.len() - 1
        });
        history.terms[at].extend(values);
    }
    let after = history.steps.len();
    for values in &mut history.terms {
        values.resize(after, f32::NAN);
    }
    history.checks.extend(&new.checks);
    history.teacher_accuracy.extend(&new.teacher_accuracy);
    history.student_accuracy.extend(&new.student_accuracy);
    history.twin_accuracy.extend(&new.twin_accuracy);
    history.agreement.extend(&new.agreement);
    history.teacher_steps.extend(&new.teacher_steps);
    history.teacher_loss.extend(&new.teacher_loss);
}

/// At most `most` positions of `length`, evenly spaced, the last one among them.
pub fn thin(length: usize, most: usize) -> Vec<usize> {
    let stride = length.div_ceil(most.max(1)).max(1);
    (0..length).filter(|at| (length - 1 - at).is_multiple_of(stride)).collect()
}

/// The losses, a line a recorded step.
pub fn losses(history: &History) -> String {
    let mut csv = String::from("step,student loss,twin loss");
    for name in &history.term_names {
        csv.push_str(&format!(",{}", quoted(name)));
    }
    csv.push('\n');
    for (at, step) in history.steps.iter().enumerate() {
        csv.push_str(&step.to_string());
        for values in [&history.student_loss, &history.twin_loss].into_iter().chain(&history.terms) {
            csv.push_str(&cell(values.get(at)));
        }
        csv.push('\n');
    }
    csv
}

/// The accuracies, a line a check.
pub fn accuracies(history: &History) -> String {
    let mut csv = String::from("step,teacher accuracy,student accuracy,twin accuracy,agreement\n");
    for (at, step) in history.checks.iter().enumerate() {
        csv.push_str(&step.to_string());
        for values in [&history.teacher_accuracy, &history.student_accuracy, &history.twin_accuracy, &history.agreement]
        {
            csv.push_str(&cell(values.get(at)));
        }
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

fn cell(value: Option<&f32>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| ",".to_owned(), |value| format!(",{value}"))
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use potstill_protocol::{Model, ModelEvaluation};

    fn piece(steps: &[u32], terms: &[&str]) -> History {
        History {
            steps: steps.to_vec(),
            student_loss: steps.iter().map(|step| *step as f32 + 0.5).collect(),
            twin_loss: steps.iter().map(|step| *step as f32).collect(),
            term_names: terms.iter().map(|name| name.to_string()).collect(),
            terms: terms.iter().map(|_| steps.iter().map(|step| *step as f32).collect()).collect(),
            ..History::default()
        }
    }

    #[test]
    fn pieces_of_a_history_stay_aligned() {
        let mut history = History::default();
        append(&mut history, piece(&[1, 2], &["labels"]));
        append(&mut history, piece(&[3], &["labels", "a, \"b\""]));
        append(&mut history, piece(&[4], &[]));
        assert_eq!(
            losses(&history),
            "step,student loss,twin loss,labels,\"a, \"\"b\"\"\"\n1,1.5,1,1,\n2,2.5,2,2,\n3,3.5,3,3,3\n4,4.5,4,,\n"
        );
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
