//! Picture files, read for a network or a data set.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

use potstill_core::data::{DecodeError, Decoding, Picture, decode};

/// Most bytes of a picture's file.
const MAX_FILE: u64 = 256 << 20;

/// Reads and decodes a picture to red, green and blue.
///
/// # Errors
/// With the reason alone. A pipe or a device is refused without being opened, and a decoder that panics is an error.
pub fn load(path: &Path, how: Decoding) -> Result<Picture<'static>, String> {
    let text = |error: std::io::Error| error.to_string();
    if !fs::metadata(path).map_err(text)?.is_file() {
        return Err("it is no plain file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(text)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {} MiB", MAX_FILE >> 20));
    }
    match quietly(|| decode(&bytes, how)) {
        Some(Ok(picture)) => Ok(picture),
        Some(Err(DecodeError::Damaged(reason))) if !how.allow_truncated => {
            Err(format!("{reason}; --allow-truncated reads it as far as it goes"))
        }
        Some(Err(error)) => Err(error.to_string()),
        None => Err("its decoder failed; convert it with another program".to_owned()),
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; `None` if it panics, which is then not reported: decoders of other people's files have faults that no check
/// before them finds, and the caller says which file it was.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_is_an_error_of_its_thread_alone() {
        assert_eq!(quietly(|| 3), Some(3));
        assert_eq!(quietly(|| panic!("a decoder's fault")), None::<()>);
        assert!(!QUIET.get());
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe.png");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            assert_eq!(load(path, Decoding::default()).expect_err("refused"), "it is no plain file");
        }
    }
}
