//! The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009).
//!
//! A file consists of records and has no header. A record has one label byte (CIFAR-10) or two, coarse and fine (CIFAR-100), and
//! then 32 x 32 red, green and blue values, plane by plane. So only a file's length and its labels can be checked.

use super::{Error, ImageShape, Images};

/// Bytes of an image.
const PIXELS: usize = PLANE * 3;
const PLANE: usize = SIDE * SIDE;
const SIDE: usize = 32;
/// The largest accepted file, in bytes. It is more than twice the official files.
pub const MAX_BYTES: u64 = 1 << 29;

/// The set, and the kind of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ten classes.
    Ten,
    /// A hundred classes.
    HundredFine,
    /// The images of CIFAR-100, with its twenty groups of classes as labels.
    HundredCoarse,
}

impl Kind {
    /// The number of classes.
    pub const fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::HundredFine => 100,
            Self::HundredCoarse => 20,
        }
    }

    /// Bytes of a record.
    pub const fn record(self) -> usize {
        match self {
            Self::Ten => 1 + PIXELS,
            Self::HundredFine | Self::HundredCoarse => 2 + PIXELS,
        }
    }

    /// The place of the label in a record.
    const fn label(self) -> usize {
        match self {
            Self::Ten | Self::HundredCoarse => 0,
            Self::HundredFine => 1,
        }
    }

    /// The names of the classes in the order of the labels, for CIFAR-10. For CIFAR-100 they are numbers, because its names are
    /// in a file.
    pub fn class_names(self) -> Vec<String> {
        match self {
            Self::Ten => TEN.map(str::to_owned).to_vec(),
            _ => (0..self.classes()).map(|class| class.to_string()).collect(),
        }
    }
}

/// CIFAR-10's classes in the order of their labels.
pub const TEN: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Gathers the files of a split.
#[derive(Debug)]
pub struct Reader {
    kind: Kind,
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

impl Reader {
    /// A split without images.
    pub fn new(kind: Kind) -> Self {
        Self { kind, pixels: Vec::new(), labels: Vec::new() }
    }

    /// Adds the records of one file.
    ///
    /// # Errors
    /// The file, with its wrong length or its first invalid label.
    pub fn add(&mut self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        let fail = |reason| Err(Error::File { file: file.to_owned(), reason });
        let record = self.kind.record();
        if bytes.starts_with(&[0x1f, 0x8b]) && !bytes.len().is_multiple_of(record) {
            return fail("it is still compressed (it begins with 1f 8b): decompress it".to_owned());
        }
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            let found = bytes.len();
            return fail(format!(
                "it has {found} bytes, which is no whole number of records of {record} bytes; it is truncated or of \
                 another set, so fetch it again"
            ));
        }
        let classes = self.kind.classes();
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let label = record[self.kind.label()];
            if usize::from(label) >= classes {
                return fail(format!(
                    "record {index} has label {label}, but there are only {classes} classes (0 to {}); the file is \
                     damaged or of another set",
                    classes - 1
                ));
            }
        }
        self.pixels.reserve(bytes.len() / record * PIXELS);
        self.labels.reserve(bytes.len() / record);
        for record in bytes.chunks_exact(record) {
            self.labels.push(u32::from(record[self.kind.label()]));
            let (_, planes) = record.split_at(record.len() - PIXELS);
            let (red, rest) = planes.split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            for ((&red, &green), &blue) in red.iter().zip(green).zip(blue) {
                self.pixels.extend([red, green, blue]);
            }
        }
        Ok(())
    }

    /// The set, with the names of its classes.
    ///
    /// # Errors
    /// If there are fewer names than classes.
    pub fn finish(self, name: &str, class_names: Vec<String>) -> Result<Images, Error> {
        let shape = ImageShape { channels: 3, height: SIDE, width: SIDE };
        Images::new(name, shape, class_names, self.pixels, self.labels)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Dataset;
    use super::*;

    fn record(labels: &[u8], first: u8) -> Vec<u8> {
        // Red, green and blue of pixel i are i, i + 1 and i + 2, modulo 256.
        let planes = (0..3).flat_map(|channel| (0..PLANE).map(move |i| (i as u8).wrapping_add(channel + first)));
        labels.iter().copied().chain(planes).collect()
    }

    #[test]
    fn reads_labels_and_planes() {
        let mut reader = Reader::new(Kind::Ten);
        reader.add("a", &[record(&[3], 0), record(&[9], 7)].concat()).unwrap();
        reader.add("b", &record(&[0], 1)).unwrap();
        let set = reader.finish("set", Kind::Ten.class_names()).unwrap();
        assert_eq!([0, 1, 2].map(|index| set.label(index)), [3, 9, 0]);
        let picture = set.image(1).unwrap();
        assert_eq!(picture.shape, ImageShape { channels: 3, height: 32, width: 32 });
        assert_eq!(picture.pixels[..6], [7, 8, 9, 8, 9, 10]);
        for (kind, label) in [(Kind::HundredFine, 99), (Kind::HundredCoarse, 19)] {
            let mut reader = Reader::new(kind);
            reader.add("a", &record(&[19, 99], 0)).unwrap();
            assert_eq!(reader.finish("set", kind.class_names()).unwrap().label(0), label);
        }
    }

    #[test]
    fn faults_name_the_file() {
        let whole = record(&[3], 0);
        let long = [&whole[..], &[0]].concat();
        for (kind, bytes, word) in [
            (Kind::Ten, &whole[..3072], "3072 bytes"),
            (Kind::Ten, &long, "3074 bytes"),
            (Kind::Ten, &[], "0 bytes"),
            (Kind::Ten, &[0x1f, 0x8b, 8], "compressed"),
            (Kind::Ten, &record(&[10], 0), "label 10"),
            (Kind::HundredFine, &record(&[0, 100], 0), "label 100"),
            (Kind::HundredCoarse, &record(&[20, 0], 0), "label 20"),
        ] {
            let error = Reader::new(kind).add("data_batch_1.bin", bytes).unwrap_err().to_string();
            assert!(error.starts_with("data_batch_1.bin: ") && error.contains(word), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// Any bytes are refused, or read as whole records with labels that are classes.
        #[test]
        fn no_bytes_panic(labels in proptest::collection::vec(any::<u8>(), 0..5), extra in 0..3usize, coarse in any::<bool>()) {
            let kind = if coarse { Kind::HundredCoarse } else { Kind::Ten };
            let mut bytes: Vec<u8> = labels.iter().flat_map(|&label| vec![label; kind.record()]).collect();
            bytes.resize(bytes.len() + extra, 0);
            let mut reader = Reader::new(kind);
            let allowed = extra == 0 && !labels.is_empty() && labels.iter().all(|&label| usize::from(label) < kind.classes());
            let added = reader.add("file", &bytes);
            prop_assert_eq!(added.is_ok(), allowed);
            if added.is_ok() {
                let set = reader.finish("set", kind.class_names()).unwrap();
                prop_assert_eq!(set.len(), labels.len());
            }
        }
    }
}
