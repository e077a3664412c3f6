//! The course of a training: several on the same batches, read back at any time, saved and gone on with.
#![recursion_limit = "256"]

#[path = "common/course.rs"]
mod course;
#[path = "common/tiny.rs"]
mod tiny;

use burn::backend::read_sync;
use burn::tensor::Device;
use course::{course, drive, recipe};
use potstill_core::method::{Preset, Retrospection};
use potstill_core::model::NetworkConfig;
use potstill_core::train::{AdamWConfig, Course, StateError, Taken, Trainable, TrainingRecipe};
use potstill_core::weights;
use tiny::tiny;

const LABELS: Preset = Preset::Labels { smoothing: 0.1 };
// Four batches an epoch.
const BATCH: usize = 128;

/// A recipe that has all that a course can have: a mean of the parameters, a table of past logits, batches in parts.
fn full() -> TrainingRecipe {
    let optimiser = AdamWConfig { ema: Some(0.9), clip_norm: Some(1.0), ..AdamWConfig::default() };
    let retrospection = Some(Retrospection { k: 1, max_epochs: 3, ..Retrospection::default() });
    TrainingRecipe { retrospection, accumulate: 2, ..recipe(BATCH, 1e-3, optimiser) }
}

fn start(seed: u64, recipe: TrainingRecipe) -> Course {
    course(&tiny().into(), seed, (&LABELS, None), recipe, 12, &Device::flex())
}

fn state(course: &Course) -> potstill_core::train::State {
    read_sync(course.state()).expect("readable")
}

fn numbers(taken: &[Taken]) -> Vec<u32> {
    taken
        .iter()
        .flat_map(|taken| [taken.loss].into_iter().chain(taken.terms.iter().map(|(_, value)| *value)))
        .map(f32::to_bits)
        .collect()
}

#[test]
fn when_it_is_read_changes_nothing() {
    let device = Device::flex();
    let run = |read_every| {
        let mut course = start(2, full());
        let taken = drive(&mut [&mut course], 12, read_every, &device).remove(0);
        (numbers(&taken), taken, state(&course))
    };
    let (expected, taken, left) = run(1);
    assert_eq!(taken.iter().map(|taken| taken.step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    // The past of the first epoch teaches from the second on.
    let terms: Vec<usize> = taken.iter().map(|taken| taken.terms.len()).collect();
    assert_eq!((&terms[..4], &terms[4..]), (&[1; 4][..], &[2; 8][..]));
    for read_every in [3, 100] {
        let (found, _, state) = run(read_every);
        assert!(found == expected && state == left, "read every {read_every} steps");
    }
}

#[test]
fn several_courses_on_one_batch_are_each_as_alone() {
    let device = Device::flex();
    let teacher = NetworkConfig::from(tiny()).init(1, &device).expect("valid");
    let taught = Preset::named("KD").expect("a known method");
    let plain = || recipe(BATCH, 1e-3, AdamWConfig::default());
    let student = || course(&tiny().into(), 2, (&taught, Some(&teacher)), plain(), 12, &device);
    let (mut together, mut baseline) = (student(), start(2, full()));
    together.keep_teacher_logits();
    let mut taken = drive(&mut [&mut together, &mut baseline], 9, 4, &device);
    let logits = taken[0].iter_mut().map(|taken| taken.teacher_logits.take().expect("kept").len());
    assert!(logits.eq([10 * BATCH; 9]));
    for (found, mut alone) in taken.iter().zip([student(), start(2, full())]) {
        let expected = drive(&mut [&mut alone], 9, 2, &device).remove(0);
        assert_eq!(found, &expected);
    }
}

#[test]
fn a_restored_course_takes_the_steps_that_it_would_have_taken() {
    let device = Device::flex();
    let probe = || TrainingRecipe { trainable: Trainable::Head, ..recipe(BATCH, 1e-3, AdamWConfig::default()) };
    // In the middle of an epoch, at its end, and before the first step.
    for (steps, recipe) in [(6, full()), (4, full()), (0, full()), (6, probe())] {
        let mut whole = start(2, recipe.clone());
        drive(&mut [&mut whole], steps, 10, &device);
        // From other values, which the saved ones replace.
        let mut restored = start(9, recipe);
        restored.restore(state(&whole)).expect("of the same course");
        let [left, right] = [&mut whole, &mut restored].map(|course| {
            let taken = drive(&mut [&mut *course], 5, 10, &device).remove(0);
            let average = course.average().map(|average| read_sync(weights::read(&average)).expect("readable"));
            (numbers(&taken), state(course), average)
        });
        assert!(left == right, "from step {steps}");
    }
}

/// A small network that normalises by batch, on 28 x 28 grey digits.
fn normalised() -> NetworkConfig {
    use potstill_core::model::ResNetConfig;
    let depths = [1; 4];
    ResNetConfig { image_size: 28, channels: 1, classes: 10, width: 4, depths, ..ResNetConfig::default() }.into()
}

#[test]
fn the_mean_of_a_network_is_normalised_by_the_mean_of_its_statistics() {
    let device = Device::flex();
    let optimiser = AdamWConfig { ema: Some(0.75), ..AdamWConfig::default() };
    for parts in [1, 2] {
        let recipe = TrainingRecipe { accumulate: parts, ..recipe(BATCH, 1e-3, optimiser.clone()) };
        let start = || course(&normalised(), 2, (&LABELS, None), recipe.clone(), 12, &device);
        let statistics = |network: &potstill_core::model::Network| -> Vec<f64> {
            let tensors = read_sync(weights::read(network)).expect("readable").into_iter();
            let running =
                tensors.filter(|tensor| tensor.name.contains(".running_") || tensor.name.starts_with("bn1.running"));
            running.flat_map(|tensor| tensor.values).map(f64::from).collect()
        };
        let mut whole = start();
        let mut expected = statistics(&whole.network());
        for step in 1..=6 {
            drive(&mut [&mut whole], 1, 10, &device);
            let now = statistics(&whole.network());
            expected.iter_mut().zip(now).for_each(|(mean, now)| *mean = 0.75 * *mean + 0.25 * now);
            let found = statistics(&whole.average().expect("a mean is kept"));
            assert_eq!(found.len(), expected.len());
            let error = found.iter().zip(&expected).fold(0.0, |worst, (a, b)| f64::max(worst, (a - b).abs()));
            assert!(error < 1e-6, "step {step} in {parts} parts: {error:e}");
        }
        // A checkpoint has them; one of before they were kept is taken too.
        let saved = state(&whole);
        let mut restored = start();
        restored.restore(saved.clone()).expect("of the same course");
        assert!(state(&restored) == saved);
        let mut older = saved;
        older.moments.retain(|tensor| !tensor.name.contains(".running_"));
        start().restore(older).expect("of the same course");
    }
}

#[test]
fn a_state_of_another_course_is_refused() {
    let device = Device::flex();
    let mut whole = start(2, full());
    drive(&mut [&mut whole], 5, 10, &device);
    let good = state(&whole);
    let mut other = start(3, full());
    let before = state(&other);
    let mut refused = |change: fn(&mut potstill_core::train::State)| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = other.restore(bad).expect_err("another's");
        assert!(state(&other) == before, "the course is as it was");
        error
    };
    assert!(matches!(refused(|state| drop(state.learner.pop())), StateError::Parameters(_)));
    assert_eq!(refused(|state| drop(state.moments.pop())), StateError::Optimiser);
    assert_eq!(refused(|state| state.moments[0].values.truncate(3)), StateError::Optimiser);
    assert_eq!(refused(|state| state.moments[0].name = "third.x".into()), StateError::Optimiser);
    assert_eq!(refused(|state| state.past[1].values.truncate(10)), StateError::Past);
    assert_eq!(refused(|state| state.past.clear()), StateError::Past);
    other.restore(good).expect("of the same course");
}
