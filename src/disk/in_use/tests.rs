//! Made-up `/proc` and `/sys`; the disk is an image file with a loop device, because a test cannot
//! make nodes of its own.

use std::os::unix::fs::symlink;

use super::*;

const MIB: u64 = 1 << 20;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.write("disk.raw", "");
        world.write("proc/self/mountinfo", "22 1 0:20 / / rw - ext4 /dev/root rw\n");
        world.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn ctx(&self) -> Ctx {
        Ctx::host([]).with_kernel(self.at("proc"), self.at("sys"))
    }

    fn tables(&self) -> Vec<Use> {
        let ctx = self.ctx();
        let mut found = Vec::new();
        let dir = self.at("sys/devices/vda");
        Tables::read(&ctx).unwrap().of_device(&dir, Path::new("/dev/vdzz"), &mut found).unwrap();
        found
    }

    /// A disk of 100 MiB with partitions 1 and 3 of 10 MiB at 1 and 21 MiB.
    fn disk(&self) {
        self.write("sys/devices/vda/dev", "254:0\n");
        self.write("sys/devices/vda/size", &format!("{}\n", 100 * MIB / 512));
        for (number, start) in [(1, MIB), (3, 21 * MIB)] {
            let at = |file: &str| format!("sys/devices/vda/vda{number}/{file}");
            self.write(&at("dev"), &format!("254:{number}\n"));
            self.write(&at("partition"), &format!("{number}\n"));
            self.write(&at("start"), &format!("{}\n", start / 512));
            self.write(&at("size"), &format!("{}\n", 10 * MIB / 512));
            fs::create_dir_all(self.at(&at("holders"))).unwrap();
        }
    }
}

fn shown(uses: &[Use]) -> Vec<String> {
    uses.iter().map(Use::to_string).collect()
}

#[test]
fn mounts_of_all_namespaces_swap_and_holders_are_found_with_names_and_sizes() {
    let world = World::new();
    world.disk();
    assert_eq!(shown(&world.tables()), [""; 0]);
    world.write("proc/77/mountinfo", "9 1 254:1 / /mnt/a\\040b rw shared:1 - ext4 /dev/x rw\n");
    world.write("proc/78/mountinfo", "torn line\n9 1 254:1 / /mnt/a\\040b rw - ext4 /dev/x rw\n");
    world.write("proc/swaps", "Filename\tType\n/dev/vdzz3  partition\t1 0 -2\n");
    world.write("sys/devices/vda/vda3/holders/dm-4/dm/name", "crypt-root\n");
    let holders = world.at("sys/devices/vda/vda1/holders");
    symlink("nowhere", holders.join("md127")).unwrap();
    fs::create_dir_all(world.at("sys/fs/btrfs/1234/devices/vda3")).unwrap();
    assert_eq!(
        shown(&world.tables()),
        [
            "/dev/vdzz1 (10M) is mounted at '/mnt/a b'",
            "/dev/vdzz1 (10M) is used by md127",
            "/dev/vdzz3 (10M) is swap space",
            "/dev/vdzz3 (10M) is used by dm-4 (crypt-root)",
            "/dev/vdzz3 (10M) is used by btrfs 1234",
        ]
    );
}

#[test]
fn a_file_system_with_device_numbers_of_its_own_is_found_by_its_source() {
    let world = World::new();
    world.disk();
    world.write("proc/self/mountinfo", "9 1 0:44 / /data rw - btrfs /dev/vdzz3 rw,subvol=/\n");
    assert_eq!(shown(&world.tables()), ["/dev/vdzz3 (10M) is mounted at '/data'"]);
}

#[test]
fn a_disk_that_is_itself_mounted_is_in_use_everywhere() {
    let world = World::new();
    world.disk();
    world.write("proc/self/mountinfo", "9 1 254:0 / /data rw - ext4 /dev/vda rw\n");
    let uses = world.tables();
    assert_eq!(uses.len(), 1);
    assert_eq!(uses[0].range, 0..100 * MIB);
}

#[test]
fn an_image_without_a_loop_device_is_nobodys() {
    let world = World::new();
    world.write("sys/block/loop7/loop/backing_file", "/elsewhere/disk.raw\n");
    let (ctx, image) = (world.ctx(), world.at("disk.raw"));
    assert_eq!(users(&ctx, &image).unwrap(), []);
    check(&ctx, &image, std::slice::from_ref(&(0..u64::MAX))).unwrap();
    assert_eq!(kernel_partitions(&ctx, &image).unwrap(), []);
}

#[test]
fn words_of_the_tables_may_have_octal_in_them() {
    for (word, path) in
        [("/a\\040b", "/a b"), ("/a\\134", "/a\\"), ("\\", "\\"), ("\\04", "\\04"), ("", "")]
    {
        assert_eq!(unescape(word), Path::new(path), "{word}");
    }
}

#[test]
fn without_a_mount_table_nothing_is_assumed() {
    let world = World::new();
    fs::remove_file(world.at("proc/self/mountinfo")).unwrap();
    let err = users(&world.ctx(), &world.at("disk.raw")).unwrap_err();
    assert!(err.to_string().starts_with("Failed to read mount table"), "{err}");
}
