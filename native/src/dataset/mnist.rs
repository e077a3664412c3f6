//! MNIST and the sets in its form, four files each, plain or compressed.
//!
//! A file is read no further than its own header declares, and that declaration is bounded, so that neither a damaged
//! header nor a small archive of endless zeros takes the machine's memory. Every message names the file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use potstill_core::data::{Error, Images, Normalisation, idx};

use super::{Set, Split};
use crate::error::{Context, Failure, Result};
use crate::fetch::{Checksum, Source, file};

/// The number of training samples up to which a recipe for few is started from.
const FEW_SAMPLES: i64 = 5_000;

/// The data set.
pub const SET: Set = Set {
    name: "MNIST",
    open: |folder, split, _| Ok(Arc::new(open(folder, split)?)),
    has_validation: false,
    takes_folders: false,
    ink: true,
    normalisation: Normalisation::mnist,
    start: |_, samples| {
        Ok(if samples.is_some_and(|samples| samples <= FEW_SAMPLES) { "mnist-1000" } else { "mnist" }.to_owned())
    },
    source: Some(Source {
        base: "https://ossci-datasets.s3.amazonaws.com/mnist",
        files: &[
            file(
                "train-images-idx3-ubyte.gz",
                Checksum::Inner("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            ),
            file(
                "train-labels-idx1-ubyte.gz",
                Checksum::Inner("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            ),
            file(
                "t10k-images-idx3-ubyte.gz",
                Checksum::Inner("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            ),
            file(
                "t10k-labels-idx1-ubyte.gz",
                Checksum::Inner("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
            ),
        ],
    }),
};

/// Clothes (Xiao, Rasul and Vollgraf, 2017).
pub const FASHION: Set = Set {
    name: "Fashion-MNIST",
    open: |folder, split, _| Ok(Arc::new(read_set(&FASHION_FILES, folder, split)?)),
    ink: false,
    normalisation: || Normalisation { mean: vec![0.2860], std: vec![0.3530] },
    source: None,
    ..SET
};

/// Cursive Japanese (Clanuwat and others, 2018).
pub const KUZUSHIJI: Set = Set {
    name: "KMNIST",
    open: |folder, split, _| Ok(Arc::new(read_set(&KUZUSHIJI_FILES, folder, split)?)),
    ink: false,
    normalisation: || Normalisation { mean: vec![0.1918], std: vec![0.3483] },
    source: None,
    ..SET
};

/// Letters and digits of NIST's forms (Cohen and others, 2017), in the makers' six arrangements.
macro_rules! emnist {
    ($($set:ident, $files:ident, $name:literal, $part:literal, $classes:expr, $first:literal;)*) => {$(
        #[doc = concat!("EMNIST's `", $part, "`.")]
        pub const $set: Set = Set {
            name: $name,
            open: |folder, split, _| Ok(Arc::new(read_set(&$files, folder, split)?)),
            normalisation: || Normalisation { mean: vec![0.1736], std: vec![0.3317] },
            source: None,
            ..SET
        };
        const $files: Files = Files {
            name: $name,
            set: concat!("emnist-", $part),
            parts: [concat!("emnist-", $part, "-train"), concat!("emnist-", $part, "-test")],
            places: ["EMNIST/raw", "gzip"],
            classes: $classes,
            first: $first,
            transposed: true,
            from: "gzip.zip of EMNIST (https://www.nist.gov/itl/products-and-services/emnist-dataset)",
        };
    )*};
}

const DIGITS: &str = "0123456789";
const ALL: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const MERGED: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt";

emnist! {
    EMNIST_BALANCED, BALANCED_FILES, "EMNIST-balanced", "balanced", Names::Letters(MERGED), 0;
    EMNIST_LETTERS, LETTERS_FILES, "EMNIST-letters", "letters", Names::Letters("abcdefghijklmnopqrstuvwxyz"), 1;
    EMNIST_DIGITS, DIGITS_FILES, "EMNIST-digits", "digits", Names::Letters(DIGITS), 0;
    EMNIST_MNIST, AS_MNIST_FILES, "EMNIST-mnist", "mnist", Names::Letters(DIGITS), 0;
    EMNIST_BY_CLASS, BY_CLASS_FILES, "EMNIST-byclass", "byclass", Names::Letters(ALL), 0;
    EMNIST_BY_MERGE, BY_MERGE_FILES, "EMNIST-bymerge", "bymerge", Names::Letters(MERGED), 0;
}

/// What classes are called.
enum Names {
    /// A letter each.
    Letters(&'static str),
    /// A word each.
    Words(&'static [&'static str]),
}

/// The files of a set.
struct Files {
    name: &'static str,
    // What samples are said to be of.
    set: &'static str,
    // How the names of the training and the test files begin.
    parts: [&'static str; 2],
    // Where they are put below the folder, by torchvision and by their own archive.
    places: [&'static str; 2],
    classes: Names,
    // The number of the first class.
    first: u8,
    // Whether rows are columns.
    transposed: bool,
    // What to download.
    from: &'static str,
}

const MNIST_FILES: Files = Files {
    name: "MNIST",
    set: "mnist",
    parts: ["train", "t10k"],
    places: ["MNIST/raw", "mnist"],
    classes: Names::Letters(DIGITS),
    first: 0,
    transposed: false,
    from: "the four files of MNIST (potstill fetch MNIST)",
};

const FASHION_FILES: Files = Files {
    name: "Fashion-MNIST",
    set: "fashion-mnist",
    places: ["FashionMNIST/raw", "fashion-mnist"],
    classes: Names::Words(&[
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ]),
    from: "the four files of Fashion-MNIST (https://github.com/zalandoresearch/fashion-mnist)",
    ..MNIST_FILES
};

const KUZUSHIJI_FILES: Files = Files {
    name: "KMNIST",
    set: "kmnist",
    places: ["KMNIST/raw", "kmnist"],
    classes: Names::Words(&["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]),
    from: "the four files of KMNIST (https://github.com/rois-codh/kmnist)",
    ..MNIST_FILES
};

/// MNIST's two files of a split.
///
/// # Errors
/// Exit code 1 for files that are missing or damaged.
pub fn open(folder: &Path, split: Split) -> Result<Images> {
    read_set(&MNIST_FILES, folder, split)
}

fn read_set(files: &Files, folder: &Path, split: Split) -> Result<Images> {
    let (part, stem) = match split {
        Split::Train => ("train", files.parts[0]),
        _ => ("test", files.parts[1]),
    };
    let images_path = find(files, folder, stem, "images", 3)?;
    let labels_path = find(files, folder, stem, "labels", 1)?;
    let images = read(&images_path)?;
    let labels = read(&labels_path)?;
    let names = match files.classes {
        Names::Letters(letters) => letters.chars().map(String::from).collect(),
        Names::Words(words) => words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let parsed = idx::labelled(&images, &labels, names, files.first).map_err(|error| {
        let (images, labels) = (images_path.display(), labels_path.display());
        match in_labels(&error) {
            Some(true) => Failure::work(format!("{labels}: {error}")),
            Some(false) => Failure::work(format!("{images}: {error}")),
            None => Failure::work(format!("{images} and {labels}: {error}")),
        }
    })?;
    let parsed = if files.transposed { parsed.transposed() } else { parsed };
    Ok(parsed.named(format!("{}-{part}", files.set)))
}

/// Whether a fault is in the labels' file or in the images'; `None` if it lies between them.
fn in_labels(error: &Error) -> Option<bool> {
    match error {
        Error::Compressed { what }
        | Error::Header { what, .. }
        | Error::Magic { what, .. }
        | Error::ElementType { what, .. }
        | Error::Size { what, .. }
        | Error::TooLarge { what, .. }
        | Error::Truncated { what, .. }
        | Error::Trailing { what, .. } => Some(what.contains("labels")),
        Error::Label { .. } => Some(true),
        _ => None,
    }
}

/// A file under any of the names in which it is handed round, plain or compressed, where people and torchvision put it.
fn find(files: &Files, folder: &Path, stem: &str, what: &str, sizes: u8) -> Result<PathBuf> {
    let name = format!("{stem}-{what}-idx{sizes}-ubyte");
    // Some archives have a dot before idx3, and some a folder of the file's name around it.
    let dotted = format!("{stem}-{what}.idx{sizes}-ubyte");
    // Its own folder first: MNIST's names are those of other sets too.
    let places = files.places.map(|place| folder.join(place));
    for place in places.iter().chain([&folder.to_path_buf()]) {
        for name in [&name, &dotted] {
            for file in [place.join(name), place.join(format!("{name}.gz")), place.join(name).join(name)] {
                if file.is_file() {
                    return Ok(file);
                }
            }
        }
    }
    let (folder, torchvision, from) = (folder.display(), files.places[0], files.from);
    Err(Failure::work(format!(
        "there is no {name} or {name}.gz of {} in {folder} or {folder}/{torchvision}; download {from} into {folder}, or pass \
         --data-dir",
        files.name
    )))
}

/// Reads a file, decompressed if it is compressed, whatever its name says.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(path).context(format_args!("cannot read {}", path.display()))?);
    let mut mark = Vec::new();
    file.by_ref().take(2).read_to_end(&mut mark).context(format_args!("cannot read {}", path.display()))?;
    let compressed = mark == [0x1f, 0x8b];
    let file = std::io::Cursor::new(mark).chain(file);
    match compressed {
        true => idx::read(MultiGzDecoder::new(file)).context(format_args!("cannot decompress {}", path.display())),
        false => idx::read(file).context(format_args!("cannot read {}", path.display())),
    }
    .and_then(|read| read.map_err(|fault| Failure::work(format!("{}: {fault}", path.display()))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use potstill_core::data::Dataset;
    use tempfile::TempDir;

    use super::*;

    fn idx_file(sizes: &[u32], data: &[u8]) -> Vec<u8> {
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

    /// Twenty images of 28 x 28 whose pixels are their index, and their labels.
    fn pair() -> (Vec<u8>, Vec<u8>) {
        let pixels: Vec<u8> = (0..20u8).flat_map(|index| [index; 784]).collect();
        let labels: Vec<u8> = (0..20).map(|index| index % 10).collect();
        (idx_file(&[20, 28, 28], &pixels), idx_file(&[20], &labels))
    }

    fn folder(images: &[u8], labels: &[u8]) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("t10k-images-idx3-ubyte"), images).expect("writes");
        std::fs::write(folder.path().join("t10k-labels-idx1-ubyte"), labels).expect("writes");
        folder
    }

    fn failure(images: &[u8], labels: &[u8]) -> Failure {
        let folder = folder(images, labels);
        open(folder.path(), Split::Test).expect_err("a failure")
    }

    #[test]
    fn reads_plain_compressed_and_nested_files() {
        let (images, labels) = pair();
        let plain = folder(&images, &labels);
        let set = open(plain.path(), Split::Test).expect("plain files");
        assert_eq!((set.len(), set.label(13), set.name()), (20, 3, "mnist-test"));

        let nested = TempDir::new().expect("a folder");
        let raw = nested.path().join("MNIST/raw");
        std::fs::create_dir_all(&raw).expect("makes");
        std::fs::write(raw.join("t10k-images-idx3-ubyte.gz"), gzip(&images)).expect("writes");
        std::fs::write(raw.join("t10k-labels-idx1-ubyte.gz"), gzip(&labels)).expect("writes");
        let set = open(nested.path(), Split::HeldOut).expect("nested files");
        assert_eq!((set.len(), &*set.image(6).expect("in memory").pixels), (20, &[6; 784][..]));
        assert_eq!(open(nested.path(), Split::Train).err().map(|f| f.code()), Some(1));
    }

    #[test]
    fn sets_of_its_form_are_known_by_their_own_names() {
        let folder = TempDir::new().expect("a folder");
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
            std::fs::write(path, bytes).expect("writes");
        };
        // Two images of 2 x 3, of the letters a and z.
        put(
            "gzip/emnist-letters-train-images-idx3-ubyte.gz",
            &gzip(&idx_file(&[2, 2, 3], &(0..12).collect::<Vec<u8>>())),
        );
        put("gzip/emnist-letters-train-labels-idx1-ubyte.gz", &gzip(&idx_file(&[2], &[1, 26])));
        let letters = read_set(&LETTERS_FILES, folder.path(), Split::Train).expect("letters");
        assert_eq!((letters.label(0), letters.label(1), letters.class_names()[25].as_str()), (0, 25, "z"));
        let image = letters.image(0).expect("in memory");
        assert_eq!(((image.shape.height, image.shape.width), &image.pixels[..]), ((3, 2), &[0, 3, 1, 4, 2, 5][..]));
        assert_eq!(letters.name(), "emnist-letters-train");
        // Under a name with a dot, in a folder of its own, beside MNIST's files.
        let (images, labels) = pair();
        put("FashionMNIST/raw/t10k-images.idx3-ubyte", &images);
        put("FashionMNIST/raw/t10k-labels-idx1-ubyte/t10k-labels-idx1-ubyte", &labels);
        put("t10k-images-idx3-ubyte", b"MNIST's");
        let clothes = read_set(&FASHION_FILES, folder.path(), Split::Test).expect("clothes");
        assert_eq!((clothes.len(), clothes.class_names()[9].as_str()), (20, "Ankle boot"));
        for files in [&BY_CLASS_FILES, &BY_MERGE_FILES, &BALANCED_FILES, &DIGITS_FILES, &AS_MNIST_FILES] {
            let Names::Letters(letters) = files.classes else { panic!("letters") };
            assert!([62, 47, 10].contains(&letters.len()), "{}", files.name);
        }
    }

    #[test]
    fn every_fault_names_its_file() {
        let (images, labels) = pair();
        let cut = &images[..images.len() - 1];
        let long = [&images[..], &[0]].concat();
        let vast = idx_file(&[u32::MAX, 28, 28], &[]);
        let none = idx_file(&[0, 28, 28], &[]);
        let few = idx_file(&[19], &[0; 19]);
        let wrong = idx_file(&[20], &[10; 20]);
        // The checksum at the end is of other bytes.
        let mut broken = gzip(&images);
        let checksum = broken.len() - 8;
        broken[checksum] ^= 0x55;
        // A few kilobytes that hold far more than their header says.
        let bomb = gzip(&[idx_file(&[1, 1, 1], &[0]), vec![0; 1 << 22]].concat());
        for (images, labels, file, word) in [
            (&images[..3], &labels[..], "t10k-images", "header"),
            (cut, &labels, "t10k-images", "truncated"),
            (&long, &labels, "t10k-images", "trailing"),
            (&vast, &labels, "t10k-images", "declare"),
            (&none, &labels, "t10k-images", "declare 0"),
            (&broken, &labels, "t10k-images", "decompress"),
            (&bomb, &labels, "t10k-images", "trailing"),
            (&labels, &images, "t10k-images", "magic"),
            (&images, &few, "t10k-labels", "19 labels"),
            (&images, &wrong, "t10k-labels", "the 10 classes"),
            (&images, b"not idx", "t10k-labels", "magic"),
        ] {
            let failure = failure(images, labels);
            let text = failure.to_string();
            assert!(text.contains(file) && text.contains(word) && failure.code() == 1, "{text}");
        }
    }

    #[test]
    fn a_missing_folder_says_what_to_fetch() {
        let failure = open(Path::new("no/such"), Split::Train).expect_err("a failure");
        let text = failure.to_string();
        assert_eq!(failure.code(), 1);
        assert!(text.contains("no/such/MNIST/raw") && text.contains("train-images-idx3-ubyte.gz"), "{text}");
    }
}
