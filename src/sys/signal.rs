//! Signal dispositions, which the standard library sets but does not let go of.
#![allow(unsafe_code, reason = "sigaction(2)")]

use std::io::{self, PipeWriter, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};

/// Says whether writing to a pipe or socket that nobody reads ends the process by SIGPIPE, as for
/// any Unix tool, or fails with `EPIPE`, as Rust's start-up code arranges and a server needs.
///
/// With it `slipway --list | head -n1` ends silently instead of failing to write.
pub fn set_pipe_ends_process(is_wanted: bool) {
    let handler = if is_wanted { SigHandler::SigDfl } else { SigHandler::SigIgn };
    // SAFETY: neither disposition runs code of ours.
    // It cannot fail: the signal exists and may be changed.
    let _ = unsafe { signal(Signal::SIGPIPE, handler) };
}

/// What the handler of [`stop_by_flag`] sets.
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes the first SIGINT, SIGTERM or SIGHUP set a flag, so that work can end in good order, and
/// the second one end the process, should that take too long. The first flag given is the one.
pub fn stop_by_flag(flag: &Arc<AtomicBool>) {
    STOP.get_or_init(|| Arc::clone(flag));
    let flags = SaFlags::SA_RESETHAND;
    let action = SigAction::new(SigHandler::Handler(stop), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but load a pointer and store a flag, both atomically.
        // It cannot fail: the signals exist and may be caught.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

extern "C" fn stop(_: i32) {
    if let Some(flag) = STOP.get() {
        flag.store(true, Ordering::Relaxed);
    }
}

/// Where the handler of [`before_end`] writes to.
static WAKE: OnceLock<PipeWriter> = OnceLock::new();

/// Calls this when a SIGINT, SIGTERM or SIGHUP comes, and only then lets it end the process; those
/// that come meanwhile do nothing, for timeout(1) sends each twice. Those that are ignored stay so.
/// Programs that are started do not take part.
///
/// # Errors
///
/// No pipe or thread could be made; signals end the process as ever.
pub fn before_end(call: fn()) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    WAKE.get_or_init(|| writer);
    std::thread::Builder::new().spawn(move || {
        let mut number = [0];
        if reader.read_exact(&mut number).is_ok()
            && let Ok(signal) = Signal::try_from(i32::from(number[0]))
        {
            call();
            // SAFETY: the default disposition runs no code of ours.
            let _ = unsafe { self::signal(signal, SigHandler::SigDfl) };
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), signal);
        }
    })?;
    let handler = SigHandler::Handler(wake);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but load a pointer and write a byte, both of which
        // may be done in one.
        if let Ok(old) = unsafe { sigaction(signal, &action) }
            && matches!(old.handler(), SigHandler::SigIgn)
        {
            // SAFETY: it is the disposition that was there.
            let _ = unsafe { sigaction(signal, &old) };
        }
    }
    Ok(())
}

extern "C" fn wake(signal: i32) {
    if let Some(pipe) = WAKE.get() {
        // All signals have numbers below 65.
        let number = u8::try_from(signal).unwrap_or_default();
        let _ = rustix::io::write(pipe, &[number]);
    }
}

/// SIGTERM and SIGINT, for one thread to wait for.
pub struct Stops(SigSet);

impl Stops {
    /// Waits until one of them comes.
    pub fn wait(&self) {
        // It fails for signals that do not exist only.
        let _ = self.0.wait();
    }
}

/// Keeps SIGTERM and SIGINT from ending the process: they are for [`Stops::wait`]. To be called
/// before there are threads, which inherit that.
pub fn block_stops() -> Stops {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // It cannot fail: the set is valid.
    let _ = signals.thread_block();
    Stops(signals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_only_sets_the_flag() {
        let flag = Arc::new(AtomicBool::new(false));
        stop_by_flag(&flag);
        nix::sys::signal::raise(Signal::SIGHUP).unwrap();
        assert!(flag.load(Ordering::Relaxed));
    }
}
