//! A disk image with a system in it that can be updated.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "test helper: a broken test should panic")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use slipway::disk::{Access, FileDisk, table};
use slipway::format::gpt::types;

/// Size of the file system, which begins at [`START`].
pub const ROOT: u64 = 16 << 20;
/// Where the file system is on the disk.
pub const START: u64 = 32 << 20;

/// An ext4 file system with definitions, a source with version 2, and directories to go to.
fn file_system(top: &Path) -> PathBuf {
    let tree = top.join("tree");
    for name in ["usr/lib/sysupdate.d", "etc", "src", "dst", "var/lib", "run"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    fs::write(tree.join("usr/lib/os-release"), "ID=x\n").unwrap();
    fs::write(tree.join("src/f_2"), "version 2").unwrap();
    let source = "[Source]\nType=regular-file\nPath=/src\nMatchPattern=f_@v\n[Target]\n";
    let file = "Type=regular-file\nPath=/dst\nMatchPattern=d_@v\n";
    let slot = "Type=partition\nPath=auto\nMatchPattern=os_@v\nMatchPartitionType=root\n";
    for (name, target) in [("50-file", file), ("60-slot", slot)] {
        let name = format!("usr/lib/sysupdate.d/{name}.transfer");
        fs::write(tree.join(name), format!("{source}{target}")).unwrap();
    }
    let image = top.join("fs.img");
    fs::File::create(&image).unwrap().set_len(ROOT).unwrap();
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-d"]).arg(&tree).arg(&image);
    assert!(command.status().unwrap().success());
    image
}

/// A disk with that file system as `os_1`, and a free slot.
pub fn disk(top: &Path) -> PathBuf {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gpt");
    let packed = fs::File::open(vectors.join("s512-0-empty.img.xz")).unwrap();
    let mut reader = slipway::unpack::reader(Box::new(packed)).unwrap();
    let path = top.join("disk.img");
    let mut image = fs::File::create(&path).unwrap();
    std::io::copy(&mut reader, &mut image).unwrap();
    image.set_len(64 << 20).unwrap();
    let disk = FileDisk::open(&path, Access::Write).unwrap();
    table::change(&disk, &path, &mut |table| {
        let all: Vec<_> = table.partitions().collect();
        for mut slot in all {
            let (kind, label) = match slot.number {
                1 => ("root", "os_1"),
                2 => ("root", "_empty"),
                _ => ("swap", "other"),
            };
            slot.type_uuid = types::by_name(kind).unwrap();
            slot.name = label.to_owned();
            slot.flags = 0;
            if slot.number == 1 {
                slot.first_lba = START / 512;
                slot.last_lba = slot.first_lba + ROOT / 512 - 1;
            }
            table.set(&slot).unwrap();
        }
        Ok(())
    })
    .unwrap();
    let tree = fs::read(file_system(top)).unwrap();
    image.write_all_at(&tree, START).unwrap();
    path
}

pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Why images cannot be mounted here.
pub fn obstacle() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting an image needs root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices");
    }
    let has_tool = Command::new("mkfs.ext4").arg("-V").output().is_ok();
    (!has_tool).then_some("there is no mkfs.ext4")
}
