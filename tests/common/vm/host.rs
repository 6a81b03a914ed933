//! What this machine has to boot another one with.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::modules;

/// What a scenario needs besides QEMU, busybox and a kernel that boots.
#[derive(Default)]
pub struct Needed {
    /// Program and package.
    pub programs: Vec<(&'static str, &'static str)>,
    /// File and package.
    pub files: Vec<(&'static str, &'static str)>,
    /// Kernel configuration switches.
    pub switches: Vec<&'static str>,
}

/// Switches every scenario needs.
const SWITCHES: &[&str] =
    &["BLK_DEV_INITRD", "SERIAL_8250_CONSOLE", "DEVTMPFS", "TMPFS", "BINFMT_SCRIPT"];

/// The files a machine is made of.
pub struct Host {
    pub kernel: PathBuf,
    /// To be loaded first, in this order.
    pub modules: Vec<(String, Vec<u8>)>,
    pub busybox: PathBuf,
    pub slipway: PathBuf,
}

impl Host {
    /// All there is, or what is missing.
    pub fn find(needed: &Needed) -> Result<Self, String> {
        let slipway = std::env::var_os("SLIPWAY_STATIC").map(PathBuf::from).ok_or(
            "SLIPWAY_STATIC does not name the static executable (make vm-test builds and sets it)",
        )?;
        let (kernel, modules) = kernel(&needed.switches)?;
        let qemu = ("qemu-system-x86_64", "qemu-system-x86");
        for (program, package) in needed.programs.iter().chain([&qemu]) {
            if !is_program(program) {
                return Err(format!("no {program} (package {package})"));
            }
        }
        for (file, package) in &needed.files {
            if !Path::new(file).exists() {
                return Err(format!("no {file} (package {package})"));
            }
        }
        Ok(Self { kernel, modules, busybox: busybox()?, slipway })
    }
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// A busybox that runs where there is no C library.
fn busybox() -> Result<PathBuf, String> {
    let path = std::env::var_os("BUSYBOX").map_or_else(|| "/bin/busybox".into(), PathBuf::from);
    let bytes = fs::read(&path)
        .map_err(|error| format!("{}: {error} (package busybox-static)", path.display()))?;
    let elf =
        goblin::elf::Elf::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    if elf.interpreter.is_some() {
        return Err(format!("{} is not static (package busybox-static)", path.display()));
    }
    Ok(path)
}

/// A kernel, and its modules by name.
type Kernel = (PathBuf, Vec<(String, Vec<u8>)>);

/// The kernel `KERNEL` names, or one of this machine's.
fn kernel(switches: &[&str]) -> Result<Kernel, String> {
    let switches: Vec<&str> = SWITCHES.iter().chain(switches).copied().collect();
    if let Some(path) = std::env::var_os("KERNEL").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        let file = File::open(&path);
        assert!(file.is_ok(), "KERNEL={}: {}", path.display(), file.unwrap_err());
        // By any other name it is no distribution's, and believed to have everything built in.
        let modules = if name_of(&path).starts_with("vmlinuz-") {
            modules::find(&path, &switches)
                .map_err(|why| format!("KERNEL={}: {why}", path.display()))?
        } else {
            Vec::new()
        };
        return Ok((path, modules));
    }
    let mut kernels: Vec<PathBuf> = fs::read_dir("/boot")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| name_of(path).starts_with("vmlinuz-"))
        .collect();
    kernels.sort();
    let mut why = "no kernel below /boot".to_owned();
    for kernel in kernels.into_iter().rev() {
        let open = File::open(&kernel).map_err(|error| error.to_string());
        match open.and_then(|_| modules::find(&kernel, &switches)) {
            Ok(modules) => return Ok((kernel, modules)),
            Err(reason) => why = format!("{}: {reason}", kernel.display()),
        }
    }
    Err(format!("KERNEL is not set; {why}"))
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// Where consoles of failures stay.
pub fn logs() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("vm");
    fs::create_dir_all(&target).unwrap();
    target
}

/// A place among the machines that may run at a time, of all processes together.
pub fn slot() -> File {
    const PLACES: usize = 2;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let open = |place| File::create(logs().join(format!("slot.{place}"))).unwrap();
    for place in 0..PLACES {
        let file = open(place);
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return file;
        }
    }
    let file = open(NEXT.fetch_add(1, Ordering::Relaxed) % PLACES);
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}
