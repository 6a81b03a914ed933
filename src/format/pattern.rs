//! Match patterns of transfer files: `foo_@v.raw` and what its wildcards capture.
//!
//! Why not a regular expression: the same text also *makes* names (the first target pattern names
//! new instances), and what matches must be what systemd 262 matches. Matching goes left to right
//! and never back: a wildcard captures up to the first occurrence of the literal after it, up to
//! the next `/`, or up to the end. Paths are relative to the resource, with `/` between names.
//!
//! Document: sysupdate.d(5), "Match Patterns".

mod fields;
mod parse;

use std::fmt;

use crate::format::gpt::MAX_LABEL_UNITS;
use crate::format::version;

pub(crate) use fields::parse_uuid;
pub use fields::{Fields, Wildcard};
pub use parse::{ListError, PatternError, PatternErrorKind, parse_list};

/// A compiled `MatchPattern=` word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    is_recursive: bool,
    elements: Vec<Element>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Literal(String),
    Slash,
    Wildcard(Wildcard),
}

/// What a pattern says about a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Nothing here, nothing below.
    No,
    /// The path is that of a directory below which something may match.
    Retry,
    /// It is an instance of this version.
    Yes {
        /// What `@v` captured.
        version: String,
        /// What the others captured.
        fields: Fields,
    },
}

impl Pattern {
    /// Compiles one word of `MatchPattern=`, escapes and specifiers already resolved.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        parse::parse(text)
    }

    /// The word, `**/` included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True for `**/NAME`, which matches the base name at any depth.
    pub fn is_recursive(&self) -> bool {
        self.is_recursive
    }

    /// The same pattern without `**/`: what a target takes over from its source.
    #[must_use]
    pub fn without_recursion(&self) -> Self {
        let text = self.text.strip_prefix(parse::RECURSIVE).unwrap_or(&self.text);
        Self { text: text.to_owned(), is_recursive: false, elements: self.elements.clone() }
    }

    /// True if the wildcard occurs.
    pub fn has(&self, wildcard: Wildcard) -> bool {
        self.elements.iter().any(|e| matches!(e, Element::Wildcard(w) if *w == wildcard))
    }

    /// Matches a relative path: of a file, a directory or a manifest entry, or a partition label.
    ///
    /// A recursive pattern says `No` about the path of every directory that is no match itself;
    /// ask [`Pattern::descends`] before leaving one out.
    pub fn matches(&self, path: &str) -> Match {
        let mut rest = match path.rsplit_once('/') {
            Some((_, name)) if self.is_recursive => name,
            _ => path,
        };
        let mut captured = (None, Fields::default());
        let mut elements = self.elements.iter().peekable();
        while let Some(element) = elements.next() {
            match element {
                Element::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                    Some(after) => rest = after,
                    None => return Match::No,
                },
                Element::Slash => match rest.strip_prefix('/') {
                    Some(after) => rest = after,
                    None if rest.is_empty() => return Match::Retry,
                    None => return Match::No,
                },
                Element::Wildcard(wildcard) => {
                    let end = match elements.peek() {
                        Some(Element::Literal(literal)) => rest.find(literal.as_str()),
                        Some(_) => Some(rest.find('/').unwrap_or(rest.len())),
                        None => Some(rest.len()),
                    };
                    let Some((text, after)) = end.and_then(|end| rest.split_at_checked(end)) else {
                        return Match::No;
                    };
                    if capture(*wildcard, text, &mut captured).is_none() {
                        return Match::No;
                    }
                    rest = after;
                }
            }
        }
        match captured {
            (Some(version), fields) if rest.is_empty() => Match::Yes { version, fields },
            _ => Match::No,
        }
    }

    /// True if something below the directory with this relative path may match. A directory can
    /// match and have matches below it, so this is asked for every directory.
    pub fn descends(&self, directory: &str) -> bool {
        self.is_recursive || self.matches(directory) == Match::Retry
    }

    /// Makes the name of an instance. It is a path or a label; see [`check_path`] and
    /// [`check_label`] for whether it is good as one.
    pub fn format(&self, version: &str, fields: &Fields) -> Result<String, FormatError> {
        let mut name = String::new();
        for element in &self.elements {
            match element {
                Element::Literal(literal) => name.push_str(literal),
                Element::Slash => name.push('/'),
                Element::Wildcard(Wildcard::Version) => name.push_str(version),
                Element::Wildcard(wildcard) => {
                    let value = fields.format(*wildcard).ok_or_else(|| FormatError::Missing {
                        pattern: self.text.clone(),
                        wildcard: *wildcard,
                    })?;
                    name.push_str(&value);
                }
            }
        }
        Ok(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Matches with several patterns: the first one that says `Yes` gives version and fields;
/// without one it is `Retry` if any pattern goes on below.
pub fn match_any(patterns: &[Pattern], path: &str) -> Match {
    let mut result = Match::No;
    for pattern in patterns {
        match pattern.matches(path) {
            Match::No => {}
            Match::Retry => result = Match::Retry,
            yes @ Match::Yes { .. } => return yes,
        }
    }
    result
}

/// True if any of the patterns may match something below the directory.
pub fn descends_any(patterns: &[Pattern], directory: &str) -> bool {
    patterns.iter().any(|pattern| pattern.descends(directory))
}

/// A formatted name as a path below the target's directory, or a refusal. A leading `/` is taken
/// off: it does not leave that directory.
pub fn check_path(name: &str) -> Result<&str, FormatError> {
    let path = name.trim_start_matches('/');
    let is_good = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if is_good { Ok(path) } else { Err(FormatError::Path { name: name.to_owned() }) }
}

/// A formatted name as a GPT partition label, or a refusal.
pub fn check_label(name: &str) -> Result<&str, FormatError> {
    if name.encode_utf16().count() <= MAX_LABEL_UNITS {
        Ok(name)
    } else {
        Err(FormatError::Label { name: name.to_owned() })
    }
}

fn capture(wildcard: Wildcard, text: &str, into: &mut (Option<String>, Fields)) -> Option<()> {
    if wildcard != Wildcard::Version {
        return into.1.capture(wildcard, text);
    }
    into.0 = version::is_valid(text).then(|| text.to_owned());
    into.0.as_ref().map(|_| ())
}

/// Why a name cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The pattern asks for something nobody knows.
    Missing {
        /// The pattern.
        pattern: String,
        /// What is not known.
        wildcard: Wildcard,
    },
    /// The name would lie outside of its directory, or nowhere.
    Path {
        /// What came out of the pattern.
        name: String,
    },
    /// The name is too long for a partition.
    Label {
        /// What came out of the pattern.
        name: String,
    },
}

impl FormatError {
    /// The errno the peer reports: ENXIO or EINVAL.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Missing { .. } => 6,
            Self::Path { .. } | Self::Label { .. } => 22,
        }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { pattern, wildcard } => write!(
                f,
                "Failed to format target pattern: '{pattern}' needs a value for '@{}' ({})",
                wildcard.letter(),
                wildcard.about()
            ),
            Self::Path { name } => {
                write!(f, "Formatted pattern is not suitable as file name, refusing: {name}")
            }
            Self::Label { name } => write!(
                f,
                "Formatted pattern is not suitable as GPT partition label, refusing: {name}"
            ),
        }
    }
}

impl std::error::Error for FormatError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn directory_on_the_way_is_descended_into() {
        let deep = pattern("a/@v/b");
        for (path, descends) in
            [("a", true), ("a/1", true), ("a/1,2", false), ("b", false), ("a/1/b", false)]
        {
            assert_eq!(deep.descends(path), descends, "{path}");
        }
        assert!(pattern("**/foo_@v").descends("any/where"));
        let patterns = [pattern("foo_@v"), pattern("foo_@v/image.raw")];
        assert!(matches!(match_any(&patterns, "foo_1"), Match::Yes { .. }));
        assert!(descends_any(&patterns, "foo_1"));
    }

    #[test]
    fn every_field_is_formatted_as_it_can_be_matched_again() {
        let all = pattern("@v,@u,@f,@a,@g,@r,@t,@m,@s,@d,@l,@h");
        let fields = Fields {
            partition_uuid: Some(uuid::Uuid::from_u128(0xf4d1_234f)),
            partition_flags: Some(1 << 63),
            no_auto: Some(true),
            grow_fs: Some(false),
            read_only: Some(true),
            mtime_usec: Some(1),
            mode: Some(0o44),
            size_bytes: Some(u64::MAX - 1),
            tries_done: Some(0),
            tries_left: Some(3),
            sha256: Some([0xab; 32]),
        };
        let name = all.format("1.2", &fields).unwrap();
        assert_eq!(
            name,
            format!(
                "1.2,000000000000000000000000f4d1234f,8000000000000000,1,0,1,1,044,\
                 18446744073709551614,0,3,{}",
                "ab".repeat(32)
            )
        );
        assert_eq!(all.matches(&name), Match::Yes { version: "1.2".to_owned(), fields });
    }

    #[test]
    fn missing_field_is_named() {
        let err = pattern("a_@v_@u").format("1", &Fields::default()).unwrap_err();
        assert_eq!(
            err.to_string(),
            "Failed to format target pattern: 'a_@v_@u' needs a value for '@u' (partition UUID)"
        );
        assert_eq!(err.errno(), 6);
    }

    #[test]
    fn formatted_names_stay_in_their_directory_and_in_their_label() {
        assert_eq!(check_path("/b_1"), Ok("b_1"));
        assert_eq!(check_path("a/b_1"), Ok("a/b_1"));
        for name in ["", "/", "../x", "a/../b", "./a", "a//b", "a/", "a/.."] {
            assert!(check_path(name).is_err(), "{name}");
        }
        assert!(check_label(&"a".repeat(36)).is_ok());
        assert!(check_label(&"a".repeat(37)).is_err());
        assert!(check_label(&"😀".repeat(18)).is_ok());
        assert!(check_label(&"😀".repeat(19)).is_err());
    }

    #[test]
    fn recursion_is_stripped_for_a_target() {
        let flat = pattern("**/foo_@v").without_recursion();
        assert_eq!(flat, pattern("foo_@v"));
    }
}
