//! Hashes and text forms of bytes.

pub mod hash;
pub mod text;
