//! A folder of images: `train/CLASS/FILE` and `val/CLASS/FILE` or `test/CLASS/FILE`, as ImageNet is kept. One of any classes
//! may also be `CLASS/FILE` alone; where no part is there to be held out, a share of each class is, drawn by the seed.
//!
//! Classes are the folders of `train` in the order of their names, as torchvision numbers them; what a name is, its bytes
//! say, also where they are no UTF-8. A class's images are those in its folder and all folders below, in torchvision's
//! order. A file is an image by its extension; what is passed over is counted and said. Which images there are is read at
//! once; they are decoded when they are asked for, unless they are so small that all fit in memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use potstill_core::data::{Dataset, Decoding, Error, ImageShape, Normalisation, Picture, Purpose, Rng};

use super::start::{imagenet_row, pictures_row};
use super::{How, Set, Split, in_memory};
use crate::error::{Context, Failure, Result};
use crate::pictures;

/// A set whose images together have no more bytes than this, and one size, is held in memory: CIFAR's 50,000 take 154 MB.
const IN_MEMORY: u64 = 384 << 20;
/// The largest image that is held in memory; larger ones are few, and seldom of one size.
const SMALL: usize = 96 * 96 * 3;

/// How the names of pictures end, in any case: those of every format that is read.
const EXTENSIONS: [&str; 12] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "ppm", "pgm", "pbm", "pnm"];
/// What validation samples' folder is called.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];
/// One of so many images of a class is held out where no folder is there for it.
const HELD_OUT: usize = 5;

/// Images that are decoded when they are read.
pub struct Folder {
    name: String,
    class_names: Vec<String>,
    files: Vec<PathBuf>,
    labels: Vec<u32>,
    decoding: Decoding,
}

/// ImageNet.
pub const IMAGENET: Set = Set {
    name: "ImageNet",
    open: |folder, split, how| open(folder, "imagenet", split, how),
    start: |given, _| Ok(imagenet_row(given).to_owned()),
    ..SET
};

/// Any classes.
pub const SET: Set = Set {
    name: "folder",
    open: |folder, split, how| match place_without_parts(folder) {
        Some(place) if split != Split::Test => share(&place, split, how),
        _ => open(folder, "folder", split, how),
    },
    has_validation: true,
    takes_folders: true,
    ink: false,
    normalisation: Normalisation::imagenet,
    start: |given, _| Ok(pictures_row(given)),
    source: None,
};

/// Opens a split of a folder of images.
///
/// # Errors
/// Exit code 1 for folders that are missing or empty and images that cannot be read.
pub fn open(folder: &Path, set: &str, split: Split, how: How) -> Result<Arc<dyn Dataset>> {
    let train = folder.join("train");
    let validation = || VALIDATION.map(|name| folder.join(name)).to_vec();
    let places = match split {
        Split::Train => vec![train.clone()],
        Split::Val => validation(),
        Split::Test => vec![folder.join("test")],
        Split::HeldOut => [validation(), vec![folder.join("test")]].concat(),
    };
    let Some(place) = places.iter().find(|place| place.is_dir()) else {
        let names: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        return Err(Failure::work(format!(
            "there is no folder {}; put images into {f}/train/CLASS/ and {f}/val/CLASS/ (or test), or pass --data-dir",
            names.join(" or "),
            f = folder.display()
        )));
    };
    // Held-out samples alone may be measured without the training ones.
    let classes = Classes::read(if train.is_dir() { &train } else { place })?;
    let part = shown(place.file_name().unwrap_or_default());
    ready(Folder::read(place, format!("{set}-{part}"), classes, how.decoding)?)
}

/// Opens images without classes: all that lie in a folder and in folders below it.
///
/// # Errors
/// Exit code 1 for a folder that is missing or holds no image, and images that cannot be read.
pub fn open_unlabelled(place: &Path, decoding: Decoding) -> Result<Arc<dyn Dataset>> {
    let mut left_out = LeftOut::default();
    let files = images_below(place.to_owned(), &mut left_out)?;
    if files.is_empty() {
        return Err(Failure::work(format!("{} holds no picture, in it or below it", place.display())));
    }
    let labels = vec![0; files.len()];
    ready(Folder { name: "unlabelled".to_owned(), class_names: vec![String::new()], files, labels, decoding })
}

/// The set itself, or in memory if it is small.
fn ready(images: Folder) -> Result<Arc<dyn Dataset>> {
    let first = images.image(0).map_err(Failure::work)?.shape.bytes();
    if first <= SMALL
        && first as u64 * images.len() as u64 <= IN_MEMORY
        && let Ok(images) = in_memory(&images)?
    {
        return Ok(Arc::new(images));
    }
    Ok(Arc::new(images))
}

/// The classes' folders' place in a folder that has no part to be held out: its `train`, or itself.
fn place_without_parts(folder: &Path) -> Option<PathBuf> {
    let has = |name: &str| folder.join(name).is_dir();
    match VALIDATION.into_iter().chain(["test"]).any(has) {
        true => None,
        false if has("train") => Some(folder.join("train")),
        false => is_of_classes(folder).then(|| folder.to_owned()),
    }
}

/// Whether a folder's folders hold pictures.
fn is_of_classes(folder: &Path) -> bool {
    let holds =
        |class: &PathBuf| images_below(class.clone(), &mut LeftOut::default()).is_ok_and(|found| !found.is_empty());
    entries(folder).is_ok_and(|entries| folders(entries).iter().any(holds))
}

/// Whether a folder is one of images, a folder a class.
pub fn is_one(folder: &Path) -> bool {
    is_of_classes(&folder.join("train")) || place_without_parts(folder).is_some_and(|place| is_of_classes(&place))
}

/// How many images a folder's training samples are, without opening one.
pub fn count(folder: &Path) -> usize {
    let train = folder.join("train");
    let place = if train.is_dir() { train } else { folder.to_owned() };
    let classes = entries(&place).map(folders).unwrap_or_default();
    classes
        .into_iter()
        .filter_map(|class| images_below(class, &mut LeftOut::default()).ok())
        .map(|found| found.len())
        .sum()
}

/// The training or the held-out share of a folder without parts.
fn share(place: &Path, split: Split, how: How) -> Result<Arc<dyn Dataset>> {
    let classes = Classes::read(place)?;
    let count = classes.0.len() as u32;
    let held = split != Split::Train;
    let part = if held { "held-out" } else { "train" };
    let mut all = Folder::read(place, format!("folder-{part}"), classes, how.decoding)?;
    let mut chosen = Vec::new();
    for class in 0..count {
        let mut own: Vec<usize> = (0..all.files.len()).filter(|&index| all.labels[index] == class).collect();
        let kept = match own.len() {
            // One is to learn from, whatever there is.
            0 | 1 => 0,
            several => (several / HELD_OUT).max(1),
        };
        Rng::new(how.seed, 0, class.into(), Purpose::HeldOut).shuffle(&mut own);
        chosen.extend(if held { own[..kept].to_vec() } else { own[kept..].to_vec() });
    }
    chosen.sort_unstable();
    if chosen.is_empty() {
        return Err(Failure::work(format!(
            "{} holds one picture a class, so none can be held out; add pictures, or a folder val beside train",
            place.display()
        )));
    }
    if held {
        eprintln!(
            "note     {}: there is no folder val or test, so {} of its {} pictures are held out, one in {HELD_OUT} of each \
             class by the seed {}",
            place.display(),
            chosen.len(),
            all.files.len(),
            how.seed
        );
    }
    all.labels = chosen.iter().map(|&index| all.labels[index]).collect();
    all.files = chosen.iter().map(|&index| all.files[index].clone()).collect();
    ready(all)
}

/// The folders in a folder, sorted by the bytes of their names.
struct Classes(Vec<PathBuf>);

impl Classes {
    fn read(place: &Path) -> Result<Self> {
        let folders = folders(entries(place)?);
        match folders.is_empty() {
            true => Err(Failure::work(format!("{} holds no folder; it needs one a class", place.display()))),
            false => Ok(Self(folders)),
        }
    }

    fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter().filter_map(|path| path.file_name())
    }

    fn label(&self, name: &OsStr) -> Option<usize> {
        self.names().position(|known| known == name)
    }
}

fn folders(entries: Vec<Entry>) -> Vec<PathBuf> {
    entries.into_iter().filter(|entry| entry.kind == Kind::Folder).map(|entry| entry.path).collect()
}

/// What lies in a folder.
struct Entry {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    /// A link to what is not there.
    Broken,
    /// A pipe, a device or a socket.
    Other,
    /// What its name hides, whatever it is.
    Hidden,
}

/// What lies in a folder, sorted by name.
fn entries(place: &Path) -> Result<Vec<Entry>> {
    let reading = format!("cannot read the folder {}", place.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(place).context(&reading)? {
        let entry = entry.context(&reading)?;
        let path = entry.path();
        let of = |kind: fs::FileType| match kind {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Other,
        };
        let kind = match entry.file_type().context(&reading)? {
            _ if entry.file_name().as_encoded_bytes().starts_with(b".") => Kind::Hidden,
            link if link.is_symlink() => fs::metadata(&path).map_or(Kind::Broken, |to| of(to.file_type())),
            kind => of(kind),
        };
        found.push(Entry { path, kind });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A name for people: bytes that are no UTF-8 stand as `\x` and their number, so that two names never look alike.
fn shown(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        // Writing to a string does not fail.
        chunk.invalid().iter().for_each(|byte| write!(text, "\\x{byte:02x}").unwrap_or_default());
    }
    text
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// What was passed over, by the reason.
#[derive(Default)]
struct LeftOut(BTreeMap<String, usize>);

impl LeftOut {
    fn add(&mut self, entry: &Entry) {
        let reason = match entry.kind {
            Kind::Hidden => "hidden by a dot".to_owned(),
            Kind::Broken => "a link to nothing".to_owned(),
            Kind::Other => "no plain file".to_owned(),
            Kind::Folder => "a link to a folder around it".to_owned(),
            Kind::File => match entry.path.extension() {
                _ if is_image(&entry.path) => "outside the classes' folders".to_owned(),
                Some(extension) => format!(".{}", shown(extension)),
                None => "without an extension".to_owned(),
            },
        };
        *self.0.entry(reason).or_default() += 1;
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// The images in a folder and all below it: folders by their paths as text, the files of each by name.
fn images_below(folder: PathBuf, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let mut found: Vec<(PathBuf, Vec<PathBuf>)> = Vec::new();
    let mut open = vec![folder];
    while let Some(folder) = open.pop() {
        let mut files = Vec::new();
        for entry in entries(&folder)? {
            match entry.kind {
                Kind::File if is_image(&entry.path) => files.push(entry.path),
                Kind::Folder if !is_around(&entry.path) => open.push(entry.path),
                _ => left_out.add(&entry),
            }
        }
        found.push((folder, files));
    }
    let text = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    found.sort_by_key(|(folder, _)| text(folder));
    Ok(found.into_iter().flat_map(|(_, files)| files).collect())
}

/// Whether a link leads to a folder that it lies in: there would be no end.
fn is_around(path: &Path) -> bool {
    path.is_symlink()
        && fs::canonicalize(path)
            .is_ok_and(|to| fs::canonicalize(path.parent().unwrap_or(path)).is_ok_and(|from| from.starts_with(to)))
}

impl Folder {
    /// Files with a label each.
    pub fn of(
        name: String,
        class_names: Vec<String>,
        files: Vec<PathBuf>,
        labels: Vec<u32>,
        decoding: Decoding,
    ) -> Self {
        Self { name, class_names, files, labels, decoding }
    }

    fn read(place: &Path, name: String, classes: Classes, decoding: Decoding) -> Result<Self> {
        let (mut files, mut labels, mut left_out) = (Vec::new(), Vec::new(), LeftOut::default());
        let class_names: Vec<String> = classes.names().map(shown).collect();
        for entry in entries(place)? {
            if entry.kind != Kind::Folder {
                left_out.add(&entry);
                continue;
            }
            let label = entry.path.file_name().and_then(|name| classes.label(name)).ok_or_else(|| {
                Failure::work(format!(
                    "{} is no class of the training images; they have {} classes, {} to {}",
                    entry.path.display(),
                    class_names.len(),
                    class_names[0],
                    class_names[class_names.len() - 1]
                ))
            })?;
            let (before, shown) = (files.len(), entry.path.display().to_string());
            let mut passed = LeftOut::default();
            files.extend(images_below(entry.path, &mut passed)?);
            labels.resize(files.len(), label as u32);
            if files.len() == before {
                let passed = if passed.0.is_empty() { "nothing".to_owned() } else { passed.to_string() };
                return Err(Failure::work(format!(
                    "{shown} holds no picture (by their names: {}); it holds {passed}",
                    EXTENSIONS.join(", ")
                )));
            }
            passed.0.into_iter().for_each(|(reason, count)| *left_out.0.entry(reason).or_default() += count);
        }
        if !left_out.0.is_empty() {
            eprintln!("note     {}: left out {left_out}", place.display());
        }
        match files.is_empty() {
            true => Err(Failure::work(format!("{} holds no folder; it needs one a class", place.display()))),
            false => Ok(Self::of(name, class_names, files, labels, decoding)),
        }
    }
}

impl Dataset for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn shape(&self) -> Option<ImageShape> {
        None
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn image(&self, index: usize) -> Result<Picture<'_>, Error> {
        let path = &self.files[index];
        let fail = |reason: String| Error::File { file: path.display().to_string(), reason };
        pictures::load(path, self.decoding).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage, RgbaImage};
    use potstill_core::data::Reading;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn save(folder: &Path, name: &str, image: impl Into<image::DynamicImage>) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        image.into().save(path).expect("writes");
    }

    fn colour(side: u32, value: u8) -> RgbImage {
        RgbImage::from_pixel(side, side, Rgb([value, 2, 3]))
    }

    fn place() -> TempDir {
        let folder = TempDir::new().expect("a folder");
        for (name, value) in
            [("train/cat/2.png", 20), ("train/cat/10.png", 10), ("train/ant/1.PNG", 1), ("test/cat/1.png", 7)]
        {
            save(folder.path(), name, colour(4, value));
        }
        fs::write(folder.path().join("train/cat/notes.txt"), "no image").expect("writes");
        fs::write(folder.path().join("train/cat/.hidden.png"), "no image").expect("writes");
        folder
    }

    fn opened(folder: &Path, split: Split) -> Arc<dyn Dataset> {
        open(folder, "set", split, How::default()).expect("opens")
    }

    fn fails(folder: &Path, split: Split) -> String {
        open(folder, "set", split, How::default()).err().expect("a failure").to_string()
    }

    #[test]
    fn small_images_of_one_size_are_held_in_memory_in_order() {
        let folder = place();
        let set = opened(folder.path(), Split::Train);
        assert_eq!(
            (set.name(), set.len(), set.class_names()),
            ("set-train", 3, &["ant".to_owned(), "cat".to_owned()][..])
        );
        let first = |index: usize| (set.label(index), set.image(index).expect("reads").pixels[0]);
        assert_eq!([0, 1, 2].map(first), [(0, 1), (1, 10), (1, 20)]);
        assert!(set.shape().is_some(), "all have one shape, so they are in memory");
        let held_out = opened(folder.path(), Split::HeldOut);
        assert_eq!((held_out.name(), held_out.len(), held_out.label(0), held_out.classes()), ("set-test", 1, 1, 2));
        save(folder.path(), "val/ant/1.png", colour(4, 5));
        assert_eq!(opened(folder.path(), Split::HeldOut).name(), "set-val");
        assert_eq!(opened(folder.path(), Split::Test).name(), "set-test");
    }

    #[test]
    fn other_images_are_decoded_when_they_are_read() {
        let folder = place();
        save(folder.path(), "train/ant/2.jpg", colour(9, 8));
        save(folder.path(), "train/cat/3.png", GrayImage::from_pixel(2, 3, Luma([77])));
        save(folder.path(), "train/cat/4.png", RgbaImage::from_pixel(5, 5, image::Rgba([40, 50, 60, 0])));
        let set = opened(folder.path(), Split::Train);
        assert_eq!((set.len(), set.shape()), (6, None));
        let sizes: Vec<usize> = (0..6).map(|index| set.image(index).expect("reads").shape.width).collect();
        assert_eq!(sizes, [4, 9, 4, 4, 2, 5]);
        assert_eq!(set.image(4).expect("reads").pixels[..3], [77; 3]);
        assert_eq!(set.image(5).expect("reads").pixels[..3], [255; 3]);
        let decoding = Decoding { reading: Reading::Torchvision, ..Decoding::default() };
        let dropped = open(folder.path(), "set", Split::Train, How { decoding, ..How::default() }).expect("opens");
        assert_eq!(dropped.image(5).expect("reads").pixels[..3], [40, 50, 60]);
        fs::write(folder.path().join("train/cat/3.png"), b"\x89PNG\r\n\x1a\nbroken").expect("writes");
        let error = set.image(4).expect_err("broken").to_string();
        assert!(error.contains("3.png"), "{error}");
    }

    #[test]
    fn images_without_classes_may_lie_at_any_depth() {
        let folder = place();
        let set = open_unlabelled(&folder.path().join("train"), Decoding::default()).expect("opens");
        assert_eq!((set.len(), set.image(0).expect("reads").pixels[0]), (3, 1));
        assert_eq!(open_unlabelled(folder.path(), Decoding::default()).expect("opens").len(), 4);
        let refused = |place: &Path| open_unlabelled(place, Decoding::default()).err().expect("refused").to_string();
        fs::create_dir(folder.path().join("empty")).expect("makes");
        fs::write(folder.path().join("empty/notes.txt"), "no image").expect("writes");
        assert!(refused(&folder.path().join("empty")).contains("holds no picture"));
        assert!(refused(&folder.path().join("none")).contains("none"));
        fs::write(folder.path().join("empty/1.png"), "no image").expect("writes");
        assert!(refused(&folder.path().join("empty")).contains("1.png"));
    }

    #[test]
    fn faults_name_the_folder_or_file() {
        let folder = place();
        assert!(fails(&folder.path().join("none"), Split::Train).contains("CLASS"));
        assert!(fails(folder.path(), Split::Val).contains("val"));
        save(folder.path(), "test/dog/1.png", colour(4, 1));
        assert!(fails(folder.path(), Split::Test).contains("dog is no class"));
        fs::create_dir(folder.path().join("train/bee")).expect("makes");
        assert!(fails(folder.path(), Split::Train).contains("bee holds no picture"));
        fs::write(folder.path().join("train/bee/1.jpeg"), [0xff, 0xd8, 0xff, 0xe0, 0]).expect("writes");
        assert!(fails(folder.path(), Split::Train).contains("1.jpeg"));
        let empty = TempDir::new().expect("a folder");
        fs::create_dir(empty.path().join("train")).expect("makes");
        assert!(fails(empty.path(), Split::Train).contains("holds no folder"));
    }

    #[test]
    fn every_format_and_folder_is_read_in_order_and_the_rest_is_counted() {
        let folder = TempDir::new().expect("a folder");
        let kinds = ["b.bmp", "c.gif", "e.ppm", "f.webp", "g.JPEG"];
        for (at, name) in ["a.png", "2019/deep/z.png", "2019-b/y.png"].into_iter().chain(kinds).enumerate() {
            save(folder.path(), &format!("train/ant/{name}"), colour(4, 10 * at as u8));
        }
        save(folder.path(), "train/bee/deep/er/1.png", colour(4, 200));
        for other in ["train/ant/notes.csv", "train/ant/2019/Thumbs.db", "train/ant/.DS_Store", "train/labels"] {
            fs::write(folder.path().join(other), "no image").expect("writes");
        }
        let set = opened(folder.path(), Split::Train);
        // The class's own files, then those of 2019-b before those of 2019/deep, as text is sorted.
        let values: Vec<u8> = (0..set.len()).map(|index| set.image(index).expect("reads").pixels[0]).collect();
        let expected = [0, 30, 40, 50, 60, 70, 20, 10, 200];
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.into_iter().zip(expected) {
            assert!(value.abs_diff(expected) <= 3, "{value} and {expected}");
        }
        assert_eq!(set.label(8), 1);
        let mut left_out = LeftOut::default();
        images_below(folder.path().join("train/ant"), &mut left_out).expect("reads");
        assert_eq!(left_out.to_string(), "1 .csv, 1 .db, 1 hidden by a dot");
    }

    #[test]
    fn without_a_part_a_share_of_each_class_is_held_out() {
        let folder = TempDir::new().expect("a folder");
        for number in 0..10 {
            save(folder.path(), &format!("cat/{number}.png"), colour(4, number));
            save(folder.path(), &format!("dog/{number}.png"), colour(4, 100 + number));
        }
        save(folder.path(), "eel/0.png", colour(4, 200));
        assert!(is_one(folder.path()) && count(folder.path()) == 21);
        let values = |split, seed| -> Vec<(u32, u8)> {
            let set = (SET.open)(folder.path(), split, How { seed, ..How::default() }).expect("opens");
            assert_eq!(set.class_names(), ["cat", "dog", "eel"]);
            (0..set.len()).map(|index| (set.label(index), set.image(index).expect("reads").pixels[0])).collect()
        };
        let (train, held) = (values(Split::Train, 1), values(Split::HeldOut, 1));
        assert_eq!((train.len(), held.iter().map(|(label, _)| *label).collect::<Vec<_>>()), (17, vec![0, 0, 1, 1]));
        assert!(held.iter().all(|sample| !train.contains(sample)));
        assert_ne!(values(Split::HeldOut, 2), held);
        // A folder that has a part is read as it is.
        save(folder.path(), "train/cat/0.png", colour(4, 1));
        save(folder.path(), "valid/cat/0.png", colour(4, 2));
        let set = (SET.open)(folder.path(), Split::HeldOut, How::default()).expect("opens");
        assert_eq!((set.len(), set.name(), set.classes()), (1, "folder-valid", 1));
        assert!(!is_one(&folder.path().join("valid/cat")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_no_text_stay_apart() {
        use std::os::unix::ffi::OsStrExt;

        let folder = TempDir::new().expect("a folder");
        for split in ["train", "val"] {
            for (class, value) in [(&b"\xb9\xb7"[..], 10), (b"\xc4\xf1", 20), (b"cat", 30)] {
                let class = folder.path().join(split).join(OsStr::from_bytes(class));
                save(&class, "1.png", colour(4, value));
            }
        }
        for split in [Split::Train, Split::Val] {
            let set = opened(folder.path(), split);
            assert_eq!(set.class_names(), ["cat", "\\xb9\\xb7", "\\xc4\\xf1"]);
            let first = |index: usize| (set.label(index), set.image(index).expect("reads").pixels[0]);
            assert_eq!([0, 1, 2].map(first), [(0, 30), (1, 10), (2, 20)]);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_for_ever() {
        use std::os::unix::fs::symlink;

        let folder = place();
        save(folder.path(), "elsewhere/1.png", colour(4, 99));
        symlink("../elsewhere", folder.path().join("train/bee")).expect("links");
        symlink("../cat", folder.path().join("train/cat/again")).expect("links");
        symlink("nowhere.png", folder.path().join("train/cat/z.png")).expect("links");
        let set = opened(folder.path(), Split::Train);
        assert_eq!((set.len(), set.classes(), set.image(1).expect("reads").pixels[0]), (4, 3, 99));
        let mut left_out = LeftOut::default();
        images_below(folder.path().join("train/cat"), &mut left_out).expect("reads");
        let said = left_out.to_string();
        assert!(said.contains("1 a link to nothing") && said.contains("1 a link to a folder around it"), "{said}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_damaged_image_panics(png: bool, allow_truncated: bool, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), cut in any::<prop::sample::Index>()) {
            let folder = TempDir::new().expect("a folder");
            let name = if png { "a.png" } else { "a.jpg" };
            save(folder.path(), name, RgbImage::from_fn(9, 7, |x, y| Rgb([(x * 20) as u8, (y * 30) as u8, 5])));
            let path = folder.path().join(name);
            let mut bytes = fs::read(&path).expect("reads");
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                fs::write(&path, bytes).expect("writes");
                match pictures::load(&path, Decoding { allow_truncated, ..Decoding::default() }) {
                    Ok(picture) => prop_assert_eq!(picture.pixels.len(), picture.shape.bytes()),
                    Err(reason) => prop_assert!(!reason.is_empty()),
                }
            }
        }
    }
}
