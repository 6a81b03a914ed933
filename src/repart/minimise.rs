//! `Minimize=`: what is as small as it can be is made first, to know how small that is, and then
//! copied like any other blocks.

use std::path::{Path, PathBuf};

use super::apply::{Observer, Phase, verity_params};
use super::contents;
use super::model::{Blocks, Definition, Minimize, Options, PartitionPlan, Plan, VerityRole};
use crate::crypto::verity;
use crate::ctx::Ctx;
use crate::disk::{Access, Disk as _, FileDisk, Window};
use crate::error::{Context as _, Error, Result};
use crate::fs::undo::Undo;
use crate::mkfs;
use crate::out::human;

/// What was made, in temporary files that go with this.
#[derive(Debug, Default)]
pub struct Minimised {
    /// Positions in the plan, and what is to be copied there.
    pub blocks: Vec<(usize, Blocks)>,
    file_systems: Vec<mkfs::Minimal>,
    hash_trees: Vec<Temporary>,
}

/// A file that is removed with this.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    _undo: Undo,
}

/// Makes the contents of all new partitions that are to be as small as they can be. Of the plan,
/// identities and sources must be known; sizes need not be.
///
/// # Errors
///
/// A file system or hash tree cannot be made, or is larger than its partition may be.
pub fn minimise(
    ctx: &Ctx,
    plan: &Plan,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Minimised> {
    let mut made = Minimised::default();
    let wanted = |partition: &PartitionPlan, is_hash: bool| {
        let is_new = partition.existing.is_none() && !partition.is_deferred;
        partition.definition.clone().filter(|definition| {
            is_new
                && definition.minimize != Minimize::Off
                && definition.is_verity(VerityRole::Hash) == is_hash
                // What is left empty is as small as its kind allows anyway.
                && (is_hash || definition.is_populated() || !partition.files.is_empty())
        })
    };
    let any = |is_hash| plan.partitions.iter().any(|p| wanted(p, is_hash).is_some());
    if any(false) || any(true) {
        observer.phase(Phase::Minimizing, None, None);
    }
    for (index, partition) in plan.partitions.iter().enumerate() {
        if let Some(definition) = wanted(partition, false) {
            file_system(ctx, plan, index, &definition, options, &mut made)?;
        }
    }
    // Not before the data they protect is there.
    for (index, partition) in plan.partitions.iter().enumerate() {
        if let Some(definition) = wanted(partition, true) {
            hash_tree(ctx, plan, index, &definition, &mut made)?;
        }
    }
    Ok(made)
}

/// What messages call a definition.
fn shown(definition: &Definition) -> String {
    let name = definition.path().file_name();
    name.map_or_else(|| definition.name.clone(), |name| name.to_string_lossy().into_owned())
}

fn file_system(
    ctx: &Ctx,
    plan: &Plan,
    index: usize,
    definition: &Definition,
    options: &Options,
    made: &mut Minimised,
) -> Result<()> {
    let spec = contents::spec(ctx, plan, index, options)?;
    mkfs::check(ctx, &spec)?;
    let (kind, name) = (&spec.file_system, shown(definition));
    log::info!(
        "Pre-populating {kind} filesystem of partition {name} to calculate minimal partition size"
    );
    let minimal = mkfs::make_minimal(ctx, &spec)?;
    let size = human::size(minimal.size);
    if let Some(max) = definition.size.max
        && minimal.size > max
    {
        return Err(Error::new(format!(
            "Minimal partition size of {kind} filesystem of partition {name} exceeds \
                 configured maximum size ({size} > {})",
            human::size(max)
        ))
        .with_errno(rustix::io::Errno::TOOBIG.raw_os_error()));
    }
    log::info!("Minimal partition size of {kind} filesystem of partition {name} is {size}");
    made.blocks.push((index, blocks(minimal.path(), minimal.size, None)));
    made.file_systems.push(minimal);
    Ok(())
}

fn blocks(path: &Path, len: u64, root_hash: Option<[u8; 32]>) -> Blocks {
    Blocks { path: path.to_path_buf(), offset: 0, len: Some(len), is_temporary: true, root_hash }
}

fn hash_tree(
    ctx: &Ctx,
    plan: &Plan,
    index: usize,
    definition: &Definition,
    made: &mut Minimised,
) -> Result<()> {
    let name = shown(definition);
    log::info!(
        "Pre-populating verity hash data of partition {name} to calculate minimal partition size"
    );
    let failed = || format!("Failed to setup verity hash data of partition {name}");
    let (data, len) = data_of(plan, index, made)
        .ok_or_else(|| Error::new(format!("{}: there is no data of known size.", failed())))?;
    let source = FileDisk::open(&data.path, Access::Read).context(failed)?;
    let window = Window::new(&source, data.offset, len).context(failed)?;
    let params = verity_params(plan, index, len)?;
    let size = params.geometry.hash_size().context(failed)?;
    let file = temporary(ctx, size).context(failed)?;
    let tree = FileDisk::open(&file.path, Access::Write).context(failed)?;
    let root = verity::build(&window, &tree, &params, &|_| {}).context(failed)?;
    tree.sync().context(failed)?;
    let text = human::size(size);
    log::info!("Minimal partition size of verity hash partition {name} is {text}");
    made.blocks.push((index, blocks(&file.path, size, Some(root))));
    made.hash_trees.push(file);
    Ok(())
}

/// The blocks that a hash partition protects, and how many bytes they are.
fn data_of(plan: &Plan, index: usize, made: &Minimised) -> Option<(Blocks, u64)> {
    let data = plan.partitions.get(index)?.siblings.data?;
    let minimised = made.blocks.iter().find(|(at, _)| *at == data).map(|(_, blocks)| blocks);
    let blocks = minimised.or(plan.partitions.get(data)?.blocks.as_ref())?;
    Some((blocks.clone(), blocks.len?))
}

fn temporary(ctx: &Ctx, size: u64) -> std::io::Result<Temporary> {
    let name = format!(".#repart{:016x}", u64::from_ne_bytes(ctx.random()));
    let dir = ctx.env_os("TMPDIR").map(Path::new).filter(|dir| dir.is_absolute() && dir.is_dir());
    let path = dir.unwrap_or(Path::new("/var/tmp")).join(name);
    let file = std::fs::File::create_new(&path)?;
    let undo = Undo::remove(path.clone());
    let temporary = Temporary { path, _undo: undo };
    file.set_len(size)?;
    Ok(temporary)
}
