//! Hashes, text forms of bytes, and the OpenPGP policy.

pub mod hash;
pub mod openpgp;
pub mod text;
#[cfg(feature = "repart")]
pub mod verity;
