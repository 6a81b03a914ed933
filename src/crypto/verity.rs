//! Builds and checks hash trees for dm-verity.
//!
//! Why our own: a tree over gigabytes is most of what making an image costs, and the work divides
//! among the processors without a rest. A level is cut into chunks; whoever is free takes the
//! next one, reads it in one piece, and writes the hash blocks that belong to it. Only then comes
//! the level above, read back from the disk. Memory is one chunk per processor, whatever the size
//! of the data.
//!
//! Blocks of zeros are everywhere in file systems, and holes are all over image files; the digest
//! of one is known before it is seen. The same goes for the levels above: what has only holes
//! below it looks everywhere the same.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{io, thread};

use crate::crypto::hash::Sha256;
use crate::disk::Disk;
use crate::error::{Context as _, Error, Result};
use crate::format::verity::{DIGEST_LEN, Geometry, SUPERBLOCK_LEN, Superblock};

/// What is read at a time, about.
const CHUNK_LEN: u64 = 2 << 20;
/// LIMIT: no more threads; each holds a chunk.
const THREADS_MAX: usize = 32;

/// What a tree is made of.
pub type Params = Superblock;

/// Is told from time to time how many bytes of the data are hashed.
pub type Progress<'a> = &'a dyn Fn(u64);

/// Hashes the data, writes superblock and tree to the start of `hash`, and returns the root hash.
/// Nothing is synced.
///
/// # Errors
///
/// If sizes make no sense, the data is shorter than said, the tree does not fit, or reading or
/// writing fails.
pub fn build(
    data: &dyn Disk,
    hash: &dyn Disk,
    params: &Params,
    progress: Progress<'_>,
) -> Result<[u8; DIGEST_LEN]> {
    let superblock = params.encode().context(|| "Cannot protect data by Verity".to_owned())?;
    let write = |offset: u64, bytes: &[u8]| hash.write_at(offset, bytes);
    let root = Tree { data, hash, params, sink: &write }.walk(progress)?;
    let mut block = vec![0; params.geometry.hash_block_size as usize];
    if let Some(start) = block.first_chunk_mut() {
        *start = superblock;
    }
    hash.write_at(0, &block).context(|| "Failed to write Verity superblock".to_owned())?;
    Ok(root)
}

/// Hashes the data again and compares all of it with the tree, and the root with `root`.
///
/// # Errors
///
/// As [`build`], and if anything is not as it must be.
pub fn verify(
    data: &dyn Disk,
    hash: &dyn Disk,
    root: &[u8; DIGEST_LEN],
    progress: Progress<'_>,
) -> Result<()> {
    let params = superblock(hash)?;
    let compare = |offset: u64, bytes: &[u8]| {
        let mut found = vec![0; bytes.len()];
        hash.read_at(offset, &mut found)?;
        if found != bytes {
            return Err(io::Error::other(format!("hash block at {offset} does not match")));
        }
        Ok(())
    };
    let found = Tree { data, hash, params: &params, sink: &compare }.walk(progress)?;
    if found == *root { Ok(()) } else { Err(Error::new("The root hash does not match")) }
}

/// The root hash that a tree leads to, by its topmost block alone.
///
/// # Errors
///
/// There is no tree, or it cannot be read.
pub fn root(data: &dyn Disk, hash: &dyn Disk) -> Result<[u8; DIGEST_LEN]> {
    let params = superblock(hash)?;
    let geometry = params.geometry;
    let levels = geometry.levels().context(|| "Cannot check by Verity".to_owned())?;
    let (disk, offset, size) = match levels.last() {
        Some(top) => (hash, top.offset, geometry.hash_block_size),
        None => (data, 0, geometry.data_block_size),
    };
    let mut block = vec![0; size as usize];
    disk.read_at(offset, &mut block).map_err(name_read)?;
    Ok(digest(&params.salt, &block))
}

fn superblock(hash: &dyn Disk) -> Result<Superblock> {
    let mut start = [0; SUPERBLOCK_LEN];
    hash.read_at(0, &mut start).context(|| "Failed to read Verity superblock".to_owned())?;
    Superblock::decode(&start).context(|| "Cannot check by Verity".to_owned())
}

fn digest(salt: &[u8], block: &[u8]) -> [u8; DIGEST_LEN] {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(block);
    hash.finish()
}

/// Where finished hash blocks go.
type Sink<'a> = &'a (dyn Fn(u64, &[u8]) -> io::Result<()> + Sync);

struct Tree<'a> {
    data: &'a dyn Disk,
    hash: &'a dyn Disk,
    params: &'a Params,
    sink: Sink<'a>,
}

/// A row of blocks that are hashed, and where their digests go.
struct Row<'a> {
    disk: &'a dyn Disk,
    /// Where the row begins, in bytes.
    offset: u64,
    block_size: u64,
    blocks: u64,
    /// What many of its blocks look like, and the digest of that.
    common: (Vec<u8>, [u8; DIGEST_LEN]),
    /// Holes of the disk are common blocks.
    has_holes: bool,
    /// Where the digests go.
    target: u64,
    target_block: u64,
}

impl Tree<'_> {
    fn walk(&self, progress: Progress<'_>) -> Result<[u8; DIGEST_LEN]> {
        let geometry = self.params.geometry;
        let name = |err| Error::because("Cannot hash data for Verity", err);
        let levels = geometry.levels().map_err(name)?;
        self.check_sizes(&geometry)?;
        let hash_block = u64::from(geometry.hash_block_size);

        let zeros = vec![0; geometry.data_block_size as usize];
        let mut row = Row {
            disk: self.data,
            offset: 0,
            block_size: u64::from(geometry.data_block_size),
            blocks: geometry.data_blocks,
            common: (zeros.clone(), self.digest(&zeros)),
            has_holes: true,
            target: 0,
            target_block: hash_block,
        };
        for level in levels {
            row.target = level.offset;
            let is_data = row.has_holes;
            self.hash_row(&row, if is_data { progress } else { &|_| {} })?;
            if is_data {
                progress(row.blocks * row.block_size);
            }
            let digests = row.common.1.repeat(geometry.fan_out() as usize);
            let digest = self.digest(&digests);
            row = Row {
                disk: self.hash,
                offset: level.offset,
                block_size: hash_block,
                blocks: level.blocks,
                common: (digests, digest),
                has_holes: false,
                ..row
            };
        }
        let mut top = vec![0; row.block_size as usize];
        row.disk.read_at(row.offset, &mut top).map_err(name_read)?;
        Ok(self.digest(&top))
    }

    fn check_sizes(&self, geometry: &Geometry) -> Result<()> {
        let name = |err| Error::because("Cannot hash data for Verity", err);
        let data_size = geometry.data_size().map_err(name)?;
        if data_size > self.data.size_bytes() {
            return Err(Error::new(format!(
                "Cannot hash {data_size} bytes for Verity: there are only {}",
                self.data.size_bytes()
            )));
        }
        let (need, have) = (geometry.hash_size().map_err(name)?, self.hash.size_bytes());
        if need > have {
            return Err(Error::new(format!(
                "Verity hash data does not fit: it takes {need} bytes, there are {have}"
            ))
            .with_errno(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        Ok(())
    }

    fn digest(&self, block: &[u8]) -> [u8; DIGEST_LEN] {
        digest(&self.params.salt, block)
    }

    /// Hashes one row into the hash blocks above it.
    fn hash_row(&self, row: &Row<'_>, progress: Progress<'_>) -> Result<()> {
        let fan_out = row.target_block / DIGEST_LEN as u64;
        // A chunk is a whole number of hash blocks.
        let unit = fan_out * row.block_size;
        let chunk_blocks = fan_out * (CHUNK_LEN / unit).max(1);
        let chunks = row.blocks.div_ceil(chunk_blocks);
        let cores = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let threads = cores.min(usize::try_from(chunks).unwrap_or(usize::MAX));

        let queue = Queue {
            next: AtomicU64::new(0),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            chunks,
            chunk_blocks,
        };
        thread::scope(|scope| {
            let spawn = |_| scope.spawn(|| self.work(row, &queue, &|_| {}));
            let others: Vec<_> = (1..threads).map(spawn).collect();
            let mut result = self.work(row, &queue, progress);
            for other in others {
                let end = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(end);
            }
            result
        })
    }

    /// Takes chunks until there are none.
    fn work(&self, row: &Row<'_>, queue: &Queue, progress: Progress<'_>) -> Result<()> {
        let mut buffer = Vec::new();
        let mut digests = Vec::new();
        while let Some((first, blocks)) = queue.take(row.blocks) {
            let done = self.hash_chunk(row, first, blocks, &mut buffer, &mut digests);
            if done.is_err() {
                queue.stop.store(true, Ordering::Relaxed);
            }
            done?;
            let done = queue.done.fetch_add(blocks, Ordering::Relaxed) + blocks;
            progress(done * row.block_size);
        }
        Ok(())
    }

    fn hash_chunk(
        &self,
        row: &Row<'_>,
        first: u64,
        blocks: u64,
        buffer: &mut Vec<u8>,
        digests: &mut Vec<u8>,
    ) -> Result<()> {
        let start = row.offset + first * row.block_size;
        let len = blocks * row.block_size;
        digests.clear();
        if row.has_holes && is_hole(row.disk, start, len).map_err(name_read)? {
            for _ in 0..blocks {
                digests.extend_from_slice(&row.common.1);
            }
        } else {
            buffer.resize(len as usize, 0);
            row.disk.read_at(start, buffer).map_err(name_read)?;
            for block in buffer.chunks(row.block_size as usize) {
                let digest =
                    if *block == *row.common.0 { row.common.1 } else { self.digest(block) };
                digests.extend_from_slice(&digest);
            }
        }
        digests.resize(digests.len().next_multiple_of(row.target_block as usize), 0);
        let target = row.target + first * DIGEST_LEN as u64;
        (self.sink)(target, digests).context(|| "Failed to write Verity hash data".to_owned())
    }
}

fn name_read(err: io::Error) -> Error {
    Error::because("Failed to read data for Verity", err)
}

/// True if a range of the disk holds nothing but a hole.
fn is_hole(disk: &dyn Disk, start: u64, len: u64) -> io::Result<bool> {
    Ok(disk.next_data(start)?.is_none_or(|data| data.start >= start + len))
}

/// Chunks that are still to do.
struct Queue {
    next: AtomicU64,
    /// Blocks that are finished.
    done: AtomicU64,
    /// Somebody failed.
    stop: AtomicBool,
    chunks: u64,
    chunk_blocks: u64,
}

impl Queue {
    /// First block and number of blocks of the next chunk.
    fn take(&self, blocks: u64) -> Option<(u64, u64)> {
        let chunk = self.next.fetch_add(1, Ordering::Relaxed);
        if chunk >= self.chunks || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let first = chunk * self.chunk_blocks;
        Some((first, self.chunk_blocks.min(blocks - first)))
    }
}
