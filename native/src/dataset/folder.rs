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

use potstill_core::data::{Dataset, Error, ImageShape, Picture};

use super::{Split, in_memory};
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
    let images = Folder::read(place, format!("{set}-{part}"), class_names)?;
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
            false => Ok(Self { name, class_names, files, labels }),
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
