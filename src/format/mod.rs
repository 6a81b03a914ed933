//! Bytes ⇄ values. No I/O, no `unsafe`, bounded, fuzzed, with golden vectors.

pub mod manifest;
pub mod number;
pub mod pattern;
pub mod version;
