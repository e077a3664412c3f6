//! Data sets by name: drawn digits, the published archives, and folders of images.
//!
//! Files come from downloads and other people's disks, so nothing in them is believed: sizes are bounded before anything
//! is allocated, and every message names the file.
//!
//! Small sets, and sets of images as small as CIFAR's, are held in memory, so that reading a sample costs nothing;
//! photographs are decoded when a sample is read, on the loader's threads. The same request gives the same samples in the
//! same order.

mod cifar;
mod digits;
mod flowers;
mod folder;
mod mat;
mod mnist;
mod start;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use potstill_core::data::{Dataset, Decoding, Images, Normalisation};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};
use crate::fetch::Source;
use crate::given::Given;

pub use folder::open_unlabelled;

/// Where files are looked for unless `--data-dir` says.
const DEFAULT_DIR: &str = "data";

/// What is asked of a data set beside its split.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// How many samples, where the set has no end, as the drawn digits have none. A set of files has the samples that it has.
    pub samples: Option<usize>,
    /// How picture files are read.
    pub decoding: Decoding,
    /// What is held out of a folder of images that has no part for it follows from this number.
    pub seed: u64,
}

/// Opens a split in a folder.
type Open = fn(&Path, Split, How) -> Result<Arc<dyn Dataset>>;

/// A data set, as its own file describes it.
pub struct Set {
    /// Its name, which is taken in any case.
    pub name: &'static str,
    open: Open,
    has_validation: bool,
    /// Whether it may be a folder of images, a folder a class.
    pub takes_folders: bool,
    /// Whether its images are handwritten signs as MNIST's, so that others are made like them.
    pub ink: bool,
    /// What pixels are normalised by where neither recipe nor published weights say.
    pub normalisation: fn() -> Normalisation,
    /// The recipe that a line or a file starts from, by the flags and the number of training samples.
    pub start: fn(&Given, Option<i64>) -> Result<String>,
    /// Its official files, where they can be fetched.
    pub source: Option<Source>,
}

/// Every data set.
pub const SETS: [&Set; 15] = [
    &digits::SET,
    &mnist::SET,
    &mnist::FASHION,
    &mnist::KUZUSHIJI,
    &mnist::EMNIST_BALANCED,
    &mnist::EMNIST_LETTERS,
    &mnist::EMNIST_DIGITS,
    &mnist::EMNIST_MNIST,
    &mnist::EMNIST_BY_CLASS,
    &mnist::EMNIST_BY_MERGE,
    &cifar::TEN_SET,
    &cifar::HUNDRED_SET,
    &flowers::SET,
    &folder::IMAGENET,
    &folder::SET,
];

/// The data set of a name.
///
/// # Errors
/// Exit code 2 with the names that exist.
pub fn find(name: &str) -> Result<&'static Set> {
    SETS.into_iter().find(|set| set.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let known: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        Failure::usage(format!("there is no data set {name:?}; there are {}", known.join(", ")))
    })
}

/// Which samples of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// To learn from.
    Train,
    /// What is held out unless a recipe says: the validation split of a folder of images that has one, else the test split.
    HeldOut,
    /// The validation split.
    Val,
    /// The test split.
    Test,
}

/// Opens a split of a data set by its name, in any case.
///
/// # Errors
/// Exit code 2 for an unknown name, a split that the set has not, and more samples than are drawn; 1 for files that are
/// missing or damaged.
pub fn open(name: &str, data_dir: Option<&Path>, split: Split, how: How) -> Result<Arc<dyn Dataset>> {
    let set = find(name)?;
    if split == Split::Val && !set.has_validation {
        return Err(Failure::usage(format!("{} has no validation split; hold out its test split", set.name)));
    }
    (set.open)(data_dir.unwrap_or(Path::new(DEFAULT_DIR)), split, how)
}

/// Whether a folder holds pictures, a folder a class.
pub fn is_of_pictures(folder: &Path) -> bool {
    folder::is_one(folder)
}

/// How many pictures a folder has to learn from.
pub fn count_pictures(folder: &Path) -> usize {
    folder::count(folder)
}

/// The folder of images without classes that lies beside a data set's own, where it has one: `unlabelled`, beside `train`.
pub fn find_unlabelled(name: &str, data_dir: Option<&Path>) -> Option<PathBuf> {
    find(name).ok().filter(|set| set.takes_folders)?;
    let place = data_dir.unwrap_or(Path::new(DEFAULT_DIR)).join("unlabelled");
    place.is_dir().then_some(place)
}

/// Why a set cannot be held in memory: not all of its images have one shape.
struct Differ;

/// Copies a set into memory on every core. The inner error is of a set whose images differ in size.
fn in_memory(set: &dyn Dataset) -> Result<Result<Images, Differ>> {
    let len = set.len();
    let Some(shape) = (match set.shape() {
        None if len > 0 => Some(set.image(0).map_err(Failure::work)?.shape),
        shape => shape,
    }) else {
        return Ok(Err(Differ));
    };
    let bytes = shape.bytes();
    let mut pixels = vec![0; len * bytes];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = len.div_ceil(threads).max(1);
    let differ = AtomicBool::new(false);
    let copy = |first: usize, pixels: &mut [u8]| {
        for (offset, out) in pixels.chunks_mut(bytes).enumerate() {
            let picture = set.image(first + offset).map_err(Failure::work)?;
            if picture.shape != shape {
                differ.store(true, Ordering::Relaxed);
            }
            if differ.load(Ordering::Relaxed) {
                return Ok(());
            }
            out.copy_from_slice(&picture.pixels);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let parts = pixels.chunks_mut(share * bytes).enumerate();
        let workers: Vec<_> = parts.map(|(part, pixels)| scope.spawn(move || copy(part * share, pixels))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    if differ.into_inner() {
        return Ok(Err(Differ));
    }
    let labels = (0..len).map(|index| set.label(index)).collect();
    let images = Images::new(set.name(), shape, set.class_names().to_vec(), pixels, labels);
    images.map(Ok).map_err(Failure::work)
}

/// Reads a whole file of at most `limit` bytes.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let reading = format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).context(&reading)?;
    match bytes.len() as u64 > limit {
        true => Err(Failure::work(format!("{reading}: it is larger than {} MiB", limit >> 20))),
        false => Ok(bytes),
    }
}
