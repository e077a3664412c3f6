//! Each objective as a student learns by it.

use burn::backend::read_sync;
use burn::tensor::Device;
use potstill_core::method::{ClassToken, Lesson, Matching, Mode, Preset, Sum, Teachers, methods};
use potstill_core::model::{Network, Training, VitConfig};
use potstill_core::train::{AdamW, AdamWConfig, Learner, training_step};
use potstill_core::weights;

use crate::common::devices;
use crate::digits::{batch, values};
use crate::plain::{tall, tiny};

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
    let named = |name: &'static str, config: VitConfig| (name, Preset::named(name).expect(name), config);
    let mut cases: Vec<(&str, Preset, VitConfig)> = ["KD-numel", "SAF+KD", "CLS-KD", "DistillViT"]
        .into_iter()
        .chain(methods().iter().map(|method| method.name))
        .chain(Mode::ALL.map(|(name, _)| name))
        .map(|name| named(name, tiny()))
        .collect();
    cases.push(("class token as it is", Preset::Sum(direct), same_width));
    cases.push(named("MANIFOLD", narrow.clone()));
    cases.push(named("CLS", narrow));
    for (name, preset, config) in cases {
        let teachers = Teachers::from(teacher.clone());
        let lesson = Lesson::new(&preset.objective(), &config.shape(), Some(teachers))
            .unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let tracked = device.clone().autodiff();
        let student = config.init(2, &tracked).expect("a valid model");
        let mut student = Learner::new(Network::from(student), &lesson, 3, &tracked);
        let aids = student.aids.clone();
        assert_eq!(!aids.is_empty(), ["CLS-KD", "HINT"].contains(&name), "{name}");
        let mut optimiser = AdamW::new(AdamWConfig { clip_norm: Some(1.0), ..AdamWConfig::default() });
        let mut losses = Vec::new();
        for _ in 0..20 {
            // One batch throughout: what falls is then the loss and not the luck of the draw.
            let report;
            (student, report) =
                training_step(student, &lesson, &mut optimiser, batch(0, 8, &device), &Training::default(), 2e-3);
            losses.push(values(report.values)[0]);
        }
        // A gradient that is not finite would be in the parameters, and so in the loss, one step later.
        assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
        assert!(losses[19] < losses[0], "{name}: {losses:?}");
        // A projector is trained with its student.
        let read = |aids| read_sync(weights::read(aids)).expect("readable");
        for (before, after) in read(&aids).iter().zip(&read(&student.aids)) {
            assert_ne!(before.values, after.values, "{}", before.name);
        }
    }
}

#[test]
fn every_objective_is_the_same_on_each_device() {
    // Two steps: the second one's terms show the first one's gradients.
    let terms = |preset: &Preset, device: &Device| -> Vec<f32> {
        let teacher: Network = tall().init(1, device).expect("a valid model").into();
        let lesson =
            Lesson::new(&preset.objective(), &tiny().shape(), Some(teacher.into())).expect("networks that fit");
        let mut student =
            Learner::from(Network::from(tiny().init(2, &device.clone().autodiff()).expect("a valid model")));
        let mut optimiser = AdamW::new(AdamWConfig { clip_norm: Some(1.0), epsilon: 1e-4, ..AdamWConfig::default() });
        let mut terms = Vec::new();
        for _ in 0..2 {
            let report;
            let batch = batch(0, 8, device);
            (student, report) = training_step(student, &lesson, &mut optimiser, batch, &Training::default(), 2e-3);
            terms.extend(values(report.values));
        }
        terms
    };
    // A software adapter takes a minute for each: every term of a sum at once, and the teacher's label.
    for name in ["KD+SAF+CLS+MANIFOLD", "hard"] {
        let preset = Preset::named(name).expect(name);
        let mut found = devices().map(|(device_name, device)| (device_name, terms(&preset, &device)));
        let (_, expected) = found.next().expect("the CPU is always there");
        for (device_name, found) in found {
            for (place, (a, b)) in expected.iter().zip(&found).enumerate() {
                let error = (a - b).abs() / a.abs();
                assert!(error < 1e-3, "{name} on {device_name}, value {place}: {a} and {b} differ by {error:e}");
            }
        }
    }
}
