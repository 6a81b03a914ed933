//! Copies of blocks, from files and devices onto disks, holes and all.
//!
//! A hole stays a hole and a block of zeros becomes one where the target can have holes; what the
//! target held before is gone in any case. Between two files the kernel copies, or shares the
//! blocks where the file system can. Memory is one buffer, whatever the length.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use super::{BULK_ALIGN, Disk};
use crate::sys::{blk, fs};

/// LIMIT: bytes in memory at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// LIMIT: bytes the kernel copies before somebody is told how far it is.
const KERNEL_BYTES: u64 = 16 << 20;

/// What is copied.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// A file, a block device, or a stream without end.
    pub file: &'a File,
    /// Where it begins, in bytes; a stream is read from where it is.
    pub offset: u64,
    /// How much, in bytes.
    pub len: u64,
}

/// Copies to `at` of the target. Nothing is durable before [`Disk::sync`]. `is_blank` says that the
/// target reads as zeros there already; `advance` is told how many more bytes are done.
///
/// # Errors
///
/// The source is shorter than it should be (`UnexpectedEof`); or it cannot be read or the target
/// not be written.
pub fn copy(
    source: Source<'_>,
    target: &dyn Disk,
    at: u64,
    is_blank: bool,
    advance: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let end = source.offset.checked_add(source.len).ok_or(Errno::OVERFLOW)?;
    let is_file = source.file.metadata()?.is_file();
    let mut copier = Copier {
        source,
        is_stream: !is_file && !blk::is_block_device(source.file)?,
        shared: if is_file { writable_file(target) } else { None },
        target,
        at,
        is_blank,
        buffer: Vec::new(),
        zeros: 0..0,
        advance,
    };
    if !is_file {
        // Devices have no holes to ask for.
        copier.data(source.offset, end)?;
        return copier.flush_zeros();
    }
    if source.file.metadata()?.len() < end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut position = source.offset;
    while position < end {
        let (start, stop) = fs::next_data(source.file, position)?.unwrap_or((end, end));
        let (start, stop) = (start.min(end), stop.min(end));
        copier.hole(position, start)?;
        copier.data(start, stop)?;
        position = stop;
    }
    copier.flush_zeros()
}

/// The file that the target is, and where it begins in it.
fn writable_file(target: &dyn Disk) -> Option<(File, u64)> {
    let (path, offset) = target.place()?;
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some((file, offset))
}

struct Copier<'a, 'b> {
    source: Source<'a>,
    is_stream: bool,
    /// Set while the kernel can copy.
    shared: Option<(File, u64)>,
    target: &'a dyn Disk,
    at: u64,
    is_blank: bool,
    buffer: Vec<u8>,
    /// Range of the target that is still to be made zeros.
    zeros: std::ops::Range<u64>,
    advance: &'b mut dyn FnMut(u64),
}

impl Copier<'_, '_> {
    fn place(&self, position: u64) -> u64 {
        self.at + (position - self.source.offset)
    }

    fn hole(&mut self, start: u64, end: u64) -> io::Result<()> {
        if start >= end {
            return Ok(());
        }
        let (from, to) = (self.place(start), self.place(end));
        if self.zeros.end == from {
            self.zeros.end = to;
        } else {
            self.flush_zeros()?;
            self.zeros = from..to;
        }
        (self.advance)(end - start);
        Ok(())
    }

    fn flush_zeros(&mut self) -> io::Result<()> {
        let zeros = std::mem::replace(&mut self.zeros, 0..0);
        if zeros.is_empty() || self.is_blank {
            return Ok(());
        }
        self.target.zero(zeros.start, zeros.end - zeros.start)
    }

    fn data(&mut self, start: u64, end: u64) -> io::Result<()> {
        let mut position = start;
        while position < end {
            if let Some(done) = self.in_kernel(position, end)? {
                position += done;
                (self.advance)(done);
            } else {
                position += self.through_memory(position, end)?;
            }
        }
        Ok(())
    }

    /// How much the kernel copied; none where it cannot.
    fn in_kernel(&mut self, position: u64, end: u64) -> io::Result<Option<u64>> {
        let Some((file, base)) = &self.shared else { return Ok(None) };
        let len = usize::try_from((end - position).min(KERNEL_BYTES)).unwrap_or(usize::MAX);
        let (mut from, mut to) = (position, base + self.place(position));
        let limit = self.target.size_bytes();
        if self.place(position) + len as u64 > limit {
            return Err(Errno::NOSPC.into());
        }
        match rustix::fs::copy_file_range(
            self.source.file,
            Some(&mut from),
            file,
            Some(&mut to),
            len,
        ) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(done) => Ok(Some(done as u64)),
            // Other file systems, kernels that are too old, sandboxes that do not know the call.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                self.shared = None;
                Ok(None)
            }
            Err(err) => Err(err.into()),
        }
    }

    fn through_memory(&mut self, position: u64, end: u64) -> io::Result<u64> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER_BYTES + BULK_ALIGN, 0);
        let skip = buffer.as_ptr().align_offset(BULK_ALIGN).min(BULK_ALIGN);
        let len = usize::try_from(end - position).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let bytes = buffer.get_mut(skip..skip + len).unwrap_or_default();
        if self.is_stream {
            let mut stream = self.source.file;
            stream.read_exact(bytes)?;
        } else {
            self.source.file.read_exact_at(bytes, position)?;
        }
        if is_zero(bytes) {
            self.hole(position, position + len as u64)?;
        } else {
            self.flush_zeros()?;
            self.target.write_bulk(self.place(position), bytes)?;
            (self.advance)(len as u64);
        }
        self.buffer = buffer;
        Ok(len as u64)
    }
}

/// True if all bytes are zero; eight at a time.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| u64::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, FileDisk, Window};
    use std::os::unix::fs::MetadataExt as _;

    /// A disk that only writes through this process.
    struct Plain<'a>(&'a FileDisk);

    impl Disk for Plain<'_> {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }
        fn sector_size_bytes(&self) -> u32 {
            512
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.0.read_at(offset, buffer)
        }
        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.write_at(offset, bytes)
        }
        fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
            self.0.zero(offset, len)
        }
        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }
        fn lock(&self) -> io::Result<Box<dyn crate::disk::Lock>> {
            self.0.lock()
        }
    }

    const SIZE: u64 = 16 << 20;

    /// 10 MiB with data at 0, across 3 MiB and at the end.
    fn source() -> (tempfile::NamedTempFile, Vec<u8>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10 << 20).unwrap();
        for (offset, len, byte) in
            [(0, 5000, 1), ((3 << 20) - 100, 70_000, 2), ((10 << 20) - 3, 3, 3)]
        {
            file.as_file().write_all_at(&vec![byte; len], offset).unwrap();
        }
        let bytes = std::fs::read(file.path()).unwrap();
        (file, bytes)
    }

    fn target(fill: u8) -> (tempfile::NamedTempFile, FileDisk) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE).unwrap();
        if fill != 0 {
            file.as_file().write_all_at(&vec![fill; SIZE as usize], 0).unwrap();
        }
        let disk = FileDisk::open(file.path(), Access::Write).unwrap();
        (file, disk)
    }

    fn check(is_plain: bool) {
        let (file, bytes) = source();
        let (image, disk) = target(9);
        let plain = Plain(&disk);
        let whole: &dyn Disk = if is_plain { &plain } else { &disk };
        let window = Window::new(whole, 1 << 20, 12 << 20).unwrap();
        let mut done = 0;
        let what = Source { file: file.as_file(), offset: 512, len: (10 << 20) - 512 };
        copy(what, &window, 4096, false, &mut |more| done += more).unwrap();
        assert_eq!(done, (10 << 20) - 512);
        let after = std::fs::read(image.path()).unwrap();
        let start = (1 << 20) + 4096;
        let end = start + (10 << 20) - 512;
        assert!(after[..start].iter().all(|byte| *byte == 9));
        assert!(after[start..end] == bytes[512..]);
        assert!(after[end..].iter().all(|byte| *byte == 9));
    }

    #[test]
    fn a_copy_is_the_source_and_nothing_beside_it_changes() {
        check(false);
        check(true);
    }

    #[test]
    fn holes_stay_holes_on_a_blank_target() {
        let (file, bytes) = source();
        let (image, disk) = target(0);
        let what = Source { file: file.as_file(), offset: 0, len: 10 << 20 };
        copy(what, &disk, 0, true, &mut |_| {}).unwrap();
        assert!(std::fs::read(image.path()).unwrap()[..10 << 20] == bytes);
        assert!(image.as_file().metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_stream_fills_what_it_is_asked_to() {
        let (image, disk) = target(7);
        let zeros = File::open("/dev/zero").unwrap();
        let what = Source { file: &zeros, offset: 0, len: 3 << 20 };
        copy(what, &disk, 1 << 20, false, &mut |_| {}).unwrap();
        let after = std::fs::read(image.path()).unwrap();
        assert!(after[1 << 20..4 << 20].iter().all(|byte| *byte == 0));
        assert!(after[4 << 20..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_source_that_ends_early_and_a_target_that_is_full_are_errors() {
        let (file, _) = source();
        let (_image, disk) = target(0);
        let what = Source { file: file.as_file(), offset: 1, len: 10 << 20 };
        let err = copy(what, &disk, 0, false, &mut |_| {}).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
        let window = Window::new(&disk, 0, 1 << 20).unwrap();
        let what = Source { file: file.as_file(), offset: 0, len: 10 << 20 };
        let err = copy(what, &window, 0, false, &mut |_| {}).unwrap_err();
        assert_eq!(Errno::from_io_error(&err), Some(Errno::NOSPC));
    }
}
