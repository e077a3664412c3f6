//! Drawn digits in MNIST's files, and networks that learn them in a second.

use image::GrayImage;
use potstill_core::data::{Dataset, Digits, Split};

use super::Place;

pub const TRAIN_SAMPLES: usize = 60;
pub const TEST_SAMPLES: usize = 30;

/// Networks small enough for a run of a second.
pub const TINY: &[&str] = &[
    "--set",
    "teacher.vit={depth=1,width=16,heads=2}",
    "--set",
    "student.vit={depth=1,width=8,heads=1}",
    "--batch-size",
    "16",
];

impl Place {
    /// With MNIST's files, of drawn digits, in the folder `data`.
    pub fn with_mnist() -> Self {
        let place = Self::new();
        place.mnist("data", TRAIN_SAMPLES);
        place
    }

    /// Writes the four files of MNIST into a folder, with as many training samples.
    pub fn mnist(&self, folder: &str, train: usize) {
        for (split, stem, samples) in [(Split::Train, "train", train), (Split::Test, "t10k", TEST_SAMPLES)] {
            let set = Digits::new(split, samples);
            let mut pixels = vec![0; samples * 784];
            pixels.chunks_mut(784).enumerate().for_each(|(index, image)| set.draw(index, image));
            let labels: Vec<u8> = (0..samples).map(|index| set.label(index) as u8).collect();
            self.write(&format!("{folder}/{stem}-images-idx3-ubyte"), &idx(&[samples as u32, 28, 28], &pixels));
            self.write(&format!("{folder}/{stem}-labels-idx1-ubyte"), &idx(&[samples as u32], &labels));
        }
    }

    pub fn train(&self, line: &str) -> String {
        self.good(
            &format!(
                "--device cpu train --dataset MNIST --data-dir @/data --logdir @/runs --epochs 2 \
                 --allow-untrained-teacher {line}"
            ),
            TINY,
        )
    }
}

pub fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// A held-out digit of the place's data set.
pub fn digit(index: usize) -> GrayImage {
    let mut pixels = vec![0; 784];
    Digits::new(Split::Test, TEST_SAMPLES).draw(index, &mut pixels);
    GrayImage::from_raw(28, 28, pixels).expect("28 x 28")
}
