//! A folder to run the command in.

#![allow(dead_code, reason = "each file of tests uses its own part of this")]

pub mod mnist;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A temporary folder, with an empty one in it from which the command is run.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: TempDir::new().expect("a temporary folder") };
        fs::create_dir(place.path("cwd")).expect("makes");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        fs::write(path, bytes).expect("writes");
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).expect("reads")).expect("JSON")
    }

    /// Every file below the place with its bytes.
    pub fn contents(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("lists") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path.clone());
                    found.insert(path, None);
                } else {
                    found.insert(path.clone(), fs::read(path).ok());
                }
            }
        }
        found
    }

    /// Splits a line at blanks, puts this place where it says `@`, and prepares the command in an empty folder.
    pub fn command(&self, line: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_potstill"));
        let root = self.folder.path().display().to_string();
        command.args(line.split_whitespace().map(|word| word.replace('@', &root))).args(more);
        // A layer of Mesa's Vulkan that has nothing to do with the command complains where there is no desktop session.
        command.current_dir(self.path("cwd")).stdin(Stdio::null()).env("NODEVICE_SELECT", "1");
        command
    }

    pub fn run(&self, line: &str, more: &[&str]) -> Output {
        self.command(line, more).output().expect("the command starts")
    }

    /// Runs what must succeed and returns what it printed.
    pub fn good(&self, line: &str, more: &[&str]) -> String {
        let output = self.run(line, more);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{line}\n{out}\n{err}");
        assert_eq!(err, "", "{line} complained");
        out
    }

    /// What a command printed that must succeed; graphics drivers may say what they like on the error stream.
    pub fn run_out(&self, line: &str) -> String {
        let output = self.run(line, &[]);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{line}\n{out}\n{err}");
        out
    }
}

/// What a command said on its two streams.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The JSON of each line.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// The values of a weights file, without the header, whose entries have no order.
pub fn tensors(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[8 + header..].to_vec()
}
