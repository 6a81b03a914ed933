//! Bytes ⇄ values. No I/O, no `unsafe`, bounded, fuzzed, with golden vectors.

pub(crate) mod bytes;
mod crc32;
#[cfg(feature = "repart")]
pub mod der;
#[cfg(feature = "repart")]
pub mod fat;
pub mod glob;
pub mod gpt;
#[cfg(feature = "imds")]
pub mod http1;
#[cfg(feature = "imds")]
pub mod hwdb;
#[cfg(feature = "repart")]
pub mod iso9660;
#[cfg(all(feature = "repart", feature = "luks"))]
pub mod luks2;
pub mod manifest;
pub mod netlink;
pub mod number;
pub mod pattern;
#[cfg(feature = "imds")]
pub mod smbios;
#[cfg(feature = "repart")]
pub mod superblock;
#[cfg(feature = "repart")]
pub mod uevent;
#[cfg(feature = "repart")]
pub mod verity;
pub mod version;
#[cfg(feature = "repart")]
pub mod x509;
#[cfg(feature = "imds")]
pub mod yaml;
