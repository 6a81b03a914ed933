//! The kernel command line (kernel-command-line(7)).
//!
//! Words are separated by blanks; double or single quotes keep blanks. `rd.` in front of a key
//! makes it count in the initrd only. `-` and `_` are the same in a key.

use crate::condition;
use crate::ctx::Ctx;
use crate::error::{Context as _, Result};

/// The words of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline(Vec<String>);

impl Cmdline {
    /// What the kernel was booted with; `$SYSTEMD_PROC_CMDLINE` instead, if set.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn load(ctx: &Ctx) -> Result<Self> {
        if let Some(text) = ctx.env("SYSTEMD_PROC_CMDLINE") {
            return Ok(Self::parse(text));
        }
        let path = ctx.proc("cmdline");
        let bytes =
            std::fs::read(&path).context(|| format!("Failed to read '{}'", path.display()))?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// What this system was started with: in a container the arguments of its first process.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn effective(ctx: &Ctx) -> Result<Self> {
        if ctx.env("SYSTEMD_PROC_CMDLINE").is_some() || condition::container(ctx).is_none() {
            return Self::load(ctx);
        }
        let path = ctx.proc("1/cmdline");
        let bytes =
            std::fs::read(&path).context(|| format!("Failed to read '{}'", path.display()))?;
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Ok(Self(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()))
    }

    /// Splits a command line; a quote that is never closed reaches to the end.
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for letter in text.chars() {
            match (letter, quote) {
                (letter, Some(open)) if letter == open => quote = None,
                ('"' | '\'', None) => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (' ' | '\t' | '\n' | '\r' | '\0', None) => words.extend(word.take()),
                (letter, _) => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        Self(words)
    }

    /// All words, quotes removed.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The value of the last `key=value`. `is_initrd` lets `rd.key=value` count as well.
    pub fn value(&self, key: &str, is_initrd: bool) -> Option<&str> {
        self.pairs(is_initrd)
            .filter(|(name, _)| is_same_key(name, key))
            .filter_map(|(_, v)| v)
            .last()
    }

    /// True where the key stands as a word of its own, or is set to a word for yes last.
    pub fn flag(&self, key: &str, is_initrd: bool) -> Option<bool> {
        self.pairs(is_initrd).filter(|(name, _)| is_same_key(name, key)).last().and_then(
            |(_, value)| value.map_or(Some(true), |value| super::value::boolean(value).ok()),
        )
    }

    /// Keys and values that count; `rd.` is removed in the initrd and hides the word elsewhere.
    pub fn pairs(&self, is_initrd: bool) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.words().filter_map(move |word| {
            let word = match word.strip_prefix("rd.") {
                Some(rest) if is_initrd => rest,
                Some(_) => return None,
                None => word,
            };
            Some(match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            })
        })
    }
}

/// True where this is the system that mounts the real one.
pub fn is_initrd(ctx: &Ctx) -> bool {
    ctx.env("SYSTEMD_IN_INITRD")
        .and_then(|word| super::value::boolean(word).ok())
        .unwrap_or_else(|| ctx.at("/etc/initrd-release").exists())
}

/// Compares keys; `-` and `_` are the same.
pub fn is_same_key(a: &str, b: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(plain).eq(b.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks_and_the_last_value_counts() {
        let line = Cmdline::parse("quiet foo-bar=1 a=\"x y\" 'b=c d' foo_bar=2 rd.r=3\n");
        assert_eq!(line.value("foo_bar", false), Some("2"));
        assert_eq!(line.value("a", false), Some("x y"));
        assert_eq!(line.value("b", false), Some("c d"));
        assert_eq!(line.value("quiet", false), None);
        assert_eq!(line.flag("quiet", false), Some(true));
        assert_eq!((line.value("r", false), line.value("r", true)), (None, Some("3")));
        assert_eq!(Cmdline::parse("a=\"b c").value("a", false), Some("b c"));
        assert_eq!(Cmdline::parse("x=no x").flag("x", false), Some(true));
        assert_eq!(Cmdline::parse("x x=no").flag("x", false), Some(false));
    }

    #[test]
    fn environment_stands_in_for_the_kernel() {
        let ctx = Ctx::host([]).with_env("SYSTEMD_PROC_CMDLINE", "a=1");
        assert_eq!(Cmdline::load(&ctx).unwrap().value("a", false), Some("1"));
    }
}
