//! Giving up what root may do.

use std::io;

pub use rustix::thread::CapabilitySet;
use rustix::thread::{CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// Gives up all capabilities but these, and that programs we start could get more. For the thread
/// that calls and those it starts: to be called before there are others.
///
/// # Errors
/// The kernel refuses; what was given up by then stays given up.
pub fn keep_only(wanted: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let permitted = capabilities(None)?.permitted & wanted;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })?;
    Ok(())
}
