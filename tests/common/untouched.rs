//! What tests of refusals share: disks to refuse, archives that play tricks, a file system that is
//! full, and what "the target is untouched" means.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test helper: a broken test should panic"
)]

use std::io::Read as _;
use std::path::{Path, PathBuf};

use slipway::disk::{Access, FileDisk, table};
use slipway::format::gpt::derived_types;
use uuid::Uuid;

/// A disk image of the vectors.
pub fn disk_image(stage: &str) -> Vec<u8> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gpt");
    let packed = std::fs::File::open(vectors.join(format!("{stage}.img.xz"))).unwrap();
    let mut image = Vec::new();
    slipway::unpack::reader(Box::new(packed)).unwrap().read_to_end(&mut image).unwrap();
    image
}

/// Everything that counts as there: names that are final or pending, and slots likewise, all with
/// what is in them.
pub fn installed(directory: &Path, disk: &Path, partition_type: Uuid) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with(".sysupdate.partial.") {
            found.push((name, std::fs::read(path).unwrap_or_default()));
        }
    }
    found.sort();
    let image = std::fs::read(disk).unwrap();
    let opened = FileDisk::open(disk, Access::Read).unwrap();
    if let Ok(loaded) = table::read(&opened, disk) {
        let (partial, _) = derived_types(partition_type);
        for entry in loaded.table.partitions() {
            // A free slot, and one being written, hold nothing.
            if entry.type_uuid != partial && entry.name != "_empty" {
                let extent = loaded.table.extent(&entry).unwrap();
                let start = usize::try_from(extent.start).unwrap();
                let end = usize::try_from(extent.end).unwrap();
                found.push((format!("{entry:?}"), image[start..end].to_vec()));
            }
        }
    }
    found
}

/// A small file system that is full soon.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(path: &Path) -> Option<Self> {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", path, "tmpfs", flags, c"size=1m").ok()?;
        Some(Self(path.to_path_buf()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A ustar archive with one entry and without its end; `kind` is the type flag.
pub fn archive(name: &str, kind: u8, link: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", contents.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}
