//! Copies the WGSL texts without their comments, a third of them, which a page would have to load.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    // A published package holds a copy of its own.
    let own = Path::new("shaders");
    let folder = if own.exists() { own } else { Path::new("../shaders") };
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.expect("an entry of the folder").path()) {
        let (Some(name), true) = (path.file_name(), path.extension().is_some_and(|ending| ending == "wgsl")) else {
            continue;
        };
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let to = out.join(name);
        fs::write(&to, without_comments(&text)).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    }
}

/// Keeps the rules of the template, `//@`. WGSL has no strings, so two slashes begin a comment wherever there is none of the
/// other kind.
fn without_comments(text: &str) -> String {
    assert!(!text.contains("/*"), "comments are by line");
    let mut kept = String::new();
    for line in text.lines() {
        let rule = line.trim_start().starts_with("//@");
        let line = if rule { line } else { line.split("//").next().unwrap_or_default() }.trim_end();
        if !line.is_empty() {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}
