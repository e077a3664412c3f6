//! A teacher's logits, kept from one run to the next.
//!
//! Why: a teacher that sees the same varied images in every run says the same of them, and saying it is most of a step's
//! work. An image's variation follows from (seed, epoch, sample), so (epoch, position) names what the teacher saw.
//!
//! ```text
//! DIR/KEY/
//!   cache.json            what the logits are of
//!   epoch-00000.logits    rows in the order of the epoch's steps, then the SHA-256 of them
//! ```
//!
//! KEY is the hash of `cache.json`, so whatever changes what a teacher would say (its weights, configuration and precision, the
//! samples, how they are varied and normalised, the seed, the batches, how logits are packed) is another folder. Nothing is believed: a file has its length and
//! hash checked when it is opened, and a sample of it is held against the teacher before the first use. An epoch appears
//! whole or not at all.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use burn::cubecl::future::block_on;
use potstill_core::data::Dataset;
use potstill_core::method::Teachers;
use potstill_core::train::Packing;
use potstill_core::weights;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::source::Source;
use crate::error::{Context, Failure, Result};
use crate::folder::write_whole;
use crate::report::hex;

/// What a folder of logits is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// SHA-256 of the teacher's parameters and their names.
    pub teacher: String,
    /// What else its logits follow from: its configuration, how its images are normalised, its precision.
    pub forward: String,
    /// SHA-256 of the samples' labels and of some of their pixels.
    pub data: String,
    /// How images are varied and brought to the network, in full.
    pub transform: String,
    /// The run's seed; 0 where images are never varied.
    pub seed: u64,
    /// Samples a step; 0 where images are never varied.
    pub batch_size: usize,
    /// Rows an epoch.
    pub rows: u64,
    /// Logits a row.
    pub classes: usize,
    /// How they are kept.
    pub packing: Packing,
}

/// Where a teacher's logits are to be kept, and how.
#[derive(Clone, Debug)]
pub struct Keep<'a> {
    /// The folder of all caches.
    pub root: &'a Path,
    /// How logits are packed.
    pub packing: Packing,
    /// [`Origin::forward`].
    pub forward: String,
}

/// What the logits of `teacher` on the images of `source` are of, `rows` of them an epoch.
///
/// # Errors
/// If the teacher or a sample cannot be read.
pub fn origin(teachers: &Teachers, source: &Source, rows: u64, classes: usize, keep: &Keep<'_>) -> Result<Origin> {
    let mut hash = Sha256::new();
    for teacher in teachers.networks() {
        for tensor in block_on(weights::read(teacher)).context("cannot read the teacher back")? {
            hash.update(tensor.name.as_bytes());
            tensor.values.iter().for_each(|value| hash.update(value.to_le_bytes()));
        }
    }
    let teacher = hex(&hash.finalize());
    // The order of a batch's rows.
    let dealt =
        if source.repeats > 1 && source.parts > 1 { format!(" in {} parts", source.parts) } else { String::new() };
    // What is said of images that are never varied is kept by their index: neither seed nor batch has a part in it.
    let (seed, batch_size) = if source.is_still() { (0, 0) } else { (source.seed, source.batch_size) };
    Ok(Origin {
        teacher,
        forward: keep.forward.clone(),
        data: fingerprint(source.dataset.as_ref())?,
        transform: format!("{:?}, {:?}, {} visits{dealt}", source.transform, source.mix, source.repeats),
        seed,
        batch_size,
        rows,
        classes,
        packing: keep.packing,
    })
}

// Every label, and the pixels of evenly spaced samples: all of a large set's pixels would take longer than its logits.
fn fingerprint(dataset: &dyn Dataset) -> Result<String> {
    const LOOKED_AT: usize = 64;
    let mut hash = Sha256::new();
    let samples = dataset.len();
    (0..samples).for_each(|index| hash.update(dataset.label(index).to_le_bytes()));
    for place in 0..LOOKED_AT.min(samples) {
        let picture = dataset.image(place * samples / LOOKED_AT.min(samples)).map_err(Failure::work)?;
        hash.update(&picture.pixels);
    }
    Ok(hex(&hash.finalize()))
}

/// The cache of one teacher on one course of images.
pub struct TeacherCache {
    folder: PathBuf,
    origin: Origin,
    reading: Option<(u64, File)>,
    writing: Option<Writing>,
}

// An epoch that is being written: nothing of it can be read before it is whole.
struct Writing {
    epoch: u64,
    rows: u64,
    hash: Sha256,
    file: BufWriter<NamedTempFile>,
}

const DIGEST: u64 = 32;

impl TeacherCache {
    /// Opens the folder of `origin` below `root`, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or says that it is of something else.
    pub fn open(root: &Path, origin: Origin) -> Result<Self> {
        let text = serde_json::to_string_pretty(&origin).context("cannot serialise what a cache is of")?;
        let folder = root.join(&hex(&Sha256::digest(&text))[..16]);
        fs::create_dir_all(&folder).context(format_args!("cannot make {}", folder.display()))?;
        let path = folder.join("cache.json");
        match fs::read_to_string(&path) {
            Ok(found) if found == text => {}
            Ok(_) => {
                let folder = folder.display();
                return Err(Failure::work(format!("{folder} is of another teacher or other images; remove it")));
            }
            Err(_) => write_whole(&path, text.as_bytes())?,
        }
        Ok(Self { folder, origin, reading: None, writing: None })
    }

    /// The logits of `count` rows of `epoch` from row `first` on, or `None` if the epoch is not kept.
    ///
    /// # Errors
    /// If its file is damaged.
    pub fn rows(&mut self, epoch: u64, first: u64, count: usize) -> Result<Option<Vec<f32>>> {
        let path = self.path(epoch);
        if self.reading.as_ref().is_none_or(|(open, _)| *open != epoch) {
            self.reading = self.checked(&path)?.map(|file| (epoch, file));
        }
        let Some((_, file)) = &mut self.reading else { return Ok(None) };
        let Origin { classes, packing, rows, .. } = self.origin;
        let row = packing.row_bytes(classes) as u64;
        let damaged = || Failure::work(format!("{} is damaged; remove it", path.display()));
        if first.checked_add(count as u64).is_none_or(|end| end > rows) {
            return Err(damaged());
        }
        let mut bytes = vec![0; packing.row_bytes(classes) * count];
        file.seek(SeekFrom::Start(first * row)).context(path.display())?;
        file.read_exact(&mut bytes).context(path.display())?;
        packing.unpack(&bytes, classes).map(Some).ok_or_else(damaged)
    }

    /// Whether what is kept is less than what the teacher said.
    pub fn loses(&self) -> bool {
        self.origin.packing != Packing::All
    }

    /// Rows of logits as they will be read back.
    ///
    /// # Errors
    /// If they cannot be packed.
    pub fn as_kept(&self, logits: Vec<f32>) -> Result<Vec<f32>> {
        let Origin { classes, packing, .. } = self.origin;
        if !self.loses() {
            return Ok(logits);
        }
        let mut bytes = Vec::new();
        packing.pack(&logits, classes, &mut bytes);
        packing.unpack(&bytes, classes).ok_or_else(|| Failure::work("the teacher's logits cannot be packed"))
    }

    /// Keeps the logits of the rows of `epoch` from `first` on. An epoch that is not given from its first row to its last,
    /// in order, is not kept: a run that goes on in the middle of one does not know its beginning.
    pub fn record(&mut self, epoch: u64, first: u64, logits: &[f32]) -> Result<()> {
        let Origin { classes, packing, rows, .. } = self.origin;
        if first == 0 {
            let file = NamedTempFile::new_in(&self.folder);
            let file = file.context(format_args!("cannot write in {}", self.folder.display()))?;
            self.writing = Some(Writing { epoch, rows: 0, hash: Sha256::new(), file: BufWriter::new(file) });
        }
        let Some(writing) = self.writing.as_mut().filter(|w| w.epoch == epoch && w.rows == first) else {
            self.writing = None;
            return Ok(());
        };
        let mut bytes = Vec::new();
        packing.pack(logits, classes, &mut bytes);
        writing.hash.update(&bytes);
        writing.rows += (logits.len() / classes) as u64;
        let doing = format!("cannot write in {}", self.folder.display());
        writing.file.write_all(&bytes).context(&doing)?;
        if writing.rows >= rows
            && let Some(Writing { hash, mut file, .. }) = self.writing.take()
        {
            file.write_all(&hash.finalize()).context(&doing)?;
            let file = file.into_inner().context(&doing)?;
            file.as_file().sync_all().context(&doing)?;
            file.persist(self.path(epoch)).context(&doing)?;
        }
        Ok(())
    }

    /// Holds kept logits against those that the teacher has just given.
    ///
    /// # Errors
    /// If they differ by more than packing and another device change.
    pub fn check(&self, kept: &[f32], computed: &[f32]) -> Result<()> {
        if self.agrees(kept, computed) {
            return Ok(());
        }
        let folder = self.folder.display();
        Err(Failure::work(format!("the logits in {folder} are not what the teacher says; remove it, or name another")))
    }

    fn agrees(&self, kept: &[f32], computed: &[f32]) -> bool {
        let classes = self.origin.classes;
        let tolerance = if self.origin.packing == Packing::All { 1e-3 } else { 5e-2 };
        kept.chunks(classes).zip(computed.chunks(classes)).all(|(kept, computed)| {
            let highest = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // Relative to the highest, as few classes are kept; what was not kept has no logit to compare.
            let (k, c) = (highest(kept), highest(computed));
            let least = kept.iter().copied().fold(f32::INFINITY, f32::min);
            kept.iter().zip(computed).filter(|(kept, _)| self.origin.packing == Packing::All || **kept > least).all(
                |(kept, computed)| {
                    let (kept, computed) = (kept - k, computed - c);
                    (kept - computed).abs() <= tolerance * (1.0 + computed.abs())
                },
            )
        })
    }

    fn path(&self, epoch: u64) -> PathBuf {
        self.folder.join(format!("epoch-{epoch:05}.logits"))
    }

    // An epoch's file with its length and hash checked.
    fn checked(&self, path: &Path) -> Result<Option<File>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::work(format!("cannot read {}: {error}", path.display()))),
        };
        let rows = self.origin.packing.row_bytes(self.origin.classes) as u64 * self.origin.rows;
        let length = file.metadata().context(path.display())?.len();
        if length != rows + DIGEST {
            let (path, whole) = (path.display(), rows + DIGEST);
            return Err(Failure::work(format!("{path} has {length} bytes and should have {whole}; remove it")));
        }
        let mut reader = BufReader::new(&file);
        let mut hash = Sha256::new();
        std::io::copy(&mut reader.by_ref().take(rows), &mut hash).context(path.display())?;
        let mut digest = [0; DIGEST as usize];
        reader.read_exact(&mut digest).context(path.display())?;
        if hash.finalize()[..] != digest {
            return Err(Failure::work(format!("{} is damaged: its hash is another; remove it", path.display())));
        }
        Ok(Some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(packing: Packing) -> Origin {
        Origin {
            teacher: "t".into(),
            forward: "f".into(),
            data: "d".into(),
            transform: "none".into(),
            seed: 0,
            batch_size: 2,
            rows: 4,
            classes: 3,
            packing,
        }
    }

    #[test]
    fn an_epoch_is_kept_whole_or_not_at_all() {
        let root = tempfile::TempDir::new().expect("a folder");
        let mut cache = TeacherCache::open(root.path(), origin(Packing::All)).expect("opens");
        let logits: Vec<f32> = (0..12).map(|i| i as f32 * 0.37).collect();
        cache.record(0, 0, &logits[..6]).expect("writes");
        assert_eq!(cache.rows(0, 0, 2).expect("reads"), None, "half an epoch is none");
        cache.record(0, 2, &logits[6..]).expect("writes");
        assert_eq!(cache.rows(0, 1, 2).expect("reads").as_deref(), Some(&logits[3..9]));
        // From the middle on, an epoch is not kept.
        cache.record(1, 2, &logits[6..]).expect("ignored");
        assert_eq!(cache.rows(1, 0, 2).expect("reads"), None);
        // Another run of the same finds it; another seed does not.
        let mut again = TeacherCache::open(root.path(), origin(Packing::All)).expect("opens");
        assert_eq!(again.rows(0, 0, 4).expect("reads").as_deref(), Some(&logits[..]));
        let other = Origin { seed: 1, ..origin(Packing::All) };
        assert_eq!(TeacherCache::open(root.path(), other).expect("opens").rows(0, 0, 4).expect("reads"), None);
        assert!(again.agrees(&logits, &logits));
        let wrong: Vec<f32> = logits.iter().map(|x| x * 1.5).collect();
        assert!(!again.agrees(&logits, &wrong));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let root = tempfile::TempDir::new().expect("a folder");
        let keep = |packing: Packing| {
            let mut cache = TeacherCache::open(root.path(), origin(packing)).expect("opens");
            cache.record(0, 0, &[0.5; 12]).expect("writes");
            cache
        };
        let folder = keep(Packing::All).folder;
        let path = folder.join("epoch-00000.logits");
        let good = fs::read(&path).expect("reads");
        let mut flipped = good.clone();
        flipped[7] ^= 1;
        for bad in [&good[..good.len() - 1], &flipped, &[]] {
            fs::write(&path, bad).expect("writes");
            let mut cache = TeacherCache::open(root.path(), origin(Packing::All)).expect("opens");
            let text = cache.rows(0, 0, 2).expect_err("damaged").to_string();
            assert!(text.contains("epoch-00000") && text.contains("remove it"), "{text}");
        }
        fs::write(folder.join("cache.json"), "{}").expect("writes");
        assert!(TeacherCache::open(root.path(), origin(Packing::All)).is_err());
    }
}
