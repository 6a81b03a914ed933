//! From the text of a setting to patterns: words, escapes, grammar.

use std::fmt;

use super::{Element, Pattern, Wildcard};

/// Prefix of a pattern that matches base names at any depth.
pub(super) const RECURSIVE: &str = "**/";

/// LIMIT: longest name of a file (NAME_MAX).
const MAX_NAME_BYTES: usize = 255;

/// A word that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// The word, specifiers expanded.
    pub pattern: String,
    /// What is wrong with it.
    pub kind: PatternErrorKind,
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternErrorKind {
    /// It has no `@v`.
    NoVersion,
    /// A character nobody may use in a pattern.
    IllegalCharacter(char),
    /// No such wildcard.
    UnknownWildcard(char),
    /// A wildcard occurs twice.
    RepeatedWildcard(Wildcard),
    /// Nothing separates this wildcard from the one before it.
    AdjacentWildcard(Wildcard),
    /// It ends in a single `@`.
    LoneAt,
    /// What follows `**/` is not the name of a file.
    RecursivePath,
    /// An escape in it makes something that is not UTF-8.
    NotUtf8,
}

impl PatternError {
    /// The errno the peer reports: EBADRQC for characters, EINVAL for the rest.
    pub fn errno(&self) -> i32 {
        match self.kind {
            PatternErrorKind::IllegalCharacter(_) | PatternErrorKind::NotUtf8 => 56,
            _ => 22,
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatchPattern= string is not valid, refusing: {} ({})", self.pattern, self.kind)
    }
}

impl std::error::Error for PatternError {}

impl fmt::Display for PatternErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVersion => f.write_str("'@v' is missing"),
            Self::IllegalCharacter(c) => write!(f, "'{}' is not allowed", c.escape_default()),
            Self::UnknownWildcard(c) => write!(f, "'@{}' is not known", c.escape_default()),
            Self::RepeatedWildcard(w) => write!(f, "'@{}' occurs twice", w.letter()),
            Self::AdjacentWildcard(w) => {
                write!(f, "'@{}' directly follows another wildcard", w.letter())
            }
            Self::LoneAt => f.write_str("'@' at the end; write '@@' for a literal one"),
            Self::RecursivePath => f.write_str("'**/' must be followed by a file name"),
            Self::NotUtf8 => f.write_str("not valid UTF-8"),
        }
    }
}

/// Why a `MatchPattern=` setting is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListError<E> {
    /// The specifiers in a word cannot be expanded; the peer warns and ignores the setting.
    Expand {
        /// The word as written, escapes resolved.
        word: String,
        /// What `expand` said.
        cause: E,
    },
    /// A word is no pattern; the peer refuses the file.
    Pattern(PatternError),
}

/// Reads the value of `MatchPattern=`: splits it at white space (quotes mean nothing), resolves
/// escapes, lets the caller expand specifiers in each word, compiles it, drops repeated words.
pub fn parse_list<E>(
    value: &str,
    expand: &mut dyn FnMut(&str) -> Result<String, E>,
) -> Result<Vec<Pattern>, ListError<E>> {
    let mut patterns: Vec<Pattern> = Vec::new();
    let mut rest = value;
    while let Some(word) = next_word(&mut rest) {
        let word = String::from_utf8(word).map_err(|err| {
            let pattern = String::from_utf8_lossy(err.as_bytes()).into_owned();
            ListError::Pattern(PatternError { pattern, kind: PatternErrorKind::NotUtf8 })
        })?;
        let text = expand(&word).map_err(|cause| ListError::Expand { word, cause })?;
        let pattern = parse(&text).map_err(ListError::Pattern)?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    Ok(patterns)
}

/// The next word with its escapes resolved; an escape that is none keeps its backslash.
fn next_word(rest: &mut &str) -> Option<Vec<u8>> {
    let text = rest.trim_start_matches(is_space);
    if text.is_empty() {
        return None;
    }
    let mut word = Vec::new();
    let mut chars = text.chars();
    loop {
        *rest = chars.as_str();
        let Some(c) = chars.next().filter(|c| !is_space(*c)) else {
            return Some(word);
        };
        if c != '\\' {
            word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match unescape(chars.as_str()) {
            Some((Escaped::Byte(byte), after)) => {
                word.push(byte);
                chars = after.chars();
            }
            Some((Escaped::Char(c), after)) => {
                word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                chars = after.chars();
            }
            None => {
                word.push(b'\\');
                // An escaped space does not end the word.
                if let Some(c) = chars.next() {
                    word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
    }
}

enum Escaped {
    Byte(u8),
    Char(char),
}

/// What follows a backslash, as in C, plus `\s`; NUL is never made.
fn unescape(text: &str) -> Option<(Escaped, &str)> {
    let mut chars = text.chars();
    let letter = chars.next()?;
    let after = chars.as_str();
    let byte = match letter {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        's' => b' ',
        '\\' | '"' | '\'' => u8::try_from(letter).ok()?,
        'x' => {
            let (value, after) = digits(after, 2, 16)?;
            return Some((Escaped::Byte(u8::try_from(value).ok()?), after));
        }
        'u' | 'U' => {
            let (value, after) = digits(after, if letter == 'u' { 4 } else { 8 }, 16)?;
            return Some((Escaped::Char(char::from_u32(value)?), after));
        }
        '0'..='7' => {
            let (value, after) = digits(text, 3, 8)?;
            return Some((Escaped::Byte(u8::try_from(value).ok()?), after));
        }
        _ => return None,
    };
    Some((Escaped::Byte(byte), after))
}

/// A number other than zero in exactly that many digits, and what follows it.
fn digits(text: &str, count: usize, radix: u32) -> Option<(u32, &str)> {
    let (digits, after) = text.split_at_checked(count)?;
    // from_str_radix would take a sign.
    let value = digits.chars().try_fold(0, |value, c| Some(value * radix + c.to_digit(radix)?))?;
    (value != 0).then_some((value, after))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Compiles one word.
pub(super) fn parse(text: &str) -> Result<Pattern, PatternError> {
    let fail = |kind| PatternError { pattern: text.to_owned(), kind };
    let name = text.strip_prefix(RECURSIVE);
    if name.is_some_and(|name| !is_file_name(name)) {
        return Err(fail(PatternErrorKind::RecursivePath));
    }
    let elements = parse_elements(name.unwrap_or(text)).map_err(fail)?;
    let pattern = Pattern { text: text.to_owned(), is_recursive: name.is_some(), elements };
    if !pattern.has(Wildcard::Version) {
        return Err(fail(PatternErrorKind::NoVersion));
    }
    Ok(pattern)
}

fn parse_elements(text: &str) -> Result<Vec<Element>, PatternErrorKind> {
    let mut elements: Vec<Element> = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '@' => match chars.next() {
                None => return Err(PatternErrorKind::LoneAt),
                Some('@') => push_literal(&mut elements, '@'),
                Some(letter) => {
                    let wildcard = Wildcard::from_letter(letter)
                        .ok_or(PatternErrorKind::UnknownWildcard(letter))?;
                    let element = Element::Wildcard(wildcard);
                    if elements.contains(&element) {
                        return Err(PatternErrorKind::RepeatedWildcard(wildcard));
                    }
                    if matches!(elements.last(), Some(Element::Wildcard(_))) {
                        return Err(PatternErrorKind::AdjacentWildcard(wildcard));
                    }
                    elements.push(element);
                }
            },
            '/' => elements.push(Element::Slash),
            _ if is_legal(c) => push_literal(&mut elements, c),
            _ => return Err(PatternErrorKind::IllegalCharacter(c)),
        }
    }
    Ok(elements)
}

fn push_literal(elements: &mut Vec<Element>, c: char) {
    if let Some(Element::Literal(literal)) = elements.last_mut() {
        literal.push(c);
    } else {
        elements.push(Element::Literal(c.to_string()));
    }
}

/// COMPAT(262): what is not ASCII passes there because its bytes are negative numbers.
fn is_legal(c: char) -> bool {
    c >= ' ' && c != '\x7f' && !matches!(c, '$' | '*' | '?' | '[' | ']' | '!' | '\\' | '|')
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(value: &str) -> Result<Vec<String>, ListError<()>> {
        let patterns = parse_list(value, &mut |word| Ok(word.to_owned()))?;
        Ok(patterns.iter().map(|p| p.as_str().to_owned()).collect())
    }

    fn kind(value: &str) -> PatternErrorKind {
        match list(value) {
            Err(ListError::Pattern(err)) => err.kind,
            other => panic!("{value}: {other:?}"),
        }
    }

    // Expectations from running systemd 262.1.
    #[test]
    fn escapes_are_those_of_c() {
        for escape in [r"\s", r"\x20", r"\040", r"\u0020", r"\U00000020"] {
            assert_eq!(list(&format!("foo{escape}@v")).unwrap(), ["foo @v"], "{escape}");
        }
        assert_eq!(kind(r"foo\t@v"), PatternErrorKind::IllegalCharacter('\t'));
        for value in
            [r"foo\x00@v", r"foo_@v\ a", r"foo_@v\", r"foo_@v\q", r"foo_@v\x2", r"foo_@v\400"]
        {
            assert_eq!(kind(value), PatternErrorKind::IllegalCharacter('\\'), "{value}");
        }
        assert_eq!(kind(r"foo\xff@v"), PatternErrorKind::NotUtf8);
        assert_eq!(list(r"foo\xc3\xa9@v").unwrap(), ["fooé@v"]);
    }

    #[test]
    fn words_are_kept_in_order_and_once() {
        assert_eq!(list(" b_@v\ta_@v  b_@v ").unwrap(), ["b_@v", "a_@v"]);
        assert_eq!(list(" \t ").unwrap(), [""; 0]);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let check = |value: &str, text: &str, errno: i32| {
            let err = parse(value).unwrap_err();
            let full = format!("MatchPattern= string is not valid, refusing: {value} ({text})");
            assert_eq!((err.to_string(), err.errno()), (full, errno));
        };
        check("foo", "'@v' is missing", 22);
        check("foo*@v", "'*' is not allowed", 56);
        check("foo_@V", "'@V' is not known", 22);
        check("@v_@v", "'@v' occurs twice", 22);
        check("@v@u", "'@u' directly follows another wildcard", 22);
        check("@v@", "'@' at the end; write '@@' for a literal one", 22);
        check("**/a/@v", "'**/' must be followed by a file name", 22);
    }

    #[test]
    fn failing_expansion_names_the_word() {
        let err = parse_list("a_@v %z_@v", &mut |word| {
            if word.contains('%') { Err("no") } else { Ok(word.to_owned()) }
        });
        assert_eq!(err, Err(ListError::Expand { word: "%z_@v".to_owned(), cause: "no" }));
    }
}
