//! Hashes, text forms of bytes, and the OpenPGP policy.

#[cfg(feature = "repart")]
pub mod cms;
#[cfg(feature = "repart")]
pub mod files;
pub mod hash;
#[cfg(all(feature = "repart", feature = "luks"))]
pub mod luks;
pub mod openpgp;
#[cfg(feature = "repart")]
pub mod pem;
#[cfg(feature = "repart")]
pub mod secret;
pub mod text;
#[cfg(feature = "repart")]
pub mod verity;
#[cfg(all(feature = "repart", feature = "luks"))]
pub mod xts;
