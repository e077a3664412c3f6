//! CIFAR-10 and CIFAR-100: the official binary files, unpacked or in their archive, or a folder of images.
//!
//! An archive is read as a stream: of each entry only its name and, where the name is that of a wanted file, its bounded
//! bytes are looked at, and nothing is written anywhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::GzDecoder;
use potstill_core::data::cifar::{Kind, MAX_BYTES, Reader, TEN};
use potstill_core::data::{Dataset, Normalisation};

use super::start::forcing_row;
use super::{How, Set, Split, folder, read_file};
use crate::error::{Context, Failure, Result};
use crate::fetch::{Source, archive};

/// CIFAR-10.
pub const TEN_SET: Set = Set {
    name: "CIFAR-10",
    open: |folder, split, how| open(folder, Kind::Ten, split, how),
    has_validation: false,
    takes_folders: true,
    ink: false,
    normalisation: Normalisation::imagenet,
    start: |given, _| {
        Ok(match given.text("distill-mode") {
            Some("both") => "deit-cifar-10-both-soft".to_owned(),
            Some(mode) => format!("deit-cifar-10-{mode}"),
            None => forcing_row(given, "cifar-10"),
        })
    },
    source: Some(Source {
        base: BASE,
        files: &[archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin")],
    }),
};

/// CIFAR-100.
pub const HUNDRED_SET: Set = Set {
    name: "CIFAR-100",
    open: |folder, split, how| open(folder, Kind::HundredFine, split, how),
    takes_folders: false,
    ink: false,
    start: |given, _| Ok(forcing_row(given, "cifar-100")),
    source: Some(Source {
        base: BASE,
        files: &[archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary")],
    }),
    ..TEN_SET
};

const BASE: &str = "https://www.cs.toronto.edu/~kriz";

/// Most bytes of an archive once decompressed: twice the official ones.
const MAX_ARCHIVE: u64 = 2 * MAX_BYTES;

/// Names of the official files.
struct Layout {
    set: &'static str,
    folder: &'static str,
    archive: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    class_names: &'static str,
}

const TEN_FILES: Layout = Layout {
    set: "cifar10",
    folder: "cifar-10-batches-bin",
    archive: "cifar-10-binary.tar.gz",
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: &["test_batch.bin"],
    class_names: "batches.meta.txt",
};
const HUNDRED_FILES: Layout = Layout {
    set: "cifar100",
    folder: "cifar-100-binary",
    archive: "cifar-100-binary.tar.gz",
    train: &["train.bin"],
    test: &["test.bin"],
    class_names: "fine_label_names.txt",
};
const COARSE_NAMES: &str = "coarse_label_names.txt";
/// Most bytes of a file of names.
const MAX_NAMES: u64 = 64 << 10;

/// Opens a split: the files in `folder` or in their own folder below it, else in the archive, else, for CIFAR-10, folders
/// of images named as its classes.
///
/// # Errors
/// Exit code 1 for files that are missing or damaged.
pub fn open(folder: &Path, kind: Kind, split: Split, how: How) -> Result<Arc<dyn Dataset>> {
    let layout = if kind == Kind::Ten { &TEN_FILES } else { &HUNDRED_FILES };
    let (wanted, part) = match split {
        Split::Train => (layout.train, "train"),
        _ => (layout.test, "test"),
    };
    let set = format!("{}-{part}", layout.set);
    let names_file = if kind == Kind::HundredCoarse { COARSE_NAMES } else { layout.class_names };
    let mut reader = Reader::new(kind);
    for place in [folder.to_owned(), folder.join(layout.folder)] {
        if !wanted.iter().any(|name| place.join(name).is_file()) {
            continue;
        }
        for name in wanted {
            let path = place.join(name);
            reader.add(&path.display().to_string(), &read_file(&path, MAX_BYTES)?).map_err(Failure::work)?;
        }
        let names = place.join(names_file);
        let names = if names.is_file() { Some(read_file(&names, MAX_NAMES)?) } else { None };
        let images = reader.finish(&set, class_names(kind, names.as_deref()));
        return Ok(Arc::new(images.map_err(Failure::work)?));
    }
    let archive = folder.join(layout.archive);
    if archive.is_file() {
        let mut files = unpack(&archive, layout.folder, &[wanted, &[names_file]].concat())?;
        let names = files.remove(names_file);
        // In the order of their names, whatever the archive's.
        for name in wanted {
            let place = format!("{}: {name}", archive.display());
            let bytes = files.remove(*name);
            let bytes = bytes.ok_or_else(|| Failure::work(format!("{place} is missing; fetch the archive again")))?;
            reader.add(&place, &bytes).map_err(Failure::work)?;
        }
        let images = reader.finish(&set, class_names(kind, names.as_deref()));
        return Ok(Arc::new(images.map_err(Failure::work)?));
    }
    if kind == Kind::Ten && folder.join("train").is_dir() {
        let images = folder::open(folder, layout.set, split, how)?;
        if images.class_names() != TEN {
            let found = images.class_names().join(", ");
            return Err(Failure::work(format!(
                "{} holds folders of images, but not those of CIFAR-10's classes ({}): it has {found}; take --dataset \
                 folder for other classes",
                folder.display(),
                TEN.join(", ")
            )));
        }
        return Ok(images);
    }
    let (folder, name) = (folder.display(), if kind == Kind::Ten { "CIFAR-10" } else { "CIFAR-100" });
    Err(Failure::work(format!(
        "there is no {} in {folder} or {folder}/{}, and no {}; put the binary version of {name} there (potstill fetch \
         {name}), or pass --data-dir",
        wanted[0], layout.folder, layout.archive
    )))
}

/// The classes' names from the official file of them, or without it.
fn class_names(kind: Kind, file: Option<&[u8]>) -> Vec<String> {
    let text = String::from_utf8_lossy(file.unwrap_or_default());
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.len() == kind.classes() { names } else { kind.class_names() }
}

/// The wanted files of an archive, by name.
fn unpack(archive: &Path, folder: &str, wanted: &[&str]) -> Result<BTreeMap<String, Vec<u8>>> {
    let reading = format!("cannot read {}", archive.display());
    let file = BufReader::new(File::open(archive).context(&reading)?);
    let mut tar = tar::Archive::new(GzDecoder::new(file).take(MAX_ARCHIVE));
    let mut files = BTreeMap::new();
    for entry in tar.entries().context(&reading)? {
        let entry = entry.context(&reading)?;
        let path = entry.path().context(&reading)?;
        let name = wanted.iter().find(|name| *path == Path::new(folder).join(name));
        let Some(name) = name.filter(|_| entry.header().entry_type().is_file()) else { continue };
        let mut bytes = Vec::new();
        let declared = entry.size();
        if declared > MAX_BYTES {
            let message = format!("{}: {name} declares {declared} bytes, more than {MAX_BYTES}", archive.display());
            return Err(Failure::work(message));
        }
        entry.take(MAX_BYTES).read_to_end(&mut bytes).context(&reading)?;
        if bytes.len() as u64 != declared {
            let found = bytes.len();
            let message = format!(
                "{}: {name} is truncated: {declared} bytes are declared, {found} were found; fetch the archive again",
                archive.display()
            );
            return Err(Failure::work(message));
        }
        files.insert((*name).to_owned(), bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn records(kind: Kind, labels: std::ops::Range<u8>) -> Vec<u8> {
        let record = |label: u8| [vec![label; kind.record() - 3072], vec![label; 3072]].concat();
        labels.flat_map(record).collect()
    }

    fn open(folder: &Path, kind: Kind, split: Split) -> Result<Arc<dyn Dataset>> {
        super::open(folder, kind, split, How::default())
    }

    fn files() -> Vec<(String, Vec<u8>)> {
        let batch = |number: u8| (format!("data_batch_{number}.bin"), records(Kind::Ten, number..number + 2));
        let names = TEN.join("\n").into_bytes();
        let test = ("test_batch.bin".to_owned(), records(Kind::Ten, 9..10));
        (1..6).map(batch).chain([test, ("batches.meta.txt".to_owned(), names)]).collect()
    }

    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        // In another order than their names'.
        for (name, bytes) in files.iter().rev() {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), &bytes[..]).expect("memory");
        }
        tar.into_inner().expect("memory").finish().expect("memory")
    }

    fn labels(folder: &Path, split: Split) -> Vec<u32> {
        let set = open(folder, Kind::Ten, split).expect("opens");
        assert_eq!(set.class_names(), TEN);
        (0..set.len()).map(|index| set.label(index)).collect()
    }

    fn fails(folder: &Path, kind: Kind, split: Split) -> String {
        open(folder, kind, split).err().expect("a failure").to_string()
    }

    #[test]
    fn ten_is_read_unpacked_nested_and_from_its_archive() {
        let train = [1, 2, 2, 3, 3, 4, 4, 5, 5, 6];
        let plain = TempDir::new().expect("a folder");
        let nested = TempDir::new().expect("a folder");
        fs_write(nested.path(), "cifar-10-batches-bin", &files());
        fs_write(plain.path(), ".", &files());
        let packed = TempDir::new().expect("a folder");
        std::fs::write(packed.path().join("cifar-10-binary.tar.gz"), archive(&files())).expect("writes");
        for folder in [&plain, &nested, &packed] {
            assert_eq!(labels(folder.path(), Split::Train), train);
            assert_eq!(labels(folder.path(), Split::HeldOut), [9]);
        }
        std::fs::remove_file(plain.path().join("data_batch_3.bin")).expect("removes");
        assert!(fails(plain.path(), Kind::Ten, Split::Train).contains("data_batch_3.bin"));
    }

    fn fs_write(folder: &Path, below: &str, files: &[(String, Vec<u8>)]) {
        std::fs::create_dir_all(folder.join(below)).expect("makes");
        files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(below).join(name), bytes).expect("writes"));
    }

    #[test]
    fn hundred_has_fine_and_coarse_labels() {
        let folder = TempDir::new().expect("a folder");
        let record = |coarse: u8, fine: u8| [vec![coarse, fine], vec![0; 3072]].concat();
        let names: Vec<String> = (0..100).map(|class| format!("kind {class}")).collect();
        let files = [
            ("train.bin".to_owned(), [record(3, 99), record(19, 0)].concat()),
            ("test.bin".to_owned(), record(0, 50)),
            ("fine_label_names.txt".to_owned(), names.join("\n").into_bytes()),
        ];
        fs_write(folder.path(), "cifar-100-binary", &files);
        let fine = open(folder.path(), Kind::HundredFine, Split::Train).expect("opens");
        assert_eq!((fine.label(0), fine.label(1), fine.class_names()[99].as_str()), (99, 0, "kind 99"));
        let coarse = open(folder.path(), Kind::HundredCoarse, Split::Train).expect("opens");
        assert_eq!((coarse.label(0), coarse.label(1), coarse.classes()), (3, 19, 20));
    }

    #[test]
    fn faults_name_the_file() {
        let folder = TempDir::new().expect("a folder");
        let missing = fails(folder.path(), Kind::Ten, Split::Train);
        assert!(missing.contains("data_batch_1.bin") && missing.contains("cifar-10-binary.tar.gz"), "{missing}");
        let path = folder.path().join("cifar-10-binary.tar.gz");
        let whole = archive(&files());
        std::fs::write(&path, &whole[..whole.len() / 2]).expect("writes");
        assert!(fails(folder.path(), Kind::Ten, Split::Train).contains("cifar-10-binary.tar.gz"));
        std::fs::write(&path, archive(&files()[..3])).expect("writes");
        let missing = fails(folder.path(), Kind::Ten, Split::Train);
        assert!(missing.contains("data_batch_4.bin is missing"), "{missing}");
        let mut wrong = files();
        wrong[1].1[0] = 10;
        fs_write(folder.path(), ".", &wrong);
        let label = fails(folder.path(), Kind::Ten, Split::Train);
        assert!(label.contains("data_batch_2.bin") && label.contains("label 10"), "{label}");
    }

    #[test]
    fn folders_of_the_ten_classes_stand_for_the_set() {
        let folder = TempDir::new().expect("a folder");
        for (class, split) in TEN.iter().flat_map(|class| [(class, "train"), (class, "test")]) {
            let place = folder.path().join(split).join(class);
            std::fs::create_dir_all(&place).expect("makes");
            image::RgbImage::new(32, 32).save(place.join("0000.jpg")).expect("writes");
        }
        assert_eq!(labels(folder.path(), Split::Train), (0..10).collect::<Vec<_>>());
        std::fs::rename(folder.path().join("train/cat"), folder.path().join("train/lion")).expect("renames");
        assert!(fails(folder.path(), Kind::Ten, Split::Train).contains("lion"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_damaged_archive_panics(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let folder = TempDir::new().expect("a folder");
            let path = folder.path().join("cifar-10-binary.tar.gz");
            let mut bytes = archive(&files());
            let at = at.index(bytes.len());
            bytes[at] = value;
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("writes");
                if let Err(failure) = open(folder.path(), Kind::Ten, Split::Train) {
                    prop_assert!(failure.to_string().contains("cifar-10-binary.tar.gz"), "{}", failure);
                }
            }
        }
    }
}
