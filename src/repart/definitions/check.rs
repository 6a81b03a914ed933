//! One definition as a whole: what follows from what, and what goes with what.
//!
//! The order of the checks is the peer's: it decides which of several faults is told.

use std::path::Path;

use super::file::Draft;
use super::lists::VOLUME_NAME_MAX;
use super::values::is_file_name;
use crate::error::{Error, Result};
use crate::format::gpt::types::{self, Designator};
use crate::log::NOTICE;
use crate::repart::model::{Bounds, Definition, FileSystem, Minimize, VerityRole};

/// What `Format=` says of a partition that is set aside.
const EMPTY: &str = "empty";

/// Completes and checks what the file at `path` said.
pub(super) fn finish(mut draft: Draft<'_>, path: &Path) -> Result<Definition> {
    let refuse = |text: String| Err(Error::new(text).at(path, 1).with_errno(22));
    if let Err(text) = check_sources(&draft) {
        return refuse(text);
    }
    draft.definition.is_placeholder = draft.format.as_deref() == Some(EMPTY);
    let format = format(&draft);
    if let Err(text) = check_format(&draft, format.as_ref()) {
        return refuse(text);
    }
    draft.definition.adds_validate_fs = draft.adds_validate_fs.unwrap_or_else(|| {
        format.as_ref().is_some_and(|format| !format.is_swap() && !format.is_vfat())
    });
    let checked = check_populated(&draft, format.as_ref())
        .and_then(|()| check_verity(&draft, format.as_ref()))
        .and_then(|()| check_encryption(&draft))
        .and_then(|()| check_rest(&draft));
    match checked {
        Ok(()) => tell_useless(&draft, path),
        Err(text) => return refuse(text),
    }
    let format = overridden(&draft, format.as_ref(), path).or(format);
    match check_format(&draft, format.as_ref()) {
        Ok(()) => Ok(draft.into_definition(format)),
        Err(text) => refuse(text),
    }
}

fn is_upside_down(bounds: &Bounds) -> bool {
    matches!((bounds.min, bounds.max), (Some(min), Some(max)) if min > max)
}

impl Draft<'_> {
    /// Something is to be put in, as far as the file says so itself.
    fn asks_for_files(&self) -> bool {
        !self.definition.files.is_empty() || self.adds_validate_fs == Some(true)
    }
}

fn check_sources(draft: &Draft<'_>) -> Result<(), String> {
    let definition = &draft.definition;
    for (name, bounds) in [("Size", &definition.size), ("Padding", &definition.padding)] {
        if is_upside_down(bounds) {
            return Err(format!("{name}MinBytes= larger than {name}MaxBytes=, refusing."));
        }
    }
    if definition.type_uuid.is_nil() {
        return Err("Type= not defined, refusing.".to_owned());
    }
    let has_contents = draft.format.is_some() || draft.asks_for_files();
    let has_blocks = definition.copy_blocks.is_some();
    let replaces = definition.block_device_replace.is_some();
    const CONTENTS: &str = "Format=/CopyFiles=/MakeDirectories=/MakeSymlinks=";
    if has_blocks && has_contents {
        return Err(format!("{CONTENTS} and CopyBlocks= cannot be combined, refusing."));
    }
    if replaces && has_contents {
        return Err(format!("{CONTENTS} and BlockDeviceReplace= cannot be combined, refusing."));
    }
    let fault = if replaces && has_blocks {
        "CopyBlocks= and BlockDeviceReplace= cannot be combined, refusing."
    } else if replaces && draft.options.is_offline == Some(true) {
        "BlockDeviceReplace= is incompatible with --offline=yes, refusing."
    } else if let Some(name) = &definition.volume_name {
        if !is_file_name(name) {
            "VolumeName= has an invalid filename value, refusing."
        } else if name.len() > VOLUME_NAME_MAX {
            "VolumeName= is too long, refusing."
        } else if draft.encrypt.is_none() {
            "VolumeName= requires Encrypt= to be enabled, refusing."
        } else if !replaces {
            "VolumeName= requires BlockDeviceReplace= to be set, refusing."
        } else {
            return Ok(());
        }
    } else {
        return Ok(());
    };
    Err(fault.to_owned())
}

/// `Format=`, or what follows from the other keys.
fn format(draft: &Draft<'_>) -> Option<FileSystem> {
    let name = match draft.format.as_deref() {
        Some(EMPTY) => None,
        Some(name) => Some(name),
        None => implied_format(draft),
    };
    name.map(|name| FileSystem(name.to_owned()))
}

/// What the environment says instead, for this kind of partition. The checks know nothing of it.
fn overridden(draft: &Draft<'_>, format: Option<&FileSystem>, path: &Path) -> Option<FileSystem> {
    let purpose = types::purpose(draft.definition.type_uuid)?;
    let variable = format!("SYSTEMD_REPART_OVERRIDE_FSTYPE_{}", purpose.to_ascii_uppercase());
    let other = draft.ctx.env(&variable)?;
    let name = format.map_or("", FileSystem::name);
    // DIFFERS: the peer names a file system for a partition whose blocks are copied, too, and looks
    // for a program that it will not call.
    if draft.definition.copy_blocks.is_some() || other == name {
        return None;
    }
    // DIFFERS: where there was none, the peer shows "(null)".
    log::info!(
        target: NOTICE,
        "{}:1: Overriding defined file system type '{name}' for '{purpose}' partition with \
         '{other}'.",
        path.display(),
    );
    Some(FileSystem(other.to_owned()))
}

/// The file system of a partition that needs one but does not say which.
fn implied_format(draft: &Draft<'_>) -> Option<&'static str> {
    let has_blocks = draft.definition.copy_blocks.is_some();
    let is_made = draft.asks_for_files() || (draft.encrypt.is_some() && !has_blocks);
    match types::designator(draft.definition.type_uuid) {
        Designator::Swap if !has_blocks => Some("swap"),
        Designator::Esp | Designator::Xbootldr if is_made => Some("vfat"),
        _ if is_made => Some("ext4"),
        _ => None,
    }
}

fn check_format(draft: &Draft<'_>, format: Option<&FileSystem>) -> Result<(), String> {
    if !draft.asks_for_files() {
        return Ok(());
    }
    // DIFFERS: the peer finds out about a swap partition by its type, and about one that is to be
    // left empty, when it has begun to write, or fails an assertion.
    let name = match format {
        Some(format) if format.is_swap() => "swap",
        None if draft.definition.is_placeholder => EMPTY,
        _ => return Ok(()),
    };
    Err(format!(
        "Format={name} and CopyFiles=/MakeDirectories=/MakeSymlinks= cannot be combined, refusing."
    ))
}

fn check_populated(draft: &Draft<'_>, format: Option<&FileSystem>) -> Result<(), String> {
    let minimize = draft.definition.minimize;
    let is_hash = draft.verity == Some(VerityRole::Hash);
    if minimize != Minimize::Off && format.is_none() && !is_hash {
        return Err("Minimize= can only be enabled if Format= or Verity=hash are set.".to_owned());
    }
    let is_exact = |format: &FileSystem| format.is_read_only() || format.name() == "btrfs";
    if minimize == Minimize::Best && !is_hash && !format.is_some_and(is_exact) {
        let text = "Minimize=best can only be used with read-only filesystems, btrfs, or \
                    Verity=hash.";
        return Err(text.to_owned());
    }
    match format {
        Some(format) if format.is_read_only() && !draft.definition.is_populated() => Err(format!(
            "Cannot format {} filesystem without source files, refusing.",
            format.name()
        )),
        _ => Ok(()),
    }
}

pub(super) fn role_name(role: VerityRole) -> &'static str {
    match role {
        VerityRole::Data => "data",
        VerityRole::Hash => "hash",
        VerityRole::Signature => "signature",
    }
}

fn check_verity(draft: &Draft<'_>, format: Option<&FileSystem>) -> Result<(), String> {
    let Some(role) = draft.verity else {
        if draft.verity_key.is_some() {
            return Err("VerityMatchKey= can only be set if Verity= is not \"off\".".to_owned());
        }
        return Ok(());
    };
    let name = role_name(role);
    if draft.verity_key.is_none() {
        return Err(format!("VerityMatchKey= must be set if Verity={name}."));
    }
    if role == VerityRole::Data {
        return Ok(());
    }
    if format.is_some() || draft.definition.is_populated() {
        return Err(format!(
            "CopyFiles=/Format=/MakeDirectories=/MakeSymlinks= cannot be used with Verity={name}."
        ));
    }
    if draft.encrypt.is_some() {
        return Err("Encrypting verity hash/signature partitions is not supported.".to_owned());
    }
    let size = &draft.definition.size;
    if role == VerityRole::Signature && (size.min.is_some() || size.max.is_some()) {
        return Err(format!("SizeMinBytes=/SizeMaxBytes= cannot be used with Verity={name}."));
    }
    Ok(())
}

fn check_encryption(draft: &Draft<'_>) -> Result<(), String> {
    let text = match draft.encrypt {
        None if draft.has_integrity => "Integrity=inline requires Encrypt=.",
        Some(_) if draft.has_integrity && draft.discard == Some(true) => {
            "Integrity=inline is incompatible with Discard=yes."
        }
        _ => return Ok(()),
    };
    Err(text.to_owned())
}

/// What is said in vain.
fn tell_useless(draft: &Draft<'_>, path: &Path) {
    let tell = |what: &str| {
        log::warn!("{}:1: {what} has no effect with Encrypt=off.", path.display());
    };
    if draft.encrypt.is_none() && draft.discard == Some(true) {
        tell("Discard=yes");
    }
    if draft.encrypt.is_none() && draft.kdf.is_some() {
        tell("EncryptKDF=");
    }
}

fn check_rest(draft: &Draft<'_>) -> Result<(), String> {
    let definition = &draft.definition;
    if let Some(default) = &definition.default_subvolume
        && !definition.subvolumes.iter().any(|subvolume| subvolume.path == *default)
    {
        return Err("DefaultSubvolume= must be one of the paths in Subvolumes=.".to_owned());
    }
    let Some(target) = &definition.supplement_for else { return Ok(()) };
    if target.contains('/') || target.len() > 255 {
        return Err(format!("SupplementFor= is an invalid filename: {target}"));
    }
    if definition.copy_blocks.is_some() || draft.encrypt.is_some() || draft.verity.is_some() {
        let text = "SupplementFor= cannot be combined with CopyBlocks=/Encrypt=/Verity=";
        return Err(text.to_owned());
    }
    Ok(())
}
