//! Targets that are files. Texts and statuses are those of systemd-repart 262.1.

use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::symlink;

use super::*;
use crate::disk::table;
use crate::format::gpt::types;

const MIB: u64 = 1 << 20;

struct World {
    dir: tempfile::TempDir,
    ctx: Ctx,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([])
            .with_root(dir.path().join("root"))
            .with_kernel(dir.path().join("proc"), dir.path().join("sys"));
        Self { dir, ctx }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn image(&self, size: u64) -> PathBuf {
        let path = self.at("disk.raw");
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// An image with a table and a partition.
    fn partitioned(&self, size: u64, sector_size: u32) -> PathBuf {
        let path = self.image(size);
        let mut table = Table::create(size, sector_size, Uuid::from_u128(7)).unwrap();
        let (first, _) = table.usable();
        table
            .set(&gpt::Partition {
                number: 2,
                type_uuid: types::LINUX_GENERIC,
                uuid: Uuid::from_u128(8),
                first_lba: first,
                last_lba: first + 7,
                flags: 0,
                name: "data".to_owned(),
            })
            .unwrap();
        let disk = FileDisk::open(&path, Access::Write).unwrap();
        table::write(&disk, &path, &table).unwrap();
        path
    }

    fn open(&self, empty: Empty, size: Option<u64>) -> Result<Target> {
        open(&self.ctx, &self.options(empty, size))
    }

    fn options(&self, empty: Empty, size: Option<u64>) -> Options {
        Options {
            device: Device::Path(self.at("disk.raw")),
            empty,
            size: size.map(ImageSize::Bytes),
            ..Options::default()
        }
    }
}

fn refusal(result: Result<Target>) -> (u8, String) {
    let err = result.map(|_| ()).unwrap_err();
    (err.status(), err.to_string())
}

#[test]
fn modes_take_and_refuse_what_those_of_the_peer_do() {
    let world = World::new();
    let path = world.image(64 * MIB);
    let shown = path.display();
    let no_gpt = (77, format!("Disk {shown} has no GPT disk label, not repartitioning."));
    let foreign = (77, format!("Disk {shown} has non-GPT disk label, not repartitioning."));
    let any = (77, format!("Disk {shown} already has a disk label, refusing."));

    assert_eq!(refusal(world.open(Empty::Refuse, None)), no_gpt);
    for empty in [Empty::Allow, Empty::Require, Empty::Force] {
        let target = world.open(empty, None).unwrap();
        assert!(target.is_from_scratch && !target.is_created && !target.is_device);
        assert_eq!(target.table.unwrap().usable(), (2048, 131_038));
    }

    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    assert_eq!(refusal(world.open(Empty::Refuse, None)), no_gpt);
    assert_eq!(refusal(world.open(Empty::Allow, None)), foreign);
    assert_eq!(refusal(world.open(Empty::Require, None)), any);
    assert!(world.open(Empty::Force, None).unwrap().is_from_scratch);

    world.partitioned(64 * MIB, 512);
    for empty in [Empty::Refuse, Empty::Allow] {
        let target = world.open(empty, None).unwrap();
        assert!(!target.is_from_scratch);
        assert_eq!(target.table.unwrap().partition(2).unwrap().name, "data");
    }
    assert_eq!(refusal(world.open(Empty::Require, None)), any);
    let target = world.open(Empty::Force, None).unwrap();
    assert_eq!(target.table.as_ref().unwrap().partitions().count(), 0);
    // It is locked as long as it is open.
    drop(target);

    let err = world.open(Empty::Require, None).map(|_| ()).unwrap_err();
    let (name, _) = err.varlink().unwrap();
    assert_eq!(name, "io.systemd.Repart.ConflictingDiskLabelPresent");
}

#[test]
fn one_good_copy_of_the_table_will_do_and_none_is_a_foreign_label() {
    let world = World::new();
    let path = world.partitioned(64 * MIB, 512);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 512], 512).unwrap();
    assert!(!world.open(Empty::Refuse, None).unwrap().is_from_scratch);
    file.write_all_at(&[0; 512], 64 * MIB - 512).unwrap();
    let (status, text) = refusal(world.open(Empty::Allow, None));
    assert_eq!(status, 77);
    assert!(text.ends_with("has non-GPT disk label, not repartitioning."), "{text}");
}

#[test]
fn the_sector_size_is_that_of_the_table_unless_told_or_from_scratch() {
    let world = World::new();
    for sector_size in [512, 1024, 2048, 4096] {
        world.partitioned(64 * MIB, sector_size);
        assert_eq!(world.open(Empty::Refuse, None).unwrap().sector_size, sector_size);
        assert_eq!(world.open(Empty::Force, None).unwrap().sector_size, 512);
        let mut options = world.options(Empty::Force, None);
        options.sector_size = Some(4096);
        assert_eq!(open(&world.ctx, &options).unwrap().table.unwrap().usable(), (256, 16378));
    }
}

#[test]
fn a_new_image_goes_again_unless_it_is_kept() {
    let world = World::new();
    let path = world.at("disk.raw");
    let mut target = world.open(Empty::Create, Some(64 * MIB)).unwrap();
    assert!(target.is_created && target.is_from_scratch);
    assert_eq!(fs::metadata(&path).unwrap().len(), 64 * MIB);
    target.begin();
    drop(target);
    assert!(!path.exists());

    // Of a size that is not known yet.
    let mut options = world.options(Empty::Create, None);
    options.size = Some(ImageSize::Auto);
    let mut target = open(&world.ctx, &options).unwrap();
    assert_eq!((&target.table, target.size), (&None, 0));
    target.grow(1_065_472).unwrap();
    assert_eq!(target.table.as_ref().unwrap().usable(), (34, 2047));
    target.keep();
    drop(target);
    assert_eq!(fs::metadata(&path).unwrap().len(), 1_065_472);
    let text = format!("Failed to create '{}': File exists", path.display());
    assert_eq!(refusal(world.open(Empty::Create, Some(64 * MIB))), (1, text));
    assert!(path.exists());
    // What was wrong with the file that could not be made is not the target's to remove.
    let mut options = world.options(Empty::Create, Some(MIB));
    options.device = Device::Path(world.at("nodir/disk.raw"));
    let (_, text) = refusal(open(&world.ctx, &options));
    assert!(text.ends_with("No such file or directory"), "{text}");
}

#[test]
fn a_failed_run_leaves_an_image_as_large_as_it_was() {
    let world = World::new();
    let path = world.partitioned(64 * MIB, 512);
    let before = fs::read(&path).unwrap();
    let grow = || world.open(Empty::Refuse, Some(96 * MIB)).unwrap();
    let target = grow();
    assert_eq!((target.old_size, target.size), (64 * MIB, 96 * MIB));
    assert_eq!(target.table.as_ref().unwrap().usable(), (2048, 196_574));
    assert_eq!(fs::metadata(&path).unwrap().len(), 96 * MIB);
    drop(target);
    assert!(fs::read(&path).unwrap() == before);

    // Once something is written it stays.
    let mut target = grow();
    target.begin();
    drop(target);
    assert_eq!(fs::metadata(&path).unwrap().len(), 96 * MIB);
    // And nothing shrinks.
    let target = world.open(Empty::Refuse, Some(32 * MIB)).unwrap();
    assert_eq!(target.size, 96 * MIB);
}

#[test]
fn a_dry_run_grows_the_plan_only() {
    let world = World::new();
    let path = world.partitioned(64 * MIB, 512);
    let mut options = world.options(Empty::Refuse, Some(96 * MIB));
    options.is_dry_run = true;
    let target = open(&world.ctx, &options).unwrap();
    assert_eq!(target.size, 96 * MIB);
    assert_eq!(target.table.as_ref().unwrap().usable(), (2048, 196_574));
    assert_eq!(fs::metadata(&path).unwrap().len(), 64 * MIB);
    assert!(target.disk.write_at(0, b"x").is_err());
}

#[test]
fn others_are_locked_out_while_a_target_is_open() {
    let world = World::new();
    let path = world.partitioned(64 * MIB, 512);
    let other = FileDisk::open(&path, Access::Read).unwrap();
    let is_free = |is_shared| other.lock_as(is_shared, false).unwrap().is_some();
    let target = world.open(Empty::Refuse, None).unwrap();
    assert!(!is_free(false) && !is_free(true));
    drop(target);
    let mut options = world.options(Empty::Refuse, None);
    options.is_dry_run = true;
    let target = open(&world.ctx, &options).unwrap();
    assert!(!is_free(false) && is_free(true));
    drop(target);
    assert!(is_free(false));
}

#[test]
fn what_is_no_disk_is_refused_as_the_peer_does() {
    let world = World::new();
    world.write("proc/self/mountinfo", b"9 1 0:21 / /proc rw - proc proc rw\n");
    let refused = |path: &Path| {
        let mut options = world.options(Empty::Allow, None);
        options.device = Device::Path(path.to_path_buf());
        refusal(open(&world.ctx, &options))
    };
    let text = |path: &Path, cause: &str| {
        format!("Failed to open file or determine backing device of {}: {cause}", path.display())
    };
    let missing = world.at("missing");
    assert_eq!(refused(&missing), (1, text(&missing, "No such file or directory")));
    let null = Path::new("/dev/null");
    assert_eq!(refused(null), (1, text(null, "Block device required")));
    let proc = Path::new("/proc");
    assert_eq!(refused(proc), (76, text(proc, "No such device")));
    world.image(100);
    let (status, text) = refusal(world.open(Empty::Allow, None));
    assert_eq!(
        (status, text.as_str()),
        (1, "Failed to create GPT disk label: No space left on device")
    );
}

#[test]
fn without_a_root_disk_the_status_says_so() {
    let world = World::new();
    // Neither the tree nor the kernel's tables have a block device for it.
    fs::create_dir_all(world.at("root")).unwrap();
    symlink("/proc", world.at("root/usr")).unwrap();
    world.write("proc/self/mountinfo", b"");
    let (status, text) = refusal(open(&world.ctx, &Options::default()));
    assert!(status == 1, "{text}: /usr leads nowhere below the root");
    assert!(text.starts_with("Failed to determine backing device of"), "{text}");
}

#[test]
fn a_factory_reset_is_requested_by_option_or_in_the_initrd() {
    let world = World::new();
    let asked = |wanted: Option<bool>| {
        let options = Options { factory_reset: wanted, ..Options::default() };
        wants_factory_reset(&world.ctx, &options).unwrap()
    };
    world.write("proc/cmdline", b"quiet systemd.factory_reset=1\n");
    assert_eq!([asked(None), asked(Some(true)), asked(Some(false))], [false, true, false]);
    world.write("root/etc/initrd-release", b"");
    assert_eq!([asked(None), asked(Some(true)), asked(Some(false))], [true, true, false]);
    world.write("proc/cmdline", b"quiet\n");
    assert!(!asked(None));

    world.write("root/etc/os-release", b"ID=demo\nIMAGE_ID=img\n");
    world.write("proc/sys/kernel/random/boot_id", b"11111111-2222-3333-4444-555555555555\n");
    let name = "sys/firmware/efi/efivars/FactoryResetRequest-8cf2644b-4b0b-428f-9387-6d876050dc67";
    let request = |id: &str, boot: &str| {
        let text =
            format!(r#"{{"osReleaseId":"{id}","osReleaseImageId":"img","bootId":"{boot}"}}"#);
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        world.write(name, &[&[7, 0, 0, 0][..], &bytes].concat());
        asked(None)
    };
    assert!(request("demo", "99999999222233334444555555555555"));
    assert!(!request("demo", "11111111222233334444555555555555"), "made in this boot");
    assert!(!request("other", "99999999222233334444555555555555"));
    world.write(name, b"");
    assert!(!asked(None));
}
