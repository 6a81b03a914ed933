//! Decodes the blocks of .xz files on several cores.
//!
//! The caller's thread reads and walks the container: block headers, and inside a block the
//! headers of LZMA2 chunks, which say how long everything is and how much comes out of it. So where
//! a block ends and where its data belongs is known without decoding anything, whether or not the
//! block header has sizes. Blocks go to worker threads, which feed them to liblzma with a stream
//! header in front; liblzma checks all that is inside a block, the index is checked here.
//!
//! Memory is bounded by [`HELD_BYTES`] of packed data, [`DICTIONARY_BYTES`] of dictionaries (one
//! may be larger, up to the limit of the format), and one output buffer per thread.

use std::io::Read;
use std::sync::mpsc::Sender;
use std::thread::Scope;

use super::pull::Head;
use super::{Error, Format, Options, SEGMENT_ALIGN, Sink};

mod container;
mod work;

use container::{Chunk, Crc32, HEADER_BYTES, NUMBER_BYTES, Sizes, corrupt};
use work::{Job, Message, Shared};

// LIMIT: packed data on its way to the decoders.
const HELD_BYTES: usize = 6 << 20;
// LIMIT: dictionaries of the blocks being decoded, unless a single one is larger.
const DICTIONARY_BYTES: u64 = 16 << 20;
// LIMIT: decoders.
const THREADS_MAX: usize = 8;
/// A segment of the sink holds at least this much, so that small blocks stay together.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Packed data handed to a decoder at once.
const PIECE_BYTES: usize = 64 << 10;

/// Decodes all streams of an .xz file.
pub(super) fn unpack(
    head: Head,
    input: &mut (dyn Read + Send),
    sink: &dyn Sink,
    options: &Options<'_>,
) -> Result<u64, Error> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { cores() } else { options.threads };
    let shared = Shared::new(sink, *options, threads.min(THREADS_MAX));
    let walked = std::thread::scope(|scope| {
        let walk = Walk { head, input, shared: &shared, scope, job: None, total: 0, piece: vec![] };
        let walked = walk.streams();
        if walked.is_err() {
            shared.stop();
        }
        shared.close();
        walked
    });
    // What a decoder or the sink said explains more than that the walk was stopped.
    match shared.into_error() {
        Some(err) => Err(err),
        None => walked,
    }
}

/// The run of blocks that goes to one segment.
struct Run {
    messages: Sender<Message>,
    /// What it has reserved for dictionaries.
    weight: u64,
    /// Bytes that come out of it so far.
    unpacked: u64,
}

/// Reads the container.
struct Walk<'scope, 'env, 'i> {
    head: Head,
    input: &'i mut (dyn Read + Send),
    shared: &'scope Shared<'env>,
    scope: &'scope Scope<'scope, 'env>,
    job: Option<Run>,
    /// Bytes that come out of everything so far.
    total: u64,
    /// Data not yet sent.
    piece: Vec<u8>,
}

impl<'scope, 'env: 'scope> Walk<'scope, 'env, '_> {
    /// All streams and what is between them.
    fn streams(mut self) -> Result<u64, Error> {
        let mut is_first = true;
        loop {
            self.stream(is_first)?;
            is_first = false;
            let mut padding = 0u64;
            while self.peek_byte()? == Some(0) {
                self.head.consume(1);
                padding += 1;
            }
            if !padding.is_multiple_of(4) {
                return Err(corrupt("stream padding is not a multiple of four"));
            }
            if self.peek_byte()?.is_none() {
                break;
            }
        }
        if self.total == 0 && self.job.is_none() {
            // Nothing at all is a segment too.
            self.begin(0)?;
        }
        self.finish_job()?;
        Ok(self.total)
    }

    fn stream(&mut self, is_first: bool) -> Result<(), Error> {
        // Too short for a stream, but not the beginning of one either.
        if !is_first && self.peek_byte()? != Some(0xfd) {
            return Err(Error::TrailingGarbage(Format::Xz));
        }
        let header: [u8; HEADER_BYTES] =
            self.need(HEADER_BYTES)?.try_into().map_err(|_| corrupt("invalid stream header"))?;
        let flags = container::stream_flags(&header, is_first)?;
        self.head.consume(HEADER_BYTES);
        let mut sizes = Sizes::default();
        loop {
            match self.need(1)? {
                [0, ..] => break,
                _ => self.block(header, flags, &mut sizes)?,
            }
        }
        let index_bytes = self.index(&sizes)?;
        container::check_footer(self.need(HEADER_BYTES)?, flags, index_bytes)?;
        self.head.consume(HEADER_BYTES);
        Ok(())
    }

    /// Sends one block to its run.
    fn block(
        &mut self,
        stream_header: [u8; HEADER_BYTES],
        flags: [u8; 2],
        sizes: &mut Sizes,
    ) -> Result<(), Error> {
        let first = self.need(1)?.first().copied().unwrap_or_default();
        let header_bytes = container::block_header_bytes(first);
        let header = container::block_header(self.need(header_bytes)?)?;
        self.begin(header.dictionary.min(header.unpacked.unwrap_or(u64::MAX)))?;
        self.send(Message::Begin { stream_header })?;
        self.forward(header_bytes)?;

        let (mut packed, mut unpacked) = (0u64, 0u64);
        loop {
            let control = self.need(1)?.first().copied().unwrap_or_default();
            let len = container::chunk_header_bytes(control);
            let bytes = match container::chunk(self.need(len)?)? {
                Chunk::End => 1,
                Chunk::Data { packed, unpacked: more } => {
                    unpacked += more;
                    self.grow(more)?;
                    packed
                }
            };
            packed += bytes as u64;
            self.forward(bytes)?;
            if control == 0 {
                break;
            }
        }
        let is = |declared: Option<u64>, found| declared.is_none_or(|declared| declared == found);
        if !is(header.packed, packed) || !is(header.unpacked, unpacked) {
            return Err(corrupt("block does not have the size in its header"));
        }
        // liblzma wants the padding to be zero.
        let padding = usize::try_from(packed.wrapping_neg() % 4).unwrap_or_default();
        let check = container::check_bytes(flags);
        self.forward(padding + check)?;
        self.flush()?;
        self.send(Message::End { unpacked })?;
        sizes.add(header_bytes as u64 + packed + check as u64, unpacked);
        Ok(())
    }

    /// Chooses the run for a block, a new one where there is reason and room for it.
    fn begin(&mut self, weight: u64) -> Result<(), Error> {
        let is_full = self.job.as_ref().is_none_or(|job| job.unpacked >= SEGMENT_BYTES);
        if is_full && self.total.is_multiple_of(SEGMENT_ALIGN) {
            self.finish_job()?;
        }
        self.shared.reserve(weight, self.job.as_ref().map(|job| job.weight))?;
        match &mut self.job {
            Some(job) => job.weight = job.weight.max(weight),
            None => {
                let (messages, inbox) = std::sync::mpsc::channel();
                self.shared.start(self.scope, Job { offset: self.total, inbox })?;
                self.job = Some(Run { messages, weight, unpacked: 0 });
            }
        }
        Ok(())
    }

    fn finish_job(&mut self) -> Result<(), Error> {
        let Some(run) = self.job.take() else { return Ok(()) };
        let finish = Message::Finish { weight: run.weight };
        run.messages.send(finish).map_err(|_| self.shared.stopped())
    }

    /// Counts what will come out, and stops before it is too much.
    fn grow(&mut self, more: u64) -> Result<(), Error> {
        self.total += more;
        if let Some(job) = &mut self.job {
            job.unpacked += more;
        }
        let limit = self.shared.options.max_bytes;
        if self.total > limit { Err(Error::TooLarge { limit }) } else { Ok(()) }
    }

    /// Reads the index, which must list exactly the blocks that were seen; returns its length.
    fn index(&mut self, seen: &Sizes) -> Result<u64, Error> {
        let mut crc = Crc32::default();
        let mut bytes = 0u64;
        let mut take = |walk: &mut Self, len: usize| -> Result<(), Error> {
            crc = crc.update(walk.need(len)?);
            bytes += len as u64;
            walk.head.consume(len);
            Ok(())
        };
        take(self, 1)?;
        let mut listed = Sizes::default();
        let (count, len) = self.number()?;
        take(self, len)?;
        if count != seen.count() {
            return Err(corrupt("index does not match the blocks"));
        }
        for _ in 0..count {
            let (unpadded, len) = self.number()?;
            take(self, len)?;
            let (unpacked, len) = self.number()?;
            take(self, len)?;
            listed.add(unpadded, unpacked);
        }
        if listed != *seen {
            return Err(corrupt("index does not match the blocks"));
        }
        while !bytes.is_multiple_of(4) {
            if self.need(1)?.first() != Some(&0) {
                return Err(corrupt("invalid index"));
            }
            bytes += 1;
            crc = crc.update(&[0]);
            self.head.consume(1);
        }
        if self.need(4)?.first_chunk::<4>() != Some(&crc.value().to_le_bytes()) {
            return Err(corrupt("wrong checksum of the index"));
        }
        self.head.consume(4);
        Ok(bytes + 4)
    }

    /// A number and its length, not consumed.
    fn number(&mut self) -> Result<(u64, usize), Error> {
        // The footer follows, so there are always more bytes than the number needs.
        let bytes = self.need(NUMBER_BYTES)?;
        let mut rest = bytes;
        let number = container::take_number(&mut rest).ok_or_else(|| corrupt("invalid index"))?;
        Ok((number, bytes.len() - rest.len()))
    }

    /// The next `len` bytes, not consumed.
    fn need(&mut self, len: usize) -> Result<&[u8], Error> {
        while self.head.bytes().len() < len {
            self.shared.check()?;
            if !self.head.more(self.input).map_err(Error::from_read)? {
                return Err(Error::Truncated(Format::Xz));
            }
        }
        Ok(self.head.bytes().get(..len).unwrap_or_default())
    }

    fn peek_byte(&mut self) -> Result<Option<u8>, Error> {
        match self.need(1) {
            Ok(bytes) => Ok(bytes.first().copied()),
            Err(Error::Truncated(_)) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Moves `len` bytes from the input to the run.
    fn forward(&mut self, mut len: usize) -> Result<(), Error> {
        while len > 0 {
            self.need(1)?;
            let bytes = self.head.bytes();
            let count = len.min(bytes.len()).min(PIECE_BYTES);
            let bytes = bytes.get(..count).unwrap_or_default().to_vec();
            self.head.consume(count);
            len -= count;
            if self.piece.len() + count > PIECE_BYTES {
                self.flush()?;
            }
            match self.piece.is_empty() {
                true => self.piece = bytes,
                false => self.piece.extend_from_slice(&bytes),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let piece = std::mem::take(&mut self.piece);
        self.shared.hold(piece.len())?;
        self.send(Message::Data(piece))
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        match &self.job {
            Some(job) => job.messages.send(message).map_err(|_| self.shared.stopped()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
