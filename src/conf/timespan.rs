//! Spans of time as people write them: `45`, `1min 30s`, `2.5h`, `infinity`.

use std::time::Duration;

use super::value::Bad;

/// Units and their length in microseconds; the first spelling that fits is taken, so longer ones
/// come before their beginnings.
const UNITS: &[(&str, u64)] = &[
    ("seconds", 1_000_000),
    ("second", 1_000_000),
    ("sec", 1_000_000),
    ("minutes", 60_000_000),
    ("minute", 60_000_000),
    ("min", 60_000_000),
    ("months", 2_629_800_000_000),
    ("month", 2_629_800_000_000),
    ("msec", 1_000),
    ("ms", 1_000),
    ("m", 60_000_000),
    ("M", 2_629_800_000_000),
    ("hours", 3_600_000_000),
    ("hour", 3_600_000_000),
    ("hr", 3_600_000_000),
    ("h", 3_600_000_000),
    ("days", 86_400_000_000),
    ("day", 86_400_000_000),
    ("d", 86_400_000_000),
    ("weeks", 604_800_000_000),
    ("week", 604_800_000_000),
    ("w", 604_800_000_000),
    ("years", 31_557_600_000_000),
    ("year", 31_557_600_000_000),
    ("y", 31_557_600_000_000),
    ("usec", 1),
    ("us", 1),
    ("µs", 1),
    ("μs", 1),
    ("s", 1_000_000),
];

/// Parses a span; numbers without a unit are seconds, `infinity` is `None`.
///
/// # Errors
/// Not a span; negative or more than 2⁶⁴ microseconds.
pub fn parse(text: &str) -> Result<Option<Duration>, Bad> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Ok(None);
    }
    if rest.is_empty() {
        return Err(Bad::Invalid);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        if rest.starts_with('-') {
            return Err(Bad::Range);
        }
        let (micros, after) = part(rest)?;
        total = total.checked_add(micros).ok_or(Bad::Range)?;
        rest = after.trim_start();
    }
    Ok(Some(Duration::from_micros(total)))
}

/// One number with its unit, and what follows.
fn part(text: &str) -> Result<(u64, &str), Bad> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(Bad::Invalid);
    }
    let rest = rest.trim_start();
    let unit = UNITS.iter().find_map(|(name, size)| Some((*size, rest.strip_prefix(name)?)));
    let is_number = rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let (size, rest) = match unit {
        Some(unit) => unit,
        None if is_number => (1_000_000, rest),
        None => return Err(Bad::Invalid),
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Bad::Range)? };
    let mut micros = whole.checked_mul(size).ok_or(Bad::Range)?;
    let mut place = size;
    for digit in fraction.bytes().map(|digit| u64::from(digit - b'0')) {
        place /= 10;
        micros = micros.checked_add(digit * place).ok_or(Bad::Range)?;
    }
    Ok((micros, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_up() {
        for (text, micros) in [
            ("45", 45_000_000),
            ("0", 0),
            ("1min 2s", 62_000_000),
            ("1min2s", 62_000_000),
            ("1us", 1),
            ("2.5h", 9_000_000_000),
            (" 1 d ", 86_400_000_000),
            ("10ms", 10_000),
            (".5", 500_000),
        ] {
            assert_eq!(parse(text).unwrap(), Some(Duration::from_micros(micros)), "{text}");
        }
        assert_eq!(parse("infinity").unwrap(), None);
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "foo", "1x", "1 minx", ".", "s"] {
            assert!(matches!(parse(text), Err(Bad::Invalid)), "{text}");
        }
        for text in ["-1", "99999999999999999999", "9999999999999y"] {
            assert!(matches!(parse(text), Err(Bad::Range)), "{text}");
        }
    }
}
