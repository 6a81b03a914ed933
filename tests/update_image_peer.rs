//! `--image=`: the updater and the real `systemd-sysupdate` on the same disk image say the same and
//! leave the same partitions.
//!
//! Needs the peer (`make diff-test PEER=DIR`).
#![cfg(feature = "update")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

#[path = "common/image.rs"]
mod image;
#[path = "common/peer.rs"]
mod peer;

use std::fs;

use image::{disk, obstacle, told};
use peer::Peer;

#[test]
fn image_lists_as_with_the_peer_and_is_updated_as_by_the_peer() {
    let name = "image_lists_as_with_the_peer_and_is_updated_as_by_the_peer";
    if let Some(reason) = obstacle() {
        println!("SKIP {name}: {reason}");
        return;
    }
    let Some(peer) = Peer::new(name) else { return };
    let image = disk(peer.dir());
    let copy = peer.dir().join("copy.img");
    fs::copy(&image, &copy).unwrap();
    let run = |program: &str, first: &[&str], file: &str, args: &[&str]| -> (Option<i32>, String) {
        // The root of a chroot has to be a mount point; the peer refuses any other.
        let file = format!("--image={}", peer.inside().join(file).display());
        let script = "mount --bind / /mnt; for d in proc sys dev run; do mount --rbind /$d /mnt/$d; \
                      done; exec chroot /mnt \"$@\"";
        let mut command = peer.command("sh");
        command.args(["-euc", script, "x", program]).args(first).arg(file).args(args);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(0), "{program} {args:?}: {}", told(&output));
        (output.status.code(), text)
    };
    let slipway = peer.slipway();
    let ours = |args: &[&str]| run(slipway.to_str().unwrap(), &["update"], "copy.img", args);
    let sysupdate = "/usr/lib/systemd/systemd-sysupdate";
    let theirs = |args: &[&str]| run(sysupdate, &[], "disk.img", args);
    for args in [&["list"][..], &["--json=short", "list"], &["update"]] {
        assert_eq!(ours(args), theirs(args), "{args:?}");
    }
    // Tables and the free slot; the file system has other times in it.
    let (a, b) = (fs::read(&image).unwrap(), fs::read(&copy).unwrap());
    assert!(a[..4096 * 512 + 9] == b[..4096 * 512 + 9]);
}
