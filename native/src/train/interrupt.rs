//! A person or a system that asks the process to stop.
//!
//! Ctrl-C, a polite kill and the end of a terminal all mean the same: save after the current step. They often come close
//! together, since wrappers and shells pass on what they get, so a second signal says nothing new. Only a second Ctrl-C,
//! pressed by a person who has seen that the first one was heard, ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Context, Result};
use crate::progress::complain;

/// What comes sooner after the first Ctrl-C is no second wish.
const APART: Duration = Duration::from_secs(1);

/// Set when the process is asked to stop.
#[derive(Clone)]
pub struct Interrupt(Arc<Flags>);

#[derive(Default)]
struct Flags {
    asked: AtomicBool,
    // Whether there is anything to save.
    armed: AtomicBool,
}

impl Interrupt {
    /// Listens; what comes before [`arm`](Self::arm) ends the process, which has nothing to save. On Unix
    /// [`hold`] has been called.
    ///
    /// # Errors
    /// If the system lets nobody listen.
    pub fn listen() -> Result<Self> {
        let flags = Arc::new(Flags::default());
        let mut asked = Asked { flags: flags.clone(), first: None };
        signals(move |keyboard| asked.hear(keyboard, Instant::now())).context("cannot listen for Ctrl-C")?;
        Ok(Self(flags))
    }

    /// From here on a wish to stop is one to save.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// One that nobody sets.
    pub fn never() -> Self {
        Self(Arc::default())
    }

    /// Whether the process was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }
}

struct Asked {
    flags: Arc<Flags>,
    // When Ctrl-C was pressed first.
    first: Option<Instant>,
}

impl Asked {
    // A signal came at `now`, from the keyboard or not. A second wish ends the process.
    fn hear(&mut self, keyboard: bool, now: Instant) {
        if self.is_second(keyboard, now) || !self.flags.armed.load(Ordering::SeqCst) {
            std::process::exit(130);
        }
        if !self.flags.asked.swap(true, Ordering::SeqCst) {
            complain("stopping after this step; press Ctrl-C again to stop without saving");
        }
    }

    fn is_second(&mut self, keyboard: bool, now: Instant) -> bool {
        keyboard && now.duration_since(*self.first.get_or_insert(now)) >= APART
    }
}

/// Keeps signals for the thread that listens for them. A thread inherits what is kept, so that this comes before the first is
/// started.
#[cfg(unix)]
pub fn hold() {
    // A process that cannot hold them back ends by them, as any other does.
    asked_by().thread_block().ok();
}

#[cfg(not(unix))]
pub fn hold() {}

// The signals that ask to stop.
#[cfg(unix)]
fn asked_by() -> nix::sys::signal::SigSet {
    use nix::sys::signal::Signal;

    let mut signals = nix::sys::signal::SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    // Under nohup a run outlives its terminal.
    if !ignores(Signal::SIGHUP as i32) {
        signals.add(Signal::SIGHUP);
    }
    signals
}

// Calls `heard` on a thread of its own for every signal, and says whether it came from the keyboard.
#[cfg(unix)]
fn signals(mut heard: impl FnMut(bool) + Send + 'static) -> std::io::Result<()> {
    let signals = asked_by();
    let listen = move || {
        while let Ok(signal) = signals.wait() {
            heard(signal == nix::sys::signal::Signal::SIGINT);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).map(drop)
}

// Whether the process was started with a signal ignored. Only Linux says so in a file.
#[cfg(unix)]
fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(not(unix))]
fn signals(mut heard: impl FnMut(bool) + Send + 'static) -> std::result::Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || heard(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_second_wish_of_a_person_is_one() {
        let mut asked = Asked { flags: Arc::default(), first: None };
        let start = Instant::now();
        let mut second =
            |keyboard, milliseconds| asked.is_second(keyboard, start + Duration::from_millis(milliseconds));
        assert!(!second(false, 0) && !second(true, 10));
        // Passed on by a wrapper, and a polite kill long after.
        assert!(!second(true, 40) && !second(false, 5_000));
        assert!(second(true, 1_010));
    }
}
