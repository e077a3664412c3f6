//! The run folder: what a training leaves behind. `weights.rs` reads its networks back.
//!
//! ```text
//! LOGDIR/NAME/
//!   recipe.toml                        the resolved recipe
//!   metrics.jsonl                      a line a step, a line a check on held-out data
//!   teacher|student|baseline.safetensors
//!   teacher|student|baseline-ema.safetensors   where a mean of the parameters is kept
//!   student|baseline-corrected.safetensors     where the biases of left-out classes are corrected
//!   result.json                        only in a finished run
//!   curves.svg
//!   state.json, checkpoint/            only in an unfinished run: what `--resume` needs
//! ```
//!
//! Every file appears whole or not at all: it is written beside its place, synced and renamed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::Which;
use crate::error::{Context, Failure, Result};

/// A run's folder, which exists.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// Which of a run's networks: also the name of its weights file and of its entry in `result.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The teacher.
    Teacher,
    /// The distilled, or only, student.
    Student,
    /// The student trained without a teacher.
    Baseline,
    /// The student trained on the teacher's hard answers.
    HardLabels,
    /// The student trained on the true labels of all samples.
    AllLabels,
}

impl Role {
    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
            Self::Baseline => "baseline",
            Self::HardLabels => "hard-labels",
            Self::AllLabels => "all-labels",
        }
    }
}

impl From<Which> for Role {
    fn from(which: Which) -> Self {
        match which {
            Which::Teacher => Self::Teacher,
            Which::Student => Self::Student,
            Which::Baseline => Self::Baseline,
            Which::HardLabels => Self::HardLabels,
            Which::AllLabels => Self::AllLabels,
        }
    }
}

impl RunFolder {
    /// The folder at a path, which need not be there.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Makes the folder of a new run: `name`, else the first free `STEM-001`, `STEM-002`, ...
    ///
    /// # Errors
    /// Exit code 2 if `name` is no plain folder name or is taken; 1 if the folder cannot be made.
    pub fn create(logdir: &Path, name: Option<&str>, stem: &str) -> Result<Self> {
        let name = name.map(plain_name).transpose()?;
        fs::create_dir_all(logdir).context(format_args!("cannot make the folder {}", logdir.display()))?;
        if let Some(name) = name {
            let path = logdir.join(name);
            return match fs::create_dir(&path) {
                Ok(()) => Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::usage(format!(
                    "the run {} exists already; choose another --name, or add --resume to go on with it",
                    path.display()
                ))),
                Err(error) => Err(Failure::work(format!("cannot make the run folder {}: {error}", path.display()))),
            };
        }
        for number in 1..100_000 {
            let path = logdir.join(format!("{stem}-{number:03}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Failure::work(format!("cannot make the run folder {}: {error}", path.display())));
                }
            }
        }
        Err(Failure::work(format!("{} holds too many runs; pass --name", logdir.display())))
    }

    /// The unfinished run to go on with: the one called `name`, else the one worked on last.
    ///
    /// # Errors
    /// Exit code 2 if there is none, or the named one is finished.
    pub fn unfinished(logdir: &Path, name: Option<&str>) -> Result<Self> {
        if let Some(name) = name {
            let run = Self { path: logdir.join(plain_name(name)?) };
            if !run.path.is_dir() {
                return Err(Failure::usage(format!("there is no run {} to resume", run.path.display())));
            }
            if run.file("result.json").exists() {
                return Err(Failure::usage(format!(
                    "the run {} is finished; there is nothing to resume",
                    run.path.display()
                )));
            }
            if !run.file("recipe.toml").exists() {
                return Err(Failure::usage(format!(
                    "{} holds no recipe.toml; it is no run to resume",
                    run.path.display()
                )));
            }
            return Ok(run);
        }
        let modified = |path: &Path| path.join("state.json").metadata().and_then(|m| m.modified()).ok();
        fs::read_dir(logdir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| !path.join("result.json").exists())
            .filter_map(|path| Some((modified(&path)?, path)))
            .max()
            .map(|(_, path)| Self { path })
            .ok_or_else(|| Failure::usage(format!("there is no unfinished run in {} to resume", logdir.display())))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The weights file of a network.
    pub fn weights(&self, role: Role) -> PathBuf {
        self.file(&format!("{}.safetensors", role.name()))
    }

    /// The weights file of the exponential mean of a network's parameters.
    pub fn average(&self, role: Role) -> PathBuf {
        self.file(&format!("{}-ema.safetensors", role.name()))
    }

    /// The weights file of a network with the biases of left-out classes corrected.
    pub fn corrected(&self, role: Role) -> PathBuf {
        self.file(&format!("{}-corrected.safetensors", role.name()))
    }

    /// Writes a JSON file whole.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).context(format_args!("cannot serialise {name}"))?;
        text.push('\n');
        write_whole(&self.file(name), text.as_bytes())
    }

    /// Reads a JSON file.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.file(name);
        let text = fs::read_to_string(&path).context(format_args!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).context(path.display())
    }
}

/// A run's name: one folder's name, never a path out of the log folder.
///
/// # Errors
/// Exit code 2 for another.
pub fn plain_name(name: &str) -> Result<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(_)), None) => Ok(name),
        _ => Err(Failure::usage(format!("--name {name:?} is no plain folder name"))),
    }
}

/// Writes a file whole: beside its place, synced, renamed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // Temporary files are private to their owner; what is kept is as readable as the umask lets any other file be.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).context(&doing)?;
    file.write_all(bytes).context(&doing)?;
    file.as_file().sync_all().context(&doing)?;
    file.persist(path).context(&doing)?;
    sync_folder(folder)
}

/// Makes the names in a folder survive a power cut. Only Unix can sync a folder; elsewhere this does nothing.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.context(format_args!("cannot write {}", folder.display()))?;
    }
    Ok(())
}
