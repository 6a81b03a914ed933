//! Drives a [`Decode`] from a [`Read`].

use std::io::{self, Read};

use super::decode::Decode;
use super::{Error, SNIFF_BYTES};

/// Packed bytes read at once.
const IN_BYTES: usize = 128 << 10;

/// The first bytes of a stream, taken off to look at.
pub(super) struct Head {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Head {
    /// Reads until the format can be told or the stream ends.
    pub(super) fn read(input: &mut (impl Read + ?Sized)) -> Result<Self, Error> {
        let mut head = Self { buffer: vec![0; IN_BYTES], start: 0, end: 0 };
        while head.end < SNIFF_BYTES && head.more(input).map_err(Error::from_read)? {}
        Ok(head)
    }

    /// What has been read and not been used.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Marks `count` bytes as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Reads once, behind what is there; false at the end of the stream.
    pub(super) fn more(&mut self, input: &mut (impl Read + ?Sized)) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = retry(|| input.read(self.buffer.get_mut(self.end..).unwrap_or_default()))?;
        self.end += count;
        Ok(count > 0)
    }

    /// The whole stream again.
    pub(super) fn chain<R: Read>(mut self, input: R) -> impl Read + use<R> {
        self.buffer.truncate(self.end);
        io::Cursor::new(self.buffer).chain(input)
    }
}

/// A signal is no reason to stop reading.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A [`Read`] of decoded bytes.
pub(super) struct Pull<R> {
    head: Head,
    input: R,
    decode: Box<dyn Decode>,
    is_at_end: bool,
    is_done: bool,
}

impl<R: Read> Pull<R> {
    pub(super) fn new(head: Head, input: R, decode: Box<dyn Decode>) -> Self {
        Self { head, input, decode, is_at_end: false, is_done: false }
    }
}

impl<R: Read> Read for Pull<R> {
    fn read(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        // Fills the caller's buffer, so that few large writes follow.
        while filled < output.len() && !self.is_done {
            if self.head.bytes().is_empty() && !self.is_at_end {
                self.is_at_end = !self.head.more(&mut self.input)?;
            }
            let rest = output.get_mut(filled..).unwrap_or_default();
            let step = self.decode.step(self.head.bytes(), self.is_at_end, rest)?;
            self.head.consume(step.read);
            filled += step.written;
            self.is_done = step.is_done;
            if step.read == 0 && step.written == 0 && !step.is_done && !self.is_at_end {
                self.is_at_end = !self.head.more(&mut self.input)?;
            }
        }
        Ok(filled)
    }
}
