//! Where payload goes: a slot of a disk or a file, written at offsets and out of order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::disk::Disk;
use crate::sys::fs;
use crate::unpack::zero;

/// Random access to what is being written. Offsets are relative to the start of the payload.
pub(super) trait Output: Sync {
    /// Writes bytes that are not worth skipping.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes a range read as zeros.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Runs of zeros of this many bytes at such an offset are zeroed instead of written.
    fn zero_bytes(&self) -> usize;

    /// Bytes there is room for.
    fn limit_bytes(&self) -> u64;

    /// Reads back.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Takes over a whole file by sharing its blocks; false where that cannot be done.
    fn share(&self, _: &File) -> bool {
        false
    }
}

/// Writes a buffer, leaving out what is zero.
pub(super) fn put(output: &dyn Output, offset: u64, bytes: &[u8]) -> io::Result<()> {
    for run in zero::runs(bytes, output.zero_bytes()) {
        let at = offset + run.range.start as u64;
        if run.is_zero && run.range.len() >= output.zero_bytes() {
            output.zero(at, run.range.len() as u64)?;
        } else {
            output.write(at, bytes.get(run.range).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// A slot. What it held before has to go, zeros included.
pub(super) struct SlotOutput<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) offset_bytes: u64,
    pub(super) size_bytes: u64,
}

impl SlotOutput<'_> {
    /// The place on the disk of a range of the slot; never anything outside.
    fn place(&self, offset: u64, len: u64) -> io::Result<u64> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes => Ok(self.offset_bytes + offset),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl Output for SlotOutput<'_> {
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_bulk(self.place(offset, bytes.len() as u64)?, bytes)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.zero(self.place(offset, len)?, len)
    }

    fn zero_bytes(&self) -> usize {
        // A command to the device costs as much as a write of some tens of KiB.
        64 << 10
    }

    fn limit_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(self.place(offset, buffer.len() as u64)?, buffer)
    }
}

/// A file that holds nothing beyond what is being written: zeros are holes.
pub(super) struct FileOutput {
    pub(super) file: File,
}

impl Output for FileOutput {
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn zero_bytes(&self) -> usize {
        4096
    }

    fn share(&self, source: &File) -> bool {
        fs::clone_file(&self.file, source).is_ok()
    }

    fn limit_bytes(&self) -> u64 {
        crate::unpack::MAX_BYTES
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        // Zeros at the end are a hole that is not there yet.
        match self.file.read_exact_at(buffer, offset) {
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => {
                buffer.fill(0);
                let size = self.file.metadata()?.len().saturating_sub(offset);
                let there = usize::try_from(size).unwrap_or(usize::MAX).min(buffer.len());
                self.file.read_exact_at(buffer.get_mut(..there).unwrap_or_default(), offset)
            }
            result => result,
        }
    }
}
