//! What the keys with one value do with it.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::file::Draft;
use crate::conf::ini::Line;
use crate::conf::specifier;
use crate::conf::value::{self, Bad};
use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::types;
use crate::format::pattern::parse_uuid;
use crate::log::NOTICE;
use crate::repart::model::{CopyBlocks, Kdf, Minimize, VerityRole};

/// LIMIT: bytes of a label before it becomes UTF-16.
const LABEL_MAX: usize = 36;
/// LIMIT: what a weight may be.
const WEIGHT_MAX: u64 = 1_000_000;
/// Sizes are multiples of this, whatever the grain.
const ROUNDING: u64 = 4096;

/// Stores a value that was understood.
pub(super) fn set<T>(place: &mut T, value: Option<T>) -> Result<()> {
    if let Some(value) = value {
        *place = value;
    }
    Ok(())
}

pub(super) fn boolean(place: &mut bool, l: &Line<'_>) -> Result<()> {
    set(place, l.parse(value::boolean))
}

pub(super) fn tristate(place: &mut Option<bool>, l: &Line<'_>) -> Result<()> {
    set(place, l.parse(value::tristate))
}

/// A text that is taken as it is; nothing takes it back.
pub(super) fn word(place: &mut Option<String>, l: &Line<'_>) -> Result<()> {
    *place = Some(l.value.to_owned()).filter(|word| !word.is_empty());
    Ok(())
}

/// As [`word`], for what becomes part of a command line.
pub(super) fn safe_word(place: &mut Option<String>, l: &Line<'_>) -> Result<()> {
    let is_unsafe = |c: char| c.is_ascii_control() || matches!(c, '\\' | '"' | '\'');
    let fault = if l.value.contains(is_unsafe) {
        "unsafe"
    } else if !l.value.is_ascii() {
        "invalid ASCII"
    } else {
        return word(place, l);
    };
    l.warn(format_args!(
        "Specified string contains {fault} characters, ignoring: {}",
        escaped(l.value)
    ));
    Ok(())
}

/// Backslash escapes for all that is not plain ASCII, bytes in octal.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'\t' => out.push_str("\\t"),
            b'\\' | b'"' | b'\'' => out.extend(['\\', char::from(byte)]),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out
}

pub(super) fn partition_type(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    let found = types::parse(l.value)
        .ok_or_else(|| l.error(format!("Failed to parse partition type: {}", l.value)))?;
    d.definition.type_uuid = match &d.options.architecture {
        Some(arch) => types::for_architecture(found, arch),
        None => found,
    };
    Ok(())
}

/// An empty label is a label.
pub(super) fn label(ctx: &Ctx, place: &mut Option<String>, l: &Line<'_>) -> Result<()> {
    match specifier::expand(ctx, l.value, LABEL_MAX) {
        Ok(label) => *place = Some(label),
        // COMPAT(262): a label that is too long, in bytes, gets the same message, and so does
        // VolumeLabel=.
        Err(_) => {
            l.warn(format_args!("Failed to expand specifiers in Label=, ignoring: {}", l.value));
        }
    }
    Ok(())
}

pub(super) fn uuid(place: &mut Option<uuid::Uuid>, l: &Line<'_>) -> Result<()> {
    match l.value {
        "null" => *place = Some(uuid::Uuid::nil()),
        "" => *place = None,
        text => match parse_uuid(text) {
            Some(uuid) => *place = Some(uuid),
            None => {
                l.warn(format_args!("Failed to parse 128-bit ID/UUID, ignoring: {text}"));
            }
        },
    }
    Ok(())
}

/// A signed number of 32 bits.
pub(super) fn signed(text: &str) -> Result<i32, Bad> {
    let text = text.trim_start();
    let number = match text.strip_prefix('-') {
        // A second sign, and the prefixes that come before it, are none behind a sign.
        Some(rest) => -i128::from(value::unsigned(&format!("+{rest}"))?),
        None => i128::from(value::unsigned(text)?),
    };
    i32::try_from(number).map_err(|_| Bad::Range)
}

pub(super) fn weight(place: &mut u32, l: &Line<'_>) -> Result<()> {
    match value::unsigned(l.value).ok().filter(|weight| *weight <= u32::MAX.into()) {
        None => l.warn(format_args!("Failed to parse weight value, ignoring: {}", l.value)),
        // COMPAT(262): the text names ten times the limit.
        Some(weight) if weight > WEIGHT_MAX => {
            l.warn(format_args!("Weight needs to be in range 0…10000000, ignoring: {weight}"))
        }
        Some(weight) => *place = u32::try_from(weight).unwrap_or_default(),
    }
    Ok(())
}

fn size(l: &Line<'_>) -> Result<u64> {
    value::size(l.value).map_err(|bad| {
        l.error(format!("Failed to parse size value: {}", l.value)).with_errno(bad.errno())
    })
}

fn rounded(place: &mut Option<u64>, l: &Line<'_>, size: u64, rounded: u64) -> Result<()> {
    if size != rounded {
        log::info!(
            target: NOTICE,
            "{}:{}: Rounded {}= size {size} → {rounded}, a multiple of 4096.",
            l.file.display(),
            l.line,
            l.key
        );
    }
    // COMPAT(262): the largest number means that nothing was said.
    *place = Some(rounded).filter(|size| *size != u64::MAX);
    Ok(())
}

pub(super) fn size_up(place: &mut Option<u64>, l: &Line<'_>) -> Result<()> {
    let size = size(l)?;
    rounded(place, l, size, size.checked_next_multiple_of(ROUNDING).unwrap_or(u64::MAX))
}

pub(super) fn size_down(place: &mut Option<u64>, l: &Line<'_>) -> Result<()> {
    let size = size(l)?;
    rounded(place, l, size, size / ROUNDING * ROUNDING)
}

pub(super) fn block_size(place: &mut Option<u32>, l: &Line<'_>) -> Result<()> {
    let size = size(l)?;
    if !(512..=4096).contains(&size) {
        return Err(l.error(format!("Value not between 512 and 4096: {}", l.value)));
    }
    if !size.is_power_of_two() {
        return Err(l.error(format!("Value not a power of 2: {}", l.value)));
    }
    *place = u32::try_from(size).ok();
    Ok(())
}

pub(super) fn file_system_sector_size(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.definition.file_system_sector_size = None;
        return Ok(());
    }
    let size = size(l)?;
    if !size.is_power_of_two() {
        return Err(l.error(format!("Value not a power of 2: {}", l.value)));
    }
    // DIFFERS: what no file system could have is refused here and not by a program later on.
    let size = u32::try_from(size);
    let size = size.map_err(|_| l.error(format!("Value too large: {}", l.value)).with_errno(34))?;
    d.definition.file_system_sector_size = Some(size);
    Ok(())
}

/// An absolute, normalized path, without what makes no difference in it; else none and a warning.
pub(super) fn path(l: &Line<'_>, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        l.warn(format_args!("{}= path is not absolute, ignoring: {path}", l.key));
        return None;
    }
    let simple = value::simplify(path);
    if simple.len() >= 4096 || simple.split('/').any(|part| part.len() > 255) {
        let len = simple.len();
        l.warn(format_args!("{}= path has invalid length ({len} bytes), ignoring.", l.key));
        return None;
    }
    if !value::is_normalized(&simple) {
        l.warn(format_args!("{}= path is not normalized, ignoring: {simple}", l.key));
        return None;
    }
    Some(simple)
}

/// The text with specifiers replaced, if `what` can be expanded; else none and a warning.
pub(super) fn expanded(
    ctx: &Ctx,
    l: &Line<'_>,
    text: &str,
    what: &str,
    shown: &str,
) -> Option<String> {
    let expanded = specifier::expand(ctx, text, specifier::PATH_MAX).ok();
    if expanded.is_none() {
        l.warn(format_args!("Failed to expand specifiers in {what}, ignoring: {shown}"));
    }
    expanded
}

pub(super) fn copy_blocks(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    let blocks = &mut d.definition.copy_blocks;
    match l.value {
        "" => *blocks = None,
        "auto" => *blocks = Some(CopyBlocks::Auto),
        text => {
            let found = expanded(d.ctx, l, text, "CopyBlocks= source path", text)
                .and_then(|text| path(l, &text));
            if let Some(found) = found {
                *blocks = Some(CopyBlocks::Path(PathBuf::from(found)));
            }
        }
    }
    Ok(())
}

pub(super) fn format(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    let name = match d.ctx.env("SYSTEMD_REPART_OVERRIDE_FSTYPE") {
        Some(name) if name != l.value => {
            log::info!(
                target: NOTICE,
                "{}:{}: Overriding defined file system type '{}' with '{name}'.",
                l.file.display(),
                l.line,
                l.value
            );
            name
        }
        _ => l.value,
    };
    if is_file_name(name) {
        d.format = Some(name.to_owned());
    } else {
        l.warn(format_args!("File system type is not valid, refusing: {name}"));
    }
    Ok(())
}

/// True for what can be the name of a file.
pub(super) fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('/')
}

pub(super) fn encrypt(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    set(
        &mut d.encrypt,
        l.parse(|word| match word {
            "" | "off" => Ok(None),
            "key-file" => Ok(Some((true, false))),
            "tpm2" => Ok(Some((false, true))),
            "key-file+tpm2" => Ok(Some((true, true))),
            _ => value::boolean(word).map(|is_on| is_on.then_some((true, false))),
        }),
    )
}

pub(super) fn kdf(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    set(
        &mut d.kdf,
        l.parse(|word| match word {
            "" => Ok(None),
            "argon2id" => Ok(Some(Kdf::Argon2id)),
            "pbkdf2" => Ok(Some(Kdf::Pbkdf2)),
            "minimal" => Ok(Some(Kdf::Minimal)),
            _ => Err(Bad::Invalid),
        }),
    )
}

/// The key is read when it is needed; that it can be is checked here, as the peer, which reads it
/// here, would.
pub(super) fn key_file(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.key_file = None;
        return Ok(());
    }
    let path = Path::new(l.value);
    if let Err(err) = check_key(path) {
        return Err(d.refuse(l, &err));
    }
    d.key_file = Some(path.to_path_buf());
    Ok(())
}

fn check_key(path: &Path) -> Result<()> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    let message = || format!("Failed to read key file '{}'", path.display());
    let meta = std::fs::metadata(path).context(message)?;
    if meta.is_dir() {
        return Err(Error::errno_because(message(), 21));
    }
    // A service behind a socket gives the key once.
    if meta.file_type().is_socket() {
        return Ok(());
    }
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_file() && mode & 0o007 != 0 {
        log::warn!(
            "{} has {mode:04o} mode that is too permissive, please adjust the ownership and access \
             mode.",
            path.display()
        );
    }
    File::open(path).map(drop).context(message)
}

pub(super) fn tpm2_pcrs(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if let Err(text) = check_pcrs(l.value) {
        return Err(d.refuse(l, &Error::new(text).with_errno(22)));
    }
    word(&mut d.tpm2_pcrs, l)
}

/// Names of registers by their number.
const PCRS: [&str; 24] = [
    "platform-code",
    "platform-config",
    "external-code",
    "external-config",
    "boot-loader-code",
    "boot-loader-config",
    "host-platform",
    "secure-boot-policy",
    "",
    "kernel-initrd",
    "ima",
    "kernel-boot",
    "kernel-config",
    "sysexts",
    "shim-policy",
    "system-identity",
    "debug",
    "",
    "",
    "",
    "",
    "",
    "",
    "application-support",
];

/// `REGISTER[:HASH[=VALUE]]`, several with `+` or `,` between them.
fn check_pcrs(text: &str) -> Result<(), String> {
    let bad = || format!("Could not parse PCR values from '{text}': Invalid argument");
    for word in text.split(['+', ',']).filter(|word| !word.is_empty()) {
        let (register, value) = word.split_once(':').map_or((word, None), |(r, v)| (r, Some(v)));
        let number = value::unsigned(register).ok().filter(|number| *number < 24);
        if number.is_none() && !PCRS.contains(&register) {
            return Err(bad());
        }
        let Some(value) = value else { continue };
        let (hash, digest) = value.split_once('=').map_or((value, None), |(h, d)| (h, Some(d)));
        let digits = match hash {
            "sha1" => 40,
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return Err(bad()),
        };
        let Some(digest) = digest else { continue };
        let digest = digest.strip_prefix("0x").unwrap_or(digest);
        if !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) || digest.len() % 2 != 0 {
            return Err(bad());
        }
        if digest.len() != digits {
            return Err("Parsed PCR values are not valid.".to_owned());
        }
    }
    Ok(())
}

pub(super) fn integrity(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    set(
        &mut d.has_integrity,
        l.parse(|word| match word {
            "" | "off" => Ok(false),
            "inline" => Ok(true),
            _ => value::boolean(word),
        }),
    )
}

pub(super) fn integrity_algorithm(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    set(
        &mut d.integrity_algorithm,
        l.parse(|word| match word {
            "" | "hmac-sha256" => Ok("hmac-sha256"),
            "hmac-sha1" => Ok("hmac-sha1"),
            "hmac-sha512" => Ok("hmac-sha512"),
            _ => Err(Bad::Invalid),
        }),
    )
}

pub(super) fn verity(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    set(
        &mut d.verity,
        l.parse(|word| match word {
            "" | "off" => Ok(None),
            "data" => Ok(Some(VerityRole::Data)),
            "hash" => Ok(Some(VerityRole::Hash)),
            "signature" => Ok(Some(VerityRole::Signature)),
            _ => Err(Bad::Invalid),
        }),
    )
}

pub(super) fn flags(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    match value::unsigned(l.value) {
        Ok(flags) => d.definition.flags = flags,
        Err(_) => l.warn(format_args!("Failed to parse Flags= value, ignoring: {}", l.value)),
    }
    Ok(())
}

/// A dash switches it off, nothing brings the default back.
pub(super) fn split_name(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    d.definition.split_name = match l.value {
        "-" => None,
        "" => Some("%t".to_owned()),
        text => Some(text.to_owned()),
    };
    Ok(())
}

pub(super) fn minimize(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    set(
        &mut d.definition.minimize,
        l.parse(|word| match word {
            "" | "off" => Ok(Minimize::Off),
            "best" => Ok(Minimize::Best),
            "guess" => Ok(Minimize::Guess),
            _ => {
                value::boolean(word).map(|is_on| if is_on { Minimize::Best } else { Minimize::Off })
            }
        }),
    )
}

pub(super) fn default_subvolume(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.definition.default_subvolume = None;
        return Ok(());
    }
    let found = expanded(d.ctx, l, l.value, "DefaultSubvolume= parameter", l.value)
        .and_then(|text| path(l, &text));
    if let Some(found) = found {
        d.definition.default_subvolume = Some(PathBuf::from(found));
    }
    Ok(())
}

pub(super) fn block_device_replace(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.definition.block_device_replace = None;
    } else if let Some(found) = path(l, l.value) {
        d.definition.block_device_replace = Some(PathBuf::from(found));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_numbers_are_read_as_the_peer_reads_them() {
        for (text, number) in [
            ("0", Ok(0)),
            ("-5", Ok(-5)),
            ("+5", Ok(5)),
            (" -5", Ok(-5)),
            ("0x10", Ok(16)),
            ("-0x10", Ok(-16)),
            ("0b11", Ok(3)),
            ("-0b11", Err(Bad::Invalid)),
            ("-2147483648", Ok(i32::MIN)),
            ("2147483648", Err(Bad::Range)),
            ("99999999999", Err(Bad::Range)),
            ("-99999999999999999999", Err(Bad::Range)),
            ("", Err(Bad::Invalid)),
            ("--1", Err(Bad::Invalid)),
            ("-+1", Err(Bad::Invalid)),
            ("x", Err(Bad::Invalid)),
        ] {
            assert_eq!(signed(text), number, "{text:?}");
        }
    }

    #[test]
    fn registers_have_numbers_or_names() {
        for text in ["", "7", "7+11", "7,11", "boot-loader-code", "7+", "7:sha256", "0x7"] {
            assert_eq!(check_pcrs(text), Ok(()), "{text}");
        }
        for text in ["foo", "24", "7+99", "7:sha3"] {
            let error = format!("Could not parse PCR values from '{text}': Invalid argument");
            assert_eq!(check_pcrs(text), Err(error), "{text}");
        }
        assert!(check_pcrs("7:sha256=00").unwrap_err().starts_with("Parsed PCR values"));
        assert_eq!(check_pcrs(&format!("7:sha1={}", "ab".repeat(20))), Ok(()));
    }
}
