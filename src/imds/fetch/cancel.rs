//! A flag that several threads share and that wakes whoever waits.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::sys::net;

/// How long a wait is where the kernel gave us nothing to be woken by.
const TICK: Duration = Duration::from_millis(50);

/// Ends fetches from another thread. Clones are the same flag.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_set: AtomicBool,
    /// Readable from the moment the flag is set.
    event: Option<OwnedFd>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// Not set.
    pub fn new() -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Self(Arc::new(Inner { is_set: AtomicBool::new(false), event }))
    }

    /// Sets the flag, for ever.
    pub fn cancel(&self) {
        self.0.is_set.store(true, Ordering::SeqCst);
        if let Some(event) = &self.0.event {
            let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
        }
    }

    /// Is it set?
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set.load(Ordering::SeqCst)
    }

    /// Waits for sockets as [`net::wait`] does; a set flag ends the wait at once. May return
    /// early with nothing ready.
    pub(super) fn wait(
        &self,
        waits: &[(BorrowedFd<'_>, bool)],
        time: Duration,
    ) -> std::io::Result<Vec<bool>> {
        let mut all = waits.to_vec();
        let mut time = time;
        match &self.0.event {
            Some(event) => all.push((event.as_fd(), false)),
            None => time = time.min(TICK),
        }
        let mut ready = net::wait(&all, time)?;
        ready.truncate(waits.len());
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_is_woken() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let waiter = std::thread::spawn(move || {
            while !other.is_cancelled() {
                other.wait(&[], Duration::from_secs(600)).unwrap();
            }
        });
        cancel.cancel();
        waiter.join().unwrap();
        assert!(cancel.is_cancelled());
    }
}
