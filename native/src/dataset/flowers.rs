//! Oxford's 102 flowers (Nilsback and Zisserman, 2008): `jpg/image_NNNNN.jpg`, and two MATLAB files.
//!
//! `imagelabels.mat` has a class from 1 to 102 for each image, `setid.mat` the images of the three splits, both counted
//! from 1. Classes have no names in the files; here they are called by their numbers.

use std::path::Path;
use std::sync::Arc;

use potstill_core::data::{Dataset, Decoding, Normalisation};

use super::folder::Folder;
use super::start::forcing_row;
use super::{Set, Split, mat, read_file};
use crate::error::{Failure, Result};
use crate::fetch::{Checksum, Source, archive, file};

/// The data set.
pub const SET: Set = Set {
    name: "Flowers-102",
    open: |folder, split, how| open(folder, split, how.decoding),
    has_validation: true,
    takes_folders: false,
    ink: false,
    normalisation: Normalisation::imagenet,
    start: |given, _| Ok(forcing_row(given, "flowers-102")),
    source: Some(Source {
        base: "https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
        files: &[
            file("imagelabels.mat", Checksum::Md5("e0620be6f572b9609742df49c70aed4d")),
            file("setid.mat", Checksum::Md5("a5357ecc9cb78c4bef273ce3793fc85c")),
            archive("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", "jpg"),
        ],
    }),
};

const CLASSES: usize = 102;
/// Most bytes of a MATLAB file: the official ones have some kilobytes.
const MAX_FILE: u64 = 16 << 20;
const LABELS: &str = "imagelabels.mat";
const SPLITS: &str = "setid.mat";

/// Opens a split in `folder`, or in torchvision's folder `flowers-102` below it.
///
/// # Errors
/// Exit code 1 for files that are missing or damaged.
pub fn open(folder: &Path, split: Split, decoding: Decoding) -> Result<Arc<dyn Dataset>> {
    let places = [folder.to_owned(), folder.join("flowers-102")];
    let Some(place) = places.iter().find(|place| place.join(SPLITS).is_file()) else {
        let f = folder.display();
        return Err(Failure::work(format!(
            "there is no {SPLITS} in {f} or {f}/flowers-102; put {SPLITS}, {LABELS} and the folder jpg of Flowers-102 \
             there (potstill fetch Flowers-102), or pass --data-dir"
        )));
    };
    let (set, key) = match split {
        Split::Train => ("flowers102-train", "trnid"),
        Split::Val => ("flowers102-val", "valid"),
        Split::Test | Split::HeldOut => ("flowers102-test", "tstid"),
    };
    let labels = numbers(&place.join(LABELS), "labels", CLASSES)?;
    let chosen = numbers(&place.join(SPLITS), key, labels.len())?;
    let files: Vec<_> = chosen.iter().map(|id| place.join(format!("jpg/image_{id:05}.jpg"))).collect();
    if let Some(missing) = files.iter().find(|file| !file.is_file()) {
        return Err(Failure::work(format!("there is no {}; unpack 102flowers.tgz there", missing.display())));
    }
    let labels = chosen.iter().map(|id| labels[id - 1] as u32 - 1).collect();
    let class_names = (1..=CLASSES).map(|class| class.to_string()).collect();
    Ok(Arc::new(Folder::of(set.to_owned(), class_names, files, labels, decoding)))
}

/// An array of whole numbers from 1 to `most`, at least one.
fn numbers(path: &Path, key: &str, most: usize) -> Result<Vec<usize>> {
    let fail = |reason: String| Failure::work(format!("{}: {reason}", path.display()));
    let mut arrays = mat::arrays(&read_file(path, MAX_FILE)?).map_err(fail)?;
    let values = arrays.remove(key).ok_or_else(|| fail(format!("it has no array {key:?} of numbers")))?;
    if values.is_empty() {
        return Err(fail(format!("its array {key:?} is empty")));
    }
    let whole = |value: f64| {
        let allowed = value.fract() == 0.0 && (1.0..=most as f64).contains(&value);
        allowed.then_some(value as usize).ok_or_else(|| fail(format!("{key} holds {value}; it must be 1 to {most}")))
    };
    values.into_iter().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::mat::tests::file as mat_file;
    use super::*;

    fn place(labels: &[u16], train: &[u16]) -> tempfile::TempDir {
        let folder = tempfile::TempDir::new().expect("a folder");
        fs::write(folder.path().join(LABELS), mat_file(&[("labels", labels)], true)).expect("writes");
        let splits: [(&str, &[u16]); 3] = [("trnid", train), ("valid", &[2]), ("tstid", &[1])];
        fs::write(folder.path().join(SPLITS), mat_file(&splits, false)).expect("writes");
        fs::create_dir(folder.path().join("jpg")).expect("makes");
        for id in 1..=labels.len() {
            let image = image::RgbImage::from_pixel(id as u32, 4, image::Rgb([90, 10, 10]));
            image.save(folder.path().join(format!("jpg/image_{id:05}.jpg"))).expect("writes");
        }
        folder
    }

    fn open(folder: &Path, split: Split) -> Result<Arc<dyn Dataset>> {
        super::open(folder, split, Decoding::default())
    }

    #[test]
    fn splits_are_those_of_the_files() {
        let folder = place(&[102, 5, 1], &[3, 1]);
        let train = open(folder.path(), Split::Train).expect("opens");
        assert_eq!((train.len(), train.classes(), train.label(0), train.label(1)), (2, 102, 0, 101));
        assert_eq!(train.image(0).expect("reads").shape.width, 3);
        let held = |split| open(folder.path(), split).expect("opens").label(0);
        assert_eq!((held(Split::Val), held(Split::HeldOut), held(Split::Test)), (4, 101, 101));
    }

    #[test]
    fn faults_name_their_file() {
        let fails = |labels: &[u16], train: &[u16], word: &str| {
            let folder = place(labels, train);
            let text = open(folder.path(), Split::Train).err().expect(word).to_string();
            assert!(text.contains(word), "{text}");
            folder
        };
        fails(&[103, 5], &[1], LABELS);
        fails(&[0, 5], &[1], LABELS);
        fails(&[1, 5], &[3], SPLITS);
        fails(&[1, 5], &[], "empty");
        let folder = place(&[1, 5], &[1]);
        fs::remove_file(folder.path().join("jpg/image_00001.jpg")).expect("removes");
        assert!(open(folder.path(), Split::Train).err().expect("missing").to_string().contains("image_00001.jpg"));
        fs::write(folder.path().join(SPLITS), b"none").expect("writes");
        assert!(open(folder.path(), Split::Train).err().expect("no file").to_string().contains("4 bytes"));
    }
}
