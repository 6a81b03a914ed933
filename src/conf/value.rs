//! Values of configuration keys, understood as the peer does.

use std::fmt;

use crate::error::IoText;
use crate::format::number::{self, NumberError};

/// Why a value was not understood, as an errno: the peer's messages end in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// `EINVAL`.
    Invalid,
    /// `ERANGE`.
    Range,
}

impl Bad {
    /// The errno.
    pub fn errno(self) -> i32 {
        match self {
            Self::Invalid => 22,
            Self::Range => 34,
        }
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IoText(&std::io::Error::from_raw_os_error(self.errno())).fmt(f)
    }
}

impl std::error::Error for Bad {}

impl From<NumberError> for Bad {
    fn from(err: NumberError) -> Self {
        match err {
            NumberError::Invalid => Self::Invalid,
            NumberError::Range => Self::Range,
        }
    }
}

/// `1 yes y true t on` and `0 no n false f off`, in any case.
///
/// # Errors
/// Anything else.
pub fn boolean(text: &str) -> Result<bool, Bad> {
    crate::out::parse_flag(text).ok_or(Bad::Invalid)
}

/// As [`boolean`]; nothing means "not set".
///
/// # Errors
/// Anything else.
pub fn tristate(text: &str) -> Result<Option<bool>, Bad> {
    if text.is_empty() { Ok(None) } else { boolean(text).map(Some) }
}

/// A number in decimal, hexadecimal (`0x`), octal (`0o` or `0`) or binary (`0b`), perhaps after
/// blanks and a `+`.
///
/// # Errors
/// Not a number; negative or too big.
pub fn unsigned(text: &str) -> Result<u64, Bad> {
    Ok(number::parse_u64(text)?)
}

/// A number in hexadecimal, with or without `0x`.
///
/// # Errors
/// Not a number, or too big.
pub fn hexadecimal(text: &str) -> Result<u64, Bad> {
    Ok(number::parse_hex_u64(text)?)
}

/// A size in bytes with units of 1024: `1G512M`, `1.5K`, `4096`.
///
/// # Errors
/// Not a number, or too big.
pub fn size(text: &str) -> Result<u64, Bad> {
    Ok(number::parse_size(text)?)
}

/// A file mode in octal, at most 7777.
///
/// # Errors
/// Not octal digits, or more bits than a mode has.
pub fn mode(text: &str) -> Result<u32, Bad> {
    Ok(number::parse_mode(text)?)
}

/// A path without doubled slashes, `.` in the middle, and slashes at its end.
pub fn simplify(path: &str) -> String {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let joined = parts.join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) if !path.is_empty() => ".".to_owned(),
        (false, _) => joined,
    }
}

/// True for a path that has neither `.` nor `..` in it and is short enough for the kernel.
pub fn is_normalized(path: &str) -> bool {
    !path.is_empty()
        && path.len() < 4096
        && path.split('/').all(|part| part != "." && part != ".." && part.len() <= 255)
}

/// True for `http://` and `https://` followed by something in ASCII.
pub fn is_http_url(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && rest.is_ascii())
    })
}

/// True for `file:/` followed by something in ASCII.
pub fn is_file_url(url: &str) -> bool {
    url.strip_prefix("file:/").is_some_and(|rest| !rest.is_empty() && rest.is_ascii())
}

/// True for what `Documentation=` takes: http, https, file, info and man.
pub fn is_documentation_url(url: &str) -> bool {
    is_http_url(url)
        || is_file_url(url)
        || ["info:", "man:"]
            .iter()
            .any(|scheme| url.strip_prefix(scheme).is_some_and(|r| !r.is_empty() && r.is_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_have_many_words_and_no_empty_one() {
        for word in ["1", "yes", "Y", "True", "t", "ON"] {
            assert_eq!(boolean(word), Ok(true));
        }
        for word in ["0", "no", "N", "False", "f", "off"] {
            assert_eq!(boolean(word), Ok(false));
        }
        for word in ["", "2", "maybe", " yes"] {
            assert_eq!(boolean(word), Err(Bad::Invalid));
        }
        assert_eq!((tristate(""), tristate("y")), (Ok(None), Ok(Some(true))));
    }

    #[test]
    fn numbers_as_the_peer_takes_them() {
        // Accepted and refused by InstancesMax= and TriesLeft= of systemd-sysupdate 262.1.
        for (text, number) in
            [("3", 3), (" 3", 3), ("0x10", 16), ("010", 8), ("+5", 5), ("0", 0), ("-0", 0)]
        {
            assert_eq!(unsigned(text), Ok(number), "{text}");
        }
        assert_eq!(unsigned("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(unsigned("18446744073709551616"), Err(Bad::Range));
        assert_eq!(unsigned("-1"), Err(Bad::Range));
        for text in ["", "x", "1.5", "0x", "08", "1 ", "+-1", "0x+1"] {
            assert_eq!(unsigned(text), Err(Bad::Invalid), "{text}");
        }
        assert_eq!((hexadecimal("0xff"), hexadecimal("FF")), (Ok(255), Ok(255)));
        assert_eq!(hexadecimal("zz"), Err(Bad::Invalid));
    }

    #[test]
    fn modes_are_octal_and_bounded() {
        assert_eq!((mode("644"), mode("07777")), (Ok(0o644), Ok(0o7777)));
        assert_eq!(mode("17777"), Err(Bad::Range));
        for text in ["999", "0o644", "-1", "", "+644"] {
            assert_eq!(mode(text), Err(Bad::Invalid), "{text}");
        }
        assert_eq!(Bad::Range.to_string(), "Numerical result out of range");
    }

    #[test]
    fn paths_are_simplified_and_checked() {
        assert_eq!(simplify("//a/./b//c/"), "/a/b/c");
        assert_eq!(
            (simplify("/"), simplify("a//b/"), simplify("./")),
            ("/".into(), "a/b".into(), ".".into())
        );
        assert!(is_normalized("/a/b") && !is_normalized("/a/../b") && !is_normalized(""));
        assert!(!is_normalized(&"/a".repeat(4096)) && !is_normalized(&"a".repeat(256)));
    }

    #[test]
    fn urls_need_a_scheme_and_something_behind_it() {
        assert!(is_http_url("http://x") && is_http_url("https://x/y"));
        assert!(!is_http_url("http://") && !is_http_url("ftp://x") && !is_http_url("http://ü"));
        assert!(is_file_url("file:///x") && !is_file_url("file:x"));
        assert!(is_documentation_url("man:x(1)") && !is_documentation_url("x"));
    }
}
