//! Fuzz targets: every parser that reads what a network, a disk or a user wrote.
//!
//! A target is a plain function of bytes. It panics where something is wrong: not only on a panic
//! of the parser, but also where a property fails (what was parsed, written and parsed again is
//! the same). Its result is a number for "the kind of thing that happened"; `runner` keeps inputs
//! that made something new happen, libFuzzer has better means.
//!
//! To add one: a function in `targets/`, a row in [`TARGETS`], three lines in `Cargo.toml`.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

#[path = "targets/conf.rs"]
mod conf;
#[path = "targets/fat.rs"]
mod fat;
#[path = "targets/format.rs"]
mod format;
#[path = "targets/gpt.rs"]
mod gpt;
#[path = "targets/machine.rs"]
mod machine;
#[path = "targets/metadata.rs"]
mod metadata;
#[path = "targets/net.rs"]
mod net;
#[path = "targets/netlink.rs"]
mod netlink;
#[path = "targets/repart.rs"]
mod repart;
#[path = "targets/unpack.rs"]
mod unpack;
#[path = "targets/userdata.rs"]
mod userdata;
#[path = "targets/varlink.rs"]
mod varlink;
#[path = "targets/verity.rs"]
mod verity;

/// One parser under attack.
pub struct Target {
    /// As in `make fuzz TARGETS=`.
    pub name: &'static str,
    /// Panics if something is wrong with how this input is treated.
    pub run: fn(&[u8]) -> u64,
    /// Good inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the language.
    pub words: &'static [&'static str],
}

/// All targets, sorted.
pub const TARGETS: &[Target] = &[
    Target {
        name: "certificate",
        run: verity::certificate,
        seeds: verity::certificate_seeds,
        words: &["-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", "\n"],
    },
    Target {
        name: "fat",
        run: fat::run,
        seeds: fat::seeds,
        words: &["\n0 / ", "\n1 5000 ", "\n2 0 ", "~1", "\u{1f980}", "long name", " ", "."],
    },
    Target { name: "gpt", run: gpt::run, seeds: gpt::seeds, words: &["EFI PART"] },
    Target { name: "http", run: net::http, seeds: net::http_seeds, words: net::HTTP_WORDS },
    Target { name: "http1", run: net::http1, seeds: net::http1_seeds, words: net::HTTP_WORDS },
    Target {
        name: "hwdb",
        run: machine::hwdb,
        seeds: machine::hwdb_seeds,
        words: machine::HWDB_WORDS,
    },
    Target { name: "hwdb-bin", run: machine::hwdb_bin, seeds: machine::hwdb_bin_seeds, words: &[] },
    Target { name: "idl", run: varlink::idl, seeds: varlink::idl_seeds, words: varlink::IDL_WORDS },
    Target { name: "ini", run: conf::ini, seeds: conf::ini_seeds, words: conf::INI_WORDS },
    Target { name: "keyring", run: net::keyring, seeds: net::keyring_seeds, words: &[] },
    Target {
        name: "manifest",
        run: format::manifest,
        seeds: format::manifest_seeds,
        words: &["BEST-BEFORE-", "  ", " *", "\n", "../", "2099-1-1", "%", "\\", "\r"],
    },
    Target { name: "netlink", run: netlink::run, seeds: netlink::seeds, words: &[] },
    Target {
        name: "normal",
        run: metadata::normal,
        seeds: metadata::normal_seeds,
        words: metadata::NORMAL_WORDS,
    },
    Target {
        name: "number",
        run: format::number,
        seeds: format::number_seeds,
        words: &["0x", "0b", "0o", "+", "-", " ", "18446744073709551615", "yes", "off"],
    },
    Target {
        name: "openpgp",
        run: net::openpgp,
        seeds: net::openpgp_seeds,
        words: &["-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----", "\n="],
    },
    Target {
        name: "pattern",
        run: format::pattern,
        seeds: format::pattern_seeds,
        words: &["@v", "@u", "@t", "@@", "**/", "/", "\\x40", "@h", "@m", "@s", " "],
    },
    Target { name: "repart", run: repart::run, seeds: repart::seeds, words: repart::WORDS },
    Target { name: "smbios", run: machine::tables, seeds: machine::tables_seeds, words: &[] },
    Target {
        name: "specifier",
        run: conf::specifier,
        seeds: conf::specifier_seeds,
        words: &["%", "%%", "%a", "%A", "%m", "%z"],
    },
    Target { name: "tar", run: unpack::tar, seeds: unpack::tar_seeds, words: unpack::TAR_WORDS },
    Target {
        name: "transfer",
        run: conf::transfer,
        seeds: conf::transfer_seeds,
        words: conf::TRANSFER_WORDS,
    },
    Target { name: "unpack", run: unpack::stream, seeds: unpack::stream_seeds, words: &[] },
    Target { name: "url", run: net::url, seeds: net::url_seeds, words: net::URL_WORDS },
    Target { name: "userdata", run: userdata::run, seeds: userdata::seeds, words: userdata::WORDS },
    Target {
        name: "varlink",
        run: varlink::message,
        seeds: varlink::message_seeds,
        words: varlink::MESSAGE_WORDS,
    },
    Target {
        name: "verity",
        run: verity::superblock,
        seeds: verity::superblock_seeds,
        words: &["verity", "sha256"],
    },
    Target {
        name: "version",
        run: format::version,
        seeds: format::version_seeds,
        words: &["~", "^", "-", ".", "\n", "0", "rc", "_"],
    },
    Target { name: "words", run: conf::words, seeds: conf::words_seeds, words: conf::WORDS_WORDS },
    Target {
        name: "yaml",
        run: metadata::yaml,
        seeds: metadata::yaml_seeds,
        words: metadata::YAML_WORDS,
    },
];

/// The target with this name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"))
}

/// A number for what happened. Digits do not count: line 3 and line 4 are the same thing.
fn kind(what: &impl Debug) -> u64 {
    let text = format!("{what:?}");
    let mut hasher = DefaultHasher::new();
    for c in text.chars().take(400) {
        (if c.is_ascii_digit() { '0' } else { c }).hash(&mut hasher);
    }
    hasher.finish()
}

/// The directory of golden vectors.
fn vectors(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(path)
}

/// The contents of all files of a directory of vectors, the large ones left out.
fn files(path: &str, suffix: &str) -> Vec<Vec<u8>> {
    let directory = std::fs::read_dir(vectors(path)).expect("vectors");
    let mut paths: Vec<PathBuf> = directory.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.is_file() && path.to_string_lossy().ends_with(suffix));
    paths.sort();
    let read = |path: &PathBuf| std::fs::read(path).expect("vector");
    paths.iter().map(read).filter(|bytes| bytes.len() < 64 << 10).collect()
}

/// All rows of a file of vectors.
fn rows(path: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(vectors(path)).expect("vectors");
    text.lines().map(|line| serde_json::from_str(line).expect("row")).collect()
}

/// The bytes as text, whatever they are.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
