//! Swap space of our own beside that of mkswap.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

use std::fs::{self, File};
use std::process::{Command, Stdio};

use slipway::disk::{Access, FileDisk};
use slipway::mkfs::swap::{self, Settings};
use uuid::Uuid;

const ID: &str = "825aeeb7-e655-4d2d-b083-9f6584b3b9f7";

fn settings(label: &'static str) -> Settings<'static> {
    Settings { uuid: Uuid::parse_str(ID).unwrap(), label, page_size: 4096 }
}

#[test]
fn swap_space_is_that_of_mkswap_byte_for_byte() {
    if Command::new("mkswap").arg("--version").output().is_err() {
        println!("SKIP swap_space_is_that_of_mkswap_byte_for_byte: mkswap is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let labels = ["swap", "fifteen letters", "sixteen letters!", "ünïcödé swäp"];
    for size in [40 << 10, 44 << 10, 1 << 20, 10 << 20, (10 << 20) + 512, 32 << 20] {
        for label in labels {
            // What was there before, boot loaders apart, is not swap space's.
            for path in [&ours, &theirs] {
                fs::write(path, vec![0; size]).unwrap();
            }
            swap::make(&FileDisk::open(&ours, Access::Write).unwrap(), &settings(label)).unwrap();
            let mkswap = Command::new("mkswap")
                .args(["-L", swap::label(label), "-U", ID])
                .arg(&theirs)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(mkswap.success());
            let (ours, theirs) = (fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
            let other = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            assert_eq!(other, None, "{size} bytes, '{label}'");
        }
    }
}

#[test]
fn too_little_room_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small");
    for size in [0_u64, 1, 4096, 40959] {
        File::create(&path).unwrap().set_len(size).unwrap();
        let disk = FileDisk::open(&path, Access::Write).unwrap();
        let error = swap::make(&disk, &settings("swap")).unwrap_err().to_string();
        assert_eq!(error, format!("Swap space needs at least 40960 bytes, not {size}"));
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
    }
}
