//! SP: similarity-preserving distillation.

use potstill_core::method::sp::similarity_loss;

use crate::plain::{close_on_each_device, dot, plain, same_gradient, tensor, unit_rows, wave};

#[test]
fn it_is_the_published_number() {
    let (student, teacher) = (wave(12, 0.37, 0.1, 1.0), wave(20, 0.61, 0.2, 1.0));
    close_on_each_device("SP", 0.451_677_342_7, |device| {
        similarity_loss(tensor(&student, [4, 3], device), tensor(&teacher, [4, 5], device))
    });
}

#[test]
fn it_has_the_gradient_of_its_equation() {
    let (student, teacher) = (wave(12, 0.37, 0.1, 1.0), wave(20, 0.61, 0.2, 1.0));
    let similar = |x: &[f64], width: usize| {
        let rows: Vec<&[f64]> = x.chunks(width).collect();
        let gram: Vec<f64> = rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b)).collect::<Vec<_>>()).collect();
        unit_rows(&gram, rows.len()).concat()
    };
    same_gradient(
        "SP",
        &student,
        [4, 3],
        |x| similarity_loss(x, plain(&teacher, [4, 5])),
        |x| similar(x, 3).iter().zip(&similar(&teacher, 5)).map(|(s, t)| (t - s).powi(2)).sum::<f64>() / 16.0,
    );
}
