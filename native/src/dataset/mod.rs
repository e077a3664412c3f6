//! Data sets by name: drawn digits, the published archives, and folders of images.
//!
//! Files come from downloads and other people's disks, so nothing in them is believed: sizes are bounded before anything
//! is allocated, and every message names the file.
//!
//! Small sets, and sets of images as small as CIFAR's, are held in memory, so that reading a sample costs nothing;
//! photographs are decoded when a sample is read, on the loader's threads. The same request gives the same samples in the
//! same order.

mod cifar;
mod flowers;
mod folder;
mod mat;
mod mnist;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use potstill_core::data::{Dataset, Digits, Images, Split as DigitsSplit, cifar::Kind};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure, Result};

/// Samples of the drawn digits, unless a number is asked for.
const DIGITS_TRAIN: usize = 20_000;
const DIGITS_TEST: usize = 10_000;
/// Most digits that are drawn: 784 MB of them.
const DIGITS_MOST: usize = 1_000_000;

/// Where files are looked for unless `--data-dir` says.
const DEFAULT_DIR: &str = "data";

/// The names that [`open`] knows, in any case.
pub const NAMES: &str = "digits (built in), MNIST, CIFAR-10, CIFAR-100, Flowers-102, ImageNet and folder";

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

/// The failure of a name that is no data set's.
pub fn unknown(name: &str) -> Failure {
    Failure::usage(format!("there is no data set {name:?}; there are {NAMES}"))
}

/// Opens a split of a data set by its name, in any case.
///
/// # Errors
/// Exit code 2 for an unknown name or a split that the set has not; 1 for files that are missing or damaged.
pub fn open(name: &str, data_dir: Option<&Path>, split: Split) -> Result<Arc<dyn Dataset>> {
    open_sized(name, data_dir, split, None)
}

/// The same with as many samples as are asked for where the set has no end, as the drawn digits have none. A set of files
/// has the samples that it has.
///
/// # Errors
/// As [`open`], and exit code 2 for more samples than are drawn.
pub fn open_sized(
    name: &str,
    data_dir: Option<&Path>,
    split: Split,
    samples: Option<usize>,
) -> Result<Arc<dyn Dataset>> {
    let folder = data_dir.unwrap_or(Path::new(DEFAULT_DIR));
    let name = name.to_ascii_lowercase();
    if split == Split::Val && matches!(&*name, "digits" | "mnist" | "cifar-10" | "cifar-100") {
        return Err(Failure::usage(format!("{name} has no validation split; hold out its test split")));
    }
    match &*name {
        "digits" => {
            let (split, samples) = match split {
                // A recipe that takes fewer chooses them among the usual ones.
                Split::Train => (DigitsSplit::Train, samples.map_or(DIGITS_TRAIN, |samples| samples.max(DIGITS_TRAIN))),
                _ => (DigitsSplit::Test, samples.unwrap_or(DIGITS_TEST)),
            };
            if samples > DIGITS_MOST {
                let message = format!("{samples} samples of digits were asked for; ask for 1 to {DIGITS_MOST}");
                return Err(Failure::usage(message));
            }
            // Drawing a digit takes far longer than reading it.
            let digits = Digits::new(split, samples);
            Ok(Arc::new(in_memory(&digits)?.map_err(|_| Failure::work("the digits differ in size"))?))
        }
        "mnist" => Ok(Arc::new(mnist::open(folder, split)?)),
        "cifar-10" => cifar::open(folder, Kind::Ten, split),
        "cifar-100" => cifar::open(folder, Kind::HundredFine, split),
        "flowers-102" => flowers::open(folder, split),
        "imagenet" | "folder" => folder::open(folder, &name, split),
        _ => Err(unknown(&name)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_drawn_as_asked() {
        let set = open("DIGITS", None, Split::Test).expect("digits");
        assert_eq!((set.len(), set.classes(), set.name()), (10_000, 10, "digits-test"));
        let mut drawn = [0; 784];
        for index in [0, 4_999, 5_000, 9_999] {
            Digits::new(DigitsSplit::Test, 10_000).draw(index, &mut drawn);
            assert_eq!(*set.image(index).expect("in memory").pixels, drawn);
        }
        let more = open_sized("digits", None, Split::Test, Some(10_003)).expect("digits");
        assert_eq!((more.len(), more.label(10_002)), (10_003, 2));
        let few = open_sized("digits", None, Split::HeldOut, Some(30)).expect("digits");
        assert_eq!((few.len(), few.image(29).expect("drawn").pixels), (30, set.image(29).expect("drawn").pixels));
        assert_eq!(open_sized("digits", None, Split::Train, Some(30)).expect("digits").len(), 20_000);
        assert_eq!(open_sized("digits", None, Split::Train, Some(1 << 40)).err().map(|f| f.code()), Some(2));
        assert_eq!(open("cifar", None, Split::Train).err().map(|f| f.code()), Some(2));
    }
}
