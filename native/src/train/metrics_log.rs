//! `metrics.jsonl`: a line a step and a line a check, appended as they come.
//!
//! A checkpoint says how far the log had come and what its SHA-256 was then, so that a resumed run keeps the very bytes that
//! belong to it. Where they have changed, whole lines are kept as they are and what is dropped is said: a damaged log is no
//! reason to stop a training.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Context, Result};
use crate::report::hex;
use crate::run::{Role, read_if_there, sha256, write_whole};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A check on held-out data.
    Check(Check),
    /// A training step that was not finite.
    Bad(Bad),
    /// A training step.
    Step(Step),
}

impl Line {
    /// Which network it is about, and after how many of its steps.
    pub fn place(&self) -> (Role, u64) {
        match self {
            Self::Check(check) => (check.stage, check.step),
            Self::Bad(bad) => (bad.stage, bad.step),
            Self::Step(step) => (step.stage, step.step),
        }
    }
}

/// A training step: the loss, each term before its weight, and the learning rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Which network.
    pub stage: Role,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// Its step, from 1.
    pub step: u64,
    /// Learning rate of the step.
    pub lr: f64,
    /// The weighted sum.
    pub loss: f32,
    /// Each term by name.
    pub terms: Map<String, Value>,
}

/// A training step whose loss or gradient is not finite. It ended the run, or was skipped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bad {
    /// Which network.
    pub stage: Role,
    /// Its epoch, from 1.
    pub epoch: u64,
    /// Its step, from 1.
    pub step: u64,
    /// The value that is not finite, in words.
    pub fault: String,
    /// The samples of the step, by their index in the training set.
    pub samples: Vec<u64>,
}

/// A check on held-out data after an epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Which network.
    pub stage: Role,
    /// Epochs done.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// Fraction of held-out samples that are right.
    pub held_out_accuracy: f64,
    /// Mean cross-entropy on them, in nats.
    pub held_out_loss: f64,
    /// How many were checked.
    pub samples: u64,
}

/// How far a log had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of that many bytes.
    pub sha256: String,
}

/// The open log of a run.
pub struct MetricsLog {
    file: BufWriter<File>,
    bytes: u64,
    hash: Sha256,
}

impl MetricsLog {
    /// Opens the log at `path` and drops the lines that a resumed run will write again: what comes after `mark`, or where
    /// there is no mark or the log has changed, those for which `keep` is false and those that cannot be read. With it comes
    /// what a person must know of that.
    ///
    /// # Errors
    /// If the log cannot be read or written.
    pub fn open(path: &Path, mark: Option<&Mark>, keep: impl Fn(&Line) -> bool) -> Result<(Self, Option<String>)> {
        let found = read_if_there(path)?;
        let (kept, note) = kept(found.as_deref(), mark, keep);
        if found.as_ref().is_some_and(|found| *found != kept) {
            write_whole(path, &kept)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.context(format_args!("cannot open {}", path.display()))?;
        let log = Self { file: BufWriter::new(file), bytes: kept.len() as u64, hash: Sha256::new_with_prefix(&kept) };
        Ok((log, note))
    }

    /// Appends one line.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line).context("cannot write metrics.jsonl")?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).context("cannot write metrics.jsonl")?;
        self.bytes += text.len() as u64;
        self.hash.update(&text);
        Ok(())
    }

    /// Makes everything written so far visible to readers.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().context("cannot write metrics.jsonl")
    }

    /// Brings everything written so far to the disk, and says how far that is.
    pub fn mark(&mut self) -> Result<Mark> {
        self.flush()?;
        self.file.get_ref().sync_data().context("cannot write metrics.jsonl")?;
        Ok(Mark { bytes: self.bytes, sha256: hex(&self.hash.clone().finalize()) })
    }
}

// What of a log belongs to where the run stands, and what is to be said of the rest.
fn kept(found: Option<&[u8]>, mark: Option<&Mark>, keep: impl Fn(&Line) -> bool) -> (Vec<u8>, Option<String>) {
    let Some(found) = found else {
        let lost = mark.filter(|mark| mark.bytes > 0);
        return (Vec::new(), lost.map(|_| "metrics.jsonl is missing; a new one is begun".to_owned()));
    };
    if let Some(mark) = mark
        && let Some(whole) = usize::try_from(mark.bytes).ok().and_then(|bytes| found.get(..bytes))
        && sha256(whole) == mark.sha256
    {
        let rest = found[whole.len()..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        return (whole.to_vec(), (rest > 0).then(|| again(rest)));
    }
    let (mut kept, mut unread, mut later) = (Vec::new(), 0, 0);
    for line in found.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(read) if line.ends_with(b"\n") => {
                if keep(&read) {
                    kept.extend_from_slice(line);
                } else {
                    later += 1;
                }
            }
            _ if line.ends_with(b"\n") => unread += 1,
            // Cut short when the process ended.
            _ => later += 1,
        }
    }
    let note = match (mark, unread) {
        (None, 0) => (later > 0).then(|| again(later)),
        (None, _) => Some(format!("metrics.jsonl is damaged: {unread} lines that cannot be read are dropped")),
        (Some(_), _) => Some(format!(
            "metrics.jsonl has changed since it was written: {unread} lines that cannot be read are dropped, \
             and the figures of the others may have changed"
        )),
    };
    (kept, note)
}

fn again(lines: usize) -> String {
    format!("metrics.jsonl: {lines} lines after the checkpoint are dropped; their steps are taken again")
}

/// Reads every whole line of a log.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let bytes = read_if_there(path)?.unwrap_or_default();
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> String {
        // More digits than a number keeps on its way through f32.
        format!(
            "{{\"stage\":\"student\",\"epoch\":1,\"step\":{step},\"lr\":0.30000000000000004,\"loss\":2.10,\"terms\":{{}}}}\n"
        )
    }

    #[test]
    fn what_is_kept_keeps_its_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let text = [step(1), step(2), step(3), "{\"stage\":\"stu".to_owned()].concat();
        std::fs::write(&path, &text).expect("written");
        let (two, keep) = ([step(1), step(2)].concat(), |line: &Line| line.place().1 < 3);
        let mark = Mark { bytes: two.len() as u64, sha256: sha256(&two) };
        let (mut log, note) = MetricsLog::open(&path, Some(&mark), keep).expect("opens");
        assert!(note.is_some_and(|note| note.contains("2 lines after")));
        assert_eq!(log.mark().expect("synced"), mark);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), two);
        // Without a mark, as in runs of before.
        std::fs::write(&path, &text).expect("written");
        let (_, note) = MetricsLog::open(&path, None, keep).expect("opens");
        assert!(note.is_some_and(|note| note.contains("2 lines after")));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), two);
        // A damaged line is dropped, and said.
        let damaged = text.replacen("\"epoch\"", "\"epoc\u{fffd}", 1);
        std::fs::write(&path, &damaged).expect("written");
        let (mut log, note) = MetricsLog::open(&path, Some(&mark), keep).expect("opens");
        assert!(note.is_some_and(|note| note.contains("1 lines")));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), step(2));
        assert_eq!(log.mark().expect("synced").sha256, sha256(step(2)));
        std::fs::remove_file(&path).expect("removed");
        assert!(
            MetricsLog::open(&path, Some(&mark), keep).expect("opens").1.is_some_and(|note| note.contains("missing"))
        );
    }
}
