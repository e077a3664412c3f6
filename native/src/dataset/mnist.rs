//! MNIST's four files, plain or compressed.
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

/// Where torchvision keeps the files, below the folder it is given.
const TORCHVISION: &str = "MNIST/raw";

/// The two files of a split.
///
/// # Errors
/// Exit code 1 for files that are missing or damaged.
pub fn open(folder: &Path, split: Split) -> Result<Images> {
    let (set, stem) = match split {
        Split::Train => ("mnist-train", "train"),
        _ => ("mnist-test", "t10k"),
    };
    let images_path = find(folder, &format!("{stem}-images-idx3-ubyte"))?;
    let labels_path = find(folder, &format!("{stem}-labels-idx1-ubyte"))?;
    let images = read(&images_path)?;
    let labels = read(&labels_path)?;
    let parsed = idx::mnist(&images, &labels).map_err(|error| {
        let (images, labels) = (images_path.display(), labels_path.display());
        match in_labels(&error) {
            Some(true) => Failure::work(format!("{labels}: {error}")),
            Some(false) => Failure::work(format!("{images}: {error}")),
            None => Failure::work(format!("{images} and {labels}: {error}")),
        }
    })?;
    Ok(parsed.named(set))
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

/// A file by its name, plain or compressed, where people and torchvision put it.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    for place in [folder.to_path_buf(), folder.join(TORCHVISION)] {
        for file in [place.join(name), place.join(format!("{name}.gz"))] {
            if file.is_file() {
                return Ok(file);
            }
        }
    }
    let folder = folder.display();
    Err(Failure::work(format!(
        "there is no {name} or {name}.gz in {folder} or {folder}/{TORCHVISION}; download the four files of MNIST \
         (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, \
         t10k-labels-idx1-ubyte.gz) into {folder} (potstill fetch MNIST), or pass --data-dir"
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
            (&images, &wrong, "t10k-labels", "10 classes"),
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
        assert!(text.contains("no/such/MNIST/raw") && text.contains("t10k-labels-idx1-ubyte.gz"), "{text}");
    }
}
