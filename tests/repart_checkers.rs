//! What others say of our images: each file system's own checker, sgdisk, sfdisk and veritysetup.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

const SEED: &str = "--seed=0123456789abcdef0123456789abcdef";

/// Type, file system, size, program that makes it, and the words of the one that checks it: `@` is
/// the file system in a file of its own.
const FILE_SYSTEMS: &[(&str, &str, &str, &str, &[&str])] = &[
    ("esp", "vfat", "264M", "", &["fsck.fat", "-n", "@"]),
    ("xbootldr", "ext2", "64M", "mkfs.ext2", &["e2fsck", "-f", "-n", "@"]),
    ("home", "ext4", "64M", "mkfs.ext4", &["e2fsck", "-f", "-n", "@"]),
    ("var", "btrfs", "160M", "mkfs.btrfs", &["btrfs", "check", "--readonly", "@"]),
    ("srv", "erofs", "8M", "mkfs.erofs", &["fsck.erofs", "@"]),
    ("linux-generic", "squashfs", "8M", "mksquashfs", &["unsquashfs", "-ll", "@"]),
    ("swap", "swap", "16M", "", &["swaplabel", "@"]),
];

fn is_there(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_found = program.is_empty()
        || std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !is_found {
        println!("SKIP {test}: {program} is missing");
    }
    is_found
}

fn run(words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    let output = command.args(&words[1..]).env("LC_ALL", "C.UTF-8").output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(output.status.success(), "{words:?}: {}\n{told}", output.status);
    told
}

/// Sources and definitions in a directory.
fn sources(top: &Path) {
    let file = |path: &str, contents: &[u8]| {
        let path = top.join("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    };
    file("a/file", b"of two directories");
    file("a/empty", b"");
    file("a/b/c/d/e/long name of a file.conf", &[b'x'; 5000]);
    file("large", &[7; 1_500_000]);
    for number in 0..300 {
        file(&format!("many/{number:03} of three hundred"), &[1; 10]);
    }
    fs::create_dir_all(top.join("repart.d")).unwrap();
}

fn define(top: &Path, number: usize, kind: &str, rest: &str) {
    let text = format!("[Partition]\nType={kind}\n{rest}");
    fs::write(top.join(format!("repart.d/{number:02}-{kind}.conf")), text).unwrap();
}

fn size(size: &str) -> String {
    format!("SizeMinBytes={size}\nSizeMaxBytes={size}\n")
}

fn repart(top: &Path, args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.current_dir(top).args(["repart", SEED, "--json=short", "--dry-run=no"]);
    command.args(["--definitions=repart.d", "--copy-source=tree"]).args(args).arg("disk.raw");
    let output = command.env("TMPDIR", top).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The contents of a partition in a file of its own.
fn carve(top: &Path, row: &Value) -> PathBuf {
    let place = |key: &str| row[key].as_u64().unwrap();
    let path = top.join(format!("partition{}", row["partno"]));
    let (image, file) = (File::open(top.join("disk.raw")).unwrap(), File::create(&path).unwrap());
    let (start, len) = (place("offset"), place("raw_size"));
    file.set_len(len).unwrap();
    let mut buffer = vec![0; 1 << 20];
    for at in (0..len).step_by(buffer.len()) {
        let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(buffer.len());
        image.read_exact_at(&mut buffer[..part], start + at).unwrap();
        if buffer[..part].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..part], at).unwrap();
        }
    }
    path
}

/// What looks at tables finds nothing to say.
fn check_table(test: &str, top: &Path, sector_size: u32) {
    let image = top.join("disk.raw");
    let image = image.to_str().unwrap();
    // Neither can be told the sector size of a file.
    if sector_size != 512 {
        return;
    }
    if is_there(test, "sgdisk") {
        let told = run(&["sgdisk", "-v", image]);
        assert!(told.contains("No problems found"), "{told}");
    }
    if is_there(test, "sfdisk") {
        let told = run(&["sfdisk", "--verify", image]);
        assert!(told.contains("No errors detected"), "{told}");
    }
}

fn every_file_system(test: &str, args: &[&str], sector_size: u32) {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    sources(top);
    let mut checks = Vec::new();
    for (number, (kind, format, bytes, program, check)) in FILE_SYSTEMS.iter().enumerate() {
        if !is_there(test, program) || !is_there(test, check[0]) {
            continue;
        }
        let files = if *format == "swap" { "" } else { "CopyFiles=/:/\n" };
        define(top, number, kind, &format!("Format={format}\n{}{files}", size(bytes)));
        checks.push((*kind, *check));
    }
    let json = repart(top, &[&["--empty=create", "--size=auto"], args].concat());
    check_table(test, top, sector_size);
    for (kind, check) in checks {
        let row = json.as_array().unwrap().iter().find(|row| row["type"] == kind).unwrap();
        let path = carve(top, row);
        let words: Vec<&str> = check
            .iter()
            .map(|word| if *word == "@" { path.to_str().unwrap() } else { word })
            .collect();
        let told = run(&words);
        if kind == "linux-generic" {
            assert!(told.contains("long name of a file.conf"), "{told}");
        }
    }
}

/// mkfs.btrfs refuses an identity that some other device has just then.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_file_system_passes_its_checker() {
    let _alone = ALONE.lock();
    every_file_system("every_file_system_passes_its_checker", &[], 512);
}

#[test]
fn every_file_system_passes_its_checker_on_large_sectors() {
    let _alone = ALONE.lock();
    let test = "every_file_system_passes_its_checker_on_large_sectors";
    // mkfs.btrfs refuses a UUID that another block device has, and the other test may be using one.
    let seed = "--seed=fedcba9876543210fedcba9876543210";
    every_file_system(test, &["--sector-size=4096", seed], 4096);
}

/// An image with a root that Verity guards, in `top`.
fn verity_image(top: &Path) -> Value {
    sources(top);
    fs::create_dir_all(top.join("tree/etc")).unwrap();
    fs::write(top.join("tree/etc/os-release"), "ID=test\nNAME=Test\n").unwrap();
    fs::create_dir_all(top.join("tree/usr")).unwrap();
    define(top, 1, "esp", &format!("Format=vfat\n{}", size("264M")));
    let set = "VerityMatchKey=root\n";
    let root = format!("Format=ext4\nCopyFiles=/:/\nVerity=data\n{set}{}", size("64M"));
    define(top, 2, "root", &root);
    define(top, 3, "root-verity", &format!("Verity=hash\n{set}{}", size("1M")));
    define(top, 4, "swap", &size("16M"));
    repart(top, &["--empty=create", "--size=auto"])
}

fn row<'a>(json: &'a Value, kind: &str) -> &'a Value {
    json.as_array().unwrap().iter().find(|row| row["type"] == kind).unwrap()
}

#[test]
fn veritysetup_verifies_the_root_and_misses_no_flipped_bit() {
    let test = "veritysetup_verifies_the_root_and_misses_no_flipped_bit";
    if !is_there(test, "veritysetup") || !is_there(test, "mkfs.ext4") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let json = verity_image(dir.path());
    check_table(test, dir.path(), 512);
    let data = carve(dir.path(), row(&json, "root-x86-64"));
    let hash = carve(dir.path(), row(&json, "root-x86-64-verity"));
    let root_hash = row(&json, "root-x86-64")["roothash"].as_str().unwrap();
    let words =
        ["veritysetup", "verify", data.to_str().unwrap(), hash.to_str().unwrap(), root_hash];
    run(&words);
    let file = File::options().read(true).write(true).open(&data).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 40_000_000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 40_000_000).unwrap();
    assert!(!Command::new(words[0]).args(&words[1..]).output().unwrap().status.success());
}
