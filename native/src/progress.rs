//! Progress of long work: a bar on a terminal, plain lines anywhere else.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line to standard output. A reader that went away (`| head`) is no reason to lose the work: it is not an error.
pub fn say(line: impl std::fmt::Display) {
    writeln!(std::io::stdout(), "{line}").ok();
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
