//! Match patterns of transfer files: `foo_@v.raw` and what its wildcards capture.

use uuid::Uuid;

/// A compiled `MatchPattern=` word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// What wildcards captured, or what a resource knows about an instance besides its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `@u`: partition UUID.
    pub partition_uuid: Option<Uuid>,
    /// `@f`: GPT attribute bits.
    pub partition_flags: Option<u64>,
    /// `@a`: GPT attribute bit 63.
    pub no_auto: Option<bool>,
    /// `@g`: GPT attribute bit 59.
    pub grow_fs: Option<bool>,
    /// `@r`: GPT attribute bit 60, or no write permission.
    pub read_only: Option<bool>,
    /// `@t`: modification time in µs since the epoch.
    pub mtime_usec: Option<u64>,
    /// `@m`: access mode, within 0775.
    pub mode: Option<u32>,
    /// `@s`: uncompressed size in bytes.
    pub size_bytes: Option<u64>,
    /// `@d`: boot attempts done.
    pub tries_done: Option<u64>,
    /// `@l`: boot attempts left.
    pub tries_left: Option<u64>,
    /// `@h`: SHA-256 of the file as served.
    pub sha256: Option<[u8; 32]>,
}
