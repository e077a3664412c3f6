//! Objectives: against numbers worked out in f64 apart from this code, gradients against central differences of an f64
//! model of each equation, and each as a student learns by it.
#![recursion_limit = "256"]

mod common;
#[path = "common/digits.rs"]
mod digits;

use burn::backend::read_sync;
use burn::tensor::{Device, Tensor, TensorData};
use common::devices;
use digits::{batch, values};
use potstill_core::kernel;
use potstill_core::model::init::WeightInit;
use potstill_core::model::{Network, Pool, Taps, Trace, Training, VitConfig};
use potstill_core::objective::class_token::{self, Projector};
use potstill_core::objective::labels::{hard_loss, hard_targets};
use potstill_core::objective::{
    AttentionForcing, ClassToken, Deit, Head, Lesson, LogitDistillation, LogitTable, Manifold, Matching, Mode,
    Objective, Part, Readout, Retrospection, Sum, TeacherTemperature, end_pairs, manifold,
};
use potstill_core::train::{AdamW, AdamWConfig, Learner, training_step};
use potstill_core::weights;

// ---- Plain f64

/// `v_i = amp sin(a i + b)`.
fn wave(count: usize, a: f64, b: f64, amp: f64) -> Vec<f64> {
    (0..count).map(|i| amp * (a * i as f64 + b).sin()).collect()
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let peak = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = row.iter().map(|z| (z - peak).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / total).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Rows of length `width`, each divided by its norm.
fn unit_rows(values: &[f64], width: usize) -> Vec<Vec<f64>> {
    let unit = |row: &[f64]| row.iter().map(|x| x / dot(row, row).sqrt().max(1e-12)).collect();
    values.chunks(width).map(unit).collect()
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    sum / count
}

/// The head-averaged attention `[B, N, N]` of packed `[B, N, 3, H, D]`.
fn plain_head_mean(qkv: &[f64], [b, n, h, d]: [usize; 4]) -> Vec<f64> {
    let at = |batch: usize, token: usize, part: usize, head: usize| {
        let start = (((batch * n + token) * 3 + part) * h + head) * d;
        &qkv[start..start + d]
    };
    let mut map = Vec::new();
    for batch in 0..b {
        for i in 0..n {
            let mut row = vec![0.0; n];
            for head in 0..h {
                let scores: Vec<f64> =
                    (0..n).map(|j| dot(at(batch, i, 0, head), at(batch, j, 1, head)) / (d as f64).sqrt()).collect();
                for (sum, p) in row.iter_mut().zip(softmax(&scores)) {
                    *sum += p / h as f64;
                }
            }
            map.extend(row);
        }
    }
    map
}

/// Central differences of `f` at `x`.
fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let moved = |by: f64| {
                let mut x = x.to_vec();
                x[i] += by;
                f(&x)
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        })
        .collect()
}

// ---- Tensors

fn tensor<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn plain<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    tensor(values, shape, &Device::flex())
}

fn close_within(name: &str, found: Tensor<1>, expected: f64, tolerance: f64) {
    let found = f64::from(values(found)[0]);
    let error = (found / expected - 1.0).abs();
    assert!(error < tolerance, "{name}: {found}, expected {expected}, relative error {error:e}");
}

fn close(name: &str, found: Tensor<1>, expected: f64) {
    close_within(name, found, expected, 1e-6);
}

/// Holds the value and gradient of `loss` at `x` against `model` and its differences.
fn same_gradient<const D: usize>(
    name: &str,
    x: &[f64],
    shape: [usize; D],
    loss: impl Fn(Tensor<D>) -> Tensor<1>,
    model: impl Fn(&[f64]) -> f64,
) {
    let input = tensor(x, shape, &Device::flex().autodiff()).require_grad();
    let value = loss(input.clone());
    close_within(name, value.clone().inner(), model(x), 1e-5);
    let gradients = value.backward();
    let found = values(input.grad(&gradients).unwrap_or_else(|| panic!("{name}: no gradient")));
    let expected = differences(x, model);
    let size = expected.iter().fold(0.0_f64, |size, g| size.max(g.abs()));
    assert!(size > 0.0, "{name}: the model has a gradient");
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        let error = (f64::from(*a) - b).abs() / size;
        assert!(error < 1e-4, "{name}, entry {i}: {a}, expected {b}");
    }
}

// ---- Golden numbers

fn golden_logits() -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let mut targets = vec![0.0; 20];
    for (row, label) in [0, 2, 1, 4].into_iter().enumerate() {
        targets[5 * row + label] = 1.0;
    }
    let logits = |a, b, amp| plain(&wave(20, a, b, amp), [4, 5]);
    (logits(0.7, 0.3, 2.0), logits(1.1, -0.4, 3.0), plain(&targets, [4, 5]))
}

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
    let loss =
        Objective::TeacherTemperature(soft).loss(&Trace::of_logits(student), Some(&Trace::of_logits(teacher)), targets);
    close("labels", loss.terms[0].value.clone(), 1.630_210_565_2);
    close("teacher-only temperature", loss.terms[1].value.clone(), 2.017_949_592_7);
    close("total", loss.total, 0.75 * 1.630_210_565_2 + 0.25 * 2.017_949_592_7);
}

#[test]
fn the_modes_of_two_heads_are_their_equations() {
    let (student, teacher, targets) = golden_logits();
    // The class head says what the student of the golden numbers says; the token's head says twice as much.
    let token = student.clone().mul_scalar(2.0);
    let trace = Trace { distillation_logits: Some(token.clone()), ..Trace::of_logits(student.clone()) };
    let teacher = Trace::of_logits(teacher);
    let (ce, ls) = (1.630_210_565_2, 1.681_389_752_7);
    let kl = f64::from(
        values({
            let kd = LogitDistillation { alpha: 1.0, ..LogitDistillation::default() };
            Objective::Kd(kd).loss(&Trace::of_logits(token.clone()), Some(&teacher), targets.clone()).total
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
        let objective = Objective::Deit(Deit { mode, teacher_smoothing: 0.1, ..Deit::default() });
        let taught = objective.needs_teacher().then_some(&teacher);
        close(&format!("{mode:?}"), objective.loss(&trace, taught, targets.clone()).total, expected);
    }
    // Without the token, the class head is taught: then it is plain distillation.
    let unsmoothed = Deit { mode: Mode::Soft, smoothing: 0.0, ..Deit::default() };
    let loss = Objective::Deit(unsmoothed).loss(&Trace::of_logits(student), Some(&teacher), targets);
    close("soft without a token", loss.total, 0.5 * ce + 0.5 * 1.622_301_578_0);
}

#[test]
fn heads_are_read_out_as_named() {
    let class = plain(&[1.0, 3.0, 0.0], [1, 3]);
    let token = plain(&[4.0, 0.0, 1.0], [1, 3]);
    let trace = Trace { distillation_logits: Some(token.clone()), ..Trace::of_logits(class.clone()) };
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

/// Queries and keys `[2, 3, 3, H, 3]` whose scores are the raw ones that the golden numbers are given by: a query is a row of
/// scores, undoing the scale, and key j the unit vector j.
fn golden_queries_and_keys(heads: usize, a: f64, b: f64) -> Tensor<5> {
    let raw = plain(&wave(2 * heads * 9, a, b, 2.0), [2, heads, 3, 3]).mul_scalar(3.0_f64.sqrt());
    let part = |rows: Tensor<4>| rows.swap_dims(1, 2).unsqueeze_dim::<5>(2);
    let keys = Tensor::<2>::eye(3, &Device::flex()).unsqueeze::<4>().expand([2, heads, 3, 3]);
    Tensor::cat(vec![part(raw.clone()), part(keys), part(raw.zeros_like())], 2)
}

#[test]
fn attention_forcing_is_the_published_number() {
    let pairs = AttentionForcing::default().pairs(2, 4);
    assert_eq!(pairs, [[0, 1], [1, 3]]);
    let mut total = Tensor::<1>::zeros([1], &Device::flex());
    for ([s, t], expected) in pairs.into_iter().zip([0.016_823_987_6, 0.031_153_278_7]) {
        let (l, k) = (s as f64, t as f64);
        let student = golden_queries_and_keys(2, 0.5 + 0.1 * l, 0.2 * l);
        let teacher = golden_queries_and_keys(4, 0.9 + 0.1 * k, 0.1 * k);
        let loss = kernel::attention_map_loss(student, teacher);
        // A mean of squared differences of f32 probabilities: the differences keep about six digits.
        close_within(&format!("pair {s}"), loss.clone(), expected, 1e-5);
        total = total + loss;
    }
    close_within("sum", total, 0.047_977_266_3, 1e-5);
}

#[test]
fn layers_are_paired_by_the_published_strides() {
    let saf = AttentionForcing::default();
    assert_eq!(saf.pairs(12, 24)[0], [0, 1]);
    assert_eq!(saf.pairs(12, 24)[11], [11, 23]);
    assert!(saf.pairs(6, 3).is_empty());
    assert_eq!(AttentionForcing { pairs: vec![[0, 2]], ..saf }.pairs(6, 3), [[0, 2]]);
    let published = [0, 1, 2, 3, 8, 9, 10, 11].map(|i| [i, i]);
    assert_eq!(end_pairs(&[], 12, 12), published);
    assert_eq!(end_pairs(&[], 12, 24)[4..], [[8, 20], [9, 21], [10, 22], [11, 23]]);
    assert_eq!(end_pairs(&[], 3, 6), [[0, 0], [1, 1], [2, 5]]);
}

/// Student's and teacher's tokens `[2, 5, 3]` and `[2, 5, 5]` of layer `l`.
fn golden_tokens(l: usize) -> (Vec<f64>, Vec<f64>) {
    let l = l as f64;
    (wave(30, 0.37 + 0.05 * l, 0.1 * l, 1.0), wave(50, 0.61 + 0.07 * l, 0.2 * l, 1.0))
}

#[test]
fn class_token_losses_are_the_published_numbers() {
    let (mut classes, mut maps) = (Vec::new(), Vec::new());
    let per_layer =
        [(0.274_915_432_1, 1.253_171_052_4), (0.047_554_100_3, 1.447_302_428_7), (0.175_596_210_4, 1.745_936_800_4)];
    for (l, (class_expected, map_expected)) in per_layer.into_iter().enumerate() {
        let (student, teacher) = golden_tokens(l);
        let (student, teacher) = (plain(&student, [2, 5, 3]), plain(&teacher, [2, 5, 5]));
        let projected = plain(&wave(10, 0.83 + 0.03 * l as f64, 0.3 * l as f64, 0.5), [2, 5]);
        let teacher_class = teacher.clone().narrow(1, 0, 1).squeeze_dim::<2>(1);
        classes.push(class_token::projected_loss(projected, teacher_class));
        maps.push(class_token::map_loss(student, 1, teacher, 1));
        close(&format!("class {l}"), classes[l].clone(), class_expected);
        close(&format!("map {l}"), maps[l].clone(), map_expected);
    }
    for detach in [false, true] {
        let adaptive = |losses: &[Tensor<1>], last| class_token::adaptive(losses.to_vec(), last, detach);
        close("adaptive class", adaptive(&classes, 1.0), 0.218_191_911_3);
        close("adaptive class, last 4", adaptive(&classes, 4.0), 0.403_914_556_7);
        close("adaptive map", adaptive(&maps, 1.0), 1.509_851_069_2);
        close("adaptive map, last 4", adaptive(&maps, 4.0), 3.566_540_702_8);
    }
}

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

#[test]
fn a_list_of_terms_is_the_sum_that_it_writes_out() {
    let (student, teacher, targets) = golden_logits();
    let (student, teacher) = (Trace::of_logits(student), Trace::of_logits(teacher));
    let kd = LogitDistillation { alpha: 0.25, temperature: 3.0, ..LogitDistillation::default() };
    let named = Objective::Kd(kd).loss(&student, Some(&teacher), targets.clone());
    let logits = |weight| Part::Logits {
        weight,
        temperature: 3.0,
        normalisation: potstill_core::objective::Normalisation::Batchmean,
        head: Head::Token,
    };
    let terms = vec![logits(0.125), Part::Labels { weight: 0.75, smoothing: 0.0 }, logits(0.125)];
    let listed = Objective::Terms { terms };
    listed.validate().expect("sensible");
    let listed = listed.loss(&student, Some(&teacher), targets);
    let names: Vec<_> = listed.terms.iter().map(|term| term.name.as_ref()).collect();
    assert_eq!(names, ["logits", "labels", "logits 2"], "no two terms share a name");
    close("a list", listed.total, f64::from(values(named.total)[0]));
    for terms in [
        vec![],
        vec![Part::Labels { weight: 1.0, smoothing: 0.0 }; 2],
        vec![Part::Attention(AttentionForcing::default()); 2],
        vec![logits(-1.0)],
    ] {
        Objective::Terms { terms }.validate().expect_err("nonsense");
    }
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
        assert_eq!(Objective::named(name).expect(name).readout(), readout, "{name}");
    }
    let teacher_alone = Objective::Deit(Deit { mode: Mode::Hard, alpha: 1.0, ..Deit::default() });
    assert_eq!(teacher_alone.readout(), Readout::Distill);
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

// ---- Gradients

#[test]
fn attention_forcing_has_the_gradient_of_its_equation() {
    let shape = [2, 4, 2, 3];
    let [b, n, h, d] = shape;
    let student = wave(b * n * 3 * h * d, 0.9, 0.2, 1.5);
    let teacher = wave(b * n * 3 * 4 * 2, 1.3, 0.1, 1.5);
    let teacher_map = plain_head_mean(&teacher, [b, n, 4, 2]);
    let teacher = plain(&teacher, [b, n, 3, 4, 2]);
    same_gradient(
        "attention",
        &student,
        [b, n, 3, h, d],
        |qkv| kernel::attention_map_loss(qkv, teacher.clone()),
        |qkv| mean(plain_head_mean(qkv, shape).iter().zip(&teacher_map).map(|(s, t)| (s - t).powi(2))),
    );
}

#[test]
fn class_token_losses_have_the_gradients_of_their_equations() {
    // Three layers of two samples with five tokens, as one vector.
    let student: Vec<f64> = (0..3).flat_map(|l| golden_tokens(l).0).collect();
    let teacher: Vec<Vec<f64>> = (0..3).map(|l| golden_tokens(l).1).collect();
    let cosines = |tokens: &[f64], width: usize| -> Vec<f64> {
        let rows = unit_rows(tokens, width);
        rows.chunks(5).flat_map(|tokens| (1..5).map(|p| dot(&tokens[0], &tokens[p])).collect::<Vec<_>>()).collect()
    };
    let map = |student: &[f64], l: usize| {
        let pairs = cosines(student, 3).into_iter().zip(cosines(&teacher[l], 5));
        mean(pairs.map(|(s, t)| (t - s).powi(2)))
    };
    let layer = |tokens: &Tensor<4>, l: usize| tokens.clone().narrow(0, l, 1).squeeze_dim::<3>(0);
    let losses = |x: Tensor<4>| -> Vec<Tensor<1>> {
        (0..3).map(|l| class_token::map_loss(layer(&x, l), 1, plain(&teacher[l], [2, 5, 5]), 1)).collect()
    };
    let each = |x: &[f64]| -> Vec<f64> { x.chunks(30).enumerate().map(|(l, x)| map(x, l)).collect() };
    let at = each(&student);
    same_gradient(
        "adaptive map",
        &student,
        [3, 2, 5, 3],
        |x| class_token::adaptive(losses(x), 4.0, false),
        |x| {
            let l = each(x);
            (l[0] * l[0] + l[1] * l[1] + 4.0 * l[2] * l[2]) / l.iter().sum::<f64>()
        },
    );
    same_gradient(
        "adaptive map with constant weights",
        &student,
        [3, 2, 5, 3],
        |x| class_token::adaptive(losses(x), 4.0, true),
        |x| {
            let l = each(x);
            (at[0] * l[0] + at[1] * l[1] + 4.0 * at[2] * l[2]) / at.iter().sum::<f64>()
        },
    );
    let gram = |x: &[f64], width| -> Vec<f64> {
        let rows = unit_rows(x, width);
        rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b)).collect::<Vec<_>>()).collect()
    };
    let (x, t) = (wave(12, 0.8, 0.3, 1.0), wave(20, 0.5, 0.9, 1.0));
    same_gradient(
        "relation",
        &x,
        [4, 3],
        |x| class_token::relation_loss(x, plain(&t, [4, 5])),
        |x| mean(gram(x, 3).into_iter().zip(gram(&t, 5)).map(|(s, t)| (t - s).powi(2))),
    );
}

#[test]
fn manifold_losses_have_the_gradients_of_their_equations() {
    // Through the terms of an objective, so that normalisation is in the chain: one pair of two samples, five tokens.
    let (student, teacher) = golden_tokens(1);
    let trace = |tokens: Tensor<3>| Trace {
        tokens: vec![tokens],
        prefix_tokens: 1,
        ..Trace::of_logits(Tensor::zeros([2, 4], &Device::flex()))
    };
    let objective = |manifold: Manifold| {
        let manifold = Some(Manifold { pairs: vec![[0, 0]], ..manifold });
        Objective::Sum(Sum { alpha: 1.0, manifold, ..Sum::default() })
    };
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
        let objective = objective(manifold);
        same_gradient(
            name,
            &student,
            [2, 5, 3],
            |x| {
                let targets = plain(&[0.25; 8], [2, 4]);
                let teacher = trace(plain(&teacher, [2, 5, 5]));
                objective
                    .loss_with(&trace(x), &Lesson { teacher: Some(&teacher), step, ..Lesson::default() }, targets)
                    .total
            },
            |x| {
                let (s, t) = (unit_rows(x, 3), unit_rows(&teacher, 5));
                mean(entries.iter().map(|[a, b]| (dot(&t[*a], &t[*b]) - dot(&s[*a], &s[*b])).powi(2)))
            },
        );
    }
}

#[test]
fn a_projector_is_linear_gelu_linear_and_learns() {
    let device = Device::flex().autodiff();
    let projector = Projector::new(192, 768, 1, &device);
    assert_eq!(burn::module::Module::num_params(&projector), 462_048);
    let projector = Projector::new(6, 10, 1, &device);
    let mut names = Vec::new();
    for tensor in burn::backend::read_sync(potstill_core::weights::read(&projector)).expect("readable") {
        names.push(tensor.name);
    }
    assert_eq!(names, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
    let teacher = plain(&wave(30, 0.6, 0.1, 1.0), [3, 10]);
    let class = tensor(&wave(18, 0.3, 0.2, 1.0), [3, 6], &device);
    let mut optimiser = AdamW::new(AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() });
    let mut projector = projector;
    let mut losses = Vec::new();
    for _ in 0..20 {
        let loss = class_token::projected_loss(projector.forward(class.clone()), teacher.clone());
        losses.push(values(loss.clone().inner())[0]);
        projector = optimiser.step(projector, loss.backward(), 1e-2);
    }
    assert!(losses[19] < 0.5 * losses[0], "{losses:?}");
}

#[test]
fn rows_of_zeros_have_a_finite_gradient() {
    let device = Device::flex().autodiff();
    let zeros = Tensor::<2>::zeros([3, 4], &device).require_grad();
    let loss = class_token::relation_loss(zeros.clone(), plain(&wave(15, 0.4, 0.1, 1.0), [3, 5]));
    let gradients = loss.clone().backward();
    let gradient = values(zeros.grad(&gradients).expect("a gradient"));
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    // Equal networks have nothing to weigh.
    let nothing = class_token::adaptive(vec![Tensor::<1>::zeros([1], &Device::flex()); 2], 4.0, false);
    assert_eq!(values(nothing), [0.0]);
}

// ---- Taps, names and combinations

fn tiny() -> VitConfig {
    VitConfig {
        image_size: 28,
        patch_size: 7,
        channels: 1,
        classes: 10,
        width: 16,
        depth: 2,
        heads: 2,
        mlp_ratio: 2.0,
        pool: Pool::Class,
        class_token: true,
        distillation_token: true,
        init: WeightInit::Xavier,
        ..VitConfig::default()
    }
}

fn tall() -> VitConfig {
    VitConfig { depth: 4, width: 24, heads: 4, ..tiny() }
}

#[test]
fn a_trace_holds_what_was_asked_for_and_changes_nothing() {
    let model = tall().init(0, &Device::flex()).expect("a valid model");
    let images = plain(&wave(2 * 28 * 28, 0.37, 0.0, 1.0), [2, 1, 28, 28]);
    let bare = model.forward(images.clone(), None);
    assert!(bare.tokens.is_empty() && bare.queries_and_keys.is_empty());
    let taps = Taps { tokens: vec![3, 0, 3], queries_and_keys: vec![2] };
    let trace = model.forward_with(images, None, &taps);
    assert_eq!(values(trace.logits), values(bare.logits));
    assert_eq!(trace.tokens.iter().map(Tensor::dims).collect::<Vec<_>>(), [[2, 18, 24]; 3]);
    assert_eq!(values(trace.tokens[0].clone()), values(trace.tokens[2].clone()));
    assert_ne!(values(trace.tokens[0].clone()), values(trace.tokens[1].clone()));
    assert_eq!(trace.queries_and_keys[0].dims(), [2, 18, 3, 4, 6]);
    assert_eq!(trace.prefix_tokens, 2);
    assert_eq!(model.shape(), tall().shape());
}

#[test]
fn names_stand_for_the_objectives_of_the_works_they_come_from() {
    let Some(Objective::Kd(kd)) = Objective::named("KD") else { panic!("a distillation") };
    assert_eq!(kd, LogitDistillation::default());
    let Some(Objective::Sum(both)) = Objective::named("saf+kd") else { panic!("a sum") };
    assert_eq!((both.alpha, both.saf.map(|saf| saf.weight)), (0.5, Some(1.0)));
    let kd = both.kd.expect("logits");
    assert_eq!((kd.weight, kd.temperature), (1.0, 2.0));
    assert_eq!(kd.normalisation, potstill_core::objective::Normalisation::Numel);
    assert!(matches!(Objective::named("both"), Some(Objective::Deit(Deit { mode: Mode::Both, .. }))));
    for name in ["", "magic", "SAF+", "SAF+SAF", "KD+magic"] {
        assert_eq!(Objective::named(name), None, "{name:?}");
    }
    for name in ["KD", "KD-numel", "SAF", "CLS", "MANIFOLD", "SAF+KD", "cls+manifold", "CLS-KD", "DistillViT", "soft"] {
        let objective = Objective::named(name).expect(name);
        objective.validate().expect(name);
        objective.check(&tiny().shape(), &tall().shape()).expect(name);
    }
    Objective::Sum(Sum::default()).validate().expect_err("a sum of nothing");
}

#[test]
fn the_published_sum_has_the_published_weights() {
    let Some(objective) = Objective::named("CLS-KD") else { panic!("CLS-KD is known") };
    let loss = loss_of(&objective, &tiny(), &tall());
    let weights: Vec<_> = loss.terms.iter().map(|term| (term.name.as_ref(), term.weight)).collect();
    assert_eq!(
        weights,
        [
            ("labels", 0.0),
            ("logits", 1.0),
            ("class-token", 1.0),
            ("class-map", 2.0),
            ("samples", 0.1),
            ("patches", 4.0),
            ("rows", 0.2)
        ]
    );
}

/// The loss of untrained networks on a batch of digits.
fn loss_of(objective: &Objective, student: &VitConfig, teacher: &VitConfig) -> potstill_core::objective::Loss {
    let device = Device::flex();
    let (student, teacher) = (student.init(1, &device).expect("valid"), teacher.init(2, &device).expect("valid"));
    let (student_taps, teacher_taps) = objective.taps(student.shape().depth, teacher.shape().depth);
    let batch = batch(0, 4, &device);
    let teacher = Network::from(teacher);
    let learner = Learner::new(student.into(), Some(&teacher), objective, 3, &device);
    let student = learner.student.forward_with(batch.images.clone(), None, &student_taps);
    let teacher = teacher.forward_with(batch.images, None, &teacher_taps);
    let lesson = Lesson { teacher: Some(&teacher), projector: learner.projector.as_ref(), ..Lesson::default() };
    objective.loss_with(&student, &lesson, batch.targets)
}

#[test]
fn each_method_of_a_sum_reads_its_own_pairs() {
    // Class-token and manifold terms of one sum are those that each has alone, whichever of them names its pairs.
    let named = || vec![[1, 3]];
    for (class_pairs, manifold_pairs) in
        [(vec![], vec![]), (named(), vec![]), (vec![], named()), (named(), vec![[0, 0], [1, 2]])]
    {
        let class_token = Some(ClassToken { pairs: class_pairs, ..ClassToken::default() });
        let manifold = Some(Manifold { pairs: manifold_pairs, ..Manifold::default() });
        let terms = |class_token: Option<ClassToken>, manifold: Option<Manifold>| -> Vec<f32> {
            let sum = Objective::Sum(Sum { class_token, manifold, ..Sum::default() });
            let terms = loss_of(&sum, &tiny(), &tall()).terms;
            terms.into_iter().skip(1).map(|term| values(term.value)[0]).collect()
        };
        let together = terms(class_token.clone(), manifold.clone());
        assert_eq!(together, [terms(class_token, None), terms(None, manifold)].concat());
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_does() {
    let named = |name: &str| Objective::named(name).expect(name);
    let no_token = VitConfig { distillation_token: false, ..tiny() };
    let pooled = VitConfig { pool: Pool::Mean, class_token: false, distillation_token: false, ..tiny() };
    let coarse = VitConfig { patch_size: 14, ..tiny() };
    let few = VitConfig { classes: 3, ..tiny() };
    let deep = VitConfig { depth: 5, ..tiny() };
    let beyond = Objective::Sum(Sum {
        saf: Some(AttentionForcing { pairs: vec![[0, 9]], ..AttentionForcing::default() }),
        ..Sum::default()
    });
    for (objective, student, parts) in [
        (named("SAF"), &coarse, ["tokens", "take KD"]),
        (named("SAF"), &no_token, ["tokens", "prefix tokens"]),
        (named("SAF"), &deep, ["no even stride", "saf.pairs"]),
        (beyond, &tiny(), ["block 9", "0 to 3"]),
        (named("distill"), &no_token, ["no distillation token", "soft or hard"]),
        (named("both"), &no_token, ["no distillation token", "soft or hard"]),
        (named("class"), &pooled, ["class token", "none"]),
        (named("KD"), &few, ["classes", "equal"]),
        (named("CLS"), &pooled, ["class token", "manifold"]),
        (named("CLS"), &coarse, ["patches", "patch_size"]),
        (named("MANIFOLD"), &coarse, ["patches", "take KD"]),
    ] {
        let reason = objective.check(&student.shape(), &tall().shape()).expect_err(parts[0]).to_string();
        for part in parts {
            assert!(reason.contains(part), "{part:?} is not in {reason:?}");
        }
    }
    // Other prefix tokens do not matter where patches alone can be compared.
    named("MANIFOLD").check(&pooled.shape(), &tall().shape()).expect("patches are compared");
}

// ---- Training

#[test]
fn a_student_learns_by_every_objective() {
    let device = Device::flex();
    let teacher: Network = tall().init(1, &device).expect("a valid model").into();
    let direct = Sum {
        class_token: Some(ClassToken { matching: Matching::Projector, detach_weights: true, ..ClassToken::default() }),
        ..Sum::default()
    };
    let same_width = VitConfig { width: 24, ..tiny() };
    let narrow = VitConfig { distillation_token: false, ..tiny() };
    let named = |name: &'static str, config: VitConfig| (name, Objective::named(name).expect(name), config);
    let mut cases: Vec<(&str, Objective, VitConfig)> =
        ["KD", "KD-numel", "SAF", "CLS", "MANIFOLD", "SAF+KD", "CLS-KD", "DistillViT"]
            .into_iter()
            .chain(Mode::ALL.map(|(name, _)| name))
            .map(|name| named(name, tiny()))
            .collect();
    cases.push(("class token as it is", Objective::Sum(direct), same_width));
    cases.push(named("MANIFOLD", narrow.clone()));
    cases.push(named("CLS", narrow));
    for (name, objective, config) in cases {
        objective.check(&config.shape(), &teacher.shape()).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let tracked = device.clone().autodiff();
        let student = config.init(2, &tracked).expect("a valid model");
        let mut student = Learner::new(student.into(), Some(&teacher), &objective, 3, &tracked);
        let projector = student.projector.clone();
        assert_eq!(projector.is_some(), name == "CLS-KD", "{name}");
        let mut optimiser = AdamW::new(AdamWConfig { clip_norm: Some(1.0), ..AdamWConfig::default() });
        let mut losses = Vec::new();
        for _ in 0..20 {
            // One batch throughout: what falls is then the loss and not the luck of the draw.
            let report;
            (student, report) = training_step(
                student,
                Some(&teacher),
                &mut optimiser,
                &objective,
                batch(0, 8, &device),
                &Training::default(),
                2e-3,
            );
            losses.push(values(report.values)[0]);
        }
        // A gradient that is not finite would be in the parameters, and so in the loss, one step later.
        assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
        assert!(losses[19] < losses[0], "{name}: {losses:?}");
        // A projector is trained with its student.
        if let (Some(before), Some(after)) = (projector, student.projector) {
            let read = |projector| read_sync(weights::read(projector)).expect("readable");
            for (before, after) in read(&before).iter().zip(&read(&after)) {
                assert_ne!(before.values, after.values, "{}", before.name);
            }
        }
    }
}

#[test]
fn every_objective_is_the_same_on_each_device() {
    // Two steps: the second one's terms show the first one's gradients.
    let terms = |objective: &Objective, device: &Device| -> Vec<f32> {
        let teacher: Network = tall().init(1, device).expect("a valid model").into();
        let mut student =
            Learner::from(Network::from(tiny().init(2, &device.clone().autodiff()).expect("a valid model")));
        let mut optimiser = AdamW::new(AdamWConfig { clip_norm: Some(1.0), epsilon: 1e-4, ..AdamWConfig::default() });
        let mut terms = Vec::new();
        for _ in 0..2 {
            let report;
            let batch = batch(0, 8, device);
            (student, report) =
                training_step(student, Some(&teacher), &mut optimiser, objective, batch, &Training::default(), 2e-3);
            terms.extend(values(report.values));
        }
        terms
    };
    // A software adapter takes a minute for each: every term of a sum at once, and the teacher's label.
    for name in ["KD+SAF+CLS+MANIFOLD", "hard"] {
        let objective = Objective::named(name).expect(name);
        let mut found = devices().into_iter().map(|(device_name, device)| (device_name, terms(&objective, &device)));
        let (_, expected) = found.next().expect("the CPU is always there");
        for (device_name, found) in found {
            for (place, (a, b)) in expected.iter().zip(&found).enumerate() {
                let error = (a - b).abs() / a.abs();
                assert!(error < 1e-3, "{name} on {device_name}, value {place}: {a} and {b} differ by {error:e}");
            }
        }
    }
}

#[test]
fn an_objectives_numbers_are_checked() {
    let text = |objective: Objective| objective.validate().expect_err("nonsense").to_string();
    let deit = |deit: Deit| text(Objective::Deit(deit));
    assert!(deit(Deit { alpha: 1.5, ..Deit::default() }).contains("alpha"));
    assert!(deit(Deit { temperature: 0.0, ..Deit::default() }).contains("temperature"));
    assert!(deit(Deit { teacher_smoothing: f64::NAN, ..Deit::default() }).contains("teacher_smoothing"));
    let saf = AttentionForcing { weight: -1.0, ..AttentionForcing::default() };
    assert!(text(Objective::Sum(Sum { saf: Some(saf), ..Sum::default() })).contains("saf.weight"));
    let manifold = Manifold { rows: 0, ..Manifold::default() };
    assert!(text(Objective::Sum(Sum { manifold: Some(manifold), ..Sum::default() })).contains("manifold.rows"));
}
