//! Disks that repart made without root are booted, and one that grows on its first boot.
//!
//! The firmware reads the kernel from a FAT of ours; the kernel itself sets up dm-verity from words
//! on its command line, so that nothing else has a hand in it.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a broken test should panic"
)]

#[path = "common/vm/mod.rs"]
mod vm;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vm::{Ingredients, KERNEL_WORDS, Machine};

const ROOT: &str = include_str!("vm/repart-root.sh");
const SECRET: &str = include_str!("vm/repart-secret.sh");
const FIRST_BOOT: &str = include_str!("vm/repart-first-boot.sh");
const WORDS: &str = include_str!("vm/words.sh");

const SWITCHES: &[&str] = &[
    "EFI_PARTITION",
    "EXT4_FS",
    "VFAT_FS",
    "NLS_CODEPAGE_437",
    "NLS_ISO8859_1",
    "VIRTIO_PCI",
    "VIRTIO_BLK",
];

/// Somebody without rights: overflow user and group of the kernel.
const NOBODY: u32 = 65534;

/// A directory with sources, definitions and the image, which all belong to a user without rights.
struct Bench {
    directory: tempfile::TempDir,
    ingredients: Ingredients,
}

impl Bench {
    /// One with a kernel that has these switches besides the usual ones.
    fn new(test: &str, switches: &[&'static str]) -> Option<Self> {
        if Command::new("mke2fs").arg("-V").output().is_err() {
            println!("SKIP {test}: no mke2fs (package e2fsprogs)");
            return None;
        }
        let ingredients = vm::ingredients(test, &[SWITCHES, switches].concat())?;
        let directory = tempfile::tempdir().unwrap();
        let bench = Self { directory, ingredients };
        // Where the target directory is a user without rights may have no way to.
        fs::copy(&bench.ingredients.slipway, bench.path("slipway")).unwrap();
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        self
    }

    fn program(&self, name: &str, contents: impl AsRef<[u8]>) -> &Self {
        self.file(name, contents);
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    /// What every root has: busybox, slipway, the words of scenarios, and an init.
    fn root(&self, init: &str) {
        for directory in ["dev", "proc", "run", "sys", "tmp", "usr/bin", "etc"] {
            fs::create_dir_all(self.path("root").join(directory)).unwrap();
        }
        self.program("root/init", init)
            .program("root/bin/busybox", fs::read(&self.ingredients.busybox).unwrap())
            .program("root/bin/slipway", fs::read(&self.ingredients.slipway).unwrap())
            .file("root/words", WORDS);
    }

    /// What `sha256sum -c` takes for the files below a directory, with paths below `shown`.
    fn sums(&self, name: &str, shown: &str) -> String {
        fn walk(directory: &Path, shown: &str, sums: &mut String) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let shown = format!("{shown}{}", path.file_name().unwrap().to_str().unwrap());
                if path.is_dir() {
                    walk(&path, &format!("{shown}/"), sums);
                } else {
                    let digest = Sha256::digest(fs::read(&path).unwrap());
                    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                    sums.push_str(&format!("{hex}  {shown}\n"));
                }
            }
        }
        let mut sums = String::new();
        walk(&self.path(name), shown, &mut sums);
        sums
    }

    /// repart as a user without rights; its JSON.
    fn repart(&self, definitions: &str, args: &[&str]) -> Value {
        let mut command = Command::new(self.path("slipway"));
        command.arg("repart").arg("--dry-run=no").arg("--json=short");
        command.arg("--seed=0123456789abcdef0123456789abcdef").args(args);
        command.arg(format!("--definitions={}", self.path(definitions).display()));
        command.arg(format!("--copy-source={}", self.directory.path().display()));
        command.arg(self.path("disk.raw")).env("TMPDIR", self.directory.path());
        if rustix::process::geteuid().is_root() {
            give(self.directory.path());
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Gives a tree to the user without rights.
fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// A definition of a partition of one size.
fn fixed(kind: &str, size: &str) -> String {
    format!("[Partition]\nType={kind}\nSizeMinBytes={size}\nSizeMaxBytes={size}\n")
}

/// The row of a partition, by its type.
fn row<'a>(json: &'a Value, kind: &str) -> &'a Value {
    let rows = json.as_array().unwrap();
    rows.iter().find(|row| row["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {json}"))
}

/// The words that make the kernel open the root: from what repart said, and from the superblock.
fn verity_words(image: &Path, json: &Value) -> String {
    let (data, hash) = (row(json, "root-x86-64"), row(json, "root-x86-64-verity"));
    let mut superblock = [0; 512];
    let offset = hash["offset"].as_u64().unwrap();
    File::open(image).unwrap().read_exact_at(&mut superblock, offset).unwrap();
    assert_eq!(&superblock[..8], b"verity\0\0");
    let salt: String = superblock[88..120].iter().map(|byte| format!("{byte:02x}")).collect();
    let blocks = u64::from_le_bytes(superblock[72..80].try_into().unwrap());
    let (data_uuid, hash_uuid) = (data["uuid"].as_str().unwrap(), hash["uuid"].as_str().unwrap());
    let root_hash = data["roothash"].as_str().unwrap();
    format!(
        "root=/dev/dm-0 ro rootfstype=ext4 init=/init dm-mod.create=\"root,,,ro,0 {} verity 1 \
         PARTUUID={data_uuid} PARTUUID={hash_uuid} 4096 4096 {blocks} 1 sha256 {root_hash} {salt}\"",
        blocks * 8
    )
}

/// An image with an ESP, a root that Verity guards, and a place for data, made without rights, and
/// what repart says of it at last.
fn bootable(bench: &Bench, args: &[&str]) -> Value {
    bench.root(ROOT);
    bench
        .file("esp/linux.efi", fs::read(&bench.ingredients.kernel).unwrap())
        .file("esp/a directory with a long name/ünïcödé 🦀", "long name\n")
        .file("esp/empty", "");
    bench.file("root/sums-of-esp", bench.sums("esp", "./"));
    let sums = bench.sums("root", "/");
    bench
        .file("root/sums", sums)
        .file("repart.d/10-esp.conf", fixed("esp", "64M") + "Format=vfat\nCopyFiles=/esp:/\n")
        .file(
            "repart.d/20-root.conf",
            fixed("root", "256M")
                + "Format=ext4\nCopyFiles=/root:/\nVerity=data\nVerityMatchKey=root\n",
        )
        .file(
            "repart.d/30-root-verity.conf",
            fixed("root-verity", "4M") + "Verity=hash\nVerityMatchKey=root\n",
        )
        .file("repart.d/40-data.conf", fixed("linux-generic", "32M") + "Label=data\nFormat=ext4\n");
    // What boots the root has to know its hash, so the ESP comes second.
    let esp = "--defer-partitions=esp";
    let args = [&["--empty=create", "--size=auto", esp], args].concat();
    let json = bench.repart("repart.d", &args);
    let image = bench.path("disk.raw");
    let words = verity_words(&image, &json);
    bench.file("esp/startup.nsh", format!("linux.efi {KERNEL_WORDS} {words}\r\n"));
    let json = bench.repart("repart.d", &[]);
    assert_eq!(row(&json, "esp")["activity"], "create");
    assert_eq!(row(&json, "root-x86-64")["activity"], "unchanged");
    json
}

const ESSENTIALS: &[&str] = &["EFI_STUB", "DM_VERITY", "DM_INIT"];

#[test]
fn an_image_made_without_root_boots_and_a_flipped_byte_is_caught() {
    let test = "an_image_made_without_root_boots_and_a_flipped_byte_is_caught";
    let Some(bench) = Bench::new(test, ESSENTIALS) else { return };
    let json = bootable(&bench, &[]);
    let image = bench.path("disk.raw");
    for steps in [["root", "esp", "data"], ["root", "esp", "again"]] {
        let Some(report) = Machine::new(test).disk(&image).boots_disk().boot() else { return };
        report.assert_steps(&steps);
    }

    flip(&image, row(&json, "root-x86-64"), b"# The first process on the disk that repart made");
    let name = format!("{test}.flipped");
    let Some(report) = Machine::new(&name).disk(&image).boots_disk().boot() else { return };
    let console = report.console.clone();
    let failure = report.expect_failure();
    assert!(failure.contains("Kernel panic"), "{failure}");
    let is_caught = |line: &str| line.contains("verity") && line.contains("is corrupted");
    assert!(console.lines().any(is_caught), "{console}");
    assert!(!console.contains("slipway-test: PASS"), "{console}");
}

#[test]
fn an_image_for_large_sectors_boots() {
    let test = "an_image_for_large_sectors_boots";
    let Some(bench) = Bench::new(test, ESSENTIALS) else { return };
    bootable(&bench, &["--sector-size=4096"]);
    let machine = Machine::new(test).disk_of(bench.path("disk.raw"), 4096).boots_disk();
    let Some(report) = machine.boot() else { return };
    report.assert_steps(&["root", "esp", "data"]);
}

/// Flips a bit where these bytes are in a partition.
fn flip(image: &Path, partition: &Value, bytes: &[u8]) {
    let start = partition["offset"].as_u64().unwrap();
    let mut contents = vec![0; partition["raw_size"].as_u64().unwrap().try_into().unwrap()];
    let file = File::options().read(true).write(true).open(image).unwrap();
    file.read_exact_at(&mut contents, start).unwrap();
    let at = contents.windows(bytes.len()).position(|window| window == bytes).unwrap();
    file.write_all_at(&[contents[at] ^ 1], start + at as u64).unwrap();
}

/// A disk of two partitions that has become larger, and its two boots.
fn first_boot(test: &str, sector_size: u32) {
    let Some(bench) = Bench::new(test, &[]) else { return };
    bench.root(FIRST_BOOT);
    bench
        .file("root/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        .file("root/etc/sector-size", format!("{sector_size}\n"))
        .file("root/usr/share/boot/loader/entries/vmlinuz.conf", "title One\n")
        .file("root/usr/share/boot/ünïcödé 🦀", vec![b'x'; 300_000])
        .file("data/one", vec![1; 100_000])
        .file("data/two", "two")
        .file("repart.d/10-root.conf", fixed("root", "256M") + "Format=ext4\nCopyFiles=/root:/\n")
        .file(
            "repart.d/20-data.conf",
            fixed("linux-generic", "32M") + "Label=data\nFormat=ext4\nCopyFiles=/data:/\n",
        );
    // No formats for what exists: there is no mke2fs there. FAT and swap need no tool.
    let own = "root/usr/lib/repart.d";
    bench
        .file(&format!("{own}/10-root.conf"), fixed("root", "256M"))
        .file(&format!("{own}/20-data.conf"), fixed("linux-generic", "64M") + "Label=data\n")
        .file(
            &format!("{own}/30-boot.conf"),
            fixed("xbootldr", "260M") + "Format=vfat\nCopyFiles=/usr/share/boot:/\n",
        )
        .file(&format!("{own}/40-swap.conf"), fixed("swap", "16M") + "Format=swap\n");
    let sectors = format!("--sector-size={sector_size}");
    bench.repart("repart.d", &["--empty=create", "--size=auto", &sectors]);
    let image = bench.path("disk.raw");
    File::options().write(true).open(&image).unwrap().set_len(1 << 30).unwrap();

    for steps in [&["before", "grown", "filled"][..], &["kept", "filled"]] {
        let machine = Machine::new(test)
            .disk_of(&image, sector_size)
            .cmdline("rdinit=/none root=/dev/vda1 rw rootfstype=ext4 init=/init");
        let Some(report) = machine.boot() else { return };
        report.assert_steps(steps);
    }
}

#[test]
fn a_disk_that_grew_is_repartitioned_under_a_mounted_root() {
    first_boot("a_disk_that_grew_is_repartitioned_under_a_mounted_root", 512);
}

#[test]
fn a_disk_with_large_sectors_that_grew_is_repartitioned_under_a_mounted_root() {
    first_boot("a_disk_with_large_sectors_that_grew_is_repartitioned_under_a_mounted_root", 4096);
}

/// The words that make the kernel open a LUKS partition: from its header, and from the key in it,
/// which cryptsetup takes out.
fn crypt_words(bench: &Bench, partition: &Value) -> String {
    let mut contents = vec![0; partition["raw_size"].as_u64().unwrap().try_into().unwrap()];
    let offset = partition["offset"].as_u64().unwrap();
    File::open(bench.path("disk.raw")).unwrap().read_exact_at(&mut contents, offset).unwrap();
    bench.file("luks", &contents);
    let dump = |args: &[&str]| {
        let mut command = Command::new("cryptsetup");
        command.arg("luksDump").args(args).arg("--key-file").arg(bench.path("key"));
        let output = command.arg("--batch-mode").arg(bench.path("luks")).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {told}");
        output.stdout
    };
    let volume_key = bench.path("volume-key");
    dump(&["--dump-volume-key", "--volume-key-file", volume_key.to_str().unwrap()]);
    let key: String = fs::read(volume_key).unwrap().iter().map(|b| format!("{b:02x}")).collect();
    let header: Value = serde_json::from_slice(&dump(&["--dump-json-metadata"])).unwrap();
    let segment = &header["segments"]["0"];
    let start: u64 = segment["offset"].as_str().unwrap().parse().unwrap();
    format!(
        "dm-mod.create=\"secret,,,rw,0 {} crypt {} {key} {} PARTUUID={} {} 1 sector_size:{}\"",
        (contents.len() as u64 - start) / 512,
        segment["encryption"].as_str().unwrap(),
        segment["iv_tweak"].as_str().unwrap(),
        partition["uuid"].as_str().unwrap(),
        start / 512,
        segment["sector_size"],
    )
}

#[test]
fn the_kernel_opens_an_encrypted_partition() {
    let test = "the_kernel_opens_an_encrypted_partition";
    if Command::new("cryptsetup").arg("--version").output().is_err() {
        println!("SKIP {test}: no cryptsetup (package cryptsetup-bin)");
        return;
    }
    let Some(bench) = Bench::new(test, &["DM_CRYPT", "DM_INIT"]) else { return };
    bench.root(SECRET);
    bench
        .file("secret/one", vec![1; 3_000_000])
        .file("secret/directory/two", "two")
        .file("key", "a pass phrase");
    bench
        .file("root/sums-of-secret", bench.sums("secret", "./"))
        .file("repart.d/10-root.conf", fixed("root", "256M") + "Format=ext4\nCopyFiles=/root:/\n")
        .file(
            "repart.d/20-secret.conf",
            fixed("linux-generic", "64M")
                + "Label=secret\nFormat=ext4\nCopyFiles=/secret:/\nEncrypt=key-file\n",
        );
    fs::set_permissions(bench.path("key"), PermissionsExt::from_mode(0o600)).unwrap();
    let key = format!("--key-file={}", bench.path("key").display());
    let json = bench.repart("repart.d", &["--empty=create", "--size=auto", &key]);
    let machine = Machine::new(test)
        .disk(bench.path("disk.raw"))
        .cmdline("rdinit=/none root=/dev/vda1 ro rootfstype=ext4 init=/init")
        .cmdline(&crypt_words(&bench, row(&json, "linux-generic")));
    let Some(report) = machine.boot() else { return };
    report.assert_steps(&["open", "contents"]);
}
