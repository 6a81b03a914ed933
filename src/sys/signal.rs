//! Signal dispositions, which the standard library sets but does not let go of.
#![allow(unsafe_code, reason = "sigaction(2)")]

use nix::sys::signal::{SigHandler, Signal, signal};

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
