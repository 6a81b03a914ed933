//! System calls behind safe functions: the only place for `unsafe`.
//!
//! Each file is a subject and starts with what the standard library lacks there. Errors are
//! `io::Error`s with the kernel's errno; nothing is retried but `EINTR`, nothing is logged.

pub mod blk;
pub mod blkpg;
pub mod btrfs;
pub mod cpu;
pub mod fs;
pub mod inherited;
pub mod loopdev;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod memory;
pub mod mount;
#[cfg(feature = "imds")]
pub mod net;
pub mod netlink;
#[cfg(feature = "imds")]
pub mod privilege;
pub mod signal;
pub mod spawn;
