//! The pipeline: receive and hash in one thread, decode in this one (or, for xz, on all cores),
//! write in others, all with bounded queues in between.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::output::{Output, put};
use super::pool::{BUFFER_BYTES, Buffer, Pool, Shared};
use crate::out::progress::Progress;
use crate::sys::fs;
use crate::unpack;

/// Bytes received at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks between receiver and decoder.
const QUEUE: usize = 4;
/// Threads that copy a local file.
const COPIERS: usize = 3;
/// Bytes of payload between two marks; more than the queues hold, see [`Marks`].
const MARK_BYTES: u64 = 64 << 20;

/// Sees how far an uncompressed stream has come: offset, and hash of all bytes before it.
pub(super) type Mark<'a> = &'a (dyn Fn(u64, [u8; 32]) + Sync);

/// What the pump works on.
pub(super) struct Stream<'a> {
    /// The bytes as served, from `offset` on.
    pub(super) input: Box<dyn Read + Send + 'a>,
    /// Hash state of what is before `offset`.
    pub(super) hash: Sha256,
    /// Where the first byte belongs; not 0 only for plain payload that is resumed.
    pub(super) offset: u64,
    /// Called with progress worth remembering; for plain payload.
    pub(super) mark: Option<Mark<'a>>,
    /// Set to stop.
    pub(super) is_cancelled: &'a AtomicBool,
    /// Told of the bytes received.
    pub(super) progress: &'a dyn Progress,
}

/// What came through.
pub(super) struct Pumped {
    /// SHA-256 of the bytes as served.
    pub(super) sha256: [u8; 32],
    /// Length of the decoded payload.
    pub(super) size_bytes: u64,
}

/// Moves a stream to its output, decoding it.
pub(super) fn pump(stream: Stream<'_>, output: &dyn Output) -> Result<Pumped, unpack::Error> {
    let offset = stream.offset;
    let is_resumed = offset > 0;
    let options = unpack::Options {
        max_bytes: output.limit_bytes().saturating_sub(offset),
        threads: 0,
        // The receiver looks, so that everything before the cut arrives and can be resumed.
        cancel: None,
    };
    let shared = Shared::new(output);
    let result = receiving(stream, |reader| {
        std::thread::scope(|scope| {
            let pool = Pool::start(&shared, offset, scope);
            if is_resumed {
                // What follows is the middle of plain data, whatever it looks like.
                verbatim(reader, &pool, &options)
            } else {
                unpack::unpack(reader, &pool, &options).map(|done| done.bytes)
            }
        })
    });
    // A failed writer is the cause of what the decoder then says.
    shared.into_result().map_err(unpack::Error::Write)?;
    let (bytes, sha256) = result?;
    Ok(Pumped { sha256, size_bytes: offset + bytes })
}

/// Runs `consume` on a reader that is fed by a thread of its own, and returns the hash of all that
/// was received besides.
pub(super) fn receiving<T, E>(
    stream: Stream<'_>,
    consume: impl FnOnce(&mut (dyn Read + Send)) -> Result<T, E>,
) -> Result<(T, [u8; 32]), E> {
    std::thread::scope(|scope| {
        let (chunks, queue) = sync_channel(QUEUE);
        let (spent, spare) = sync_channel(QUEUE + 2);
        let receiver = scope.spawn(move || receive(stream, &chunks, &spare));
        let mut reader = Chunks { queue, spent, chunk: Vec::new(), at: 0 };
        let result = consume(&mut reader);
        drop(reader);
        let sha256 = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.map(|value| (value, sha256))
    })
}

/// Remembers a point of a plain stream only after another one has passed, by when the writers are
/// done with everything before it: the queues hold less than is between two marks.
struct Marks<'a> {
    mark: Option<Mark<'a>>,
    last: Option<(u64, [u8; 32])>,
    next: u64,
}

impl Marks<'_> {
    fn pass(&mut self, offset: u64, hash: &Sha256) {
        if let Some(mark) = self.mark
            && offset >= self.next
        {
            self.next = offset + MARK_BYTES;
            if let Some((offset, sha256)) =
                self.last.replace((offset, hash.clone().finalize().into()))
            {
                mark(offset, sha256);
            }
        }
    }
}

fn receive(
    mut stream: Stream<'_>,
    chunks: &SyncSender<io::Result<Vec<u8>>>,
    spare: &Receiver<Vec<u8>>,
) -> [u8; 32] {
    let mut offset = stream.offset;
    let mut marks = Marks { mark: stream.mark, last: None, next: offset + MARK_BYTES };
    loop {
        let mut chunk = spare.try_recv().unwrap_or_default();
        let read = if stream.is_cancelled.load(Ordering::Relaxed) {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            fill(&mut *stream.input, &mut chunk, stream.is_cancelled)
        };
        stream.hash.update(&chunk);
        offset += chunk.len() as u64;
        stream.progress.advance(chunk.len() as u64);
        let is_end = chunk.is_empty() || read.is_err();
        if !chunk.is_empty() {
            marks.pass(offset, &stream.hash);
            if chunks.send(Ok(chunk)).is_err() {
                break;
            }
        }
        if let Err(err) = read {
            // `Interrupted` would only make the decoder read again.
            let err = match err.kind() {
                io::ErrorKind::Interrupted => io::Error::other(unpack::Error::Cancelled),
                _ => err,
            };
            if let Some(mark) = stream.mark {
                mark(offset, stream.hash.clone().finalize().into());
            }
            let _ = chunks.send(Err(err));
        }
        if is_end {
            break;
        }
    }
    stream.hash.finalize().into()
}

/// Reads until the chunk is full or the input ends; what came before an error is kept.
fn fill(input: &mut dyn Read, chunk: &mut Vec<u8>, is_cancelled: &AtomicBool) -> io::Result<()> {
    chunk.resize(CHUNK_BYTES, 0);
    let mut len = 0;
    let result = loop {
        match input.read(chunk.get_mut(len..).unwrap_or_default()) {
            Ok(0) => break Ok(()),
            Ok(count) => len += count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => break Err(err),
        }
        // A slow server must not keep us.
        if is_cancelled.load(Ordering::Relaxed) {
            break Err(io::ErrorKind::Interrupted.into());
        }
    };
    chunk.truncate(len);
    result
}

/// The decoder's end of the queue.
struct Chunks {
    queue: Receiver<io::Result<Vec<u8>>>,
    spent: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let _ = self.spent.try_send(std::mem::take(&mut self.chunk));
            self.at = 0;
            match self.queue.recv() {
                Ok(chunk) => self.chunk = chunk?,
                Err(_) => return Ok(0),
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

/// Plain data into one segment.
fn verbatim(
    reader: &mut dyn Read,
    sink: &dyn unpack::Sink,
    options: &unpack::Options<'_>,
) -> Result<u64, unpack::Error> {
    let mut segment = sink.segment(0).map_err(unpack::Error::Write)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let count = reader.read(&mut buffer).map_err(unpack::Error::from_read)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        total += count as u64;
        if total > options.max_bytes {
            return Err(unpack::Error::TooLarge { limit: options.max_bytes });
        }
        segment.write(bytes).map_err(unpack::Error::Write)?;
    }
    segment.finish().map_err(unpack::Error::Write)?;
    Ok(total)
}

/// Copies a plain local file with several threads and without a stream in between: each takes
/// the next piece, looks for zeros and writes.
pub(super) fn copy_file(
    source: &File,
    size_bytes: u64,
    output: &dyn Output,
    is_cancelled: &AtomicBool,
    progress: &dyn Progress,
) -> Result<(), unpack::Error> {
    if size_bytes > output.limit_bytes() {
        return Err(unpack::Error::TooLarge { limit: output.limit_bytes() });
    }
    if output.share(source) {
        progress.advance(size_bytes);
        return Ok(());
    }
    let pieces = Mutex::new(Pieces { at: 0, data: None, size: size_bytes });
    let work = || -> Result<(), unpack::Error> {
        let mut buffer = Buffer::new();
        loop {
            if is_cancelled.load(Ordering::Relaxed) {
                return Err(unpack::Error::Cancelled);
            }
            let piece = pieces.lock().unwrap_or_else(PoisonError::into_inner).next(source);
            let Some(piece) = piece.map_err(unpack::Error::Read)? else { return Ok(()) };
            if piece.is_hole {
                output.zero(piece.offset, piece.len).map_err(unpack::Error::Write)?;
            } else {
                let len = usize::try_from(piece.len).unwrap_or(BUFFER_BYTES);
                let bytes = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
                std::os::unix::fs::FileExt::read_exact_at(source, bytes, piece.offset)
                    .map_err(unpack::Error::Read)?;
                put(output, piece.offset, bytes).map_err(unpack::Error::Write)?;
            }
            progress.advance(piece.len);
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..COPIERS).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        results.extend(
            others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
        );
        results.into_iter().collect()
    })
}

/// Hands out the pieces of a file in order.
struct Pieces {
    at: u64,
    /// End of the data that begins at or before `at`.
    data: Option<u64>,
    size: u64,
}

struct Piece {
    offset: u64,
    len: u64,
    is_hole: bool,
}

impl Pieces {
    fn next(&mut self, source: &File) -> io::Result<Option<Piece>> {
        let offset = self.at;
        if offset >= self.size {
            return Ok(None);
        }
        if self.data.is_none_or(|end| end <= offset) {
            let (start, end) = fs::next_data(source, offset)?.unwrap_or((self.size, self.size));
            self.data = Some(end.min(self.size));
            let start = start.min(self.size);
            if start > offset {
                self.at = start;
                return Ok(Some(Piece { offset, len: start - offset, is_hole: true }));
            }
        }
        let end = self.data.unwrap_or(self.size);
        let boundary = (offset + 1).next_multiple_of(BUFFER_BYTES as u64);
        self.at = end.min(boundary);
        Ok(Some(Piece { offset, len: self.at - offset, is_hole: false }))
    }
}
