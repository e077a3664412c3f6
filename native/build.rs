//! Tells the command which commit it is built from, for the results that it writes (without git it does not know), and
//! lists the recipes that ship with it: every file of `recipes/`.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The recipes that a data set starts from; they come first.
const STARTS: [&str; 5] = ["digits", "mnist", "mnist-1000", "pictures", "pictures-few"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    commit();
    recipes()
}

fn commit() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
    };
    // The reflog has a line for every commit that is checked out.
    if let Some(path) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Some(commit) = git(&["describe", "--always", "--abbrev=12", "--exclude=*"]) {
        println!("cargo::rustc-env=POTSTILL_COMMIT={commit}");
    }
}

fn recipes() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes").canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort_by_key(|name| (STARTS.iter().position(|start| start == name).unwrap_or(STARTS.len()), name.clone()));
    let mut list = String::from("&[");
    for name in names {
        let path = folder.join(format!("{name}.toml"));
        write!(list, "Shipped {{ name: {name:?}, text: include_str!({:?}) }},", path.display().to_string())?;
    }
    list.push(']');
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("recipes.rs"), list)?;
    Ok(())
}
