//! `slipway update --image=`: what is inside of an image is listed and updated, and afterwards there
//! is neither a mount nor a loop device.
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

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{ROOT, START, disk, obstacle, told};
use slipway::disk::{Access, FileDisk, table};
use slipway::format::gpt::types;

fn update(image: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.arg("update").arg(format!("--image={}", image.display())).args(args);
    command.env("LANG", "C.UTF-8").output().unwrap()
}

/// What is left behind of an image: loop devices and mounts.
fn leftovers(image: &Path) -> Vec<String> {
    let shown = image.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        if let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file"))
            && file.trim_end() == shown
        {
            found.push(entry.path().display().to_string());
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|l| l.contains("slipway-image")).map(str::to_owned));
    found
}

#[test]
fn update_inside_an_image_reaches_its_files_and_its_slots_and_leaves_nothing_behind() {
    if let Some(reason) = obstacle() {
        println!(
            "SKIP update_inside_an_image_reaches_its_files_and_its_slots_and_leaves_nothing_behind: \
             {reason}"
        );
        return;
    }
    let top = tempfile::tempdir().unwrap();
    let image = disk(&top.path().canonicalize().unwrap());
    let before = fs::read(&image).unwrap();
    let list = update(&image, &["--json=short", "list"]);
    assert!(list.status.success(), "{}", told(&list));
    assert!(String::from_utf8_lossy(&list.stdout).contains("\"2\""), "{list:?}");
    let dry = update(&image, &["--dry-run", "update"]);
    assert!(String::from_utf8_lossy(&dry.stdout).contains("disk.imgp2"), "{dry:?}");
    assert!(before == fs::read(&image).unwrap(), "looking has changed the image");

    let done = update(&image, &["update"]);
    assert!(done.status.success(), "{}", told(&done));
    assert_eq!(leftovers(&image), Vec::<String>::new());
    let opened = FileDisk::open(&image, Access::Read).unwrap();
    let table = table::read(&opened, &image).unwrap().table;
    let slot = table.partition(2).unwrap();
    assert_eq!((slot.name.as_str(), slot.type_uuid), ("os_2", types::by_name("root").unwrap()));
    let start = usize::try_from(table.extent(&slot).unwrap().start).unwrap();
    let after = fs::read(&image).unwrap();
    assert_eq!(&after[start..start + 9], b"version 2");
    // The slot that was just written holds no file system: the tree is still that of os_1.
    let part = &after[usize::try_from(START).unwrap()..usize::try_from(START + ROOT).unwrap()];
    let tree = top.path().join("after.img");
    fs::write(&tree, part).unwrap();
    let mut command = Command::new("debugfs");
    let file = command.args(["-R", "cat /dst/d_2"]).arg(&tree).output().unwrap();
    assert_eq!(file.stdout, b"version 2");
}

#[test]
fn image_that_is_refused_is_named_with_the_reason() {
    let top = tempfile::tempdir().unwrap();
    let junk = top.path().join("junk.img");
    fs::write(&junk, vec![7; 1 << 20]).unwrap();
    let refused = |image: &Path, args: &[&str], text: &str| {
        let output = update(image, args);
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains(text), "{}", told(&output));
    };
    refused(&junk, &["list"], "Couldn't identify a suitable partition table or file system.");
    refused(&junk, &["--image-policy=x", "list"], "Failed to parse image policy: x");
    refused(&top.path().join("none"), &["list"], "No such file or directory");
    refused(&junk, &["pending"], "may not be combined with the 'pending' operation");
}
