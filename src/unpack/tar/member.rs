//! Reads members off an archive: headers with all their extensions, then their data.

use std::io::{self, Read};

use super::header::{BLOCK, Header, gnu_map};
use super::{acl, pax};
use crate::crypto::text::unbase64;
use crate::error::{Error, Result};
use crate::unpack;

// LIMIT: what is held in memory for one member.
/// Longest name of GNU tar, and longest pax header.
const EXTENSION_MAX: u64 = 1 << 20;
/// Longest path, as the kernel sees it.
const PATH_MAX: usize = 4096;
/// Pieces of data in one sparse file.
const PIECES_MAX: usize = 1 << 20;

/// A member of the archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// The full size of a file.
    pub(super) size: u64,
    /// Where the stored data belongs, in ascending order: offset and length.
    pub(super) pieces: Vec<(u64, u64)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink,
    Hardlink,
    Node(NodeKind, (u32, u32)),
}

/// What has neither data nor a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Fifo,
    Char,
    Block,
}

impl Member {
    /// Bytes of contents that are written.
    pub(super) fn data_bytes(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.1))
    }

    /// The path for messages, without the slash that marks directories.
    pub(super) fn shown(&self) -> String {
        shown(self.path.strip_suffix(b"/").unwrap_or(&self.path))
    }

    /// The link target for messages.
    pub(super) fn shown_link(&self) -> String {
        shown(&self.link)
    }
}

/// Bytes without anything a terminal would obey.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .flat_map(|c| {
            let escaped: Vec<char> =
                if c.is_control() { c.escape_default().collect() } else { vec![c] };
            escaped
        })
        .collect()
}

/// The archive.
pub(super) struct Members<R> {
    input: R,
    /// Stored data of the current member not yet read, and the padding behind it.
    left: u64,
    padding: u64,
    /// Records of the last global pax header.
    global: Vec<u8>,
    is_first: bool,
}

/// Extensions collected on the way to a member.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
}

fn damaged(what: &str) -> Error {
    Error::new(format!("Failed to parse archive: {what}"))
}

fn truncated() -> Error {
    damaged("archive ends too early")
}

fn unreadable(err: io::Error) -> Error {
    match unpack::Error::from_read(err) {
        unpack::Error::Cancelled => Error::new("Interrupted.")
            .hint("Run the same command again to go on.")
            .with_errno(rustix::io::Errno::INTR.raw_os_error()),
        err => {
            let errno = err.errno();
            let error = Error::because("Failed to parse archive", err);
            match errno {
                Some(errno) => error.with_errno(errno),
                None => error,
            }
        }
    }
}

impl<R: Read> Members<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, global: Vec::new(), is_first: true }
    }

    /// The next member; None at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut extensions = Extensions::default();
        let mut has_extension = false;
        loop {
            self.skip()?;
            let Some(block) = self.header()? else {
                return if has_extension { Err(truncated()) } else { Ok(None) };
            };
            let header = Header(&block);
            let size = header.size().and_then(|n| u64::try_from(n).ok());
            let size = size.ok_or_else(|| damaged("invalid size"))?;
            has_extension = true;
            match header.kind() {
                b'L' => extensions.path = Some(self.name(size)?),
                b'K' => extensions.link = Some(self.name(size)?),
                b'x' | b'X' => extensions.pax = Some(self.extension(size)?),
                // DIFFERS: defaults for all members are legal; the peer refuses most of them.
                b'g' => {
                    self.global = self.extension(size)?;
                    has_extension = false;
                }
                // The name of the volume.
                b'V' => {
                    self.expect(size);
                    has_extension = false;
                }
                b'M' => return Err(damaged("archives of several volumes are not supported")),
                _ => return self.member(&header, size, extensions).map(Some),
            }
        }
    }

    /// Reads data of the current member; 0 at its end.
    pub(super) fn read(&mut self, data: &mut [u8]) -> Result<usize> {
        let want = data.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(data) = data.get_mut(..want).filter(|data| !data.is_empty()) else {
            return Ok(0);
        };
        match fill(&mut self.input, data)? {
            count if count < want => Err(truncated()),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }

    /// Reads what follows the archive, which is none of our business, so that whoever hashes the
    /// stream sees all of it.
    pub(super) fn drain(&mut self) -> Result<()> {
        io::copy(&mut self.input, &mut io::sink()).map(drop).map_err(unreadable)
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Skips what the current member has left.
    fn skip(&mut self) -> Result<()> {
        let rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let skipped =
            io::copy(&mut (&mut self.input).take(rest), &mut io::sink()).map_err(unreadable)?;
        if skipped < rest { Err(truncated()) } else { Ok(()) }
    }

    /// A header; None at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let count = fill(&mut self.input, &mut block)?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        match count {
            // COMPAT(262): the zeros that end an archive may be missing.
            0 if !is_first => return Ok(None),
            BLOCK if block.iter().all(|&b| b == 0) => return Ok(None),
            BLOCK if Header(&block).is_valid() => return Ok(Some(block)),
            _ => {}
        }
        Err(match is_first {
            true => Error::new("Failed to initialize archive context: Unrecognized archive format"),
            false if count < BLOCK => truncated(),
            false => damaged("bad header checksum"),
        })
    }

    /// The data of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(damaged("names or attributes of a member are too long"));
        }
        self.expect(size);
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        self.read(&mut data)?;
        Ok(data)
    }

    /// A name that was too long for its header.
    fn name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|&b| b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn member(&mut self, header: &Header<'_>, size: u64, extensions: Extensions) -> Result<Member> {
        let global = std::mem::take(&mut self.global);
        let local = extensions.pax.as_deref().unwrap_or_default();
        let malformed = || damaged("malformed pax header");
        let mut records = pax::records(&global).ok_or_else(malformed)?;
        records.extend(pax::records(local).ok_or_else(malformed)?);

        let u32_of = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        let mut member = Member {
            path: extensions.path.unwrap_or_else(|| header.path()),
            link: extensions.link.unwrap_or_else(|| header.link()),
            kind: Kind::File,
            mode: u32_of(header.mode()).ok_or_else(|| damaged("invalid mode"))? & 0o7777,
            uid: u32_of(header.uid()).ok_or_else(|| damaged("invalid owner"))?,
            gid: u32_of(header.gid()).ok_or_else(|| damaged("invalid group"))?,
            mtime: (header.mtime().ok_or_else(|| damaged("invalid time"))?, 0),
            size,
            pieces: Vec::new(),
            xattrs: Vec::new(),
        };
        let mut sparse = Sparse::default();
        for (key, value) in records {
            apply(&mut member, &mut sparse, key, value).ok_or_else(malformed)?;
        }
        member.kind = kind(header, &member.path)?;
        self.global = global;

        // The body of a hard link is real in pax archives only.
        let stored = match member.kind {
            Kind::File => member.size,
            Kind::Hardlink if extensions.pax.is_some() => member.size,
            _ => 0,
        };
        self.expect(stored);
        if member.kind == Kind::File {
            self.pieces(header, &mut member, sparse)?;
        }
        if member.path.len() > PATH_MAX || member.link.len() > PATH_MAX {
            return Err(damaged("path is too long"));
        }
        Ok(member)
    }

    /// Finds out where the stored data of a file belongs.
    fn pieces(&mut self, header: &Header<'_>, member: &mut Member, sparse: Sparse) -> Result<()> {
        let full = if header.kind() == b'S' {
            let (map, mut is_extended, size) = header.gnu_sparse();
            let mut map: Option<Vec<_>> = gnu_map(map).collect();
            while is_extended {
                let mut block = [0; BLOCK];
                if fill(&mut self.input, &mut block)? < BLOCK {
                    return Err(truncated());
                }
                let (entries, rest) = block.split_at(21 * 24);
                is_extended = rest.first() != Some(&0);
                let more: Option<Vec<_>> = gnu_map(entries).collect();
                map = map.zip(more).map(|(mut map, more)| {
                    map.extend(more);
                    map
                });
                limit(map.as_ref().map_or(0, Vec::len))?;
            }
            member.pieces = map.ok_or_else(|| damaged("invalid sparse map"))?;
            size.and_then(|size| u64::try_from(size).ok())
        } else if sparse.is_in_data {
            member.pieces = self.map_in_data()?;
            sparse.size
        } else if sparse.is_in_header {
            member.pieces = sparse.map;
            sparse.size
        } else {
            member.pieces.push((0, member.size));
            Some(member.size)
        };
        member.size = full.ok_or_else(|| damaged("sparse file without a size"))?;
        check_map(&mut member.pieces, member.size, self.left)
    }

    /// The map of format 1.0: decimal lines at the start of the data, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut block = [0; BLOCK];
        let mut at = BLOCK;
        let mut number = || -> Result<u64> {
            let mut digits = Vec::new();
            loop {
                if at == BLOCK {
                    if self.read(&mut block)? < BLOCK {
                        return Err(damaged("invalid sparse map"));
                    }
                    at = 0;
                }
                let byte = block.get(at).copied().unwrap_or_default();
                at += 1;
                match byte {
                    b'\n' => break,
                    _ if digits.len() > 20 => return Err(damaged("invalid sparse map")),
                    byte => digits.push(byte),
                }
            }
            pax::decimal(&digits).ok_or_else(|| damaged("invalid sparse map"))
        };
        let count = usize::try_from(number()?).unwrap_or(usize::MAX);
        limit(count)?;
        (0..count).map(|_| Ok((number()?, number()?))).collect()
    }
}

/// A sparse map may not be longer than this.
fn limit(count: usize) -> Result<()> {
    if count > PIECES_MAX { Err(damaged("sparse file of too many pieces")) } else { Ok(()) }
}

/// Pieces must ascend, not overlap, end within the file, and make up the stored data.
fn check_map(pieces: &mut Vec<(u64, u64)>, size: u64, stored: u64) -> Result<()> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for &(offset, len) in pieces.iter() {
        let next = offset.checked_add(len).filter(|&next| offset >= end && next <= size);
        end = next.ok_or_else(|| damaged("invalid sparse map"))?;
        sum += len;
    }
    // Offsets of files are signed.
    if sum != stored || i64::try_from(size).is_err() {
        return Err(damaged("invalid sparse map"));
    }
    pieces.retain(|piece| piece.1 > 0);
    Ok(())
}

/// What pax headers say of a sparse file, formats 0.0, 0.1 and 1.0.
#[derive(Default)]
struct Sparse {
    size: Option<u64>,
    map: Vec<(u64, u64)>,
    offset: Option<u64>,
    has_name: bool,
    is_in_header: bool,
    is_in_data: bool,
}

/// Applies one pax record; None where its value is malformed. Unknown keys mean nothing to us.
fn apply(member: &mut Member, sparse: &mut Sparse, key: &[u8], value: &[u8]) -> Option<()> {
    let number = || pax::decimal(value);
    let id = || u32::try_from(pax::decimal(value)?).ok();
    match key {
        // `path` then names the archive's stand-in.
        b"path" if sparse.has_name => {}
        b"path" => member.path = value.to_vec(),
        b"linkpath" => member.link = value.to_vec(),
        b"size" => member.size = number()?,
        b"uid" => member.uid = id()?,
        b"gid" => member.gid = id()?,
        b"mtime" => member.mtime = pax::time(value)?,
        b"SCHILY.acl.access" => acl_attribute(member, "system.posix_acl_access", value),
        b"SCHILY.acl.default" => acl_attribute(member, "system.posix_acl_default", value),
        b"GNU.sparse.name" => {
            member.path = value.to_vec();
            sparse.has_name = true;
        }
        b"GNU.sparse.major" => sparse.is_in_data = number()? == 1,
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.size = Some(number()?),
        b"GNU.sparse.numblocks" => sparse.is_in_header = true,
        b"GNU.sparse.offset" => sparse.offset = Some(number()?),
        b"GNU.sparse.numbytes" => sparse.map.push((sparse.offset.take()?, number()?)),
        b"GNU.sparse.map" => {
            let mut numbers = value.split(|&b| b == b',').map(pax::decimal);
            sparse.map.clear();
            while let Some(offset) = numbers.next() {
                sparse.map.push((offset?, numbers.next()??));
            }
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                member.xattrs.push((name.to_vec(), value.to_vec()));
            } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                member.xattrs.push((pax::percent(name).into_owned(), unbase64(value)?));
            }
        }
    }
    Some(())
}

fn acl_attribute(member: &mut Member, name: &str, text: &[u8]) {
    if let Some(value) = acl::attribute(text, name.ends_with("default")) {
        member.xattrs.push((name.as_bytes().to_vec(), value));
    }
}

fn kind(header: &Header<'_>, path: &[u8]) -> Result<Kind> {
    let device = || {
        let (major, minor) = header.device().ok_or_else(|| damaged("invalid device number"))?;
        let number = |n| u32::try_from(n).map_err(|_| damaged("invalid device number"));
        Ok::<_, Error>((number(major)?, number(minor)?))
    };
    Ok(match header.kind() {
        b'1' => Kind::Hardlink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Node(NodeKind::Char, device()?),
        b'4' => Kind::Node(NodeKind::Block, device()?),
        b'5' => Kind::Dir,
        b'6' => Kind::Node(NodeKind::Fifo, (0, 0)),
        // The oldest format has no other way to say it.
        0 | b'0' if path.ends_with(b"/") => Kind::Dir,
        // COMPAT(262): as POSIX demands, what is not known is a file.
        _ => Kind::File,
    })
}

/// Reads until the buffer is full or the stream ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(unreadable(err)),
        }
    }
    Ok(filled)
}
