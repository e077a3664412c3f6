//! Class-token and patch-map distillation.

use burn::tensor::{Device, Tensor};
use potstill_core::method::{Aid, class_token};
use potstill_core::train::{AdamW, AdamWConfig};

use crate::digits::values;
use crate::plain::{close, dot, golden_tokens, mean, plain, same_gradient, tensor, unit_rows, wave};

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
fn a_projector_is_linear_gelu_linear_and_learns() {
    let device = Device::flex().autodiff();
    let projector = Aid::new("projector", &[192, 480, 768], 1, &device);
    assert_eq!(burn::module::Module::num_params(&projector), 462_048);
    let projector = Aid::new("projector", &[6, 8, 10], 1, &device);
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
