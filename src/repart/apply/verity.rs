//! Hash trees and signatures of root hashes, between their data and the table.

use std::cell::Cell;
use std::path::PathBuf;

use uuid::Uuid;

use super::{Applied, Job, Medium, number};
use crate::crypto::cms::{self, Certificate};
use crate::crypto::text::hex;
use crate::crypto::verity;
use crate::disk::Window;
use crate::error::{Context as _, Error, Result};
use crate::format::bytes;
use crate::format::verity::{Geometry, Superblock};
use crate::repart::model::{KeySource, Options, PartitionPlan, Plan};

/// Parameters of the tree in the hash partition at this position, for so many bytes of data.
///
/// # Errors
///
/// It is no hash partition, or the data is no whole number of blocks.
pub fn params(plan: &Plan, index: usize, data_bytes: u64) -> Result<Superblock> {
    let partition = plan.partitions.get(index);
    let found = partition.and_then(|p| Some((p, p.definition.as_ref()?.verity.as_ref()?)));
    let Some((partition, verity)) = found else {
        return Err(Error::new("There is no definition of a hash partition."));
    };
    let block = |wanted: Option<u32>| wanted.unwrap_or(partition.file_system_sector_size);
    let data_block_size = block(verity.data_block_size);
    if !data_bytes.is_multiple_of(u64::from(data_block_size)) {
        return Err(Error::new(format!(
            "Verity data of {data_bytes} bytes is no whole number of blocks of {data_block_size} \
             bytes."
        )));
    }
    Ok(Superblock {
        uuid: partition.ids.verity.into_bytes(),
        salt: partition.ids.verity_salt.to_vec(),
        geometry: Geometry {
            data_block_size,
            hash_block_size: block(verity.hash_block_size),
            data_blocks: data_bytes / u64::from(data_block_size),
        },
    })
}

/// Sees that there is something to protect and that the tree over it fits.
pub(super) fn check_hash(plan: &Plan, index: usize) -> Result<()> {
    let Some(partition) = plan.partitions.get(index) else { return Ok(()) };
    let data = data_of(plan, partition)?;
    let needed = params(plan, index, data.size)?.geometry.hash_size();
    let needed = needed.context(|| "Failed to size the hash tree".to_owned())?;
    if needed > partition.size { Err(does_not_fit(partition)) } else { Ok(()) }
}

/// What root hashes are signed with, or signatures that were made elsewhere.
pub(super) struct Signing {
    certificate: Certificate,
    #[cfg(feature = "verity-sign")]
    signer: Option<crate::crypto::cms::Signer>,
}

impl Signing {
    /// Reads certificate and key, and sees that there will be a root hash to sign.
    ///
    /// # Errors
    ///
    /// One of them is missing, or of a kind that is not supported.
    pub(super) fn prepare(
        plan: &Plan,
        medium: &Medium<'_>,
        index: usize,
        options: &Options,
    ) -> Result<Self> {
        let Some(path) = file_of(options.certificate.as_ref(), "certificate")? else {
            return Err(Error::new(
                "Verity signature partition signing requested but no PEM certificate provided \
                 (--certificate=).",
            ));
        };
        let partition = plan.partitions.get(index);
        let hash = partition.and_then(|p| plan.partitions.get(p.siblings.hash?));
        if !hash.is_some_and(PartitionPlan::is_made) {
            check_existing(plan, medium, index)?;
        }
        let certificate = Certificate::load(&path)?;
        let key = file_of(options.private_key.as_ref(), "private key")?;
        if key.is_none() && options.join_signatures.is_empty() {
            return Err(Error::new(
                "Verity signature partition signing requested but no private key provided \
                 (--private-key=).",
            ));
        }
        #[cfg(feature = "verity-sign")]
        return Ok(Self {
            signer: match key {
                Some(key) => Some(crate::crypto::cms::Signer::load(certificate.clone(), &key)?),
                None => None,
            },
            certificate,
        });
        #[cfg(not(feature = "verity-sign"))]
        if key.is_some() {
            Err(Error::new("This program cannot sign root hashes; --join-signature= can be used.")
                .with_errno(rustix::io::Errno::OPNOTSUPP.raw_os_error()))
        } else {
            Ok(Self { certificate })
        }
    }

    /// What goes into the signature partition.
    ///
    /// # Errors
    ///
    /// There is neither a key nor a signature for this root hash; the signature is too long.
    pub(super) fn area(&self, root_hash: &[u8], options: &Options) -> Result<Vec<u8>> {
        let joined = options.join_signatures.iter().find(|joined| joined.root_hash == root_hash);
        let signature = match joined {
            Some(joined) => joined.signature.clone(),
            None => self.sign(root_hash)?,
        };
        cms::signature_area(root_hash, &self.certificate, &signature)
    }

    #[cfg(feature = "verity-sign")]
    fn sign(&self, root_hash: &[u8]) -> Result<Vec<u8>> {
        match &self.signer {
            Some(signer) => signer.sign(hex(root_hash).as_bytes()),
            None => Err(no_signature(root_hash)),
        }
    }

    #[cfg(not(feature = "verity-sign"))]
    fn sign(&self, root_hash: &[u8]) -> Result<Vec<u8>> {
        Err(no_signature(root_hash))
    }
}

/// The root hash of a set whose signature is at this position and whose other members were there
/// before: it is what they are called by.
///
/// DIFFERS: the peer leaves such a signature partition empty, unless the signature is joined.
pub(super) fn existing_root(plan: &Plan, signature: usize) -> Option<Vec<u8>> {
    let siblings = plan.partitions.get(signature)?.siblings;
    let uuid = |sibling: Option<usize>| {
        Some(plan.partitions.get(sibling?)?.existing.as_ref()?.uuid.into_bytes())
    };
    Some([uuid(siblings.data)?, uuid(siblings.hash)?].concat())
}

/// Sees that an existing set is called by its root hash. Of the tree only the top is read: whether
/// the data is intact is for whoever opens it.
fn check_existing(plan: &Plan, medium: &Medium<'_>, signature: usize) -> Result<()> {
    let refuse = |why: &str| {
        Error::new(format!(
            "The root hash of the Verity partitions that are there already is not known, so it \
             cannot be signed: {why}"
        ))
    };
    let siblings = plan.partitions.get(signature).map(|p| p.siblings).unwrap_or_default();
    let part = |sibling: Option<usize>| plan.partitions.get(sibling?);
    let (Some(data), Some(hash)) = (part(siblings.data), part(siblings.hash)) else {
        return Err(refuse("they are no complete set"));
    };
    let Some(named) = existing_root(plan, signature) else {
        return Err(refuse("only one of them is new"));
    };
    let failed = || "Failed to read Verity partitions".to_owned();
    let data = Window::new(medium.disk, data.offset, data.old_size).context(failed)?;
    let hash = Window::new(medium.disk, hash.offset, hash.old_size).context(failed)?;
    if verity::root(&data, &hash)?[..] == named[..] {
        Ok(())
    } else {
        Err(refuse("their UUIDs are not its halves"))
    }
}

fn no_signature(root_hash: &[u8]) -> Error {
    Error::new(format!("There is no signature for root hash {}.", hex(root_hash)))
        .hint("--join-signature= takes one, --private-key= makes one")
}

/// The file that a key or certificate is in.
fn file_of(source: Option<&KeySource>, what: &str) -> Result<Option<PathBuf>> {
    match source {
        None => Ok(None),
        Some(source) if source.kind == "file" => Ok(Some(PathBuf::from(&source.path))),
        Some(source) => Err(Error::new(format!(
            "The {what} is to come from '{}', which is not supported; only files are.",
            source.kind
        ))
        .with_errno(rustix::io::Errno::OPNOTSUPP.raw_os_error())),
    }
}

fn does_not_fit(partition: &PartitionPlan) -> Error {
    let size = crate::out::human::size(partition.size);
    Error::new(format!(
        "Verity hash data does not fit in partition {} with size {size}",
        number(partition)
    ))
    .with_errno(rustix::io::Errno::NOSPC.raw_os_error())
}

fn data_of<'a>(plan: &'a Plan, hash: &PartitionPlan) -> Result<&'a PartitionPlan> {
    let data = hash.siblings.data.and_then(|data| plan.partitions.get(data));
    match data {
        Some(data) if data.existing.is_some() || data.is_made() => Ok(data),
        _ => Err(Error::new(format!(
            "Partition {} is to protect a partition that is not there.",
            number(hash)
        ))),
    }
}

/// Hashes the data and writes the tree into the hash partition at this position.
pub(super) fn hash(job: &Job<'_>, index: usize) -> Result<[u8; 32]> {
    let Some(partition) = job.plan.partitions.get(index) else {
        return Err(Error::new("There is no such partition."));
    };
    let data = data_of(job.plan, partition)?;
    log::info!("Calculating Verity protection data for future partition {}...", number(partition));
    let failed = || format!("Failed to setup verity hash data of partition {}", number(partition));
    let from = Window::new(job.disk(), data.offset, data.size).context(failed)?;
    let to = Window::new(job.disk(), partition.offset, partition.size).context(failed)?;
    let progress = job.observer.progress();
    progress.phase(&format!("Hashing partition {}", number(data)), Some(data.size));
    // We are told how much is done, and tell how much more.
    let told = Cell::new(0);
    let tell = |done: u64| progress.advance(done.saturating_sub(told.replace(done)));
    verity::build(&from, &to, &params(job.plan, index, data.size)?, &tell).context(failed)
}

/// Tells everybody of a Verity set its root hash, and gives the data and the hash tree the UUIDs
/// that they are found by: the first and the last half of it.
pub(super) fn spread(plan: &Plan, index: usize, hash: &[u8; 32], applied: &mut Applied) {
    let Some(partition) = plan.partitions.get(index) else { return };
    let siblings = partition.siblings;
    let half = |offset| bytes::array(hash, offset).map(Uuid::from_bytes).unwrap_or_default();
    let uuids = [(siblings.data, Some(half(0))), (Some(index), Some(half(16)))];
    for (member, uuid) in uuids.into_iter().chain([(siblings.signature, None)]) {
        let Some(member) = member else { continue };
        let planned = plan.partitions.get(member);
        let Some((planned, made)) = planned.zip(applied.partitions.get_mut(member)) else {
            continue;
        };
        made.root_hash = Some(hash.to_vec());
        let is_wanted = planned.definition.as_ref().is_some_and(|d| d.uuid.is_some());
        if let Some(uuid) = uuid
            && made.uuid.is_nil()
            && !is_wanted
            && planned.existing.is_none()
        {
            made.uuid = uuid;
        }
    }
}
