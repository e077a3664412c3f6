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

#[test]
fn every_link_of_the_documents_is_to_a_file_that_exists() {
    let documents = ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/benchmarks.md", "docs/methods.md"];
    for document in documents {
        let path = root().join(document);
        let folder = path.parent().expect("a folder").to_owned();
        let text = text(&path);
        let found = links(&text);
        assert!(document == "docs/benchmarks.md" || !found.is_empty(), "{document} has links");
        for target in found {
            assert!(folder.join(target).exists(), "{document} points at {target}, which does not exist");
        }
    }
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
