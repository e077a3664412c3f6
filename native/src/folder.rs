//! A folder of figures: of a run, of a group of runs, or of a sweep. Whoever looks at one works in it no further.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Result};
use crate::recipe::Recipe;
use crate::run::{RunFolder, write_whole};

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
    /// As [`RunFolder::create`].
    pub fn create(logdir: &Path, name: Option<&str>, stem: &str) -> Result<Self> {
        RunFolder::create(logdir, name, stem).map(|folder| Self::at(folder.path()))
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
