//! Machines: a kernel, an initramfs of slipway and busybox, and what a scenario adds, in QEMU.
//!
//! ```ignore
//! let machine = Machine::new("a_test").script(include_str!("vm/a-scenario.sh")).smbios("type=0,vendor=Vultr");
//! let Some(report) = machine.boot() else { return };
//! report.assert_steps(&["detected", "imported"]);
//! ```
//!
//! The script runs in the guest with the words of `tests/vm/words.sh` and says
//! `slipway-test: PASS step` or `slipway-test: FAIL step: why` on the serial console. A machine
//! whose kernel panics, that says nothing for a while or does not come to an end fails, and its
//! console is kept below `target/vm/`.
//!
//! - `SLIPWAY_STATIC`: the executable under test
//! - `KERNEL`: the kernel; without it one of this machine's below `/boot`, with its modules
//! - `BUSYBOX`: a static busybox; `/bin/busybox` without it
//!
//! TCG only, and no more than two machines at a time: neither KVM nor root is needed.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "shared by test crates, each of which uses a part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "test helper: a broken test should panic"
)]

mod console;
mod cpio;
mod host;
mod modules;
mod qemu;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

pub use console::Report;
use cpio::Node;
pub use qemu::WORDS as KERNEL_WORDS;

/// What runs first in the guest: mounts, modules, links, the scenario.
const INIT: &str = include_str!("../../vm/init.sh");

/// What scripts say it with.
const WORDS: &str = include_str!("../../vm/words.sh");

/// One network card behind QEMU's user network: DHCP, no resolver, no way out but one.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// The address in the guest's network that answers on port 80; the network is its /24.
    pub endpoint: Ipv4Addr,
    /// The port on the host's loopback interface it leads to.
    pub port: u16,
}

/// A raw image and the sectors the machine sees it in.
#[derive(Clone, Debug)]
struct Disk {
    image: PathBuf,
    /// 512 or 4096 bytes.
    sector_size: u32,
}

/// What disks of one's own are made of.
pub struct Ingredients {
    /// A kernel with everything built in.
    pub kernel: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// The executable under test.
    pub slipway: PathBuf,
}

/// What there is to make a disk of that a machine boots by itself; none, with a line that says
/// why, where something is missing. The kernel has these switches built in.
pub fn ingredients(test: &str, switches: &[&'static str]) -> Option<Ingredients> {
    let needed = host::Needed { switches: switches.to_vec(), ..host::Needed::default() };
    let why = match host::Host::find(&needed) {
        Ok(host) if host.modules.is_empty() => {
            let host::Host { kernel, busybox, slipway, .. } = host;
            return Some(Ingredients { kernel, busybox, slipway });
        }
        Ok(host) => format!("{} needs modules", host.kernel.display()),
        Err(why) => why,
    };
    println!("SKIP {test}: {why}");
    None
}

/// A machine to be booted once.
pub struct Machine {
    name: String,
    files: BTreeMap<String, Node>,
    cmdline: Vec<String>,
    smbios: Vec<String>,
    disks: Vec<Disk>,
    network: Option<Network>,
    has_tpm: bool,
    is_uefi: bool,
    boots_disk: bool,
    memory_mib: u32,
    overall: Duration,
    silence: Duration,
}

impl Machine {
    /// A machine that does nothing; `name` is that of the test.
    pub fn new(name: &str) -> Self {
        let machine = Self {
            name: name.to_owned(),
            files: BTreeMap::new(),
            cmdline: Vec::new(),
            smbios: Vec::new(),
            disks: Vec::new(),
            network: None,
            has_tpm: false,
            is_uefi: false,
            boots_disk: false,
            memory_mib: 512,
            overall: Duration::from_secs(300),
            silence: Duration::from_secs(90),
        };
        machine.program("/init", INIT).file("/words", WORDS)
    }

    /// The scenario: busybox sh, run by `init.sh`.
    #[must_use]
    pub fn script(self, text: &str) -> Self {
        self.file("/scenario", text)
    }

    /// A file, mode 0644; its directories come with it.
    #[must_use]
    pub fn file(mut self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.to_owned(), Node::file(0o644, contents.as_ref()));
        self
    }

    /// A file, mode 0755.
    #[must_use]
    pub fn program(mut self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.to_owned(), Node::file(0o755, contents.as_ref()));
        self
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.files.insert(path.to_owned(), Node::Link(target.to_owned()));
        self
    }

    /// Words for the kernel command line.
    #[must_use]
    pub fn cmdline(mut self, words: &str) -> Self {
        self.cmdline.push(words.to_owned());
        self
    }

    /// One `-smbios` argument in QEMU's spelling, where a comma in a value is doubled.
    #[must_use]
    pub fn smbios(mut self, argument: &str) -> Self {
        self.smbios.push(argument.to_owned());
        self
    }

    /// A raw image as `/dev/vda`, the next as `/dev/vdb`, …
    #[must_use]
    pub fn disk(self, image: impl Into<PathBuf>) -> Self {
        self.disk_of(image, 512)
    }

    /// As [`Machine::disk`], with sectors of this size.
    #[must_use]
    pub fn disk_of(mut self, image: impl Into<PathBuf>, sector_size: u32) -> Self {
        self.disks.push(Disk { image: image.into(), sector_size });
        self
    }

    /// UEFI firmware boots what it finds on the first disk; files and words of this machine count
    /// for nothing.
    #[must_use]
    pub fn boots_disk(mut self) -> Self {
        self.boots_disk = true;
        self.uefi()
    }

    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// A TPM 2.0, empty at the start (needs `swtpm`).
    #[must_use]
    pub fn tpm(mut self) -> Self {
        self.has_tpm = true;
        self
    }

    /// UEFI firmware instead of a BIOS (needs OVMF).
    #[must_use]
    pub fn uefi(mut self) -> Self {
        self.is_uefi = true;
        self
    }

    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// How long it may take in all, and how long it may say nothing.
    #[must_use]
    pub fn limits(mut self, overall: Duration, silence: Duration) -> Self {
        (self.overall, self.silence) = (overall, silence);
        self
    }

    /// Boots, and waits for the end.
    ///
    /// None, with a line that says why, where there is nothing to boot with.
    pub fn boot(mut self) -> Option<Report> {
        let host = match host::Host::find(&self.needed()) {
            Ok(host) => host,
            Err(why) => {
                println!("SKIP {}: {why}", self.name);
                return None;
            }
        };
        for (path, source) in [("/bin/busybox", &host.busybox), ("/bin/slipway", &host.slipway)] {
            let contents = std::fs::read(source).unwrap();
            self.files.insert(path.to_owned(), Node::file(0o755, &contents));
        }
        for (number, (name, contents)) in host.modules.iter().enumerate() {
            let path = format!("/modules/{number:02}-{name}.ko");
            self.files.insert(path, Node::file(0o644, contents));
        }
        let slot = host::slot();
        let work = tempfile::tempdir().unwrap();
        let initrd = work.path().join("initrd");
        std::fs::write(&initrd, cpio::pack(&self.files)).unwrap();
        let firmware = qemu::Firmware::prepare(&self, work.path());
        let tpm = self.has_tpm.then(|| qemu::Tpm::start(work.path()));
        let command = qemu::command(&self, &host, &initrd, &firmware, tpm.as_ref());
        let report = console::watch(&self.name, command, self.overall, self.silence);
        drop((tpm, slot));
        report.print();
        Some(report)
    }

    /// Programs besides QEMU, and switches of the kernel.
    fn needed(&self) -> host::Needed {
        let mut needed = host::Needed::default();
        if !self.smbios.is_empty() {
            needed.switches.extend(["DMI", "DMIID"]);
        }
        if !self.disks.is_empty() {
            needed.switches.extend(["VIRTIO_PCI", "VIRTIO_BLK"]);
        }
        if self.network.is_some() {
            needed.switches.extend(["VIRTIO_PCI", "VIRTIO_NET", "PACKET", "INET"]);
        }
        if self.has_tpm {
            needed.switches.extend(["TCG_TPM", "TCG_TIS"]);
            needed.programs.push(("swtpm", "swtpm"));
        }
        if self.is_uefi {
            needed.switches.extend(["EFI", "EFIVAR_FS"]);
            needed.files.push((qemu::OVMF_CODE, "ovmf"));
        }
        needed
    }
}
