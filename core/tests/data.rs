//! What the parts of the data room promise together: a run sees the same samples however it is cut up.

use potstill_core::data::{
    Dataset, Digits, Distortion, Draw, Normalisation, Split, Subset, Transform, Visit, assemble_visits, epoch_order,
};

/// The samples of an epoch, in its order, read in batches of the given size.
fn epoch(set: &dyn Dataset, epoch: u64, batch: usize) -> (Vec<f32>, Vec<u32>) {
    let mut transform = Transform::plain(set.shape().unwrap(), Normalisation::mnist());
    transform.augment.distortion = Some(Distortion::handwriting());
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let order: Vec<_> = epoch_order(set.len(), 5, epoch).into_iter().map(|index| Visit { index, repeat: 0 }).collect();
    for visits in order.chunks(batch) {
        let batch = assemble_visits(set, visits, &transform, Some(Draw { seed: 5, epoch })).unwrap();
        images.extend(batch.images);
        labels.extend(batch.labels);
    }
    (images, labels)
}

fn digits() -> Subset<Digits> {
    Subset::balanced(Digits::new(Split::Train, 500), 60, 3).unwrap()
}

#[test]
fn batches_of_any_size_hold_the_same_samples() {
    let set = digits();
    assert_eq!(epoch(&set, 2, 60), epoch(&set, 2, 7));
    assert_ne!(epoch(&set, 2, 60), epoch(&set, 3, 60));
}

#[test]
fn workers_draw_what_one_thread_draws() {
    let set = digits();
    let alone = epoch(&set, 1, 10);
    let together: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| epoch(&set, 1, 10))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert!(together.iter().all(|epoch| *epoch == alone));
}

#[test]
fn numbers_fit_a_model() {
    let set = digits();
    let (images, labels) = epoch(&set, 0, 20);
    assert_eq!((images.len(), labels.len()), (60 * 28 * 28, 60));
    assert!(images.iter().all(|value| value.is_finite()));
    let mean = images.iter().sum::<f32>() / images.len() as f32;
    assert!(mean.abs() < 0.2, "normalised mean {mean}");
    for class in 0..10 {
        assert_eq!(labels.iter().filter(|&&label| label == class).count(), 6);
    }
}

/// FNV-1a, 64 bits, over the bits of an epoch's floats: x86-64 and WebAssembly give the same. Any change to drawing,
/// order, augmentation or normalisation changes it, and with it every published run: change it on purpose only.
#[test]
fn floats_are_the_same_everywhere() {
    let (images, _) = epoch(&digits(), 1, 16);
    let bytes = images.iter().flat_map(|value| value.to_bits().to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(format!("{hash:016x}"), "ca6ab5f493a09218");
}

/// What `fixtures/pillow.py` makes with Pillow, case by case in its order.
mod pillow {
    use potstill_core::data::ops::{Op, Sampling};
    use potstill_core::data::preprocess::{resize, with_channels};
    use potstill_core::data::{ImageShape, Interpolation, Picture, Preprocess, Resize};

    const EXPECTED: &[u8] = include_bytes!("fixtures/pillow.bin");

    fn picture(width: usize, height: usize) -> Picture<'static> {
        let shape = ImageShape { channels: 3, height, width };
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let noise = (x * 7919 + y * 104_729) % 61;
                let edge = if x + 2 * y > 40 { 200 } else { 20 };
                pixels.extend([(x * 8) % 256, edge, (edge / 2 + noise + y * 3) % 256].map(|value| value as u8));
            }
        }
        Picture { shape, pixels: pixels.into() }
    }

    fn cases() -> Vec<(String, Picture<'static>)> {
        let image = || picture(29, 23);
        let mut cases = Vec::new();
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            for (picture, crop_fraction, side) in
                [(image(), 14.0 / 16.0, 14), (image(), 43.0 / 48.0, 43), (picture(23, 61), 14.0 / 16.0, 14)]
            {
                let preprocess = Preprocess { resize: Resize::Shortest, crop_fraction, interpolation };
                cases.push((format!("{preprocess:?}"), preprocess.apply(picture, side, side)));
            }
            for (height, width) in [(20, 20), (50, 64)] {
                let squash = Preprocess { resize: Resize::Squash, crop_fraction: 1.0, interpolation };
                cases.push((format!("squash to {height} x {width}"), squash.apply(image(), height, width)));
            }
            let grey = with_channels(image(), 1).unwrap();
            cases.push((format!("grey, {interpolation:?}"), resize(grey, 17, 13, interpolation)));
        }
        let mean = [124, 116, 104];
        for (sampling, fill) in [(Sampling::Bicubic, mean), (Sampling::Bilinear, mean), (Sampling::Nearest, [0; 3])] {
            let ops = [
                Op::Rotate(27.0),
                Op::Rotate(-13.5),
                Op::ShearX(0.27),
                Op::ShearY(0.27),
                Op::ShearX(-0.2),
                Op::ShearY(-0.2),
                Op::TranslateX(5.85),
                Op::TranslateY(5.85),
                Op::TranslateX(-3.0),
                Op::TranslateY(-3.0),
            ];
            cases.extend(ops.map(|op| (format!("{op:?}, {sampling:?}"), op.apply(image(), sampling, fill))));
        }
        let ops = [
            Op::AutoContrast,
            Op::Equalize,
            Op::Invert,
            Op::Posterize(1),
            Op::Posterize(4),
            Op::Solarize(26),
            Op::Solarize(179),
            Op::SolarizeAdd(99),
            Op::Color(0.19),
            Op::Color(1.81),
            Op::Contrast(0.19),
            Op::Contrast(1.81),
            Op::Brightness(0.19),
            Op::Brightness(1.81),
            Op::Sharpness(0.19),
            Op::Sharpness(1.81),
        ];
        cases.extend(ops.map(|op| (format!("{op:?}"), op.apply(image(), Sampling::Bicubic, mean))));
        cases.push(("grey".to_owned(), with_channels(image(), 1).unwrap()));
        cases
    }

    #[test]
    fn every_resizing_and_operation_agrees_within_one() {
        let mut rest = EXPECTED;
        for (name, found) in cases() {
            let (expected, tail) = rest.split_at(found.pixels.len());
            rest = tail;
            let worst = found.pixels.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
            let differ = found.pixels.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert!(worst <= Some(1), "{name}: off by {worst:?}, {differ} of {} values differ", expected.len());
        }
        assert!(rest.is_empty(), "{} bytes of cases that are not here", rest.len());
    }
}
