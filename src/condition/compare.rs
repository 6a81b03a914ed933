//! The operators in conditions: text, version and glob comparison.

use std::cmp::Ordering;

use crate::format::glob;
use crate::format::version;

/// What to compare how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// `=`
    Same,
    /// `!=`
    Other,
    /// `$=`
    Like,
    /// `!$=`
    Unlike,
    /// `<`
    Older,
    /// `<=`
    OlderOrEqual,
    /// `==`
    Equal,
    /// `<>`
    Unequal,
    /// `>=`
    NewerOrEqual,
    /// `>`
    Newer,
}

/// Longer ones first.
const WORDS: [(&str, Operator); 10] = [
    ("!$=", Operator::Unlike),
    ("$=", Operator::Like),
    ("!=", Operator::Other),
    ("<>", Operator::Unequal),
    ("<=", Operator::OlderOrEqual),
    (">=", Operator::NewerOrEqual),
    ("==", Operator::Equal),
    ("<", Operator::Older),
    (">", Operator::Newer),
    ("=", Operator::Same),
];

impl Operator {
    /// The operator at the start of a text, and what is behind it.
    pub(super) fn strip(text: &str) -> Option<(Self, &str)> {
        WORDS.iter().find_map(|(word, operator)| Some((*operator, text.strip_prefix(word)?)))
    }

    /// Does `value` stand in this relation to `expected`?
    pub(super) fn holds(self, value: &str, expected: &str) -> bool {
        let order = || version::compare(value, expected);
        match self {
            Self::Same => value == expected,
            Self::Other => value != expected,
            Self::Like => glob::matches(expected, value),
            Self::Unlike => !glob::matches(expected, value),
            Self::Older => order() == Ordering::Less,
            Self::OlderOrEqual => order() != Ordering::Greater,
            Self::Equal => order() == Ordering::Equal,
            Self::Unequal => order() != Ordering::Equal,
            Self::NewerOrEqual => order() != Ordering::Less,
            Self::Newer => order() == Ordering::Greater,
        }
    }
}

/// True for letters an operator may begin with.
pub(super) fn is_start(letter: char) -> bool {
    matches!(letter, '<' | '>' | '=' | '!' | '$')
}
