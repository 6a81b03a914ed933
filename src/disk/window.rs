//! A part of a disk, as a disk of its own.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use rustix::io::Errno;

use super::{Disk, Lock};

/// A range of another disk: what writes a file system into a partition needs no more, and cannot
/// reach beyond it.
pub struct Window<'a> {
    disk: &'a dyn Disk,
    offset: u64,
    size: u64,
    sector_size: u32,
}

impl<'a> Window<'a> {
    /// The range of `size` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if it is not on the disk.
    pub fn new(disk: &'a dyn Disk, offset: u64, size: u64) -> io::Result<Self> {
        match offset.checked_add(size) {
            Some(end) if end <= disk.size_bytes() => {
                Ok(Self { disk, offset, size, sector_size: disk.sector_size_bytes() })
            }
            _ => Err(Errno::NOSPC.into()),
        }
    }

    /// Says another sector size than the disk's; what is in a file may be made for larger ones.
    #[must_use]
    pub fn with_sector_size(mut self, bytes: u32) -> Self {
        self.sector_size = bytes;
        self
    }

    fn at(&self, offset: u64, len: u64) -> io::Result<u64> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(self.offset + offset),
            _ => Err(Errno::NOSPC.into()),
        }
    }
}

impl Disk for Window<'_> {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn sector_size_bytes(&self) -> u32 {
        self.sector_size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(self.at(offset, buffer.len() as u64)?, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(self.at(offset, bytes.len() as u64)?, bytes)
    }

    fn write_bulk(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_bulk(self.at(offset, bytes.len() as u64)?, bytes)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.zero(self.at(offset, len)?, len)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.size {
            return Ok(None);
        }
        let found = self.disk.next_data(self.offset + offset)?;
        // What lies before the window cannot be in it: the search began inside.
        let found = found.map(|data| {
            data.start.saturating_sub(self.offset)..(data.end - self.offset).min(self.size)
        });
        Ok(found.filter(|data| data.start < self.size))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.disk.lock()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.disk.discard(self.at(offset, len)?, len)
    }

    fn place(&self) -> Option<(PathBuf, u64)> {
        let (path, start) = self.disk.place()?;
        Some((path, start + self.offset))
    }
}
