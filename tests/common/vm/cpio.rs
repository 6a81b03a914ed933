//! Archives for the kernel: cpio in the "new ASCII" form (`newc`, magic `070701`), as
//! Documentation/driver-api/early-userspace/buffer-format.rst of Linux has it.
//!
//! The same files give the same bytes: names sorted, inodes counted, owner root, time 0.

use std::collections::{BTreeMap, BTreeSet};

/// What a name stands for.
#[derive(Clone)]
pub enum Node {
    File { mode: u32, contents: Vec<u8> },
    Link(String),
}

impl Node {
    pub fn file(mode: u32, contents: &[u8]) -> Self {
        Self::File { mode, contents: contents.to_vec() }
    }
}

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_777;

/// Packs files by absolute path, with the directories they need.
pub fn pack(files: &BTreeMap<String, Node>) -> Vec<u8> {
    let mut directories = BTreeSet::new();
    for path in files.keys() {
        let mut rest = path.trim_start_matches('/');
        while let Some((parent, _)) = rest.rsplit_once('/') {
            directories.insert(parent.to_owned());
            rest = parent;
        }
    }
    let mut out = Vec::new();
    let mut inode = 0;
    // A directory sorts before what is in it.
    for directory in directories {
        inode += 1;
        entry(&mut out, inode, DIRECTORY, &directory, &[]);
    }
    for (path, node) in files {
        inode += 1;
        let name = path.trim_start_matches('/');
        match node {
            Node::File { mode, contents } => entry(&mut out, inode, REGULAR | mode, name, contents),
            Node::Link(target) => entry(&mut out, inode, LINK, name, target.as_bytes()),
        }
    }
    entry(&mut out, 0, 0, "TRAILER!!!", &[]);
    out
}

/// One member: 13 numbers of eight hexadecimal digits, name, contents, each padded to four bytes.
fn entry(out: &mut Vec<u8>, inode: u32, mode: u32, name: &str, contents: &[u8]) {
    let size = u32::try_from(contents.len()).unwrap();
    let name_size = u32::try_from(name.len() + 1).unwrap();
    // inode, mode, uid, gid, links, mtime, size, device ×2, own device ×2, name size, check
    let numbers = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    out.extend_from_slice(b"070701");
    for number in numbers {
        out.extend_from_slice(format!("{number:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(contents);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
