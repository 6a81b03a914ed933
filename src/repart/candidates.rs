//! Disks that partitions can be made on: which there are, and which come and go.
//!
//! sysfs says what there is; where udev runs, its database adds names and the maker. A disk
//! qualifies if the kernel looks for partitions on it and it can be written; compressed memory
//! never does.
//!
//! DIFFERS: without udev the peer finds nothing, because it waits for udev to have seen a disk.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::disk::backing;
use crate::error::{Context, Result};
use crate::format::uevent::{self, Uevent};
use crate::sys::netlink::{GROUP_KERNEL, GROUP_UDEV, Protocol, Socket};

/// LIMIT: bytes of one file in udev's database.
const MAX_SIZE: usize = 1 << 20;
/// sysfs counts sectors of this size, whatever the disk has.
const SECTOR: u64 = 512;
/// In `capability` of old kernels: no partitions.
const GENHD_FL_NO_PART: u64 = 0x200;
const ENOBUFS: i32 = 105;

/// Which disks do not count.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The disk that the root file system is on.
    pub ignores_root: bool,
    /// Those without a medium.
    pub ignores_empty: bool,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its node.
    pub node: PathBuf,
    /// Other names of the node, sorted.
    pub symlinks: Vec<String>,
    /// Number of the medium.
    pub sequence: Option<u64>,
    /// In bytes.
    pub size: Option<u64>,
    /// Who made it.
    pub vendor: Option<String>,
    /// What it is.
    pub model: Option<String>,
    /// What it is connected to.
    pub subsystem: Option<String>,
}

impl Candidate {
    /// As Varlink has it; members that are not known are left out.
    pub fn to_json(&self) -> Value {
        let mut members = serde_json::Map::new();
        members.insert("node".to_owned(), json!(self.node.to_string_lossy()));
        let symlinks = (!self.symlinks.is_empty()).then(|| json!(self.symlinks));
        for (name, value) in [
            ("symlinks", symlinks),
            ("diskseq", self.sequence.map(Value::from)),
            ("sizeBytes", self.size.map(Value::from)),
            ("model", self.model.clone().map(Value::from)),
            ("vendor", self.vendor.clone().map(Value::from)),
            ("subsystem", self.subsystem.clone().map(Value::from)),
        ] {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        }
        Value::Object(members)
    }
}

/// All candidates, in the order of their places in sysfs.
///
/// # Errors
/// sysfs cannot be read.
pub fn list(ctx: &Ctx, filter: &Filter) -> Result<Vec<Candidate>> {
    let root = root_disk(ctx, filter);
    let class = ctx.sys("class/block");
    let mut places = Vec::new();
    let entries =
        fs::read_dir(&class).context(|| format!("Failed to list '{}'", class.display()))?;
    for entry in entries.flatten() {
        // A disk that goes away meanwhile is none.
        places.extend(fs::canonicalize(entry.path()));
    }
    places.sort_unstable();
    Ok(places.iter().filter_map(|place| look(ctx, place, filter, root.as_deref())).collect())
}

/// The node of the disk that does not count, if there is one.
fn root_disk(ctx: &Ctx, filter: &Filter) -> Option<PathBuf> {
    if !filter.ignores_root {
        return None;
    }
    ["/", "/usr"].iter().find_map(|path| backing::disk_of(ctx, &ctx.at(path)).ok().flatten())
}

/// The disk at a place in sysfs, if it is a candidate.
fn look(ctx: &Ctx, place: &Path, filter: &Filter, root: Option<&Path>) -> Option<Candidate> {
    let attribute = |name: &str| attribute(place, name);
    let uevent = attribute("uevent")?;
    let property = |key: &str| {
        uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    };
    let name = property("DEVNAME")?;
    if property("DEVTYPE")? != "disk" || name.starts_with("zram") || !has_partitions(place) {
        return None;
    }
    let node = Path::new("/dev").join(&name);
    let size = attribute("size").and_then(|text| text.parse::<u64>().ok());
    let size = size.map(|sectors| sectors.saturating_mul(SECTOR));
    let is_read_only = attribute("ro").as_deref() == Some("1");
    if is_read_only || filter.ignores_empty && size == Some(0) || root == Some(node.as_path()) {
        return None;
    }
    let data = attribute("dev").and_then(|number| udev_data(ctx, &number));
    let has_udev = data.is_some();
    let data = data.unwrap_or_default();
    let first = |keys: [&str; 2], fallback: &str| {
        let known = keys
            .iter()
            .find_map(|key| data.lines().find_map(|line| line.strip_prefix(&format!("E:{key}="))));
        match known {
            Some(known) => Some(known.to_owned()),
            None if has_udev => None,
            // A number says nothing to people.
            None => attribute(&format!("device/{fallback}"))
                .filter(|text| !text.is_empty() && !text.starts_with("0x")),
        }
    };
    let links = data.lines().filter_map(|line| line.strip_prefix("S:"));
    let mut symlinks: Vec<String> = links.map(|link| format!("/dev/{link}")).collect();
    symlinks.sort_unstable();
    Some(Candidate {
        node,
        symlinks,
        sequence: attribute("diskseq").and_then(|text| text.parse().ok()),
        size,
        vendor: first(["ID_VENDOR_FROM_DATABASE", "ID_VENDOR"], "vendor"),
        model: first(["ID_MODEL_FROM_DATABASE", "ID_MODEL"], "model"),
        subsystem: link_name(&place.join("device/subsystem")),
    })
}

/// Does the kernel look for partitions on it?
fn has_partitions(place: &Path) -> bool {
    if let Some(text) = attribute(place, "partscan") {
        return text == "1";
    }
    // Kernels before 6.10.
    if attribute(place, "loop/partscan").as_deref() == Some("0") {
        return false;
    }
    let count = attribute(place, "ext_range").and_then(|text| text.parse::<u32>().ok());
    if count.is_some_and(|count| count <= 1) {
        return false;
    }
    let flags = attribute(place, "capability").and_then(|text| u64::from_str_radix(&text, 16).ok());
    flags.is_none_or(|flags| flags & GENHD_FL_NO_PART == 0)
}

fn attribute(place: &Path, name: &str) -> Option<String> {
    fs::read_to_string(place.join(name)).ok().map(|text| text.trim().to_owned())
}

fn link_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// What udev knows of a device.
fn udev_data(ctx: &Ctx, number: &str) -> Option<String> {
    let bytes = fs::read(ctx.at(format!("/run/udev/data/b{number}"))).ok()?;
    let bytes = bytes.get(..MAX_SIZE).unwrap_or(&bytes);
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// What happens to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, or has changed.
    Add(Candidate),
    /// It is gone, or is no candidate any more.
    Remove(PathBuf),
}

/// Hears of disks that come and go.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    datagram: Vec<u8>,
}

impl Monitor {
    /// Begins to listen; what happens from now on is not missed. Where udev runs, it is heard,
    /// because it has looked at a disk when it speaks; else the kernel.
    ///
    /// # Errors
    /// There is no such socket.
    pub fn open(ctx: &Ctx) -> Result<Self> {
        let has_udev = ctx.at("/run/udev/control").exists();
        let group = if has_udev { GROUP_UDEV } else { GROUP_KERNEL };
        let socket = Socket::open(Protocol::Uevent, group)
            .context(|| "Failed to listen for devices".to_owned())?;
        Ok(Self { socket, datagram: Vec::new() })
    }

    /// What becomes readable when something has happened.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd as _;
        self.socket.as_fd()
    }

    /// What has happened, one datagram's worth.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn changes(&mut self, ctx: &Ctx, filter: &Filter) -> Result<Vec<Change>> {
        let failed = || "Failed to hear of devices".to_owned();
        match self.socket.receive(&mut self.datagram, None) {
            Ok(_) => Ok(uevent::parse(&self.datagram)
                .and_then(|event| change(ctx, &event, filter))
                .into_iter()
                .collect()),
            // Something was lost: everything is said again.
            Err(err) if err.raw_os_error() == Some(ENOBUFS) => {
                Ok(list(ctx, filter)?.into_iter().map(Change::Add).collect())
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(err) => Err(err).context(failed),
        }
    }
}

/// What an announcement means; none where it is not about a whole disk.
fn change(ctx: &Ctx, event: &Uevent, filter: &Filter) -> Option<Change> {
    if event.subsystem != "block" || event.kind != "disk" || event.name.is_empty() {
        return None;
    }
    let node = Path::new("/dev").join(&event.name);
    if event.action != "remove" {
        let place = ctx.sys(event.path.trim_start_matches('/'));
        let root = root_disk(ctx, filter);
        if let Some(candidate) = look(ctx, &place, filter, root.as_deref()) {
            return Some(Change::Add(candidate));
        }
    }
    Some(Change::Remove(node))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine with a disk, an empty card reader, a read-only disk, a loop device without
    /// partitions, compressed memory and a partition.
    fn machine() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().join("sys");
        fs::create_dir_all(sys.join("class/block")).unwrap();
        for (place, name, files) in [
            ("pci/vda", "vda", "dev=254:0 size=2048 ro=0 partscan=1 diskseq=9 uevent=disk"),
            ("pci/vda/vda1", "vda1", "dev=254:1 size=1024 ro=0 partition=1 uevent=partition"),
            ("usb/sda", "sda", "dev=8:0 size=0 ro=0 ext_range=256 capability=50 uevent=disk"),
            ("usb/sdb", "sdb", "dev=8:16 size=8 ro=1 ext_range=256 uevent=disk"),
            ("usb/sdc", "sdc", "dev=8:32 size=8 ro=0 ext_range=256 capability=250 uevent=disk"),
            ("virtual/loop0", "loop0", "dev=7:0 size=8 ro=0 partscan=0 uevent=disk"),
            ("virtual/zram0", "zram0", "dev=252:0 size=8 ro=0 partscan=1 uevent=disk"),
        ] {
            let place = sys.join("devices").join(place);
            fs::create_dir_all(place.join("device")).unwrap();
            for file in files.split(' ') {
                let (file, text) = file.split_once('=').unwrap();
                let text = match file {
                    "uevent" => format!("MAJOR=1\nDEVNAME={name}\nDEVTYPE={text}\n"),
                    _ => format!("{text}\n"),
                };
                fs::write(place.join(file), text).unwrap();
            }
            symlink(&place, sys.join("class/block").join(name)).unwrap();
        }
        let vda = sys.join("devices/pci/vda");
        symlink("../../../bus/virtio", vda.join("device/subsystem")).unwrap();
        fs::write(sys.join("devices/usb/sda/device/model"), "Reader  \n").unwrap();
        fs::create_dir_all(dir.path().join("run/udev/data")).unwrap();
        let data = "S:disk/by-path/x\nS:disk/by-id/y\nI:1\nE:ID_VENDOR=maker\nE:ID_MODEL=m\n\
                    E:ID_MODEL_FROM_DATABASE=Model M\n";
        fs::write(dir.path().join("run/udev/data/b254:0"), data).unwrap();
        let ctx = Ctx::host([]).with_root(dir.path()).with_kernel(dir.path().join("proc"), sys);
        (dir, ctx)
    }

    #[test]
    fn writable_disks_with_partitions_are_candidates() {
        let (_dir, ctx) = machine();
        let found = list(&ctx, &Filter::default()).unwrap();
        let shown: Vec<String> = found.iter().map(|one| one.to_json().to_string()).collect();
        assert_eq!(
            shown,
            [
                r#"{"node":"/dev/vda","symlinks":["/dev/disk/by-id/y","/dev/disk/by-path/x"],"diskseq":9,"sizeBytes":1048576,"model":"Model M","vendor":"maker","subsystem":"virtio"}"#,
                r#"{"node":"/dev/sda","sizeBytes":0,"model":"Reader"}"#,
            ]
        );
        let full = Filter { ignores_empty: true, ..Filter::default() };
        assert_eq!(list(&ctx, &full).unwrap().len(), 1);
    }

    #[test]
    fn announcements_add_and_remove_and_only_disks_count() {
        let (_dir, ctx) = machine();
        let event = |action: &str, name: &str, kind: &str, place: &str| Uevent {
            action: action.to_owned(),
            path: format!("/devices/{place}"),
            subsystem: "block".to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        let full = Filter { ignores_empty: true, ..Filter::default() };
        let seen = |event: &Uevent| change(&ctx, event, &full);
        let Some(Change::Add(vda)) = seen(&event("change", "vda", "disk", "pci/vda")) else {
            panic!("not added")
        };
        assert_eq!(vda.node, Path::new("/dev/vda"));
        let removed = |name: &str| Some(Change::Remove(Path::new("/dev").join(name)));
        assert_eq!(seen(&event("remove", "vda", "disk", "pci/vda")), removed("vda"));
        assert_eq!(seen(&event("change", "sda", "disk", "usb/sda")), removed("sda"));
        assert_eq!(seen(&event("add", "vda1", "partition", "pci/vda/vda1")), None);
    }
}
