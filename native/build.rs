//! Tells the command which commit it is built from, for the results that it writes. Without git it does not know.

use std::process::Command;

fn main() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
    };
    println!("cargo::rerun-if-changed=build.rs");
    // The reflog has a line for every commit that is checked out.
    if let Some(path) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Some(commit) = git(&["describe", "--always", "--abbrev=12", "--exclude=*"]) {
        println!("cargo::rustc-env=POTSTILL_COMMIT={commit}");
    }
}
