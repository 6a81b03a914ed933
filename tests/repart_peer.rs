//! `repart` and the real systemd-repart on the same definitions and the same disks: same status,
//! same JSON, same table, same bytes; file systems hold the same files.
//!
//! Needs the peer (`make diff-test PEER=DIR`). The worlds are generated from fixed seeds, so a
//! difference can be looked at again: `SEED=n` runs just that one, `WORLDS=n` more of them.
//! Differences that are meant are in `tests/diff/differences.md`.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test; what was skipped and counted is told"
)]

#[path = "common/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use peer::Peer;
use serde_json::Value;
use slipway::format::gpt::{self, Partition, Step, Table, types};
use uuid::Uuid;

const SEED: &str = "--seed=0123456789abcdef0123456789abcdef";
const WORLDS: u64 = 230;

/// A small generator with a known sequence: the worlds stay the same for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len() as u64) as usize]
    }

    /// So many MiB, sometimes with an odd rest.
    fn mib(&mut self, least: u64, most: u64) -> u64 {
        let odd = if self.chance(30) { self.roll(1 << 20) } else { 0 };
        ((least + self.roll(most - least)) << 20) + odd
    }
}

/// What is on the disk before.
enum Label {
    Missing,
    Nothing,
    Mbr,
    Gpt(Vec<Partition>),
}

struct World {
    definitions: Vec<(String, String)>,
    label: Label,
    size: u64,
    sector: u32,
    steps: Vec<Vec<String>>,
}

const TYPES: [&str; 10] =
    ["root", "usr", "home", "srv", "var", "tmp", "esp", "xbootldr", "linux-generic", "user-home"];

fn generate(seed: u64) -> World {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        dice.roll(2);
    }
    match seed % 8 {
        0..=4 => layout(&mut dice),
        5 => blocks(&mut dice),
        _ => populated(&mut dice),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Tables, sizes, priorities, supplements, modes; no contents.
fn layout(dice: &mut Dice) -> World {
    let sector = if dice.chance(25) { 4096 } else { 512 };
    let size = dice.mib(20, 300) / u64::from(sector) * u64::from(sector);
    let label = match dice.roll(10) {
        0 => Label::Missing,
        1 | 2 => Label::Nothing,
        3 => Label::Mbr,
        _ => Label::Gpt(table(dice, size, sector)),
    };
    let mut definitions = Vec::new();
    let mut supplemented = Vec::new();
    let count = 1 + dice.roll(6);
    for index in 0..count {
        let mut text = sizes(dice);
        if dice.chance(30) {
            text += &format!("Priority={}\n", dice.roll(5) as i64 - 1);
        }
        if dice.chance(20) {
            text += &format!("Label={}\n", dice.pick(&["A", "Ünï", "two words", "%a-x", ""]));
        }
        if dice.chance(10) {
            text += &format!(
                "UUID={}\n",
                dice.pick(&["null", "de305d54-75b4-431b-adb2-eb6b9e546014", "bad"])
            );
        }
        if dice.chance(15) {
            text +=
                &format!("{}={}\n", dice.pick(&["NoAuto", "ReadOnly"]), dice.pick(&["yes", "no"]));
        }
        if dice.chance(10) {
            text +=
                &format!("Flags={}\n", dice.pick(&["0x1000000000000", "0", "1152921504606846976"]));
        }
        if dice.chance(15) {
            text += "FactoryReset=yes\n";
        }
        if dice.chance(10) {
            // Read-only, for the peer wants other placeholders to be grown.
            text += "Format=empty\nReadOnly=yes\n";
        }
        if index > 0 && dice.chance(15) {
            let target = dice.roll(index);
            if !supplemented.contains(&target) && !supplemented.contains(&index) {
                text += &format!("SupplementFor={target}0-x\n");
                supplemented.extend([target, index]);
            }
        }
        if dice.chance(5) {
            text +=
                dice.pick(&["Unknown=1\n", "Weight=2000000\n", "NoAuto=perhaps\n", "[Other]\n"]);
        }
        let text = format!("[Partition]\nType={}\n{text}", dice.pick(&TYPES));
        definitions.push((format!("{index}0-x.conf"), text));
    }
    let mut common = vec![format!("--sector-size={sector}")];
    let created = matches!(label, Label::Missing);
    let modes = ["refuse", "allow", "require", "force"];
    let mode = if created { "create" } else { modes[dice.roll(4) as usize] };
    let mode = if matches!(label, Label::Gpt(_)) && dice.chance(70) { "refuse" } else { mode };
    common.push(format!("--empty={mode}"));
    if dice.chance(20) {
        common.push(format!("--grain-size={}", 4096_u64 << dice.roll(9)));
    }
    if dice.chance(10) {
        common.push(format!("--include-partitions={},{}", dice.pick(&TYPES), dice.pick(&TYPES)));
    } else if dice.chance(10) {
        common.push(format!("--exclude-partitions={}", dice.pick(&TYPES)));
    }
    if dice.chance(15) {
        common.push(format!("--defer-partitions={}", dice.pick(&TYPES)));
    }
    if dice.chance(15) {
        common.push("--defer-partitions-empty=yes".to_owned());
    }
    if dice.chance(10) {
        common.push("--defer-partitions-factory-reset=yes".to_owned());
    }
    if created {
        let auto = dice.chance(40);
        common.push(if auto { "--size=auto".to_owned() } else { format!("--size={size}") });
    }
    let grown =
        (!created && dice.chance(25)).then(|| format!("--size={}", size + dice.mib(1, 100)));
    let split = if dice.chance(10) { "--split=yes" } else { "--no-pager" };
    let mut steps = Vec::new();
    let mut step = |extra: &[&str]| steps.push([common.clone(), words(extra)].concat());
    if !created {
        step(&["--dry-run=yes", "--json=pretty"]);
    }
    if matches!(label, Label::Gpt(_)) && dice.chance(25) {
        step(&["--can-factory-reset"]);
        step(&["--factory-reset=yes", "--dry-run=yes", "--json=short"]);
        step(&["--factory-reset=yes", "--dry-run=no", "--json=short"]);
    }
    // The peer grows the image in a dry run, too.
    step(&["--dry-run=no", split, "--json=short", grown.as_deref().unwrap_or("--json=short")]);
    steps.push(words(&[&format!("--sector-size={sector}"), "--dry-run=no", "--json=pretty"]));
    World { definitions, label, size, sector, steps }
}

fn sizes(dice: &mut Dice) -> String {
    let mut text = String::new();
    let least = dice.mib(0, 40);
    if dice.chance(50) {
        text += &format!("SizeMinBytes={least}\n");
    }
    if dice.chance(40) {
        text += &format!("SizeMaxBytes={}\n", least + dice.mib(1, 60));
    }
    if dice.chance(30) {
        text += &format!("Weight={}\n", dice.pick(&["0", "1", "333", "5000", "1000000"]));
    }
    if dice.chance(20) {
        text += &format!("PaddingWeight={}\n", dice.pick(&["0", "1", "333", "5000", "1000000"]));
    }
    let least = dice.mib(0, 5);
    if dice.chance(15) {
        text += &format!("PaddingMinBytes={least}\n");
    }
    if dice.chance(15) {
        text += &format!("PaddingMaxBytes={}\n", least + dice.mib(1, 10));
    }
    text
}

fn table(dice: &mut Dice, size: u64, sector: u32) -> Vec<Partition> {
    let sector = u64::from(sector);
    let (mut lba, end) = ((1 << 20) / sector, (size - (1 << 20)) / sector);
    let unit = if dice.chance(60) { 4096 / sector } else { 1 };
    let mut numbers: Vec<u32> = (1..=10).collect();
    let mut partitions = Vec::new();
    for _ in 0..dice.roll(6) {
        let gap = if dice.chance(50) { 0 } else { dice.roll(end / 8) / unit * unit };
        let len = dice.roll(end / 5) / unit * unit + unit;
        if lba + gap + len > end {
            break;
        }
        let number = numbers.remove(dice.roll(numbers.len().min(5) as u64) as usize);
        let uuid = 0xaaaa_aaaa_0000_4000_8000_0000_0000_0000 + u128::from(number);
        partitions.push(Partition {
            number,
            type_uuid: types::parse(dice.pick(&TYPES)).unwrap(),
            uuid: if dice.chance(10) { Uuid::nil() } else { Uuid::from_u128(uuid) },
            first_lba: lba + gap,
            last_lba: lba + gap + len - 1,
            flags: if dice.chance(20) { 1 << 60 } else { 0 },
            name: if dice.chance(20) { String::new() } else { format!("old {number}") },
        });
        lba += gap + len;
    }
    partitions
}

/// What is copied block by block.
fn blocks(dice: &mut Dice) -> World {
    let mut definitions = Vec::new();
    for index in 0..1 + dice.roll(4) {
        let mut text = format!("[Partition]\nType={}\n", dice.pick(&TYPES));
        if dice.chance(60) {
            text += "CopyBlocks=@D@/blob\n";
        }
        if dice.chance(30) {
            text += &format!("SplitName={}\n", dice.pick(&["%t-%U", "-", "part%n", "x"]));
        }
        definitions.push((format!("{index}0-x.conf"), text + &sizes(dice)));
    }
    let mut step = words(&[
        "--empty=create",
        "--json=pretty",
        "--dry-run=no",
        &format!("--size={}", 400 << 20),
    ]);
    if dice.chance(40) {
        step.push("--copy-from=@D@/source.raw".to_owned());
    }
    if dice.chance(40) {
        step.push("--split=yes".to_owned());
    }
    if dice.chance(30) {
        step.push("--offline=yes".to_owned());
    }
    let again = words(&["--json=pretty", "--dry-run=no"]);
    World { definitions, label: Label::Missing, size: 0, sector: 512, steps: vec![step, again] }
}

/// File systems with files in them.
fn populated(dice: &mut Dice) -> World {
    let mut definitions = Vec::new();
    for index in 0..1 + dice.roll(3) {
        let format = dice.pick(&[
            "vfat", "vfat", "ext4", "ext4", "ext2", "erofs", "erofs", "squashfs", "btrfs", "xfs",
            "swap",
        ]);
        let type_name = match format {
            "vfat" => dice.pick(&["esp", "xbootldr", "linux-generic"]),
            "swap" => "swap",
            _ => dice.pick(&["root", "usr", "home", "srv", "var", "linux-generic"]),
        };
        let mut text = format!("[Partition]\nType={type_name}\nFormat={format}\n");
        if format == "vfat" {
            text += "SizeMinBytes=270M\nSizeMaxBytes=270M\n";
        }
        if format != "swap" {
            text += dice.pick(&[
                "CopyFiles=/:/\n",
                "CopyFiles=/usr:/\nCopyFiles=/etc:/conf\n",
                "CopyFiles=/usr/lib\n",
                "",
            ]);
            if dice.chance(30) {
                text += "MakeDirectories=/made/deep /other\n";
            }
            if dice.chance(30) && format != "vfat" {
                text += "MakeSymlinks=/link:../target\n";
            }
            if dice.chance(25) {
                text += "ExcludeFiles=/usr/lib/os-release\n";
            }
            if dice.chance(25) {
                text += "ExcludeFilesTarget=/etc/\n";
            }
            if dice.chance(20) {
                text += "AddValidateFS=no\n";
            }
        }
        if matches!(format, "erofs" | "squashfs") && dice.chance(60) {
            text += "Minimize=best\n";
        }
        if format == "erofs" && dice.chance(30) {
            text += "Compression=lz4\n";
        }
        if dice.chance(20) {
            text += "Label=My Label/x\n";
        }
        definitions.push((format!("{index}0-x.conf"), text));
    }
    let mut step = words(&[
        "--empty=create",
        "--json=pretty",
        "--dry-run=no",
        "--offline=yes",
        "--copy-source=@D@/tree",
    ]);
    let size = if dice.chance(50) { "auto" } else { "2G" };
    step.push(format!("--size={size}"));
    if dice.chance(20) {
        step.push("--sector-size=512".to_owned());
    }
    let again =
        words(&["--json=pretty", "--dry-run=no", "--offline=yes", "--copy-source=@D@/tree"]);
    World { definitions, label: Label::Missing, size: 0, sector: 512, steps: vec![step, again] }
}

fn set_times(path: &Path) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// A small operating system to copy from.
fn make_tree(top: &Path) {
    let mut paths = Vec::new();
    for (name, text, mode) in [
        ("usr/lib/os-release", "ID=test\nVERSION_ID=1\n".to_owned(), 0o644),
        ("usr/lib/empty", String::new(), 0o600),
        ("usr/bin/large program with a long name", "0123456789abcdef".repeat(20_000), 0o755),
        ("usr/lib/modules/a/b/c/deep.ko", "x".repeat(5000), 0o644),
        ("etc/hostname", "host\n".to_owned(), 0o640),
        ("etc/conf.d/10-x.conf", "[A]\n".to_owned(), 0o644),
        ("tmp/not copied", "x".to_owned(), 0o644),
        ("EFI/BOOT/BOOTX64.EFI", "MZ".repeat(3000), 0o644),
    ] {
        let path = top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        paths.push(path);
    }
    for name in
        ["usr/lib/modules/a/b/c", "usr/lib/modules/a/b", "usr/lib/modules/a", "usr/lib/modules"]
    {
        paths.push(top.join(name));
    }
    for name in ["usr/lib", "usr/bin", "usr", "etc/conf.d", "etc", "tmp", "EFI/BOOT", "EFI", ""] {
        paths.push(top.join(name));
    }
    paths.iter().for_each(|path| set_times(path));
}

fn write_table(path: &Path, size: u64, sector: u32, partitions: &[Partition]) {
    let file = File::options().write(true).read(true).open(path).unwrap();
    let guid = Uuid::from_u128(0x1111_1111_2222_4333_8444_5555_5555_5555);
    let mut table = Table::create(size, sector, guid).unwrap();
    for partition in partitions {
        table.set(partition).unwrap();
        let text = format!("contents of partition {}\n", partition.number);
        file.write_all_at(text.as_bytes(), partition.first_lba * u64::from(sector)).unwrap();
    }
    for step in table.writes() {
        if let Step::Write { offset, bytes, .. } = step {
            file.write_all_at(&bytes, offset).unwrap();
        }
    }
}

fn build(dir: &Path, world: &World) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("defs")).unwrap();
    let place = dir.to_str().unwrap();
    let mut all = String::new();
    for (name, text) in &world.definitions {
        let text = text.replace("@D@", place);
        fs::write(dir.join("defs").join(name), &text).unwrap();
        all += &text;
    }
    let steps = world.steps.concat().concat();
    if all.contains("/blob") {
        let blob: Vec<u8> = (0_u32..400_000).flat_map(|n| (n / 7).to_le_bytes()).collect();
        fs::write(dir.join("blob"), &blob[..3000 * 512]).unwrap();
    }
    if steps.contains("tree") {
        make_tree(&dir.join("tree"));
    }
    if steps.contains("source.raw") {
        let path = dir.join("source.raw");
        File::create(&path).unwrap().set_len(32 << 20).unwrap();
        let partition = |number: u32, first_lba: u64, len: u64| Partition {
            number,
            type_uuid: types::parse(TYPES[number as usize]).unwrap(),
            uuid: Uuid::from_u128(0xbbbb_0000 + u128::from(number)),
            first_lba,
            last_lba: first_lba + len - 1,
            flags: 1 << 59,
            name: format!("source {number}"),
        };
        let partitions =
            [partition(1, 2048, 8192), partition(4, 12288, 2047), partition(2, 20480, 4096)];
        write_table(&path, 32 << 20, 512, &partitions);
    }
    let disk = dir.join("disk.raw");
    if matches!(world.label, Label::Missing) {
        return;
    }
    File::create(&disk).unwrap().set_len(world.size).unwrap();
    match &world.label {
        Label::Missing | Label::Nothing => {}
        Label::Mbr => {
            let file = File::options().write(true).open(&disk).unwrap();
            let entry = [0, 0, 2, 0, 0x83, 0, 3, 0, 0, 8, 0, 0, 0, 8, 0, 0];
            file.write_all_at(&entry, 446).unwrap();
            file.write_all_at(&[0x55, 0xaa], 510).unwrap();
        }
        Label::Gpt(partitions) => write_table(&disk, world.size, world.sector, partitions),
    }
}

/// Everything that one step says and leaves behind.
#[derive(Debug)]
struct Seen {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    /// Size of the image and its table.
    disk: Option<(u64, Option<Table>)>,
    /// Blocks of the image, and of split files, that are not all zeros.
    blocks: BTreeMap<(String, u64), u64>,
    /// What is in file systems.
    files: BTreeMap<String, String>,
}

fn load(path: &Path, sector: u32) -> Option<(u64, Option<Table>)> {
    let file = File::open(path).ok()?;
    let size = file.metadata().unwrap().len();
    let mut read = |offset: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    let loaded = gpt::load(size, sector, &mut read).ok();
    Some((size, loaded.map(|loaded| loaded.table)))
}

/// Hashes of the blocks of a sparse file that have something in them.
fn blocks_of(path: &Path, blocks: &mut BTreeMap<(String, u64), u64>) {
    const BLOCK: u64 = 4096;
    let Ok(file) = File::open(path) else { return };
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut offset = 0;
    while let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
        let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)).unwrap();
        let mut at = start / BLOCK * BLOCK;
        while at < end {
            let mut bytes = vec![0; BLOCK as usize];
            let read = file.read_at(&mut bytes, at).unwrap();
            if read == 0 {
                break;
            }
            if bytes.iter().any(|byte| *byte != 0) {
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                blocks.insert((name.clone(), at), hasher.finish());
            }
            at += BLOCK;
        }
        offset = end;
    }
}

fn walk(top: &Path, path: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let name = path.strip_prefix(top).unwrap().display().to_string();
    let (mode, mtime) = (meta.mode(), meta.mtime());
    // What the run makes itself has the time of the run.
    let is_root = top == path;
    let time = match mtime {
        // In the peer it depends on what is made in it later.
        _ if is_root => "",
        1_600_000_000 => "old",
        _ => "new",
    };
    let what = if meta.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap().display())
    } else if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|name| name != "lost+found") {
                walk(top, &path, prefix, found);
            }
        }
        format!("directory {mode:o} {}:{} {time}", meta.uid(), meta.gid())
    } else {
        let mut hasher = DefaultHasher::new();
        fs::read(path).unwrap().hash(&mut hasher);
        let (uid, gid, links) = (meta.uid(), meta.gid(), meta.nlink());
        let hash = hasher.finish();
        format!("file {mode:o} {uid}:{gid} {links} {time} {} {hash:x}", meta.len())
    };
    let mut names = vec![0; 4096];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let mut attributes = Vec::new();
    for attribute in String::from_utf8_lossy(&names[..len]).split_terminator('\0') {
        let mut value = vec![0; 4096];
        let len = rustix::fs::lgetxattr(path, attribute, &mut value).unwrap_or(0);
        attributes.push(format!("{attribute}={}", String::from_utf8_lossy(&value[..len])));
    }
    attributes.sort();
    found.insert(format!("{prefix}/{name}"), format!("{what} {attributes:?}"));
}

/// Lists a file system by mounting it, or, where the kernel cannot be relied on, by mtools.
fn list(dir: &Path, partition: &Partition, sector: u32, found: &mut BTreeMap<String, String>) {
    let disk = dir.join("disk.raw");
    let offset = partition.first_lba * u64::from(sector);
    let len = (partition.last_lba + 1 - partition.first_lba) * u64::from(sector);
    let prefix = format!("{}", partition.number);
    let at = dir.join("mnt");
    let _ = fs::remove_dir_all(&at);
    fs::create_dir(&at).unwrap();
    let mut head = vec![0; 512];
    File::open(&disk).unwrap().read_exact_at(&mut head, offset).unwrap();
    if head.get(82..87) == Some(b"FAT32") {
        // Serial number, label and geometry.
        found.insert(format!("{prefix} boot sector"), format!("{:x?}", &head[11..90]));
        let image = format!("{}@@{offset}", disk.display());
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program)
                .env("MTOOLS_SKIP_CHECK", "1")
                .env("TZ", "UTC")
                .args(args)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let label = run("mlabel", &["-s", "-i", &image, "::"]);
        found.insert(format!("{prefix} label"), label);
        run("mcopy", &["-s", "-m", "-n", "-p", "-Q", "-i", &image, "::/", at.to_str().unwrap()]);
        walk(&at, &at, &prefix, found);
        return;
    }
    let options = format!("ro,loop,offset={offset},sizelimit={len},noload");
    for options in [
        options.as_str(),
        options.trim_end_matches(",noload"),
        &options.replace("noload", "norecovery,nouuid"),
    ] {
        let mounted =
            Command::new("mount").args(["-o", options]).arg(&disk).arg(&at).output().unwrap();
        if mounted.status.success() {
            walk(&at, &at, &prefix, found);
            assert!(Command::new("umount").arg("-l").arg(&at).status().unwrap().success());
            return;
        }
    }
    found.insert(format!("{prefix} cannot be mounted"), String::new());
}

fn run(peer: &Peer, dir: &Path, world: &World, is_theirs: bool) -> Vec<Seen> {
    build(dir, world);
    let place = dir.to_str().unwrap();
    let mut seen = Vec::new();
    for step in &world.steps {
        let mut command = if is_theirs {
            peer.command("systemd-repart")
        } else {
            let mut command = peer.command(peer.slipway());
            command.arg("repart");
            command
        };
        let output = command
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("TMPDIR", place)
            .arg(SEED)
            .arg(format!("--definitions={place}/defs"))
            .args(step.iter().map(|word| word.replace("@D@", place)))
            .arg(format!("{place}/disk.raw"))
            .output()
            .unwrap();
        let mut one = Seen {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            disk: load(&dir.join("disk.raw"), world.sector),
            blocks: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        let mut names: Vec<PathBuf> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in names {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with("disk.") {
                blocks_of(&path, &mut one.blocks);
                one.files.insert(name.to_owned(), fs::metadata(&path).unwrap().len().to_string());
            } else if !["defs", "tree", "blob", "source.raw", "mnt"].contains(&name) {
                one.files.insert(format!("left behind: {name}"), String::new());
            }
        }
        if let Some((_, Some(table))) = &one.disk {
            for partition in table.partitions() {
                if format_of(world, &one.stdout, &partition).is_some_and(|format| format != "swap")
                {
                    let sector = table.sector_size();
                    list(dir, &partition, sector, &mut one.files);
                    // The same files may be in other blocks.
                    let bytes = |lba: u64| lba * u64::from(sector);
                    let range = bytes(partition.first_lba)..bytes(partition.last_lba + 1);
                    one.blocks.retain(|(_, offset), _| !range.contains(offset));
                }
            }
        }
        seen.push(one);
    }
    seen
}

/// The file system that the definition of a partition asks for.
fn format_of<'a>(world: &'a World, stdout: &str, partition: &Partition) -> Option<&'a str> {
    let rows: Value = serde_json::from_str(stdout).ok()?;
    let row = rows
        .as_array()?
        .iter()
        .find(|row| row["partno"].as_u64() == Some(u64::from(partition.number) - 1))?;
    let file = row["file"].as_str()?.rsplit('/').next()?;
    let (_, text) = world.definitions.iter().find(|(name, _)| name == file)?;
    let format = text.lines().find_map(|line| line.strip_prefix("Format="))?;
    (format != "empty").then_some(format)
}

/// Steps at which the two may part, with the reason. After one, the rest of that world says nothing.
fn is_known(theirs: &Seen, ours: &Seen) -> Option<&'static str> {
    if theirs.status == Some(134) || theirs.status.is_none() {
        return Some("the peer aborts");
    }
    if theirs.stderr.contains("Failed to update partition: Numerical result out of range") {
        return Some("the peer cannot use the last bytes that it has planned with");
    }
    let is_random = |seen: &Seen| seen.stderr.contains("reverting to randomized UUID");
    if is_random(theirs) && is_random(ours) {
        return Some("a UUID is random");
    }
    let has_clash = |seen: &Seen| seen.stderr.contains("have the same resolved split name");
    if theirs.status == ours.status && has_clash(theirs) && has_clash(ours) {
        return Some("the peer finds clashing split names after it has written the disk");
    }
    let size = |seen: &Seen| seen.disk.as_ref().map(|disk| disk.0);
    if theirs.status == ours.status && theirs.status != Some(0) && size(theirs) > size(ours) {
        return Some("the peer refuses, but leaves the image grown");
    }
    None
}

fn differences(theirs: &Seen, ours: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    if theirs.status != ours.status {
        found.push(format!("status {:?}, ours {:?}", theirs.status, ours.status));
    }
    if theirs.stdout != ours.stdout {
        found.push(format!("stdout:\n{}\nours:\n{}", theirs.stdout, ours.stdout));
    }
    match (&theirs.disk, &ours.disk) {
        (Some((size, theirs)), Some((our_size, ours))) => {
            if size != our_size {
                found.push(format!("size {size}, ours {our_size}"));
            }
            let rows = |table: &Option<Table>| {
                table.as_ref().map(|table| {
                    let rows: Vec<Partition> = table.partitions().collect();
                    (table.disk_guid(), table.usable(), rows)
                })
            };
            let (theirs, ours) = (rows(theirs), rows(ours));
            if let (Some((guid, usable, theirs)), Some((our_guid, our_usable, ours))) =
                (&theirs, &ours)
            {
                if (guid, usable) != (our_guid, our_usable) {
                    found.push(format!("{guid} {usable:?}, ours {our_guid} {our_usable:?}"));
                }
                let numbers = theirs.iter().chain(ours).map(|partition| partition.number);
                for number in numbers.collect::<std::collections::BTreeSet<_>>() {
                    let find = |all: &[Partition]| all.iter().find(|p| p.number == number).cloned();
                    if find(theirs) != find(ours) {
                        found.push(format!("{:?}\nours {:?}", find(theirs), find(ours)));
                    }
                }
            } else if theirs.is_some() != ours.is_some() {
                found.push(format!("table {}, ours {}", theirs.is_some(), ours.is_some()));
            }
        }
        (None, None) => {}
        (theirs, ours) => {
            found.push(format!("disk {}, ours {}", theirs.is_some(), ours.is_some()));
        }
    }
    let keys = theirs.blocks.keys().chain(ours.blocks.keys());
    let keys: std::collections::BTreeSet<_> =
        keys.filter(|key| theirs.blocks.get(*key) != ours.blocks.get(*key)).collect();
    if !keys.is_empty() {
        let first: Vec<_> = keys.iter().take(12).collect();
        found.push(format!("{} blocks differ: {first:?}", keys.len()));
    }
    let keys = theirs.files.keys().chain(ours.files.keys());
    let keys: std::collections::BTreeSet<_> =
        keys.filter(|key| theirs.files.get(*key) != ours.files.get(*key)).collect();
    for key in keys {
        found.push(format!(
            "file {key}: {:?}, ours {:?}",
            theirs.files.get(key),
            ours.files.get(key)
        ));
    }
    found
}

fn compare(peer: &Peer, dir: &Path, seed: u64) -> Result<&'static str, String> {
    let world = generate(seed);
    let theirs = run(peer, dir, &world, true);
    let ours = run(peer, dir, &world, false);
    for (index, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
        if let Some(reason) = is_known(theirs, ours) {
            return Ok(reason);
        }
        let found = differences(theirs, ours);
        if !found.is_empty() {
            let definitions: String =
                world.definitions.iter().map(|(name, text)| format!("-- {name}\n{text}")).collect();
            return Err(format!(
                "seed {seed}, step {index} {:?}\n{definitions}\n{}\nstderr:\n{}\nours:\n{}",
                world.steps[index],
                found.join("\n"),
                theirs.stderr,
                ours.stderr
            ));
        }
    }
    Ok("same")
}

/// A place for images that both programs see by the same path: memory where there is some.
fn scratch(peer: &Peer) -> (Option<tempfile::TempDir>, PathBuf) {
    match tempfile::Builder::new().prefix("slipway-test.").tempdir_in("/dev/shm") {
        Ok(dir) => {
            let path = dir.path().to_path_buf();
            (Some(dir), path)
        }
        Err(_) => (None, peer.dir().to_path_buf()),
    }
}

#[test]
fn generated_disks_come_out_the_same() {
    let Some(peer) = Peer::new("generated_disks_come_out_the_same") else { return };
    let (_guard, scratch) = scratch(&peer);
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WORLDS").unwrap_or(WORLDS),
    };
    let next = AtomicU64::new(seeds.start);
    let counts: Mutex<BTreeMap<&str, u32>> = Mutex::default();
    let failures: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let dir = scratch.join(format!("world{thread}"));
            let (next, counts, failures, peer, seeds) = (&next, &counts, &failures, &peer, &seeds);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match compare(peer, &dir, seed) {
                        Ok(reason) => *counts.lock().unwrap().entry(reason).or_default() += 1,
                        Err(what) => failures.lock().unwrap().push(what),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{:?}, {} differ", counts.into_inner().unwrap(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n==========\n"));
}
