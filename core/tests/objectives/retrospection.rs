//! Learning with retrospection.

use potstill_core::model::Trace;
use potstill_core::objective::{Lesson, LogitDistillation, LogitTable, Objective, Part, Retrospection};

use crate::digits::values;
use crate::plain::{close, golden_logits};

#[test]
fn retrospection_follows_the_authors_schedule() {
    let retrospection = Retrospection::default();
    for (epoch, alpha) in [(1, 1.0), (5, 1.0), (6, 0.98125), (9, 0.98125), (10, 0.9625), (100, 0.625), (200, 0.25)] {
        assert!((retrospection.alpha(epoch) - alpha).abs() < 1e-12, "epoch {epoch}: {}", retrospection.alpha(epoch));
    }
    assert_eq!(retrospection.alpha(100_000), 0.0, "the labels never weigh less than nothing");
    let copies: Vec<u64> = (0..12).filter(|epoch| retrospection.copies_after(*epoch)).collect();
    assert_eq!(copies, [5, 10]);
    let labels = Objective::Labels { smoothing: 0.1 };
    assert_eq!(retrospection.applied(&labels, 5).parts(), labels.parts());
    let Part::Retrospection { weight, temperature } = retrospection.applied(&labels, 6).parts()[1] else {
        panic!("the labels give to the past")
    };
    assert!((weight - 0.01875).abs() < 1e-12);
    assert_eq!(temperature, 5.0);
    // Beside a teacher, the labels share what they have and the teacher keeps its own.
    let hard = Objective::named("hard").expect("known");
    let parts = retrospection.applied(&hard, 100).parts();
    let [
        Part::Labels { weight: labels, .. },
        Part::TeacherLabels { weight: teacher, .. },
        Part::Retrospection { weight: past, .. },
    ] = parts[..]
    else {
        panic!("three terms: {parts:?}")
    };
    assert_eq!((labels, teacher, past), (0.5 * 0.625, 0.5, 0.5 * 0.375));
    // The loss is the equation's: α CE + β τ² KL with the past as the teacher.
    let (student, past, targets) = golden_logits();
    let lesson = Lesson { past: Some(past.clone()), ..Lesson::default() };
    let plain = Objective::Labels { smoothing: 0.0 };
    let found =
        retrospection.applied(&plain, 200).loss_with(&Trace::of_logits(student.clone()), &lesson, targets.clone());
    let kd = LogitDistillation { alpha: 0.75, temperature: 5.0, ..LogitDistillation::default() };
    let past = Trace::of_logits(past);
    let expected = Objective::Kd(kd).loss(&Trace::of_logits(student), Some(&past), targets).total;
    close("retrospection", found.total, f64::from(values(expected)[0]));
}

#[test]
fn a_table_of_logits_is_read_as_it_was_when_copied() {
    let mut table = LogitTable::new(4, 2);
    table.record(&[3, 0], &[1.0, 2.0, 3.0, 4.0]).expect("fits");
    assert_eq!(table.rows(&[0]).expect("there"), [0.0, 0.0], "nothing is read before a copy");
    table.refresh();
    table.record(&[0], &[9.0, 9.0]).expect("fits");
    assert_eq!(table.rows(&[0, 1, 3]).expect("there"), [3.0, 4.0, 0.0, 0.0, 1.0, 2.0]);
    let before = table.clone();
    for (indices, logits) in [(vec![4], vec![0.0; 2]), (vec![u64::MAX], vec![0.0; 2]), (vec![0], vec![0.0; 3])] {
        table.record(&indices, &logits).expect_err("does not fit");
    }
    table.record(&[1, 4], &[5.0; 4]).expect_err("the second sample is not there");
    assert_eq!(table, before, "nothing is written on an error");
    table.rows(&[4]).expect_err("not there");
    LogitTable::new(0, 0).rows(&[0]).expect_err("an empty table");
}

#[test]
fn a_table_of_logits_survives_a_checkpoint() {
    let mut table = LogitTable::new(3, 2);
    table.record(&[2], &[1.0, 2.0]).expect("fits");
    table.refresh();
    table.record(&[0], &[3.0, 4.0]).expect("fits");
    let contents = table.contents().map(<[f32]>::to_vec);
    assert_eq!(LogitTable::from_contents(2, contents.clone()), Some(table));
    assert_eq!(LogitTable::from_contents(4, contents.clone()), None);
    assert_eq!(LogitTable::from_contents(0, contents), None);
}
