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
