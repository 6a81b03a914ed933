//! Block devices and plain image files.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::{Access, BULK_ALIGN, Disk, Lock, partition_path};
use crate::sys::{blk, blkpg, fs};

/// What a GPT header starts with.
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// First wait where something is busy for a moment; each further one is twice as long.
const BUSY_WAIT_MIN: Duration = Duration::from_millis(2);
/// LIMIT: longest single wait; about a second in all.
const BUSY_WAIT_MAX: Duration = Duration::from_millis(512);

/// How many zeros are written at once, in bytes.
const ZEROS: usize = 64 << 10;

/// A block device or an image file.
pub struct FileDisk {
    path: PathBuf,
    file: File,
    /// The same disk once more, past the page cache; none where an image file lies on something
    /// that cannot do so. Half the CPU time of a copy is the page cache's.
    direct: Option<File>,
    /// Cleared when the kernel refuses what it had seemed to allow.
    is_direct_usable: AtomicBool,
    is_device: bool,
    size: AtomicU64,
    sector_size: u32,
}

impl FileDisk {
    /// Opens a block device or a regular file.
    pub fn open(path: &Path, access: Access) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        // Not to hang on a fifo.
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(path)?;
        let is_device = blk::is_block_device(&file)?;
        if !is_device && !file.metadata()?.is_file() {
            return Err(Errno::NOTBLK.into());
        }
        // Some drivers let it be opened, and only refuse to be written to.
        if is_device && access == Access::Write && blk::is_read_only(&file)? {
            return Err(Errno::ROFS.into());
        }
        let size = if is_device { blk::size_bytes(&file)? } else { file.metadata()?.len() };
        let sector_size =
            if is_device { blk::sector_size_bytes(&file)? } else { sniff_sector_size(&file, size) };
        let direct = if access == Access::Write {
            let flags = OFlags::DIRECT.bits().cast_signed();
            OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
        } else {
            None
        };
        // A name under /dev/disk has no rule for the names of its partitions.
        let path = if is_device { path.canonicalize()? } else { path.to_path_buf() };
        let is_direct_usable = AtomicBool::new(true);
        let size = AtomicU64::new(size);
        Ok(Self { path, file, direct, is_direct_usable, is_device, size, sector_size })
    }

    /// The same disk with another sector size, which is what an image file has that is made for a
    /// disk of that kind.
    #[must_use]
    pub fn with_sector_size(mut self, bytes: u32) -> Self {
        self.sector_size = bytes;
        self
    }

    /// True for a block device, false for a file.
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// The node or file; of a device the name that the kernel gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Locks the disk like [`Disk::lock`], or, `is_shared`, together with other readers. None if
    /// somebody else has a lock and this is not to wait.
    pub fn lock_as(&self, is_shared: bool, waits: bool) -> io::Result<Option<Box<dyn Lock>>> {
        // A descriptor of its own: the lock must go when the guard does.
        let file = File::open(&self.path)?;
        let operation = match (is_shared, waits) {
            (false, true) => FlockOperation::LockExclusive,
            (false, false) => FlockOperation::NonBlockingLockExclusive,
            (true, true) => FlockOperation::LockShared,
            (true, false) => FlockOperation::NonBlockingLockShared,
        };
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if !waits => return Ok(None),
                result => {
                    result?;
                    return Ok(Some(Box::new(Flock { _file: file })));
                }
            }
        }
    }

    /// Runs what fails with `EBUSY` for a moment after a node was closed: the kernel drops the last
    /// reference late, and the device manager looks at new nodes.
    fn retried(call: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        let mut wait = BUSY_WAIT_MIN;
        loop {
            match call() {
                Err(err) if Errno::from_io_error(&err) == Some(Errno::BUSY) => {
                    if wait > BUSY_WAIT_MAX {
                        return Err(err);
                    }
                    std::thread::sleep(wait);
                    wait *= 2;
                }
                result => return result,
            }
        }
    }

    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes() => Ok(()),
            _ => Err(Errno::NOSPC.into()),
        }
    }

    fn write_zeros(&self, mut offset: u64, mut len: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(ZEROS)];
        while len > 0 {
            let part = usize::try_from(len).unwrap_or(usize::MAX).min(zeros.len());
            let (some, _) = zeros.split_at(part);
            self.file.write_all_at(some, offset)?;
            offset += part as u64;
            len -= part as u64;
        }
        Ok(())
    }
}

impl Disk for FileDisk {
    fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn sector_size_bytes(&self) -> u32 {
        self.sector_size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // An image file would silently grow.
        self.check(offset, bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset)
    }

    fn write_bulk(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len() as u64)?;
        let is_aligned = offset.is_multiple_of(u64::from(self.sector_size))
            && (bytes.len() as u64).is_multiple_of(u64::from(self.sector_size))
            && bytes.as_ptr().align_offset(BULK_ALIGN) == 0;
        if let Some(direct) = &self.direct
            && is_aligned
            && self.is_direct_usable.load(Ordering::Relaxed)
        {
            match direct.write_all_at(bytes, offset) {
                Err(err) if err.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.is_direct_usable.store(false, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        self.file.write_all_at(bytes, offset)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        let unit = if self.is_device { u64::from(self.sector_size) } else { 4096 };
        let end = offset + len;
        let (first, last) = (offset.next_multiple_of(unit), end - end % unit);
        if first >= last {
            return self.write_zeros(offset, len);
        }
        let done = if self.is_device {
            blk::zero_out(&self.file, first, last - first)
        } else {
            fs::punch_hole(&self.file, first, last - first)
        };
        match done.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                self.write_zeros(first, last - first)?;
            }
            _ => done?,
        }
        self.write_zeros(offset, first - offset)?;
        self.write_zeros(last, end - last)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if self.is_device || offset >= self.size_bytes() {
            return Ok((offset < self.size_bytes()).then_some(offset..self.size_bytes()));
        }
        let found = fs::next_data(&self.file, offset)?;
        Ok(found.map(|(start, end)| start..end))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.lock_as(false, true)?.ok_or_else(|| Errno::WOULDBLOCK.into())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.check(offset, len)?;
        let unit = u64::from(self.sector_size);
        let (first, last) = (offset.next_multiple_of(unit), (offset + len) / unit * unit);
        if first >= last {
            return Ok(true);
        }
        let done = if self.is_device {
            blk::discard(&self.file, first, last - first)
        } else {
            fs::punch_hole(&self.file, first, last - first)
        };
        match done.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::Unsupported | io::ErrorKind::ResourceBusy) => Ok(false),
            _ => done.map(|()| true),
        }
    }

    fn grow(&self, size_bytes: u64, is_allocated: bool) -> io::Result<()> {
        if self.is_device {
            return Err(Errno::OPNOTSUPP.into());
        }
        let old = self.size_bytes();
        if size_bytes > old {
            if i64::try_from(size_bytes).is_err() {
                return Err(Errno::FBIG.into());
            }
            self.file.set_len(size_bytes)?;
            if is_allocated {
                let flags = rustix::fs::FallocateFlags::empty();
                match rustix::fs::fallocate(&self.file, flags, old, size_bytes - old) {
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                    result => result?,
                }
            }
            self.size.store(size_bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn has_partition_nodes(&self) -> bool {
        self.is_device && blkpg::is_supported(&self.file)
    }

    fn add_partition(&self, number: u32, offset: u64, len: u64) -> io::Result<()> {
        if !self.has_partition_nodes() {
            return Ok(());
        }
        Self::retried(&|| blkpg::add(&self.file, number, offset, len))
    }

    fn remove_partition(&self, number: u32) -> io::Result<()> {
        if !self.has_partition_nodes() {
            return Ok(());
        }
        match Self::retried(&|| blkpg::remove(&self.file, number)) {
            Err(err) if Errno::from_io_error(&err) == Some(Errno::NXIO) => Ok(()),
            result => result,
        }
    }

    fn resize_partition(&self, number: u32, offset: u64, len: u64) -> io::Result<()> {
        if !self.has_partition_nodes() {
            return Ok(());
        }
        Self::retried(&|| blkpg::resize(&self.file, number, offset, len))
    }

    fn place(&self) -> Option<(PathBuf, u64)> {
        Some((self.path.clone(), 0))
    }

    fn partition_changed(&self, number: u32) {
        if !self.is_device {
            return;
        }
        // The cache of the partition node is not that of the whole disk through which the slot
        // was written.
        if let Ok(node) = File::open(partition_path(&self.path, number)) {
            let _ = blk::flush_cache(&node);
        }
        // Fails where a partition is mounted, which is normal: starts and sizes have not
        // changed, so the kernel's view is right in everything but the labels.
        let _ = blk::reread_partitions(&self.file);
    }
}

struct Flock {
    _file: File,
}

impl Lock for Flock {}

/// The sector size an image was partitioned for: where a GPT header is. Without any, 512.
fn sniff_sector_size(file: &File, size: u64) -> u32 {
    let has_header = |offset: u64| {
        let mut signature = [0; 8];
        file.read_exact_at(&mut signature, offset).is_ok() && &signature == SIGNATURE
    };
    let sizes = [512_u32, 1024, 2048, 4096];
    let primary = sizes.iter().find(|sector| has_header(u64::from(**sector)));
    let backup = || {
        let has_backup =
            |sector: &&u32| size.checked_sub(u64::from(**sector)).is_some_and(has_header);
        sizes.iter().find(has_backup)
    };
    primary.or_else(backup).copied().unwrap_or(512)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        file
    }

    #[test]
    fn the_sector_size_of_an_image_is_where_its_header_is() {
        let image = image(1 << 20);
        let sector = || FileDisk::open(image.path(), Access::Read).unwrap().sector_size_bytes();
        assert_eq!(sector(), 512);
        image.as_file().write_all_at(SIGNATURE, (1 << 20) - 4096).unwrap();
        assert_eq!(sector(), 4096);
        image.as_file().write_all_at(SIGNATURE, 512).unwrap();
        assert_eq!(sector(), 512);
    }

    #[test]
    fn nothing_grows_an_image() {
        let image = image(8192);
        let disk = FileDisk::open(image.path(), Access::Write).unwrap();
        assert!(disk.write_at(8191, b"ab").is_err());
        assert!(disk.write_bulk(8192, b"a").is_err());
        assert!(disk.zero(4096, 4097).is_err());
        assert!(disk.write_at(u64::MAX, b"a").is_err());
        let err = disk.grow(u64::MAX, false).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(Errno::FBIG.raw_os_error()));
        assert_eq!(image.as_file().metadata().unwrap().len(), 8192);
    }

    #[test]
    fn zeroing_hits_exactly_its_range() {
        let image = image(64 << 10);
        image.as_file().write_all_at(&[7; 64 << 10], 0).unwrap();
        let disk = FileDisk::open(image.path(), Access::Write).unwrap();
        for (offset, len) in [(1_u64, 5_u64), (4000, 9000), (20000, 40000), (65535, 1), (0, 0)] {
            disk.zero(offset, len).unwrap();
        }
        let mut bytes = vec![0; 64 << 10];
        disk.read_at(0, &mut bytes).unwrap();
        let is_zero = |i: usize| {
            (1..6).contains(&i)
                || (4000..13000).contains(&i)
                || (20000..60000).contains(&i)
                || i == 65535
        };
        for (i, byte) in bytes.iter().enumerate() {
            assert_eq!(*byte == 0, is_zero(i), "byte {i}");
        }
    }

    #[test]
    fn a_directory_is_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileDisk::open(dir.path(), Access::Read).is_err());
    }
}
