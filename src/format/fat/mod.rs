//! FAT32 file systems: how large their parts are, and every byte of their metadata.
//!
//! Why our own: an EFI system partition is in every image, and neither `mkfs.fat` nor mtools is in
//! an initramfs. Geometry and boot sector are those of `mkfs.fat -F 32` 4.2, so an empty file
//! system is the same byte for byte; files are laid out one after the other, none in pieces.
//!
//! Documents: Microsoft FAT32 File System Specification 1.03; ECMA-107; the long names follow the
//! former.

mod boot;
mod directory;
mod geometry;
mod layout;
mod name;

pub use geometry::Geometry;
pub use layout::{Fault, Layout, Node};
pub use name::{label, volume_label};

/// First cluster; those before it exist in the table only.
pub const FIRST_CLUSTER: u32 = 2;
/// LIMIT: of the format; a file's length has 32 bits.
pub const FILE_MAX: u64 = u32::MAX as u64;
/// LIMIT: of the format; entries of a directory have 16-bit numbers.
pub const ENTRIES_MAX: usize = 65536;
/// Size of an entry of a directory, in bytes.
const ENTRY: usize = 32;

/// What identifies a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The volume ID, eight hexadecimal digits, shown with a dash between.
    pub volume_id: u32,
    /// The label as it is on disk; see [`volume_label`].
    pub label: Option<[u8; 11]>,
    /// When the label was given, in seconds since the epoch.
    pub created: i64,
}
