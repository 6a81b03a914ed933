//! Hash trees and their signatures against those who read them: veritysetup and openssl.
//!
//! With `PEER` set, the peer's newer veritysetup compares, too.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use slipway::crypto::hash::sha256;
use slipway::crypto::text::{hex, unhex};
use slipway::crypto::verity::{Params, build, verify};
use slipway::disk::{Access, Disk as _, FileDisk, Window};
use slipway::format::verity::{Geometry, Superblock, hash_size};

const UUID: &str = "898929e6-7747-423e-8593-3659ba461e7c";

fn vector(path: &str) -> String {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/repart");
    std::fs::read_to_string(base.join(path)).unwrap()
}

fn params(salt: &[u8], data_block_size: u32, hash_block_size: u32, data_blocks: u64) -> Params {
    Params {
        uuid: *uuid::Uuid::parse_str(UUID).unwrap().as_bytes(),
        salt: salt.to_vec(),
        geometry: Geometry { data_block_size, hash_block_size, data_blocks },
    }
}

/// Bytes that look random and are always the same.
fn noise(len: usize) -> Vec<u8> {
    let blocks = (0_u64..).flat_map(|n| sha256(format!("block{n}").as_bytes()));
    blocks.take(len).collect()
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, size: u64, pieces: &[(u64, &[u8])]) -> FileDisk {
        let file = File::create(self.path(name)).unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in pieces {
            file.write_all_at(bytes, *offset).unwrap();
        }
        FileDisk::open(&self.path(name), Access::Write).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        Command::new(program)
            .args(args)
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("LC_ALL", "C")
            .output()
            .unwrap()
    }
}

fn has(program: &str, test: &str) -> bool {
    let is_there = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists());
    if !is_there {
        println!("SKIP {test}: no {program}");
    }
    is_there
}

#[test]
fn the_tree_over_the_vector_is_the_peers() {
    let bench = Bench::new();
    let data = bench.file("data", 1 << 20, &[(0, &noise(1 << 20))]);
    let hash = bench.file("hash", 64 << 10, &[]);
    let text = vector("36-verity-copyblocks/verity.hex");
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let superblock: [u8; 512] = unhex(&field("superblock(512)")).unwrap();
    let params = Superblock::decode(&superblock).unwrap();

    let root = build(&data, &hash, &params, &|_| {}).unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&vector("36-verity-copyblocks/run1.json")).unwrap();
    assert_eq!(report[0]["roothash"], hex(&root));
    assert_eq!(hex(&sha256(&bench.bytes("hash"))), field("sha256 of hash partition"));
    assert_eq!(bench.bytes("hash")[..512], superblock);
    verify(&data, &hash, &root, &|_| {}).unwrap();
}

#[test]
fn trees_are_veritysetups_byte_for_byte() {
    if !has("veritysetup", "trees_are_veritysetups_byte_for_byte") {
        return;
    }
    let bench = Bench::new();
    let noise = noise(1 << 20);
    // One block, two, a fan-out, one more than it, two levels and one more, odd tails.
    let counts = [1_u64, 2, 3, 16, 17, 127, 128, 129, 255, 256, 257, 1000, 4096, 4097];
    let sizes = [(512, 512), (512, 4096), (1024, 1024), (1024, 2048), (4096, 512), (4096, 4096)];
    let mut compared = 0;
    for (data_block, hash_block) in sizes {
        for blocks in counts {
            let size = blocks * u64::from(data_block);
            // Something at the start, something in the middle, holes, and an end of its own.
            let head = &noise[..noise.len().min(size as usize / 3)];
            let tail = &noise[..1.max(size as usize % 700)];
            let data = bench.file(
                "data",
                size,
                &[
                    (0, head),
                    (size / 2, &noise[..(size / 8).min(5000) as usize]),
                    (size - tail.len() as u64, tail),
                ],
            );
            let hash_len = hash_size(size, data_block, hash_block).unwrap();
            let hash = bench.file("ours", hash_len, &[]);
            let salt = &noise[..(blocks as usize * 7) % 257];
            let root = build(&data, &hash, &params(salt, data_block, hash_block, blocks), &|_| {})
                .unwrap();
            verify(&data, &hash, &root, &|_| {}).unwrap();

            let salt_text = if salt.is_empty() { "-".to_owned() } else { hex(salt) };
            let _ = std::fs::remove_file(bench.path("theirs"));
            let ran = bench.run(
                "veritysetup",
                &[
                    "format",
                    &format!("--data-block-size={data_block}"),
                    &format!("--hash-block-size={hash_block}"),
                    &format!("--salt={salt_text}"),
                    &format!("--uuid={UUID}"),
                    "data",
                    "theirs",
                ],
            );
            let out = String::from_utf8_lossy(&ran.stdout).into_owned();
            assert!(ran.status.success(), "{ran:?}");
            let what = format!("{blocks} blocks of {data_block}, hash {hash_block}");
            assert!(out.contains(&hex(&root)), "{what}: {} {out}", hex(&root));
            assert_eq!(bench.bytes("ours").len() as u64, hash_len, "{what}");
            assert!(bench.bytes("ours") == bench.bytes("theirs"), "{what}");

            let ran = bench.run("veritysetup", &["verify", "data", "ours", &hex(&root)]);
            assert!(ran.status.success(), "{what}: {ran:?}");
            compared += 1;
        }
    }
    println!("{compared} trees compared");
}

#[test]
fn only_the_bytes_of_the_tree_are_written() {
    let bench = Bench::new();
    let blocks = 300_u64;
    let data = bench.file("data", blocks * 512 + 100, &[(0, &noise(100_000))]);
    let filler = vec![0xaa; 64 << 10];
    let hash = bench.file("hash", 64 << 10, &[(0, &filler)]);
    let window = Window::new(&hash, 8192, 40 << 10).unwrap();
    let params = params(b"salt", 512, 512, blocks);
    build(&data, &window, &params, &|_| {}).unwrap();
    let bytes = bench.bytes("hash");
    let end = 8192 + hash_size(blocks * 512, 512, 512).unwrap() as usize;
    assert!(bytes[..8192].iter().chain(&bytes[end..]).all(|byte| *byte == 0xaa));
    assert!(bytes[8192..end].iter().any(|byte| *byte != 0xaa));
}

#[test]
fn what_has_changed_is_found() {
    let bench = Bench::new();
    let size = 5 << 20;
    let data = bench.file("data", size, &[(0, &noise(1 << 20)), (4 << 20, &noise(1 << 20))]);
    let hash = bench.file("hash", 64 << 10, &[]);
    let params = params(b"", 4096, 4096, size / 4096);
    let root = build(&data, &hash, &params, &|_| {}).unwrap();
    let check = || verify(&data, &hash, &root, &|_| {});
    check().unwrap();
    for offset in [0, 700_000, (2 << 20) + 5, size - 1] {
        let mut old = [0];
        data.read_at(offset, &mut old).unwrap();
        data.write_at(offset, &[old[0] ^ 1]).unwrap();
        assert!(check().unwrap_err().to_string().contains("does not match"), "{offset}");
        data.write_at(offset, &old).unwrap();
    }
    hash.write_at(4096 + 3, b"x").unwrap();
    assert!(check().is_err());
    build(&data, &hash, &params, &|_| {}).unwrap();
    check().unwrap();
    let mut other = root;
    other[31] ^= 1;
    assert!(verify(&data, &hash, &other, &|_| {}).is_err());
}

#[test]
fn sizes_are_checked_before_anything_is_written() {
    let bench = Bench::new();
    let data = bench.file("data", 1 << 20, &[]);
    let hash = bench.file("hash", 16384 - 512, &[]);
    let refusal = |blocks, block| {
        build(&data, &hash, &params(b"", block, 4096, blocks), &|_| {}).unwrap_err()
    };
    assert_eq!(
        refusal(256, 4096).to_string(),
        "Verity hash data does not fit: it takes 16384 bytes, there are 15872"
    );
    assert!(refusal(257, 4096).to_string().contains("there are only 1048576"));
    assert!(refusal(0, 4096).to_string().contains("no data blocks"));
    assert!(refusal(u64::MAX / 2, 4096).to_string().contains("too many"));
    assert!(refusal(1, 100).to_string().contains("100 is no size of a block"));
    assert!(bench.bytes("hash").iter().all(|byte| *byte == 0));
}

#[test]
fn progress_never_goes_back_and_ends_with_everything() {
    let bench = Bench::new();
    let size = 40 << 20;
    let data = bench.file("data", size, &[(9 << 20, b"x")]);
    let hash = bench.file("hash", 1 << 20, &[]);
    let seen = Mutex::new(Vec::new());
    let note = |bytes| seen.lock().unwrap().push(bytes);
    build(&data, &hash, &params(b"", 4096, 4096, size / 4096), &note).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted() && seen.iter().all(|bytes| *bytes <= size));
    assert_eq!(seen.last(), Some(&size));
}

#[cfg(feature = "verity-sign")]
mod signatures {
    use super::*;
    use slipway::crypto::cms::{Certificate, SIGNATURE_AREA, Signer, signature_area};

    const ROOT: &str = "3767db040987f180083c9c948f54888bf11c3672e6ea1deb443659b3d43d50e9";

    fn vectors(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/verity-sig").join(name)
    }

    #[test]
    fn a_signature_partition_is_the_peers_byte_for_byte() {
        let root: [u8; 32] = unhex(ROOT).unwrap();
        for certificate in ["c.pem", "c.der"] {
            let certificate = Certificate::load(&vectors(certificate)).unwrap();
            let signer = Signer::load(certificate, &vectors("k.pem")).unwrap();
            let signature = signer.sign(ROOT.as_bytes()).unwrap();
            let area = signature_area(&root, signer.certificate(), &signature).unwrap();
            assert_eq!(area.len(), SIGNATURE_AREA);
            let expected = std::fs::read(vectors("signature.json")).unwrap();
            let (text, rest) = area.split_at(expected.len());
            assert_eq!(String::from_utf8_lossy(text), String::from_utf8_lossy(&expected));
            assert!(rest.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_signature_that_is_too_long_is_refused() {
        let certificate = Certificate::load(&vectors("c.pem")).unwrap();
        assert!(signature_area(&[0; 32], &certificate, &vec![0; 11_000]).is_ok());
        let err = signature_area(&[0; 32], &certificate, &vec![0; 13_000]).unwrap_err();
        assert_eq!(err.errno(), Some(rustix::io::Errno::TOOBIG.raw_os_error()));
    }

    /// Makes a key and a certificate with openssl; false where there is none.
    fn make(bench: &Bench, name: &str, key: &[&str]) {
        let (key_file, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let mut args = vec!["genpkey", "-out", &key_file];
        args.extend(key);
        assert!(bench.run("openssl", &args).status.success());
        let subject = format!("/O=\u{dc}/CN={name}");
        let args =
            ["req", "-x509", "-new", "-key", &key_file, "-out", &certificate, "-subj", &subject];
        let ran = bench.run("openssl", &args);
        assert!(ran.status.success(), "{ran:?}");
    }

    const RSA_2048: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    const RSA_1024: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    const RSA_4096: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"];
    const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
    const P521: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"];

    fn signer(bench: &Bench, certificate: &str, key: &str) -> slipway::error::Result<Signer> {
        Signer::load(Certificate::load(&bench.path(certificate))?, &bench.path(key))
    }

    #[test]
    fn openssl_verifies_what_we_sign() {
        if !has("openssl", "openssl_verifies_what_we_sign") {
            return;
        }
        let bench = Bench::new();
        std::fs::write(bench.path("content"), ROOT).unwrap();
        std::fs::write(bench.path("other"), ROOT.replace('3', "4")).unwrap();
        for (name, kind) in [("rsa", RSA_2048), ("big", RSA_4096), ("p256", P256), ("p384", P384)] {
            make(&bench, name, kind);
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            let old = format!("{name}.old");
            let ran = bench.run("openssl", &["pkey", "-in", &key, "-traditional", "-out", &old]);
            assert!(ran.status.success(), "{ran:?}");
            let text = std::fs::read_to_string(bench.path(&old)).unwrap();
            assert!(text.starts_with("-----BEGIN RSA ") || text.starts_with("-----BEGIN EC "));
            for key in [&key, &old] {
                let signature =
                    signer(&bench, &certificate, key).unwrap().sign(ROOT.as_bytes()).unwrap();
                std::fs::write(bench.path("sig"), signature).unwrap();
                for (tool, content) in [("cms", "content"), ("smime", "content"), ("cms", "other")]
                {
                    let ran = bench.run(
                        "openssl",
                        &[
                            tool,
                            "-verify",
                            "-binary",
                            "-inform",
                            "DER",
                            "-in",
                            "sig",
                            "-content",
                            content,
                            "-CAfile",
                            &certificate,
                            "-purpose",
                            "any",
                            "-out",
                            "/dev/null",
                        ],
                    );
                    assert_eq!(ran.status.success(), content == "content", "{name}: {ran:?}");
                }
            }
        }
    }

    #[test]
    fn keys_that_cannot_sign_are_named() {
        if !has("openssl", "keys_that_cannot_sign_are_named") {
            return;
        }
        let bench = Bench::new();
        for (name, kind) in [
            ("rsa", RSA_2048),
            ("other", RSA_2048),
            ("p256", P256),
            ("q256", P256),
            ("weak", RSA_1024),
            ("p521", P521),
        ] {
            make(&bench, name, kind);
        }
        let encrypt =
            ["pkcs8", "-topk8", "-in", "rsa.key", "-passout", "pass:x", "-out", "enc.key"];
        assert!(bench.run("openssl", &encrypt).status.success());
        let encrypt = [
            "rsa",
            "-aes128",
            "-traditional",
            "-in",
            "rsa.key",
            "-passout",
            "pass:x",
            "-out",
            "enc.old",
        ];
        assert!(bench.run("openssl", &encrypt).status.success());
        let refusal = |certificate: &str, key: &str| {
            let err = signer(&bench, certificate, key).err().unwrap();
            let dir = format!("{}/", bench.dir.path().display());
            (err.to_string().replace(&dir, ""), err.hints().len())
        };
        for (certificate, key, message) in [
            ("rsa.crt", "other.key", "The private key does not match the certificate"),
            ("p256.crt", "q256.key", "The private key does not match the certificate"),
            ("p256.crt", "rsa.key", "The private key does not match the certificate"),
            ("rsa.crt", "p256.key", "The private key does not match the certificate"),
            ("weak.crt", "weak.key", "It cannot be used: RSA keys need 2048 bits or more"),
            (
                "p521.crt",
                "p521.key",
                "It cannot be used: neither an RSA key nor one of P-256 or P-384",
            ),
            ("rsa.crt", "rsa.crt", "It holds no private key in PEM"),
            ("rsa.crt", "none", "No such file or directory"),
        ] {
            let message = format!("Failed to load private key from {key}: {message}");
            assert_eq!(refusal(certificate, key), (message, 0));
        }
        for key in ["enc.key", "enc.old"] {
            let message =
                format!("Failed to load private key from {key}: The private key is encrypted");
            assert_eq!(refusal("rsa.crt", key), (message, 1));
        }
        assert_eq!(
            refusal("rsa.key", "rsa.key").0,
            "Failed to load X.509 certificate from rsa.key: not an X.509 certificate"
        );
    }

    #[test]
    fn a_certificate_is_refused_wherever_it_is_cut() {
        use slipway::format::x509;
        let der = std::fs::read(vectors("c.der")).unwrap();
        let whole = x509::Certificate::decode(&der).unwrap();
        assert_eq!(whole.kind, x509::KeyKind::Rsa);
        for len in 0..der.len() {
            assert_eq!(x509::Certificate::decode(&der[..len]), Err(x509::Error::NotCertificate));
        }
        let longer = [&der[..], &[0]].concat();
        assert!(x509::Certificate::decode(&longer).is_err());
    }

    /// An image whose set has no signature yet, and the definitions.
    fn unsigned(bench: &Bench) {
        std::fs::create_dir(bench.path("d")).unwrap();
        std::fs::write(bench.path("blob"), noise(1 << 20)).unwrap();
        let blob = bench.path("blob");
        let data =
            format!("Verity=data\nSizeMinBytes=1M\nSizeMaxBytes=1M\nCopyBlocks={}", blob.display());
        for (name, text) in [
            ("10-root", data.as_str()),
            ("20-verity", "Verity=hash\nSizeMinBytes=64K\nSizeMaxBytes=64K"),
            ("30-verity-sig", "Verity=signature"),
        ] {
            let kind = name.split_once('-').unwrap().1.replace("verity", "root-verity");
            let text = format!("[Partition]\nType={kind}\nVerityMatchKey=r\n{text}\n");
            std::fs::write(bench.path(&format!("d/{name}.conf")), text).unwrap();
        }
        let new = ["--empty=create", "--size=8M", "--defer-partitions=root-verity-sig"];
        let ran = repart(bench, &new);
        assert!(ran.status.success(), "{ran:?}");
    }

    fn repart(bench: &Bench, args: &[&str]) -> Output {
        let fixed =
            ["repart", "--definitions=d", "--seed=0123456789abcdef0123456789abcdef", "disk"];
        let mut all = fixed.to_vec();
        all.extend(["--dry-run=no", "--offline=yes", "--json=off"]);
        all.extend(args);
        bench.run(env!("CARGO_BIN_EXE_slipway"), &all)
    }

    fn signature_text(bench: &Bench) -> Option<String> {
        let bytes = bench.bytes("disk");
        let start = bytes.windows(11).position(|window| window == b"{\"rootHash\"")?;
        let len = bytes[start..].iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8(bytes[start..start + len].to_vec()).unwrap())
    }

    #[test]
    fn a_set_that_is_there_is_signed_later() {
        let expected = std::fs::read_to_string(vectors("signature.json")).unwrap();
        let certificate = format!("--certificate={}", vectors("c.pem").display());
        let key = format!("--private-key={}", vectors("k.pem").display());
        let value: serde_json::Value = serde_json::from_str(&expected).unwrap();
        let join =
            format!("--join-signature={ROOT}:base64:{}", value["signature"].as_str().unwrap());
        for how in [&key, &join] {
            let bench = Bench::new();
            unsigned(&bench);
            assert_eq!(signature_text(&bench), None);
            let ran = repart(&bench, &[&certificate, how]);
            assert!(ran.status.success(), "{ran:?}");
            assert_eq!(signature_text(&bench).as_ref(), Some(&expected));

            let before = bench.bytes("disk");
            let ran = repart(&bench, &[&certificate, how]);
            assert!(ran.status.success(), "{ran:?}");
            assert!(bench.bytes("disk") == before, "a second run is no change");
        }
    }

    #[test]
    fn a_tree_that_is_not_what_its_partitions_are_called_is_not_signed() {
        let bench = Bench::new();
        unsigned(&bench);
        let disk = FileDisk::open(&bench.path("disk"), Access::Write).unwrap();
        let bytes = bench.bytes("disk");
        let tree = bytes.windows(8).position(|window| window == b"verity\0\0").unwrap() as u64;
        disk.write_at(tree + 4096 + 7, b"damage").unwrap();
        let before = bench.bytes("disk");
        let certificate = format!("--certificate={}", vectors("c.pem").display());
        let key = format!("--private-key={}", vectors("k.pem").display());
        let ran = repart(&bench, &[&certificate, &key]);
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{text}");
        assert!(text.contains("their UUIDs are not its halves"), "{text}");
        assert!(bench.bytes("disk") == before);
    }
}
