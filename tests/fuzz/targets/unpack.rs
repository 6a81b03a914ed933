//! Compressed streams and archives.

use std::fs::Permissions;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use slipway::unpack::{self as packed, Options, Segment, Sink};

use crate::{files, kind};

pub const TAR_WORDS: &[&str] = &[
    "../",
    "/",
    "./",
    "ustar\x0000",
    "ustar  \0",
    "0000644\0",
    "00000000000\0",
    "path=",
    "linkpath=",
    "size=",
    "GNU.sparse.major=1",
    "GNU.sparse.realsize=",
    "SCHILY.xattr.user.a=",
    "mtime=1.5",
    "uid=",
];

const MAX_BYTES: u64 = 1 << 20;

/// Keeps everything.
#[derive(Default)]
struct Memory(Mutex<Vec<u8>>);

struct Run<'a> {
    memory: &'a Memory,
    offset: usize,
}

impl Sink for Memory {
    fn segment(&self, offset: u64) -> io::Result<Box<dyn Segment + Send + '_>> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        Ok(Box::new(Run { memory: self, offset }))
    }
}

impl Segment for Run<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.memory.0.lock().expect("no panic there");
        let end = self.offset + bytes.len();
        assert!(end as u64 <= MAX_BYTES);
        if memory.len() < end {
            memory.resize(end, 0);
        }
        memory[self.offset..end].copy_from_slice(bytes);
        self.offset = end;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

fn unpack(mut input: &[u8], threads: usize) -> Result<Vec<u8>, packed::Error> {
    let memory = Memory::default();
    let options = Options { max_bytes: MAX_BYTES, threads, cancel: None };
    let done = packed::unpack(&mut input, &memory, &options)?;
    let bytes = memory.0.into_inner().expect("no panic there");
    assert_eq!(bytes.len() as u64, done.bytes);
    Ok(bytes)
}

/// A stream. However many threads unpack it, the same comes out, or nothing does.
pub fn stream(bytes: &[u8]) -> u64 {
    let _ = packed::size_hint(bytes);
    let one = unpack(bytes, 1);
    let two = unpack(bytes, 2);
    let mut read = Vec::new();
    let reader = packed::reader(Box::new(bytes)).and_then(|reader| {
        let result = reader.take(MAX_BYTES + 1).read_to_end(&mut read);
        result.map(|_| ()).map_err(packed::Error::from_read)
    });
    match (&one, &two) {
        (Ok(one), Ok(two)) => {
            assert!(one == two && *one == read && reader.is_ok());
        }
        (Err(_), Err(_)) => assert!(reader.is_err() || read.len() as u64 > MAX_BYTES),
        _ => panic!("one thread: {:?}, two threads: {:?}", one.is_ok(), two.is_ok()),
    }
    kind(&(packed::sniff(bytes), one.map(|bytes| bytes.len().min(3)).map_err(|e| e.to_string())))
}

pub fn stream_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("decompress", "");
    seeds.retain(|seed| !seed.is_empty());
    seeds
}

/// An archive. Nothing is made outside of the directory it is unpacked into.
pub fn tar(bytes: &[u8]) -> u64 {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let outside = tempfile::tempdir_in(parent).expect("directory");
    let inside = outside.path().join("inside");
    std::fs::create_dir(&inside).expect("directory");
    let dir = std::fs::File::open(&inside).expect("directory");
    let options = packed::tar::Options { max_bytes: MAX_BYTES, is_privileged: false, hoist: true };
    let result = packed::tar::extract(bytes, dir.as_fd(), &options);
    assert_eq!(std::fs::read_dir(outside.path()).expect("directory").count(), 1);
    open_up(&inside);
    outside.close().expect("an empty directory");
    kind(
        &result
            .map(|done| done.entries.min(9))
            .map_err(|err| err.to_string().split('\'').next().unwrap_or_default().to_owned()),
    )
}

/// Gives back the permissions that an archive took, so that its directories can be removed.
fn open_up(dir: &Path) {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700)).expect("our directory");
    for entry in std::fs::read_dir(dir).expect("directory") {
        let entry = entry.expect("entry");
        if entry.file_type().expect("type").is_dir() {
            open_up(&entry.path());
        }
    }
}

pub fn tar_seeds() -> Vec<Vec<u8>> {
    files("tar", ".tar")
}
