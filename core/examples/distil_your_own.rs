//! A Burn module of your own, taught by a network of this crate.
//!
//! The student is a perceptron of two layers. It only has to implement [`Student`]: it says its sizes and returns a trace. First
//! a teacher learns the digits from labels. Then two equal perceptrons learn from 100 labelled digits: one alone, and one from
//! the teacher, with 3,900 more digits without a label. The example prints their accuracy on 1,000 other digits: 67 % alone, 87 %
//! with the teacher. It takes half a minute on two cores.
#![recursion_limit = "256"]

use burn::backend::read_sync;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Relu};
use burn::tensor::{Device, Tensor};
use potstill_core::data::{Dataset, Digits, Normalisation, Relabelled, Split, Transform, assemble_visits};
use potstill_core::method::{Lesson, Preset};
use potstill_core::model::{NetworkShape, Recorder, Taps, Trace, Training, zoo};
use potstill_core::train::metrics::argmax;
use potstill_core::train::{AdamW, AdamWConfig, Batches, DeviceBatch, Learner, StepBatch, Student, training_step};

/// Pixels, 64 hidden values, 10 logits.
#[derive(Module, Debug)]
struct Perceptron {
    hidden: Linear,
    head: Linear,
}

impl Perceptron {
    fn new(device: &Device) -> Self {
        Self { hidden: LinearConfig::new(784, 64).init(device), head: LinearConfig::new(64, 10).init(device) }
    }
}

impl Student for Perceptron {
    fn shape(&self) -> NetworkShape {
        // It has no blocks and no tokens: methods that compare those refuse it.
        NetworkShape { classes: 10, width: 64, ..NetworkShape::default() }
    }

    fn trace(&self, images: Tensor<4>, _: Option<&Training>, taps: &Taps) -> Trace {
        let features = Relu::new().forward(self.hidden.forward(images.flatten::<2>(1, 3)));
        let mut recorder = Recorder::new(taps);
        recorder.features(|| features.clone());
        recorder.trace(self.head.forward(features), None, 0)
    }
}

/// Trains a student for some epochs on `digits` and their known labels.
fn train<S: Student>(student: S, lesson: &Lesson, digits: &dyn Dataset, epochs: u64, rate: f64, device: &Device) -> S {
    let transform = transform(digits);
    let batches = Batches::new(digits.len(), 50, 1, 0);
    let mut order = batches.order();
    let mut learner = Learner::new(student, lesson, 0, &device.clone().autodiff());
    let mut optimiser = AdamW::new(AdamWConfig::default());
    for step in 0..epochs * batches.per_epoch() {
        let batch = assemble_visits(digits, order.visits(step), &transform, None).expect("digits can be read");
        let DeviceBatch { images, targets, known, .. } = DeviceBatch::new(batch, device);
        let inputs = StepBatch { known, ..StepBatch::new(images, targets) };
        (learner, _) = training_step(learner, lesson, &mut optimiser, inputs, &Training::default(), rate);
    }
    learner.student
}

fn transform(digits: &dyn Dataset) -> Transform {
    Transform::plain(digits.shape().expect("digits have one shape"), Normalisation::mnist())
}

/// The share of held-out digits that a student classifies correctly.
fn accuracy<S: Student>(student: &S, device: &Device) -> f64 {
    let digits = Digits::new(Split::Test, 1_000);
    let visits: Vec<_> = Batches::new(1_000, 1_000, 1, 0).order().visits(0).to_vec();
    let batch = assemble_visits(&digits, &visits, &transform(&digits), None).expect("digits can be read");
    let labels = batch.labels.clone();
    let trace = student.valid().trace(DeviceBatch::new(batch, device).images, None, &Taps::default());
    let logits: Vec<f32> = read_sync(trace.logits.into_data_async()).expect("a device that works").iter().collect();
    let right = logits.chunks_exact(10).map(argmax).zip(labels).filter(|(said, label)| said == label).count();
    right as f64 / 1_000.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let digits = Digits::new(Split::Train, 4_000);

    let config = zoo::named("digits_student").ok_or("no such model")?;
    let teacher = config.init(1, &device.clone().autodiff())?;
    let teacher = train(teacher, &Lesson::labels(0.0, &config.shape()), &digits, 8, 3e-3, &device).valid();
    println!("teacher  {:.1} %, from 4,000 labels", 100.0 * accuracy(&teacher, &device));

    // The label of 100 digits is known.
    let told = Relabelled::new(digits).keep(100, 0)?;
    let perceptron = || Perceptron::new(&device.clone().autodiff());
    let shape = perceptron().shape();
    device.seed(7);
    let alone = train(perceptron(), &Lesson::labels(0.0, &shape), &told, 10, 1e-3, &device);
    let alone = accuracy(&alone, &device);
    println!("alone    {:.1} %, from 100 labels", 100.0 * alone);

    let objective = Preset::named("KD").ok_or("no such method")?.objective();
    let lesson = Lesson::new(&objective, &shape, Some(teacher.into()))?;
    device.seed(7);
    let taught = train(perceptron(), &lesson, &told, 10, 1e-3, &device);
    let taught = accuracy(&taught, &device);
    println!("taught   {:.1} %, from 100 labels and the teacher's answers", 100.0 * taught);
    if taught > alone { Ok(()) } else { Err("the teacher was of no use".into()) }
}
