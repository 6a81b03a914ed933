//! FAT32 file systems of our own beside those of mkfs.fat and mtools, and seen by fsck.fat.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use slipway::disk::{Access, Disk, FileDisk, Lock};
use slipway::mkfs::vfat::{self, Item, Settings};

/// 2024-02-29 12:34:56 UTC
const NOW: i64 = 1_709_210_096;

fn has(test: &str, tool: &str) -> bool {
    let found = Command::new(tool).arg("--help").output().is_ok();
    if !found {
        println!("SKIP {test}: {tool} is missing");
    }
    found
}

fn settings(sector_size: u32) -> Settings<'static> {
    Settings { volume_id: 0x1234_abcd, label: "My Esp/Name", sector_size, now: NOW }
}

fn image(dir: &Path, name: &str, size: u64) -> PathBuf {
    let path = dir.join(name);
    File::create(&path).unwrap().set_len(size).unwrap();
    path
}

fn make(path: &Path, settings: &Settings<'_>, items: &[Item]) -> slipway::error::Result<()> {
    let disk = FileDisk::open(path, Access::Write).unwrap();
    vfat::make(&disk, settings, items, &mut |_, _| ())?;
    disk.sync().unwrap();
    Ok(())
}

fn run(command: &mut Command) -> String {
    let output = command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8").output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {text:?}");
    text.concat()
}

/// Accepts the file system without a word about anything to repair.
fn fsck(path: &Path) {
    let told = run(Command::new("fsck.fat").arg("-n").arg("-v").arg(path));
    for word in ["ifferences", "rong", "ould be", "emoving", "truncat", "Auto"] {
        assert!(!told.contains(word), "{told}");
    }
}

/// The parts of two sparse files that differ; 64 KiB each at most.
fn first_difference(a: &Path, b: &Path) -> Option<u64> {
    let (a, b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let len = a.metadata().unwrap().len();
    assert_eq!(len, b.metadata().unwrap().len());
    let data = |file: &File, from: u64| {
        rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)).unwrap_or(len)
    };
    let mut offset = 0;
    while offset < len {
        offset = data(&a, offset).min(data(&b, offset));
        let part = usize::try_from((len - offset).min(64 << 10)).unwrap();
        let (mut left, mut right) = (vec![0; part], vec![0; part]);
        a.read_exact_at(&mut left, offset).unwrap();
        b.read_exact_at(&mut right, offset).unwrap();
        if let Some(at) = left.iter().zip(&right).position(|(left, right)| left != right) {
            return Some(offset + at as u64);
        }
        offset += part as u64;
    }
    None
}

/// The label's times are the only bytes that depend on the clock; both get the same ones.
fn level_label(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut boot = [0; 64];
    file.read_exact_at(&mut boot, 0).unwrap();
    let number = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let root = (number(14) + 2 * number(36) + 2 * (number(38) << 16)) * number(11);
    file.write_all_at(&[0; 6], root + 14).unwrap();
    file.write_all_at(&[0; 4], root + 22).unwrap();
}

#[test]
fn an_empty_file_system_is_that_of_mkfs_fat_byte_for_byte() {
    if !has("an_empty_file_system_is_that_of_mkfs_fat_byte_for_byte", "mkfs.fat") {
        return;
    }
    const MIB: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let mut sizes: Vec<u64> =
        [1, 4, 8, 10, 16, 32, 33, 34, 64, 100, 128, 255, 256, 260, 261, 504, 512]
            .map(|size| size * MIB)
            .to_vec();
    sizes.extend([1024, 1025, 2048, 4096, 8192, 8193, 33000].map(|size| size * MIB));
    sizes.extend((0..40).map(|_| 2_f64.powf(random.gen_range(20.0..33.1)) as u64 / 4096 * 4096));
    for sector_size in [512, 1024, 2048, 4096] {
        for size in &sizes {
            let (ours, theirs) =
                (image(dir.path(), "ours", *size), image(dir.path(), "theirs", *size));
            make(&ours, &settings(sector_size), &[]).unwrap();
            run(Command::new("mkfs.fat")
                .args(["-i", "1234abcd", "-n", "MY ESP_NAME", "-F", "32", "-S"])
                .arg(sector_size.to_string())
                .arg(&theirs));
            level_label(&ours);
            level_label(&theirs);
            let difference = first_difference(&ours, &theirs);
            assert_eq!(difference, None, "{size} bytes, sectors of {sector_size}");
        }
    }
}

/// A directory tree below `top`, as items.
fn items(top: &Path) -> Vec<Item> {
    fn walk(top: &Path, below: &Path, items: &mut Vec<Item>) {
        let mut names: Vec<_> = fs::read_dir(top.join(below))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            let path = below.join(name);
            let meta = fs::metadata(top.join(&path)).unwrap();
            let source = meta.is_file().then(|| (top.join(&path), meta.len()));
            items.push(Item { path: path.clone(), source, modified: meta.mtime() });
            if meta.is_dir() {
                walk(top, &path, items);
            }
        }
    }
    let mut found = Vec::new();
    walk(top, Path::new(""), &mut found);
    found
}

/// What is in a tree: path to length and hash; none for directories. With times as FAT keeps them.
fn contents(top: &Path) -> Contents {
    let entry = |item: Item| {
        let bytes = item.source.map(|(path, _)| {
            let bytes = fs::read(path).unwrap();
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            (bytes.len(), hasher.finish())
        });
        // mtools gives directories that it makes the time of day.
        let time = if bytes.is_some() { item.modified / 2 } else { 0 };
        (item.path, (bytes, time))
    };
    items(top).into_iter().map(entry).collect()
}

/// Reads everything back with mtools.
fn read_back(image: &Path, into: &Path) {
    fs::create_dir(into).unwrap();
    run(Command::new("mcopy")
        .args(["-s", "-p", "-m", "-n", "-Q", "-i"])
        .arg(image)
        .arg("::/")
        .arg(into));
}

/// The letters that names are made of; the last one takes two UTF-16 units.
const LETTERS: [char; 26] = [
    'a', 'b', 'C', 'D', '1', '2', '.', ' ', '_', '-', '+', ',', ';', '=', '[', ']', '~', '(', '$',
    '%', 'ä', 'é', 'ß', '語', '€', '🦀',
];

fn random_name(random: &mut StdRng) -> String {
    let len = match random.gen_range(0..10) {
        0 => random.gen_range(13..120),
        1..=3 => random.gen_range(1..3),
        _ => random.gen_range(1..13),
    };
    let plain = random.gen_bool(0.5);
    let letters = if plain { &LETTERS[..7] } else { &LETTERS[..] };
    let mut name: String = (0..len).map(|_| letters[random.gen_range(0..letters.len())]).collect();
    if name.ends_with(['.', ' ']) || name.starts_with(' ') {
        name = format!("x{}z", name.trim());
    }
    name
}

/// A tree of a few dozen files and directories; how many bytes are in it.
fn random_tree(random: &mut StdRng, top: &Path) -> u64 {
    let mut directories = vec![top.to_path_buf()];
    let mut taken = std::collections::HashSet::new();
    let mut total = 0;
    for _ in 0..random.gen_range(0..60) {
        let parent = directories[random.gen_range(0..directories.len())].clone();
        let path = parent.join(random_name(random));
        if !taken.insert(path.to_str().unwrap().to_uppercase()) {
            continue;
        }
        if random.gen_bool(0.3) {
            fs::create_dir(&path).unwrap();
            directories.push(path);
            continue;
        }
        let len = match random.gen_range(0..8) {
            0 => 0,
            1 => random.gen_range(0..3_000_000),
            2 => 4096 * random.gen_range(1..10),
            _ => random.gen_range(1..9000),
        };
        let mut bytes = vec![0_u8; len];
        random.fill(&mut bytes[..]);
        fs::write(&path, &bytes).unwrap();
        let time = random.gen_range(400_000_000..4_000_000_000_u64);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        total += len as u64 + 4096;
    }
    total
}

type Contents = BTreeMap<PathBuf, (Option<(usize, u64)>, i64)>;

fn same(left: &Contents, right: &Contents, seed: u64) {
    let other = |a: &Contents, b: &Contents| {
        let is_other = |(path, facts): &(&PathBuf, &_)| b.get(*path) != Some(facts);
        format!("{:?}", a.iter().filter(is_other).collect::<Vec<_>>())
    };
    assert_eq!(other(left, right), other(right, left), "seed {seed}");
}

#[test]
fn random_trees_come_back_as_they_went_in() {
    let test = "random_trees_come_back_as_they_went_in";
    if !has(test, "fsck.fat") || !has(test, "mcopy") {
        return;
    }
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("tree");
        fs::create_dir(&top).unwrap();
        let total = random_tree(&mut random, &top);
        // mtools takes those that are smaller for FAT16.
        let (sector_size, least) = if random.gen_bool(0.5) { (512, 34) } else { (4096, 258) };
        let size = (total + total / 4) / 4096 * 4096 + random.gen_range(least..400) * (1 << 20);
        let path = image(dir.path(), "image", size);
        // What was there before must not shine through.
        let garbage = vec![0xa5; 8 << 20];
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(&garbage[..(size as usize).min(8 << 20)], 0)
            .unwrap();
        make(&path, &settings(sector_size), &items(&top)).unwrap();
        fsck(&path);
        let least = vfat::size_needed(&settings(sector_size), &items(&top)).unwrap();
        assert!(vfat::plan(least, &settings(sector_size), &items(&top)).is_ok());
        assert!(vfat::plan(least - 4096, &settings(sector_size), &items(&top)).is_err());
        let back = dir.path().join("back");
        read_back(&path, &back);
        let told = |(path, facts): (PathBuf, _)| {
            // mtools knows no letters that take two units.
            (PathBuf::from(path.to_str().unwrap().replace('🦀', "__")), facts)
        };
        same(&contents(&top).into_iter().map(told).collect(), &contents(&back), seed);
    }
}

fn file(path: &str, source: &Path, len: u64) -> Item {
    Item { path: path.into(), source: Some((source.to_path_buf(), len)), modified: NOW }
}

fn directory(path: &str) -> Item {
    Item { path: path.into(), source: None, modified: NOW }
}

#[test]
fn five_thousand_long_names_and_a_deep_path_pass_fsck_and_come_back() {
    let test = "five_thousand_long_names_and_a_deep_path_pass_fsck_and_come_back";
    if !has(test, "fsck.fat") || !has(test, "mdir") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::write(&source, "contents").unwrap();
    let mut items = vec![directory("many")];
    let names: Vec<String> =
        (0..5000).map(|i| format!("{i} a rather long name.{i:05}.conf")).collect();
    items.extend(names.iter().map(|name| file(&format!("many/{name}"), &source, 8)));
    let mut deep = "deep".to_owned();
    for level in 0..60 {
        items.push(directory(&deep));
        deep = format!("{deep}/{level}");
    }
    items.push(file(&deep, &source, 8));
    let path = image(dir.path(), "image", 260 << 20);
    make(&path, &settings(4096), &items).unwrap();
    fsck(&path);
    let told = run(Command::new("mdir").args(["-b", "-i"]).arg(&path).arg("::/many"));
    let mut told: Vec<&str> = told.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    told.sort_unstable();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(told, names);
    assert_eq!(
        run(Command::new("mtype").arg("-i").arg(&path).arg(format!("::/{deep}"))),
        "contents"
    );
}

#[test]
fn what_fat_cannot_hold_is_refused_by_name_before_the_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::write(&source, vec![1; 3 << 20]).unwrap();
    let many = || (0..40_000).map(|i| file(&format!("{i:05} long name"), &source, 0)).collect();
    let long = "x".repeat(256);
    let cases: Vec<(&str, Vec<Item>, &str)> = vec![
        ("a letter", vec![file("a:b", &source, 1)], "the name 'a:b': it has a ':'"),
        (
            "a control letter",
            vec![file("a\u{1b}[2J", &source, 1)],
            "the name 'a\\u{1b}[2J': it has a '\\u{1b}'",
        ),
        (
            "a dot at the end",
            vec![directory("etc.")],
            "the name 'etc.': it ends with a space or dot",
        ),
        (
            "a space at the end",
            vec![directory("etc ")],
            "the name 'etc ': it ends with a space or dot",
        ),
        ("too long", vec![directory(&long)], "it is longer than 255 UTF-16 units"),
        (
            "case",
            vec![directory("EFI"), file("efi", &source, 1)],
            "both 'EFI' and 'efi': they only differ in case",
        ),
        (
            "case of other letters",
            vec![directory("Ärger"), file("ärger", &source, 1)],
            "both 'Ärger' and 'ärger': they only differ in case",
        ),
        (
            "4 GiB",
            vec![file("big", &source, 1 << 32)],
            "'big': it has 4294967296 bytes, and 4294967295 is the most",
        ),
        ("too many", many(), "there are too many files in its directory"),
        (
            "no room",
            vec![file("a", &source, 3 << 20), file("b", &source, 6 << 20)],
            "too small: 9437696 bytes are needed",
        ),
        ("no directory", vec![file("a/b", &source, 1)], "'a/b' on FAT: its directory is missing"),
    ];
    for (what, items, message) in cases {
        let path = image(dir.path(), "image", 8 << 20);
        let error = make(&path, &settings(512), &items).unwrap_err().to_string();
        assert!(error.contains(message), "{what}: {error}");
        assert_eq!(path.metadata().unwrap().blocks(), 0, "{what}");
    }
    let path = image(dir.path(), "image", 64 << 10);
    let error = make(&path, &settings(4096), &[]).unwrap_err().to_string();
    assert!(error.contains("65536 bytes with sectors of 4096 bytes cannot be FAT32"), "{error}");
}

#[test]
fn a_file_that_changes_under_the_writer_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::write(&source, "short").unwrap();
    let path = image(dir.path(), "image", 8 << 20);
    let error = make(&path, &settings(512), &[file("a", &source, 600)]).unwrap_err().to_string();
    assert!(error.contains("source': "), "{error}");
    // Neither half is a file system: the first sector is written last.
    let mut boot = [0; 512];
    File::open(&path).unwrap().read_exact_at(&mut boot, 0).unwrap();
    assert_eq!(boot, [0; 512]);
}

#[test]
fn a_listing_is_the_one_of_mkfs_fat_and_mcopy() {
    let test = "a_listing_is_the_one_of_mkfs_fat_and_mcopy";
    if !has(test, "mkfs.fat") || !has(test, "mcopy") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("tree");
    let names = [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/Linux/linux-6.1.0-amd64.efi",
        "EFI/Linux/arch-6.2.0-amd64.efi",
        "EFI/systemd/systemd-bootx64.efi",
        "loader/loader.conf",
        "loader/entries/0123456789abcdef0123456789abcdef-6.1.0.conf",
        "loader/entries.srel",
        "loader/keys/auto/PK.auth",
        "loader/.#half",
        "vmlinuz",
        "Makefile",
        "README.txt",
        "readme.TXT2",
        "a b c.d",
        "a.tar.gz",
        "x+y=z.[1]",
        "longer than eight",
        "longer than nine",
        "longer than ten.txt",
        "12345678.123",
        "UPPER.low",
        "aux.x",
        "~1",
    ];
    for name in names {
        let path = top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(NOW as u64);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    let (ours, theirs) =
        (image(dir.path(), "ours", 64 << 20), image(dir.path(), "theirs", 64 << 20));
    let found = items(&top);
    make(&ours, &settings(512), &found).unwrap();
    run(Command::new("mkfs.fat")
        .args(["-i", "1234abcd", "-n", "MY ESP_NAME", "-F", "32", "-S", "512"])
        .arg(&theirs));
    let mut tops: Vec<_> = fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().path()).collect();
    tops.sort();
    run(Command::new("mcopy")
        .args(["-p", "-Q", "-m", "-s", "-i"])
        .arg(&theirs)
        .args(tops)
        .arg("::/"));
    let listing = |image: &Path| {
        let told = run(Command::new("mdir").args(["-/", "-a", "-i"]).arg(image).arg("::/"));
        let mut lines: Vec<String> = told
            .lines()
            // mtools gives the directories it makes the time of day, and lists in its own order.
            .map(
                |line| if line.contains("<DIR>") { line[..20].to_owned() } else { line.to_owned() },
            )
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(listing(&ours), listing(&theirs));
}

/// A disk that gives up after so many writes.
struct Failing {
    disk: FileDisk,
    left: AtomicUsize,
}

impl Failing {
    fn count(&self) -> io::Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.wrapping_sub(1), Ordering::Relaxed);
        if left == 0 { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

impl Disk for Failing {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn sector_size_bytes(&self) -> u32 {
        self.disk.sector_size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.count()?;
        self.disk.write_at(offset, bytes)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.count()?;
        self.disk.zero(offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.disk.lock()
    }
}

#[test]
fn a_write_that_fails_is_an_error_and_leaves_no_file_system_behind() {
    if !has("a_write_that_fails_is_an_error_and_leaves_no_file_system_behind", "fsck.fat") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::write(&source, vec![1; 3 << 20]).unwrap();
    let items = [directory("EFI"), file("EFI/a", &source, 3 << 20), file("b", &source, 3 << 20)];
    let path = image(dir.path(), "image", 64 << 20);
    for allowed in 0..100 {
        let disk = FileDisk::open(&path, Access::Write).unwrap();
        // What an earlier file system left must go first.
        make(&path, &settings(512), &[]).unwrap();
        let disk = Failing { disk, left: AtomicUsize::new(allowed) };
        let result = vfat::make(&disk, &settings(512), &items, &mut |_, _| ());
        let mut boot = [0; 512];
        disk.read_at(0, &mut boot).unwrap();
        match result {
            Ok(()) => {
                assert!(allowed > 10, "{allowed}");
                fsck(&path);
                return;
            }
            Err(error) => assert_eq!(error.errno(), Some(5), "{error}"),
        }
        assert!(allowed == 0 || boot == [0; 512], "after {allowed} writes");
    }
    panic!("no end of writes");
}
