//! Unit-style files: `[Section]`, `Key=Value`, comments, continuation lines (systemd.syntax(7)).
//!
//! Everything odd here was observed with systemd 262.1: NUL and CR end lines too, a line that is
//! continued is joined with a space, comments inside of a continued line vanish, a bad section
//! header or a byte that is not UTF-8 fails the whole file, everything else is told and ignored.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use super::search::Found;
use crate::error::{Context as _, Error, Result};
use crate::out::escape;

/// LIMIT: bytes of one line, and of all the lines that make one.
const LINE_BYTES_MAX: usize = 1 << 20;
/// LIMIT: bytes of one file.
const FILE_BYTES_MAX: u64 = 16 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// One assignment and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The file, as it is named in messages.
    pub file: &'a Path,
    /// Its line, from 1; the last one of an assignment that spans several.
    pub line: u32,
    /// The section.
    pub section: &'a str,
    /// The key.
    pub key: &'a str,
    /// The value, without the blanks around it.
    pub value: &'a str,
}

impl Line<'_> {
    /// Warns that the assignment is ignored: `FILE:LINE: Failed to parse KEY=VALUE, ignoring: WHY`.
    pub fn ignore(&self, why: impl fmt::Display) {
        self.warn(format_args!("Failed to parse {}={}, ignoring: {why}", self.key, self.value));
    }

    /// Warns with this text, after `FILE:LINE: `.
    pub fn warn(&self, text: impl fmt::Display) {
        warn(self.file, self.line, text);
    }

    /// An error at this place.
    pub fn error(&self, text: impl Into<String>) -> Error {
        Error::new(text).at(self.file, self.line).with_errno(22)
    }

    /// The value, if `parse` understands it; else a warning.
    pub fn parse<T, E: fmt::Display>(
        &self,
        parse: impl FnOnce(&str) -> std::result::Result<T, E>,
    ) -> Option<T> {
        parse(self.value).map_err(|err| self.ignore(err)).ok()
    }
}

fn warn(file: &Path, line: u32, text: impl fmt::Display) {
    // A value may hold anything; the log escapes what a terminal would obey.
    log::warn!("{}:{line}: {text}", file.display());
}

/// What [`load`] does with one key of one section.
pub struct Key<T> {
    /// Section, without brackets.
    pub section: &'static str,
    /// Name, without `=`.
    pub name: &'static str,
    /// Stores the value. An error fails the whole file; everything less is a warning of its own.
    pub set: fn(&mut T, &Line<'_>) -> Result<()>,
}

impl<T> Key<T> {
    /// One row of the table.
    pub const fn new(
        section: &'static str,
        name: &'static str,
        set: fn(&mut T, &Line<'_>) -> Result<()>,
    ) -> Self {
        Self { section, name, set }
    }
}

/// Reads the files in this order into `target`. Keys and sections that are not in the table are
/// told and ignored, those that start with `X-` silently.
///
/// # Errors
/// A file cannot be read or is malformed, or a setter refused.
pub fn load<T>(target: &mut T, files: &[Found], keys: &[Key<T>]) -> Result<()> {
    for file in files {
        let bytes = read(file)?;
        parse(&file.path, &bytes, keys, target)?;
    }
    Ok(())
}

fn read(file: &Found) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let message = || format!("Failed to read '{}'", file.path.display());
    std::fs::File::open(&file.target)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .context(message)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::errno_because(message(), 27));
    }
    Ok(bytes)
}

/// Reads one file that is in memory already; `file` is its name in messages.
///
/// # Errors
/// As [`load`].
pub fn parse<T>(file: &Path, bytes: &[u8], keys: &[Key<T>], target: &mut T) -> Result<()> {
    let mut section = Section::None;
    for logical in Logical::of(bytes) {
        let (line, text) = logical.map_err(|TooLong { line, is_continuation }| {
            let text = if is_continuation { "Continuation line too long" } else { "Line too long" };
            Error::new(text).at(file, line).with_errno(105)
        })?;
        let text = std::str::from_utf8(&text).map_err(|_| {
            let text = String::from_utf8_lossy(&text);
            Error::new(format!("String is not UTF-8 clean: {}", escape::line(&text)))
                .at(file, line)
                .with_errno(22)
        })?;
        let text = text.trim_matches(BLANK);
        if text.starts_with('[') {
            section = Section::open(file, line, text, keys)?;
        } else if !text.is_empty() {
            assign(file, line, text, &section, keys, target)?;
        }
    }
    Ok(())
}

enum Section<'a> {
    /// Above the first header.
    None,
    /// Unknown: told once, its lines are skipped.
    Ignored,
    Known(&'a str),
}

impl<'k> Section<'k> {
    fn open<T>(file: &Path, line: u32, text: &str, keys: &'k [Key<T>]) -> Result<Self> {
        let bad = |what: &str| {
            Error::new(format!("{what} '{}'", escape::line(text))).at(file, line).with_errno(74)
        };
        let name = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or_else(|| bad("Invalid section header"))?;
        if name.is_empty() || name.contains(['[', ']']) {
            return Err(bad("Section header invalid"));
        }
        if let Some(key) = keys.iter().find(|key| key.section == name) {
            return Ok(Self::Known(key.section));
        }
        if !name.starts_with("X-") {
            warn(file, line, format_args!("Unknown section '{name}'. Ignoring."));
        }
        Ok(Self::Ignored)
    }
}

fn assign<T>(
    file: &Path,
    line: u32,
    text: &str,
    section: &Section<'_>,
    keys: &[Key<T>],
    target: &mut T,
) -> Result<()> {
    let section = match section {
        Section::Known(name) => *name,
        Section::Ignored => return Ok(()),
        Section::None => {
            warn(file, line, "Assignment outside of section. Ignoring.");
            return Ok(());
        }
    };
    let Some((name, value)) = text.split_once('=') else {
        warn(file, line, "Missing '=', ignoring line.");
        return Ok(());
    };
    if name.is_empty() {
        warn(file, line, "Missing key name before '=', ignoring line.");
        return Ok(());
    }
    let (name, value) = (name.trim_matches(BLANK), value.trim_matches(BLANK));
    match keys.iter().find(|key| key.section == section && key.name == name) {
        Some(key) => (key.set)(target, &Line { file, line, section, key: name, value }),
        None => {
            if !name.starts_with("X-") {
                let text = format!("Unknown key '{name}' in section [{section}], ignoring.");
                warn(file, line, text);
            }
            Ok(())
        }
    }
}

struct TooLong {
    line: u32,
    is_continuation: bool,
}

/// Physical lines joined to logical ones, comments left out.
struct Logical<'a> {
    rest: &'a [u8],
    line: u32,
    has_mark: bool,
}

impl<'a> Logical<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, line: 0, has_mark: false }
    }

    /// Up to the next LF, CR or NUL. Different ones in a row (CR LF) end one line together; a NUL
    /// always ends it for good.
    fn physical(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
        let len = self.rest.iter().position(is_end).unwrap_or(self.rest.len());
        let (text, mut rest) = self.rest.split_at(len);
        let mut seen: Vec<u8> = Vec::with_capacity(3);
        while let Some((byte, tail)) = rest.split_first() {
            if !is_end(byte) || seen.contains(byte) {
                break;
            }
            seen.push(*byte);
            rest = tail;
            if *byte == 0 {
                break;
            }
        }
        self.rest = rest;
        Some(text)
    }
}

impl Iterator for Logical<'_> {
    type Item = std::result::Result<(u32, Vec<u8>), TooLong>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut joined: Option<Vec<u8>> = None;
        while let Some(text) = self.physical() {
            if text.len() >= LINE_BYTES_MAX {
                self.rest = &[];
                return Some(Err(TooLong { line: self.line, is_continuation: false }));
            }
            self.line += 1;
            let first = text.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
            if matches!(first, Some(b'#' | b';')) {
                continue;
            }
            let text = match text.strip_prefix(BYTE_ORDER_MARK) {
                Some(tail) if !self.has_mark => {
                    self.has_mark = true;
                    tail
                }
                _ => text,
            };
            let mut all = joined.take().unwrap_or_default();
            if !all.is_empty() && all.len() + text.len() > LINE_BYTES_MAX {
                self.rest = &[];
                return Some(Err(TooLong { line: self.line, is_continuation: true }));
            }
            all.extend_from_slice(text);
            let backslashes = all.iter().rev().take_while(|byte| **byte == b'\\').count();
            if backslashes % 2 == 0 {
                return Some(Ok((self.line, all)));
            }
            all.pop();
            all.push(b' ');
            joined = Some(all);
        }
        // COMPAT(262): a line that is continued at the end of the file is numbered one too high.
        joined.map(|all| Ok((self.line + 1, all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every assignment as `LINE KEY=VALUE`.
    fn seen(bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
        fn keep(seen: &mut Vec<String>, line: &Line<'_>) -> Result<()> {
            seen.push(format!("{} {}={}", line.line, line.key, line.value));
            Ok(())
        }
        let keys = [Key::new("T", "A", keep), Key::new("T", "B", keep), Key::new("U", "A", keep)];
        let mut seen = Vec::new();
        parse(Path::new("f"), bytes, &keys, &mut seen).map(|()| seen).map_err(|err| err.to_string())
    }

    #[test]
    fn lines_end_at_lf_cr_or_nul_and_keep_the_peers_numbers() {
        let all = |text: &[u8]| seen(text).unwrap();
        assert_eq!(all(b"[T]\r\nA=1\r\nB=2\r\n"), ["2 A=1", "3 B=2"]);
        assert_eq!(all(b"[T]\rA=1\rB=2"), ["2 A=1", "3 B=2"]);
        assert_eq!(all(b"[T]\n\rA=1\n\rB=2"), ["2 A=1", "3 B=2"]);
        assert_eq!(all(b"[T]\nA=1\0B=2\nA=3\n"), ["2 A=1", "3 B=2", "4 A=3"]);
        assert_eq!(all(b"\xef\xbb\xbf[T]\nA=1"), ["2 A=1"]);
        assert_eq!(all(b"[T]\n\n\nA=1\n"), ["4 A=1"]);
    }

    #[test]
    fn continued_lines_are_joined_with_a_space_and_skip_comments() {
        let all = |text: &str| seen(text.as_bytes()).unwrap();
        assert_eq!(all("[T]\nA=a\\\nb\nB=1\n"), ["3 A=a b", "4 B=1"]);
        assert_eq!(
            all("[T]\nA=a \\\n# comment\n; other\n   b !\\\n\nB=1\n"),
            ["6 A=a     b !", "7 B=1"]
        );
        assert_eq!(all("[T]\nA=a!\\"), ["3 A=a!"]);
        assert_eq!(all("[T]\nA=a!\\\n"), ["3 A=a!"]);
        assert_eq!(all("[T]\nA=a!\\ \nB=1\n"), ["2 A=a!\\", "3 B=1"]);
        assert_eq!(all("[T]\nA=a!\\\\\nB=1\n"), ["2 A=a!\\\\", "3 B=1"]);
        assert_eq!(all("[T]\nA=a!\\\\\\\nB=1\n"), ["3 A=a!\\\\ B=1"]);
        assert_eq!(all("[T]\n# abc \\\nA=1\n"), ["3 A=1"]);
    }

    #[test]
    fn blanks_comments_and_foreign_sections_are_skipped() {
        let all = |text: &str| seen(text.as_bytes()).unwrap();
        assert_eq!(all("  [T]  \n   # abc\n\t;A=1\n  A = 1 # x \n"), ["4 A=1 # x"]);
        assert_eq!(all("A=1\n[X-Foo]\nA=2\n[T]\nA=3\nX-A=4\na=5\nA\n=1\n"), ["5 A=3"]);
        assert_eq!(all("[T]\nA=1\n[Other]\nA=2\n[U]\nA=\n"), ["2 A=1", "6 A="]);
        assert_eq!(all("[T]\nA=a=b\n"), ["2 A=a=b"]);
        assert!(all("").is_empty() && all("\n").is_empty());
    }

    #[test]
    fn malformed_files_fail_with_place() {
        let err = |text: &[u8]| seen(text).unwrap_err();
        assert_eq!(err(b"[T\nA=1\n"), "f:1: Invalid section header '[T'");
        assert_eq!(err(b"[T] x\n"), "f:1: Invalid section header '[T] x'");
        assert_eq!(err(b"[]\n"), "f:1: Section header invalid '[]'");
        assert_eq!(err(b"[T]\nA=\xff\n"), "f:2: String is not UTF-8 clean: A=\u{fffd}");
        assert_eq!(seen(b"# \xff\n[T]\nA=1\n").unwrap(), ["3 A=1"]);
    }

    #[test]
    fn lines_have_a_limit_alone_and_joined() {
        let mut long = b"[T]\nA=".to_vec();
        long.extend(std::iter::repeat_n(b'x', LINE_BYTES_MAX - 3));
        assert_eq!(seen(&long).unwrap().len(), 1);
        long.push(b'x');
        assert_eq!(seen(&long).unwrap_err(), "f:1: Line too long");
        let mut joined = b"[T]\nA=".to_vec();
        for _ in 0..1100 {
            joined.extend(std::iter::repeat_n(b'x', 1000));
            joined.extend(b"\\\n");
        }
        assert_eq!(seen(&joined).unwrap_err(), "f:1049: Continuation line too long");
    }

    #[test]
    fn every_prefix_of_a_file_is_survived() {
        let text = b"\xef\xbb\xbf# c\\\n[T]\r\nA=\xc3\xa4\\\n b\0\n[U]\nA=1";
        for end in 0..=text.len() {
            let _ = seen(&text[..end]);
        }
    }
}
