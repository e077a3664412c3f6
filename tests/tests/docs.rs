//! The documents point at files that exist, and name every method and recipe.

use std::path::{Path, PathBuf};

use potstill_core::method::methods;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a document's links point at, without those to other places of the net and to headings.
fn links(document: &str) -> Vec<&str> {
    let ends = document.match_indices("](").map(|(start, _)| &document[start + 2..]);
    let targets = ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

/// The documents of the repository, from its root.
fn documents() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a name").path();
            match path.is_dir() {
                true => below(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = ["README.md", "CONTRIBUTING.md", "web/weights/README.md"].map(|name| root().join(name)).to_vec();
    below(&root().join("docs"), &mut found);
    found.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    found
}

#[test]
fn every_link_of_the_documents_is_to_a_file_that_exists() {
    let mut found = 0;
    for document in documents() {
        let folder = document.parent().expect("a folder");
        let text = text(&document);
        for target in links(&text) {
            assert!(folder.join(target).exists(), "{} points at {target}, which does not exist", document.display());
            found += 1;
        }
    }
    assert!(found > 50, "{found} links");
}

#[test]
fn every_method_has_its_row() {
    let document = text(&root().join("docs/methods.md"));
    for method in methods() {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{}` |", method.name)));
        let row = row.unwrap_or_else(|| panic!("docs/methods.md has no row for {}", method.name));
        for place in ["core/src/method/", "core/tests/methods/", "recipes/"] {
            assert!(row.contains(place), "the row of {} names no file in {place}", method.name);
        }
    }
}
