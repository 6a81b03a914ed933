//! One `*.conf` with its drop-ins: from keys to a [`Definition`].

use std::path::PathBuf;

use uuid::Uuid;

use crate::conf::ini::{self, Key};
use crate::conf::search::Found;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::format::gpt::types;
use crate::repart::model::{Bounds, Definition, FileLists, Minimize, Options, Origin};

/// What a file says so far.
pub(super) struct Draft {
    pub(super) definition: Definition,
}

impl Draft {
    /// What holds where nothing is said.
    pub(super) fn new() -> Self {
        let definition = Definition {
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
        };
        Self { definition }
    }
}

/// Reads one definition; `files` are the file itself and its drop-ins.
pub(super) fn load(
    _ctx: &Ctx,
    _options: &Options,
    file: &Found,
    files: &[Found],
) -> Result<Definition> {
    let mut draft = Draft::new();
    ini::load(&mut draft, files, &keys())?;
    let mut definition = draft.definition;
    if definition.type_uuid.is_nil() {
        return Err(Error::new("Type= not defined, refusing.").at(&file.path, 1).with_errno(22));
    }
    definition.name = file.name.strip_suffix(".conf").unwrap_or(&file.name).to_owned();
    definition.origin = Origin::File {
        path: file.path.clone(),
        drop_ins: files.iter().skip(1).map(|file| file.path.clone()).collect(),
    };
    Ok(definition)
}

fn keys() -> [Key<Draft>; 1] {
    [Key::new("Partition", "Type", |d, l| {
        d.definition.type_uuid = types::parse(l.value)
            .ok_or_else(|| l.error(format!("Failed to parse partition type: {}", l.value)))?;
        Ok(())
    })]
}
