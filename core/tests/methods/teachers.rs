//! Several teachers that speak with one voice.

use burn::tensor::{Device, Tensor};
use potstill_core::method::teacher::{Mean, mean_logits};
use potstill_core::method::{Lesson, Preset, Renormalise, Teacher, Teachers};
use potstill_core::model::{Network, Taps, VitConfig};

use crate::digits::{batch, values};
use crate::plain::{plain, softmax, tall, tiny};

fn network(seed: u64) -> Network {
    tall().init(seed, &Device::flex()).expect("valid").into()
}

#[test]
fn logits_and_probabilities_are_averaged_by_weight() {
    let (first, second) = ([1.0, 3.0, 0.0], [4.0, 0.0, 1.0]);
    let all = || vec![(1.0, plain(&first, [1, 3])), (3.0, plain(&second, [1, 3]))];
    assert_eq!(values(mean_logits(all(), Mean::Logits)), [3.25, 0.75, 0.75]);
    let (p, q) = (softmax(&first), softmax(&second));
    let found = values(mean_logits(all(), Mean::Probabilities));
    let found = softmax(&found.into_iter().map(f64::from).collect::<Vec<_>>());
    for ((found, p), q) in found.iter().zip(p).zip(q) {
        assert!((found - (p + 3.0 * q) / 4.0).abs() < 1e-6);
    }
}

#[test]
fn each_sees_the_pixels_as_it_was_trained_on_them() {
    let images: Tensor<4> = batch(0, 4, &Device::flex()).images;
    let view = Renormalise::new(&[(2.0, -0.5)], &Device::flex());
    let said =
        |network: Network, images: Tensor<4>| values(Teachers::from(network).trace(images, &Taps::default()).logits);
    let own = said(network(1), images.clone());
    let other = said(network(2), view.apply(images.clone()));
    let second = Teacher { network: network(2), view: Some(view), weight: 1.0 };
    let both = Teachers::several(network(1).into(), vec![second], Mean::Logits);
    let found = values(both.trace(images, &Taps::default()).logits);
    for ((found, a), b) in found.iter().zip(own).zip(other) {
        assert!((found - (a + b) / 2.0).abs() < 1e-6);
    }
}

#[test]
fn they_agree_on_logits_alone_and_on_the_same_classes() {
    let two = |second: Network| Teachers::several(network(1).into(), vec![second.into()], Mean::Logits);
    let lesson = |name: &str, teachers| {
        Lesson::new(&Preset::named(name).expect(name).objective(), &tiny().shape(), Some(teachers)).map(|_| ())
    };
    for name in ["KD", "DKD", "KD-standard+DIST", "hard"] {
        lesson(name, two(network(2))).expect(name);
    }
    for name in ["SAF", "KD+RKD", "HINT"] {
        let reason = lesson(name, two(network(2))).expect_err(name).to_string();
        assert!(reason.contains("logits alone") && reason.contains("take KD"), "{reason}");
    }
    let few: Network = VitConfig { classes: 3, ..tall() }.init(2, &Device::flex()).expect("valid").into();
    assert!(lesson("KD", two(few)).expect_err("other classes").to_string().contains("classes"));
}
