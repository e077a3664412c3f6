//! A folder of images: `train/CLASS/FILE` and `val/CLASS/FILE` or `test/CLASS/FILE`, as ImageNet is kept.
//!
//! Classes are the folders of `train` in the order of their names, as torchvision numbers them. A file is a PNG or a JPEG
//! by its extension, other files are passed over. Which images there are is read at once; they are decoded when they
//! are asked for, unless they are so small that all fit in memory. They are taken as torchvision's loader takes them: a
//! camera's note of rotation is not followed, and transparency is dropped.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use potstill_core::data::{Dataset, Error, ImageShape, Normalisation, Picture};

use super::start::imagenet_row;
use super::{Set, Split, in_memory};
use crate::error::{Context, Failure, Result};
use crate::prepare;

/// A set whose images together have no more bytes than this, and one size, is held in memory: CIFAR's 50,000 take 154 MB.
const IN_MEMORY: u64 = 384 << 20;
/// The largest image that is held in memory; larger ones are few, and seldom of one size.
const SMALL: usize = 96 * 96 * 3;

/// Images that are decoded when they are read.
pub struct Folder {
    name: String,
    class_names: Vec<String>,
    files: Vec<PathBuf>,
    labels: Vec<u32>,
}

/// ImageNet.
pub const IMAGENET: Set = Set { name: "ImageNet", open: |folder, split, _| open(folder, "imagenet", split), ..SET };

/// Any classes.
pub const SET: Set = Set {
    name: "folder",
    open: |folder, split, _| open(folder, "folder", split),
    has_validation: true,
    takes_folders: true,
    normalisation: Normalisation::imagenet,
    start: |given, _| Ok(imagenet_row(given).to_owned()),
    source: None,
};

/// Opens a split of a folder of images.
///
/// # Errors
/// Exit code 1 for folders that are missing or empty and images that cannot be read.
pub fn open(folder: &Path, set: &str, split: Split) -> Result<Arc<dyn Dataset>> {
    let train = folder.join("train");
    let places = match split {
        Split::Train => vec![train.clone()],
        Split::Val => vec![folder.join("val")],
        Split::Test => vec![folder.join("test")],
        Split::HeldOut => vec![folder.join("val"), folder.join("test")],
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
    let class_names = classes(if train.is_dir() { &train } else { place })?;
    let part = place.file_name().unwrap_or_default().to_string_lossy();
    held(Folder::read(place, format!("{set}-{part}"), class_names)?)
}

/// Opens images without classes: all that lie in a folder and in folders below it.
///
/// # Errors
/// Exit code 1 for a folder that is missing or holds no image, and images that cannot be read.
pub fn open_unlabelled(place: &Path) -> Result<Arc<dyn Dataset>> {
    let files = images_below(place)?;
    if files.is_empty() {
        return Err(Failure::work(format!("{} holds no PNG or JPEG, in it or below it", place.display())));
    }
    let labels = vec![0; files.len()];
    held(Folder::of("unlabelled".to_owned(), vec![String::new()], files, labels))
}

/// The images in a folder and in all folders below it.
fn images_below(place: &Path) -> Result<Vec<PathBuf>> {
    let (folders, files): (Vec<_>, Vec<_>) = entries(place)?.into_iter().partition(|path| path.is_dir());
    let mut images: Vec<PathBuf> = files.into_iter().filter(|path| is_image(path)).collect();
    for folder in folders {
        images.extend(images_below(&folder)?);
    }
    Ok(images)
}

/// Images in memory, if they are small and of one size.
fn held(images: Folder) -> Result<Arc<dyn Dataset>> {
    let first = images.image(0).map_err(Failure::work)?.shape.bytes();
    if first <= SMALL
        && first as u64 * images.len() as u64 <= IN_MEMORY
        && let Ok(images) = in_memory(&images)?
    {
        return Ok(Arc::new(images));
    }
    Ok(Arc::new(images))
}

/// The names of the folders in a folder, sorted.
fn classes(place: &Path) -> Result<Vec<String>> {
    let names: Vec<String> =
        entries(place)?.into_iter().filter(|path| path.is_dir()).map(|path| name_of(&path)).collect();
    match names.is_empty() {
        true => Err(Failure::work(format!("{} holds no folder; it needs one a class", place.display()))),
        false => Ok(names),
    }
}

/// What lies in a folder, sorted by name, without hidden things.
fn entries(place: &Path) -> Result<Vec<PathBuf>> {
    let reading = format!("cannot read the folder {}", place.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(place).context(&reading)? {
        let path = entry.context(&reading)?.path();
        if !name_of(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

impl Folder {
    /// Files with a label each.
    pub fn of(name: String, class_names: Vec<String>, files: Vec<PathBuf>, labels: Vec<u32>) -> Self {
        Self { name, class_names, files, labels }
    }

    fn read(place: &Path, name: String, class_names: Vec<String>) -> Result<Self> {
        let (mut files, mut labels) = (Vec::new(), Vec::new());
        for folder in entries(place)?.into_iter().filter(|path| path.is_dir()) {
            let class = name_of(&folder);
            let label = class_names.binary_search(&class).map_err(|_| {
                Failure::work(format!(
                    "{} is no class of the training images; they have {} classes, {} to {}",
                    folder.display(),
                    class_names.len(),
                    class_names[0],
                    class_names[class_names.len() - 1]
                ))
            })?;
            let before = files.len();
            files.extend(entries(&folder)?.into_iter().filter(|path| is_image(path)));
            labels.resize(files.len(), label as u32);
            if files.len() == before {
                return Err(Failure::work(format!("{} holds no PNG or JPEG", folder.display())));
            }
        }
        match files.is_empty() {
            true => Err(Failure::work(format!("{} holds no folder; it needs one a class", place.display()))),
            false => Ok(Self::of(name, class_names, files, labels)),
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
        decoded(&self.files[index])
    }
}

/// Decodes a file to red, green and blue.
///
/// # Errors
/// Names the file and the reason.
pub fn decoded(path: &Path) -> Result<Picture<'static>, Error> {
    let fail = |reason: String| Error::File { file: path.display().to_string(), reason };
    let image = prepare::load(path, false).map_err(fail)?.into_rgb8();
    let shape = ImageShape { channels: 3, height: image.height() as usize, width: image.width() as usize };
    if shape.bytes() == 0 {
        return Err(fail("it has no pixels".to_owned()));
    }
    Ok(Picture { shape, pixels: Cow::Owned(image.into_raw()) })
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage, RgbaImage};
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

    fn fails(folder: &Path, split: Split) -> String {
        open(folder, "set", split).err().expect("a failure").to_string()
    }

    #[test]
    fn small_images_of_one_size_are_held_in_memory_in_order() {
        let folder = place();
        let set = open(folder.path(), "set", Split::Train).expect("opens");
        assert_eq!(
            (set.name(), set.len(), set.class_names()),
            ("set-train", 3, &["ant".to_owned(), "cat".to_owned()][..])
        );
        let first = |index: usize| (set.label(index), set.image(index).expect("reads").pixels[0]);
        assert_eq!([0, 1, 2].map(first), [(0, 1), (1, 10), (1, 20)]);
        assert!(set.shape().is_some(), "all have one shape, so they are in memory");
        let held_out = open(folder.path(), "set", Split::HeldOut).expect("opens");
        assert_eq!((held_out.name(), held_out.len(), held_out.label(0), held_out.classes()), ("set-test", 1, 1, 2));
        save(folder.path(), "val/ant/1.png", colour(4, 5));
        assert_eq!(open(folder.path(), "set", Split::HeldOut).expect("opens").name(), "set-val");
        assert_eq!(open(folder.path(), "set", Split::Test).expect("opens").name(), "set-test");
    }

    #[test]
    fn other_images_are_decoded_when_they_are_read() {
        let folder = place();
        save(folder.path(), "train/ant/2.jpg", colour(9, 8));
        save(folder.path(), "train/cat/3.png", GrayImage::from_pixel(2, 3, Luma([77])));
        // torchvision drops transparency.
        save(folder.path(), "train/cat/4.png", RgbaImage::from_pixel(5, 5, image::Rgba([40, 50, 60, 0])));
        let set = open(folder.path(), "set", Split::Train).expect("opens");
        assert_eq!((set.len(), set.shape()), (6, None));
        let sizes: Vec<usize> = (0..6).map(|index| set.image(index).expect("reads").shape.width).collect();
        assert_eq!(sizes, [4, 9, 4, 4, 2, 5]);
        assert_eq!(set.image(4).expect("reads").pixels[..3], [77; 3]);
        assert_eq!(set.image(5).expect("reads").pixels[..3], [40, 50, 60]);
        fs::write(folder.path().join("train/cat/3.png"), b"\x89PNG\r\n\x1a\nbroken").expect("writes");
        let error = set.image(4).expect_err("broken").to_string();
        assert!(error.contains("3.png"), "{error}");
    }

    #[test]
    fn images_without_classes_may_lie_at_any_depth() {
        let folder = place();
        let set = open_unlabelled(&folder.path().join("train")).expect("opens");
        assert_eq!((set.len(), set.image(0).expect("reads").pixels[0]), (3, 1));
        assert_eq!(open_unlabelled(folder.path()).expect("opens").len(), 4);
        let refused = |place: &Path| open_unlabelled(place).err().expect("refused").to_string();
        fs::create_dir(folder.path().join("empty")).expect("makes");
        fs::write(folder.path().join("empty/notes.txt"), "no image").expect("writes");
        assert!(refused(&folder.path().join("empty")).contains("holds no PNG"));
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
        assert!(fails(folder.path(), Split::Train).contains("bee holds no PNG or JPEG"));
        fs::write(folder.path().join("train/bee/1.jpeg"), [0xff, 0xd8, 0xff, 0xe0, 0]).expect("writes");
        assert!(fails(folder.path(), Split::Train).contains("1.jpeg"));
        let empty = TempDir::new().expect("a folder");
        fs::create_dir(empty.path().join("train")).expect("makes");
        assert!(fails(empty.path(), Split::Train).contains("holds no folder"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_damaged_image_panics(png in any::<bool>(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), cut in any::<prop::sample::Index>()) {
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
                match decoded(&path) {
                    Ok(picture) => prop_assert_eq!(picture.pixels.len(), picture.shape.bytes()),
                    Err(error) => prop_assert!(error.to_string().contains(name)),
                }
            }
        }
    }
}
