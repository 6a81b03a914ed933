//! One call in the hands of its handler.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde_json::{Map, Value};

use super::{Service, object};
use crate::ctx::Ctx;
use crate::error::{Context, Error, Result};
use crate::varlink::message::{Mode, Reply, Request};
use crate::varlink::params::Params;
use crate::varlink::wire::{Raw, Stream};
use crate::varlink::{MAX_FDS, errors, policy};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
    /// Its process; 0 where nobody knows.
    pub pid: i32,
}

/// What a handler gives back.
pub enum Answer {
    /// The final reply.
    Reply(Map<String, Value>),
    /// What was given to [`Call::emit`] is the answer; the error where nothing was.
    Streamed(Option<Error>),
    /// The final reply; then the connection belongs to the function.
    Upgrade(Map<String, Value>, Takeover),
}

/// Gets the connection after an upgrade.
pub type Takeover = Box<dyn FnOnce(Raw) -> Result<()>>;

impl Answer {
    /// A final reply; the value has to be an object.
    pub fn reply(value: Value) -> Result<Self> {
        Ok(Self::Reply(object(value)?))
    }

    /// A final reply without parameters.
    pub fn empty() -> Result<Self> {
        Ok(Self::Reply(Map::new()))
    }

    /// Everything was emitted; nothing at all is an empty reply.
    pub fn streamed() -> Result<Self> {
        Ok(Self::Streamed(None))
    }

    /// Everything was emitted; if that was nothing, the error is sent.
    pub fn streamed_or(sentinel: Error) -> Result<Self> {
        Ok(Self::Streamed(Some(sentinel)))
    }
}

/// A call: who calls what with which parameters, and the way back.
pub struct Call<'a> {
    pub(super) service: &'a Service,
    pub(super) request: &'a Request,
    pub(super) peer: Peer,
    pub(super) stream: &'a mut Stream,
    pub(super) fds: Vec<Option<OwnedFd>>,
    pub(super) attached: Vec<OwnedFd>,
    /// The reply that is sent once it is known whether it is the last one.
    pub(super) held: Option<(Map<String, Value>, Vec<OwnedFd>)>,
}

impl<'a> Call<'a> {
    /// The service.
    pub fn service(&self) -> &'a Service {
        self.service
    }

    /// The world the service works on.
    pub fn ctx(&self) -> &'a Ctx {
        &self.service.ctx
    }

    /// The qualified name of the method.
    pub fn method(&self) -> &'a str {
        &self.request.method
    }

    /// The parameters, checked against the interface description.
    pub fn params(&self) -> Params<'a> {
        Params::new(&self.request.parameters)
    }

    /// What kind of answer the caller wants.
    pub fn mode(&self) -> Mode {
        self.request.mode
    }

    /// Who calls.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Refuses everybody but root, the own user and those whom the policy file allows this
    /// method.
    pub fn authorize(&self) -> Result<()> {
        self.authorize_for(None)
    }

    /// As [`Call::authorize`], but a rule for this use of the method is enough.
    pub fn authorize_for(&self, detail: Option<&str>) -> Result<()> {
        policy::authorize(self.ctx(), self.peer, self.method(), detail)
    }

    /// Takes a descriptor that came with the call, by the index that parameter `name` holds.
    pub fn take_fd(&mut self, name: &str) -> Result<OwnedFd> {
        let index = self.params().uint(name)?;
        let slot = usize::try_from(index).ok().and_then(|index| self.fds.get_mut(index));
        slot.and_then(Option::take).ok_or_else(|| errors::invalid_parameter(name))
    }

    /// Attaches a descriptor to the next reply and returns its index there.
    pub fn push_fd(&mut self, fd: OwnedFd) -> Result<usize> {
        if self.attached.len() >= MAX_FDS {
            return Err(Error::errno_because("Too many descriptors", nix::libc::ENOBUFS));
        }
        self.attached.push(fd);
        Ok(self.attached.len() - 1)
    }

    /// Sends one of many replies at once, for progress: another one has to follow. Fails where
    /// the caller has gone or did not ask for many.
    pub fn notify(&mut self, value: Value) -> Result<()> {
        let parameters = object(value)?;
        if self.request.mode == Mode::Oneway {
            return Ok(());
        }
        if self.request.mode != Mode::More {
            return Err(errors::expected_more());
        }
        self.flush()?;
        let fds = std::mem::take(&mut self.attached);
        self.send(Reply { error: None, parameters, continues: true }, &fds)
    }

    /// Hands over one of any number of replies, for lists: the last one becomes the final reply.
    pub fn emit(&mut self, value: Value) -> Result<()> {
        let parameters = object(value)?;
        if self.held.is_some() && !matches!(self.request.mode, Mode::More | Mode::Oneway) {
            return Err(errors::expected_more());
        }
        self.flush()?;
        self.held = Some((parameters, std::mem::take(&mut self.attached)));
        Ok(())
    }

    /// True where the caller has hung up, so that long work can stop.
    pub fn is_cancelled(&self) -> bool {
        self.stream.is_gone()
    }

    /// Waits until a descriptor can be read. False when the caller has hung up.
    pub fn wait_for(&self, other: BorrowedFd<'_>) -> Result<bool> {
        self.stream.wait_for(other).context(|| "Failed to wait".to_owned())
    }

    /// Sends the held reply with a promise of more.
    fn flush(&mut self) -> Result<()> {
        match self.held.take() {
            None => Ok(()),
            Some((parameters, fds)) => {
                self.send(Reply { error: None, parameters, continues: true }, &fds)
            }
        }
    }

    /// Sends the answer. `Ok` carries the function that takes over, if the connection changes
    /// hands.
    pub(super) fn finish(mut self, answer: Result<Answer>) -> Result<Option<Takeover>> {
        let (reply, takeover) = match answer {
            Ok(Answer::Reply(parameters)) => (Ok(parameters), None),
            Ok(Answer::Upgrade(parameters, takeover)) => match self.request.mode {
                Mode::Upgrade => (Ok(parameters), Some(takeover)),
                _ => (Err(errors::expected_upgrade()), None),
            },
            Ok(Answer::Streamed(sentinel)) => match (self.held.take(), sentinel) {
                (Some((parameters, fds)), _) => {
                    self.attached = fds;
                    (Ok(parameters), None)
                }
                (None, Some(sentinel)) => (Err(sentinel), None),
                (None, None) => (Ok(Map::new()), None),
            },
            Err(error) => (Err(error), None),
        };
        // What was held back and is not the last reply goes first; a plain call has one only.
        if self.request.mode == Mode::More {
            self.flush()?;
        }
        match reply {
            Ok(parameters) => {
                let fds = std::mem::take(&mut self.attached);
                self.send(Reply { error: None, parameters, continues: false }, &fds)?;
            }
            Err(error) => {
                log::debug!("Call of {}() failed: {error}", self.request.method);
                let (name, parameters) = errors::to_wire(&error);
                self.send(Reply { error: Some(name), parameters, continues: false }, &[])?;
            }
        }
        Ok(takeover)
    }

    fn send(&mut self, reply: Reply, fds: &[OwnedFd]) -> Result<()> {
        if self.request.mode == Mode::Oneway {
            return Ok(());
        }
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.stream.send(reply.to_bytes(), &fds, None).context(|| "Failed to reply".to_owned())
    }
}
