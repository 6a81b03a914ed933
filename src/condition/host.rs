//! Conditions about the machine and its operating system.

use std::fs;
use std::io;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::compare::{self, Operator};
use super::{Tested, errno_of, invalid, virt};
use crate::conf::cmdline::Cmdline;
use crate::conf::credential;
use crate::conf::os_release::OsRelease;
use crate::conf::specifier;
use crate::conf::value::Bad;
use crate::conf::words::{self, Escapes};
use crate::ctx::Ctx;
use crate::format::glob;
use crate::sys::fs::chase;

pub(super) fn architecture(ctx: &Ctx, parameter: &str) -> bool {
    if parameter == "native" {
        return specifier::architecture_of(std::env::consts::ARCH).is_some();
    }
    specifier::architecture(ctx) == Some(parameter)
}

pub(super) fn firmware(ctx: &Ctx, parameter: &str) -> Tested {
    if let Some(field) = parameter.strip_prefix("smbios-field(") {
        return smbios_field(ctx, field);
    }
    let compatible =
        parameter.strip_prefix("device-tree-compatible(").and_then(|rest| rest.strip_suffix(')'));
    Ok(match (parameter, compatible) {
        (_, Some(wanted)) => {
            let list = fs::read(ctx.sys("firmware/devicetree/base/compatible"));
            list.is_ok_and(|list| {
                !wanted.is_empty()
                    && list.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
            })
        }
        ("uefi", _) => is_efi(ctx),
        ("device-tree", _) => ctx.sys("firmware/devicetree").exists(),
        _ => false,
    })
}

/// Booted by UEFI, and not in a container that merely sees the host's.
pub(super) fn is_efi(ctx: &Ctx) -> bool {
    ctx.sys("firmware/efi").exists() && virt::container(ctx).is_none()
}

/// `FIELD OPERATOR VALUE)`
fn smbios_field(ctx: &Ctx, text: &str) -> Tested {
    let Some(text) = text.strip_suffix(')') else { return invalid() };
    let split = text.find(compare::is_start).unwrap_or(text.len());
    let (field, rest) = text.split_at(split);
    let Some((operator, value)) = Operator::strip(rest) else { return invalid() };
    let field = field.trim_end();
    if field.is_empty() || field.contains('/') || matches!(field, "." | "..") {
        return invalid();
    }
    let values = words::split(value, Escapes::Plain).map_err(errno_of)?;
    let [expected] = values.as_slice() else { return invalid() };
    match fs::read_to_string(ctx.sys("class/dmi/id").join(field)) {
        Ok(value) => Ok(operator.holds(value.trim_end_matches('\n'), expected)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err.into()),
    }
}

pub(super) fn host(ctx: &Ctx, parameter: &str) -> bool {
    if let Some(wanted) = id_of(parameter) {
        let read = |path| fs::read_to_string(path).ok();
        let ids = [
            specifier::machine_id(ctx),
            read(ctx.proc("sys/kernel/random/boot_id")),
            read(ctx.sys("class/dmi/id/product_uuid")),
            read(ctx.sys("firmware/devicetree/base/vm,uuid")),
        ];
        return ids
            .iter()
            .flatten()
            .any(|id| id_of(id.trim_matches(['\n', '\0'])).as_ref() == Some(&wanted));
    }
    glob::matches(&parameter.to_lowercase(), &specifier::hostname(ctx).to_lowercase())
}

/// 32 hexadecimal digits, or a UUID with its dashes.
fn id_of(text: &str) -> Option<String> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let plain = text.replace('-', "");
    let is_uuid = text.len() == 36 && {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        lengths == [8, 4, 4, 4, 12]
    };
    (plain.len() == 32 && is_hex(&plain) && (is_uuid || text.len() == 32))
        .then(|| plain.to_ascii_lowercase())
}

/// `[TAG] PERCENTAGE`: the first 32 bits of an HMAC over the tag, keyed with the machine ID, are
/// below that share of all numbers.
pub(super) fn fraction(ctx: &Ctx, parameter: &str) -> Tested {
    let words: Vec<&str> = parameter.split_ascii_whitespace().collect();
    let (tag, share) = match words.as_slice() {
        [share] => ("", *share),
        [tag, share] => (*tag, *share),
        _ => return invalid(),
    };
    let share = permyriad(share).map_err(errno_of)?;
    if share == 0 || share == 10_000 {
        return Ok(share > 0);
    }
    let Some(key) = specifier::machine_id(ctx).and_then(|id| uuid::Uuid::try_parse(&id).ok())
    else {
        return Err(io::Error::from_raw_os_error(2).into());
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
    mac.update(b"systemd-fraction-");
    mac.update(tag.as_bytes());
    let digest = mac.finalize().into_bytes();
    let first = digest.iter().take(4).rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    Ok(first < (share * u64::from(u32::MAX) + 5_000) / 10_000)
}

/// `12%`, `12.34%`, `123‰`, `123.4‰` or `1234‱` in ten-thousandths.
fn permyriad(text: &str) -> Result<u64, Bad> {
    let (number, decimals) = if let Some(number) = text.strip_suffix('%') {
        (number, 2)
    } else if let Some(number) = text.strip_suffix('‰') {
        (number, 1)
    } else {
        (text.strip_suffix('‱').ok_or(Bad::Invalid)?, 0)
    };
    let (number, is_negative) =
        number.strip_prefix('-').map_or((number, false), |rest| (rest, true));
    let number = if is_negative { number } else { number.strip_prefix('+').unwrap_or(number) };
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err(Bad::Invalid),
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > decimals {
        return Err(Bad::Invalid);
    }
    let all: u64 = format!("{whole}{fraction:0<decimals$}").parse().map_err(|_| Bad::Range)?;
    if all > 10_000 || (is_negative && all > 0) { Err(Bad::Range) } else { Ok(all) }
}

/// The word as it is, or the left side of an assignment. In a container its first process's
/// command line counts.
pub(super) fn command_line(ctx: &Ctx, parameter: &str) -> Tested {
    let line = Cmdline::effective(ctx)?;
    let is_pair = parameter.contains('=');
    Ok(line.words().any(|word| {
        word == parameter
            || (!is_pair && word.split_once('=').is_some_and(|(name, _)| name == parameter))
    }))
}

pub(super) fn credential(ctx: &Ctx, parameter: &str) -> bool {
    credential::exists(ctx, parameter)
}

/// Words of the form `KEY OPERATOR VALUE`, all of which must hold.
pub(super) fn os_release(ctx: &Ctx, parameter: &str) -> Tested {
    let words = words::split(parameter, Escapes::Plain).map_err(errno_of)?;
    let mut release = None;
    for word in &words {
        let split = word.find(compare::is_start).unwrap_or(word.len());
        let (key, rest) = word.split_at(split);
        let is_key =
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let Some((operator, expected)) = Operator::strip(rest) else { return invalid() };
        if !is_key || expected.is_empty() {
            return invalid();
        }
        if release.is_none() {
            release = Some(OsRelease::load(ctx)?);
        }
        let value = release.as_ref().map_or("", |release| release.get(key));
        // COMPAT(262): what follows a failed word may be malformed.
        if !operator.holds(value, expected) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `TAGS=` of machine-info(5), separated by colons.
pub(super) fn machine_tag(ctx: &Ctx, parameter: &str) -> Tested {
    let path = match ctx.env_os("SYSTEMD_ETC_MACHINE_INFO") {
        Some(path) => ctx.at(path),
        None => chase(ctx.root(), "/etc/machine-info".as_ref())?,
    };
    match fs::read(path) {
        Ok(bytes) => {
            let info = OsRelease::parse(&bytes);
            Ok(info
                .get("TAGS")
                .split(':')
                .any(|tag| !tag.is_empty() && glob::matches(parameter, tag)))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_where_the_peer_puts_them() {
        // Thresholds found by bisection with systemd-analyze 262.1, in ten-thousandths.
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        let ctx = Ctx::host([]).with_root(dir.path());
        for (id, thresholds) in [
            ("0123456789abcdef0123456789abcdef", [6548, 171, 3081]),
            ("00000000000000000000000000000001", [9550, 490, 1489]),
            ("11111111111111111111111111111111", [5079, 2144, 5412]),
            ("307d0c7e6f284c809dc8b803a5e3bc6b", [7661, 9212, 8606]),
        ] {
            fs::write(dir.path().join("etc/machine-id"), format!("{id}\n")).unwrap();
            for (tag, threshold) in ["", "abc ", "myrollout "].iter().zip(thresholds) {
                assert!(fraction(&ctx, &format!("{tag}{threshold}‱")).unwrap());
                assert!(!fraction(&ctx, &format!("{tag}{}‱", threshold - 1)).unwrap());
            }
        }
    }

    #[test]
    fn device_tree_is_compatible_with_each_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("firmware/devicetree/base");
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("compatible"), b"acme,board\0acme,soc\0").unwrap();
        let ctx = Ctx::host([]).with_kernel("/proc", dir.path());
        for (value, holds) in [("acme,soc", true), ("acme", false), ("", false)] {
            let value = format!("device-tree-compatible({value})");
            assert_eq!(firmware(&ctx, &value).unwrap(), holds, "{value}");
        }
    }
}
