//! The decoder threads, and what they and the reading thread share.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

use liblzma::stream::{Action, Status, Stream};

use super::container::{HEADER_BYTES, corrupt};
use super::{DICTIONARY_BYTES, HELD_BYTES};
use crate::unpack::decode::{xz_error, xz_stream};
use crate::unpack::{Error, OUT_BYTES, Options, Segment, Sink};

/// A run of blocks that belongs to one segment.
pub(super) struct Job {
    /// Where its bytes go.
    pub(super) offset: u64,
    /// Its blocks, piece by piece.
    pub(super) inbox: Receiver<Message>,
}

/// A piece of a run.
pub(super) enum Message {
    /// A block follows.
    Begin {
        /// Says what the check of the block is.
        stream_header: [u8; HEADER_BYTES],
    },
    /// A part of a block.
    Data(Vec<u8>),
    /// The block is complete.
    End {
        /// The bytes that must have come out of it.
        unpacked: u64,
    },
    /// The run is complete.
    Finish {
        /// What it had reserved.
        weight: u64,
    },
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Runs that are queued or being decoded.
    runs: usize,
    /// Dictionary bytes of those runs.
    weight: u64,
    /// Packed bytes on their way.
    held: usize,
    is_closed: bool,
    is_stopped: bool,
    error: Option<Error>,
}

/// What the threads share.
pub(super) struct Shared<'a> {
    sink: &'a dyn Sink,
    pub(super) options: Options<'a>,
    threads_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl<'a> Shared<'a> {
    pub(super) fn new(sink: &'a dyn Sink, options: Options<'a>, threads_max: usize) -> Self {
        let state = Mutex::default();
        Self { sink, options, threads_max, state, changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_ready`, or until everything stops.
    fn wait(&self, is_ready: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Error> {
        let waiting = self.changed.wait_while(self.lock(), |s| !s.is_stopped && !is_ready(s));
        let state = waiting.unwrap_or_else(PoisonError::into_inner);
        if state.is_stopped { Err(self.stopped()) } else { Ok(state) }
    }

    /// What the reading thread returns when another one failed; the reason is kept here.
    pub(super) fn stopped(&self) -> Error {
        Error::Cancelled
    }

    /// Ends all work.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Keeps the first error, unless the work is to end anyway: then it may be a consequence.
    fn fail(&self, err: Error) {
        let mut state = self.lock();
        if !state.is_stopped {
            state.error = Some(err);
            state.is_stopped = true;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The first error of a decoder.
    pub(super) fn into_error(self) -> Option<Error> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).error
    }

    /// Fails where the work is to end.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.options.check_cancelled()?;
        if self.lock().is_stopped { Err(self.stopped()) } else { Ok(()) }
    }

    /// Waits until there is room for `len` packed bytes. Everything before them is on its way, so
    /// room will come.
    pub(super) fn hold(&self, len: usize) -> Result<(), Error> {
        let mut state = self.wait(|s| s.held == 0 || s.held + len <= HELD_BYTES)?;
        state.held += len;
        Ok(())
    }

    /// Waits until there is room for a dictionary of `weight` bytes in the current run, which has
    /// `reserved` ones, or in a new one. Every run before it is complete, so room will come.
    pub(super) fn reserve(&self, weight: u64, reserved: Option<u64>) -> Result<(), Error> {
        let more = weight.saturating_sub(reserved.unwrap_or(0));
        let own = usize::from(reserved.is_some());
        let mut state =
            self.wait(|s| s.runs <= own || s.weight.saturating_add(more) <= DICTIONARY_BYTES)?;
        state.weight = state.weight.saturating_add(more);
        Ok(())
    }

    /// Queues a run, with one more thread if nobody waits for it.
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        job: Job,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        state.runs += 1;
        state.queue.push_back(job);
        if state.idle < state.queue.len() && state.threads < self.threads_max.max(1) {
            state.threads += 1;
            let name = "unpack-xz".to_owned();
            Builder::new().name(name).spawn_scoped(scope, || self.work()).map_err(Error::Read)?;
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// A thread.
    fn work(&self) {
        let mut buffer = vec![0; OUT_BYTES];
        loop {
            let job = {
                let mut state = self.lock();
                state.idle += 1;
                let mut state = self
                    .changed
                    .wait_while(state, |s| !s.is_stopped && !s.is_closed && s.queue.is_empty())
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                if state.is_stopped {
                    // The reading thread must not wait for a receiver that nobody serves.
                    state.queue.clear();
                }
                state.queue.pop_front()
            };
            let Some(job) = job else { return };
            match self.run(&job, &mut buffer) {
                Ok(Some(weight)) => {
                    let mut state = self.lock();
                    state.weight -= weight;
                    state.runs -= 1;
                }
                Ok(None) => {}
                Err(err) => self.fail(err),
            }
            self.changed.notify_all();
        }
    }

    /// Decodes one run; returns what it had reserved, or nothing if the walk gave it up.
    fn run(&self, job: &Job, buffer: &mut [u8]) -> Result<Option<u64>, Error> {
        let mut segment = self.sink.segment(job.offset).map_err(Error::Write)?;
        let mut stream = None;
        loop {
            let Ok(message) = job.inbox.recv() else { return Ok(None) };
            match (message, &mut stream) {
                (Message::Begin { stream_header }, _) => {
                    let mut begun = xz_stream()?;
                    self.feed(&mut begun, &stream_header, &mut *segment, buffer)?;
                    stream = Some(begun);
                }
                (Message::Data(piece), Some(stream)) => {
                    self.feed(stream, &piece, &mut *segment, buffer)?;
                    self.lock().held -= piece.len();
                    self.changed.notify_all();
                }
                (Message::End { unpacked }, Some(ended)) => {
                    // liblzma compared the check with its last byte.
                    if ended.total_out() != unpacked {
                        return Err(corrupt("block does not have the size its chunks say"));
                    }
                    stream = None;
                }
                (Message::Finish { weight }, _) => {
                    segment.finish().map_err(Error::Write)?;
                    return Ok(Some(weight));
                }
                (_, None) => return Err(corrupt("data outside of a block")),
            }
        }
    }

    /// Decodes all of `input`.
    fn feed(
        &self,
        stream: &mut Stream,
        mut input: &[u8],
        segment: &mut (dyn Segment + Send),
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        loop {
            let before = (stream.total_in(), stream.total_out());
            let status = stream.process(input, buffer, Action::Run).map_err(xz_error)?;
            let read = usize::try_from(stream.total_in() - before.0).unwrap_or_default();
            let written = usize::try_from(stream.total_out() - before.1).unwrap_or_default();
            input = input.get(read..).unwrap_or_default();
            if written > 0 {
                self.check()?;
                segment.write(buffer.get(..written).unwrap_or_default()).map_err(Error::Write)?;
            }
            match status {
                // The stream has no index, so it cannot end.
                Status::StreamEnd => return Err(corrupt("stream ends inside a block")),
                _ if input.is_empty() && written < buffer.len() => return Ok(()),
                _ if read == 0 && written == 0 => return Err(corrupt("decoder makes no progress")),
                _ => {}
            }
        }
    }
}
