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
use potstill_core::data::Dataset;
use potstill_core::data::cifar::{Kind, MAX_BYTES, Reader, TEN};

use super::{Split, folder, read_file};
use crate::error::{Context, Failure, Result};

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
pub fn open(folder: &Path, kind: Kind, split: Split) -> Result<Arc<dyn Dataset>> {
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
        let images = folder::open(folder, layout.set, split)?;
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
