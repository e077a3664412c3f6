//! Samples without a label: terms that read labels skip them, all others do not.

use burn::tensor::{Device, Tensor};
use potstill_core::method::{Given, Known, Lesson, Objective, Preset, Term, methods};
use potstill_core::model::{NetworkShape, Trace, Training};
use potstill_core::train::{AdamW, AdamWConfig, Learner, StepBatch, training_step};

use crate::digits::{batch, values};
use crate::plain::{given, golden_logits_on, tall, tiny};

/// Value and gradient of a loss of logits, by the rows that are taken of the golden ones.
fn loss_of(terms: Vec<Term>, rows: &[usize], known: Option<Vec<f32>>) -> (Vec<f32>, Vec<f32>) {
    let device = Device::flex();
    let (student, teacher, targets) = golden_logits_on(&device);
    let take = |tensor: Tensor<2>| {
        Tensor::cat(rows.iter().map(|row| tensor.clone().narrow(0, *row, 1)).collect::<Vec<_>>(), 0)
    };
    let student = Tensor::<2>::from_inner(take(student)).require_grad();
    let teacher = Trace::of_logits(take(teacher));
    let shape = NetworkShape { classes: 5, distillation_token: false, ..tiny().shape() };
    let lesson = Lesson::for_shapes(&Objective::new(terms), &shape, &shape).expect("networks that fit");
    let known = known.map(|shares| Known::new(shares, &device));
    let loss = lesson.loss(&Trace::of_logits(student.clone()), Given { known, ..given(&teacher, take(targets)) });
    let gradient = student.grad(&loss.total.clone().backward()).expect("a gradient");
    (values(loss.total.inner()), values(gradient))
}

fn terms(text: &str) -> Vec<Term> {
    serde_json::from_str(text).expect("terms")
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }
}

#[test]
fn a_sample_without_a_label_changes_no_label_term() {
    for list in [
        r#"[{"term": "labels", "smoothing": 0.1}]"#,
        r#"[{"term": "dkd", "warmup_epochs": 0}]"#,
        r#"[{"term": "labels"}, {"term": "dkd", "warmup_epochs": 0, "beta": 2.0}]"#,
    ] {
        let (value, gradient) = loss_of(terms(list), &[0, 2], None);
        let (found, with_it) = loss_of(terms(list), &[0, 1, 2], Some(vec![1.0, 0.0, 1.0]));
        close(&found, &value);
        close(&with_it[..5], &gradient[..5]);
        close(&with_it[5..10], &[0.0; 5]);
        close(&with_it[10..], &gradient[5..]);
        // Without any label there is nothing to learn from labels.
        let (nothing, gradient) = loss_of(terms(list), &[0, 1], Some(vec![0.0; 2]));
        close(&nothing, &[0.0]);
        close(&gradient, &[0.0; 10]);
    }
}

#[test]
fn other_terms_read_every_sample() {
    for list in [r#"[{"term": "logits", "temperature": 3.0}]"#, r#"[{"term": "teacher-labels"}]"#] {
        assert_eq!(loss_of(terms(list), &[0, 1, 2], Some(vec![1.0, 0.0, 0.0])), loss_of(terms(list), &[0, 1, 2], None));
    }
    // Cross-entropy and divergence of one kernel are those that each has alone.
    let both = terms(r#"[{"term": "labels", "weight": 0.25}, {"term": "logits", "weight": 0.75}]"#);
    let known = || Some(vec![0.0, 1.0, 1.0]);
    let (together, gradient) = loss_of(both.clone(), &[0, 1, 2], known());
    let alone: Vec<_> = both.into_iter().map(|term| loss_of(vec![term], &[0, 1, 2], known())).collect();
    close(&together, &[alone[0].0[0] + alone[1].0[0]]);
    let sum: Vec<f32> = alone[0].1.iter().zip(&alone[1].1).map(|(a, b)| a + b).collect();
    close(&gradient, &sum);
}

#[test]
fn parts_of_a_batch_have_the_labels_of_the_whole() {
    let device = Device::flex();
    let teacher = tall().init(1, &device).expect("valid");
    let run = |parts: usize| {
        let student = tiny().init(2, &device.clone().autodiff()).expect("valid");
        let objective = Preset::named("KD").expect("known").objective();
        let teacher = potstill_core::model::Network::from(teacher.clone());
        let lesson = Lesson::new(&objective, &tiny().shape(), Some(teacher.into())).expect("fits");
        let learner = Learner::from(potstill_core::model::Network::from(student));
        let mut optimiser = AdamW::new(AdamWConfig { epsilon: 1e-4, ..AdamWConfig::default() });
        let known = Some(Known::new(vec![1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], &device));
        let batch = StepBatch { known, parts, ..batch(0, 8, &device) };
        let (learner, report) = training_step(learner, &lesson, &mut optimiser, batch, &Training::default(), 1e-3);
        let tensors = burn::backend::read_sync(potstill_core::weights::read(&learner)).expect("readable");
        (values(report.values), tensors.into_iter().flat_map(|tensor| tensor.values).collect::<Vec<_>>())
    };
    let (whole, parts) = (run(1), run(2));
    close(&parts.0, &whole.0);
    for (a, b) in whole.1.iter().zip(&parts.1) {
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
}

#[test]
fn every_method_has_a_finite_loss_without_labels() {
    let device = Device::flex();
    for method in methods() {
        let objective = Preset::named(method.name).expect(method.name).objective();
        let teacher = potstill_core::model::Network::from(tall().init(1, &device).expect("valid"));
        let lesson = Lesson::new(&objective, &tiny().shape(), Some(teacher.into())).expect("fits");
        let tracked = device.clone().autodiff();
        let student = potstill_core::model::Network::from(tiny().init(2, &tracked).expect("valid"));
        let learner = Learner::new(student, &lesson, 3, &tracked);
        let known = Some(Known::new(vec![0.0; 4], &device));
        let batch = StepBatch { known, ..batch(0, 4, &device) };
        let mut optimiser = AdamW::new(AdamWConfig::default());
        let (_, report) = training_step(learner, &lesson, &mut optimiser, batch, &Training::default(), 1e-3);
        assert!(values(report.values).iter().all(|value| value.is_finite()), "{}", method.name);
    }
}
