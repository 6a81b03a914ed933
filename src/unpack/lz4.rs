//! LZ4 frames (LZ4 frame format 1.6.4): the layer of headers, lengths and checksums around blocks.
//!
//! Ours because a truncated frame must be an error; the blocks themselves are `lz4_flex`'s.

use super::decode::{Decode, Step};
use super::{Error, Format};

const MAGIC: u32 = 0x184d_2204;
/// Sixteen magics start frames to be skipped.
const MAGIC_SKIPPABLE: u32 = 0x184d_2a50;
/// How far back a linked block may reach.
const WINDOW_BYTES: usize = 64 << 10;

/// Frame descriptor.
#[derive(Clone, Copy, Debug, Default)]
struct Descriptor {
    /// Blocks refer to earlier ones.
    is_linked: bool,
    has_block_checksums: bool,
    has_content_checksum: bool,
    has_content_size: bool,
    has_dictionary: bool,
    /// Bytes, 64 KiB to 4 MiB.
    block_max: usize,
}

impl Descriptor {
    fn parse(flags: u8, block: u8) -> Result<Self, Error> {
        if flags >> 6 != 1 {
            return Err(Error::Unsupported(
                Format::Lz4,
                "a version of the frame that is not known",
            ));
        }
        let size = block >> 4;
        if flags & 2 != 0 || block & 0x8f != 0 || size < 4 {
            return Err(Error::Corrupt(Format::Lz4, "invalid frame header"));
        }
        Ok(Self {
            is_linked: flags & 0x20 == 0,
            has_block_checksums: flags & 0x10 != 0,
            has_content_size: flags & 8 != 0,
            has_content_checksum: flags & 4 != 0,
            has_dictionary: flags & 1 != 0,
            block_max: 1 << (8 + 2 * size),
        })
    }

    /// What follows the two flag bytes: sizes, and the checksum byte.
    fn rest_len(self) -> usize {
        usize::from(self.has_content_size) * 8 + usize::from(self.has_dictionary) * 4 + 1
    }
}

/// The content size in the header of the first frame, if it is there.
pub(super) fn content_size(prefix: &[u8]) -> Option<u64> {
    let descriptor = Descriptor::parse(*prefix.get(4)?, *prefix.get(5)?).ok()?;
    let size = prefix.get(6..14)?.try_into().ok()?;
    descriptor.has_content_size.then(|| u64::from_le_bytes(size))
}

/// What the collected bytes will be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Magic,
    SkipSize,
    Flags,
    Rest,
    BlockSize,
    Block { len: usize, is_raw: bool },
    ContentChecksum,
}

/// A decoder of any number of frames.
pub(super) struct Lz4 {
    state: State,
    /// The bytes of the current state, until there are `need` of them.
    pending: Vec<u8>,
    need: usize,
    /// Bytes of a skippable frame still to be dropped.
    skip: u64,
    descriptor: Descriptor,
    content_size: Option<u64>,
    frame_bytes: u64,
    hash: Xxh32,
    /// The end of what was decoded before `block`.
    window: Vec<u8>,
    block: Vec<u8>,
    block_len: usize,
    block_read: usize,
    is_first: bool,
}

impl Lz4 {
    pub(super) fn new() -> Self {
        Self {
            state: State::Magic,
            pending: Vec::new(),
            need: 4,
            skip: 0,
            descriptor: Descriptor::default(),
            content_size: None,
            frame_bytes: 0,
            hash: Xxh32::new(),
            window: Vec::new(),
            block: Vec::new(),
            block_len: 0,
            block_read: 0,
            is_first: true,
        }
    }

    /// Hands out decoded bytes.
    fn drain(&mut self, output: &mut [u8]) -> usize {
        let ready = self.block.get(self.block_read..self.block_len).unwrap_or_default();
        let count = ready.len().min(output.len());
        if let (Some(to), Some(from)) = (output.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.block_read += count;
        count
    }

    /// Takes input until there is enough of it; returns what it took.
    fn collect(&mut self, input: &[u8]) -> usize {
        if self.skip > 0 {
            let count = usize::try_from(self.skip).unwrap_or(usize::MAX).min(input.len());
            self.skip -= count as u64;
            return count;
        }
        let count = (self.need - self.pending.len()).min(input.len());
        self.pending.extend_from_slice(input.get(..count).unwrap_or_default());
        count
    }

    fn expect(&mut self, state: State, need: usize) {
        (self.state, self.need) = (state, need);
        self.pending.clear();
    }

    /// Acts on complete `pending` bytes.
    fn advance(&mut self) -> Result<(), Error> {
        match self.state {
            State::Magic => match self.word(0) {
                MAGIC => self.expect(State::Flags, 2),
                word if word & !15 == MAGIC_SKIPPABLE => self.expect(State::SkipSize, 4),
                _ if self.is_first => return Err(corrupt("invalid frame header")),
                _ => return Err(Error::TrailingGarbage(Format::Lz4)),
            },
            State::SkipSize => {
                self.skip = u64::from(self.word(0));
                self.expect(State::Magic, 4);
            }
            State::Flags => {
                let byte = |at: usize| self.pending.get(at).copied().unwrap_or_default();
                self.descriptor = Descriptor::parse(byte(0), byte(1))?;
                // Kept, because the header's checksum covers them.
                self.state = State::Rest;
                self.need = 2 + self.descriptor.rest_len();
            }
            State::Rest => self.begin()?,
            State::BlockSize => self.block_size()?,
            State::Block { len, is_raw } => self.decode_block(len, is_raw)?,
            State::ContentChecksum => {
                if self.word(0) != self.hash.finish() {
                    return Err(corrupt("wrong content checksum"));
                }
                self.end()?;
            }
        }
        Ok(())
    }

    /// Starts a frame after its header.
    fn begin(&mut self) -> Result<(), Error> {
        let Some((check, header)) = self.pending.split_last() else { return Ok(()) };
        let mut hash = Xxh32::new();
        hash.update(header);
        if (hash.finish() >> 8) & 0xff != u32::from(*check) {
            return Err(corrupt("wrong header checksum"));
        }
        if self.descriptor.has_dictionary {
            return Err(Error::Unsupported(Format::Lz4, "a dictionary that is not part of it"));
        }
        self.content_size = header
            .get(2..10)
            .filter(|_| self.descriptor.has_content_size)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes);
        (self.hash, self.frame_bytes, self.is_first) = (Xxh32::new(), 0, false);
        self.window.clear();
        self.block.clear();
        (self.block_len, self.block_read) = (0, 0);
        self.expect(State::BlockSize, 4);
        Ok(())
    }

    fn block_size(&mut self) -> Result<(), Error> {
        let word = self.word(0);
        let len = (word & 0x7fff_ffff) as usize;
        if word == 0 {
            match self.descriptor.has_content_checksum {
                true => self.expect(State::ContentChecksum, 4),
                false => self.end()?,
            }
        } else if len > self.descriptor.block_max {
            return Err(corrupt("block is too large"));
        } else {
            let checksum = usize::from(self.descriptor.has_block_checksums) * 4;
            self.expect(State::Block { len, is_raw: word >> 31 == 1 }, len + checksum);
        }
        Ok(())
    }

    fn decode_block(&mut self, len: usize, is_raw: bool) -> Result<(), Error> {
        if self.descriptor.has_block_checksums {
            let mut hash = Xxh32::new();
            hash.update(self.pending.get(..len).unwrap_or_default());
            if hash.finish() != self.word(len) {
                return Err(corrupt("wrong block checksum"));
            }
        }
        self.remember();
        let data = self.pending.get(..len).unwrap_or_default();
        self.block.resize(self.descriptor.block_max, 0);
        self.block_len = if is_raw {
            if let Some(block) = self.block.get_mut(..len) {
                block.copy_from_slice(data);
            }
            len
        } else {
            lz4_flex::block::decompress_into_with_dict(data, &mut self.block, &self.window)
                .map_err(|_| corrupt("invalid code or length"))?
        };
        self.block_read = 0;
        self.frame_bytes += self.block_len as u64;
        if self.descriptor.has_content_checksum {
            self.hash.update(self.block.get(..self.block_len).unwrap_or_default());
        }
        self.expect(State::BlockSize, 4);
        Ok(())
    }

    /// Moves the end of the last block into the window of the next one.
    fn remember(&mut self) {
        if !self.descriptor.is_linked {
            return;
        }
        let block = self.block.get(..self.block_len).unwrap_or_default();
        let tail = block.get(block.len().saturating_sub(WINDOW_BYTES)..).unwrap_or_default();
        let excess = (self.window.len() + tail.len()).saturating_sub(WINDOW_BYTES);
        self.window.drain(..excess);
        self.window.extend_from_slice(tail);
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.content_size.is_some_and(|size| size != self.frame_bytes) {
            return Err(corrupt("wrong content size"));
        }
        self.expect(State::Magic, 4);
        Ok(())
    }

    /// A little-endian number in `pending`.
    fn word(&self, at: usize) -> u32 {
        let bytes = self.pending.get(at..at + 4).and_then(|b| b.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    }
}

impl Decode for Lz4 {
    fn step(&mut self, input: &[u8], is_at_end: bool, output: &mut [u8]) -> Result<Step, Error> {
        let mut read = 0;
        loop {
            let written = self.drain(output);
            if written > 0 || output.is_empty() {
                return Ok(Step { read, written, is_done: false });
            }
            read += self.collect(input.get(read..).unwrap_or_default());
            if self.skip > 0 || self.pending.len() < self.need {
                let is_complete =
                    self.state == State::Magic && self.pending.is_empty() && self.skip == 0;
                return match is_at_end {
                    true if is_complete => Ok(Step { read, written: 0, is_done: true }),
                    true => Err(Error::Truncated(Format::Lz4)),
                    false => Ok(Step { read, ..Step::default() }),
                };
            }
            self.advance()?;
        }
    }
}

fn corrupt(what: &'static str) -> Error {
    Error::Corrupt(Format::Lz4, what)
}

/// xxHash, 32 bits, seed 0.
struct Xxh32 {
    lanes: [u32; 4],
    buffer: Vec<u8>,
    total: u64,
}

const PRIMES: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];

impl Xxh32 {
    fn new() -> Self {
        let [p1, p2, ..] = PRIMES;
        let lanes = [p1.wrapping_add(p2), p2, 0, 0u32.wrapping_sub(p1)];
        Self { lanes, buffer: Vec::with_capacity(16), total: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if !self.buffer.is_empty() {
            let count = bytes.len().min(16 - self.buffer.len());
            let (head, rest) = bytes.split_at(count);
            self.buffer.extend_from_slice(head);
            bytes = rest;
            if self.buffer.len() < 16 {
                return;
            }
            stripe(&mut self.lanes, &self.buffer);
            self.buffer.clear();
        }
        let mut stripes = bytes.chunks_exact(16);
        for chunk in &mut stripes {
            stripe(&mut self.lanes, chunk);
        }
        self.buffer.extend_from_slice(stripes.remainder());
    }

    fn finish(&self) -> u32 {
        let [p1, p2, p3, p4, p5] = PRIMES;
        let [a, b, c, d] = self.lanes;
        let mut hash = if self.total < 16 {
            p5
        } else {
            [(a, 1), (b, 7), (c, 12), (d, 18)]
                .iter()
                .fold(0u32, |sum, (lane, by)| sum.wrapping_add(lane.rotate_left(*by)))
        };
        // The length counts modulo 2^32.
        hash = hash.wrapping_add(self.total as u32);
        let mut words = self.buffer.chunks_exact(4);
        for word in &mut words {
            let word = u32::from_le_bytes(word.try_into().unwrap_or_default());
            hash = hash.wrapping_add(word.wrapping_mul(p3)).rotate_left(17).wrapping_mul(p4);
        }
        for &byte in words.remainder() {
            hash = hash.wrapping_add(u32::from(byte).wrapping_mul(p5));
            hash = hash.rotate_left(11).wrapping_mul(p1);
        }
        hash = (hash ^ (hash >> 15)).wrapping_mul(p2);
        hash = (hash ^ (hash >> 13)).wrapping_mul(p3);
        hash ^ (hash >> 16)
    }
}

/// One round over sixteen bytes.
fn stripe(lanes: &mut [u32; 4], bytes: &[u8]) {
    let [p1, p2, ..] = PRIMES;
    for (lane, word) in lanes.iter_mut().zip(bytes.chunks_exact(4)) {
        let word = u32::from_le_bytes(word.try_into().unwrap_or_default());
        *lane = lane.wrapping_add(word.wrapping_mul(p2)).rotate_left(13).wrapping_mul(p1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> u32 {
        let mut hash = Xxh32::new();
        hash.update(bytes);
        hash.finish()
    }

    #[test]
    fn hash_agrees_with_published_values() {
        // xxHash test vectors: the empty input, and well-known strings.
        assert_eq!(hash(b""), 0x02cc_5d05);
        assert_eq!(hash(b"a"), 0x550d_7456);
        assert_eq!(hash(b"abc"), 0x32d1_53ff);
        assert_eq!(hash(b"Nobody inspects the spammish repetition"), 0xe229_3b2f);
    }

    #[test]
    fn hash_does_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..100).collect();
        for cut in 0..100 {
            let mut pieces = Xxh32::new();
            pieces.update(&bytes[..cut]);
            pieces.update(&bytes[cut..]);
            assert_eq!(pieces.finish(), hash(&bytes), "{cut}");
        }
    }
}
