//! Archives built byte by byte, where `tests/vectors/tar` has none.

use std::fs::File;
use std::os::fd::AsFd;

use super::*;

/// A header with a right checksum.
fn header(name: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..136].copy_from_slice(format!("{size:011o} ").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

fn file(name: &str, data: &[u8]) -> Vec<u8> {
    [header(name, b'0', data.len() as u64, ""), padded(data)].concat()
}

fn pax(records: &[(&str, &str)], then: Vec<u8>) -> Vec<u8> {
    let mut data = String::new();
    for (key, value) in records {
        let mut len = key.len() + value.len() + 3;
        while len != format!("{len} {key}={value}\n").len() {
            len = format!("{len} {key}={value}\n").len();
        }
        data.push_str(&format!("{len} {key}={value}\n"));
    }
    [header("pax", b'x', data.len() as u64, ""), padded(data.as_bytes()), then].concat()
}

const END: [u8; 1024] = [0; 1024];

fn try_extract(archive: &[u8], max_bytes: u64) -> (tempfile::TempDir, Result<Extracted>) {
    let dir = tempfile::tempdir().unwrap();
    let fd = File::open(dir.path()).unwrap();
    let options = Options { max_bytes, is_privileged: false, hoist: true };
    let result = extract(archive, fd.as_fd(), &options);
    (dir, result)
}

fn refusal(parts: &[Vec<u8>]) -> String {
    let archive = [parts.concat(), END.to_vec()].concat();
    try_extract(&archive, 1 << 20).1.unwrap_err().to_string()
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_archive() {
    let whole = [file("a", b"hello"), pax(&[("mtime", "1.5")], file("b", &[7; 600])), END.to_vec()];
    let whole = whole.concat();
    // All around the edges of blocks, and some in between.
    let is_near_an_edge = |len: &usize| (len + 2) % 512 < 5 || len.is_multiple_of(61);
    for len in (0..whole.len()).filter(is_near_an_edge) {
        let (dir, result) = try_extract(&whole[..len], 1 << 20);
        match result {
            Ok(done) => {
                // Only between members, or behind the last.
                let expected = match len {
                    1024 => 1,
                    3584.. if len == 3584 || len >= 4096 => 2,
                    _ => panic!("cut to {len} was accepted"),
                };
                assert_eq!(done.entries, expected);
                assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"hello");
            }
            Err(err) => assert!(err.to_string().contains("archive"), "{len}: {err}"),
        }
    }
}

#[test]
fn sizes_are_bounded_before_anything_is_written() {
    let archive = [file("a", &[1; 600]), file("b", &[1; 600]), END.to_vec()].concat();
    let (dir, result) = try_extract(&archive, 1000);
    assert_eq!(
        result.unwrap_err().to_string(),
        "Failed to unpack archive: unpacked data is larger than the 1000 bytes there is room for"
    );
    assert!(dir.path().join("a").exists() && !dir.path().join("b").exists());
    assert_eq!(try_extract(&archive, 1200).1.unwrap().bytes, 1200);
    // Lengths at their maximum allocate nothing and end nowhere.
    let huge = i64::MAX as u64;
    let mut block = header("a", b'0', 0, "");
    block[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    seal(&mut block);
    assert!(refusal(&[block.clone()]).contains("larger than"));
    for kind in *b"xgLK" {
        block[156] = kind;
        seal(&mut block);
        assert_eq!(
            refusal(&[block.clone()]),
            "Failed to parse archive: names or attributes of a member are too long"
        );
    }
    let size = huge.to_string();
    assert!(refusal(&[pax(&[("size", &size)], file("a", b""))]).contains("larger than"));
}

#[test]
fn malformed_headers_are_refused() {
    let cases = [
        (pax(&[("uid", "-1")], file("a", b"")), "malformed pax header"),
        (pax(&[("uid", "4294967296")], file("a", b"")), "malformed pax header"),
        (pax(&[("mtime", "noon")], file("a", b"")), "malformed pax header"),
        (pax(&[("LIBARCHIVE.xattr.user.x", "*")], file("a", b"")), "malformed pax header"),
        (pax(&[("GNU.sparse.numbytes", "1")], file("a", b"")), "malformed pax header"),
        (pax(&[("path", "a")], Vec::new()), "archive ends too early"),
        (header("a", b'M', 0, ""), "archives of several volumes are not supported"),
    ];
    for (archive, expected) in cases {
        assert_eq!(refusal(&[archive]), format!("Failed to parse archive: {expected}"));
    }
}

#[test]
fn sparse_maps_cannot_lie() {
    let sparse = |map: &str, size: &str, data: &[u8]| {
        let records =
            [("GNU.sparse.numblocks", "2"), ("GNU.sparse.size", size), ("GNU.sparse.map", map)];
        pax(&records, file("a", data))
    };
    let good = [sparse("4096,3,9000,2", "10000", b"onetw"), END.to_vec()].concat();
    let (dir, result) = try_extract(&good, 1 << 20);
    assert_eq!(result.unwrap(), Extracted { entries: 1, bytes: 5 });
    let data = std::fs::read(dir.path().join("a")).unwrap();
    assert_eq!(
        (data.len(), &data[4096..4099], &data[9000..9002]),
        (10000, &b"one"[..], &b"tw"[..])
    );
    assert_eq!(data.iter().filter(|&&b| b != 0).count(), 5);

    let max = u64::MAX.to_string();
    let bad = [
        ("9000,3,4096,2", "10000"),
        ("0,3,2,2", "10000"),
        ("0,3,9999,2", "10000"),
        ("0,3,100,3", "10000"),
        ("0,3", "10000"),
        ("0,5", max.as_str()),
        (&format!("0,3,{max},2"), "10000"),
        (&format!("{max},5"), max.as_str()),
    ];
    for (map, size) in bad {
        assert_eq!(
            refusal(&[sparse(map, size, b"onetw")]),
            "Failed to parse archive: invalid sparse map",
            "{map} of {size}"
        );
    }
    assert!(refusal(&[sparse("0", "9", b"onetw")]).contains("malformed"));
    let in_data = |data: &[u8]| {
        let records = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "10")];
        refusal(&[pax(&records, file("a", data))])
    };
    for map in [&b"99999999999999999999999"[..], b"1\nx\n", b"", b"1\n0\n"] {
        assert!(in_data(&padded(map)).contains("invalid sparse map"), "{map:?}");
    }
    assert!(in_data(&padded(b"99999999\n")).contains("too many pieces"));
}

#[test]
fn nothing_outside_is_touched_by_links() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    std::fs::write(&target, "untouched").unwrap();
    let dir = outside.path().to_str().unwrap();
    let path = target.to_str().unwrap();
    let link = |name: &str, to: &str| header(name, b'2', 0, to);
    let refused = [
        vec![link("l", dir), file("l/target", b"evil")],
        vec![link("l", dir), header("l/new", b'5', 0, "")],
        vec![link("l", dir), link("l/new", "x")],
        vec![link("l", dir), header("l/new", b'6', 0, "")],
        vec![link("l", dir), header("h", b'1', 0, "l/target")],
        vec![link("a", "."), link("a/b", dir), file("a/b/target", b"evil")],
        vec![header("d", b'5', 0, ""), link("d/l", dir), file("d/l/target", b"evil")],
        vec![link("l", dir), header("l", b'5', 0, ""), file("l/target", b"evil")],
        vec![file("../target", b"evil")],
        vec![file("a/../../target", b"evil")],
        vec![pax(&[("path", "../target")], file("a", b"evil"))],
        vec![header("h", b'1', 0, "../target")],
        vec![pax(&[("linkpath", "a/../../target")], header("h", b'1', 0, "x"))],
    ];
    for parts in refused {
        let err = refusal(&parts);
        let reasons = ["Not a directory", "File exists", "refusing", "symbolic link"];
        assert!(reasons.iter().any(|reason| err.contains(reason)), "{err}");
    }
    // The link is replaced, or gets a second name, but is not followed.
    let replaced = [link("l", path), file("l", b"evil"), END.to_vec()].concat();
    assert!(try_extract(&replaced, 100).1.is_ok());
    let twice = [link("l", path), header("h", b'1', 0, "l"), file("h", b"evil"), END.to_vec()];
    assert!(try_extract(&twice.concat(), 100).1.is_ok());
    // An absolute name stays inside.
    let (top, result) = try_extract(&[header(path, b'1', 0, path), END.to_vec()].concat(), 100);
    assert!(result.unwrap_err().to_string().starts_with("Failed to find inode"));
    assert!(!top.path().join("target").exists());

    assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn depth_is_bounded_and_closed_directories_can_be_filled() {
    let deep = "d/".repeat(1000);
    let deep = pax(&[("path", &deep)], header("x", b'5', 0, ""));
    assert!(refusal(&[deep]).contains("File name too long"));

    let mut closed = header("c", b'5', 0, "");
    closed[100..107].copy_from_slice(b"0000500");
    seal(&mut closed);
    let parts = [closed, file("c/a", b"1"), file("z", b"2"), file("c/b", b"3"), END.to_vec()];
    let (dir, result) = try_extract(&parts.concat(), 100);
    assert_eq!(result.unwrap().entries, 4);
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let meta = std::fs::metadata(dir.path().join("c")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o500, 0));
    assert_eq!(std::fs::read(dir.path().join("c/b")).unwrap(), b"3");
    // So that the temporary directory can be removed by anybody.
    std::fs::set_permissions(dir.path().join("c"), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn control_characters_do_not_reach_messages() {
    let err = refusal(&[file("a\x1b[31m/../b", b"")]);
    assert_eq!(err, "Invalid path name in entry, refusing: 'a\\u{1b}[31m/../b'");
}

#[test]
fn a_broken_stream_below_is_named() {
    let broken = super::super::reader(Box::new(&b"\x1f\x8b\x08\0\0\0\0\0"[..])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let fd = File::open(dir.path()).unwrap();
    let err = extract(broken, fd.as_fd(), &Options::default()).unwrap_err();
    assert_eq!(err.to_string(), "Failed to parse archive: gzip data ends too early");
}

#[test]
fn an_interrupted_stream_is_no_damaged_archive() {
    struct Interrupted;
    impl Read for Interrupted {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other(super::super::Error::Cancelled))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let fd = File::open(dir.path()).unwrap();
    let err = extract(Interrupted, fd.as_fd(), &Options::default()).unwrap_err();
    assert_eq!((err.to_string().as_str(), err.errno()), ("Interrupted.", Some(4)));
}

#[test]
fn mutations_neither_escape_nor_panic() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("canary"), "sings").unwrap();
    let folder = format!("{}/tests/vectors/tar", env!("CARGO_MANIFEST_DIR"));
    let names = ["plain.tar", "xattr.tar", "dotdot.tar", "symlink-parent.tar", "hoist-meta.tar"];
    let seeds = names.map(|name| std::fs::read(format!("{folder}/{name}")).unwrap());
    let mut state = 99u64;
    let mut random = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for round in 0..400 {
        let mut archive = seeds[round % seeds.len()].clone();
        for _ in 0..=random(3) {
            // Mostly headers, with a checksum that is right again.
            let block = random(archive.len() / 512) * 512;
            let bytes = [0, b'/', b'.', b'1', b'2', b'5', b'7', b'S', b'x', 0x80, 0xff];
            archive[block + random(512)] = bytes[random(bytes.len())];
            if random(4) > 0 {
                seal(&mut archive[block..block + 512]);
            }
        }
        let top = outside.path().join("top");
        std::fs::create_dir(&top).unwrap();
        let fd = File::open(&top).unwrap();
        let options = Options { max_bytes: 1 << 20, is_privileged: false, hoist: true };
        let _ = extract(&archive[..], fd.as_fd(), &options);
        let left: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "round {round}: {left:?}");
        assert_eq!(std::fs::read_to_string(outside.path().join("canary")).unwrap(), "sings");
        open_up(&top);
        std::fs::remove_dir_all(&top).unwrap();
    }
}

/// Makes directories removable again.
fn open_up(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            open_up(&entry.path());
        }
    }
}
