//! Configuration as systemd's tools read it: unit-style files with drop-ins in a search path,
//! specifiers, os-release and the kernel command line.
//!
//! A domain declares its keys as a table of [`ini::Key`]s, finds its files with
//! [`search::SearchPath`] and lets [`ini::load`] put the values in place. What is not understood is
//! told with file and line and ignored, as in the peer; only what would make a different job out of
//! the one that was asked for is an error.

pub mod cmdline;
pub mod credential;
pub mod ini;
pub mod os_release;
pub mod search;
pub mod specifier;
pub mod timespan;
pub mod value;
pub mod words;
