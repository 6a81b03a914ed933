//! Configuration files, specifiers, lists of words.

use std::path::Path;

use slipway::conf::cmdline::Cmdline;
use slipway::conf::ini::{self as files, Key, Line};
use slipway::conf::os_release::OsRelease;
use slipway::conf::specifier as specifiers;
use slipway::conf::words::{Escapes, split};
use slipway::ctx::Ctx;
use slipway::error::Result;
use slipway::update::definitions::{Origin, load};

use crate::{kind, text};

pub const INI_WORDS: &[&str] =
    &["[Transfer]", "[Source]", "[Target]", "Path=", "\\\n", "#", ";", "\r\n", "\n", "="];
pub const TRANSFER_WORDS: &[&str] = &[
    "Type=",
    "url-tar",
    "directory",
    "subvolume",
    "partition",
    "MatchPattern=",
    "PathRelativeTo=",
    "explicit",
    "esp",
    "MatchPartitionType=",
    "PartitionUUID=",
    "CurrentSymlink=",
    "@v",
    "@u",
    "InstancesMax=",
    "**/",
    "\\\n",
    "[Source]\n",
    "[Target]\n",
    "[Transfer]\n",
    "%a",
    "/",
    "..",
];
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

/// A whole transfer file. What loads has patterns, and none that a target could not use.
pub fn transfer(bytes: &[u8]) -> u64 {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(parent).expect("directory");
    std::fs::write(directory.path().join("a.transfer"), bytes).expect("file");
    let ctx = Ctx::host([]).with_root("/nonexistent").with_kernel("/nonexistent", "/nonexistent");
    let origin = Origin { directory: Some(directory.path().to_owned()), component: None };
    let loaded = load(&ctx, &origin, true);
    if let Ok(definitions) = &loaded {
        for transfer in &definitions.transfers {
            assert!(!transfer.source.patterns.is_empty() && !transfer.target.patterns.is_empty());
            assert!(!transfer.target.patterns.iter().any(|pattern| pattern.is_recursive()));
            assert!(transfer.target.instances_max.is_none_or(|max| max >= 2));
        }
    }
    let first = loaded.map(|definitions| definitions.transfers.into_iter().next());
    kind(&match first {
        Ok(Some(t)) => format!("{:?} {:?} {:?}", t.source.kind, t.target.kind, t.is_enabled),
        Ok(None) => "masked".to_owned(),
        Err(err) => err.to_string().split(": ").skip(1).take(1).collect(),
    })
}

pub fn transfer_seeds() -> Vec<Vec<u8>> {
    [
        "[Source]\nType=url-file\nPath=https://x/y\nMatchPattern=a_@v_@u.raw.xz **/b_@v\n\
         [Target]\nType=partition\nPath=auto\nMatchPattern=a_@v\nMatchPartitionType=root\n\
         PartitionFlags=0x1\nReadOnly=yes\n",
        "[Transfer]\nMinVersion=1\nProtectVersion=%A\nVerify=no\nFeatures=f\nChangeLog=http://x/@v\n\
         [Source]\nType=regular-file\nPath=/a\nMatchPattern=b_@v+@l-@d.efi b_@v.efi\n\
         [Target]\nPath=/EFI/Linux\nPathRelativeTo=boot\nMode=0644\nTriesLeft=3\nInstancesMax=1\n\
         CurrentSymlink=cur\n",
        "[Source]\nType=tar\nPath=/a\nMatchPattern=c_@v.tar\n[Target]\nType=subvolume\nPath=/b\n",
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
