//! Values of `repart`'s options, checked as the peer checks them and refused in its words.

use ::slipway::conf::value as plain;
use ::slipway::disk::dissect::Policy;
use ::slipway::repart::definitions::parse_types;
use ::slipway::repart::model::{AppendFstab, Empty, Seed};
use uuid::Uuid;

use crate::cli::{self, printable};

/// A value, or nothing where the word for the default was given.
pub(super) struct Choice<T>(pub(super) Option<T>);

/// `--size=`.
#[derive(Clone, Copy)]
pub(super) enum Size {
    /// The smallest.
    Auto,
    /// In bytes, as given.
    Bytes(u64),
}

/// Some partition types.
pub(super) struct Types(pub(super) Vec<Uuid>);

fn refuse<T>(text: impl AsRef<str>) -> Result<T, String> {
    Err(cli::sentence(text.as_ref()))
}

/// The sentence of values that are just wrong.
fn mistaken<T>(text: &str) -> Result<T, String> {
    Err(format!("Failed to parse {{option}}= parameter: {}", printable(text)))
}

pub(super) fn tristate(text: &str) -> Result<Choice<bool>, String> {
    if matches!(text, "" | "auto") {
        return Ok(Choice(None));
    }
    match plain::boolean(text) {
        Ok(flag) => Ok(Choice(Some(flag))),
        Err(_) => Err(format!("Failed to parse tristate argument to '{{option}}=': {text}")),
    }
}

pub(super) fn empty(text: &str) -> Result<Choice<Empty>, String> {
    match (text, Empty::parse(text)) {
        ("", _) => Ok(Choice(None)),
        (_, Some(mode)) => Ok(Choice(Some(mode))),
        _ => mistaken(text),
    }
}

pub(super) fn sector_size(text: &str) -> Result<u32, String> {
    let Ok(size) = plain::unsigned(text) else {
        return refuse(format!("Failed to parse sector size parameter {}", printable(text)));
    };
    match u32::try_from(size) {
        Ok(size @ 512..=4096) if size.is_power_of_two() => Ok(size),
        Ok(512..=4096) => refuse(format!("Sector size not power of 2: {size}")),
        _ => refuse(format!("Sector size not between 512 and 4096: {size}")),
    }
}

pub(super) fn grain_size(text: &str) -> Result<u64, String> {
    match plain::size(text) {
        Err(_) => mistaken(text),
        Ok(size) if size.is_power_of_two() && size >= 512 => Ok(size),
        Ok(_) => refuse("Grain size must be a power of 2 >= 512."),
    }
}

pub(super) fn size(text: &str) -> Result<Size, String> {
    match (text, plain::size(text)) {
        ("auto", _) => Ok(Size::Auto),
        (_, Err(_)) => mistaken(text),
        (_, Ok(0)) => refuse("Specified image size too small, refusing."),
        (_, Ok(size)) if size > u64::MAX - 4095 => {
            refuse("Specified image size too large, refusing.")
        }
        (_, Ok(size)) => Ok(Size::Bytes(size)),
    }
}

/// The architectures that have a name, whether they have partition types or not.
const ARCHITECTURES: &str = "alpha arc arc-be arm arm-be arm64 arm64-be cris ia64 loongarch64 m68k \
    mips mips-le mips64 mips64-le nios2 parisc parisc64 ppc ppc-le ppc64 ppc64-le riscv32 riscv64 \
    s390 s390x sh sh64 sparc sparc64 tilegx x86 x86-64";

pub(super) fn architecture(text: &str) -> Result<String, String> {
    if ARCHITECTURES.split(' ').any(|name| name == text) {
        return Ok(text.to_owned());
    }
    refuse(format!("Invalid architecture '{}'.", printable(text)))
}

pub(super) fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "" => return Ok(Seed::Machine),
        "random" => return Ok(Seed::Random),
        _ => {}
    }
    // 32 digits, or with dashes as a UUID; the braces and prefixes other tools know are none.
    let is_plain = matches!(text.len(), 32 | 36);
    match Uuid::try_parse(text) {
        Ok(seed) if is_plain => Ok(Seed::Given(seed)),
        _ => refuse(format!("Failed to parse seed: {}", printable(text))),
    }
}

pub(super) fn image_policy(text: &str) -> Result<Policy, String> {
    Policy::parse(text).or_else(|error| refuse(error.to_string()))
}

pub(super) fn types(text: &str) -> Result<Types, String> {
    parse_types(text).map(Types).or_else(|error| refuse(error.to_string()))
}

pub(super) fn ddi(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') || matches!(text, "." | "..") {
        return refuse(format!("Invalid DDI type: {}", printable(text)));
    }
    Ok(text.to_owned())
}

pub(super) fn append_fstab(text: &str) -> Result<AppendFstab, String> {
    match text {
        "no" => Ok(AppendFstab::No),
        // The peer takes nothing for auto.
        "auto" | "" => Ok(AppendFstab::Auto),
        "replace" => Ok(AppendFstab::Replace),
        _ => mistaken(text),
    }
}

pub(super) fn private_key_source(text: &str) -> Result<String, String> {
    if text == "file" || text.starts_with("engine:") || text.starts_with("provider:") {
        return Ok(text.to_owned());
    }
    refuse(format!("Invalid private key source '{}'", printable(text)))
}

pub(super) fn certificate_source(text: &str) -> Result<String, String> {
    if text == "file" || text.starts_with("provider:") {
        return Ok(text.to_owned());
    }
    refuse(format!("Invalid certificate source '{}'", printable(text)))
}

/// Characters that ISO 9660 allows in the texts of its descriptors. COMPAT(262): small letters,
/// which it does not, are taken.
fn identifier(text: &str, max: usize) -> Result<String, String> {
    let is_known =
        |letter: char| letter.is_ascii_alphanumeric() || " !\"%&'()*+,-./:;<=>?_".contains(letter);
    if text.len() <= max && text.chars().all(is_known) {
        return Ok(text.to_owned());
    }
    Err(format!("Invalid value '{}' for {{option}}=.", printable(text)))
}

pub(super) fn system(text: &str) -> Result<String, String> {
    identifier(text, 32)
}

pub(super) fn volume(text: &str) -> Result<String, String> {
    identifier(text, 32)
}

pub(super) fn publisher(text: &str) -> Result<String, String> {
    identifier(text, 128)
}

pub(super) fn tpm2_handle(text: &str) -> Result<u32, String> {
    let why = match plain::hexadecimal(text).map(u32::try_from) {
        Ok(Ok(handle)) => return Ok(handle),
        Ok(Err(_)) => plain::Bad::Range,
        Err(why) => why,
    };
    let shown = printable(text);
    refuse(format!("Could not parse TPM2 seal key handle index '{shown}': {why}"))
}

/// Names of the registers that have one.
const REGISTERS: &str = "platform-code platform-config external-code external-config \
    boot-loader-code boot-loader-config host-platform secure-boot-policy kernel-initrd ima \
    kernel-boot kernel-config sysexts shim-policy system-identity debug application-support";

/// `PCR[:BANK[=HASH]]`, separated by `+` or `,`.
pub(super) fn tpm2_pcrs(text: &str) -> Result<String, String> {
    for item in text.split(['+', ',']).filter(|item| !item.is_empty()) {
        let (item, hash) = item.split_once('=').map_or((item, None), |(a, b)| (a, Some(b)));
        let (register, bank) = item.split_once(':').map_or((item, None), |(a, b)| (a, Some(b)));
        let is_register = plain::unsigned(register).is_ok_and(|index| index < 24)
            || REGISTERS.split(' ').any(|name| name == register);
        let digits = match bank {
            None => Some(None),
            Some("sha1") => Some(Some(40)),
            Some("sha256") => Some(Some(64)),
            Some("sha384") => Some(Some(96)),
            Some("sha512") => Some(Some(128)),
            Some(_) => None,
        };
        let is_hex = hash.is_none_or(|hash| hash.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(digits) = digits.filter(|_| is_register && is_hex) else {
            let shown = printable(text);
            return refuse(format!("Could not parse PCR values from '{shown}': Invalid argument"));
        };
        if hash.is_some_and(|hash| Some(hash.len()) != digits) {
            return refuse("Parsed PCR values are not valid.");
        }
    }
    Ok(text.to_owned())
}
