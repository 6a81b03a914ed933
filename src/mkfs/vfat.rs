//! FAT32 file systems, made and filled without a tool, a mount or a temporary copy.
//!
//! [`plan`] finds every reason to refuse — names, sizes, room — before a byte is written;
//! [`Plan::write`] then streams. Memory does not grow with the size of files or of the disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::disk::{BULK_ALIGN, Disk};
use crate::error::{Context as _, Error, Result};
use crate::format::fat::{Fault, Geometry, Identity, Layout, Node, volume_label};

/// How much is read and written at once, in bytes.
const CHUNK: usize = 1 << 20;

/// How the file system is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings<'a> {
    /// The volume ID.
    pub volume_id: u32,
    /// The label, of any form: capitals and length are seen to.
    pub label: &'a str,
    /// A power of two from 512 to 4096, in bytes.
    pub sector_size: u32,
    /// When it is made, in seconds since the epoch.
    pub now: i64,
}

/// A file or directory that goes in. Directories come before what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where in the file system, relative to its root.
    pub path: PathBuf,
    /// The file whose contents it gets, and how many bytes those are; none for a directory.
    pub source: Option<(PathBuf, u64)>,
    /// When it was changed, in seconds since the epoch.
    pub modified: i64,
}

/// A file system that fits and that FAT can hold.
pub struct Plan {
    layout: Layout,
    sources: Vec<Option<(PathBuf, u64)>>,
}

/// Plans a file system of `size` bytes.
///
/// # Errors
///
/// What FAT cannot hold, by name; too little or too much room.
pub fn plan(size: u64, settings: &Settings<'_>, items: &[Item]) -> Result<Plan> {
    let Some(geometry) = Geometry::new(size, settings.sector_size) else {
        return Err(no_geometry(size, settings));
    };
    let sources = items.iter().map(|item| item.source.clone()).collect();
    let layout = Layout::new(geometry, identity(settings), nodes(items)?).context(cannot_make)?;
    Ok(Plan { layout, sources })
}

/// The least size that has room for these, in bytes; a multiple of 4096.
///
/// # Errors
///
/// What FAT cannot hold at any size.
pub fn size_needed(settings: &Settings<'_>, items: &[Item]) -> Result<u64> {
    const UNIT: u64 = 4096;
    let nodes = nodes(items)?;
    let fits = |units: u64| -> Result<bool> {
        let Some(geometry) = Geometry::new(units * UNIT, settings.sector_size) else {
            return Ok(false);
        };
        match Layout::new(geometry, identity(settings), nodes.clone()) {
            Ok(_) => Ok(true),
            Err(Fault::Full { .. }) => Ok(false),
            Err(fault) => Err(Error::because(cannot_make(), fault)),
        }
    };
    let mut enough = 1;
    while !fits(enough)? {
        enough *= 2;
        if enough * UNIT / u64::from(settings.sector_size) > u64::from(u32::MAX) {
            return Err(no_geometry(enough * UNIT, settings));
        }
    }
    let mut too_few = enough / 2;
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        if fits(middle)? { enough = middle } else { too_few = middle }
    }
    Ok(enough * UNIT)
}

fn identity(settings: &Settings<'_>) -> Identity {
    Identity {
        volume_id: settings.volume_id,
        label: volume_label(settings.label),
        created: settings.now,
    }
}

fn no_geometry(size: u64, settings: &Settings<'_>) -> Error {
    Error::new(format!(
        "A file system of {size} bytes with sectors of {} bytes cannot be FAT32",
        settings.sector_size
    ))
}

fn cannot_make() -> String {
    "Cannot make a vfat file system".to_owned()
}

fn nodes(items: &[Item]) -> Result<Vec<Node>> {
    let mut places = std::collections::HashMap::new();
    let mut nodes = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let cannot =
            |why: &str| Error::new(format!("Cannot put '{}' on FAT: {why}", item.path.display()));
        let name = item.path.file_name().ok_or_else(|| cannot("it has no name"))?;
        let name = name.to_str().ok_or_else(|| cannot("its name is not UTF-8"))?;
        let parent = match item.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => {
                Some(*places.get(parent).ok_or_else(|| cannot("its directory is missing"))?)
            }
            None => None,
        };
        if item.source.is_none() {
            places.insert(item.path.as_path(), at);
        }
        nodes.push(Node {
            parent,
            name: name.to_owned(),
            len: item.source.as_ref().map(|(_, len)| *len),
            modified: item.modified,
        });
    }
    Ok(nodes)
}

/// Makes a file system that fills `target`; `progress` hears of the bytes of files written so far
/// and of all there are.
///
/// # Errors
///
/// As [`plan`], then those of reading and writing.
pub fn make(
    target: &dyn Disk,
    settings: &Settings<'_>,
    items: &[Item],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    plan(target.size_bytes(), settings, items)?.write(target, progress)
}

impl Plan {
    /// Writes it all. Nothing is synced.
    ///
    /// # Errors
    ///
    /// Those of reading and writing; a file that is shorter or longer than planned.
    pub fn write(&self, target: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let failed = || "Failed to write the vfat file system".to_owned();
        self.write_tables(target).context(failed)?;
        self.write_directories(target)?;
        self.write_files(target, progress)?;
        // Last: without its first sector, what a cut leaves is no file system.
        for (offset, bytes) in self.layout.heads().iter().rev() {
            target.write_at(*offset, bytes).context(failed)?;
        }
        Ok(())
    }

    fn write_tables(&self, target: &dyn Disk) -> io::Result<()> {
        let geometry = self.layout.geometry();
        target.zero(0, geometry.cluster_offset(crate::format::fat::FIRST_CLUSTER))?;
        let mut buffer = vec![0; CHUNK];
        let mut first = 0;
        while first < self.layout.table_len() {
            let rest = geometry.table_bytes() - u64::from(first) * 4;
            let len = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
            let (chunk, _) = buffer.split_at_mut(len);
            self.layout.fill_table(first, chunk);
            for copy in 0..2 {
                let offset = geometry.table_offset(copy) + u64::from(first) * 4;
                target.write_at(offset, chunk)?;
            }
            first = first.saturating_add((CHUNK / 4) as u32);
        }
        Ok(())
    }

    fn write_directories(&self, target: &dyn Disk) -> Result<()> {
        let nodes = self.layout.nodes().iter().enumerate();
        let directories = nodes.filter(|(_, node)| node.len.is_none()).map(|(at, _)| Some(at));
        for node in std::iter::once(None).chain(directories) {
            let bytes = self.layout.directory(node).context(cannot_make)?;
            target
                .write_at(self.layout.directory_offset(node), &bytes)
                .context(|| "Failed to write the vfat file system".to_owned())?;
        }
        Ok(())
    }

    fn write_files(&self, target: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let files = || {
            self.sources.iter().enumerate().filter_map(|(at, source)| Some((at, source.as_ref()?)))
        };
        let total = files().map(|(_, (_, len))| len).sum();
        let mut done = 0;
        progress(0, total);
        let mut buffer = Buffer::new();
        for (at, (path, len)) in files() {
            let mut file =
                File::open(path).context(|| format!("Failed to open '{}'", path.display()))?;
            let mut offset = self.layout.offset(at);
            let mut rest = *len;
            while rest > 0 {
                let part = usize::try_from(rest).unwrap_or(usize::MAX).min(CHUNK);
                let bytes = buffer.bytes(part);
                file.read_exact(bytes)
                    .context(|| format!("Failed to read '{}'", path.display()))?;
                target
                    .write_bulk(offset, bytes)
                    .context(|| format!("Failed to write '{}'", path.display()))?;
                offset += part as u64;
                rest -= part as u64;
                done += part as u64;
                progress(done, total);
            }
        }
        Ok(())
    }
}

/// A buffer where [`Disk::write_bulk`] likes it.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let bytes = vec![0; CHUNK + BULK_ALIGN];
        let start = bytes.as_ptr().align_offset(BULK_ALIGN);
        Self { bytes, start: if start < BULK_ALIGN { start } else { 0 } }
    }

    fn bytes(&mut self, len: usize) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + len).unwrap_or_default()
    }
}
