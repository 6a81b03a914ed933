//! Encrypted volumes against those who open them: cryptsetup, without device mapper or root.
#![cfg(all(feature = "repart", feature = "luks"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use slipway::crypto::luks::{Cost, Prepared, Volume, data};
use slipway::ctx::Ctx;
use slipway::disk::{Access, Disk as _, FileDisk};

const UUID: &str = "1ac2da86-e263-4df5-889d-ad42a5da46ca";
const SIZE: u64 = 24 << 20;
const DATA: u64 = 8 << 20;

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// None, with a line that says why, where there is no cryptsetup.
    fn new(test: &str) -> Option<Self> {
        let is_there =
            ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join("cryptsetup").exists());
        if !is_there {
            println!("SKIP {test}: no cryptsetup");
            return None;
        }
        Some(Self { dir: tempfile::tempdir().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn cryptsetup(&self, args: &[&str]) -> Output {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
        Command::new("cryptsetup")
            .args(args)
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("LC_ALL", "C")
            .output()
            .unwrap()
    }

    fn opens(&self, key: &[u8]) -> bool {
        std::fs::write(self.path("key"), key).unwrap();
        let ran = self.cryptsetup(&["open", "--test-passphrase", "--key-file=key", "disk"]);
        assert!(matches!(ran.status.code(), Some(0 | 2)), "{ran:?}");
        ran.status.success()
    }

    fn metadata(&self) -> Value {
        let ran = self.cryptsetup(&["luksDump", "--dump-json-metadata", "disk"]);
        assert!(ran.status.success(), "{ran:?}");
        serde_json::from_slice(&ran.stdout).unwrap()
    }

    /// A volume whose contents are what `contents` writes.
    fn make(&self, volume: &Volume, key: &[u8], contents: &[(u64, &[u8])]) {
        let file = File::create(self.path("disk")).unwrap();
        file.set_len(SIZE).unwrap();
        let disk = FileDisk::open(&self.path("disk"), Access::Write).unwrap();
        let prepared = Prepared::new(&Ctx::host([]), volume, key).unwrap();
        prepared.write(&disk).unwrap();
        let below = data(&disk, DATA).unwrap();
        let inside = prepared.open(&below).unwrap();
        inside.zero(0, DATA).unwrap();
        for (offset, bytes) in contents {
            inside.write_at(*offset, bytes).unwrap();
        }
        inside.sync().unwrap();
    }
}

fn volume(cost: Cost, sector_size: u32) -> Volume {
    Volume {
        uuid: uuid::Uuid::parse_str(UUID).unwrap(),
        label: "luks-secret".to_owned(),
        sector_size,
        allows_discards: true,
        cost,
    }
}

/// What differs from volume to volume.
fn without_secrets(mut metadata: Value) -> Value {
    metadata["keyslots"]["0"]["kdf"]["salt"] = Value::Null;
    for name in ["salt", "digest", "iterations"] {
        metadata["digests"]["0"][name] = Value::Null;
    }
    metadata
}

#[test]
fn a_volume_says_what_the_peers_says() {
    let Some(bench) = Bench::new("a_volume_says_what_the_peers_says") else { return };
    bench.make(&volume(Cost::Minimal, 4096), b"", &[]);
    let text = include_str!("vectors/repart/41-encrypt-offline/luks.txt");
    let json = text.split("\n{").nth(1).unwrap().split("\n}\n").next().unwrap();
    let expected: Value = serde_json::from_str(&format!("{{{json}\n}}")).unwrap();
    let order = |value: &Value| without_secrets(value.clone()).to_string();
    assert_eq!(order(&bench.metadata()), order(&expected));

    let ran = bench.cryptsetup(&["luksDump", "disk"]);
    let dump = String::from_utf8(ran.stdout).unwrap();
    let plain = |text: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_fixed = |line: &String| {
            let is_hex = line.split(' ').all(|w| w.len() == 2 && u8::from_str_radix(w, 16).is_ok());
            !line.is_empty()
                && !is_hex
                && !["Epoch", "Salt", "Digest:", "Iterations"].iter().any(|w| line.starts_with(w))
        };
        text.lines().map(words).filter(is_fixed).collect()
    };
    let theirs = text.split("\n{").next().unwrap().strip_prefix("## disk.raw1\n").unwrap();
    assert_eq!(plain(&dump), plain(theirs));
}

#[test]
fn only_the_right_key_opens_it() {
    let Some(bench) = Bench::new("only_the_right_key_opens_it") else { return };
    for key in [&b""[..], b"x", b"a longer key\n with lines\0and zeros", &[0xff; 500]] {
        bench.make(&volume(Cost::Minimal, 512), key, &[]);
        assert!(bench.opens(key), "{key:?}");
        assert!(!bench.opens(b"wrong"), "{key:?}");
        assert!(!bench.opens(&[key, b"x"].concat()), "{key:?}");
    }
}

#[test]
fn every_derivation_opens() {
    let Some(bench) = Bench::new("every_derivation_opens") else { return };
    for (cost, kind, split) in
        [(Cost::Pbkdf2, "pbkdf2", "sha256"), (Cost::Argon2id, "argon2id", "sha256")]
    {
        let volume = Volume { allows_discards: false, label: String::new(), ..volume(cost, 4096) };
        bench.make(&volume, b"pass", &[]);
        let metadata = bench.metadata();
        let slot = &metadata["keyslots"]["0"];
        assert_eq!((&slot["kdf"]["type"], &slot["af"]["hash"]), (&kind.into(), &split.into()));
        assert_eq!(metadata["config"].get("flags"), None);
        println!("{kind}: {}", slot["kdf"]);
        assert!(bench.opens(b"pass"));
        assert!(!bench.opens(b"pas"));
    }
}

#[test]
fn either_copy_of_the_header_is_enough() {
    let Some(bench) = Bench::new("either_copy_of_the_header_is_enough") else { return };
    for damaged in [0, 16 << 10] {
        bench.make(&volume(Cost::Minimal, 4096), b"k", &[]);
        let disk = FileDisk::open(&bench.path("disk"), Access::Write).unwrap();
        disk.write_at(damaged + 300, b"damage").unwrap();
        assert!(bench.opens(b"k"), "{damaged}");
    }
}

#[test]
fn cryptsetup_decrypts_what_was_written() {
    let Some(bench) = Bench::new("cryptsetup_decrypts_what_was_written") else { return };
    for sector in [512, 4096] {
        let noise: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let contents =
            [(0, &b"start"[..]), (1_000_001, &noise[..]), (DATA - 4097, &b"towards the end"[..])];
        bench.make(&volume(Cost::Minimal, sector), b"k", &contents);
        std::fs::write(bench.path("key"), b"k").unwrap();
        let _ = std::fs::remove_file(bench.path("header"));
        let ran = bench.cryptsetup(&[
            "reencrypt",
            "--decrypt",
            "--batch-mode",
            "--force-offline-reencrypt",
            "--key-file=key",
            "--header=header",
            "disk",
        ]);
        if !ran.status.success() {
            println!(
                "SKIP cryptsetup_decrypts_what_was_written/{sector}: {}",
                String::from_utf8_lossy(&ran.stderr).trim()
            );
            continue;
        }
        let mut expected = vec![0; DATA as usize];
        for (offset, bytes) in contents {
            expected[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        // It moves what it has decrypted to the front.
        let found = std::fs::read(bench.path("disk")).unwrap();
        assert!(found[..DATA as usize] == expected, "{sector}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let ctx = Ctx::host([]);
    let long = Volume { label: "x".repeat(48), ..volume(Cost::Minimal, 4096) };
    let err = Prepared::new(&ctx, &long, b"").err().unwrap();
    assert_eq!(
        err.to_string(),
        "Failed to prepare the LUKS2 header: a LUKS2 label of 48 bytes is too long, 47 is the limit"
    );
}

#[test]
fn plain_text_never_gets_to_the_disk_and_comes_out_again() {
    let name = "plain_text_never_gets_to_the_disk_and_comes_out_again";
    let Some(bench) = Bench::new(name) else { return };
    let marker = b"This must not be seen. ";
    let mut blob = marker.repeat(1000);
    blob.resize(2 << 20, 0);
    std::fs::write(bench.path("blob"), &blob).unwrap();
    std::fs::write(bench.path("secret"), b"pass").unwrap();
    std::fs::create_dir(bench.path("d")).unwrap();
    let definition = format!(
        "[Partition]\nType=home\nLabel={}\nEncrypt=key-file\nEncryptKDF=minimal\nCopyBlocks={}\n",
        "\u{e4}".repeat(30),
        bench.path("blob").display()
    );
    std::fs::write(bench.path("d/10.conf"), definition).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .current_dir(bench.dir.path())
        .args(["repart", "--definitions=d", "--empty=create", "--size=auto", "--offline=yes"])
        .args(["--seed=0123456789abcdef0123456789abcdef", "--dry-run=no", "--json=off"])
        .args(["--discard=no", "--key-file=secret", "image"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let image = std::fs::read(bench.path("image")).unwrap();
    assert!(!image.windows(marker.len()).any(|window| window == marker));
    std::fs::write(bench.path("disk"), &image[1 << 20..][..34 << 20]).unwrap();
    assert_eq!(bench.metadata()["config"].get("flags"), None);
    assert!(bench.opens(b"pass") && !bench.opens(b""));
}

#[test]
fn what_cannot_be_enrolled_is_said_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (keys, message) in [
        ("Encrypt=tpm2", "Encrypt=tpm2: locking volumes to a TPM is not supported."),
        ("Encrypt=key-file+tpm2", "Encrypt=tpm2: locking volumes to a TPM is not supported."),
        ("Encrypt=key-file\nIntegrity=inline", "Integrity=inline"),
    ] {
        let definition = format!("[Partition]\nType=home\nFormat=vfat\n{keys}\n");
        std::fs::write(dir.path().join("10.conf"), definition).unwrap();
        let ran = Command::new(env!("CARGO_BIN_EXE_slipway"))
            .current_dir(dir.path())
            .args(["repart", "--definitions=.", "--empty=create", "--size=1G", "--offline=no"])
            .args(["--dry-run=no", "--json=off", "--seed=random", "image"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(1), "{text}");
        assert!(text.contains(message), "{text}");
        assert!(!dir.path().join("image").exists(), "{text}");
    }
}
