//! Broken and odd definitions, read by us and by the real `systemd-repart`: same exit status, same
//! lines about the same lines of the same files, and the same plan or least size where there is
//! one.
//!
//! Needs the peer (`make diff-test PEER=DIR`). The worlds are generated from fixed seeds, so a
//! difference can be looked at again: `SEED=n` runs just that one.
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
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use peer::Peer;

const WORLDS: u64 = 400;
const FILE_WORLDS: u64 = 40;

/// A small generator with a known sequence: the worlds stay the same for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }
}

const TYPES: [&str; 12] = [
    "root",
    "root",
    "usr",
    "home",
    "swap",
    "esp",
    "xbootldr",
    "root-verity",
    "root-verity-sig",
    "linux-generic",
    "01234567-89ab-4def-8123-456789abcdef",
    "4f68bce3e8cd4db196e7fbcaf984b709",
];

const SIZES: [&str; 14] = [
    "1M", "20M", "4097", "1.5M", "0", "12345678", "10 M", "1K", "2M 5K", "", "x", "-1", "5m", "1E",
];
const BOOLS: [&str; 8] = ["yes", "no", "on", "F", "", "maybe", "1", "2"];
const PATHS: [&str; 12] = [
    "/a", "/a/b/", "//c//d", "/a/./b", "/a/../b", "rel", "", "/%a", "/%Z", "/x y", "\"/q r\"", "/",
];
const NUMBERS: [&str; 13] =
    ["0", "5", "-5", "+7", "0x10", "010", "0b11", "1000001", "99999999999", "", "x", " 3", "08"];
const WORDS: [&str; 10] = ["x", "a b", "%%", "%m", "%Z", "", "ä", "a\\tb", "'q'", "a/b"];

/// Keys with values for them. Nothing here takes the peer to a file system of its own.
const KEYS: &[(&str, &[&str])] = &[
    ("Type", &["", "ROOT", "nonsense", "root-", "usr", "00000000000000000000000000000000"]),
    (
        "Label",
        &[
            "x",
            "",
            "%a-%%",
            "%Z",
            "0123456789012345678901234567890123456",
            "äöüäöüäöüäöüäöüäöüä",
            "%",
        ],
    ),
    ("VolumeLabel", &WORDS),
    ("VolumeName", &["", "x", "a/b", ".", ".."]),
    ("UUID", &["null", "", "x", "abcdef00-0000-4000-8000-000000000001", "NULL"]),
    ("Priority", &NUMBERS),
    ("Weight", &NUMBERS),
    ("PaddingWeight", &NUMBERS),
    ("SizeMinBytes", &SIZES),
    ("SizeMaxBytes", &SIZES),
    ("PaddingMinBytes", &SIZES),
    ("PaddingMaxBytes", &SIZES),
    ("FactoryReset", &BOOLS),
    ("NoAuto", &BOOLS),
    ("ReadOnly", &BOOLS),
    ("GrowFileSystem", &BOOLS),
    ("AddValidateFS", &BOOLS),
    ("Discard", &BOOLS),
    ("Flags", &NUMBERS),
    ("CopyBlocks", &["", "rel", "/a/../b", "%Z", "/dev/zero", "/etc/../etc/hostname"]),
    ("Format", &["ext4", "vfat", "swap", "empty", "", "a/b", "..", "ext4", "btrfs"]),
    ("CopyFiles", &PATHS),
    ("CopyFiles", &["/a:/b", "/a:rel", "/a::", "/a:/b:fsverity=copy", "/a:/b:x,fsverity=no"]),
    ("CopyFiles", &["/a:/b:c:d", "/a\\q:/b", "/a:/b\\q", "/a\\x20b", ":", "/a:/b:"]),
    ("ExcludeFiles", &PATHS),
    ("ExcludeFiles", &["/a b /c", "/a \"/b", "/a /b/", "/a/../b /c", "%Z /a"]),
    ("ExcludeFilesTarget", &PATHS),
    ("MakeDirectories", &PATHS),
    ("MakeDirectories", &["/a rel /b", "/a \"/b", "/a /b/../c %Z /d"]),
    ("MakeSymlinks", &["/a:b", "/a", "a:b", ":", "\"/a", "/a:%Z", "%Z:b", "/a/../b:c", "/a:b:c"]),
    ("Subvolumes", &["/a", "/a:ro", "/a:x", "/a:", "rel", "/a /b:nodatacow,ro", "\"/a", "%Z", ""]),
    ("DefaultSubvolume", &["/a", "/b", "", "rel", "%Z", "/a/"]),
    ("BlockDeviceReplace", &["", "rel", "/a/../b", "/"]),
    ("Encrypt", &["off", "key-file", "", "yes", "no", "x", "Key-File"]),
    ("EncryptKDF", &["argon2id", "pbkdf2", "minimal", "", "x"]),
    ("KeyFile", &["", "/dev/null", "/nonexistent", "rel", "/etc"]),
    ("TPM2PCRs", &["", "7", "7+11", "x", "24", "7:sha256", "7:md5", "boot-loader-code"]),
    ("Integrity", &["off", "inline", "", "x", "yes"]),
    ("IntegrityAlgorithm", &["hmac-sha1", "hmac-sha512", "", "x"]),
    ("Verity", &["off", "data", "hash", "signature", "", "x", "yes"]),
    ("VerityMatchKey", &["k", "k", "k2", "", "a b"]),
    ("VerityDataBlockSizeBytes", &["512", "4096", "1K", "100", "3000", "8192", "", "x"]),
    ("VerityHashBlockSizeBytes", &["512", "4K", "100", "3000", ""]),
    ("SplitName", &["%t", "-", "", "x"]),
    ("Minimize", &["off", "best", "guess", "", "x", "no"]),
    ("MountPoint", &["/", "/a:ro", "rel", "", "/a:b:c", "\"/a", "/a:r\\q", ":ro", "/a/../b"]),
    (
        "EncryptedVolume",
        &["v", "v:k:o", "a/b", "", "v:k:o:x", "v:k:o:fixate-volume-key", "a:b:c:d:e"],
    ),
    ("EncryptedVolume", &["\"v", "a\\qb", ":", "v:::x,fixate-volume-key", ".."]),
    ("Compression", &["zstd", "", "ä", "a\"b", "a\\b"]),
    ("CompressionLevel", &["3", "", "ä"]),
    ("SupplementFor", &["10-a", "20-b", "30-c", "", "a/b", ".", "nope"]),
    ("FileSystemSectorSize", &["512", "4096", "100", "", "x", "0"]),
    ("Unknown", &["x"]),
    ("X-Ours", &["x"]),
    ("label", &["x"]),
];

const ODD_LINES: [&str; 10] = [
    "# comment",
    "; comment",
    "NoEquals",
    "=x",
    "[Other]",
    "[X-Other]",
    "[Partition]",
    " Label = spaced ",
    "Label=a\\",
    "[Broken",
];

struct World {
    files: BTreeMap<String, String>,
    args: Vec<String>,
    env: Vec<(&'static str, &'static str)>,
}

fn lines(dice: &mut Dice, is_dropin: bool) -> String {
    let mut text = String::new();
    if !dice.chance(4) {
        text.push_str("[Partition]\n");
    }
    if !is_dropin && !dice.chance(6) {
        text.push_str(&format!("Type={}\n", dice.pick(&TYPES)));
    }
    for _ in 0..1 + dice.roll(5) {
        if dice.chance(7) {
            text.push_str(dice.pick(&ODD_LINES));
        } else {
            let (key, values) = KEYS[dice.roll(KEYS.len())];
            text.push_str(&format!("{key}={}", dice.pick(values)));
        }
        text.push('\n');
    }
    text
}

fn generate(seed: u64) -> World {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        dice.roll(2);
    }
    let mut files = BTreeMap::new();
    let names = ["10-a.conf", "20-b.conf", "30-c.conf"];
    for name in &names[..1 + dice.roll(3)] {
        files.insert(format!("r/{name}"), lines(&mut dice, false));
        if dice.chance(15) {
            files.insert(format!("r/{name}.d/50-d.conf"), lines(&mut dice, true));
        }
        if dice.chance(8) {
            files.insert(format!("over/{name}"), lines(&mut dice, false));
        }
        if dice.chance(5) {
            files.insert(format!("over/{name}"), String::new());
        }
    }
    if dice.chance(25) {
        // A Verity set with something odd in it.
        let mut set = |name: &str, kind: &str, role: &str| {
            let mut text = format!("[Partition]\nType={kind}\nVerity={role}\nVerityMatchKey=k\n");
            if dice.chance(40) {
                let (key, values) = KEYS[dice.roll(KEYS.len())];
                text.push_str(&format!("{key}={}\n", dice.pick(values)));
            }
            files.insert(format!("r/{name}"), text);
        };
        set("60-d.conf", "root", "data");
        set("61-h.conf", "root-verity", "hash");
        set("62-s.conf", "root-verity-sig", "signature");
    }
    let mut args = Vec::new();
    if dice.chance(10) {
        let list = dice.pick(&["root", "home,swap", "esp,root-verity"]);
        let word = dice.pick(&["include", "exclude"]);
        args.push(format!("--{word}-partitions={list}"));
    }
    if dice.chance(10) {
        args.push(format!("--architecture={}", dice.pick(&["arm64", "x86", "sparc"])));
    }
    let mut env = Vec::new();
    if dice.chance(10) {
        env.push(("SYSTEMD_REPART_OVERRIDE_FSTYPE", dice.pick(&["ext4", "vfat", "a/b"])));
    }
    if dice.chance(10) {
        env.push(("SYSTEMD_REPART_OVERRIDE_FSTYPE_ROOT", dice.pick(&["ext4", "btrfs"])));
    }
    World { files, args, env }
}

/// What is known to differ: the peer begins, and fails or aborts when it is too late.
fn is_excused(world: &World, peer: &Output, told: &str) -> bool {
    let text: String = world.files.values().map(String::as_str).collect();
    let is_swap_or_empty =
        told.contains("Format=swap and Copy") || told.contains("Format=empty and");
    // An assertion of the peer.
    (peer.status.code() == Some(134) || is_swap_or_empty)
        || text.contains("CopyFiles=/a:%Z")
        // It looks for a file system where it copies blocks.
        || (text.contains("CopyBlocks=/") && !world.env.is_empty())
}

/// The lines about definition files.
fn about_files(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| line.contains(".conf:") || line.starts_with("Failed to read key file"))
        // Ours shows nothing where there is nothing.
        .map(|line| line.replace("type '(null)'", "type ''"))
        .collect()
}

/// What is printed of the plan, and the least size.
fn plan(output: &Output) -> (String, Vec<String>) {
    let told = String::from_utf8_lossy(&output.stderr);
    let sizes = told.lines().filter(|line| line.starts_with("Automatically determined minimal"));
    (String::from_utf8_lossy(&output.stdout).into_owned(), sizes.map(str::to_owned).collect())
}

#[test]
fn odd_definitions_are_told_and_refused_as_the_peer_does() {
    let Some(peer) = Peer::new("repart_defs_peer") else { return };
    let only: Option<u64> = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let mut faults = Vec::new();
    let (mut refused, mut excused) = (0, 0);
    fs::File::create(peer.dir().join("disk.raw")).unwrap().set_len(2 << 30).unwrap();
    let disk = peer.inside().join("disk.raw");
    for seed in 0..WORLDS {
        if only.is_some_and(|only| only != seed) {
            continue;
        }
        let world = generate(seed);
        let name = format!("w{seed}");
        let dir = peer.dir().join(&name);
        for part in ["r", "over"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        for (name, text) in &world.files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let inside = peer.inside().join(&name);
        let run = |program: &std::path::Path, words: &[&str]| {
            let mut command = peer.command(program);
            command.args(words);
            for part in ["over", "r"] {
                command.arg(format!("--definitions={}", inside.join(part).display()));
            }
            command
                .args(["--seed=0123456789abcdef0123456789abcdef", "--offline=yes", "--pretty=no"])
                .args(&world.args)
                .args(["--json=short", "--empty=allow", "--dry-run=yes"])
                .envs(world.env.iter().copied())
                .arg(if seed % 2 == 0 { "-" } else { disk.to_str().unwrap() })
                .output()
                .unwrap()
        };
        let theirs = run("systemd-repart".as_ref(), &[]);
        let ours = run(&peer.slipway(), &["repart"]);
        let (their_lines, our_lines) = (about_files(&theirs), about_files(&ours));
        refused += u32::from(theirs.status.code() == Some(1));
        let is_same = their_lines == our_lines
            && theirs.status.code() == ours.status.code()
            && plan(&theirs) == plan(&ours);
        if !is_same && is_excused(&world, &theirs, &String::from_utf8_lossy(&ours.stderr)) {
            excused += 1;
        } else if !is_same {
            faults.push(format!(
                "SEED={seed} {:?} {:?}\n{}\npeer {:?}:\n{}{}\nours {:?}:\n{}{}",
                world.args,
                world.env,
                world.files.iter().map(|(n, t)| format!("{n}:\n{t}")).collect::<String>(),
                theirs.status.code(),
                String::from_utf8_lossy(&theirs.stderr),
                String::from_utf8_lossy(&theirs.stdout),
                ours.status.code(),
                String::from_utf8_lossy(&ours.stderr),
                String::from_utf8_lossy(&ours.stdout),
            ));
        }
    }
    println!("{WORLDS} worlds, {refused} refused by the peer, {excused} excused");
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n=====\n"));
}

const LISTS: &[(&str, &[&str])] = &[
    ("CopyFiles", &["/tree:/", "/tree", "/tree/etc:/etc", "/tree//usr/./lib/:/lib", "/missing:/x"]),
    (
        "CopyFiles",
        &["/tree/a\\x20b:/spaced", "/tree/usr:/u:fsverity=no", "/tree/usr:/w:x", "/tree/file:/f"],
    ),
    (
        "CopyFiles",
        &["/tree/link:/followed", "/tree/etc/%a:/%a", "/tree/usr:/p%%", "/tree/etc:/over"],
    ),
    (
        "ExcludeFiles",
        &["/tree/usr", "/tree/usr/", "/tree/etc/conf", "/missing", "\"/tree/a b\" /tree/usr/lib"],
    ),
    ("ExcludeFiles", &["/tree/usr bad /tree/etc", "/tree/etc \"/x", "", "/tree/%o"]),
    ("ExcludeFilesTarget", &["/usr", "/usr/lib/", "/lib/x", "/etc /f", "/", "/etc/../usr"]),
    (
        "MakeDirectories",
        &["/made/deep", "/usr/more /made", "/made\\ here", "/a/../b /kept", "rel /d %Z"],
    ),
    (
        "MakeSymlinks",
        &["/ln:target", "/usr/ln:../x", "/q:a:b", "\"/s p:x y\"", "/made/ln:/%a", "/o\\\\q:r"],
    ),
    (
        "MakeSymlinks",
        &["/twice:one /twice2:two", "/one:a\\:b", "/x/y/z:w", "/bad", "rel:x /good:x"],
    ),
    (
        "MountPoint",
        &["/", "/a:ro", "\"/m n:ro,x\"", "/a:", "/a:b:c", "/%a", "", "/x//y/:rw", "/p:r\\tw"],
    ),
    ("Label", &["x", "", "a-%a", "with space"]),
    ("AddValidateFS", &["yes", "no", ""]),
];

/// Every path below `dir` with its kind, mode and contents.
fn listing(dir: &Path, below: &Path, all: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(dir.join(below)).unwrap().map(|e| e.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        let meta = entry.path().symlink_metadata().unwrap();
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).unwrap().display())
        } else if meta.is_file() {
            fs::read_to_string(entry.path()).unwrap()
        } else {
            String::new()
        };
        all.push(format!("{} {:o} {what}", path.display(), meta.mode()));
        if meta.is_dir() && path != Path::new("lost+found") {
            listing(dir, &path, all);
        }
    }
}

/// What is in the first partition of an image.
fn contents(image: &Path) -> Vec<String> {
    let at = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-o", "loop,ro,noload,offset=1048576"])
        .args([image, at.path()])
        .status();
    assert!(mounted.unwrap().success());
    let mut all = Vec::new();
    let listed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        listing(at.path(), Path::new(""), &mut all);
    }));
    assert!(Command::new("umount").arg(at.path()).status().unwrap().success());
    listed.unwrap();
    all
}

fn source_tree(root: &Path) {
    for (path, text) in [
        ("tree/etc/conf", "1"),
        ("tree/etc/x86-64/inner", "2"),
        ("tree/usr/lib/x", "3"),
        ("tree/usr/lib/sub/y", "4"),
        ("tree/usr/top", "5"),
        ("tree/a b/in", "6"),
        ("tree/file", "7"),
        ("etc/os-release", "ID=etc\n"),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    std::os::unix::fs::symlink("etc", root.join("tree/link")).unwrap();
    fs::create_dir(root.join("tree/empty")).unwrap();
}

#[test]
fn lists_of_files_put_the_same_things_into_a_file_system() {
    let Some(peer) = Peer::new("repart_defs_peer") else { return };
    let only: Option<u64> = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let mut faults = Vec::new();
    let mut made = 0;
    for seed in 0..FILE_WORLDS {
        if only.is_some_and(|only| only != seed) {
            continue;
        }
        let mut dice = Dice((seed + 7000).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let kind = dice.pick(&["root", "root", "home"]);
        let mut text = format!("[Partition]\nType={kind}\nFormat=ext4\nSizeMaxBytes=40M\n");
        // Where links go; the peer does not make parents for them.
        text.push_str("MakeDirectories=/usr /made /x/y\n");
        for _ in 0..2 + dice.roll(6) {
            let (key, values) = LISTS[dice.roll(LISTS.len())];
            text.push_str(&format!("{key}={}\n", dice.pick(values)));
        }
        let name = format!("f{seed}");
        let mut results = Vec::new();
        for who in ["peer", "ours"] {
            let dir = peer.dir().join(&name);
            fs::create_dir_all(dir.join("r")).unwrap();
            fs::write(dir.join("r/1.conf"), &text).unwrap();
            source_tree(&dir.join("root"));
            let inside = peer.inside().join(&name);
            let program = if who == "peer" { "systemd-repart".into() } else { peer.slipway() };
            let mut command = peer.command(&program);
            if who == "ours" {
                command.arg("repart");
            }
            let output = command
                .args(["--empty=create", "--size=64M", "--offline=yes", "--pretty=no"])
                .args(["--seed=0123456789abcdef0123456789abcdef", "--generate-fstab=/fstab"])
                .arg(format!("--definitions={}", inside.join("r").display()))
                .arg(format!("--root={}", inside.join("root").display()))
                .arg(inside.join("disk.raw"))
                .output()
                .unwrap();
            // The peer writes blanks as they are, which ends the field, and a comma for options that
            // are empty.
            let fstab = fs::read_to_string(dir.join("root/fstab")).unwrap_or_default();
            let fstab = fstab.replace("\\040", " ").replace("\\011", "\t").replace(", 0", " 0");
            let files =
                if output.status.success() { contents(&dir.join("disk.raw")) } else { Vec::new() };
            results.push((output.status.code(), about_files(&output), fstab, files, output.stderr));
            fs::remove_dir_all(&dir).unwrap();
        }
        let [theirs, ours] = results.as_slice() else { unreachable!() };
        made += u32::from(theirs.0 == Some(0));
        if (theirs.0, &theirs.1, &theirs.2, &theirs.3) != (ours.0, &ours.1, &ours.2, &ours.3) {
            let show = |it: &(Option<i32>, Vec<String>, String, Vec<String>, Vec<u8>)| {
                let stderr = String::from_utf8_lossy(&it.4).into_owned();
                format!("{:?}\n{stderr}\n{}\n{}", it.0, it.2, it.3.join("\n"))
            };
            faults.push(format!("SEED={seed}\n{text}\npeer {}\nours {}", show(theirs), show(ours)));
        }
    }
    println!("{FILE_WORLDS} images, {made} made by the peer");
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n=====\n"));
}
