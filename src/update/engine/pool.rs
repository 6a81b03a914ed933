//! Writer threads: decoders fill aligned buffers, the pool writes them while decoding goes on.
//!
//! Memory is bounded by the queue, the writers and one buffer per open segment.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use super::output::{Output, put};
use crate::disk::BULK_ALIGN;
use crate::unpack::{Segment, Sink};

/// Bytes written at once.
pub(super) const BUFFER_BYTES: usize = 1 << 20;
/// Threads that write; two keep a device busy while one of them looks for zeros.
const WRITERS: usize = 2;
/// Buffers that wait for a writer.
const QUEUE: usize = 3;

/// A buffer whose address suits direct I/O.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        let bytes = vec![0; BUFFER_BYTES + BULK_ALIGN];
        let start = bytes.as_ptr().align_offset(BULK_ALIGN);
        Self { bytes, start: if start < BULK_ALIGN { start } else { 0 } }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + BUFFER_BYTES).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + BUFFER_BYTES).unwrap_or_default()
    }
}

struct Job {
    offset: u64,
    buffer: Buffer,
    len: usize,
}

/// What the writers and the pool share; lives outside the scope of the threads.
pub(super) struct Shared<'a> {
    output: &'a dyn Output,
    spare: Mutex<Vec<Buffer>>,
    failed: Mutex<Option<io::Error>>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(output: &'a dyn Output) -> Self {
        Self { output, spare: Mutex::default(), failed: Mutex::default() }
    }

    /// The first failure of a writer.
    pub(super) fn into_result(self) -> io::Result<()> {
        match self.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(err) => Err(err),
            None => Ok(()),
        }
    }

    fn take(&self) -> Buffer {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(Buffer::new)
    }

    fn give(&self, buffer: Buffer) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    fn check(&self) -> io::Result<()> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        // The error itself is kept for the end; this one only stops the decoder.
        failed.as_ref().map_or(Ok(()), |err| Err(err.kind().into()))
    }

    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if self.check().is_ok()
                && let Some(bytes) = job.buffer.bytes().get(..job.len)
                && let Err(err) = put(self.output, job.offset, bytes)
            {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(err);
            }
            self.give(job.buffer);
        }
    }
}

/// A sink of the decoders. Dropping it lets the writers finish.
pub(super) struct Pool<'s, 'a> {
    shared: &'s Shared<'a>,
    jobs: SyncSender<Job>,
    /// Where offset 0 of the decoder's output belongs.
    base: u64,
}

impl<'s, 'a: 's> Pool<'s, 'a> {
    pub(super) fn start<'t>(shared: &'s Shared<'a>, base: u64, scope: &'t Scope<'t, '_>) -> Self
    where
        's: 't,
    {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = std::sync::Arc::new(Mutex::new(queue));
        for _ in 0..WRITERS {
            let queue = std::sync::Arc::clone(&queue);
            scope.spawn(move || shared.work(&queue));
        }
        Self { shared, jobs, base }
    }

    fn submit(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

impl Sink for Pool<'_, '_> {
    fn segment(&self, offset: u64) -> io::Result<Box<dyn Segment + Send + '_>> {
        Ok(Box::new(PoolSegment { pool: self, at: self.base + offset, buffer: None, len: 0 }))
    }
}

struct PoolSegment<'p, 's, 'a> {
    pool: &'p Pool<'s, 'a>,
    /// Where the buffer begins.
    at: u64,
    buffer: Option<Buffer>,
    len: usize,
}

impl PoolSegment<'_, '_, '_> {
    /// Buffers end at multiples of their size, so that all but the first are aligned.
    fn room(&self) -> usize {
        let into = usize::try_from(self.at % BUFFER_BYTES as u64).unwrap_or(0);
        BUFFER_BYTES - into - self.len
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(buffer) = self.buffer.take() else { return Ok(()) };
        let job = Job { offset: self.at, buffer, len: self.len };
        self.at += self.len as u64;
        self.len = 0;
        self.pool.submit(job)
    }
}

impl Segment for PoolSegment<'_, '_, '_> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.pool.shared.check()?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room()));
            let buffer = self.buffer.get_or_insert_with(|| self.pool.shared.take());
            if let Some(place) = buffer.bytes_mut().get_mut(self.len..self.len + now.len()) {
                place.copy_from_slice(now);
            }
            self.len += now.len();
            bytes = later;
            if self.room() == 0 {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush()
    }
}

impl Drop for PoolSegment<'_, '_, '_> {
    /// After a failure of the input, what came before it is still worth having: another run may
    /// go on from there.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
