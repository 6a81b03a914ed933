//! The order of version strings: UAPI.10 as systemd implements it.
//!
//! Why a page of its own: everything the updater decides hangs on this order. The prose of UAPI.10
//! restarts after every separator and counts an empty number as zero; the real code falls through
//! and ranks digits above letters. On disks in the field the code decides, so this is the code's
//! rule. Numbers may be of any length; nothing is converted to an integer.

use std::cmp::Ordering;

/// LIMIT: what a version can have and still be part of a file name (NAME_MAX).
const MAX_BYTES: usize = 255;

/// True for what `@v` may capture: 1 to 255 of `A-Z a-z 0-9 . _ - + ~ ^`.
pub fn is_valid(version: &str) -> bool {
    !version.is_empty() && version.len() <= MAX_BYTES && has_legal_characters(version)
}

/// True if there are only `A-Z a-z 0-9 . _ - + ~ ^`. Others can be compared, as separators.
pub fn has_legal_characters(version: &str) -> bool {
    let is_mark = |c| matches!(c, b'.' | b'_' | b'-' | b'+' | b'~' | b'^');
    version.bytes().all(|c| c.is_ascii_alphanumeric() || is_mark(c))
}

/// How two versions are to be related.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<`, `lt`
    Less,
    /// `<=`, `le`
    LessOrEqual,
    /// `=`, `==`, `eq`
    Equal,
    /// `!=`, `<>`, `ne`
    NotEqual,
    /// `>=`, `ge`
    GreaterOrEqual,
    /// `>`, `gt`
    Greater,
}

impl Operator {
    /// The longest operator at the beginning, and what follows it.
    pub fn parse_prefix(text: &str) -> Option<(Self, &str)> {
        const TABLE: [(&str, Operator); 14] = [
            ("==", Operator::Equal),
            ("=", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<>", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            ("<", Operator::Less),
            (">=", Operator::GreaterOrEqual),
            (">", Operator::Greater),
            ("lt", Operator::Less),
            ("le", Operator::LessOrEqual),
            ("eq", Operator::Equal),
            ("ne", Operator::NotEqual),
            ("ge", Operator::GreaterOrEqual),
            ("gt", Operator::Greater),
        ];
        TABLE.iter().find_map(|(word, operator)| Some((*operator, text.strip_prefix(word)?)))
    }

    /// True if `a` and `b` are so related, where `order` is that of `a` to `b`.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }
}

/// Which one is newer: `Greater` if `a` is. `Equal` does not mean equal spelling (`1.0`, `01.0`).
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        a = skip_separators(a);
        b = skip_separators(b);

        // What `~` introduces comes before what has nothing there.
        let order = take(b'~', &mut a, &mut b);
        if order.is_ne() {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return b.is_empty().cmp(&a.is_empty());
        }
        for separator in [b'-', b'^', b'.'] {
            let order = take(separator, &mut a, &mut b);
            if order.is_ne() {
                return order;
            }
        }

        let is_number = starts_with_digit(a) || starts_with_digit(b);
        let is_part: fn(&u8) -> bool =
            if is_number { u8::is_ascii_digit } else { u8::is_ascii_alphabetic };
        let (part_a, rest_a) = split_prefix(a, is_part);
        let (part_b, rest_b) = split_prefix(b, is_part);
        let order = if is_number { compare_numbers(part_a, part_b) } else { part_a.cmp(part_b) };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// Bytes that only separate: all but letters, digits, `~ . ^ -`.
fn skip_separators(text: &[u8]) -> &[u8] {
    let is_separator =
        |c: &u8| !(c.is_ascii_alphanumeric() || matches!(c, b'~' | b'.' | b'^' | b'-'));
    split_prefix(text, is_separator).1
}

/// If one side starts with `mark`, that one is older. If both do, both lose it.
fn take(mark: u8, a: &mut &[u8], b: &mut &[u8]) -> Ordering {
    match (a.split_first(), b.split_first()) {
        (Some((x, rest_a)), Some((y, rest_b))) if *x == mark && *y == mark => {
            (*a, *b) = (rest_a, rest_b);
            Ordering::Equal
        }
        (Some((x, _)), _) if *x == mark => Ordering::Less,
        (_, Some((y, _))) if *y == mark => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// An absent number is below any number, even below zero.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let (a0, b0) = (split_prefix(a, |c| *c == b'0').1, split_prefix(b, |c| *c == b'0').1);
    (!a.is_empty())
        .cmp(&!b.is_empty())
        .then_with(|| a0.len().cmp(&b0.len()))
        .then_with(|| a0.cmp(b0))
}

fn starts_with_digit(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
}

fn split_prefix(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_chain_is_ascending() {
        let chain = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (i, a) in chain.iter().enumerate() {
            for (j, b) in chain.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} <=> {b}");
            }
        }
    }

    #[test]
    fn corners_where_prose_and_code_differ() {
        for (a, b, order) in [
            ("011", "11", Ordering::Equal),
            ("1_", "1", Ordering::Equal),
            ("", "~", Ordering::Greater),
            ("", "0", Ordering::Less),
            ("0", "Z", Ordering::Greater),
            ("~~", "~", Ordering::Greater),
            ("99999999999999999999998", "99999999999999999999999", Ordering::Less),
        ] {
            assert_eq!(compare(a, b), order, "{a} <=> {b}");
            assert_eq!(compare(b, a), order.reverse(), "{b} <=> {a}");
        }
    }

    #[test]
    fn file_name_length_bounds_a_version() {
        assert!(is_valid(&"1".repeat(255)));
        assert!(!is_valid(&"1".repeat(256)));
        assert!(!is_valid(""));
        for version in [".", "..", "-", "+", "a_~^"] {
            assert!(is_valid(version), "{version}");
        }
        for version in ["1,2", "1:2", "1 2", "1/2", "é"] {
            assert!(!is_valid(version), "{version}");
        }
    }
}
