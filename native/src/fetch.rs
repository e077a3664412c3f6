//! Downloads: the official files of data sets, which `dataset` lists, checked against their publishers' checksums.
//!
//! A file is downloaded beside its place (`NAME.part`), which a later call goes on with, and takes its name only when its
//! checksum is right. An archive is unpacked into a temporary folder which takes its name when all of it is there. Of an
//! archive only plain files under its own top folder are taken; a link, an absolute path or `..` ends it with an error.
//!
//! `POTSTILL_FETCH_BASE` names another address to download from, such as a mirror: the files' own names are appended.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use flate2::bufread::GzDecoder;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::error::{Context, Failure, Result};
use crate::progress::{Progress, say};

const BASE: &str = "POTSTILL_FETCH_BASE";
/// Most bytes of a download: the largest official file has 345 MB.
const MAX_DOWNLOAD: u64 = 2 << 30;
/// Most bytes and files of an archive once unpacked.
const MAX_UNPACKED: u64 = 4 << 30;
const MAX_FILES: usize = 100_000;

/// What tells a whole file from a damaged one, in hexadecimal digits.
pub enum Checksum {
    /// MD5 of the file.
    Md5(&'static str),
    /// SHA-256 of what a gzip file holds: mirrors wrap MNIST's files differently.
    Inner(&'static str),
}

/// An official file.
pub struct Remote {
    name: &'static str,
    checksum: Checksum,
    /// The folder that the archive holds, where it is one.
    unpacks: Option<&'static str>,
}

/// Where a data set's official files are.
pub struct Source {
    /// The address that the files' names are appended to.
    pub base: &'static str,
    /// The files.
    pub files: &'static [Remote],
}

/// A file that is kept as it comes.
pub const fn file(name: &'static str, checksum: Checksum) -> Remote {
    Remote { name, checksum, unpacks: None }
}

/// A compressed archive of one folder, with its MD5.
pub const fn archive(name: &'static str, md5: &'static str, folder: &'static str) -> Remote {
    Remote { name, checksum: Checksum::Md5(md5), unpacks: Some(folder) }
}

/// Brings the files of a data set into `folder`; what is there already is kept.
///
/// # Errors
/// Exit code 1 with what to put where if a file cannot be had or is not the official one.
pub fn fetch(source: &Source, folder: &Path) -> Result<()> {
    let base = std::env::var(BASE).unwrap_or_else(|_| source.base.to_owned());
    fs::create_dir_all(folder).context(format_args!("cannot make the folder {}", folder.display()))?;
    for remote in source.files {
        let path = folder.join(remote.name);
        if let Some(top) = remote.unpacks
            && folder.join(top).is_dir()
        {
            say(format_args!("{} is there already", folder.join(top).display()));
            continue;
        }
        if path.is_file() {
            check(&path, &remote.checksum)
                .map_err(|fault| Failure::work(format!("{}: {fault}; remove it and fetch it again", path.display())))?;
            say(format_args!("{} is there already", path.display()));
        } else {
            let url = format!("{}/{}", base.trim_end_matches('/'), remote.name);
            download(&url, &path, &remote.checksum)?;
            say(format_args!("{} fetched", path.display()));
        }
        if let Some(top) = remote.unpacks {
            unpack(&path, folder, top)?;
            say(format_args!("{} unpacked", folder.join(top).display()));
        }
    }
    Ok(())
}

/// Downloads to `path`, going on where an earlier download ended.
fn download(url: &str, path: &Path, checksum: &Checksum) -> Result<()> {
    let part = path.with_file_name(format!("{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
    let fail = |reason: String| {
        Failure::work(format!(
            "cannot fetch {url}: {reason}; or download it otherwise and put it at {}",
            path.display()
        ))
    };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut have = part.metadata().map_or(0, |meta| meta.len());
    let ask = |from: u64| {
        let request = agent.get(url);
        let request = if from > 0 { request.header("Range", format!("bytes={from}-")) } else { request };
        request.call().map_err(|error| fail(error.to_string()))
    };
    let mut response = ask(have)?;
    if have > 0 && response.status() == 416 {
        // There is nothing beyond what we have: it is whole, or it is not the file's beginning.
        if check(&part, checksum).is_ok() {
            return fs::rename(&part, path).context(format_args!("cannot write {}", path.display()));
        }
        have = 0;
        response = ask(0)?;
    }
    match response.status().as_u16() {
        206 if have > 0 => {}
        // The server begins anew.
        200 => have = 0,
        status => return Err(fail(format!("the server says {status}"))),
    }
    let expected = response.body().content_length().map(|rest| have + rest);
    let most = expected.unwrap_or(MAX_DOWNLOAD).min(MAX_DOWNLOAD);
    let writing = format!("cannot write {}", part.display());
    let mut file = match have {
        0 => File::create(&part),
        _ => OpenOptions::new().append(true).open(&part),
    }
    .context(&writing)?;
    let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let progress = Progress::start(&what, most, have);
    let mut reader = response.body_mut().as_reader().take(MAX_DOWNLOAD.saturating_sub(have) + 1);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                file.flush().ok();
                return Err(fail(format!("the connection broke after {have} bytes ({error}); call it again to go on")));
            }
        };
        file.write_all(&buffer[..read]).context(&writing)?;
        have += read as u64;
        progress.at(have, String::new);
    }
    file.sync_all().context(&writing)?;
    drop(progress);
    match expected {
        Some(expected) if have < expected => {
            return Err(fail(format!("{have} of {expected} bytes came; call it again to go on")));
        }
        _ if have > MAX_DOWNLOAD => {
            fs::remove_file(&part).ok();
            return Err(fail(format!("it is larger than {} MiB", MAX_DOWNLOAD >> 20)));
        }
        _ => {}
    }
    if let Err(fault) = check(&part, checksum) {
        fs::remove_file(&part).ok();
        return Err(fail(fault));
    }
    fs::rename(&part, path).context(format_args!("cannot write {}", path.display()))
}

/// Compares a file with its published checksum.
fn check(path: &Path, checksum: &Checksum) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let reader = BufReader::new(File::open(path).map_err(text)?);
    let (found, expected) = match checksum {
        Checksum::Md5(expected) => (digest::<Md5>(reader).map_err(text)?, expected),
        Checksum::Inner(expected) => {
            let inner = GzDecoder::new(reader).take(MAX_DOWNLOAD);
            (digest::<Sha256>(inner).map_err(|error| format!("it cannot be decompressed: {error}"))?, expected)
        }
    };
    match found == *expected {
        true => Ok(()),
        false => {
            Err(format!("its checksum is {found} and not the published {expected}: it is damaged or another file"))
        }
    }
}

fn digest<D: Digest>(mut reader: impl Read) -> std::io::Result<String> {
    let mut hash = D::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Unpacks the files of `top` into `folder/top`, all of them or none.
fn unpack(archive: &Path, folder: &Path, top: &str) -> Result<()> {
    let reading = format!("cannot unpack {}", archive.display());
    let fail = |reason: String| Failure::work(format!("{reading}: {reason}"));
    let temporary = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(folder).context(&reading)?;
    let file = BufReader::new(File::open(archive).context(&reading)?);
    let mut tar = tar::Archive::new(GzDecoder::new(file).take(MAX_UNPACKED));
    let (mut files, mut bytes) = (0, 0u64);
    for entry in tar.entries().context(&reading)? {
        let mut entry = entry.context(&reading)?;
        let path = entry.path().context(&reading)?.into_owned();
        let kind = entry.header().entry_type();
        let Some(inner) = inside(&path, top) else {
            return Err(fail(format!("it holds {}, which is not inside {top}", path.display())));
        };
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(fail(format!("{} is neither a file nor a folder", path.display())));
        }
        (files, bytes) = (files + 1, bytes.saturating_add(entry.size()));
        if files > MAX_FILES || bytes > MAX_UNPACKED {
            return Err(fail(format!("it holds more than {MAX_FILES} files or {} MiB", MAX_UNPACKED >> 20)));
        }
        let place = temporary.path().join(inner);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).context(&reading)?;
        }
        let mut out = File::create_new(&place).context(format_args!("{reading}: {}", path.display()))?;
        let written = std::io::copy(&mut entry, &mut out).context(&reading)?;
        if written != entry.size() {
            return Err(fail(format!("{} is truncated", path.display())));
        }
    }
    if files == 0 {
        return Err(fail(format!("it holds nothing inside {top}")));
    }
    let place = folder.join(top);
    #[cfg(unix)]
    {
        // A temporary folder is private to its owner; what is kept is as readable as other folders.
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).context(&reading)?;
    }
    fs::rename(temporary.path(), &place).context(format_args!("cannot write {}", place.display()))
}

/// What is left of an entry's path below `top`; `None` for one that is not plainly below it.
fn inside(path: &Path, top: &str) -> Option<PathBuf> {
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    if parts.next()? != Component::Normal(top.as_ref()) {
        return None;
    }
    parts.map(|part| if let Component::Normal(name) = part { Some(name) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::net::TcpListener;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const CONTENT: &[u8] = b"0123456789";
    const MD5: Checksum = Checksum::Md5("781e5e245d69b566979b86e28d23f2c7");

    /// Names and contents.
    type Files = Vec<(String, Vec<u8>)>;

    /// Answers each connection in turn, and returns the address and what `Range` each asked for.
    fn server(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<Option<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/file", listener.local_addr().expect("an address"));
        let thread = std::thread::spawn(move || {
            let answer = |answer: Vec<u8>| {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut range = None;
                for line in BufReader::new(&stream).lines() {
                    let line = line.expect("a request");
                    if line.is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
                        range = Some(value.to_owned());
                    }
                }
                stream.write_all(&answer).expect("an answer");
                range
            };
            answers.into_iter().map(answer).collect()
        });
        (address, thread)
    }

    fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    /// Downloads from a server of these answers over what is there of the file, and returns the outcome, what lies in the
    /// folder, and the ranges.
    fn downloaded(part: &[u8], answers: Vec<Vec<u8>>) -> (Result<()>, Files, Vec<Option<String>>) {
        let folder = TempDir::new().expect("a folder");
        if !part.is_empty() {
            fs::write(folder.path().join("file.part"), part).expect("writes");
        }
        let (url, thread) = server(answers);
        let outcome = download(&url, &folder.path().join("file"), &MD5);
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.expect("an entry").path();
            (path.file_name().expect("a name").to_string_lossy().into_owned(), fs::read(&path).expect("reads"))
        };
        let left = fs::read_dir(folder.path()).expect("reads").map(read).collect();
        (outcome, left, thread.join().expect("served"))
    }

    fn whole() -> Files {
        vec![("file".to_owned(), CONTENT.to_vec())]
    }

    #[test]
    fn a_download_is_whole_or_goes_on() {
        let (outcome, left, ranges) = downloaded(b"", vec![answer("200 OK", 10, CONTENT)]);
        outcome.expect("whole");
        assert_eq!((left, ranges), (whole(), vec![None]));
        let (outcome, left, ranges) = downloaded(b"0123", vec![answer("206 Partial Content", 6, &CONTENT[4..])]);
        outcome.expect("resumed");
        assert_eq!((left, ranges), (whole(), vec![Some("bytes=4-".to_owned())]));
        // A server that knows no ranges.
        let (outcome, left, _) = downloaded(b"0123", vec![answer("200 OK", 10, CONTENT)]);
        outcome.expect("begun anew");
        assert_eq!(left, whole());
        // All of it was there, and all of another file.
        let (outcome, left, _) = downloaded(CONTENT, vec![answer("416 Range Not Satisfiable", 0, b"")]);
        outcome.expect("complete");
        assert_eq!(left, whole());
        let answers = vec![answer("416 Range Not Satisfiable", 0, b""), answer("200 OK", 10, CONTENT)];
        let (outcome, left, _) = downloaded(b"another file", answers);
        outcome.expect("begun anew");
        assert_eq!(left, whole());
    }

    #[test]
    fn what_goes_wrong_is_said_and_leaves_no_file() {
        let fails = |part: &[u8], answers, word: &str| {
            let (outcome, left, _) = downloaded(part, answers);
            let failure = outcome.expect_err(word);
            let text = failure.to_string();
            assert!(text.contains(word) && text.contains("put it at") && failure.code() == 1, "{text}");
            left
        };
        assert!(fails(b"", vec![answer("404 Not Found", 4, b"gone")], "404").is_empty());
        assert!(fails(b"", vec![answer("200 OK", 10, b"9876543210")], "checksum").is_empty());
        assert!(fails(b"0123", vec![answer("206 Partial Content", 6, b"xxxxxx")], "checksum").is_empty());
        // What came of a broken download is kept for the next.
        let left = fails(b"", vec![answer("200 OK", 10, &CONTENT[..6])], "call it again");
        assert_eq!(left, vec![("file.part".to_owned(), CONTENT[..6].to_vec())]);
        // Nobody listens there.
        let folder = TempDir::new().expect("a folder");
        let text =
            download("http://127.0.0.1:9/file", &folder.path().join("file"), &MD5).expect_err("refused").to_string();
        assert!(text.contains("http://127.0.0.1:9/file") && text.contains("put it at"), "{text}");
    }

    /// A gzip archive of entries: name, type, content.
    fn tgz(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            // The writer itself would refuse the names that are tested here.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..6].copy_from_slice(b"/etc/x");
            header.set_entry_type(tar::EntryType::new(*kind));
            header.set_size(content.len() as u64);
            header.set_cksum();
            bytes.extend(header.as_bytes());
            bytes.extend(*content);
            bytes.resize(bytes.len().div_ceil(512) * 512, 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    /// Unpacks bytes in a folder within a folder, of which nothing but the archive and `top` may change.
    fn unpacked(archive: &[u8]) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let outer = TempDir::new().expect("a folder");
        let folder = outer.path().join("data");
        fs::create_dir(&folder).expect("makes");
        let path = outer.path().join("archive.tgz");
        fs::write(&path, archive).expect("writes");
        let outcome = unpack(&path, &folder, "top");
        assert_eq!(fs::read_dir(outer.path()).expect("reads").count(), 2, "something lies outside the folder");
        let names: Vec<_> = fs::read_dir(&folder).expect("reads").map(|e| e.expect("an entry").file_name()).collect();
        match outcome {
            Ok(()) => assert_eq!(names, ["top"]),
            Err(failure) => {
                assert!(names.is_empty(), "{names:?} is left");
                return Err(failure);
            }
        }
        let mut files = Vec::new();
        let mut folders = vec![folder.join("top")];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).expect("reads") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push((
                        path.strip_prefix(&folder).expect("inside").to_owned(),
                        fs::read(&path).expect("reads"),
                    )),
                }
            }
        }
        files.sort();
        Ok(files)
    }

    #[test]
    fn files_below_the_top_folder_are_unpacked() {
        let archive = tgz(&[("top/", b'5', b""), ("./top/a", b'0', b"one"), ("top/deep/b", b'0', b"two")]);
        let files = unpacked(&archive).expect("unpacks");
        assert_eq!(files, [("top/a".into(), b"one".to_vec()), ("top/deep/b".into(), b"two".to_vec())]);
    }

    #[test]
    fn path_tricks_are_refused() {
        for (entry, word) in [
            (("../evil", b'0', &b"x"[..]), "../evil"),
            (("top/../../evil", b'0', b"x"), "not inside"),
            (("/top/evil", b'0', b"x"), "not inside"),
            (("other/file", b'0', b"x"), "not inside"),
            (("top/link", b'2', b""), "neither"),
            (("top/hard", b'1', b""), "neither"),
            (("top/device", b'3', b""), "neither"),
            (("top/a", b'0', b"again"), "top/a"),
        ] {
            let archive = tgz(&[("top/a", b'0', b"one"), entry]);
            let failure = unpacked(&archive).expect_err(word);
            assert!(failure.to_string().contains(word) && failure.to_string().contains("archive.tgz"), "{failure}");
        }
        assert!(unpacked(&tgz(&[])).expect_err("empty").to_string().contains("nothing"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever an archive's entries are called, nothing is written outside the folder: `unpacked` asserts it.
        #[test]
        fn no_name_leaves_the_folder(parts in proptest::collection::vec("[./]|\\.\\.|top|[a-z]{1,3}|/", 1..8), kind in b'0'..b'8') {
            let name: String = parts.concat();
            let _ = unpacked(&tgz(&[(&name, kind, b"x")]));
            let _ = unpacked(&tgz(&[(&format!("top/{name}"), kind, b"x")]));
        }

        #[test]
        fn no_damaged_archive_panics(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut archive = tgz(&[("top/a", b'0', b"one"), ("top/b", b'0', &[7; 600])]);
            let at = at.index(archive.len());
            archive[at] = value;
            let _ = unpacked(&archive);
            let _ = unpacked(&archive[..cut.index(archive.len())]);
        }
    }
}
