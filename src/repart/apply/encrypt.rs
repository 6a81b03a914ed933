//! Encrypted partitions: what opens them, and the disk inside of them.

use rustix::io::Errno;

use crate::ctx::Ctx;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::repart::model::{Definition, Options, PartitionPlan};

/// An encrypted volume that is ready to be written.
pub(super) struct Volume {
    #[cfg(feature = "luks")]
    prepared: crate::crypto::luks::Prepared,
}

fn unsupported(text: &str) -> Error {
    Error::new(text).with_errno(Errno::OPNOTSUPP.raw_os_error())
}

/// Draws the keys of a partition that is to be encrypted; none for others. Nothing is written.
///
/// # Errors
///
/// The key cannot be read; it is to be locked in a way that is not supported.
pub(super) fn prepare(
    ctx: &Ctx,
    partition: &PartitionPlan,
    definition: &Definition,
    options: &Options,
) -> Result<Option<Volume>> {
    let Some(encrypt) = &definition.encrypt else { return Ok(None) };
    if encrypt.has_tpm2 {
        return Err(unsupported("Encrypt=tpm2: locking volumes to a TPM is not supported.")
            .hint("Encrypt=key-file makes one to which systemd-cryptenroll can add the TPM"));
    }
    if encrypt.integrity.is_some() {
        return Err(unsupported(
            "Integrity=inline: this takes the device mapper, which is not used.",
        ));
    }
    let fixates = definition.encrypted_volume.as_ref().is_some_and(|v| v.fixates_volume_key);
    if fixates && options.crypttab.is_some() {
        return Err(unsupported("EncryptedVolume=: fixate-volume-key is not supported."));
    }
    make(ctx, partition, definition, options).map(Some)
}

#[cfg(not(feature = "luks"))]
fn make(_: &Ctx, _: &PartitionPlan, _: &Definition, _: &Options) -> Result<Volume> {
    Err(unsupported("Encrypt=: this program has been built without encryption."))
}

#[cfg(feature = "luks")]
fn make(
    ctx: &Ctx,
    partition: &PartitionPlan,
    definition: &Definition,
    options: &Options,
) -> Result<Volume> {
    use crate::crypto::luks::{Cost, Prepared, Volume as Wanted};
    use crate::crypto::{files, secret::Secret};
    use crate::error::Context as _;
    use crate::repart::model::Kdf;

    let encrypt = definition.encrypt.as_ref();
    let key_file = encrypt.and_then(|encrypt| encrypt.key_file.as_ref());
    let key = match (&options.key, key_file) {
        (Some(key), _) => Secret::from(key.clone()),
        (None, Some(path)) => files::read_key(path)
            .context(|| format!("Failed to read key file '{}'", path.display()))?,
        // COMPAT(262): an empty pass phrase is one that whoever boots first is to replace.
        (None, None) => Secret::default(),
    };
    if !partition.size.is_multiple_of(u64::from(partition.file_system_sector_size)) {
        return Err(Error::new(format!(
            "An encrypted partition of {} bytes is no whole number of sectors of {} bytes.",
            partition.size, partition.file_system_sector_size
        )));
    }
    let label = definition.volume_label.clone();
    let wanted = Wanted {
        uuid: partition.ids.luks,
        label: label.unwrap_or_else(|| derived_label(&partition.label)),
        sector_size: partition.file_system_sector_size,
        allows_discards: encrypt
            .and_then(|encrypt| encrypt.discard)
            .unwrap_or(!options.keeps_blocks),
        cost: match encrypt.and_then(|encrypt| encrypt.kdf) {
            None | Some(Kdf::Argon2id) => Cost::Argon2id,
            Some(Kdf::Pbkdf2) => Cost::Pbkdf2,
            Some(Kdf::Minimal) => Cost::Minimal,
        },
    };
    Ok(Volume { prepared: Prepared::new(ctx, &wanted, &key)? })
}

/// As much of the partition's label as there is room for.
#[cfg(feature = "luks")]
fn derived_label(label: &str) -> String {
    let mut label = format!("luks-{label}");
    while label.len() > crate::format::luks2::LABEL_MAX {
        label.pop();
    }
    label
}

impl Volume {
    /// Lets somebody write `len` bytes of the inside.
    ///
    /// # Errors
    ///
    /// That of `fill`; the partition is too small.
    #[cfg(feature = "luks")]
    pub(super) fn fill(
        &self,
        disk: &dyn Disk,
        len: u64,
        fill: &mut dyn FnMut(&dyn Disk) -> Result<()>,
    ) -> Result<()> {
        let data = crate::crypto::luks::data(disk, len)?;
        fill(&self.prepared.open(&data)?)
    }

    /// Never called: there are no volumes.
    #[cfg(not(feature = "luks"))]
    pub(super) fn fill(
        &self,
        disk: &dyn Disk,
        _: u64,
        fill: &mut dyn FnMut(&dyn Disk) -> Result<()>,
    ) -> Result<()> {
        fill(disk)
    }

    /// Writes the header.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub(super) fn write_header(&self, disk: &dyn Disk) -> Result<()> {
        #[cfg(feature = "luks")]
        self.prepared.write(disk)?;
        #[cfg(not(feature = "luks"))]
        let _ = disk;
        Ok(())
    }
}
