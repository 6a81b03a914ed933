//! Definitions as systemd-repart reads them: same notices, same refusals, and what follows from
//! each key. Expectations were recorded with systemd 262.1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test; what was skipped is told"
)]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use slipway::ctx::Ctx;
use slipway::disk::HostDisks;
use slipway::error::Result;
use slipway::format::gpt::types;
use slipway::repart::definitions::{copy_from, load, parse_types};
use slipway::repart::model::{
    CopyBlocks, Ddi, Definition, Filter, Minimize, Options, Origin, VerityRole,
};

thread_local! {
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Info {
            TOLD.with_borrow_mut(|told| told.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

static CAPTURE: Capture = Capture;

/// What loading gives and tells; a refusal is the last line.
fn told(ctx: &Ctx, options: &Options) -> (Result<Vec<Definition>>, Vec<String>) {
    let _ = log::set_logger(&CAPTURE);
    log::set_max_level(log::LevelFilter::Info);
    TOLD.take();
    let result = load(ctx, options);
    let mut lines = TOLD.take();
    lines.extend(result.as_ref().err().map(ToString::to_string));
    (result, lines)
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/repart")
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        for (name, text) in files {
            world.put(name, text);
        }
        world
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn options(&self) -> Options {
        Options {
            definitions: vec![self.dir.path().to_owned()],
            is_offline: Some(true),
            ..Options::default()
        }
    }

    /// The lines with the directory replaced.
    fn shown(&self, lines: Vec<String>) -> Vec<String> {
        let dir = self.dir.path().display().to_string();
        lines.into_iter().map(|line| line.replace(&dir, "@CASE@")).collect()
    }
}

fn ctx() -> Ctx {
    Ctx::host([])
}

/// The definition of `Type=root` with these lines, and what is told.
fn one(lines: &str) -> (Definition, Vec<String>) {
    let world = World::new(&[("10-a.conf", &format!("[Partition]\nType=root\n{lines}"))]);
    let (result, lines) = told(&ctx(), &world.options());
    (result.unwrap().pop().unwrap(), world.shown(lines))
}

fn silent(lines: &str) -> Definition {
    let (definition, told) = one(lines);
    assert_eq!(told, [""; 0], "{lines}");
    definition
}

/// Where we say something else on purpose, or refuse earlier.
fn differs(text: &str) -> bool {
    [
        // The peer shows "(null)".
        "CopyFiles=/a:%Z",
        // The peer fails when it formats.
        "Type=swap\nCopyFiles=/etc\n",
        "Type=swap\nAddValidateFS=yes\n",
        // No file system has such sectors.
        "FileSystemSectorSize=4294967296",
    ]
    .iter()
    .any(|known| text.contains(known))
}

#[test]
fn recorded_definitions_are_told_and_refused_alike() {
    let text = fs::read_to_string(vectors().join("definitions/recorded.jsonl")).unwrap();
    let mut faults = Vec::new();
    for row in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let world = World::new(&[]);
        let files = row["files"].as_object().unwrap();
        for (name, text) in files {
            world.put(name, text.as_str().unwrap());
        }
        if files.values().any(|text| differs(text.as_str().unwrap())) {
            continue;
        }
        let mut ctx = ctx();
        for (name, value) in row["env"].as_object().unwrap() {
            ctx = ctx.with_env(name, value.as_str().unwrap());
        }
        let mut options = world.options();
        for arg in row["args"].as_array().unwrap() {
            let (name, value) = arg.as_str().unwrap().split_once('=').unwrap();
            match name {
                "--exclude-partitions" => {
                    options.filter = Filter::Exclude(parse_types(value).unwrap());
                }
                "--include-partitions" => {
                    options.filter = Filter::Include(parse_types(value).unwrap());
                }
                "--architecture" => options.architecture = Some(value.to_owned()),
                "--defer-partitions" => options.defer = parse_types(value).unwrap(),
                _ => panic!("{name}"),
            }
        }
        let (result, lines) = told(&ctx, &options);
        let expected: Vec<&str> =
            row["stderr"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let lines = world.shown(lines);
        if lines != expected || result.is_err() != row["refused"].as_bool().unwrap() {
            faults.push(format!("{}\n  peer {expected:#?}\n  ours {lines:#?}", row["files"]));
        }
    }
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
}

/// Names and texts of files, exit code, messages.
type Bad = (Vec<(String, String)>, i32, Vec<String>);

/// The groups of `bad.txt`: files, exit status, messages.
fn bad() -> Vec<Bad> {
    let text = fs::read_to_string(vectors().join("40-bad-config/bad.txt")).unwrap();
    let mut groups = Vec::new();
    for group in format!("\n{text}").split("\n--- ").skip(1) {
        let (head, rest) = group.split_once('\n').unwrap();
        let files = head.trim_end().split("| ").filter(|file| !file.is_empty()).map(|file| {
            let (name, text) = file.trim_end_matches('|').split_once(": ").unwrap();
            (name.to_owned(), format!("{}\n", text.replace('|', "\n")))
        });
        let (exit, lines) = rest.split_once('\n').unwrap_or((rest, ""));
        let exit = exit.strip_prefix("exit ").unwrap().trim().parse().unwrap();
        let lines = lines.lines().filter(|line| line.starts_with("@CASE@")).map(str::to_owned);
        groups.push((files.collect(), exit, lines.collect()));
    }
    groups
}

#[test]
fn bad_definitions_get_the_recorded_exit_and_text() {
    let groups = bad();
    assert_eq!(groups.len(), 32);
    for (files, exit, expected) in groups {
        let world = World::new(&[]);
        for (name, text) in &files {
            world.put(&format!("repart.d/{name}"), text);
        }
        let mut options = world.options();
        options.definitions[0].push("repart.d");
        let (result, lines) = told(&ctx(), &options);
        assert_eq!(world.shown(lines), expected, "{files:?}");
        // The others fail later: a source or a tool is missing.
        if exit == 0 || !expected.is_empty() {
            assert_eq!(i32::from(result.map_or_else(|err| err.status(), |_| 0)), exit, "{files:?}");
        }
    }
}

#[test]
fn drop_ins_and_masks_work_across_directories() {
    let world = World::new(&[]);
    let copied = Command::new("cp")
        .arg("-r")
        .args([
            vectors().join("32-dropins-mask/over.d"),
            vectors().join("32-dropins-mask/repart.d"),
        ])
        .arg(world.dir.path())
        .status();
    assert!(copied.unwrap().success());
    std::os::unix::fs::symlink("/dev/null", world.dir.path().join("over.d/30-home.conf")).unwrap();
    let mut options = world.options();
    options.definitions = ["over.d", "repart.d"].map(|dir| world.dir.path().join(dir)).to_vec();
    let (result, lines) = told(&ctx(), &options);
    assert_eq!(lines, [""; 0]);
    let definitions = result.unwrap();
    let names: Vec<&str> = definitions.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["10-root", "20-var"]);
    let root = &definitions[0];
    assert_eq!((root.size.min, root.size.max), (Some(40 << 20), Some(40 << 20)));
    assert_eq!(root.label.as_deref(), Some("from-dropin"));
    let Origin::File { path, drop_ins } = &root.origin else { panic!() };
    assert_eq!(*path, options.definitions[1].join("10-root.conf"));
    let expected = ["50-bigger.conf", "60-label.conf"];
    assert_eq!(*drop_ins, expected.map(|f| options.definitions[1].join("10-root.conf.d").join(f)));
}

#[test]
fn types_are_rewritten_for_another_architecture() {
    let mut options = Options {
        definitions: vec![vectors().join("31-architecture/repart.d")],
        ..Options::default()
    };
    for (run, arch) in [("run1.json", Some("arm64")), ("run2.json", None)] {
        if arch.is_none() && !cfg!(target_arch = "x86_64") {
            continue;
        }
        options.architecture = arch.map(str::to_owned);
        let found: Vec<_> = load(&ctx(), &options)
            .unwrap()
            .iter()
            .map(|definition| types::name(definition.type_uuid).unwrap())
            .collect();
        let text = fs::read_to_string(vectors().join("31-architecture").join(run)).unwrap();
        let rows: Value = serde_json::from_str(&text).unwrap();
        let expected: Vec<_> =
            rows.as_array().unwrap().iter().map(|row| row["type"].as_str().unwrap()).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn search_path_is_below_the_root_and_given_directories_are_not() {
    let root = World::new(&[
        ("etc/os-release", "ID=foo\nIMAGE_VERSION=7\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("usr/lib/repart.d/10-a.conf", "[Partition]\nType=root\nLabel=x\n"),
        ("usr/lib/repart.d/20-b.conf", "[Partition]\nType=home\nLabel=%o-%A\n"),
        ("run/repart.d/10-a.conf", "[Partition]\nType=usr\nLabel=%m\n"),
        ("etc/repart.d/20-b.conf.d/1.conf", "[Partition]\nPriority=5\n"),
    ]);
    let ctx = ctx().with_root(root.dir.path());
    let found = load(&ctx, &Options::default()).unwrap();
    let labels: Vec<_> = found.iter().map(|d| d.label.clone().unwrap()).collect();
    assert_eq!(labels, ["0123456789abcdef0123456789abcdef", "foo-7"]);
    assert_eq!(found[1].priority, 5);
    let given = World::new(&[("1.conf", "[Partition]\nType=srv\n")]);
    let found = load(&ctx, &given.options()).unwrap();
    assert_eq!(found[0].path(), given.dir.path().join("1.conf"));
    let mut nowhere = given.options();
    nowhere.definitions = vec!["/nonexistent".into()];
    assert!(load(&ctx, &nowhere).unwrap().is_empty());
}

#[test]
fn nothing_said_means_the_defaults() {
    let definition = silent("");
    assert_eq!(
        (definition.size.min, definition.size.max, definition.size.weight),
        (None, None, 1000)
    );
    assert_eq!(
        (definition.padding.min, definition.padding.max, definition.padding.weight),
        (None, None, 0)
    );
    assert_eq!((definition.label, definition.uuid, definition.format), (None, None, None));
    assert_eq!(definition.split_name.as_deref(), Some("%t"));
    assert!(definition.encrypt.is_none() && definition.verity.is_none());
    assert!(!definition.adds_validate_fs && !definition.is_placeholder);
}

#[test]
fn labels_and_identities() {
    assert_eq!(silent("Label=\n").label.as_deref(), Some(""));
    assert_eq!(silent("Label=a b\\c\n").label.as_deref(), Some("a b\\c"));
    assert_eq!(silent("UUID=null\n").uuid, Some(uuid::Uuid::nil()));
    assert_eq!(silent("UUID=null\nUUID=\n").uuid, None);
    let id = "abcdef00-0000-0000-0000-000000000001";
    assert_eq!(silent(&format!("UUID={id}\n")).uuid.unwrap().to_string(), id);
    assert_eq!(silent("SplitName=-\n").split_name, None);
    assert_eq!(silent("SplitName=x-%t\n").split_name.as_deref(), Some("x-%t"));
    assert_eq!(silent("Flags=0x5\nNoAuto=yes\nReadOnly=no\n").flags, 5);
    assert_eq!(silent("Priority=-0x10\n").priority, -16);
    assert!(silent("FactoryReset=yes\n").is_factory_reset);
}

#[test]
fn sizes_are_rounded_and_the_largest_number_is_none() {
    let (definition, told) = one("SizeMinBytes=5000\nSizeMaxBytes=9000\n");
    assert_eq!((definition.size.min, definition.size.max), (Some(8192), Some(8192)));
    assert_eq!(told.len(), 2);
    assert_eq!(silent("SizeMinBytes=18446744073709551615\n").size.min, None);
    assert_eq!(silent("SizeMinBytes=1G512M\n").size.min, Some(1536 << 20));
    assert_eq!(silent("Weight=0\nPaddingWeight=1000000\n").padding.weight, 1_000_000);
}

#[test]
fn file_systems_follow_from_what_is_put_in() {
    let format = |text: &str| {
        let world = World::new(&[("1.conf", &format!("[Partition]\n{text}"))]);
        let definition = load(&ctx(), &world.options()).unwrap().pop().unwrap();
        (definition.format.map(|format| format.0), definition.adds_validate_fs)
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(format("Type=root\n"), (None, false));
    assert_eq!(format("Type=root\nFormat=ext4\n"), (some("ext4"), true));
    assert_eq!(format("Type=root\nFormat=ext4\nAddValidateFS=no\n"), (some("ext4"), false));
    assert_eq!(format("Type=root\nMakeDirectories=/x\n"), (some("ext4"), true));
    assert_eq!(format("Type=root\nAddValidateFS=yes\n"), (some("ext4"), true));
    assert_eq!(format("Type=root\nEncrypt=key-file\n"), (some("ext4"), true));
    assert_eq!(format("Type=root\nEncrypt=key-file\nCopyBlocks=/dev/zero\n"), (None, false));
    assert_eq!(format("Type=esp\nMakeSymlinks=/x:y\n"), (some("vfat"), false));
    assert_eq!(format("Type=swap\n"), (some("swap"), false));
    assert_eq!(format("Type=swap\nEncrypt=key-file\n"), (some("swap"), false));
    assert_eq!(format("Type=swap\nCopyBlocks=/dev/zero\n"), (None, false));
    assert_eq!(format("Type=root\nFormat=empty\n"), (None, false));
    assert!(silent("Format=empty\n").is_placeholder);
}

#[test]
fn the_environment_decides_about_file_systems() {
    let world = World::new(&[("1.conf", "[Partition]\nType=home\nFormat=ext4\n")]);
    let format = |names: &[(&str, &str)]| {
        let ctx = names.iter().fold(ctx(), |ctx, (name, value)| ctx.with_env(*name, *value));
        load(&ctx, &world.options()).unwrap().pop().unwrap().format.unwrap().0
    };
    let all = ("SYSTEMD_REPART_OVERRIDE_FSTYPE", "btrfs");
    assert_eq!(format(&[all]), "btrfs");
    assert_eq!(format(&[all, ("SYSTEMD_REPART_OVERRIDE_FSTYPE_HOME", "xfs")]), "xfs");
    assert_eq!(format(&[("SYSTEMD_REPART_OVERRIDE_FSTYPE_ROOT", "xfs")]), "ext4");
    // A partition without a file system gets one, and one whose blocks are copied does not.
    world.put("1.conf", "[Partition]\nType=home\n");
    assert_eq!(format(&[("SYSTEMD_REPART_OVERRIDE_FSTYPE_HOME", "xfs")]), "xfs");
    world.put("1.conf", "[Partition]\nType=home\nCopyBlocks=/dev/zero\n");
    let ctx = ctx().with_env("SYSTEMD_REPART_OVERRIDE_FSTYPE_HOME", "xfs");
    assert_eq!(load(&ctx, &world.options()).unwrap()[0].format, None);
}

#[test]
fn swap_and_empty_partitions_take_no_files() {
    for (text, name) in [
        ("Type=swap\nCopyFiles=/etc\n", "swap"),
        ("Type=swap\nAddValidateFS=yes\n", "swap"),
        ("Type=root\nFormat=empty\nCopyFiles=/etc\n", "empty"),
        ("Type=root\nFormat=empty\nAddValidateFS=yes\n", "empty"),
    ] {
        let world = World::new(&[("1.conf", &format!("[Partition]\n{text}"))]);
        let err = load(&ctx(), &world.options()).unwrap_err().to_string();
        assert!(err.contains(&format!("Format={name} and CopyFiles=")), "{err}");
    }
}

#[test]
fn files_and_their_like_are_collected() {
    let copy = |lines: &str| {
        let all = one(lines).0.files.copy;
        all.iter()
            .map(|one| {
                format!("{} {} {}", one.source.display(), one.target.display(), one.copies_fsverity)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(copy("CopyFiles=/a//b/\nCopyFiles=/c:/d\n"), ["/a/b /a/b false", "/c /d false"]);
    assert_eq!(copy("CopyFiles=/a:/b c:fsverity=copy\n"), ["/a /b c true"]);
    assert_eq!(copy("CopyFiles=/a\\x20b:/%%:fsverity=copy,x,fsverity=bad\n"), ["/a b /% true"]);
    assert_eq!(copy("CopyFiles=/a\nCopyFiles=\n"), ["/a /a false"]);

    let files = silent("ExcludeFiles=/a /b/ \"/c d\"\nExcludeFilesTarget=/\n").files;
    assert_eq!(files.exclude_sources, ["/a", "/b/", "/c d"]);
    assert_eq!(files.exclude_targets, ["/"]);
    assert!(silent("ExcludeFiles=/a\nExcludeFiles=\n").files.exclude_sources.is_empty());

    let files = silent("MakeDirectories=/a /b\\ c\nMakeDirectories=/d/\n").files;
    assert_eq!(files.make_directories, ["/a", "/b c", "/d"].map(PathBuf::from));
    let files = silent("MakeSymlinks=/a:b \"/c d:../e f\"\n").files;
    let pair = |link: &str, target: &str| (PathBuf::from(link), PathBuf::from(target));
    assert_eq!(files.make_symlinks, [pair("/a", "b"), pair("/c d", "../e f")]);
    let (definition, told) = one("MakeDirectories=/a \"/b\n");
    assert_eq!((definition.files.make_directories.len(), told.len()), (1, 1));
}

#[test]
fn subvolumes_have_flags_and_one_may_be_the_default() {
    let text = "Format=btrfs\nSubvolumes=/a:ro /b:nodatacow,ro /c\nDefaultSubvolume=/c/\n";
    let definition = silent(text);
    let all: Vec<_> = definition
        .subvolumes
        .iter()
        .map(|one| (one.path.to_str().unwrap(), one.is_read_only, one.is_no_data_cow))
        .collect();
    assert_eq!(all, [("/a", true, false), ("/b", true, true), ("/c", false, false)]);
    assert_eq!(definition.default_subvolume.unwrap(), Path::new("/c"));
}

#[test]
fn sources_of_blocks() {
    assert_eq!(silent("CopyBlocks=auto\n").copy_blocks, Some(CopyBlocks::Auto));
    let path = CopyBlocks::Path("/a/b".into());
    assert_eq!(silent("CopyBlocks=auto\nCopyBlocks=/a//b\n").copy_blocks, Some(path));
    assert_eq!(silent("CopyBlocks=auto\nCopyBlocks=\n").copy_blocks, None);
}

#[test]
fn encryption_is_put_together_from_its_keys() {
    assert!(silent("Encrypt=no\nIntegrityAlgorithm=hmac-sha1\n").encrypt.is_none());
    let encrypt = silent("Encrypt=key-file+tpm2\nTPM2PCRs=7+11\nDiscard=no\n").encrypt.unwrap();
    assert!(encrypt.has_key_file && encrypt.has_tpm2);
    assert_eq!((encrypt.discard, encrypt.tpm2_pcrs.as_deref()), (Some(false), Some("7+11")));
    assert_eq!(encrypt.integrity, None);
    let encrypt = silent("Encrypt=yes\nIntegrity=inline\nKeyFile=/dev/null\n").encrypt.unwrap();
    assert_eq!(encrypt.integrity.as_deref(), Some("hmac-sha256"));
    assert_eq!(encrypt.key_file.as_deref(), Some(Path::new("/dev/null")));
}

#[test]
fn verity_sets_and_minimising() {
    let text = "Verity=data\nVerityMatchKey=k\nVerityDataBlockSizeBytes=1K\n";
    let world = World::new(&[
        ("1.conf", &format!("[Partition]\nType=root\nFormat=erofs\nMinimize=yes\n{text}")),
        ("2.conf", "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=k\nMinimize=best\n"),
        ("3.conf", "[Partition]\nType=root-verity-sig\nVerity=signature\nVerityMatchKey=k\n"),
    ]);
    let (result, lines) = told(&ctx(), &world.options());
    let all = result.unwrap();
    assert_eq!(lines, [""; 0]);
    assert_eq!(all[0].minimize, Minimize::Best);
    assert_eq!(all[0].verity.as_ref().unwrap().data_block_size, Some(1024));
    for (definition, role) in
        all.iter().zip([VerityRole::Data, VerityRole::Hash, VerityRole::Signature])
    {
        assert!(definition.is_verity(role));
    }
}

#[test]
fn mount_points_and_volumes() {
    let all = silent("MountPoint=/a:ro,x\nMountPoint=\"/b c\"\n").mount_points;
    assert_eq!(all[0].options.as_deref(), Some("ro,x"));
    assert_eq!((all[1].place.as_path(), all[1].options.as_ref()), (Path::new("/b c"), None));
    assert!(silent("MountPoint=/a\nMountPoint=\n").mount_points.is_empty());
    let volume = silent("EncryptedVolume=a:/k:opt:fixate-volume-key\n").encrypted_volume.unwrap();
    assert_eq!(volume.name.as_deref(), Some("a"));
    assert_eq!(volume.key_file.as_deref(), Some("/k"));
    assert!(volume.fixates_volume_key && volume.options.as_deref() == Some("opt"));
    let volume = silent("EncryptedVolume=::o\n").encrypted_volume.unwrap();
    assert_eq!((volume.name, volume.key_file), (None, None));
}

#[test]
fn definitions_for_portable_images_are_built_in() {
    for (ddi, sources) in [
        (Ddi::Sysext, vec!["/usr", "/opt"]),
        (Ddi::Confext, vec!["/etc"]),
        (Ddi::Portable, vec!["/"]),
    ] {
        let options = Options { ddi: Some(ddi), ..Options::default() };
        let all = load(&ctx(), &options).unwrap();
        assert_eq!(all.len(), 3);
        let found: Vec<_> =
            all[0].files.copy.iter().map(|copy| copy.source.to_str().unwrap()).collect();
        assert_eq!(found, sources);
        assert_eq!(all[0].format.as_ref().unwrap().name(), "erofs");
        assert_eq!(all[1].name, "20-root-verity");
        let key = |definition: &Definition| definition.verity.as_ref().unwrap().key.clone();
        assert!(all.iter().all(|definition| key(definition) == "root"));
        assert!(all[2].path().ends_with("30-root-verity-sig.conf"));
    }
}

#[test]
fn lists_of_types() {
    let root = types::by_name("root").unwrap();
    let home = types::by_name("home").unwrap();
    assert_eq!(parse_types("root,933ac7e1-2eb4-4f13-b844-0e14e2aef915").unwrap(), [root, home]);
    for (list, bad) in [("root,x", "x"), ("", ""), ("root,,home", "")] {
        let err = parse_types(list).unwrap_err().to_string();
        assert_eq!(err, format!("'{bad}' is not a valid partition type identifier or GUID"));
    }
}

#[test]
fn partitions_of_another_disk_keep_size_bits_and_distance() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("src.raw");
    let script = "label: gpt\n\
        2: start=4097,size=4095,type=root-x86-64,name=a,attrs=\"GUID:48,63\"\n\
        1: start=12293,size=4097,type=01234567-89AB-4DEF-8123-456789ABCDEF\n\
        3: start=20000,size=2000,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B,attrs=\"GUID:60\"\n"
        .replace("root-x86-64", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709");
    fs::File::create(&image).unwrap().set_len(20 << 20).unwrap();
    let spawned = Command::new("sfdisk").arg("-q").arg(&image).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        println!("SKIP partitions_of_another_disk_keep_size_bits_and_distance: no sfdisk");
        return;
    };
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let all = copy_from(&HostDisks, &image).unwrap();
    let facts: Vec<_> = all
        .iter()
        .map(|d| (d.size.min.unwrap(), d.size.max.unwrap(), d.padding.min.unwrap(), d.flags))
        .collect();
    // As systemd-repart 262.1 measures them.
    assert_eq!(
        facts,
        [
            (4097 * 512, 4097 * 512, 1_848_320, 0),
            (4095 * 512, 4095 * 512, 2_099_712, 1 << 48 | 1 << 63),
            (2000 * 512, 2000 * 512, 0, 1 << 60),
        ]
    );
    assert_eq!((all[0].label.as_deref(), all[1].label.as_deref()), (None, Some("a")));
    let from = CopyBlocks::Range { path: image.clone(), offset: 4097 * 512, len: 4095 * 512 };
    assert_eq!(all[1].copy_blocks, Some(from));
    assert_eq!(all[1].origin, Origin::Disk { path: image.clone(), number: 2 });

    fs::File::create(&image).unwrap().set_len(20 << 20).unwrap();
    let err = copy_from(&HostDisks, &image).unwrap_err().to_string();
    let name = image.display();
    assert_eq!(err, format!("Cannot copy from disk {name} with no GPT disk label."));
    let err = copy_from(&HostDisks, &dir.path().join("nonex")).unwrap_err().to_string();
    assert!(
        err.starts_with("Failed to open device '") && err.ends_with("No such file or directory")
    );
}
