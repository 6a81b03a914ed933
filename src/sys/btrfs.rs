//! btrfs subvolumes: create, snapshot, delete, read-only property.
//!
//! The ioctl numbers and argument layouts are those of `linux/btrfs.h`.
#![allow(unsafe_code, reason = "ioctls without a safe wrapper in rustix")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;

use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

const NAME_V1: usize = 4088;
const NAME_V2: usize = 4040;
const SUBVOL_RDONLY: u64 = 1 << 1;
const SUPER_MAGIC: i64 = 0x9123_683e;
/// Inode number of the top directory of every subvolume.
const FIRST_FREE_OBJECTID: u64 = 256;

const SUBVOL_CREATE: Opcode = opcode::write::<VolArgs>(0x94, 14);
const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(0x94, 15);
const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(0x94, 23);
const FS_INFO: Opcode = opcode::read::<FsInfo>(0x94, 31);
const SUBVOL_GETFLAGS: Opcode = opcode::read::<u64>(0x94, 25);
const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(0x94, 26);

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; NAME_V1],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_V2],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    devices: u64,
    rest: [u64; 126],
}

const _: () = assert!(size_of::<FsInfo>() == 1024);

/// How many block devices the file system of this file is on.
pub fn devices(file: impl AsFd) -> io::Result<u64> {
    let mut info = FsInfo { max_id: 0, devices: 0, rest: [0; 126] };
    // SAFETY: FS_INFO fills a btrfs_ioctl_fs_info_args, whose layout `FsInfo` has.
    unsafe { ioctl(file, Updater::<FS_INFO, FsInfo>::new(&mut info))? };
    Ok(info.devices)
}

/// True if the file is on btrfs.
pub fn is_btrfs(file: impl AsFd) -> io::Result<bool> {
    // The width of the field depends on the architecture.
    #[allow(clippy::useless_conversion, reason = "i32 on some 32-bit architectures")]
    Ok(i64::try_from(rustix::fs::fstatfs(file)?.f_type).is_ok_and(|t| t == SUPER_MAGIC))
}

/// True if the directory is the top of a subvolume.
pub fn is_subvolume(dir: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstat(&dir)?.st_ino == FIRST_FREE_OBJECTID && is_btrfs(dir)?)
}

/// Creates an empty subvolume in a directory.
pub fn create(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let args = VolArgs { fd: 0, name: name_field(name)? };
    // SAFETY: SUBVOL_CREATE reads a btrfs_ioctl_vol_args.
    unsafe { ioctl(parent, Setter::<SUBVOL_CREATE, VolArgs>::new(args))? };
    Ok(())
}

/// Deletes a subvolume with all its contents, but not the subvolumes within it.
pub fn delete(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let args = VolArgs { fd: 0, name: name_field(name)? };
    // SAFETY: SNAP_DESTROY reads a btrfs_ioctl_vol_args.
    unsafe { ioctl(parent, Setter::<SNAP_DESTROY, VolArgs>::new(args))? };
    Ok(())
}

/// Creates a writable snapshot of `source` in a directory of the same file system.
pub fn snapshot(source: impl AsFd, parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let fd = i64::from(source.as_fd().as_raw_fd());
    let args = VolArgsV2 { fd, transid: 0, flags: 0, unused: [0; 4], name: name_field(name)? };
    // SAFETY: SNAP_CREATE_V2 reads a btrfs_ioctl_vol_args_v2; the descriptor in it stays open
    // during the call.
    unsafe { ioctl(parent, Setter::<SNAP_CREATE_V2, VolArgsV2>::new(args))? };
    Ok(())
}

/// Sets or clears the read-only property of a subvolume.
pub fn set_read_only(subvolume: impl AsFd, is_read_only: bool) -> io::Result<()> {
    let mut flags = 0_u64;
    // SAFETY: SUBVOL_GETFLAGS stores one u64.
    unsafe { ioctl(&subvolume, Updater::<SUBVOL_GETFLAGS, u64>::new(&mut flags))? };
    let wanted = if is_read_only { flags | SUBVOL_RDONLY } else { flags & !SUBVOL_RDONLY };
    if wanted != flags {
        // SAFETY: SUBVOL_SETFLAGS reads one u64.
        unsafe { ioctl(&subvolume, Setter::<SUBVOL_SETFLAGS, u64>::new(wanted))? };
    }
    Ok(())
}

/// A NUL-terminated name in a field of fixed size.
fn name_field<const N: usize>(name: &OsStr) -> io::Result<[u8; N]> {
    let bytes = name.as_bytes();
    let is_plain = !bytes.is_empty() && bytes.len() < N && !bytes.contains(&b'/');
    let mut field = [0; N];
    match field.get_mut(..bytes.len()) {
        Some(place) if is_plain => place.copy_from_slice(bytes),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    Ok(field)
}
