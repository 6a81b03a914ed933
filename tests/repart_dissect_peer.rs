//! What systemd-dissect says of an image of ours.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/peer.rs"]
mod peer;

use std::fs;
use std::process::Command;

use peer::Peer;

/// Definitions of an image with a root that Verity guards.
const DEFINITIONS: &[(&str, &str)] = &[
    ("10-esp.conf", "Type=esp\nFormat=vfat\nSizeMaxBytes=264M\n"),
    (
        "20-root.conf",
        "Type=root\nFormat=ext4\nCopyFiles=/:/\nVerity=data\nVerityMatchKey=root\n\
         SizeMinBytes=64M\nSizeMaxBytes=64M\n",
    ),
    (
        "30-hash.conf",
        "Type=root-verity\nVerity=hash\nVerityMatchKey=root\nSizeMinBytes=1M\nSizeMaxBytes=1M\n",
    ),
    ("40-swap.conf", "Type=swap\nSizeMinBytes=16M\nSizeMaxBytes=16M\n"),
];

#[test]
fn the_peers_dissect_accepts_an_image() {
    let Some(peer) = Peer::new("the_peers_dissect_accepts_an_image") else { return };
    for directory in ["tree/etc", "tree/usr", "repart.d"] {
        fs::create_dir_all(peer.dir().join(directory)).unwrap();
    }
    fs::write(peer.dir().join("tree/etc/os-release"), "ID=test\nNAME=Test\n").unwrap();
    for (name, text) in DEFINITIONS {
        let text = format!("[Partition]\n{text}");
        fs::write(peer.dir().join("repart.d").join(name), text).unwrap();
    }
    let made = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .current_dir(peer.dir())
        .args(["repart", "--definitions=repart.d", "--copy-source=tree", "--empty=create"])
        .args(["--size=auto", "--dry-run=no", "--seed=random", "disk.raw"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Validates only: setting up Verity is for those who have the device mapper.
    let image = peer.inside().join("disk.raw");
    let output = peer.run("/usr/bin/systemd-dissect", &["--validate", image.to_str().unwrap()]);
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}
