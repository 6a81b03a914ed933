//! Records of a pax extended header: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.

use std::borrow::Cow;

/// Splits a header into keys and values; None where it is malformed.
pub(super) fn records(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|&b| b == b' ')?;
        let len = decimal(bytes.get(..blank)?)?;
        let record = bytes.get(..usize::try_from(len).ok()?)?;
        let record = record.strip_suffix(b"\n")?.get(blank + 1..)?;
        let equals = record.iter().position(|&b| b == b'=')?;
        found.push((record.get(..equals)?, record.get(equals + 1..)?));
        bytes = bytes.get(usize::try_from(len).ok()?..)?;
    }
    Some(found)
}

/// A number without a sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds and nanoseconds, the latter never negative; digits beyond them are cut off.
pub(super) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let seconds = i64::try_from(decimal(seconds.as_bytes())?).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    // DIFFERS: -5.25 is 5.25 seconds before the epoch; libarchive makes it 4.75.
    Some(match (is_negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// Undoes `%41` in the names of `LIBARCHIVE.xattr.` keys.
pub(super) fn percent(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail
            .get(..2)
            .filter(|hex| first == b'%' && hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(code.unwrap_or(first));
        rest = tail.get(if code.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_equals_signs() {
        let bytes = b"12 k=a\nb=c\n\n5 e=\n";
        assert_eq!(
            records(bytes),
            Some(vec![(&b"k"[..], &b"a\nb=c\n"[..]), (&b"e"[..], &b""[..])])
        );
        assert_eq!(records(b""), Some(vec![]));
    }

    #[test]
    fn every_truncation_and_wrong_length_is_seen() {
        let good = b"11 key=val\n";
        assert!(records(good).is_some());
        for len in 1..good.len() {
            assert_eq!(records(&good[..len]), None, "{len}");
        }
        for bad in
            [&b"10 key=val\n"[..], b"0 k=v\n", b"99999999999999999999 k=v\n", b" k=v\n", b"5 kv\n"]
        {
            assert_eq!(records(bad), None);
        }
    }

    #[test]
    fn times_have_nanoseconds_and_signs() {
        assert_eq!(time(b"1600000000"), Some((1_600_000_000, 0)));
        assert_eq!(time(b"1600000000.5"), Some((1_600_000_000, 500_000_000)));
        assert_eq!(time(b"1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time(b"-5.25"), Some((-6, 750_000_000)));
        assert_eq!(time(b"-5"), Some((-5, 0)));
        for bad in [&b""[..], b".", b"1.x", b"--1", b"1e3", b"99999999999999999999"] {
            assert_eq!(time(bad), None);
        }
    }

    #[test]
    fn encodings_of_libarchive() {
        assert_eq!(&percent(b"user.%41%zz%4")[..], b"user.A%zz%4");
    }
}
