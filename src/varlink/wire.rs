//! Messages on a connection: framing, descriptors that travel along, deadlines, hand-over.
//!
//! A message ends in one NUL. Sockets are peeked at first and read exactly to the end of a
//! message, for two reasons: descriptors come with the first byte of their message, so a read
//! that crosses a boundary could give them to the wrong one; and after an `upgrade` everything
//! behind the terminator belongs to another protocol, perhaps to another process. Pipes cannot be
//! peeked at; what was read too far is handed over as [`Raw::rest`].

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::{MAX_BUFFER, MAX_FDS, READ_SIZE};

/// Bytes to messages, without I/O.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Bytes at the start that are known to hold no terminator.
    scanned: usize,
}

impl Frames {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next complete message, without its terminator.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        let tail = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(offset) = tail.iter().position(|&byte| byte == 0) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(self.scanned + offset + 1);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.pop();
        self.scanned = 0;
        Some(frame)
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True where nothing waits.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Everything that waits.
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }
}

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Message {
    /// The JSON text.
    pub bytes: Vec<u8>,
    /// In the order sent.
    pub fds: Vec<OwnedFd>,
}

/// A connection whose Varlink part is over.
#[derive(Debug)]
pub struct Raw {
    /// Where the other side's bytes come from.
    pub read: OwnedFd,
    /// Where ours go. The same socket as `read`, unless the transport is a pair of pipes.
    pub write: OwnedFd,
    /// Bytes that were received already; they come before anything from `read`.
    pub rest: Vec<u8>,
}

/// A connection.
#[derive(Debug)]
pub struct Stream {
    read: OwnedFd,
    /// Absent where `read` is a socket for both directions.
    write: Option<OwnedFd>,
    is_socket: bool,
    accepts_fds: bool,
    frames: Frames,
    fds: Vec<OwnedFd>,
}

impl Stream {
    /// A connected stream socket.
    pub fn socket(socket: impl Into<OwnedFd>) -> Self {
        Self {
            read: socket.into(),
            write: None,
            is_socket: true,
            accepts_fds: false,
            frames: Frames::default(),
            fds: Vec::new(),
        }
    }

    /// Two descriptors of any kind, one per direction. Cannot pass descriptors.
    pub fn pipes(read: OwnedFd, write: OwnedFd) -> Self {
        Self { write: Some(write), is_socket: false, ..Self::socket(read) }
    }

    /// Whether received descriptors are kept. Otherwise the kernel closes them on arrival.
    pub fn set_accepts_fds(&mut self, accepts: bool) {
        self.accepts_fds = accepts && self.is_socket;
    }

    /// The descriptor that becomes readable.
    pub fn read_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    fn write_fd(&self) -> BorrowedFd<'_> {
        self.write.as_ref().unwrap_or(&self.read).as_fd()
    }

    /// Waits for the next message; `None` where the other side is done. What arrived without a
    /// terminator is dropped then, as it is no message.
    pub fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Option<Message>> {
        loop {
            if let Some(bytes) = self.frames.next_frame() {
                return Ok(Some(Message { bytes, fds: std::mem::take(&mut self.fds) }));
            }
            // LIMIT: checked between reads, hence up to one read more than the bound.
            if self.frames.len() > MAX_BUFFER || self.fds.len() > MAX_FDS {
                return Err(Errno::NOBUFS.into());
            }
            wait(self.read.as_fd(), PollFlags::IN, deadline)?;
            match self.fill() {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// One read; never past the end of a message where that can be avoided.
    fn fill(&mut self) -> rustix::io::Result<usize> {
        let mut chunk = [0; READ_SIZE];
        if !self.is_socket {
            let n = rustix::io::read(&self.read, &mut chunk)?;
            self.frames.push(chunk.get(..n).unwrap_or_default());
            return Ok(n);
        }
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (n, _) = rustix::net::recv(&self.read, &mut chunk, flags)?;
        if n == 0 {
            return Ok(0);
        }
        let seen = chunk.get(..n).unwrap_or_default();
        let size = seen.iter().position(|&byte| byte == 0).map_or(n, |end| end + 1);
        let wanted = chunk.get_mut(..size).unwrap_or_default();
        let n = if self.accepts_fds {
            receive_with_fds(&self.read, wanted, &mut self.fds)?
        } else {
            rustix::net::recv(&self.read, &mut *wanted, RecvFlags::DONTWAIT)?.0
        };
        self.frames.push(chunk.get(..n).unwrap_or_default());
        Ok(n)
    }

    /// Sends one message and its terminator; descriptors travel with the first byte.
    pub fn send(
        &mut self,
        mut bytes: Vec<u8>,
        fds: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        if fds.len() > MAX_FDS || (!fds.is_empty() && !self.is_socket) {
            return Err(Errno::NOTSUP.into());
        }
        bytes.push(0);
        let mut rest = bytes.as_slice();
        let mut fds = fds;
        while !rest.is_empty() {
            match self.send_some(rest, fds) {
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    fds = &[];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(self.write_fd(), PollFlags::OUT, deadline)?,
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    fn send_some(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
        if !self.is_socket {
            return rustix::io::write(self.write_fd(), bytes);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::NOBUFS);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(self.write_fd(), &[IoSlice::new(bytes)], &mut control, flags)
    }

    /// True where the other side has closed the connection for good. A half-closed one does not
    /// count: its owner may still wait for the answer.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.write_fd(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
    }

    /// Waits until `other` can be read. False when the other side has closed the connection.
    pub fn wait_for(&self, other: BorrowedFd<'_>) -> io::Result<bool> {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.write_fd(), PollFlags::empty()),
                PollFd::from_borrowed_fd(other, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
            let [own, other] = fds;
            if !own.revents().is_empty() {
                return Ok(false);
            }
            if !other.revents().is_empty() {
                return Ok(true);
            }
        }
    }

    /// Ends the Varlink part.
    pub fn into_raw(self) -> io::Result<Raw> {
        let write = match self.write {
            Some(write) => write,
            None => self.read.try_clone()?,
        };
        Ok(Raw { read: self.read, write, rest: self.frames.into_rest() })
    }
}

fn receive_with_fds(
    socket: &OwnedFd,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    // Descriptors got lost, usually because RLIMIT_NOFILE is reached.
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE);
    }
    Ok(got.bytes)
}

/// Waits until the descriptor is ready or broken; `TimedOut` at the deadline.
pub(crate) fn wait(
    fd: BorrowedFd<'_>,
    flags: PollFlags,
    deadline: Option<Instant>,
) -> io::Result<()> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn frames_come_out_whole_however_they_went_in() {
        let bytes = b"{}\0\0[1]\0rest";
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut out = Vec::new();
            for piece in bytes.chunks(size) {
                frames.push(piece);
                out.extend(std::iter::from_fn(|| frames.next_frame()));
            }
            assert_eq!(out, [b"{}".to_vec(), Vec::new(), b"[1]".to_vec()]);
            assert_eq!(frames.into_rest(), b"rest");
        }
    }

    #[test]
    fn nothing_behind_a_terminator_is_read_from_a_socket() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{}\0raw bytes").unwrap();
        let mut stream = Stream::socket(ours);
        assert_eq!(stream.receive(None).unwrap().unwrap().bytes, b"{}");
        let raw = stream.into_raw().unwrap();
        assert!(raw.rest.is_empty());
        let mut seen = [0; 9];
        UnixStream::from(raw.read).read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"raw bytes");
    }

    #[test]
    fn the_rest_of_a_pipe_is_handed_over() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        rustix::io::write(&write, b"{}\0raw bytes").unwrap();
        let mut stream = Stream::pipes(read, null.into());
        assert_eq!(stream.receive(None).unwrap().unwrap().bytes, b"{}");
        assert_eq!(stream.into_raw().unwrap().rest, b"raw bytes");
    }

    #[test]
    fn descriptors_stay_with_their_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut from, mut to) = (Stream::socket(ours), Stream::socket(theirs));
        to.set_accepts_fds(true);
        let file = tempfile::tempfile().unwrap();
        from.send(b"{\"a\":1}".to_vec(), &[], None).unwrap();
        from.send(b"{\"b\":1}".to_vec(), &[file.as_fd(), file.as_fd()], None).unwrap();
        from.send(b"{\"c\":1}".to_vec(), &[], None).unwrap();
        let counts: Vec<usize> =
            (0..3).map(|_| to.receive(None).unwrap().unwrap().fds.len()).collect();
        assert_eq!(counts, [0, 2, 0]);
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let many = vec![file.as_fd(); MAX_FDS + 1];
        assert!(Stream::socket(ours).send(b"{}".to_vec(), &many, None).is_err());
    }

    #[test]
    fn uninvited_descriptors_do_not_arrive() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut from, mut to) = (Stream::socket(ours), Stream::socket(theirs));
        let file = tempfile::tempfile().unwrap();
        from.send(b"{}".to_vec(), &[file.as_fd()], None).unwrap();
        assert!(to.receive(None).unwrap().unwrap().fds.is_empty());
    }

    #[test]
    fn a_message_larger_than_the_buffer_ends_the_connection() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || {
            let mut theirs = theirs;
            let chunk = vec![b' '; 1 << 20];
            while theirs.write_all(&chunk).is_ok() {}
        });
        let mut stream = Stream::socket(ours);
        let error = stream.receive(None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOBUFS.raw_os_error()));
        assert!(stream.frames.len() <= MAX_BUFFER + READ_SIZE);
        drop(stream);
        writer.join().unwrap();
    }

    #[test]
    fn silence_ends_at_the_deadline_and_a_closed_socket_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut stream = Stream::socket(ours);
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(stream.receive(Some(soon)).unwrap_err().kind(), ErrorKind::TimedOut);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!stream.is_gone());
        assert!(stream.receive(None).unwrap().is_none());
        drop(theirs);
        assert!(stream.is_gone());
    }
}
