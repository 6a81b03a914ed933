//! The in-process core of slipway: everything the applets do, without knowing an applet, an
//! argument parser or a terminal.
//!
//! # Map
//!
//! | Layer | Modules | May use |
//! |---|---|---|
//! | domains | `imds` `repart` `update` | services, format, sys |
//! | services | [`varlink`] `http` [`net`] [`crypto`] `unpack` [`disk`] [`fs`](mod@fs) `mkfs` [`conf`] [`out`] [`notify`] [`log`](mod@log) [`condition`] | format, sys |
//! | format | [`format`](mod@format): bytes ⇄ values | nothing |
//! | sys | [`sys`]: system calls | nothing |
//!
//! [`error`] and [`ctx`] belong to everybody.
//!
//! # Invariants
//!
//! - A format never opens, reads or prints, and never allocates by a length it has not checked.
//! - `unsafe` lives in `sys` only.
//! - A domain plans first (`plan(inputs) -> Result<Plan, Refusal>`, pure) and applies second; the
//!   command line, the Varlink server, a dry run and the tests are callers of the same pair.
//! - Nothing reads `std::env`, the clock or `/proc` behind the back of [`ctx::Ctx`].
//! - There is no global state but the log level and what a signal has to undo (`fs::undo`).
#![warn(rustdoc::broken_intra_doc_links)]

pub mod condition;
pub mod conf;
pub mod crypto;
pub mod ctx;
pub mod disk;
pub mod error;
pub mod format;
pub mod fs;
#[cfg(any(feature = "update", feature = "imds"))]
pub mod http;
#[cfg(feature = "imds")]
pub mod imds;
pub mod log;
#[cfg(feature = "repart")]
pub mod mkfs;
pub mod net;
pub mod notify;
pub mod out;
#[cfg(feature = "repart")]
pub mod repart;
pub mod sys;
#[cfg(feature = "update")]
pub mod unpack;
#[cfg(feature = "update")]
pub mod update;
pub mod varlink;
