//! The command line of QEMU.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::host::Host;
use super::{Machine, Network};

/// OVMF as Debian and its descendants install it.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Words of every kernel. It speaks up for what matters: its lines would otherwise cut through ours.
/// On a busy host the ticks it counts at the start come late, and it gives up without a reason.
pub const WORDS: &str = "console=ttyS0 panic=-1 loglevel=4 no_timer_check";

/// A path inside an option, where a comma ends a value and two are one.
fn escaped(path: &Path) -> String {
    path.to_str().expect("a path for QEMU is UTF-8").replace(',', ",,")
}

/// UEFI firmware with variables of its own; nothing for a BIOS.
pub struct Firmware(Option<PathBuf>);

impl Firmware {
    pub fn prepare(machine: &Machine, work: &Path) -> Self {
        Self(machine.is_uefi.then(|| {
            let variables = work.join("variables");
            std::fs::copy(OVMF_VARS, &variables).unwrap();
            variables
        }))
    }
}

/// A software TPM that lives as long as its machine.
pub struct Tpm {
    child: Child,
    socket: PathBuf,
}

impl Tpm {
    pub fn start(work: &Path) -> Self {
        let (state, socket) = (work.join("tpm"), work.join("tpm.socket"));
        std::fs::create_dir(&state).unwrap();
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--terminate"])
            .arg(format!("--tpmstate=dir={}", state.display()))
            .arg(format!("--ctrl=type=unixio,path={}", socket.display()))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // QEMU does not wait for the socket; it appears within milliseconds.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !socket.exists() {
            assert!(std::time::Instant::now() < deadline, "swtpm makes no socket");
            std::thread::yield_now();
        }
        Self { child, socket }
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // Already gone where QEMU closed the connection.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// DHCP and one address that answers. `cmd:`, because a character device would be one connection
/// for all; busybox's `nc` hands on the end of input in both directions.
fn netdev(network: Network, busybox: &Path) -> String {
    let [a, b, c, _] = network.endpoint.octets();
    format!(
        "user,id=net0,restrict=on,net={a}.{b}.{c}.0/24,host={a}.{b}.{c}.2,dhcpstart={a}.{b}.{c}.15,\
         guestfwd=tcp:{}:80-cmd:{} nc 127.0.0.1 {}",
        network.endpoint,
        escaped(busybox),
        network.port
    )
}

/// Everything, ready to be started.
pub fn command(
    machine: &Machine,
    host: &Host,
    initrd: &Path,
    firmware: &Firmware,
    tpm: Option<&Tpm>,
) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    // With more than one processor TCG trips over the kernel's patching of its own text.
    command.args("-accel tcg -M pc -cpu max -smp 1 -no-reboot -nodefaults".split(' '));
    command.args("-display none -monitor none -serial stdio".split(' '));
    command.arg("-m").arg(machine.memory_mib.to_string());
    if !machine.boots_disk {
        command.arg("-kernel").arg(&host.kernel).arg("-initrd").arg(initrd);
        let mut words = vec![WORDS.to_owned()];
        words.extend(machine.cmdline.iter().cloned());
        command.arg("-append").arg(words.join(" "));
    }
    for argument in &machine.smbios {
        command.args(["-smbios", argument]);
    }
    for (number, disk) in machine.disks.iter().enumerate() {
        let image = escaped(&disk.image);
        let drive = format!("if=none,id=disk{number},format=raw,cache=unsafe,file={image}");
        let sector = disk.sector_size;
        let device = format!(
            "virtio-blk-pci,drive=disk{number},\
             logical_block_size={sector},physical_block_size={sector}"
        );
        command.args(["-drive", &drive, "-device", &device]);
    }
    if let Some(network) = machine.network {
        command.args(["-netdev", &netdev(network, &host.busybox)]);
        // Without a boot ROM, which is in a package of its own.
        command.args(["-device", "virtio-net-pci,netdev=net0,romfile="]);
    }
    if let Firmware(Some(variables)) = firmware {
        let code = format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}");
        let variables = format!("if=pflash,format=raw,file={}", escaped(variables));
        command.args(["-drive", &code, "-drive", &variables]);
    }
    if let Some(tpm) = tpm {
        let socket = format!("socket,id=tpm,path={}", escaped(&tpm.socket));
        command.args(["-chardev", &socket, "-tpmdev", "emulator,id=tpm0,chardev=tpm"]);
        command.args(["-device", "tpm-tis,tpmdev=tpm0"]);
    }
    command
}

/// The command as it could be typed, for the log.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<OsString> = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(OsStr::to_owned));
    let quoted = words.iter().map(|word| {
        let word = word.to_string_lossy();
        if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
