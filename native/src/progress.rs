//! Progress of long work: a bar on a terminal, plain lines anywhere else.

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Context, Result};
use crate::words::plain_lines;

/// Says a line to whoever watches. A reader that went away (`| head`) is no reason to lose the work: it is not an error.
pub fn say(line: impl std::fmt::Display) {
    writeln!(std::io::stdout(), "{}", plain_lines(&line.to_string())).ok();
}

/// Prints a line for which the command was run.
///
/// # Errors
/// If it cannot be written; a reader that has read enough is none.
pub fn print(line: impl std::fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", plain_lines(&line.to_string())) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a line to standard error. There is nowhere to say that it cannot be written.
pub fn complain(line: impl std::fmt::Display) {
    writeln!(std::io::stderr(), "{}", plain_lines(&line.to_string())).ok();
}

/// Progress of one piece of work with a known number of steps.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts at `done` of `total` steps; `what` stands before the bar.
    pub fn start(what: &str, total: u64, done: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_position(done).with_prefix(what.to_owned());
            let style =
                ProgressStyle::with_template("{prefix:>9} {wide_bar} {pos}/{len} {msg} [{elapsed} / {eta} left]");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar }
    }

    /// Moves to `done` steps with a short message.
    pub fn at(&self, done: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
        }
    }

    /// Prints a line that stays.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
