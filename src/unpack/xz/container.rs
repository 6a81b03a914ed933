//! The .xz container around LZMA2 data (.xz file format 1.2.1): headers, sizes, the index.
//!
//! Pure functions over bytes. They find where blocks begin and end, and check what spans blocks;
//! everything inside a block is checked once more by liblzma.

use sha2::{Digest, Sha256};

use crate::unpack::{Error, Format};

/// Length of a stream header and of a stream footer.
pub(super) const HEADER_BYTES: usize = 12;
const HEADER_MAGIC: &[u8] = b"\xfd7zXZ\0";
const FOOTER_MAGIC: &[u8] = b"YZ";
/// The only filter that may come last.
const LZMA2: u64 = 0x21;
/// Longest encoded number.
pub(super) const NUMBER_BYTES: usize = 9;

pub(super) fn corrupt(what: &'static str) -> Error {
    Error::Corrupt(Format::Xz, what)
}

/// The flags of a stream header, checked; `is_first` decides what a wrong magic means.
pub(super) fn stream_flags(header: &[u8], is_first: bool) -> Result<[u8; 2], Error> {
    let (magic, rest) = header.split_at_checked(HEADER_MAGIC.len()).unwrap_or_default();
    if magic != HEADER_MAGIC {
        return Err(match is_first {
            true => corrupt("invalid stream header"),
            false => Error::TrailingGarbage(Format::Xz),
        });
    }
    let (flags, crc) = rest.split_at_checked(2).unwrap_or_default();
    if crc != crc32(flags).to_le_bytes() {
        return Err(corrupt("wrong checksum of the stream header"));
    }
    match flags {
        [0, check @ (0 | 1 | 4 | 10)] => Ok([0, *check]),
        [0, 0..=15] => Err(Error::Unsupported(Format::Xz, "a kind of checksum that is not known")),
        _ => Err(Error::Unsupported(Format::Xz, "a filter or option that is not known")),
    }
}

/// Length of the check after each block.
pub(super) fn check_bytes(flags: [u8; 2]) -> usize {
    match flags {
        [_, 1] => 4,
        [_, 4] => 8,
        [_, 10] => 32,
        _ => 0,
    }
}

/// What a block header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) packed: Option<u64>,
    pub(super) unpacked: Option<u64>,
    /// Bytes of the dictionary.
    pub(super) dictionary: u64,
}

/// The length of a block header by its first byte, which is not 0.
pub(super) fn block_header_bytes(first: u8) -> usize {
    (usize::from(first) + 1) * 4
}

/// Reads a complete block header.
pub(super) fn block_header(header: &[u8]) -> Result<BlockHeader, Error> {
    let invalid = || corrupt("invalid block header");
    let unknown = || Error::Unsupported(Format::Xz, "a filter or option that is not known");
    let (body, crc) = header.split_last_chunk::<4>().ok_or_else(invalid)?;
    if *crc != crc32(body).to_le_bytes() {
        return Err(corrupt("wrong checksum of a block header"));
    }
    let (&flags, mut rest) = body.get(1..).and_then(<[u8]>::split_first).ok_or_else(invalid)?;
    if flags & 0x3c != 0 {
        return Err(unknown());
    }
    let mut number = || take_number(&mut rest).ok_or_else(invalid);
    let mut found = BlockHeader::default();
    if flags & 0x40 != 0 {
        found.packed = Some(number()?);
    }
    if flags & 0x80 != 0 {
        found.unpacked = Some(number()?);
    }
    let mut last: (u64, &[u8]) = (0, &[]);
    for _ in 0..=flags & 3 {
        let id = take_number(&mut rest).ok_or_else(invalid)?;
        let len = take_number(&mut rest).and_then(|len| usize::try_from(len).ok());
        let (properties, tail) =
            len.and_then(|len| rest.split_at_checked(len)).ok_or_else(invalid)?;
        (last, rest) = ((id, properties), tail);
    }
    if rest.iter().any(|&byte| byte != 0) {
        return Err(unknown());
    }
    found.dictionary = match last {
        (LZMA2, &[bits @ 0..=39]) => (2 | u64::from(bits & 1)) << (bits / 2 + 11),
        (LZMA2, &[40]) => u64::from(u32::MAX),
        _ => return Err(unknown()),
    };
    Ok(found)
}

/// One chunk of LZMA2 data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// The end of the block; one byte.
    End,
    /// Bytes including the header, and bytes that come out.
    Data { packed: usize, unpacked: u64 },
}

/// Bytes of a chunk header that [`chunk`] wants to see for a first byte.
pub(super) fn chunk_header_bytes(control: u8) -> usize {
    match control {
        0 => 1,
        1..=0x7f => 3,
        _ => 5,
    }
}

/// Reads a chunk header.
pub(super) fn chunk(header: &[u8]) -> Result<Chunk, Error> {
    let word = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low])) + 1;
    match *header {
        [0, ..] => Ok(Chunk::End),
        [1 | 2, a, b, ..] => {
            Ok(Chunk::Data { packed: 3 + word(a, b), unpacked: word(a, b) as u64 })
        }
        [control @ 0x80..=0xff, a, b, c, d, ..] => Ok(Chunk::Data {
            // From 0xc0 on there is a byte of properties.
            packed: 5 + usize::from(control >= 0xc0) + word(c, d),
            unpacked: (u64::from(control & 0x1f) << 16) + word(a, b) as u64,
        }),
        _ => Err(corrupt("invalid chunk")),
    }
}

/// Takes a variable-length number off the front.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let len = bytes.iter().take(NUMBER_BYTES).position(|byte| byte & 0x80 == 0)? + 1;
    let (digits, rest) = bytes.split_at_checked(len)?;
    // The shortest form is the only one.
    if len > 1 && digits.last() == Some(&0) {
        return None;
    }
    *bytes = rest;
    Some(digits.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
}

/// The sizes of the blocks of a stream, in constant memory: what was seen and what the index says
/// are equal if count and digest are.
#[derive(Clone, Default)]
pub(super) struct Sizes {
    count: u64,
    digest: Sha256,
}

impl Sizes {
    /// Adds a block: its size without padding, and what comes out of it.
    pub(super) fn add(&mut self, unpadded: u64, unpacked: u64) {
        self.count += 1;
        self.digest.update(unpadded.to_le_bytes());
        self.digest.update(unpacked.to_le_bytes());
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

impl PartialEq for Sizes {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
            && self.digest.clone().finalize() == other.digest.clone().finalize()
    }
}

/// Checks a stream footer against the header's flags and the length of the index.
pub(super) fn check_footer(footer: &[u8], flags: [u8; 2], index_bytes: u64) -> Result<(), Error> {
    let (crc, rest) = footer.split_first_chunk::<4>().ok_or_else(|| corrupt("invalid footer"))?;
    let (body, magic) = rest.split_at_checked(6).unwrap_or_default();
    if magic != FOOTER_MAGIC || *crc != crc32(body).to_le_bytes() {
        return Err(corrupt("invalid stream footer"));
    }
    let (backward, footer_flags) = body.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    let backward = (u64::from(u32::from_le_bytes(*backward)) + 1) * 4;
    if footer_flags != flags || backward != index_bytes {
        return Err(corrupt("stream footer does not match"));
    }
    Ok(())
}

/// CRC-32 (IEEE) of something short.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    Crc32::default().update(bytes).value()
}

/// CRC-32 (IEEE), piece by piece. Headers and indexes are short, so no table.
#[derive(Clone, Copy, Default)]
pub(super) struct Crc32(u32);

impl Crc32 {
    pub(super) fn update(self, bytes: &[u8]) -> Self {
        let crc = bytes.iter().fold(!self.0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        });
        Self(!crc)
    }

    pub(super) fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_its_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(Crc32::default().update(b"1234").update(b"56789").value(), 0xcbf4_3926);
    }

    #[test]
    fn numbers_are_short_and_unique() {
        let take = |mut bytes: &[u8]| take_number(&mut bytes).map(|value| (value, bytes.len()));
        assert_eq!(take(b"\x05x"), Some((5, 1)));
        assert_eq!(take(b"\x80\x01"), Some((128, 0)));
        assert_eq!(take(b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), Some((u64::MAX >> 1, 0)));
        for bad in [&b""[..], b"\x80", b"\x80\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert_eq!(take(bad), None);
        }
    }

    #[test]
    fn block_header_of_a_real_file() {
        // xz 5.4 -T1 --block-size=…: sizes present, one filter, 8 MiB dictionary.
        let mut header = vec![0x03, 0xc0, 0x05, 0x07, 0x21, 0x01, 0x16, 0, 0, 0, 0, 0];
        header.extend(crc32(&header).to_le_bytes());
        let found = block_header(&header).unwrap();
        let expected = BlockHeader { packed: Some(5), unpacked: Some(7), dictionary: 8 << 20 };
        assert_eq!(found, expected);
        for at in 0..header.len() {
            let mut bad = header.clone();
            bad[at] ^= 0x10;
            assert!(block_header(&bad).is_err(), "{at}");
            assert!(block_header(&header[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn chunk_headers() {
        assert_eq!(chunk(&[0]).unwrap(), Chunk::End);
        assert_eq!(chunk(&[1, 0, 0]).unwrap(), Chunk::Data { packed: 4, unpacked: 1 });
        assert_eq!(
            chunk(&[0xff, 0xff, 0xff, 0xff, 0xff]).unwrap(),
            Chunk::Data { packed: 6 + 0x10000, unpacked: 2 << 20 }
        );
        assert_eq!(chunk(&[0x80, 0, 1, 0, 2]).unwrap(), Chunk::Data { packed: 5 + 3, unpacked: 2 });
        assert!(chunk(&[3, 0, 0]).is_err() && chunk(&[0x7f, 0, 0]).is_err());
    }
}
