//! What comes with the page beside its program: `weights/manifest.json` lists networks, and the sample pictures for them.
//!
//! Whoever puts a student of their own on a page edits that file; see `docs/own-student.md`.

use std::cell::RefCell;

use serde::Deserialize;

use crate::files;

/// The manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shelf {
    /// The teacher of the Distil view, relative to the page.
    pub teacher: String,
    /// Networks of the Classify view.
    #[serde(default)]
    pub classifiers: Vec<Classifier>,
}

/// A network of the Classify view.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// In the list.
    pub name: String,
    /// The weights, relative to the page.
    pub file: String,
    /// What it was trained on and how well it does.
    #[serde(default)]
    pub about: String,
    /// One a class, where the file has none.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Pictures to try, relative to the page.
    #[serde(default)]
    pub samples: Vec<Sample>,
}

/// A picture to try.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Relative to the page.
    pub file: String,
    /// What it shows.
    pub name: String,
}

const MANIFEST: &str = "weights/manifest.json";

thread_local! {
    static SHELF: RefCell<Option<Shelf>> = const { RefCell::new(None) };
}

/// Reads the manifest, once.
pub async fn shelf() -> Result<Shelf, String> {
    if let Some(shelf) = SHELF.with_borrow(Clone::clone) {
        return Ok(shelf);
    }
    let buffer = files::fetch(MANIFEST, "the list of networks", files::LARGEST_DATA).await?;
    let shelf: Shelf = serde_json::from_slice(&files::bytes(&buffer))
        .map_err(|error| format!("{MANIFEST} is not understood: {error}"))?;
    SHELF.set(Some(shelf.clone()));
    Ok(shelf)
}
