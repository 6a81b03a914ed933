//! Configuration files, specifiers, lists of words.

use std::path::Path;

use slipway::conf::cmdline::Cmdline;
use slipway::conf::ini::{self as files, Key, Line};
use slipway::conf::os_release::OsRelease;
use slipway::conf::specifier as specifiers;
use slipway::conf::words::{Escapes, split};
use slipway::ctx::Ctx;
use slipway::error::Result;

use crate::{kind, text};

pub const INI_WORDS: &[&str] =
    &["[Transfer]", "[Source]", "[Target]", "Path=", "\\\n", "#", ";", "\r\n", "\n", "="];
pub const WORDS_WORDS: &[&str] = &["\\", "\"", "'", " ", "\\x41", "\\101", "\\u0041", "="];

type Values = Vec<(String, String)>;

fn keep(values: &mut Values, line: &Line<'_>) -> Result<()> {
    values.push((line.key.to_owned(), line.value.to_owned()));
    Ok(())
}

const KEYS: &[Key<Values>] = &[
    Key::new("Source", "Path", keep),
    Key::new("Source", "MatchPattern", keep),
    Key::new("Source", "Type", keep),
];

/// A file; what it assigns, written plainly, is assigned again.
pub fn ini(bytes: &[u8]) -> u64 {
    let file = Path::new("/etc/sysupdate.d/fuzz.transfer");
    let mut values = Values::new();
    let result = files::parse(file, bytes, KEYS, &mut values);
    let mut plain = "[Source]\n".to_owned();
    for (key, value) in &values {
        plain.push_str(&format!("{key}={value}\n\n"));
    }
    let mut again = Values::new();
    // A backslash at the end would swallow the next line.
    if values.iter().all(|(_, value)| !value.ends_with('\\')) {
        files::parse(file, plain.as_bytes(), KEYS, &mut again).expect("plain assignments");
        assert_eq!(again, values);
    }
    OsRelease::parse(bytes).get("ID");
    let lengths: Vec<usize> = values.iter().take(5).map(|(_, value)| value.len().min(4)).collect();
    kind(&(result.map_err(|err| err.to_string().len() / 8), lengths))
}

pub fn ini_seeds() -> Vec<Vec<u8>> {
    [
        "[Source]\nType=regular-file\nPath=/a\nMatchPattern=a_@v \\\n  b_@v\n",
        "# c\n[Source]\n; d\nPath = x \n\nX-y=1\n[X-Foo]\nz=1\n[Target]\nPath=\n",
        "\u{feff}[Source]\r\nPath=a\\\n#c\nb\r\n",
        "ID=debian\nVERSION_ID=\"1 2\"\nIMAGE_VERSION='a'\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Specifiers: a text in which every percent sign is doubled means itself.
pub fn specifier(bytes: &[u8]) -> u64 {
    let text = text(bytes);
    let ctx = Ctx::host([]).with_root("/nonexistent").with_kernel("/nonexistent", "/nonexistent");
    let escaped = text.replace('%', "%%");
    assert_eq!(specifiers::expand(&ctx, &escaped, usize::MAX).as_ref(), Ok(&text));
    let result = specifiers::expand(&ctx, &text, 4095);
    kind(&result.map(|expanded| expanded.len().min(8)))
}

pub fn specifier_seeds() -> Vec<Vec<u8>> {
    ["foo_%a_%m", "%%", "%", "%-", "%A%B%H%l%M%o%v%w%W%T%V%b", "é%é"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

/// Words; quoted, they are split into the same words again.
pub fn words(bytes: &[u8]) -> u64 {
    let text = text(bytes);
    let _ = Cmdline::parse(&text).words().count();
    let _ = split(&text, Escapes::C);
    let Ok(words) = split(&text, Escapes::Plain) else { return 0 };
    let quote = |word: &String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
    let quoted: Vec<String> = words.iter().map(quote).collect();
    assert_eq!(split(&quoted.join(" "), Escapes::Plain).ok(), Some(words.clone()));
    kind(&(words.len().min(8), words.iter().any(String::is_empty)))
}

pub fn words_seeds() -> Vec<Vec<u8>> {
    ["a b c", "\"a b\" 'c\\'d' e", "\\x41\\101 \"\"", "root=/dev/x quiet a=\"b c\"", "\\"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}
