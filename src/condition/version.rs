//! `ConditionVersion=`: the version of the kernel, of systemd, of the C library.

use std::fs;
use std::path::Path;

use super::compare::{self, Operator};
use super::{Tested, errno_of, invalid};
use crate::conf::words::{self, Escapes};
use crate::ctx::Ctx;
use crate::sys::fs::chase;

/// The systemd whose behavior we have.
const SYSTEMD: &str = "262";

pub(super) fn test(ctx: &Ctx, parameter: &str) -> Tested {
    let end = parameter
        .find(|letter: char| letter.is_ascii_whitespace() || compare::is_start(letter))
        .unwrap_or(parameter.len());
    let (name, rest) = parameter.split_at(end);
    match name {
        "systemd" => expressions(SYSTEMD, rest),
        "kernel" => expressions(&kernel(ctx)?, rest),
        "glibc" => match glibc(ctx) {
            Some(version) => expressions(&version, rest),
            // DIFFERS: the peer answers for the library it runs on; where there is none, nothing
            // about its version is true.
            None => Ok(false),
        },
        _ => expressions(&kernel(ctx)?, parameter),
    }
}

fn kernel(ctx: &Ctx) -> std::io::Result<String> {
    fs::read_to_string(ctx.proc("sys/kernel/osrelease")).map(|text| text.trim_end().to_owned())
}

/// All expressions must hold; one without operator is a glob. Only in the first one may a blank
/// stand behind the operator.
fn expressions(version: &str, text: &str) -> Tested {
    let all = words::split(text, Escapes::Plain).map_err(errno_of)?;
    let mut words = all.iter();
    let mut is_first = true;
    while let Some(word) = words.next() {
        let (operator, expected) = match Operator::strip(word) {
            Some((operator, rest)) => (operator, rest.trim_start()),
            None => (Operator::Like, word.as_str()),
        };
        let expected = match expected {
            "" if is_first => words.next().map_or("", String::as_str),
            other => other,
        };
        if expected.is_empty() {
            return invalid();
        }
        if !operator.holds(version, expected) {
            return Ok(false);
        }
        is_first = false;
    }
    Ok(true)
}

/// The version that the root's C library says of itself.
fn glibc(ctx: &Ctx) -> Option<String> {
    const MARK: &[u8] = b"stable release version ";
    let machine = std::env::consts::ARCH;
    let paths = [
        format!("/usr/lib/{machine}-linux-gnu/libc.so.6"),
        "/usr/lib64/libc.so.6".to_owned(),
        "/usr/lib/libc.so.6".to_owned(),
    ];
    paths.iter().find_map(|path| {
        let bytes = fs::read(chase(ctx.root(), Path::new(path)).ok()?).ok()?;
        let at = bytes.windows(MARK.len()).position(|window| window == MARK)?;
        let digits = bytes.get(at + MARK.len()..)?.iter();
        let version: String = digits
            .map(|byte| char::from(*byte))
            .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
            .collect();
        Some(version.trim_end_matches('.').to_owned())
    })
}
