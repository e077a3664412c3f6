//! Learning with retrospection.

use potstill_core::method::{
    Given, Lesson, LogitDistillation, LogitTable, Loss, Objective, Past, Preset, Retrospection,
};
use potstill_core::model::{NetworkShape, Trace};

use crate::digits::values;
use crate::plain::{close, given, golden_logits, loss_of_logits, tiny};

#[test]
fn retrospection_follows_the_authors_schedule() {
    let retrospection = Retrospection::default();
    for (epoch, alpha) in [(1, 1.0), (5, 1.0), (6, 0.98125), (9, 0.98125), (10, 0.9625), (100, 0.625), (200, 0.25)] {
        assert!((retrospection.alpha(epoch) - alpha).abs() < 1e-12, "epoch {epoch}: {}", retrospection.alpha(epoch));
    }
    assert_eq!(retrospection.alpha(100_000), 0.0, "the labels never weigh less than nothing");
    let copies: Vec<u64> = (0..12).filter(|epoch| retrospection.copies_after(*epoch)).collect();
    assert_eq!(copies, [5, 10]);
    assert_eq!(retrospection.share(5), None);
    assert!((retrospection.share(6).expect("the past counts") - 0.01875).abs() < 1e-12);
    let (student, past, targets) = golden_logits();
    let student = Trace::of_logits(student);
    let shape = NetworkShape { classes: 5, distillation_token: false, ..tiny().shape() };
    let loss = |objective: &Objective, share: f64| -> Loss {
        let lesson = Lesson::for_shapes(objective, &shape, &shape).expect("networks that fit");
        let past = Some(Past { logits: past.clone(), share, temperature: 5.0, seen: None });
        lesson.loss(&student, Given { past, ..given(&student, targets.clone()) })
    };
    // Beside a teacher, the labels share what they have and the teacher keeps its own.
    let hard = Preset::named("hard").expect("known").objective();
    let parts: Vec<_> = loss(&hard, 0.375).parts.into_iter().map(|part| (part.name.to_string(), part.weight)).collect();
    let named = |name: &str, weight: f64| (name.to_owned(), weight);
    assert_eq!(
        parts,
        [named("labels", 0.5 * 0.625), named("teacher-labels", 0.5), named("retrospection", 0.5 * 0.375)]
    );
    // The loss is the equation's: α CE + β τ² KL with the past as the teacher.
    let found = loss(&Objective::labels(0.0), 0.75);
    let kd = LogitDistillation { alpha: 0.75, temperature: 5.0, ..LogitDistillation::default() };
    let expected = loss_of_logits(&Preset::Kd(kd), &student, &Trace::of_logits(past.clone()), targets.clone()).total;
    close("retrospection", found.total, f64::from(values(expected)[0]));
    // Without labels there is nothing to give.
    let teacher_alone = Preset::named("distill").expect("known").objective();
    let token = NetworkShape { distillation_token: true, ..shape };
    let lesson = Lesson::for_shapes(&teacher_alone, &token, &token).expect("networks that fit");
    let past = Some(Past { logits: past.clone(), share: 0.5, temperature: 5.0, seen: None });
    assert_eq!(lesson.loss(&student, Given { past, ..given(&student, targets.clone()) }).parts.len(), 1);
}

#[test]
fn a_sample_without_a_past_is_taught_by_its_label_alone() {
    let (student, past, targets) = golden_logits();
    let [rows, _] = student.dims();
    let shape = NetworkShape { classes: 5, distillation_token: false, ..tiny().shape() };
    let lesson = Lesson::for_shapes(&Objective::labels(0.1), &shape, &shape).expect("networks that fit");
    let row = |tensor: &burn::tensor::Tensor<2>, place: usize| tensor.clone().narrow(0, place, 1);
    // Each sample by itself, with its past or without one, is the equation.
    let share = 0.375;
    let alone = |place: usize, seen: bool| {
        let trace = Trace::of_logits(row(&student, place));
        let past = seen.then(|| Past { logits: row(&past, place), share, temperature: 5.0, seen: None });
        f64::from(values(lesson.loss(&trace, Given { past, ..given(&trace, row(&targets, place)) }).total)[0])
    };
    let seen: Vec<f32> = (0..rows).map(|place| f32::from(u8::from(place % 2 == 0))).collect();
    let expected = (0..rows).map(|place| alone(place, seen[place] > 0.0)).sum::<f64>() / rows as f64;
    // What the table has of the others is a row of zeros.
    let mut table = LogitTable::new(rows, 5);
    let all = values(past.clone());
    for place in (0..rows).filter(|place| seen[*place] > 0.0) {
        table.record(&[place as u64], &all[place * 5..][..5]).expect("fits");
    }
    table.refresh();
    let indices: Vec<u64> = (0..rows as u64).collect();
    let kept = table.rows(&indices).expect("there");
    assert_eq!(table.seen(&kept), Some(seen.clone()));
    let device = student.device();
    let tensor = |values: Vec<f32>, shape: [usize; 2]| {
        burn::tensor::Tensor::<2>::from_data(burn::tensor::TensorData::new(values, shape), &device)
    };
    let logits = tensor(kept, [rows, 5]);
    let seen = Some(tensor(seen, [rows, 1]).squeeze_dim::<1>(1));
    let trace = Trace::of_logits(student.clone());
    let past = Some(Past { logits, share, temperature: 5.0, seen });
    let loss = lesson.loss(&trace, Given { past, ..given(&trace, targets.clone()) });
    assert!((f64::from(values(loss.total)[0]) - expected).abs() < 1e-5, "{expected}");
    assert_eq!(loss.parts.len(), 2);
    assert_eq!(table.seen(&all), None);
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
