//! The data of the Distil view: digits drawn on the spot, or MNIST from files that a person drops.
//!
//! Training digits are drawn when a batch needs them, so that a run starts at once; held-out samples are in memory. Dropped
//! files come in any order and perhaps compressed, and nothing in them is believed: `potstill_core::data::idx` reads them.

use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use potstill_core::data::{Dataset, Digits, ImageShape, Images, Normalisation, Split, Subset, Transform, idx};

use crate::protocol::DataChoice;

/// Digits that are held out: a check of three networks on them takes seconds without a GPU.
const HELD_OUT_DIGITS: usize = 2_000;
/// Training digits that there are unless more are asked for, as in the native program.
const USUAL_DIGITS: usize = 20_000;

/// What the networks of this view take.
pub const SHAPE: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

/// How samples become a network's inputs.
pub fn transform() -> Transform {
    Transform::plain(SHAPE, Normalisation::mnist())
}

/// A data set ready for use.
pub struct Data {
    /// Which.
    pub choice: DataChoice,
    /// Samples never trained on.
    pub held_out: Images,
    train: Train,
}

enum Train {
    Drawn,
    Files(Arc<Images>),
}

/// A dropped file: what a person calls it, and its bytes.
pub type NamedFile = (String, Vec<u8>);

impl Data {
    /// The drawn digits.
    pub fn digits() -> Self {
        let digits = Digits::new(Split::Test, HELD_OUT_DIGITS);
        let mut pixels = vec![0; digits.len() * SHAPE.bytes()];
        for (index, image) in pixels.chunks_exact_mut(SHAPE.bytes()).enumerate() {
            digits.draw(index, image);
        }
        let labels = (0..digits.len()).map(|index| digits.label(index)).collect();
        let held_out = Images::new(digits.name(), SHAPE, digits.class_names().to_vec(), pixels, labels);
        Self { choice: DataChoice::Digits, held_out: held_out.expect("drawn digits fit together"), train: Train::Drawn }
    }

    /// MNIST, or a set of its form, from the four files of a download in any order: two of images and two of labels. The
    /// larger pair is trained on, the smaller held out.
    ///
    /// # Errors
    /// A line that names the file.
    pub fn mnist(files: Vec<NamedFile>) -> Result<Self, String> {
        const NEEDED: &str = "drop the four files of MNIST together: images and labels for training and for testing";
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let bytes = decompressed(&bytes).map_err(|reason| format!("{name}: {reason}"))?;
            // The fourth byte of the format counts the sizes: three for images, one for labels.
            match bytes.get(..4) {
                Some([0, 0, _, 1]) => labels.push((name, bytes)),
                _ => images.push((name, bytes)),
            }
        }
        if (images.len(), labels.len()) != (2, 2) {
            return Err(format!("there are {} files of images and {} of labels: {NEEDED}", images.len(), labels.len()));
        }
        let count = |file: &NamedFile| file.1.get(4..8).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        for pair in [&mut images, &mut labels] {
            pair.sort_by_key(count);
            if count(&pair[0]) == count(&pair[1]) {
                let (first, second) = (&pair[0].0, &pair[1].0);
                return Err(format!("{first} and {second} hold equally many samples: {NEEDED}"));
            }
        }
        let mut sets = images.iter().zip(&labels).map(|(images, labels)| {
            let set = idx::mnist(&images.1, &labels.1).map_err(|e| format!("{} and {}: {e}", images.0, labels.0))?;
            match set.shape() {
                Some(SHAPE) => Ok(set),
                _ => Err(format!("{} has images of another size than 28 x 28, which the networks here take", images.0)),
            }
        });
        let mut next = |name: &str| sets.next().expect("two pairs").map(|set| set.named(name));
        let held_out = next("mnist-test")?;
        let train = Train::Files(Arc::new(next("mnist-train")?));
        Ok(Self { choice: DataChoice::Mnist, held_out, train })
    }

    /// Training samples that can be asked for.
    pub fn train_len(&self) -> usize {
        match &self.train {
            Train::Drawn => USUAL_DIGITS,
            Train::Files(images) => images.len(),
        }
    }

    /// `samples` training samples, as balanced between the classes as can be, chosen by `seed`.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn train(&self, samples: usize, seed: u64) -> Result<Arc<dyn Dataset>, String> {
        let all: Arc<dyn Dataset> = match &self.train {
            Train::Drawn => Arc::new(Digits::new(Split::Train, USUAL_DIGITS.max(samples))),
            Train::Files(images) => images.clone(),
        };
        if samples == all.len() {
            return Ok(all);
        }
        Ok(Arc::new(Subset::balanced(all, samples, seed).map_err(|error| error.to_string())?))
    }
}

/// The bytes of an IDX file that may be compressed by gzip.
fn decompressed(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let read = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => idx::read(MultiGzDecoder::new(bytes)),
        false => idx::read(bytes),
    };
    read.map_err(|fault| format!("it cannot be decompressed ({fault}); fetch it again"))?
        .map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn file(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn four() -> Vec<NamedFile> {
        let images = |count: u32| file(&[count, 28, 28], &vec![9; count as usize * 784]);
        let labels = |count: u32| file(&[count], &vec![3; count as usize]);
        [("ti", images(5)), ("tl", gzip(&labels(5))), ("hl", labels(2)), ("hi", gzip(&images(2)))]
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .to_vec()
    }

    fn refused(files: Vec<NamedFile>) -> String {
        Data::mnist(files).err().expect("an error")
    }

    #[test]
    fn files_are_told_apart_by_what_they_hold() {
        for turn in 0..4 {
            let mut files = four();
            files.rotate_left(turn);
            let data = Data::mnist(files).expect("four files");
            assert_eq!((data.train_len(), data.held_out.len(), data.held_out.label(0)), (5, 2, 3));
            assert_eq!(data.train(5, 0).expect("all of them").len(), 5);
            assert!(data.train(6, 0).is_err());
        }
    }

    #[test]
    fn a_broken_file_is_named() {
        assert!(refused(four()[..3].to_vec()).contains("1 files of images and 2 of labels"));
        let mut files = four();
        files[0].1.truncate(100);
        assert!(refused(files).starts_with("ti: the IDX data are truncated"));
        let mut files = four();
        files[3].1.truncate(20);
        assert!(refused(files).starts_with("hi: it cannot be decompressed"));
        let mut files = four();
        files[1] = files[2].clone();
        assert!(refused(files).contains("equally many samples"));
        let mut files = four();
        files[0].1 = b"not at all".to_vec();
        assert!(refused(files).starts_with("ti: "));
        // A small file that promises a gigabyte is not believed.
        let mut files = four();
        files[3].1 = gzip(&file(&[1 << 20, 32, 32], &[1; 9]));
        let said = refused(files);
        assert!(said.starts_with("hi: ") && said.contains("declares 1073741840 bytes"), "{said}");
    }

    #[test]
    fn digits_are_those_of_the_native_program() {
        let data = Data::digits();
        let train = data.train(10, 7).expect("ten digits");
        let native = Subset::balanced(Digits::new(Split::Train, USUAL_DIGITS), 10, 7).expect("ten digits");
        assert_eq!((train.image(4), train.label(4)), (native.image(4), native.label(4)));
        assert_eq!((data.held_out.len(), data.train_len()), (2_000, 20_000));
    }
}
