//! Little-endian numbers at offsets; out of bounds is `None`, never a panic.

/// The `N` bytes at an offset.
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// A 32-bit number.
pub(crate) fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

/// A 64-bit number.
pub(crate) fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

/// Overwrites what is at an offset; does nothing if it does not fit.
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    let target = bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..value.len()));
    if let Some(target) = target {
        target.copy_from_slice(value);
    }
}
