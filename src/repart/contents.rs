//! What goes into a partition's file system: from the plan to what [`mkfs`] is asked for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::model::{Definition, FileLists, Options, PartitionPlan, Plan, Siblings};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::format::gpt::types;
use crate::mkfs::{self, tree};

/// The file system of a partition of the plan.
///
/// # Errors
///
/// Where it has none; where sources cannot be looked at.
pub fn spec(ctx: &Ctx, plan: &Plan, index: usize, options: &Options) -> Result<mkfs::Spec> {
    let partition = plan.partitions.get(index);
    let found = partition.and_then(|partition| Some((partition, partition.definition.as_ref()?)));
    let Some((partition, definition)) = found else {
        return Err(Error::new(format!("Partition {index} is made from no definition.")));
    };
    let Some(format) = &definition.format else {
        return Err(Error::new(format!("Partition '{}' has no file system.", definition.name)));
    };
    let tree = if is_populated(definition, &partition.files) {
        Some(tree::Tree::plan(request(ctx, plan, partition, definition, options)?)?)
    } else {
        None
    };
    let subvolumes = definition.subvolumes.iter().map(|subvolume| mkfs::Subvolume {
        path: subvolume.path.clone(),
        is_read_only: subvolume.is_read_only,
        is_no_data_cow: subvolume.is_no_data_cow,
    });
    let compression = definition.compression.as_ref().map(|algorithm| mkfs::Compression {
        algorithm: algorithm.clone(),
        level: definition.compression_level.clone(),
    });
    Ok(mkfs::Spec {
        file_system: format.name().to_owned(),
        label: partition.label.clone(),
        uuid: partition.ids.file_system,
        sector_size: partition.file_system_sector_size,
        discards: !options.keeps_blocks,
        compression,
        subvolumes: subvolumes.collect(),
        default_subvolume: definition.default_subvolume.clone(),
        tree,
        is_offline: options.is_offline,
    })
}

/// True if files or attributes are put in.
fn is_populated(definition: &Definition, files: &FileLists) -> bool {
    !files.is_empty() || definition.adds_validate_fs || !definition.subvolumes.is_empty()
}

fn request(
    ctx: &Ctx,
    plan: &Plan,
    partition: &PartitionPlan,
    definition: &Definition,
    options: &Options,
) -> Result<tree::Request> {
    let root = options.copy_source.clone().unwrap_or_else(|| ctx.root().to_path_buf());
    let files = &partition.files;
    let subvolumes = definition.subvolumes.iter().map(|subvolume| subvolume.path.clone());
    let copies = files.copy.iter().map(|copy| tree::Copy {
        source: copy.source.clone(),
        target: copy.target.clone(),
        copies_fsverity: copy.copies_fsverity,
    });
    Ok(tree::Request {
        root: std::path::absolute(&root).map_err(|err| {
            Error::because(format!("Failed to make path '{}' absolute", root.display()), err)
        })?,
        copies: copies.collect(),
        exclude_sources: files.exclude_sources.clone(),
        exclude_targets: files.exclude_targets.clone(),
        is_root: is_root(partition.type_uuid),
        mount_points: other_mount_points(plan, partition.type_uuid),
        directories: subvolumes.chain(files.make_directories.iter().cloned()).collect(),
        symlinks: files.make_symlinks.clone(),
        root_xattrs: root_xattrs(plan, partition, definition),
        epoch: epoch(ctx)?,
    })
}

/// Where the file systems of the other partitions are going to be mounted, for a root file system.
fn other_mount_points(plan: &Plan, type_uuid: Uuid) -> Vec<PathBuf> {
    if !is_root(type_uuid) {
        return Vec::new();
    }
    let others = plan.partitions.iter().filter(|other| !is_root(other.type_uuid));
    others.flat_map(|other| types::mount_points(other.type_uuid)).map(PathBuf::from).collect()
}

fn is_root(type_uuid: Uuid) -> bool {
    types::designator(type_uuid) == types::Designator::System
        && types::name(type_uuid).is_some_and(|name| name.starts_with("root"))
}

/// What lets systemd-validatefs@.service see that a file system is where it belongs: lists, each
/// item with a NUL behind it. A Verity set is found through any of its partitions, so all of them
/// are in the lists; configured mount points stand instead of the usual ones.
fn root_xattrs(
    plan: &Plan,
    partition: &PartitionPlan,
    definition: &Definition,
) -> BTreeMap<OsString, Vec<u8>> {
    let mut xattrs = BTreeMap::new();
    if !definition.adds_validate_fs {
        return xattrs;
    }
    let mut set = |name: &str, items: &[String]| {
        let value = items.iter().flat_map(|item| [item.as_bytes(), b"\0"]).flatten().copied();
        xattrs.insert(OsString::from(format!("user.validatefs.{name}")), value.collect());
    };
    let Siblings { data, hash, signature } = partition.siblings;
    let others = [data, hash, signature].into_iter().flatten();
    let others = others.filter_map(|index| plan.partitions.get(index));
    let set_members: Vec<&PartitionPlan> = std::iter::once(partition).chain(others).collect();
    let sorted = |item: &dyn Fn(&PartitionPlan) -> String| {
        let mut items: Vec<String> = set_members.iter().map(|member| item(member)).collect();
        items.sort_unstable();
        items.dedup();
        items
    };
    set("gpt_label", &sorted(&|member| member.label.clone()));
    set("gpt_type_uuid", &sorted(&|member| member.type_uuid.to_string()));
    let configured = definition.mount_points.iter();
    let mut places: Vec<String> =
        configured.map(|mount| mount.place.display().to_string()).collect();
    if places.is_empty() {
        let usual = types::mount_points(partition.type_uuid);
        places = usual.iter().map(|place| (*place).to_owned()).collect();
    }
    if !places.is_empty() {
        set("mount_point", &places);
    }
    xattrs
}

/// `$SOURCE_DATE_EPOCH`.
fn epoch(ctx: &Ctx) -> Result<Option<SystemTime>> {
    let Some(text) = ctx.env("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds: u64 = text.parse().map_err(|_| {
        Error::new(format!("Failed to parse $SOURCE_DATE_EPOCH: '{text}' is no number of seconds"))
    })?;
    Ok(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
}
