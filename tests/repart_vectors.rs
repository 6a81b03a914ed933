//! The recorded runs of systemd-repart 262.1, replayed: same exit code, JSON, messages and table.
//!
//! Tables are written and read by util-linux's sfdisk, as when the vectors were made; file systems
//! are looked at by its blkid.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a broken test should panic"
)]

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};
use slipway::crypto::hash::sha256;
use slipway::crypto::text::hex;
use slipway::disk::{Access, FileDisk, table};
use slipway::format::gpt::Partition;
use uuid::Uuid;

/// Messages that tell of temporary names, of time, or of what a program of ours does not say.
const UNSTABLE: [&str; 10] = [
    "Formatting /",
    "/var/tmp/",
    "Block level copying and synchronization",
    "Copying in '/var/tmp",
    "Copying in of '/var/tmp",
    "Preparing to populate",
    "Ready to populate",
    "Minimal partition size of",
    // DIFFERS: what can be filled without being mounted is.
    "Successfully populated",
    "Discarding device blocks",
];

/// What a run that fails in the end need not have done.
const WORK: [&str; 5] =
    ["Sized '", "Applying changes", "Adding new", "Writing new", "Partition table written"];

struct Case {
    name: &'static str,
    vectors: PathBuf,
    dir: tempfile::TempDir,
}

fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

impl Case {
    /// A copy of the case in a directory of its own; none where a program is missing.
    fn new(name: &'static str, programs: &[&str]) -> Option<Self> {
        if let Some(missing) = programs.iter().chain(&["sfdisk", "blkid"]).find(|p| !has(p)) {
            println!("SKIP repart_vector_{name}: there is no {missing}");
            return None;
        }
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/repart").join(name);
        let dir = tempfile::tempdir().unwrap();
        let case = Self { name, vectors, dir };
        for sub in ["repart.d", "over.d"] {
            case.copy(Path::new(sub));
        }
        Some(case)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn copy(&self, sub: &Path) {
        let from = self.vectors.join(sub);
        let Ok(entries) = fs::read_dir(&from) else { return };
        fs::create_dir_all(self.dir.path().join(sub)).unwrap();
        for entry in entries {
            let entry = entry.unwrap();
            let name = sub.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.copy(&name);
            } else {
                let text = fs::read_to_string(entry.path()).unwrap();
                let text = text.replace("@CASE@", self.dir.path().to_str().unwrap());
                fs::write(self.dir.path().join(name), text).unwrap();
            }
        }
    }

    fn recorded(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.vectors.join(name)).ok()?;
        Some(text.replace("@CASE@", self.dir.path().to_str().unwrap()))
    }

    fn sfdisk(&self, args: &[&str], script: &str) {
        let input = self.path("script.sfdisk");
        fs::write(&input, script).unwrap();
        let mut command = Command::new("sfdisk");
        command.args(["-q", "--no-reread", "--no-tell-kernel"]).args(args);
        let done = command.stdin(fs::File::open(input).unwrap()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Does every step that was recorded and compares what comes of it.
    fn play(&self) {
        let steps = self.recorded("steps.txt").unwrap();
        let lines: Vec<&str> = steps.lines().collect();
        let disk = self.path("disk.raw");
        let mut runs = 0;
        for (index, line) in lines.iter().enumerate() {
            if let Some(size) = line.strip_prefix("image: disk.raw created sparse, ") {
                let size = size.strip_suffix(" bytes").unwrap().parse().unwrap();
                fs::File::create(&disk).unwrap().set_len(size).unwrap();
            } else if line.starts_with("before:") {
                let script = self.recorded("before.sfdisk").unwrap();
                self.sfdisk(&[disk.to_str().unwrap()], &script);
            } else if line.starts_with("(image now carries an MBR") {
                self.sfdisk(&[disk.to_str().unwrap()], "label: dos\n2048,20480,83\n");
            } else if let Some((number, command)) =
                line.strip_prefix("run ").and_then(|rest| rest.split_once(": systemd-repart "))
            {
                let exit = lines[index + 1].trim().strip_prefix("exit ").unwrap();
                if command.contains("--empty=create") {
                    let _ = fs::remove_file(&disk);
                }
                self.run(number, command, exit.parse().unwrap());
                runs += 1;
            }
        }
        assert!(runs > 0, "{}: nothing was run", self.name);
    }

    fn run(&self, number: &str, command: &str, exit: i32) {
        let words = command.replace("@CASE@", self.dir.path().to_str().unwrap());
        let done = self.repart(&words.split(' ').collect::<Vec<_>>());
        let stderr = String::from_utf8_lossy(&done.stderr);
        let context = format!("{}, run {number}:\n{stderr}", self.name);
        // 134 is an assertion of the peer; we place the partition.
        let exit = if exit == 134 { 0 } else { exit };
        assert_eq!(done.status.code(), Some(exit), "{context}");
        let stdout = String::from_utf8(done.stdout).unwrap();
        if let Some(json) = self.recorded(&format!("run{number}.json")) {
            let ours: Value = serde_json::from_str(&stdout).expect(&context);
            let theirs: Value = serde_json::from_str(&json).unwrap();
            self.compare(&context, self.masked(ours), self.masked(theirs));
        } else if let Some(text) = self.recorded(&format!("run{number}.stdout")) {
            assert_eq!(stdout, text, "{context}");
        }
        // The peer's last words in case 43 are of its assertion.
        if let Some(recorded) = self.recorded(&format!("run{number}.stderr"))
            && !self.name.starts_with("43")
        {
            assert_eq!(stable(&stderr, exit), stable(&recorded, exit), "{context}");
        }
        if let Some(table) = self.recorded(&format!("after{number}.json"))
            && !self.name.starts_with("43")
        {
            let ours = self.masked(self.table());
            let theirs: Value = serde_json::from_str(&table).unwrap();
            self.compare(&context, ours, self.masked(theirs["partitiontable"].clone()));
        }
    }

    fn repart(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        command.arg("repart").args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LANG", "C.UTF-8");
        command.output().unwrap()
    }

    /// As sfdisk shows it; older ones know no image of 4096-byte sectors, there it is ours.
    fn table(&self) -> Value {
        if self.name.starts_with("16") {
            return self.own_table();
        }
        let done =
            Command::new("sfdisk").arg("--json").arg(self.path("disk.raw")).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let found: Value = serde_json::from_str(&text).expect(&text);
        found["partitiontable"].clone()
    }

    fn own_table(&self) -> Value {
        let path = self.path("disk.raw");
        let disk = FileDisk::open(&path, Access::Read).unwrap();
        let table = table::read(&disk, &path).unwrap().table;
        let (first, last) = table.usable();
        let upper = |id: Uuid| id.to_string().to_uppercase();
        let entry = |entry: Partition| {
            let mut json = json!({
                "node": format!("disk.raw{}", entry.number),
                "start": entry.first_lba,
                "size": entry.last_lba - entry.first_lba + 1,
                "type": upper(entry.type_uuid),
                "uuid": upper(entry.uuid),
                "name": entry.name,
            });
            let bits: Vec<u64> = (48..64).filter(|bit| entry.flags >> bit & 1 == 1).collect();
            if !bits.is_empty() {
                let bits: Vec<String> = bits.iter().map(u64::to_string).collect();
                json["attrs"] = format!("GUID:{}", bits.join(",")).into();
            }
            json
        };
        json!({
            "label": "gpt",
            "id": upper(table.disk_guid()),
            "firstlba": first,
            "lastlba": last,
            "sectorsize": table.sector_size(),
            "partitions": table.partitions().map(entry).collect::<Vec<_>>(),
        })
    }

    /// Without what names a path, and without what differs on purpose or from host to host.
    fn masked(&self, mut value: Value) -> Value {
        let entries = match &mut value {
            Value::Array(entries) => entries,
            table => {
                let map = table.as_object_mut().unwrap();
                // Newer versions of sfdisk say more.
                map.retain(|key, _| !matches!(key.as_str(), "device" | "grain" | "unit"));
                // Where the script names none, sfdisk makes one up.
                if self.name.starts_with("18") || map["label"] == "dos" {
                    map.remove("id");
                }
                match map.get_mut("partitions") {
                    Some(Value::Array(entries)) => entries,
                    _ => return value,
                }
            }
        };
        for (index, entry) in entries.iter_mut().enumerate() {
            let entry = entry.as_object_mut().unwrap();
            // The tables are read by another path than the recorded ones.
            if let Some(Value::String(node)) = entry.get_mut("node") {
                *node = node.rsplit('/').next().unwrap().to_owned();
            }
            let masks: &[&str] = match (&self.name[..2], index) {
                // DIFFERS: bits that the peer forgets, see the provenance of the vectors.
                ("14", 1 | 3) | ("28" | "39", _) => &["attrs"],
                ("18", _) => &["uuid"],
                // A tree that was not recorded.
                ("35", _) => &["uuid", "roothash"],
                _ => &[],
            };
            masks.iter().for_each(|mask| drop(entry.remove(*mask)));
        }
        value
    }

    fn compare(&self, context: &str, ours: Value, theirs: Value) {
        if ours != theirs {
            let pretty = |value| serde_json::to_string_pretty(&value).unwrap();
            panic!("{context}\nours: {}\ntheirs: {}", pretty(ours), pretty(theirs));
        }
    }

    /// What a partition holds: the peer's probe of each, against util-linux's.
    fn probe(&self) {
        let wanted: Value =
            serde_json::from_str(&self.recorded("fs.json").unwrap()).expect("fs.json");
        let table = self.table();
        let sector = table["sectorsize"].as_u64().unwrap_or(512);
        for (entry, wanted) in
            table["partitions"].as_array().unwrap().iter().zip(wanted.as_array().unwrap())
        {
            let bytes = |key: &str| (entry[key].as_u64().unwrap() * sector).to_string();
            let done = Command::new("blkid")
                .args(["-p", "-o", "export", "-O", &bytes("start"), "-S", &bytes("size")])
                .arg(self.path("disk.raw"))
                .output()
                .unwrap();
            let found = String::from_utf8(done.stdout).unwrap();
            for key in ["TYPE", "USAGE", "VERSION", "LABEL", "UUID", "BLOCK_SIZE"] {
                if let Some(value) = wanted[key].as_str() {
                    // blkid escapes differ by version.
                    let plain = |text: &str| text.replace('\\', "");
                    let line = format!("{key}={value}");
                    assert!(
                        found.lines().any(|found| plain(found) == plain(&line)),
                        "{}: {}: no {line} in\n{found}",
                        self.name,
                        wanted["node"]
                    );
                }
            }
        }
    }

    fn blob(&self, len: usize) -> Vec<u8> {
        let mut blob: Vec<u8> =
            (0..len.div_ceil(32)).flat_map(|i| sha256(format!("block{i}").as_bytes())).collect();
        blob.truncate(len);
        fs::write(self.path("blob.bin"), &blob).unwrap();
        blob
    }

    fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        fs::File::open(self.path("disk.raw")).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }
}

/// The messages of repart itself, without those that change from run to run.
///
/// DIFFERS: what is refused is refused before the image is given its size, or anything is written.
fn stable(text: &str, exit: i32) -> Vec<String> {
    const OURS: [&str; 26] = [
        "Sized '",
        "Applying ",
        "Adding new",
        "Writing new",
        "Partition table",
        "No changes",
        "Refusing",
        "Can't",
        "Couldn't",
        "Automatically",
        "Successfully",
        "Formatting future",
        "Syncing",
        "Copying in",
        "Growing",
        "Setting partition",
        "Initializing",
        "Removing",
        "Disk ",
        "Calculating",
        "Encrypting",
        "Pre-populating",
        "Wiped",
        "Discarded",
        "EncryptedVolume",
        "/",
    ];
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| OURS.iter().any(|start| line.starts_with(start)))
        .filter(|line| !line.contains("successfully formatted as"))
        .filter(|line| exit == 0 || !WORK.iter().any(|start| line.starts_with(start)))
        .filter(|line| !UNSTABLE.iter().any(|start| line.starts_with(start)))
        .map(str::to_owned)
        .collect();
    // What is not going to be written is said before what was written.
    if let Some(fstab) = lines.iter().position(|line| line.ends_with("/etc/fstab written.")) {
        let note = lines.iter().position(|line| line.starts_with("EncryptedVolume"));
        if let Some(note) = note.filter(|note| *note > fstab) {
            let line = lines.remove(note);
            lines.insert(fstab, line);
        }
    }
    lines
}

/// One test per case that needs nothing but to be played.
macro_rules! plain {
    ($($test:ident $name:literal;)*) => { $(
        #[test]
        fn $test() {
            if let Some(case) = Case::new($name, &[]) {
                case.play();
            }
        }
    )* };
}

plain! {
    a_new_image_has_fixed_and_weighted_partitions "01-fixed-and-weight";
    padding_takes_its_weight "02-padding-weights";
    what_is_over_or_under_its_share_is_charged_first "03-over-under-charge";
    what_nobody_may_take_is_padding "04-all-maxed";
    priorities_drop_what_does_not_fit "05-priority-drop";
    what_cannot_fit_fails "06-enospc";
    the_last_partition_grows_with_its_image "07-grow-last";
    one_grows_and_one_is_added "08-grow-and-add";
    the_best_hole_is_taken "09-holes-best-fit";
    foreign_partitions_off_the_grid_stay "10-unaligned";
    pairs_of_partitions_are_matched_in_order "11-ab-pairs";
    numbers_follow_those_of_the_same_type "12-slots";
    labels_are_told_apart "13-labels";
    uuids_and_flags_are_as_configured "14-uuids-flags";
    nil_uuids_are_shown_but_not_written_alone "15-null-uuid-existing";
    sectors_of_4096_bytes_work "16-sector-4096";
    factory_reset_deletes_what_is_marked "17-factory-reset";
    nothing_marked_cannot_be_reset "18-cannot-factory-reset";
    an_image_can_be_as_small_as_possible "22-size-auto";
    without_a_device_only_the_size_is_said "23-no-node";
    empty_modes_refuse_what_they_should "24-empty-modes";
    supplements_are_merged "25-supplement-merge";
    supplements_are_taken_apart_again "26-supplement-unmerge";
    the_grain_can_be_larger "27-grain-1m";
    what_is_deferred_is_made_later "28-defer";
    types_are_included_and_excluded "29-include-exclude";
    architectures_are_rewritten "31-architecture";
    labels_may_be_empty "39-empty-label";
    a_hole_that_fits_exactly_is_taken "43-hole-exact";
}

#[test]
fn blocks_are_copied_to_the_start() {
    let Some(case) = Case::new("19-copy-blocks", &[]) else { return };
    let blob = case.blob(4_928_512);
    case.play();
    assert!(case.bytes(1_048_576, blob.len()) == blob);
    assert!(case.bytes(11_534_336, blob.len()) == blob);
}

#[test]
fn partitions_are_split_into_files() {
    let Some(case) = Case::new("20-split", &[]) else { return };
    let blob = case.blob(1 << 20);
    case.play();
    for line in case.recorded("files.txt").unwrap().lines() {
        let (name, size) = line.split_once(' ').unwrap();
        let found = fs::metadata(case.path(name)).unwrap().len();
        assert_eq!(found.to_string(), size, "{name}");
    }
    let root = fs::read(case.path("disk.root-x86-64.raw")).unwrap();
    assert!(root.starts_with(&blob) && root[blob.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn two_split_files_of_one_name_are_refused() {
    let Some(case) = Case::new("21-split-name-clash", &[]) else { return };
    case.blob(1 << 20);
    case.play();
}

#[test]
fn partitions_of_another_disk_come_first() {
    let Some(case) = Case::new("30-copy-from", &[]) else { return };
    let source = case.path("src.raw");
    fs::File::create(&source).unwrap().set_len(64 << 20).unwrap();
    case.sfdisk(&[source.to_str().unwrap()], &case.recorded("src.sfdisk").unwrap());
    let file = fs::OpenOptions::new().write(true).open(&source).unwrap();
    file.write_all_at(b"this comes along", 1 << 20).unwrap();
    case.play();
    let json = case.recorded("run1.json").unwrap();
    let all: Value = serde_json::from_str(&json).unwrap();
    let first = all.as_array().unwrap().iter().find(|entry| entry["partno"] == 0).unwrap();
    assert_eq!(case.bytes(first["offset"].as_u64().unwrap(), 16), b"this comes along");
}

#[test]
fn definitions_are_masked_and_dropped_into() {
    let Some(case) = Case::new("32-dropins-mask", &[]) else { return };
    symlink("/dev/null", case.path("over.d/30-home.conf")).unwrap();
    case.play();
}

/// mkfs.btrfs refuses an identity that some other device has just then.
static ALONE: Mutex<()> = Mutex::new(());

const MAKERS: [&str; 3] = ["mkfs.ext4", "mkfs.btrfs", "mkfs.xfs"];

fn has_makers(name: &'static str, makers: &[&str]) -> Option<Case> {
    let is_there = |maker: &&&str| {
        ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|d| Path::new(d).join(maker).exists())
    };
    if let Some(missing) = makers.iter().find(|maker| !is_there(maker)) {
        println!("SKIP repart_vector_{name}: there is no {missing}");
        return None;
    }
    Case::new(name, &[])
}

#[test]
fn file_systems_have_derived_identities() {
    let _alone = ALONE.lock();
    let Some(case) = has_makers("33-format", &MAKERS) else { return };
    case.play();
    case.probe();
}

#[test]
fn file_systems_made_through_loop_devices_are_the_same() {
    let _alone = ALONE.lock();
    if !rustix::process::geteuid().is_root() {
        println!("SKIP repart_vector_34-format-online: loop devices need root");
        return;
    }
    let Some(case) = has_makers("34-format-online", &MAKERS) else { return };
    case.play();
    case.probe();
}

#[test]
fn verity_partitions_carry_the_halves_of_their_root_hash() {
    let Some(case) = has_makers("35-verity", &["mkfs.erofs"]) else { return };
    fs::create_dir(case.path("tree")).unwrap();
    fs::write(case.path("tree/file"), "hello\n").unwrap();
    case.play();
    let table = case.table();
    let uuid = |index: usize| {
        table["partitions"][index]["uuid"].as_str().unwrap().replace('-', "").to_lowercase()
    };
    let partition = |index: usize| {
        let entry = &table["partitions"][index];
        let bytes = |key: &str| entry[key].as_u64().unwrap() * 512;
        (bytes("start"), bytes("size"))
    };
    let (offset, _) = partition(1);
    let recorded = case.recorded("veritysb.txt").unwrap();
    let ours = hex(&case.bytes(offset, recorded.trim().len() / 2));
    // Everything but the number of data blocks, which is that of a tree nobody recorded.
    assert_eq!(ours[..160], recorded.trim()[..160]);
    assert_eq!(ours[176..], recorded.trim()[176..]);
    assert_eq!(uuid(0).len() + uuid(1).len(), 64);
    assert_ne!(uuid(0), uuid(1));
}

#[test]
fn the_hash_tree_of_known_blocks_is_the_recorded_one() {
    let Some(case) = Case::new("36-verity-copyblocks", &[]) else { return };
    case.blob(1 << 20);
    case.play();
    let recorded = case.recorded("verity.hex").unwrap();
    let value = |name: &str| {
        let line = recorded.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    let hash = case.bytes(2 << 20, 64 << 10);
    assert_eq!(hex(&hash[..512]), value("superblock(512):"));
    assert_eq!(hex(&sha256(&hash)), value("sha256 of hash partition:"));
}

#[test]
fn fstab_and_crypttab_are_written() {
    let _alone = ALONE.lock();
    let Some(case) = has_makers("37-fstab-crypttab", &MAKERS[..2]) else { return };
    fs::create_dir_all(case.path("r/etc")).unwrap();
    case.play();
    let ours = fs::read_to_string(case.path("r/etc/fstab")).unwrap();
    assert_eq!(ours, case.recorded("generated.fstab").unwrap());
    assert!(!case.path("r/etc/crypttab").exists());
}

#[test]
fn el_torito_is_in_front() {
    let Some(case) = Case::new("38-el-torito", &[]) else { return };
    case.play();
    assert_eq!(&case.bytes(16 * 2048, 6), b"\x01CD001");
    assert_eq!(&case.bytes(17 * 2048 + 7, 23), b"EL TORITO SPECIFICATION");
}

#[cfg(feature = "luks")]
#[test]
fn encrypted_partitions_have_the_recorded_headers() {
    let Some(case) = has_makers("41-encrypt-offline", &MAKERS[..1]) else { return };
    fs::create_dir_all(case.path("r/etc")).unwrap();
    case.play();
    case.probe();
    for name in ["fstab", "crypttab"] {
        let ours = fs::read_to_string(case.path("r/etc").join(name)).unwrap();
        assert_eq!(ours, case.recorded(&format!("generated.{name}")).unwrap());
    }
}

#[test]
fn file_systems_are_as_small_as_they_can_be() {
    let _alone = ALONE.lock();
    let Some(case) = has_makers("42-minimize-guess", &["mkfs.ext4", "mksquashfs", "mkfs.btrfs"])
    else {
        return;
    };
    fs::create_dir_all(case.path("tree/d")).unwrap();
    fs::write(case.path("tree/file"), "hello\n").unwrap();
    fs::write(case.path("tree/d/file"), vec![b'x'; 100_000]).unwrap();
    case.play();
    // The label of the squashfs is none, its size that of another tree.
    let table = case.table();
    assert_eq!(table["partitions"].as_array().unwrap().len(), 3);
}

#[cfg(feature = "verity-sign")]
#[test]
fn root_hashes_are_signed() {
    if !has("openssl") {
        println!("SKIP repart_vector_44-verity-sig: there is no openssl");
        return;
    }
    let Some(case) = Case::new("44-verity-sig", &[]) else { return };
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]);
    openssl.args(["-keyout", "k.pem", "-out", "c.pem", "-days", "2"]);
    openssl.current_dir(case.dir.path()).stderr(Stdio::null());
    assert!(openssl.status().unwrap().success());
    case.blob(1 << 20);
    case.play();
    let text = case.bytes(2_162_688, 16_384);
    let end = text.iter().position(|byte| *byte == 0).unwrap();
    let json: Value = serde_json::from_slice(&text[..end]).unwrap();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["rootHash", "certificateFingerprint", "signature"]);
    assert_eq!(
        json["rootHash"],
        "3767db040987f180083c9c948f54888bf11c3672e6ea1deb443659b3d43d50e9"
    );
    assert!(text[end..].iter().all(|byte| *byte == 0));
}

#[test]
fn broken_definitions_are_refused_as_recorded() {
    let Some(case) = Case::new("40-bad-config", &[]) else { return };
    let text = case.recorded("bad.txt").unwrap();
    let mut count = 0;
    for block in text.split("--- ").skip(1) {
        let mut lines = block.lines();
        let head = lines.next().unwrap();
        let _ = fs::remove_dir_all(case.path("repart.d"));
        fs::create_dir(case.path("repart.d")).unwrap();
        // `FILE: LINE|LINE|…| ` for every file.
        for file in head.split("| ").filter(|file| !file.trim().is_empty()) {
            let (name, content) = file.split_once(": ").unwrap();
            let content = content.trim_end_matches(['|', ' ']).replace('|', "\n");
            fs::write(case.path("repart.d").join(name.trim()), content + "\n").unwrap();
        }
        let exit: i32 = lines.next().unwrap().strip_prefix("exit ").unwrap().parse().unwrap();
        let _ = fs::remove_file(case.path("disk.raw"));
        let done = case.repart(&[
            "--definitions=repart.d",
            "--seed=0123456789abcdef0123456789abcdef",
            "--json=pretty",
            "--dry-run=no",
            "--empty=create",
            "--size=64M",
            "--offline=yes",
            "disk.raw",
        ]);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(exit), "{head}\n{stderr}");
        let recorded: Vec<&str> = lines.collect();
        assert_eq!(stable(&stderr, exit), stable(&recorded.join("\n"), exit), "{head}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn file_systems_say_where_they_belong_as_those_of_the_peer() {
    let Some(case) = has_makers("33-format", &["mkfs.ext4", "debugfs"]) else { return };
    fs::remove_dir_all(case.path("repart.d")).unwrap();
    fs::create_dir(case.path("repart.d")).unwrap();
    let verity = "VerityMatchKey=k\nVerity";
    for (name, text) in [
        (
            "1.conf",
            format!(
                "Type=root\nFormat=ext4\n{verity}=data\nLabel=zz\nMountPoint=/b\n\
                 MountPoint=/a:ro\nSizeMaxBytes=64M\n"
            ),
        ),
        ("2.conf", format!("Type=root-verity\n{verity}=hash\nLabel=aa\nSizeMaxBytes=2M\n")),
        ("3.conf", "Type=home\nFormat=ext4\nLabel=hh\nSizeMaxBytes=32M\n".to_owned()),
    ] {
        fs::write(case.path("repart.d").join(name), format!("[Partition]\n{text}")).unwrap();
    }
    let done = case.repart(&[
        "--definitions=repart.d",
        "--empty=create",
        "--size=150M",
        "--dry-run=no",
        "--offline=yes",
        "--split=yes",
        "--seed=0123456789abcdef0123456789abcdef",
        "disk.raw",
    ]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let attribute = |image: &str, name: &str| {
        let request = format!("ea_get -f /dev/stdout / user.validatefs.{name}");
        let mut debugfs = Command::new("debugfs");
        debugfs.args(["-R", &request, image]).current_dir(case.dir.path());
        String::from_utf8(debugfs.output().unwrap().stdout).unwrap()
    };
    // What the peer writes for these definitions.
    let root = "disk.root-x86-64.raw";
    assert_eq!(attribute(root, "gpt_label"), "aa\0zz\0");
    assert_eq!(
        attribute(root, "gpt_type_uuid"),
        "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5\x004f68bce3-e8cd-4db1-96e7-fbcaf984b709\0"
    );
    assert_eq!(attribute(root, "mount_point"), "/b\0/a\0");
    assert_eq!(attribute("disk.home.raw", "gpt_label"), "hh\0");
    assert_eq!(attribute("disk.home.raw", "mount_point"), "/home\0");
}
