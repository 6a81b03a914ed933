//! The os-release file (os-release(5)): shell-like assignments that name the operating system.

use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;
use std::str::Chars;

use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::sys::fs::chase;

/// LIMIT: bytes of the file.
const BYTES_MAX: usize = 1 << 20;

/// The fields. Those that are not there are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease(BTreeMap<String, String>);

impl OsRelease {
    /// Reads `/etc/os-release`, else `/usr/lib/os-release`, below the root of `ctx`.
    ///
    /// # Errors
    /// Neither is there, or it cannot be read.
    pub fn load(ctx: &Ctx) -> Result<Self> {
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            let read = chase(ctx.root(), path.as_ref()).and_then(std::fs::read);
            match read {
                Ok(bytes) if bytes.len() <= BYTES_MAX => return Ok(Self::parse(&bytes)),
                Ok(_) => return Err(Error::errno_because(format!("Failed to read '{path}'"), 27)),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err).context(|| format!("Failed to read '{path}'")),
            }
        }
        Err(Error::errno_because("Failed to read os-release", 2))
    }

    /// Reads the assignments of a file in memory; the last one of a name counts. Lines that are
    /// none are skipped.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut letters = text.chars().peekable();
        let mut fields = BTreeMap::new();
        while let Some(first) = letters.next() {
            if matches!(first, '#' | ';') {
                while letters.next_if(|letter| !is_line_end(*letter)).is_some() {}
            } else if !first.is_ascii_whitespace() {
                let mut name = first.to_string();
                while let Some(letter) = letters.next_if(|letter| *letter != '=') {
                    name.push(letter);
                    if is_line_end(letter) {
                        break;
                    }
                }
                if !name.ends_with(is_line_end) && letters.next_if_eq(&'=').is_some() {
                    fields.insert(name.trim_end().to_owned(), value(&mut letters));
                }
            }
        }
        Self(fields)
    }

    /// A field, e.g. `IMAGE_VERSION`; empty where it is not set.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

fn is_line_end(letter: char) -> bool {
    matches!(letter, '\n' | '\r')
}

/// Reads a value up to the end of its line. Quotes count at the start and directly behind other
/// quotes only; they may hold line ends. What is neither quoted nor escaped loses the blanks at its
/// end.
fn value(letters: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    loop {
        match letters.next_if(|letter| !is_line_end(*letter)) {
            None => return text,
            Some('\'') => text.extend(letters.by_ref().take_while(|letter| *letter != '\'')),
            Some('"') => double_quoted(letters, &mut text),
            Some(blank) if blank.is_ascii_whitespace() => {}
            Some(first) => return plain(first, letters, text),
        }
    }
}

fn double_quoted(letters: &mut Peekable<Chars<'_>>, text: &mut String) {
    while let Some(letter) = letters.next() {
        match (letter, letters.peek().copied()) {
            ('"', _) => return,
            ('\\', Some('\n')) => {
                letters.next();
            }
            ('\\', Some(special @ ('"' | '\\' | '`' | '$'))) => {
                letters.next();
                text.push(special);
            }
            // The letter behind a backslash is never a closing quote.
            ('\\', Some(_)) => {
                text.push('\\');
                text.extend(letters.next());
            }
            ('\\', None) => return,
            _ => text.push(letter),
        }
    }
}

fn plain(first: char, letters: &mut Peekable<Chars<'_>>, mut text: String) -> String {
    let mut kept = text.len();
    let mut next = Some(first);
    while let Some(letter) = next {
        if letter == '\\' {
            text.extend(letters.next().filter(|escaped| !is_line_end(*escaped)));
            kept = text.len();
        } else {
            text.push(letter);
            if !letter.is_ascii_whitespace() {
                kept = text.len();
            }
        }
        next = letters.next_if(|letter| !is_line_end(*letter));
    }
    text.truncate(kept);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unquoted_as_by_the_peer() {
        // Seen through %M %A %w %B %W of systemd-sysupdate 262.1.
        let release = OsRelease::parse(
            b"ID=foo\nIMAGE_ID=\"im g\"\nIMAGE_VERSION='7'\nVERSION_ID=1.2 \n\
              BUILD_ID=\"a\\\"b\\$c\\\\d\"\nVARIANT_ID=v\n#X=1\nVARIANT_ID=last\n",
        );
        let fields =
            ["ID", "IMAGE_ID", "IMAGE_VERSION", "VERSION_ID", "BUILD_ID", "VARIANT_ID", "X", "#X"];
        assert_eq!(
            fields.map(|name| release.get(name)),
            ["foo", "im g", "7", "1.2", "a\"b$c\\d", "last", "", ""]
        );
    }

    #[test]
    fn file_in_usr_is_second_choice() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([]).with_root(dir.path());
        assert_eq!(OsRelease::load(&ctx).unwrap_err().errno(), Some(2));
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("usr/lib/os-release"), "ID=usr\n").unwrap();
        assert_eq!(OsRelease::load(&ctx).unwrap().get("ID"), "usr");
        std::fs::write(dir.path().join("etc/os-release"), "ID=etc\n").unwrap();
        assert_eq!(OsRelease::load(&ctx).unwrap().get("ID"), "etc");
    }

    /// Random values of `IMAGE_ID=` and what `%M` of systemd-sysupdate 262.1 made of them. Its log
    /// shows every line end as one line feed.
    #[test]
    fn random_values_are_read_as_by_the_peer() {
        let rows = include_str!("../../tests/vectors/os-release/random.jsonl");
        let lines = |text: &str| -> String {
            let lines: Vec<&str> =
                text.split(is_line_end).filter(|line| !line.is_empty()).collect();
            lines.join("\n")
        };
        for row in rows.lines() {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let file = row["file"].as_str().unwrap();
            let release = OsRelease::parse(file.as_bytes());
            let value = row["value"].as_str().unwrap();
            assert_eq!(lines(release.get("IMAGE_ID")), lines(value), "{file:?}");
        }
    }

    #[test]
    fn broken_quotes_are_survived() {
        for text in ["A=\"", "A='", "A=\\", "=", "A", "A=\"x\\"] {
            OsRelease::parse(text.as_bytes());
        }
    }
}
