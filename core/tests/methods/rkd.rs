//! RKD: relational distillation.

use burn::tensor::Tensor;
use potstill_core::method::rkd::{angle_loss, distance_loss};

use crate::plain::{close_on_each_device, dot, mean, plain, same_gradient, tensor, wave};

type Loss = fn(Tensor<2>, Tensor<2>) -> Tensor<1>;
/// The same by loops, of rows of so many numbers.
type Model = fn(&[f64], usize) -> Vec<f64>;

#[test]
fn it_is_the_published_numbers() {
    let (student, teacher) = (wave(12, 0.37, 0.1, 1.0), wave(20, 0.61, 0.2, 1.0));
    let cases: [(&str, Loss, f64); 2] =
        [("distances", distance_loss, 0.235_498_862_3), ("angles", angle_loss, 0.138_921_537_5)];
    for (name, loss, expected) in cases {
        close_on_each_device(name, expected, |device| {
            loss(tensor(&student, [4, 3], device), tensor(&teacher, [4, 5], device))
        });
    }
}

fn huber(x: f64) -> f64 {
    if x.abs() < 1.0 { 0.5 * x * x } else { x.abs() - 0.5 }
}

fn step(from: &[f64], to: &[f64]) -> Vec<f64> {
    to.iter().zip(from).map(|(b, a)| b - a).collect()
}

fn distances(x: &[f64], width: usize) -> Vec<f64> {
    let rows: Vec<&[f64]> = x.chunks(width).collect();
    let length = |a: &[f64], b: &[f64]| dot(&step(a, b), &step(a, b)).sqrt();
    let all: Vec<f64> = rows.iter().flat_map(|a| rows.iter().map(|b| length(a, b)).collect::<Vec<_>>()).collect();
    let middle = mean(all.iter().copied().filter(|length| *length > 0.0));
    all.into_iter().map(|length| length / middle).collect()
}

fn angles(x: &[f64], width: usize) -> Vec<f64> {
    let rows: Vec<&[f64]> = x.chunks(width).collect();
    let unit = |a: &[f64], b: &[f64]| -> Vec<f64> {
        let step = step(a, b);
        let length = dot(&step, &step).sqrt().max(1e-12);
        step.into_iter().map(|x| x / length).collect()
    };
    let mut all = Vec::new();
    for i in &rows {
        let units: Vec<Vec<f64>> = rows.iter().map(|j| unit(i, j)).collect();
        all.extend(units.iter().flat_map(|a| units.iter().map(|b| dot(a, b)).collect::<Vec<_>>()));
    }
    all
}

#[test]
fn it_has_the_gradients_of_its_equations() {
    let (student, teacher) = (wave(12, 0.37, 0.1, 1.0), wave(20, 0.61, 0.2, 1.0));
    let cases: [(&str, Loss, Model); 2] = [("distances", distance_loss, distances), ("angles", angle_loss, angles)];
    for (name, loss, model) in cases {
        same_gradient(
            name,
            &student,
            [4, 3],
            |x| loss(x, plain(&teacher, [4, 5])),
            |x| mean(model(x, 3).iter().zip(&model(&teacher, 5)).map(|(s, t)| huber(s - t))),
        );
    }
}

#[test]
fn triples_in_blocks_are_the_triples_together() {
    // Of 160 samples of 200 channels, 25 anchors fit a block; a mean of means over halves has other triples.
    let (student, teacher) = (wave(160 * 200, 0.37, 0.1, 1.0), wave(160 * 3, 0.61, 0.2, 1.0));
    let device = burn::tensor::Device::flex();
    let whole = angle_loss(tensor(&student, [160, 200], &device), tensor(&teacher, [160, 3], &device));
    let model = mean(angles(&student, 200).iter().zip(&angles(&teacher, 3)).map(|(s, t)| huber(s - t)));
    crate::plain::close_within("160 samples", whole, model, 1e-5);
}
