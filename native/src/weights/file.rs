//! Weights files of any kind as named tensors: safetensors, PyTorch's own, and either in shards.
//!
//! Invariants: what is allocated is bounded by the files' own sizes; a shard lies beside its index and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use potstill_core::weights::{self, Metadata, NamedTensor};
use serde::Deserialize;

use super::pytorch;
use crate::error::{Context, Failure, Result};

/// Most bytes of an index: a name and a file a tensor.
pub const MAX_JSON: u64 = 64 << 20;

/// What a folder of a hub calls its weights, the better first.
const IN_FOLDERS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// The weights in a folder as Hugging Face and timm lay it out, if it is one.
pub fn in_folder(folder: &Path) -> Option<PathBuf> {
    IN_FOLDERS.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Whether a file has one of the names under which a hub has weights, alone or in shards: what lies beside it is of it.
pub fn is_of_hub(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    IN_FOLDERS.contains(&&*name)
}

/// Reads a weights file or an index of shards, all of it or nothing.
///
/// # Errors
/// Exit code 1 with the file's name.
pub fn read(path: &Path) -> Result<(Vec<NamedTensor>, Metadata)> {
    let doing = || format!("cannot read the weights {}", path.display());
    let found = fs::metadata(path).context(doing())?;
    if found.is_dir() {
        return Err(Failure::work(format!("{} is a folder without weights in it; name a file", path.display())));
    }
    if path.extension().is_some_and(|extension| extension == "json") {
        return shards(path);
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(256).read_to_end(&mut start)).context(doing())?;
    if let Some(what) = stranger(&start) {
        return Err(Failure::work(format!("{}: {what}", doing())));
    }
    if pytorch::is_pytorch(path)? {
        return Ok((pytorch::read(path)?, Metadata::new()));
    }
    weights::from_safetensors(&fs::read(path).context(doing())?).context(path.display())
}

/// What a file is that only bears the name of weights.
fn stranger(start: &[u8]) -> Option<&'static str> {
    match start {
        [] => Some("it is empty; fetch it again"),
        _ if start.starts_with(b"version https://git-lfs") => {
            Some("it is Git LFS's note of the weights and not they themselves; run git lfs pull, or download them")
        }
        _ if start.trim_ascii_start().first() == Some(&b'<') => {
            Some("it is a web page; the address was of a page about the weights, or wants a login")
        }
        _ if start.starts_with(b"\x89HDF") => {
            Some("it is HDF5, as Keras writes it, which is not read; export safetensors")
        }
        _ => None,
    }
}

/// Which shard holds each tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn shards(path: &Path) -> Result<(Vec<NamedTensor>, Metadata)> {
    let fail = |reason: String| Failure::work(format!("cannot read the weights {}: {reason}", path.display()));
    let index: Index = serde_json::from_slice(&bounded(path)?)
        .map_err(|error| fail(format!("it is no index of shards ({error}); name the weights themselves")))?;
    let mut tensors = Vec::new();
    for shard in index.weight_map.values().collect::<BTreeSet<_>>() {
        if Path::new(shard).file_name().is_none_or(|name| name != shard.as_str()) {
            return Err(fail(format!("its shard {shard:?} is no plain file name")));
        }
        tensors.extend(read(&path.with_file_name(shard))?.0);
    }
    let held: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let missing = |name: &&String| !held.contains(name.as_str()) && !name.ends_with("num_batches_tracked");
    if let Some(name) = index.weight_map.keys().find(missing) {
        return Err(fail(format!("its shards do not hold {name}; fetch them again")));
    }
    Ok((tensors, Metadata::new()))
}

/// A JSON file's bytes.
pub fn bounded(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_JSON + 1).read_to_end(&mut bytes));
    read.context(format_args!("cannot read {}", path.display()))?;
    match bytes.len() as u64 > MAX_JSON {
        true => Err(Failure::work(format!("{} is larger than {} MiB", path.display(), MAX_JSON >> 20))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, value: f32) -> NamedTensor {
        NamedTensor { name: name.to_owned(), shape: vec![1], values: vec![value] }
    }

    fn shard(folder: &Path, name: &str, tensors: &[NamedTensor]) {
        let bytes = weights::to_safetensors(tensors, Metadata::new()).expect("a file");
        fs::write(folder.join(name), bytes).expect("writes");
    }

    #[test]
    fn shards_are_read_together_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        shard(folder.path(), "one.safetensors", &[tensor("a", 1.0)]);
        shard(folder.path(), "two.safetensors", &[tensor("b", 2.0)]);
        let index = folder.path().join("model.safetensors.index.json");
        let write =
            |map: &str| fs::write(&index, format!("{{\"metadata\":{{}},\"weight_map\":{map}}}")).expect("writes");
        write(r#"{"a":"one.safetensors","b":"two.safetensors"}"#);
        assert_eq!(in_folder(folder.path()), Some(index.clone()));
        assert_eq!(read(&index).expect("reads").0, [tensor("a", 1.0), tensor("b", 2.0)]);
        for (map, said) in [
            (r#"{"a":"one.safetensors","c":"two.safetensors"}"#, "do not hold c"),
            (r#"{"a":"three.safetensors"}"#, "three.safetensors"),
            (r#"{"a":"../one.safetensors"}"#, "no plain file name"),
            (r#"{"a":".."}"#, "no plain file name"),
            ("3", "no index"),
        ] {
            write(map);
            let failure = read(&index).expect_err(map);
            assert!(failure.code() == 1 && failure.to_string().contains(said), "{failure}");
        }
    }

    #[test]
    fn what_is_no_weights_says_what_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.pth");
        for (bytes, said) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"\x89HDF\r\n", "HDF5"),
        ] {
            fs::write(&path, bytes).expect("writes");
            let text = read(&path).expect_err(said).to_string();
            assert!(text.contains(said) && text.contains("model.pth"), "{text}");
        }
        assert_eq!(read(folder.path()).expect_err("a folder").code(), 1);
    }
}
