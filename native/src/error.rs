//! How the command ends when something is wrong: one line for the person, an exit code for the script.

use std::fmt;

/// A failed command: 2 where the command line or the recipe is wrong, 1 where the work itself failed.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

/// The result of everything that can fail in this crate.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// What was asked for makes no sense: exit code 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// What was asked for could not be done: exit code 1.
    pub fn work(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// The run was interrupted and saved: 130, as shells report an interrupt.
    pub fn interrupted(message: impl fmt::Display) -> Self {
        Self { code: 130, message: message.to_string() }
    }

    /// The same failure; if it is an interruption, with `command` to go on by, since what was interrupted is part of more.
    pub fn resumed_by(self, command: &str) -> Self {
        if self.code == 130 { Self::interrupted(format!("stopped and saved; go on with: {command}")) } else { self }
    }

    /// The same failure, said of `place`.
    pub fn at(self, place: &str) -> Self {
        Self { code: self.code, message: format!("{place}: {}", self.message) }
    }

    /// The process's exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a library's message holds.
        f.write_str(&self.message.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Attaches what was being done, and to what, to a failed piece of work.
pub trait Context<T> {
    /// Fails with exit code 1 and `doing: error`.
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::work(format!("{doing}: {error}")))
    }
}
