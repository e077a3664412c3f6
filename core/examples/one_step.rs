//! The parts of a distillation step: a teacher, a student, a batch, a lesson, an update.
//!
//! The example takes ten steps on one batch and prints their loss, which falls from 2.0 to 0.9. It takes a second on two cores.
#![recursion_limit = "256"]

use burn::tensor::Device;
use potstill_core::data::{Dataset, Digits, Normalisation, Split, Transform, assemble};
use potstill_core::method::{Lesson, Preset};
use potstill_core::model::{Network, zoo};
use potstill_core::train::{AdamW, AdamWConfig, DeviceBatch, Learner, StepBatch, training_step};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();

    // 32 drawn digits on the device.
    let digits = Digits::new(Split::Train, 32);
    let shape = digits.shape().ok_or("digits of several sizes")?;
    let indices: Vec<u64> = (0..32).collect();
    let batch = assemble(&digits, &indices, &Transform::plain(shape, Normalisation::mnist()))?;
    let batch = DeviceBatch::new(batch, &device);

    // A teacher (here an untrained one), and a student that collects gradients.
    let teacher: Network = zoo::named("digits_teacher").ok_or("no such model")?.init(1, &device)?;
    let config = zoo::named("digits_student").ok_or("no such model")?;
    let student = config.init(2, &device.clone().autodiff())?;

    // What is taught, checked once against the two networks.
    let objective = Preset::named("KD").ok_or("no such method")?.objective();
    let lesson = Lesson::new(&objective, &config.shape(), Some(teacher.into()))?;

    let mut learner = Learner::new(student, &lesson, 0, &device.clone().autodiff());
    let mut optimiser = AdamW::new(AdamWConfig::default()).leaving(learner.student.undecayed());
    let mut losses = Vec::new();
    for step in 0..10 {
        let inputs = StepBatch::new(batch.images.clone(), batch.targets.clone());
        let training = learner.student.draw_training(0, step, indices.len(), &device);
        let report;
        (learner, report) = training_step(learner, &lesson, &mut optimiser, inputs, &training, 1e-3);
        // Reading waits for the device; a training reads several steps in one transfer.
        let values: Vec<f32> = report.values.try_into_data()?.iter().collect();
        let terms: Vec<String> =
            report.names.iter().zip(&values[1..]).map(|(name, v)| format!("{name} {v:.3}")).collect();
        println!("step {step}: loss {:.3} ({})", values[0], terms.join(", "));
        losses.push(values[0]);
    }
    if losses[9] < losses[0] { Ok(()) } else { Err("the loss did not fall".into()) }
}
