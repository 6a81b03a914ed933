//! Arguments that are not UTF-8, carried through interfaces that want `&str`.
//!
//! argh parses `&str` only. A byte that is no UTF-8 travels as a private-use character U+10FE80 …
//! U+10FEFF (its value above U+10FE00), and [`path`](super::path) turns it back. Genuine characters
//! of that range travel byte by byte the same way, so that every argument survives the round trip.
//! Only values that name files get this; anything else that is not UTF-8 is refused by position.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const BASE: u32 = 0x10_FE00;

fn is_carrier(c: char) -> bool {
    (BASE + 0x80..=BASE + 0xFF).contains(&u32::from(c))
}

/// Any argument as text; [`decode`] is the way back.
pub(crate) fn encode(arg: &OsStr) -> String {
    let mut text = String::with_capacity(arg.len());
    let carry = |text: &mut String, bytes: &[u8]| {
        text.extend(bytes.iter().filter_map(|&b| char::from_u32(BASE + u32::from(b))));
    };
    for chunk in arg.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_carrier(c) {
                carry(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        carry(&mut text, chunk.invalid());
    }
    text
}

/// The argument that [`encode`] was given.
pub(crate) fn decode(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c).wrapping_sub(BASE)) {
            Ok(byte) if is_carrier(c) => bytes.push(byte),
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_survives_the_round_trip() {
        let cases: [&[u8]; 6] =
            [b"", b"plain", b"\xff", "é\u{10FE80}\u{10FFFD}".as_bytes(), b"a\xc3", b"\x80\xf4\x8f"];
        for bytes in cases {
            let arg = OsStr::from_bytes(bytes);
            assert_eq!(decode(&encode(arg)), arg, "{bytes:?}");
        }
        for seed in 0..=u16::MAX {
            let [a, b] = seed.to_le_bytes();
            let bytes = [a, b, a ^ 0x5a, b.rotate_left(3)];
            assert_eq!(decode(&encode(OsStr::from_bytes(&bytes))).as_bytes(), bytes);
        }
    }

    #[test]
    fn utf8_stays_as_it_is() {
        assert_eq!(encode(OsStr::new("a/ü…")), "a/ü…");
    }
}
