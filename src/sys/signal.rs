//! Signal dispositions, which the standard library sets but does not let go of.
#![allow(unsafe_code, reason = "sigaction(2)")]

use nix::sys::signal::{SigHandler, Signal, signal};

/// Makes SIGPIPE end the process again, as for any Unix tool; Rust's start-up code ignores it.
///
/// With it `slipway --list | head -n1` ends silently instead of failing to write.
pub fn restore_pipe() {
    // SAFETY: the default disposition runs no code of ours.
    // It cannot fail: the signal exists and may be changed.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
