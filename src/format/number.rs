//! Numbers and booleans as settings and file names spell them.
//!
//! The peer reads numbers with strtoull(3) plus two prefixes of its own, and what it accepts
//! decides which files match a pattern. So `010` is eight here too.

/// Why a text is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// Something else than digits; the peer's EINVAL.
    Invalid,
    /// Negative, or too large; the peer's ERANGE.
    Range,
}

/// An unsigned number: decimal, `0x` hexadecimal, `0b` binary, `0o` or a leading `0` octal.
/// White space and one sign may lead; of the negative ones only `-0` is a number.
pub fn parse_u64(text: &str) -> Result<u64, NumberError> {
    let text = skip_space(text);
    // COMPAT(262): these two prefixes come before the sign, `0x` comes after it.
    if let Some(digits) = strip_either(text, "0b", "0B") {
        return parse_digits(digits, 2);
    }
    if let Some(digits) = strip_either(text, "0o", "0O") {
        return parse_digits(digits, 8);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if strip_either(unsigned, "0x", "0X").is_some() {
        return parse_digits(text, 16);
    }
    parse_digits(text, if unsigned.len() > 1 && unsigned.starts_with('0') { 8 } else { 10 })
}

/// A hexadecimal number with or without `0x`.
pub fn parse_hex_u64(text: &str) -> Result<u64, NumberError> {
    parse_digits(text, 16)
}

/// A size in bytes: numbers, perhaps with a fraction, each with one of `E P T G M K B` (powers of
/// 1024) or none, from large to small: `1G512M`, `1.5K`, `4096`.
pub fn parse_size(text: &str) -> Result<u64, NumberError> {
    const UNITS: [(&str, u32); 8] =
        [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10), ("B", 0), ("", 0)];
    let mut units = UNITS.as_slice();
    let (mut rest, mut total) = (text, 0_u64);
    loop {
        rest = skip_space(rest);
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let signed = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let (whole, after) = signed.split_at(digits(signed));
        if whole.is_empty() {
            return Err(NumberError::Invalid);
        }
        if rest.starts_with('-') {
            return Err(NumberError::Range);
        }
        let whole: u64 = whole.parse().map_err(|_| NumberError::Range)?;
        rest = after;
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = after.split_at(digits(after));
        }
        rest = skip_space(rest);
        let found = units.iter().position(|(unit, _)| rest.starts_with(unit));
        let (unit, shift) = found.and_then(|at| units.get(at)).ok_or(NumberError::Invalid)?;
        let factor = 1_u64 << shift;
        // LIMIT: digits behind the eighteenth make no byte of difference.
        let fraction = fraction.get(..18).unwrap_or(fraction);
        let tenths: u128 = fraction.parse().unwrap_or_default();
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or_default());
        let part = u64::try_from(tenths * u128::from(factor) / scale).unwrap_or_default();
        total = whole
            .checked_mul(factor)
            .and_then(|bytes| bytes.checked_add(part)?.checked_add(total))
            .ok_or(NumberError::Range)?;
        rest = rest.strip_prefix(unit).unwrap_or_default();
        units = found.and_then(|at| units.get(at + 1..)).unwrap_or_default();
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// An access mode in octal digits, at most 07777. No sign and no prefix.
pub fn parse_mode(text: &str) -> Result<u32, NumberError> {
    let digits = skip_space(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(NumberError::Invalid);
    }
    let mode = u32::try_from(parse_digits(digits, 8)?).map_err(|_| NumberError::Range)?;
    if mode <= 0o7777 { Ok(mode) } else { Err(NumberError::Range) }
}

/// `1 yes y true t on` and `0 no n false f off`, in any case.
pub fn parse_bool(text: &str) -> Option<bool> {
    let is_any = |words: [&str; 6]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_any(["1", "yes", "y", "true", "t", "on"]) {
        Some(true)
    } else if is_any(["0", "no", "n", "false", "f", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// strtoull(3) on the whole text, without wrapping negative numbers around.
fn parse_digits(text: &str, radix: u32) -> Result<u64, NumberError> {
    let text = skip_space(text);
    let (is_negative, mut digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if radix == 16 {
        digits = strip_either(digits, "0x", "0X").unwrap_or(digits);
    }
    // from_str_radix takes a sign of its own.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(NumberError::Invalid);
    }
    // Only digits, so all that can be wrong is their number.
    let number = u64::from_str_radix(digits, radix).map_err(|_| NumberError::Range)?;
    if is_negative && number != 0 { Err(NumberError::Range) } else { Ok(number) }
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r'])
}

fn strip_either<'a>(text: &'a str, a: &str, b: &str) -> Option<&'a str> {
    text.strip_prefix(a).or_else(|| text.strip_prefix(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024_from_large_to_small() {
        for (text, size) in [
            ("0", Ok(0)),
            ("5000", Ok(5000)),
            ("10.5M", Ok(11_010_048)),
            ("1.5K", Ok(1536)),
            ("1G512M", Ok(1_610_612_736)),
            ("1M 5B", Ok(1_048_581)),
            ("1K1M", Err(NumberError::Invalid)),
            ("1.K", Ok(1024)),
            (".5K", Err(NumberError::Invalid)),
            ("10 K", Ok(10240)),
            ("", Err(NumberError::Invalid)),
            ("K", Err(NumberError::Invalid)),
            ("1k", Err(NumberError::Invalid)),
            ("5 6", Err(NumberError::Invalid)),
            ("-1", Err(NumberError::Range)),
            ("15E", Ok(15 << 60)),
            ("16E", Err(NumberError::Range)),
            ("18446744073709551616", Err(NumberError::Range)),
        ] {
            assert_eq!(parse_size(text), size, "{text:?}");
        }
        assert!(parse_size("15.99999999999999999999999999999E").is_ok());
    }

    // Expectations from running systemd 262.1 on file names with `@t`, `@f`, `@m`.
    #[test]
    fn numbers_are_read_as_the_peer_reads_them() {
        for (text, number) in [
            ("0", Some(0)),
            ("12", Some(12)),
            (" 12", Some(12)),
            ("12 ", None),
            ("+1", Some(1)),
            ("-1", None),
            ("-0", Some(0)),
            ("010", Some(8)),
            ("08", None),
            ("0x10", Some(16)),
            ("0x", None),
            ("0B11", Some(3)),
            ("0O11", Some(9)),
            ("+0b11", None),
            ("0b+11", Some(3)),
            ("0o0x11", None),
            ("1e3", None),
            ("", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
        ] {
            assert_eq!(parse_u64(text).ok(), number, "{text:?}");
        }
        for (text, number) in [
            ("+1f", Some(31)),
            ("-0", Some(0)),
            ("0b1", Some(0xb1)),
            ("0o1", None),
            ("0xffffffffffffffff", Some(u64::MAX)),
            ("10000000000000000", None),
            ("0x", None),
            ("0x+1", None),
        ] {
            assert_eq!(parse_hex_u64(text).ok(), number, "{text:?}");
        }
        for (text, mode) in [
            ("0644", Some(0o644)),
            ("+644", None),
            (" 644", Some(0o644)),
            ("10000", None),
            ("0o644", None),
        ] {
            assert_eq!(parse_mode(text).ok(), mode, "{text:?}");
        }
    }

    #[test]
    fn too_large_and_negative_are_told_from_no_number() {
        for text in ["-1", "18446744073709551616"] {
            assert_eq!(parse_u64(text), Err(NumberError::Range), "{text}");
        }
        assert_eq!(parse_mode("17777"), Err(NumberError::Range));
        for text in ["", "x", "+-1", "0x+1", "1 "] {
            assert_eq!(parse_u64(text), Err(NumberError::Invalid), "{text}");
        }
    }

    #[test]
    fn booleans_ignore_case_and_nothing_else() {
        assert_eq!(parse_bool("On"), Some(true));
        assert_eq!(parse_bool("F"), Some(false));
        for text in ["", "2", "yes ", "enable"] {
            assert_eq!(parse_bool(text), None, "{text:?}");
        }
    }
}
