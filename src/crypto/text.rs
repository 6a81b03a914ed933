//! Bytes as text: hexadecimal and base64 (RFC 4648).

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use base64::{alphabet, engine::DecodePaddingMode};

const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Two lower case digits per byte.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Exactly N bytes from 2 N digits of any case.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|b| char::from(*b).to_digit(16));
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

/// The standard alphabet, padded.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Bytes from the standard alphabet, with padding or without; blanks and line breaks anywhere do
/// not count. `None` where there is anything else.
pub fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    ANY_PADDING.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009fFF"), Some([0, 0x9f, 0xff]));
        for bad in ["", "00", "0g", "00ffé", "000000000"] {
            assert_eq!(unhex::<4>(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(unbase64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
        assert_eq!(unbase64(b" Zm9v\r\nYg ").as_deref(), Some(&b"foob"[..]));
        for bad in ["Z", "Zm9v!", "Zm9=v", "Zm9vYh=="] {
            assert_eq!(unbase64(bad.as_bytes()), None, "{bad}");
        }
    }
}
