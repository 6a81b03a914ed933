//! The os-release file (os-release(5)): shell-like assignments that name the operating system.

use std::collections::BTreeMap;
use std::io;

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
        let mut fields = BTreeMap::new();
        for line in text.lines() {
            let line = line.trim_start();
            if let Some((name, value)) = line.split_once('=')
                && !line.starts_with(['#', ';'])
            {
                fields.insert(name.trim().to_owned(), unquote(value));
            }
        }
        Self(fields)
    }

    /// A field, e.g. `IMAGE_VERSION`; empty where it is not set.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Quotes and backslashes as the shell understands them, without any expansion.
fn unquote(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut kept = 0;
    let mut quote = None;
    let mut letters = value.trim_start().chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (_, Some(open)) if letter == open => quote = None,
            ('\\', Some('"')) => match letters.peek() {
                Some('"' | '\\' | '`' | '$') => text.extend(letters.next()),
                _ => text.push('\\'),
            },
            ('\\', None) => text.extend(letters.next()),
            _ => text.push(letter),
        }
        // Blanks at the end go, unless something protected them.
        if quote.is_some() || !letter.is_whitespace() {
            kept = text.len();
        }
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

    #[test]
    fn broken_quotes_are_survived() {
        for text in ["A=\"", "A='", "A=\\", "=", "A", "A=\"x\\"] {
            OsRelease::parse(text.as_bytes());
        }
    }
}
