//! Definitions of partitions.

use std::path::Path;

use slipway::ctx::Ctx;
use slipway::repart::definitions::load;
use slipway::repart::model::{Definition, Options};

use crate::{files, kind, rows};

pub const WORDS: &[&str] = &[
    "[Partition]\n",
    "Type=",
    "root",
    "swap",
    "esp",
    "Format=",
    "empty",
    "erofs",
    "SizeMinBytes=",
    "SizeMaxBytes=",
    "PaddingMinBytes=",
    "1G",
    "CopyFiles=",
    "MakeSymlinks=",
    "Subvolumes=",
    "DefaultSubvolume=",
    "ExcludeFiles=",
    "EncryptedVolume=",
    "MountPoint=",
    "Verity=",
    "VerityMatchKey=",
    "SupplementFor=",
    "TPM2PCRs=",
    "Minimize=",
    "Encrypt=",
    "Label=",
    "UUID=",
    "null",
    "/a",
    "..",
    "%a",
    "\\\n",
    "\\x20",
    "\"",
    ":",
    ",",
    "\n--\n",
];

/// Files of one directory, with `--` between them. What loads can be planned with.
pub fn run(bytes: &[u8]) -> u64 {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let directory = tempfile::tempdir_in(parent).expect("directory");
    let mut rest = Some(bytes);
    for name in ["a.conf", "b.conf", "c.conf"] {
        let Some(text) = rest else { break };
        let end = text.windows(4).position(|part| part == b"\n--\n");
        let (file, behind) = match end {
            Some(end) => (&text[..end + 1], Some(&text[end + 4..])),
            None => (text, None),
        };
        std::fs::write(directory.path().join(name), file).expect("file");
        rest = behind;
    }
    let ctx = Ctx::host([]).with_root("/nonexistent").with_kernel("/nonexistent", "/nonexistent");
    let options = Options { definitions: vec![directory.path().to_owned()], ..Options::default() };
    let loaded = load(&ctx, &options);
    if let Ok(definitions) = &loaded {
        definitions.iter().for_each(check);
    }
    kind(&match loaded {
        Ok(all) => all
            .iter()
            .map(|d| format!("{:?} {:?} {:?}", d.format, d.minimize, d.verity.is_some()))
            .collect(),
        Err(err) => err.to_string().split(": ").skip(1).take(1).collect::<String>(),
    })
}

fn check(definition: &Definition) {
    assert!(!definition.type_uuid.is_nil());
    for bounds in [&definition.size, &definition.padding] {
        assert!(bounds.min.zip(bounds.max).is_none_or(|(min, max)| min <= max));
        assert!(bounds.weight <= 1_000_000);
    }
    assert!(definition.label.as_ref().is_none_or(|label| label.len() <= 36));
    let files = &definition.files;
    let links = files.make_symlinks.iter().map(|(link, _)| link);
    let copies = files.copy.iter().flat_map(|copy| [&copy.source, &copy.target]);
    let volumes = definition.subvolumes.iter().map(|volume| &volume.path);
    let mounts = definition.mount_points.iter().map(|mount| &mount.place);
    for path in
        files.make_directories.iter().chain(links).chain(copies).chain(volumes).chain(mounts)
    {
        assert!(path.is_absolute() && !path.components().any(|part| part.as_os_str() == ".."));
    }
    if definition.copy_blocks.is_some() {
        assert!(definition.format.is_none() && !definition.is_populated());
    }
    if definition.is_placeholder {
        assert!(definition.format.is_none() && !definition.is_populated());
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("repart/13-labels/repart.d", ".conf");
    for row in rows("repart/definitions/recorded.jsonl").iter().step_by(8) {
        let texts = row["files"].as_object().expect("files").values();
        let texts: Vec<&str> = texts.map(|text| text.as_str().expect("text")).collect();
        seeds.push(texts.join("--\n").into_bytes());
    }
    seeds
}
