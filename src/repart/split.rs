//! `--split=`: each partition as a file of its own beside the image.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::apply::{Applied, Made};
use super::definitions::split_name::{Identity, expand};
use super::model::{PartitionPlan, Plan, VerityRole};
use crate::ctx::Ctx;
use crate::disk::copy::{self, Source};
use crate::disk::{Access, Disk, FileDisk};
use crate::error::{Context as _, Error, Result};

/// LIMIT: bytes in memory at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Name of a partition's file; none where it has none. Only the name: it is beside the image.
fn name(ctx: &Ctx, plan: &Plan, partition: &PartitionPlan, uuid: Uuid) -> Result<Option<String>> {
    let Some(definition) = &partition.definition else { return Ok(None) };
    let Some(pattern) = &definition.split_name else { return Ok(None) };
    let identity = Identity { type_uuid: partition.type_uuid, uuid, number: partition.number };
    let expanded = expand(ctx, pattern, &identity)
        .context(|| format!("Failed to resolve SplitName= of '{}'", definition.name))?;
    if expanded.is_empty() || expanded.contains('/') {
        return Err(Error::new(format!(
            "'{expanded}' is not a valid name of a split file, refusing."
        )));
    }
    let image = plan.disk.path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(match image.strip_suffix(".raw") {
        Some(stem) => format!("{stem}.{expanded}.raw"),
        None => format!("{image}.{expanded}"),
    }))
}

/// The files' paths, for each partition of the plan; none for those that get no file. Those of
/// Verity sets may depend on what has come out of the run.
///
/// # Errors
///
/// Two are the same; a name cannot be resolved.
pub fn paths(ctx: &Ctx, plan: &Plan, applied: &Applied) -> Result<Vec<Option<PathBuf>>> {
    let mut paths = Vec::with_capacity(plan.partitions.len());
    let mut seen: Vec<(PathBuf, &PartitionPlan)> = Vec::new();
    for (index, partition) in plan.partitions.iter().enumerate() {
        let uuid = applied.partitions.get(index).map_or(partition.uuid, |made| made.uuid);
        let Some(name) = name(ctx, plan, partition, uuid)? else {
            paths.push(None);
            continue;
        };
        let path = plan.disk.path.with_file_name(&name);
        if let Some((_, other)) = seen.iter().find(|(other, _)| *other == path) {
            return Err(Error::new(format!(
                "{} and {} have the same resolved split name \"{}\", refusing.",
                shown(other),
                shown(partition),
                path.display()
            ))
            .with_errno(rustix::io::Errno::NOTUNIQ.raw_os_error()));
        }
        paths.push(Some(path.clone()));
        seen.push((path, partition));
    }
    Ok(paths)
}

fn shown(partition: &PartitionPlan) -> String {
    match &partition.definition {
        Some(definition) => definition.path().display().to_string(),
        None => partition.label.clone(),
    }
}

/// Finds out before anything is written whether the files can be made: as [`paths`], and none of
/// them is there already.
///
/// DIFFERS: the peer finds clashes only after it has written the disk.
///
/// # Errors
///
/// As [`paths`]; `EEXIST`.
pub fn check(ctx: &Ctx, plan: &Plan) -> Result<()> {
    let mut planned = Applied::planned(plan);
    for (partition, made) in plan.partitions.iter().zip(&mut planned.partitions) {
        let is_open = made.uuid.is_nil()
            && partition.definition.as_ref().is_some_and(|definition| {
                definition.is_verity(VerityRole::Data) || definition.is_verity(VerityRole::Hash)
            });
        if is_open {
            // Any will do that no other partition has.
            *made = Made {
                uuid: uuid::Builder::from_random_bytes(ctx.random()).into_uuid(),
                ..Made::default()
            };
        }
    }
    for path in paths(ctx, plan, &planned)?.into_iter().flatten() {
        if path.symlink_metadata().is_ok() {
            return Err(exists(&path));
        }
    }
    Ok(())
}

fn exists(path: &Path) -> Error {
    Error::errno_because(
        format!("Failed to open split partition file {}", path.display()),
        rustix::io::Errno::EXIST.raw_os_error(),
    )
}

/// Writes the files. If one cannot be written, none is left.
///
/// # Errors
///
/// As [`paths`]; a file is there already; the disk cannot be read or a file not be written.
pub fn write(ctx: &Ctx, plan: &Plan, applied: &Applied, disk: &dyn Disk) -> Result<()> {
    let paths = paths(ctx, plan, applied)?;
    let mut made: Vec<&Path> = Vec::new();
    let parts = plan.partitions.iter().zip(&paths);
    // What is only room has nothing to show.
    let parts = parts.filter(|(partition, _)| !partition.is_deferred);
    for (partition, path) in parts {
        let Some(path) = path else { continue };
        if let Err(err) = write_one(disk, partition, path, &mut made) {
            made.iter().for_each(|path| drop(std::fs::remove_file(path)));
            return Err(err);
        }
    }
    Ok(())
}

fn write_one<'a>(
    disk: &dyn Disk,
    partition: &PartitionPlan,
    path: &'a Path,
    made: &mut Vec<&'a Path>,
) -> Result<()> {
    let shown = path.display();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .context(|| format!("Failed to open split partition file {shown}"))?;
    made.push(path);
    let failed = || format!("Failed to copy to split partition {shown}");
    file.set_len(partition.size).context(failed)?;
    match disk.place().and_then(|(source, start)| Some((File::open(source).ok()?, start))) {
        Some((source, start)) => {
            let target = FileDisk::open(path, Access::Write).context(failed)?;
            let what =
                Source { file: &source, offset: start + partition.offset, len: partition.size };
            copy::copy(what, &target, 0, true, &mut |_| {}).context(failed)
        }
        None => through_memory(disk, partition, &file).context(failed),
    }
}

fn through_memory(disk: &dyn Disk, partition: &PartitionPlan, file: &File) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    while done < partition.size {
        let len = usize::try_from(partition.size - done).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let bytes = buffer.get_mut(..len).unwrap_or_default();
        disk.read_at(partition.offset + done, bytes)?;
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(bytes, done)?;
        }
        done += len as u64;
    }
    (&*file).flush()
}
