//! One process at a time in a folder.
//!
//! Two processes that train into one run would delete each other's checkpoints. The lock is the operating system's, on a
//! file that stays: it ends with the process that holds it, however that ends, so that nobody has to clear it up. The file
//! holds the process's number for people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Context, Failure, Result};

/// The file that is locked.
pub const NAME: &str = ".lock";

/// A folder that this process alone works in, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What came of trying to lock a folder.
#[derive(Debug)]
pub enum Attempt {
    /// It is this process's.
    Ours(Lock),
    /// Another process works in it; its number, where that can be read.
    Of(Option<u32>),
}

impl Attempt {
    /// The lock of the folder `path`, which another process must not hold.
    ///
    /// # Errors
    /// Exit code 2 with the other process's number.
    pub fn ours(self, path: &Path) -> Result<Lock> {
        match self {
            Self::Ours(lock) => Ok(lock),
            Self::Of(owner) => {
                let owner = owner.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                Err(Failure::usage(format!(
                    "{owner} is at work in {}; wait until it ends, or take another --name",
                    path.display()
                )))
            }
        }
    }
}

/// Tries to lock a folder.
///
/// # Errors
/// If the file to lock cannot be made there.
pub fn attempt(folder: &Path) -> Result<Attempt> {
    let path = folder.join(NAME);
    let doing = format!("cannot lock {}", path.display());
    let mut file = open(&path).context(&doing)?;
    match file.try_lock() {
        Ok(()) => {
            let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            written.context(&doing)?;
            Ok(Attempt::Ours(Lock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Some systems let nobody read a locked file.
            let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
            Ok(Attempt::Of(read.ok().and_then(|_| text.trim().parse().ok())))
        }
        // A file system without locks has none to keep to.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            Ok(Attempt::Ours(Lock { _file: file }))
        }
        Err(TryLockError::Error(error)) => Err(Failure::work(format!("{doing}: {error}"))),
    }
}

/// Opens a folder's lock file, and makes it where it is not there.
pub fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_processs_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = attempt(folder.path()).expect("can be locked").ours(folder.path()).expect("free");
        // Another handle is another owner, in this process too.
        let failure = attempt(folder.path()).expect("can be tried").ours(folder.path()).expect_err("taken");
        let pid = format!("process {}", std::process::id());
        assert!(failure.code() == 2 && failure.to_string().contains(&pid), "{failure}");
        drop(first);
        attempt(folder.path()).expect("can be locked").ours(folder.path()).expect("free again");
    }
}
