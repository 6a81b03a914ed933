//! One `*.conf` with its drop-ins: from keys to a [`Definition`].

use std::path::PathBuf;

use uuid::Uuid;

use super::{check, lists, values};
use crate::conf::ini::{self, Key};
use crate::conf::search::Found;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::repart::model::{
    Bounds, Definition, Encrypt, FileLists, FileSystem, Kdf, Minimize, Options, Origin, Verity,
    VerityRole,
};

const EINVAL: i32 = 22;

/// What a file says so far. What depends on several keys is kept apart until the end.
pub(super) struct Draft<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) options: &'a Options,
    pub(super) definition: Definition,
    /// `Format=`, `empty` included.
    pub(super) format: Option<String>,
    /// `Encrypt=`: by key file, by TPM.
    pub(super) encrypt: Option<(bool, bool)>,
    pub(super) kdf: Option<Kdf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) discard: Option<bool>,
    pub(super) tpm2_pcrs: Option<String>,
    pub(super) has_integrity: bool,
    pub(super) integrity_algorithm: &'static str,
    pub(super) verity: Option<VerityRole>,
    pub(super) verity_key: Option<String>,
    pub(super) data_block_size: Option<u32>,
    pub(super) hash_block_size: Option<u32>,
    pub(super) adds_validate_fs: Option<bool>,
    /// The cause of a refusal has been told already.
    pub(super) is_told: bool,
}

/// A definition that says nothing.
pub(super) fn blank() -> Definition {
    Definition {
        name: String::new(),
        origin: Origin::File { path: PathBuf::new(), drop_ins: Vec::new() },
        type_uuid: Uuid::nil(),
        label: None,
        volume_label: None,
        volume_name: None,
        uuid: None,
        priority: 0,
        size: Bounds { min: None, max: None, weight: 1000 },
        padding: Bounds::default(),
        copy_blocks: None,
        format: None,
        is_placeholder: false,
        files: FileLists::default(),
        subvolumes: Vec::new(),
        default_subvolume: None,
        block_device_replace: None,
        encrypt: None,
        verity: None,
        is_factory_reset: false,
        flags: 0,
        no_auto: None,
        read_only: None,
        grow_file_system: None,
        split_name: Some("%t".to_owned()),
        minimize: Minimize::Off,
        mount_points: Vec::new(),
        encrypted_volume: None,
        compression: None,
        compression_level: None,
        supplement_for: None,
        adds_validate_fs: false,
        file_system_sector_size: None,
    }
}

/// Where the text of a definition is.
pub(super) enum Text<'a> {
    /// In a file and its drop-ins.
    Files(&'a [Found]),
    /// In this program.
    Built(&'a str),
}

/// Reads one definition. None if the options leave out its type.
pub(super) fn load(
    ctx: &Ctx,
    options: &Options,
    file: &Found,
    text: &Text<'_>,
) -> Result<Option<Definition>> {
    let mut draft = Draft {
        ctx,
        options,
        definition: blank(),
        format: None,
        encrypt: None,
        kdf: None,
        key_file: None,
        discard: None,
        tpm2_pcrs: None,
        has_integrity: false,
        integrity_algorithm: "hmac-sha256",
        verity: None,
        verity_key: None,
        data_block_size: None,
        hash_block_size: None,
        adds_validate_fs: None,
        is_told: false,
    };
    draft.definition.name = file.name.strip_suffix(".conf").unwrap_or(&file.name).to_owned();
    let mut drop_ins = Vec::new();
    let result = match text {
        Text::Files(files) => {
            drop_ins.extend(files.iter().skip(1).map(|file| file.path.clone()));
            ini::load(&mut draft, files, &keys())
        }
        Text::Built(text) => ini::parse(&file.path, text.as_bytes(), &keys(), &mut draft),
    };
    result.map_err(|err| whole_file(err, draft.is_told))?;
    draft.definition.origin = Origin::File { path: file.path.clone(), drop_ins };
    if !options.filter.wants(draft.definition.type_uuid) {
        return Ok(None);
    }
    check::finish(draft, &file.path).map(Some)
}

/// The peer tells what is wrong, and then that this was the end of the file.
fn whole_file(err: Error, is_told: bool) -> Error {
    let Some((path, line)) = err.place().filter(|_| !is_told) else { return err };
    log::error!("{err}");
    Error::errno_because("Failed to parse file", err.errno().unwrap_or(EINVAL)).at(path, line)
}

impl Draft<'_> {
    /// A refusal whose cause is not the line itself; told at once, as the peer does.
    pub(super) fn refuse(&mut self, line: &ini::Line<'_>, cause: &Error) -> Error {
        log::error!("{cause}");
        self.is_told = true;
        Error::errno_because("Failed to parse file", cause.errno().unwrap_or(EINVAL))
            .at(line.file, line.line)
    }

    /// Puts together what several keys say.
    pub(super) fn into_definition(self, format: Option<FileSystem>) -> Definition {
        let mut definition = self.definition;
        definition.format = format;
        definition.encrypt = self.encrypt.map(|(has_key_file, has_tpm2)| Encrypt {
            has_key_file,
            has_tpm2,
            kdf: self.kdf,
            key_file: self.key_file,
            discard: self.discard,
            tpm2_pcrs: self.tpm2_pcrs,
            integrity: self.has_integrity.then(|| self.integrity_algorithm.to_owned()),
        });
        definition.verity = self.verity.map(|role| Verity {
            role,
            key: self.verity_key.unwrap_or_default(),
            data_block_size: self.data_block_size,
            hash_block_size: self.hash_block_size,
        });
        definition
    }
}

const fn key<'a>(
    name: &'static str,
    set: fn(&mut Draft<'a>, &ini::Line<'_>) -> Result<()>,
) -> Key<Draft<'a>> {
    Key::new("Partition", name, set)
}

fn keys<'a>() -> [Key<Draft<'a>>; 47] {
    use values as v;
    [
        key("Type", v::partition_type),
        key("Label", |d, l| v::label(d.ctx, &mut d.definition.label, l)),
        key("VolumeLabel", |d, l| v::label(d.ctx, &mut d.definition.volume_label, l)),
        key("VolumeName", |d, l| v::word(&mut d.definition.volume_name, l)),
        key("UUID", |d, l| v::uuid(&mut d.definition.uuid, l)),
        key("Priority", |d, l| v::set(&mut d.definition.priority, l.parse(v::signed))),
        key("Weight", |d, l| v::weight(&mut d.definition.size.weight, l)),
        key("PaddingWeight", |d, l| v::weight(&mut d.definition.padding.weight, l)),
        key("SizeMinBytes", |d, l| v::size_up(&mut d.definition.size.min, l)),
        key("SizeMaxBytes", |d, l| v::size_down(&mut d.definition.size.max, l)),
        key("PaddingMinBytes", |d, l| v::size_up(&mut d.definition.padding.min, l)),
        key("PaddingMaxBytes", |d, l| v::size_down(&mut d.definition.padding.max, l)),
        key("FactoryReset", |d, l| v::boolean(&mut d.definition.is_factory_reset, l)),
        key("CopyBlocks", v::copy_blocks),
        key("Format", v::format),
        key("CopyFiles", lists::copy_files),
        key("ExcludeFiles", |d, l| {
            lists::exclude(d.ctx, &mut d.definition.files.exclude_sources, l)
        }),
        key("ExcludeFilesTarget", |d, l| {
            lists::exclude(d.ctx, &mut d.definition.files.exclude_targets, l)
        }),
        key("MakeDirectories", lists::make_directories),
        key("MakeSymlinks", lists::make_symlinks),
        key("Encrypt", v::encrypt),
        key("EncryptKDF", v::kdf),
        key("Discard", |d, l| v::tristate(&mut d.discard, l)),
        key("KeyFile", v::key_file),
        key("TPM2PCRs", v::tpm2_pcrs),
        key("Integrity", v::integrity),
        key("IntegrityAlgorithm", v::integrity_algorithm),
        key("Verity", v::verity),
        key("VerityMatchKey", |d, l| v::word(&mut d.verity_key, l)),
        key("VerityDataBlockSizeBytes", |d, l| v::block_size(&mut d.data_block_size, l)),
        key("VerityHashBlockSizeBytes", |d, l| v::block_size(&mut d.hash_block_size, l)),
        key("Flags", v::flags),
        key("ReadOnly", |d, l| v::tristate(&mut d.definition.read_only, l)),
        key("NoAuto", |d, l| v::tristate(&mut d.definition.no_auto, l)),
        key("GrowFileSystem", |d, l| v::tristate(&mut d.definition.grow_file_system, l)),
        key("SplitName", v::split_name),
        key("Minimize", v::minimize),
        key("Subvolumes", lists::subvolumes),
        key("DefaultSubvolume", v::default_subvolume),
        key("BlockDeviceReplace", v::block_device_replace),
        key("MountPoint", lists::mount_point),
        key("EncryptedVolume", lists::encrypted_volume),
        key("Compression", |d, l| v::safe_word(&mut d.definition.compression, l)),
        key("CompressionLevel", |d, l| v::safe_word(&mut d.definition.compression_level, l)),
        key("SupplementFor", |d, l| v::word(&mut d.definition.supplement_for, l)),
        key("AddValidateFS", |d, l| v::tristate(&mut d.adds_validate_fs, l)),
        key("FileSystemSectorSize", v::file_system_sector_size),
    ]
}
