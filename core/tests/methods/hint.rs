//! HINT: hints from a teacher's tokens.

use burn::module::Module;
use burn::tensor::Tensor;
use potstill_core::method::hint::normalised;
use potstill_core::method::{Hint, Lesson, Preset, Teachers};
use potstill_core::model::Network;
use potstill_core::train::Learner;

use crate::plain::{close_on_each_device, golden_tokens, mean, plain, same_gradient, tall, tensor, tiny, wave};

fn normal(tokens: &[f64]) -> Vec<f64> {
    let normal = |token: &[f64]| -> Vec<f64> {
        let middle = mean(token.iter().copied());
        let variance = mean(token.iter().map(|x| (x - middle).powi(2)));
        token.iter().map(|x| (x - middle) / (variance + 1e-6).sqrt()).collect()
    };
    tokens.chunks(5).flat_map(normal).collect()
}

#[test]
fn it_is_the_published_numbers() {
    let teacher = wave(50, 0.61, 0.2, 1.0);
    let projected = wave(50, 0.83, 0.3, 0.5);
    for (normalise, expected) in [(false, 0.679_294_941_6), (true, 1.212_149_095_7)] {
        close_on_each_device(&format!("normalise {normalise}"), expected, |device| {
            let teacher: Tensor<3> = tensor(&teacher, [2, 5, 5], device);
            let teacher = if normalise { normalised(teacher) } else { teacher };
            (tensor::<3>(&projected, [2, 5, 5], device) - teacher).powi_scalar(2).mean()
        });
    }
}

#[test]
fn it_has_the_gradient_of_its_equation() {
    let (_, teacher) = golden_tokens(1);
    let projected = wave(50, 0.83, 0.3, 0.5);
    same_gradient(
        "HINT",
        &projected,
        [2, 5, 5],
        |x| (x - normalised(plain(&teacher, [2, 5, 5]))).powi_scalar(2).mean(),
        |x| mean(x.iter().zip(&normal(&teacher)).map(|(s, t)| (s - t).powi(2))),
    );
}

#[test]
fn a_layer_for_each_pair_is_trained_beside_the_student() {
    let device = burn::tensor::Device::flex().autodiff();
    let preset = Preset::Terms { terms: vec![Hint { pairs: vec![[0, 1], [1, 3]], ..Hint::default() }.into()] };
    let teacher: Network = tall().init(1, &device.clone().inner()).expect("valid").into();
    let student: Network = tiny().init(2, &device).expect("valid").into();
    let lesson = Lesson::new(&preset.objective(), &student.shape(), Some(Teachers::from(teacher))).expect("fits");
    let learner = Learner::new(student, &lesson, 3, &device);
    assert_eq!(learner.aids.num_params(), 2 * (16 * 24 + 24));
    let tensors = burn::backend::read_sync(potstill_core::weights::read(&learner)).expect("readable");
    let names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).filter(|name| name.starts_with("hint")).collect();
    assert_eq!(names, ["hint.0.fc1.weight", "hint.0.fc1.bias", "hint.1.fc1.weight", "hint.1.fc1.bias"]);
}
