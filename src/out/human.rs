//! Sizes and durations as the peer writes them for people.

/// Powers of 1024, one digit after the point, cut not rounded: `12B`, `1.5K`, `4.0G`.
pub fn bytes(count: u64) -> String {
    let units = [(60, 'E'), (50, 'P'), (40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    for (shift, unit) in units {
        let whole = count >> shift;
        if whole > 0 {
            let rest = count & ((1 << shift) - 1);
            // The remainder of an exabyte would overflow when multiplied by ten at full width.
            let tenth = ((rest >> (shift - 10)) * 10) >> 10;
            return format!("{whole}.{tenth}{unit}");
        }
    }
    format!("{count}B")
}

/// As [`bytes`], but without a zero after the point: `4G`, `1.5K`; how the peer's messages and the
/// tables of repart spell sizes.
pub fn size(count: u64) -> String {
    bytes(count).replace(".0", "")
}

/// Microseconds as `1min 30s`, in units no finer than `accuracy` microseconds; 0 means as fine as
/// needed. A last unit below a minute may have a fraction: `1.500s`.
pub fn timespan(mut usec: u64, accuracy: u64) -> String {
    const UNITS: [(&str, u64); 9] = [
        ("y", 31_557_600_000_000),
        ("month", 2_629_800_000_000),
        ("w", 604_800_000_000),
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ];
    if usec == u64::MAX {
        return "infinity".to_owned();
    }
    if usec == 0 {
        return "0".to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    for (name, unit) in UNITS {
        if usec == 0 || (usec < accuracy && !parts.is_empty()) {
            break;
        }
        if usec < unit {
            continue;
        }
        let (whole, rest) = (usec / unit, usec % unit);
        if usec < 60_000_000 && rest > 0 {
            // Digits after the point, as many as the accuracy leaves.
            let mut digits = unit.ilog10() as usize;
            let mut fraction = rest;
            let mut step = accuracy;
            while step > 1 && digits > 0 {
                fraction /= 10;
                digits -= 1;
                step /= 10;
            }
            if digits > 0 {
                parts.push(format!("{whole}.{fraction:0digits$}{name}"));
                break;
            }
        }
        parts.push(format!("{whole}{name}"));
        usec = rest;
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_to_one_digit() {
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(1023), "1023B");
        assert_eq!(bytes(1024), "1.0K");
        assert_eq!(bytes(1_048_575), "1023.9K");
        assert_eq!(bytes(4 << 30), "4.0G");
        assert_eq!(bytes(u64::MAX), "15.9E");
    }

    #[test]
    fn sizes_in_messages_have_no_zero_after_the_point() {
        // From systemd-repart, systemd 262.1.
        for (count, text) in
            [(0, "0B"), (1_048_576, "1M"), (93_257_728, "88.9M"), (1036 << 10, "1M")]
        {
            assert_eq!(size(count), text);
        }
        assert_eq!((size(10 << 30), size(100 << 20)), ("10G".to_owned(), "100M".to_owned()));
    }

    #[test]
    fn durations_read_as_the_peers() {
        // From `systemd-analyze timespan`, systemd 262.1.
        for (usec, text) in [
            (0, "0"),
            (1, "1us"),
            (999_000_000, "16min 39s"),
            (1500, "1.500ms"),
            (60_000_000, "1min"),
            (61_500_000, "1min 1.500000s"),
            (1_500_000, "1.500000s"),
            (3_599_999_000, "59min 59.999000s"),
            (691_200_000_000, "1w 1d"),
            (34_560_000_000_000, "1y 1month 4d 7h 30min"),
            (59_000_001, "59.000001s"),
            (3_600_000_001, "1h 1us"),
            (9_005_007_000, "2h 30min 5.007000s"),
        ] {
            assert_eq!(timespan(usec, 0), text);
        }
        assert_eq!(timespan(1_234_567, 100_000), "1.2s");
        assert_eq!(timespan(61_234_567, 1_000_000), "1min 1s");
    }
}
