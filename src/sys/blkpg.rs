//! Partitions as the kernel knows them: nodes are added, removed and resized one by one.
//!
//! Why not a rescan: the kernel refuses one while any partition is in use, and it would have to see
//! a table that is not written yet. The ioctl number and argument layouts are those of
//! `linux/blkpg.h`.
#![allow(unsafe_code, reason = "an ioctl without a safe wrapper in rustix")]

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

const BLKPG: Opcode = opcode::none(0x12, 105);

const ADD: i32 = 1;
const REMOVE: i32 = 2;
const RESIZE: i32 = 3;

/// `struct blkpg_partition`.
#[repr(C)]
struct Range {
    start: i64,
    length: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    operation: i32,
    flags: i32,
    length: i32,
    range: *mut Range,
}

const _: () = assert!(size_of::<Range>() == if align_of::<i64>() == 8 { 152 } else { 148 });

/// Makes a node for a partition; `start` and `length` are bytes of the whole disk.
///
/// # Errors
///
/// `EBUSY` where it would overlap another one, or the number is taken.
pub fn add(disk: impl AsFd, number: u32, start: u64, length: u64) -> io::Result<()> {
    call(disk, ADD, number, start, length)
}

/// Takes the node of a partition away.
///
/// # Errors
///
/// `EBUSY` where it is in use, `ENXIO` where there is none.
pub fn remove(disk: impl AsFd, number: u32) -> io::Result<()> {
    call(disk, REMOVE, number, 0, 0)
}

/// Makes a partition longer or shorter; it may be in use.
///
/// # Errors
///
/// `EBUSY` where it would overlap another one, `ENXIO` where there is none.
pub fn resize(disk: impl AsFd, number: u32, start: u64, length: u64) -> io::Result<()> {
    call(disk, RESIZE, number, start, length)
}

/// True if the kernel keeps nodes for the partitions of this device. A partition has none, nor has
/// a loop device that was made without.
pub fn is_supported(disk: impl AsFd) -> bool {
    // Nothing has so many partitions: there is none to remove, unless that is no question at all.
    let result = remove(disk, u16::MAX.into());
    result.is_err_and(|err| Errno::from_io_error(&err) == Some(Errno::NXIO))
}

fn call(disk: impl AsFd, operation: i32, number: u32, start: u64, length: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(Errno::INVAL);
    let mut range = Range {
        start: i64::try_from(start).map_err(invalid)?,
        length: i64::try_from(length).map_err(invalid)?,
        number: i32::try_from(number).map_err(invalid)?,
        names: [0; 128],
    };
    let argument = Argument {
        operation,
        flags: 0,
        length: size_of::<Range>().cast_signed() as i32,
        range: &raw mut range,
    };
    // SAFETY: BLKPG reads one `struct blkpg_ioctl_arg` and the `struct blkpg_partition` it points
    // to; both have the kernel's layout and outlive the call.
    unsafe { ioctl(disk, Setter::<BLKPG, Argument>::new(argument))? };
    Ok(())
}
