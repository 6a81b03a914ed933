//! From the command line to what the core is asked for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ::slipway::error::{Error, Result};
use ::slipway::format::gpt::types::for_architecture;
use ::slipway::log::NOTICE;
use ::slipway::repart::model::{
    AppendFstab, Ddi, Device, ElTorito, Empty, Filter, ImageSize, Options, Seed,
};
use uuid::Uuid;

use super::args::Args;
use super::{keys, value};
use crate::cli::printable;

const ENOENT: i32 = 2;
/// What sizes of images are rounded up to.
const PAGE: u64 = 4096;

/// A path that does not depend on the working directory; an empty one stays.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|err| Error::because(format!("Failed to parse path '{}'", path.display()), err))
}

fn paths(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    // COMPAT(262): an empty path in a list does not count, nor does it clear the list.
    paths.iter().filter(|path| !path.as_os_str().is_empty()).map(|path| absolute(path)).collect()
}

fn path(path: Option<&PathBuf>) -> Result<Option<PathBuf>> {
    path.filter(|path| !path.as_os_str().is_empty()).map(|path| absolute(path)).transpose()
}

/// As definitions have them: of the architecture that `--architecture=` says.
fn types(args: &Args, lists: &[value::Types]) -> Vec<Uuid> {
    let of_architecture = |id: &Uuid| match &args.architecture {
        Some(arch) => for_architecture(*id, arch),
        None => *id,
    };
    lists.iter().flat_map(|list| list.0.iter().map(of_architecture)).collect()
}

/// What the arguments ask for, if they go together.
pub(super) fn of(args: &Args) -> Result<Options> {
    let size = size(args);
    let key = match &args.key_file {
        Some(path) => Some(keys::key_file(path)?),
        None => None,
    };
    let (ddi, empty) = check(args, size)?;
    let is_dry_run = match empty {
        _ if args.can_factory_reset => true,
        // COMPAT(262): a new file is written whatever --dry-run= says.
        Empty::Create => false,
        _ => args.dry_run.unwrap_or(true),
    };
    let private_key =
        keys::source(&args.private_key, &args.private_key_source, "private-key", "private key")?;
    let certificate = keys::source(
        &args.certificate,
        &args.certificate_source,
        "certificate",
        "X.509 certificate",
    )?;
    let is_random = ddi.is_some() && args.seed.is_none();
    Ok(Options {
        device: device(args)?,
        is_dry_run,
        empty,
        size: size.or(ddi.map(|_| ImageSize::Auto)),
        is_offline: args.offline.as_ref().and_then(|choice| choice.0),
        keeps_blocks: args.discard == Some(false),
        cow: args.cow.as_ref().and_then(|choice| choice.0),
        sector_size: args.sector_size,
        grain_size: args.grain_size,
        architecture: args.architecture.clone(),
        seed: if is_random { Seed::Random } else { args.seed.unwrap_or_default() },
        // Asking does not reset.
        factory_reset: args.factory_reset.filter(|_| !args.can_factory_reset),
        asks_factory_reset: args.can_factory_reset,
        is_root_found: false,
        definitions: paths(&args.definitions)?,
        splits: args.split == Some(true),
        filter: filter(args),
        defer: types(args, &args.defer_partitions),
        defers_empty: args.defer_partitions_empty == Some(true),
        defers_factory_reset: args.defer_partitions_factory_reset == Some(true),
        copy_source: path(args.copy_source.as_ref())?,
        copy_from: paths(&args.copy_from)?,
        ddi,
        key,
        private_key,
        certificate,
        join_signatures: args.join_signature.clone(),
        fstab: path(args.generate_fstab.as_ref())?,
        crypttab: path(args.generate_crypttab.as_ref())?,
        append_fstab: args.append_fstab.unwrap_or_default(),
        el_torito: (args.el_torito == Some(true)).then(|| ElTorito {
            system: args.el_torito_system.clone(),
            volume: args.el_torito_volume.clone(),
            publisher: args.el_torito_publisher.clone(),
        }),
    })
}

/// `--size=`, rounded.
fn size(args: &Args) -> Option<ImageSize> {
    match args.size? {
        value::Size::Auto => Some(ImageSize::Auto),
        value::Size::Bytes(bytes) => {
            let rounded = bytes.next_multiple_of(PAGE);
            if rounded != bytes {
                log::warn!(
                    "Specified size is not a multiple of {PAGE}, rounding up automatically. \
                     ({bytes} → {rounded})"
                );
            }
            Some(ImageSize::Bytes(rounded))
        }
    }
}

fn filter(args: &Args) -> Filter {
    if !args.include_partitions.is_empty() {
        Filter::Include(types(args, &args.include_partitions))
    } else if !args.exclude_partitions.is_empty() {
        Filter::Exclude(types(args, &args.exclude_partitions))
    } else {
        Filter::All
    }
}

/// What is partitioned: what was named, or the image that the tree is from.
fn device(args: &Args) -> Result<Device> {
    match named(args) {
        Some(device) => Ok(Device::Path(device.to_path_buf())),
        None if !args.devices.is_empty() => Ok(Device::None),
        None => match args.image() {
            Some(image) => Ok(Device::Path(absolute(image)?)),
            None => Ok(Device::Root),
        },
    }
}

/// The device, if there is one; nothing and `-` stand for none.
fn named(args: &Args) -> Option<&Path> {
    let device = args.devices.first()?;
    (device.as_os_str() != OsStr::new("-") && !device.as_os_str().is_empty())
        .then_some(device.as_path())
}

fn refuse(text: &str) -> Error {
    Error::new(text).with_errno(22)
}

/// Refuses what does not go together, in the order of the peer.
fn check(args: &Args, size: Option<ImageSize>) -> Result<(Option<Ddi>, Empty)> {
    if args.devices.len() > 1 {
        return Err(refuse(
            "Expected at most one argument, the path to the block device or image file.",
        ));
    }
    if !args.include_partitions.is_empty() && !args.exclude_partitions.is_empty() {
        return Err(refuse(
            "Combination of --include-partitions= and --exclude-partitions= is invalid.",
        ));
    }
    let given = args.empty.as_ref().and_then(|choice| choice.0);
    let ddi = check_ddi(args, given)?;
    let empty = given.unwrap_or(if ddi.is_some() { Empty::Create } else { Empty::Refuse });
    let size = size.or(ddi.map(|_| ImageSize::Auto));
    let is_new = matches!(empty, Empty::Force | Empty::Require | Empty::Create);
    let has_target = named(args).is_some() || args.devices.is_empty() && args.image().is_some();
    let text = if args.factory_reset == Some(true) && is_new {
        "Combination of --factory-reset=yes and --empty=force/--empty=require/--empty=create is \
         invalid."
    } else if args.has_root() && args.image().is_some() {
        "Please specify either --root= or --image=, the combination of both is not supported."
    } else if empty == Empty::Create && size.is_none() {
        "If --empty=create is specified, --size= must be specified, too."
    } else if is_new && !has_target {
        "A path to a device node or image file must be specified when --make-ddi=, \
         --empty=force, --empty=require or --empty=create are used."
    } else if args.split == Some(true) && named(args).is_none() {
        "A path to an image file must be specified when --split is used."
    } else if !args.join_signature.is_empty() && args.certificate.is_none() {
        "Verity signature specified without --certificate=."
    } else if path(args.generate_fstab.as_ref())?.is_none()
        && args.append_fstab.is_some_and(|mode| mode != AppendFstab::No)
    {
        let mode = if args.append_fstab == Some(AppendFstab::Auto) { "auto" } else { "replace" };
        return Err(refuse(&format!("No --generate-fstab= specified for --append-fstab={mode}.")));
    } else {
        return Ok((ddi, empty));
    };
    Err(refuse(text))
}

fn check_ddi(args: &Args, empty: Option<Empty>) -> Result<Option<Ddi>> {
    let Some(name) = &args.make_ddi else { return Ok(None) };
    if !args.definitions.is_empty() {
        return Err(refuse("Combination of --make-ddi= and --definitions= is not supported."));
    }
    if let Some(empty) = empty.filter(|empty| *empty != Empty::Create) {
        let empty = empty.name();
        return Err(refuse(&format!(
            "Combination of --make-ddi= and --empty={empty} is not supported."
        )));
    }
    if args.copy_source.as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
        return Err(refuse("No --copy-source= specified, refusing."));
    }
    if args.seed.is_none() {
        log::info!(
            target: NOTICE,
            "No seed value specified, randomizing generated UUIDs, resulting image will not be \
             reproducible."
        );
    }
    // DIFFERS: the peer also takes types that somebody installed definitions for.
    let known = [Ddi::Sysext, Ddi::Confext, Ddi::Portable].into_iter().find(|d| d.name() == name);
    match known {
        Some(ddi) => Ok(Some(ddi)),
        None => {
            let text = format!("DDI type '{}' is not defined", printable(name));
            Err(Error::errno_because(text, ENOENT))
        }
    }
}
