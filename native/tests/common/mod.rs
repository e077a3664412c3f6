//! A folder to run the command in.

use std::path::PathBuf;
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
        std::fs::create_dir(place.path("cwd")).expect("makes");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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
