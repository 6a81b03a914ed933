//! Loop devices: a part of a file as a block device that vanishes with its last user.
//!
//! The ioctl numbers and argument layouts are those of `linux/loop.h`; Linux 5.8 or newer.
#![allow(unsafe_code, reason = "ioctls without a safe wrapper in rustix")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::ioctl::{IoctlOutput, Opcode, Setter, ioctl};

const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;

/// LIMIT: how often another process may take the free device before we do.
const ATTEMPTS: u32 = 64;

/// `struct loop_config` with the `struct loop_info64` in it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    texts: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

/// Asks the control device for the number of a free device.
struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE takes no argument and changes no memory; its result is the answer.
unsafe impl rustix::ioctl::Ioctl for GetFree {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<u32> {
        u32::try_from(out).map_err(|_| Errno::RANGE)
    }
}

/// A loop device. It goes when this and everything that has it open or mounted is gone.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _file: File,
}

impl LoopDevice {
    /// The node.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What part of a file is to be a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, in bytes; a multiple of the sector size.
    pub offset: u64,
    /// How long it is in bytes; 0 for everything up to the end.
    pub size: u64,
    /// Logical sector size of the device in bytes.
    pub sector_size: u32,
    /// Whether it may be written to; the file must be open for that, too.
    pub is_writable: bool,
}

/// Attaches a part of a file or block device.
///
/// # Errors
///
/// `ENOENT`, `ENXIO` or `ENODEV` where the kernel has no loop devices, `EPERM` or `EACCES` without
/// the privilege, `ENOTTY` or `EINVAL` where it is too old.
pub fn attach(file: impl AsFd, part: Part) -> io::Result<LoopDevice> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let config = Config {
        fd: file.as_fd().as_raw_fd().cast_unsigned(),
        block_size: part.sector_size,
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: part.offset,
        size_limit: part.size,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: AUTOCLEAR | if part.is_writable { 0 } else { READ_ONLY },
        texts: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    let mut attempt = 0;
    loop {
        // SAFETY: see `GetFree`.
        let number = unsafe { ioctl(&control, GetFree)? };
        let path = PathBuf::from(format!("/dev/loop{number}"));
        match configure(&path, &config, part.is_writable) {
            // Somebody else took it since it was free.
            Err(err) if Errno::from_io_error(&err) == Some(Errno::BUSY) && attempt < ATTEMPTS => {
                attempt += 1;
            }
            result => return result.map(|file| LoopDevice { path, _file: file }),
        }
    }
}

fn configure(path: &Path, config: &Config, is_writable: bool) -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(is_writable).open(path)?;
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `Config` has.
    unsafe { ioctl(&device, Setter::<LOOP_CONFIGURE, Config>::new(*config))? };
    Ok(device)
}
