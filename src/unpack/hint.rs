//! What the first bytes of a packed stream say about its unpacked size.

use super::{Format, lz4, sniff};

/// The least that comes out of a stream which starts with `prefix`, if it says so: what the header
/// of its first frame or block promises. More may follow, and a plain stream says nothing.
///
/// A few hundred bytes of prefix are enough for every header.
pub fn size_hint(prefix: &[u8]) -> Option<u64> {
    match sniff(prefix) {
        Format::Zstd => zstd::zstd_safe::get_frame_content_size(prefix).ok().flatten(),
        Format::Lz4 => lz4::content_size(prefix),
        // gzip keeps its size at the end, modulo 4 GiB; bzip2 not at all.
        Format::Xz | Format::Plain | Format::Gzip | Format::Bzip2 => None,
    }
}
