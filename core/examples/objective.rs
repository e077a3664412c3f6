//! An objective written by hand, as a list of weighted terms.
//!
//! The example prints each part of the loss for the logits of two samples. It takes no time.
#![recursion_limit = "256"]

use burn::tensor::{Device, Tensor};
use potstill_core::method::{Aids, Dkd, Given, Labels, Lesson, Logits, Objective};
use potstill_core::model::{NetworkShape, Trace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();

    // 0.1 CE + 0.9 τ² KL at τ = 4, and decoupled distillation beside them.
    let objective = Objective::new(vec![
        Labels { weight: 0.1, smoothing: 0.0 }.into(),
        Logits { weight: 0.9, temperature: 4.0, ..Logits::default() }.into(),
        Dkd { weight: 0.5, warmup_epochs: 0, ..Dkd::default() }.into(),
    ]);
    objective.validate()?;

    // Networks that give 3 logits and have no tokens to compare.
    let shape = NetworkShape { classes: 3, ..NetworkShape::default() };
    let lesson = Lesson::for_shapes(&objective, &shape, &shape)?;

    let logits = |values: [[f32; 3]; 2]| Trace::of_logits(Tensor::from_data(values, &device));
    let student = logits([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]);
    let teacher = logits([[3.0, 1.0, -2.0], [-1.0, 2.0, 2.5]]);
    let targets = Tensor::from_data([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], &device);

    let aids = Aids::default();
    let given = Given { teacher: Some(&teacher), targets, known: None, aids: &aids, past: None, step: 0, epoch: 1 };
    let loss = lesson.loss(&student, given);
    for part in &loss.parts {
        println!("{:<14} {:>6.2} x {:.4}", part.name, part.weight, part.value.clone().into_scalar::<f32>());
    }
    println!("{:<14} {:>15.4}", "total", loss.total.into_scalar::<f32>());
    Ok(())
}
