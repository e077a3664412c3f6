//! A folder of figures: of a run, of a group of runs, or of a sweep; and how files come into one.
//!
//! Every file appears whole or not at all: it is written beside its place, synced and renamed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Failure, Result};
use crate::recipe::Recipe;

/// A folder, by its path.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A folder that need not exist.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Makes a new folder: `name`, else the first free `STEM-001`, `STEM-002`, ...
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

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path, from wherever the command is run.
    pub fn absolute(&self) -> PathBuf {
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The folder that it is in.
    pub fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Whether there is such a file in it.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).is_file()
    }

    /// Whether it is that of a finished run.
    pub fn is_finished(&self) -> bool {
        self.has("result.json")
    }

    /// Whether it is that of a run, finished or not.
    pub fn is_run(&self) -> bool {
        self.has("recipe.toml")
    }

    /// Writes a JSON file whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).context(format_args!("cannot serialise {name}"))?;
        text.push('\n');
        write_whole(&self.file(name), text.as_bytes())
    }

    /// Reads a JSON file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.file(name);
        let text = fs::read_to_string(&path).context(format_args!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).context(path.display())
    }

    /// Writes a resolved recipe.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_recipe(&self, recipe: &Recipe) -> Result<()> {
        let text = toml::to_string(recipe).context("cannot serialise the recipe")?;
        write_whole(&self.file("recipe.toml"), text.as_bytes())
    }

    /// The resolved recipe.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn recipe(&self) -> Result<Recipe> {
        let path = self.file("recipe.toml");
        let text = fs::read_to_string(&path).context(format_args!("cannot read {}", path.display()))?;
        Recipe::from_resolved(&text).context(path.display())
    }

    /// Removes a folder in it, if it is there.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(format_args!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
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
