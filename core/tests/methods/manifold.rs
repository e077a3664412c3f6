//! Manifold distillation.

use burn::tensor::{Device, Tensor};
use potstill_core::method::{Given, Lesson, Manifold, Objective, manifold};
use potstill_core::model::{NetworkShape, Recorder, Taps, Trace};

use crate::digits::values;
use crate::plain::{dot, given, golden_tokens, mean, plain, same_gradient, tiny, unit_rows};

#[test]
fn manifold_losses_are_the_published_numbers() {
    let mut sums = [0.0; 3];
    for l in 0..3 {
        let (student, teacher) = golden_tokens(l);
        let rows = |tokens: &[f64], width| plain(&unit_rows(tokens, width).concat(), [2, 5, width]);
        let (s, t) = (rows(&student, 3), rows(&teacher, 5));
        let all: Vec<usize> = (0..10).collect();
        for (sum, loss) in sums.iter_mut().zip([
            manifold::patch_loss(s.clone(), t.clone()),
            manifold::sample_loss(s.clone(), t.clone()),
            manifold::random_loss(s, t, &all),
        ]) {
            *sum += f64::from(values(loss)[0]) / 3.0;
        }
    }
    for (found, expected) in sums.into_iter().zip([1.296_359_188_4, 0.682_313_800_0, 1.204_377_076_1]) {
        assert!((found / expected - 1.0).abs() < 1e-6, "{found}, expected {expected}");
    }
}

#[test]
fn random_rows_are_different_rows_drawn_anew() {
    let rows = manifold::draw_rows(3, 1, 50, 20);
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 20);
    assert!(sorted.iter().all(|row| *row < 50));
    assert_eq!(rows, manifold::draw_rows(3, 1, 50, 20));
    assert_ne!(rows, manifold::draw_rows(4, 1, 50, 20));
    assert_ne!(rows, manifold::draw_rows(3, 2, 50, 20));
    assert_eq!(manifold::draw_rows(0, 0, 7, 192).len(), 7);
}

#[test]
fn manifold_losses_have_the_gradients_of_their_equations() {
    // Through the terms of an objective, so that normalisation is in the chain: one pair of two samples, five tokens.
    let (student, teacher) = golden_tokens(1);
    let trace = |tokens: Tensor<3>, taps: &Taps| -> Trace {
        let mut recorder = Recorder::new(taps);
        recorder.tokens(0, &tokens);
        recorder.trace(Tensor::zeros([2, 4], &Device::flex()), None, 1)
    };
    let shape = NetworkShape { depth: 1, tokens: 5, prefix_tokens: 1, classes: 4, ..tiny().shape() };
    let only = Manifold { weight: 1.0, sample: 0.0, patch: 0.0, random: 0.0, ..Manifold::default() };
    let step = 7;
    let cases: [(&str, Manifold, Vec<[usize; 2]>); 3] = [
        ("patch", Manifold { patch: 1.0, ..only.clone() }, {
            (0..2).flat_map(|b| (0..25).map(move |ij| [5 * b + ij / 5, 5 * b + ij % 5])).collect()
        }),
        ("sample", Manifold { sample: 1.0, ..only.clone() }, {
            (0..5).flat_map(|i| (0..4).map(move |ab| [5 * (ab / 2) + i, 5 * (ab % 2) + i])).collect()
        }),
        ("random", Manifold { random: 1.0, rows: 4, ..only }, {
            let rows = manifold::draw_rows(step, 0, 10, 4);
            rows.iter().flat_map(|a| rows.iter().map(|b| [*a, *b]).collect::<Vec<_>>()).collect()
        }),
    ];
    for (name, manifold, entries) in cases {
        let objective = Objective::new(vec![Manifold { pairs: vec![[0, 0]], ..manifold }.into()]);
        let lesson = Lesson::for_shapes(&objective, &shape, &shape).expect("networks that fit");
        let [student_taps, teacher_taps] = lesson.taps();
        same_gradient(
            name,
            &student,
            [2, 5, 3],
            |x| {
                let targets = plain(&[0.25; 8], [2, 4]);
                let teacher = trace(plain(&teacher, [2, 5, 5]), teacher_taps);
                lesson.loss(&trace(x, student_taps), Given { step, ..given(&teacher, targets) }).total
            },
            |x| {
                let (s, t) = (unit_rows(x, 3), unit_rows(&teacher, 5));
                mean(entries.iter().map(|[a, b]| (dot(&t[*a], &t[*b]) - dot(&s[*a], &s[*b])).powi(2)))
            },
        );
    }
}
