//! AT: attention transfer.

use potstill_core::method::at::activity;

use crate::plain::{close_on_each_device, golden_tokens, mean, plain, same_gradient, tensor, unit_rows, wave};

#[test]
fn it_is_the_published_number() {
    let (student, teacher) = (wave(30, 0.37, 0.1, 1.0), wave(50, 0.61, 0.2, 1.0));
    close_on_each_device("AT", 0.051_647_770_4, |device| {
        let difference =
            activity(tensor(&student, [2, 5, 3], device), 1) - activity(tensor(&teacher, [2, 5, 5], device), 1);
        difference.powi_scalar(2).mean()
    });
}

#[test]
fn it_has_the_gradient_of_its_equation() {
    let (student, teacher) = golden_tokens(1);
    let active = |x: &[f64], width: usize| {
        let patches: Vec<f64> = x
            .chunks(5 * width)
            .flat_map(|sample| {
                let square = |token: &[f64]| mean(token.iter().map(|x| x * x));
                sample.chunks(width).skip(1).map(square).collect::<Vec<_>>()
            })
            .collect();
        unit_rows(&patches, 4).concat()
    };
    same_gradient(
        "AT",
        &student,
        [2, 5, 3],
        |x| (activity(x, 1) - activity(plain(&teacher, [2, 5, 5]), 1)).powi_scalar(2).mean(),
        |x| mean(active(x, 3).iter().zip(&active(&teacher, 5)).map(|(s, t)| (s - t).powi(2))),
    );
}
