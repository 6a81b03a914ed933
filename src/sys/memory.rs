//! `memcpy` and `memmove` for the static build.
//!
//! Why: decoders copy millions of matches of a few bytes. musl's x86-64 version starts the string
//! unit for each of them, which was 18 % of the time of an xz update and 15 % of a zstd one. This
//! one moves up to 128 bytes with overlapping loads and stores and leaves the rest to `rep movsb`.
//! `memmove` is here because musl's shares its code with `memcpy`, and a symbol can come only once.
#![allow(unsafe_code, reason = "a C library function is made of pointers")]

use std::arch::asm;
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// Copies `len` bytes; the buffers must not overlap (ISO C99 7.21.2.1).
///
/// # Safety
///
/// `from` must be readable and `to` writable for `len` bytes.
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy(to, from, len) };
    to
}

/// Copies forwards; up to 128 bytes are all read before the first is written.
///
/// No loops here: the compiler would see a copy in them, and call `memcpy`. Nor does anything here
/// call `memcpy` by its name: the compiler knows that one, and that its buffers never overlap.
///
/// # Safety
///
/// As for [`memcpy`], but for the overlap: `to` must not begin inside a `from` of over 128 bytes.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: a size class moves its first and its last bytes, which overlap where `len` is less
    // than twice the class. So every access lies within `len` bytes of the two pointers.
    unsafe {
        match len {
            0 => {}
            1 => *to = *from,
            2..4 => ends::<u16>(to, from, len),
            4..8 => ends::<u32>(to, from, len),
            8..16 => ends::<u64>(to, from, len),
            16..=32 => ends::<__m128i>(to, from, len),
            33..=64 => {
                let (b, c) = (load(from, 16), load(from, len - 32));
                ends::<__m128i>(to, from, len);
                store(to, 16, b);
                store(to, len - 32, c);
            }
            65..=128 => {
                let (b, c, d) = (load(from, 16), load(from, 32), load(from, 48));
                let (e, f, g) = (load(from, len - 64), load(from, len - 48), load(from, len - 32));
                ends::<__m128i>(to, from, len);
                store(to, 16, b);
                store(to, 32, c);
                store(to, 48, d);
                store(to, len - 64, e);
                store(to, len - 48, f);
                store(to, len - 32, g);
            }
            _ => asm!(
                "rep movsb",
                inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags)
            ),
        }
    }
}

/// Copies `len` bytes between buffers that may overlap (ISO C99 7.21.2.2).
///
/// # Safety
///
/// As for [`memcpy`], but for the overlap.
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    const BLOCK: usize = 128;
    let mut rest = len;
    // Backwards where the target begins inside the source.
    if to.addr().wrapping_sub(from.addr()) < len {
        while rest > BLOCK {
            rest -= BLOCK;
            // SAFETY: `rest + BLOCK` bytes remain to be moved; this moves the last of them.
            unsafe { copy(to.add(rest), from.add(rest), BLOCK) };
        }
    }
    // SAFETY: the caller's promise; going backwards, at most a block remains.
    unsafe { copy(to, from, rest) }
    to
}

/// Moves the first and the last `T`; both are read before either is written.
///
/// # Safety
///
/// Both buffers must have `len` bytes, at least one `T` and at most two.
#[inline(always)]
unsafe fn ends<T: Copy>(to: *mut u8, from: *const u8, len: usize) {
    let last = len - size_of::<T>();
    // SAFETY: the caller's promise.
    unsafe {
        let head = from.cast::<T>().read_unaligned();
        let tail = from.add(last).cast::<T>().read_unaligned();
        to.cast::<T>().write_unaligned(head);
        to.add(last).cast::<T>().write_unaligned(tail);
    }
}

/// # Safety
///
/// 16 bytes must be readable there.
#[inline(always)]
unsafe fn load(from: *const u8, at: usize) -> __m128i {
    // SAFETY: the caller's promise; SSE2 belongs to x86-64.
    unsafe { _mm_loadu_si128(from.add(at).cast()) }
}

/// # Safety
///
/// 16 bytes must be writable there.
#[inline(always)]
unsafe fn store(to: *mut u8, at: usize, vector: __m128i) {
    // SAFETY: the caller's promise; SSE2 belongs to x86-64.
    unsafe { _mm_storeu_si128(to.add(at).cast(), vector) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_length_and_alignment_is_copied_and_nothing_else() {
        let from: Vec<u8> = (0..=255).cycle().take(700).collect();
        for len in (0..300).chain([511, 512, 513, 600]) {
            for at in [0, 1, 7] {
                let mut to = vec![0xee; 700];
                // SAFETY: both have 700 bytes, and at + len + 32 is less.
                unsafe { super::memcpy(to.as_mut_ptr().add(at), from.as_ptr().add(at + 3), len) };
                assert_eq!(to[at..at + len], from[at + 3..at + 3 + len]);
                assert!(to[..at].iter().chain(&to[at + len..]).all(|&b| b == 0xee));
            }
        }
    }

    #[test]
    fn overlapping_buffers_arrive_whole() {
        for len in (0..300).chain([511, 512, 513, 1000]) {
            for (to, from) in [(0, 1), (1, 0), (0, 64), (64, 0), (5, 130), (130, 5), (7, 7)] {
                let mut buffer: Vec<u8> = (0..=250).cycle().take(1200).collect();
                let mut expected = buffer.clone();
                expected.copy_within(from..from + len, to);
                // SAFETY: both ranges lie within the buffer.
                unsafe {
                    let start = buffer.as_mut_ptr();
                    super::memmove(start.add(to), start.add(from), len);
                }
                assert_eq!(buffer, expected, "{len} bytes from {from} to {to}");
            }
        }
    }
}
