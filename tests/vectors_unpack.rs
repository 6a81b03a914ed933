//! The streams of `tests/vectors/decompress`, unpacked as the peer unpacked them.
#![cfg(feature = "update")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; a skip is told on standard output"
)]

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;
use sha2::{Digest, Sha256};
use slipway::unpack::{self, Options, Segment, Sink};

#[derive(Default)]
struct Memory(Mutex<Vec<u8>>);

struct Part<'a>(&'a Memory, usize);

impl Sink for Memory {
    fn segment(&self, offset: u64) -> io::Result<Box<dyn Segment + Send + '_>> {
        Ok(Box::new(Part(self, usize::try_from(offset).unwrap())))
    }
}

impl Segment for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut data = self.0.0.lock().unwrap();
        let end = self.1 + bytes.len();
        let len = data.len().max(end);
        data.resize(len, 0);
        data[self.1..end].copy_from_slice(bytes);
        self.1 = end;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every case of a folder, pushed and pulled; returns how many there were.
fn check(folder: &str) -> usize {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/decompress").join(folder);
    let cases = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let mut count = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["file"].as_str().unwrap();
        let expected = &case["regular_file"];
        let packed = std::fs::read(folder.join(name)).unwrap();

        let sink = Memory::default();
        let pushed = unpack::unpack(&mut &packed[..], &sink, &Options::default())
            .map(|_| sink.0.lock().unwrap().clone())
            .map_err(|err| err.to_string());
        let mut pulled = Vec::new();
        let pulled = unpack::reader(Box::new(&packed[..]))
            .and_then(|mut reader| {
                reader.read_to_end(&mut pulled).map_err(unpack::Error::from_read)?;
                Ok(pulled)
            })
            .map_err(|err| err.to_string());

        for (how, result) in [("push", pushed), ("pull", pulled)] {
            match result {
                Ok(bytes) => {
                    assert_eq!(expected["rc"], 0, "{how} {name}: accepted");
                    assert_eq!(expected["size"], bytes.len(), "{how} {name}");
                    assert_eq!(expected["sha256"], hex(&Sha256::digest(&bytes)), "{how} {name}");
                }
                Err(err) => assert_eq!(expected["rc"], 1, "{how} {name}: {err}"),
            }
        }
        count += 1;
    }
    count
}

#[test]
fn streams_of_the_decompressor_vectors() {
    assert_eq!(check(""), 44);
}

#[test]
fn streams_at_the_edge_of_what_is_accepted() {
    assert_eq!(check("edge"), 40);
}

#[test]
fn blocks_are_decoded_by_any_number_of_threads() {
    const SHA256: &str = "95f5d8ff443833f0d2663e2f31d25160cdb6b944fcae821069bf27b7136b35a9";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/decompress/blocks");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let packed = std::fs::read(&path).unwrap();
        for threads in [1, 2, 3, 8] {
            let sink = Memory::default();
            let options = Options { threads, ..Options::default() };
            let done = unpack::unpack(&mut &packed[..], &sink, &options).unwrap();
            assert_eq!(done.bytes, 5_244_114, "{path:?}");
            let data = sink.0.lock().unwrap();
            assert_eq!(hex(&Sha256::digest(&*data)), SHA256, "{path:?} {threads}");
        }
        count += 1;
    }
    assert_eq!(count, 8);
}

/// Archives that we deliberately treat otherwise than the peer, and why.
const TAR_DIFFERS: [(&str, &str); 5] = [
    ("acl.tar", "a default ACL is no reason to make the directory 0000"),
    ("hoist-meta.tar", "the peer loses the attributes of the directory it dissolves"),
    ("mtime-negative.tar", "-5.25 s is before -5 s; the peer makes it -4.75"),
    ("pax-global.tar", "a global time is a legal default; the peer refuses it"),
    ("xattr-symlink.tar", "the peer's sandbox may not set trusted attributes"),
];

mod tree {
    //! Describes a directory as tests/vectors/tar/cases.jsonl does.

    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::path::Path;

    use serde_json::{Map, Value, json};
    use sha2::{Digest, Sha256};

    fn latin1(bytes: &[u8]) -> String {
        bytes.iter().map(|&b| char::from(b)).collect()
    }

    pub(super) fn describe(path: &Path, name: &str, tree: &mut Map<String, Value>) {
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let mut entry = Map::new();
        let mut set = |key: &str, value: Value| entry.insert(key.to_owned(), value);
        let name_of_kind = match () {
            () if kind.is_dir() => "dir",
            () if kind.is_symlink() => "link",
            () if kind.is_fifo() => "fifo",
            () if kind.is_char_device() => "char",
            () if kind.is_block_device() => "block",
            () => "file",
        };
        set("type", json!(name_of_kind));
        if !kind.is_symlink() {
            set("mode", json!(format!("{:04o}", meta.mode() & 0o7777)));
        }
        set("uid", json!(meta.uid()));
        set("gid", json!(meta.gid()));
        set("mtime", json!(meta.mtime() * 1_000_000_000 + meta.mtime_nsec()));
        if kind.is_file() {
            let bytes = std::fs::read(path).unwrap();
            set("size", json!(bytes.len()));
            set("sha256", json!(super::hex(&Sha256::digest(&bytes))));
            set("nlink", json!(meta.nlink()));
            if meta.blocks() * 512 < bytes.len() as u64 / 2 {
                set("sparse", json!(true));
            }
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(path).unwrap().into_os_string().into_vec();
            set("target", json!(latin1(&target)));
        }
        if kind.is_char_device() || kind.is_block_device() {
            let device = meta.rdev();
            set(
                "dev",
                json!(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))),
            );
        }
        let mut list = vec![0; 4096];
        let len = rustix::fs::llistxattr(path, &mut list).unwrap_or(0);
        let mut xattrs = Map::new();
        for key in list[..len].split(|&b| b == 0).filter(|key| !key.is_empty()) {
            let mut value = vec![0; 4096];
            let len = rustix::fs::lgetxattr(path, key, &mut value).unwrap();
            xattrs.insert(latin1(key), json!(super::hex(&value[..len])));
        }
        if !xattrs.is_empty() {
            set("xattrs", Value::Object(xattrs));
        }
        tree.insert(name.to_owned(), Value::Object(entry));
        if kind.is_dir() {
            let mut children: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|child| child.unwrap().file_name()).collect();
            children.sort();
            for child in children {
                let child_name = latin1(child.as_bytes());
                let full = if name == "." { child_name } else { format!("{name}/{child_name}") };
                describe(&path.join(&child), &full, tree);
            }
        }
    }
}

/// What one extraction left, and what it said if it failed.
fn extract(
    file: &Path,
    options: &unpack::tar::Options,
) -> Result<serde_json::Map<String, Value>, String> {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    std::fs::create_dir(&top).unwrap();
    let outside = dir.path().join("canary");
    std::fs::write(&outside, "sings").unwrap();
    let fd = std::fs::File::open(&top).unwrap();
    let input = Box::new(std::fs::File::open(file).unwrap());
    let result = unpack::tar::extract(
        unpack::reader(input).unwrap(),
        std::os::fd::AsFd::as_fd(&fd),
        options,
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "{file:?} touched the outside");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "sings");
    result.map_err(|err| err.to_string())?;
    let mut tree = serde_json::Map::new();
    tree::describe(&top, ".", &mut tree);
    Ok(tree)
}

/// Removes what depends on who extracts, or when.
fn comparable(expected: &Value, tree: &mut serde_json::Map<String, Value>, is_root: bool) -> Value {
    let mut expected = expected.clone();
    for (name, entry) in expected.as_object_mut().unwrap() {
        let Some(found) = tree.get_mut(name).and_then(Value::as_object_mut) else { continue };
        let entry = entry.as_object_mut().unwrap();
        if entry["mtime"].is_null() {
            found.insert("mtime".to_owned(), Value::Null);
        }
        if !is_root {
            for key in ["uid", "gid"] {
                found.insert(key.to_owned(), entry[key].clone());
            }
        }
        // A temporary directory may be on a file system without these.
        if !found.contains_key("xattrs") {
            entry.remove("xattrs");
        }
        // How much a hole saves is the file system's business.
        found.remove("sparse");
        entry.remove("sparse");
    }
    expected
}

/// Every difference is one that we want.
fn check_difference(name: &str, tree: &serde_json::Map<String, Value>) {
    match name {
        "acl.tar" => assert_eq!(tree["d"]["mode"], "0750"),
        "mtime-negative.tar" => assert_eq!(tree["neg"]["mtime"], -5_250_000_000_i64),
        "pax-global.tar" => assert_eq!(tree["a"]["mtime"], 1_500_000_000_000_000_000_i64),
        "xattr-symlink.tar" => assert_eq!(tree["s"]["target"], "a"),
        "hoist-meta.tar" => assert_eq!(tree["usr/lib/os-release"]["size"], 8),
        _ => panic!("{name}"),
    }
}

#[test]
fn archives_come_out_as_from_the_peer() {
    let is_root = rustix::process::geteuid().is_root();
    let options = unpack::tar::Options::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tar");
    let cases = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let mut count = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["file"].as_str().unwrap();
        let result = extract(&folder.join(name), &options);
        count += 1;
        if TAR_DIFFERS.iter().any(|(differs, _)| *differs == name) {
            check_difference(name, &result.unwrap());
            continue;
        }
        match result {
            Err(err) if name == "devices.tar" && !is_root => {
                assert_eq!(err, "Failed to create device node 'null': Operation not permitted");
                println!("SKIP archives_come_out_as_from_the_peer: devices.tar needs root");
            }
            Err(err) => {
                assert_eq!(case["rc"], 1, "{name}: {err}");
                // The peer's first line, up to what its library adds.
                let theirs = case["error"][0].as_str().unwrap();
                let words = |text: &str| text.split([':', '.']).next().unwrap().to_owned();
                assert_eq!(words(&err), words(theirs), "{name}: {err} / {theirs}");
            }
            Ok(mut tree) => {
                assert_eq!(case["rc"], 0, "{name}: accepted; the peer: {}", case["error"]);
                let expected = comparable(&case["tree"], &mut tree, is_root);
                assert_eq!(Value::Object(tree), expected, "{name}");
            }
        }
    }
    assert_eq!(count, 66);
}
