//! Labels, the teacher's labels, the modes of two heads and how two heads are read out.

use potstill_core::method::teacher_labels::{hard_loss, hard_targets};
use potstill_core::method::{Deit, LogitDistillation, Mode, Preset, Readout, TeacherTemperature};
use potstill_core::model::Trace;

use crate::digits::values;
use crate::plain::{close, golden_logits, loss_of_logits, plain, softmax};

#[test]
fn hard_and_teacher_softened_labels_are_the_published_numbers() {
    let (student, teacher, targets) = golden_logits();
    let argmax: Vec<usize> = values(hard_targets(teacher.clone()))
        .chunks(5)
        .map(|row| row.iter().position(|x| *x == 1.0).unwrap())
        .collect();
    assert_eq!(argmax, [2, 3, 3, 4]);
    close("hard", hard_loss(student.clone(), teacher.clone(), 0.0), 1.509_640_678_4);
    close("hard, smoothed", hard_loss(student.clone(), teacher.clone(), 0.1), 1.572_876_854_5);
    let soft = TeacherTemperature { alpha: 0.25, ..TeacherTemperature::default() };
    let preset = Preset::TeacherTemperature(soft);
    let loss = loss_of_logits(&preset, &Trace::of_logits(student), &Trace::of_logits(teacher), targets);
    close("labels", loss.parts[0].value.clone(), 1.630_210_565_2);
    close("teacher-only temperature", loss.parts[1].value.clone(), 2.017_949_592_7);
    close("total", loss.total, 0.75 * 1.630_210_565_2 + 0.25 * 2.017_949_592_7);
}

#[test]
fn the_modes_of_two_heads_are_their_equations() {
    let (student, teacher, targets) = golden_logits();
    // The class head says what the student of the golden numbers says; the token's head says twice as much.
    let token = student.clone().mul_scalar(2.0);
    let trace = Trace::of_logits(student.clone()).with_distillation_logits(token.clone());
    let teacher = Trace::of_logits(teacher);
    let (ce, ls) = (1.630_210_565_2, 1.681_389_752_7);
    let kl = f64::from(
        values({
            let kd = LogitDistillation { alpha: 1.0, ..LogitDistillation::default() };
            loss_of_logits(&Preset::Kd(kd), &Trace::of_logits(token.clone()), &teacher, targets.clone()).total
        })[0],
    );
    let hard = f64::from(values(hard_loss(token, teacher.logits.clone(), 0.1))[0]);
    for (mode, expected) in [
        (Mode::None, ls),
        (Mode::Class, ls),
        (Mode::Soft, 0.5 * ls + 0.5 * kl),
        (Mode::Both, 0.5 * ls + 0.5 * kl),
        (Mode::Hard, 0.5 * ls + 0.5 * hard),
        (Mode::Distill, hard),
    ] {
        let preset = Preset::Deit(Deit { mode, teacher_smoothing: 0.1, ..Deit::default() });
        close(&format!("{mode:?}"), loss_of_logits(&preset, &trace, &teacher, targets.clone()).total, expected);
    }
    // Without the token, the class head is taught: then it is plain distillation.
    let unsmoothed = Deit { mode: Mode::Soft, smoothing: 0.0, ..Deit::default() };
    let loss = loss_of_logits(&Preset::Deit(unsmoothed), &Trace::of_logits(student), &teacher, targets);
    close("soft without a token", loss.total, 0.5 * ce + 0.5 * 1.622_301_578_0);
}

#[test]
fn heads_are_read_out_as_named() {
    let class = plain(&[1.0, 3.0, 0.0], [1, 3]);
    let token = plain(&[4.0, 0.0, 1.0], [1, 3]);
    let trace = Trace::of_logits(class.clone()).with_distillation_logits(token.clone());
    let read = |readout: Readout| values(readout.of(&trace));
    assert_eq!(read(Readout::Class), values(class.clone()));
    assert_eq!(read(Readout::Distill), values(token));
    assert_eq!(read(Readout::MeanLogits), [2.5, 1.5, 0.5]);
    let (p, q) = (softmax(&[1.0, 3.0, 0.0]), softmax(&[4.0, 0.0, 1.0]));
    for (found, (p, q)) in read(Readout::MeanProbabilities).into_iter().zip(p.into_iter().zip(q)) {
        assert!((f64::from(found).exp() - (p + q) / 2.0).abs() < 1e-6);
    }
    assert_eq!(values(Readout::Distill.of(&Trace::of_logits(class.clone()))), values(class), "one head, one readout");
}

#[test]
fn a_head_that_nothing_teaches_is_not_read() {
    for (name, readout) in [
        ("none", Readout::Class),
        ("class", Readout::Class),
        ("KD", Readout::Class),
        ("SAF+KD", Readout::Class),
        ("soft", Readout::MeanLogits),
        ("both", Readout::MeanLogits),
        ("distill", Readout::Distill),
    ] {
        assert_eq!(Preset::named(name).expect(name).objective().readout(), readout, "{name}");
    }
    let teacher_alone = Preset::Deit(Deit { mode: Mode::Hard, alpha: 1.0, ..Deit::default() });
    assert_eq!(teacher_alone.objective().readout(), Readout::Distill);
}
