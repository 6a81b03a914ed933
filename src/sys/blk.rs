//! Block devices: sizes, zeroing, caches and partition rescans.
//!
//! The ioctl numbers and argument layouts are those of `linux/fs.h`.
#![allow(unsafe_code, reason = "ioctls without a safe wrapper in rustix")]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{NoArg, Opcode, Setter, Updater, ioctl, opcode};

const BLKROGET: Opcode = opcode::none(0x12, 94);
const BLKRRPART: Opcode = opcode::none(0x12, 95);
const BLKFLSBUF: Opcode = opcode::none(0x12, 97);
// Declared in the kernel with size_t, but the value is always 64 bits wide.
const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);
const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKIOOPT: Opcode = opcode::none(0x12, 121);
const BLKALIGNOFF: Opcode = opcode::none(0x12, 122);
const BLKZEROOUT: Opcode = opcode::none(0x12, 127);

/// Size of the device in bytes.
pub fn size_bytes(device: impl AsFd) -> io::Result<u64> {
    let mut size = 0_u64;
    // SAFETY: BLKGETSIZE64 stores one u64 at the address it is given; `size` outlives the call.
    unsafe { ioctl(device, Updater::<BLKGETSIZE64, u64>::new(&mut size))? };
    Ok(size)
}

/// True if nothing can be written to the device, however it was opened.
pub fn is_read_only(device: impl AsFd) -> io::Result<bool> {
    let mut is_read_only = 0_u32;
    // SAFETY: BLKROGET stores one 32-bit number at the address it is given, which outlives the
    // call.
    unsafe { ioctl(device, Updater::<BLKROGET, u32>::new(&mut is_read_only))? };
    Ok(is_read_only != 0)
}

/// Logical sector size of the device in bytes.
pub fn sector_size_bytes(device: impl AsFd) -> io::Result<u32> {
    Ok(rustix::fs::ioctl_blksszget(device)?)
}

/// Makes a range read as zeros; offset and length are multiples of the sector size. The page
/// cache of the range is dropped.
pub fn zero_out(device: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: BLKZEROOUT reads two u64 at the address it is given.
    unsafe { ioctl(device, Setter::<BLKZEROOUT, [u64; 2]>::new([offset, len]))? };
    Ok(())
}

/// Gives the blocks of a range back to the device; offset and length are multiples of the sector
/// size. What is read from it then is anybody's guess.
///
/// # Errors
///
/// `EOPNOTSUPP` where the device cannot do so.
pub fn discard(device: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: BLKDISCARD reads two u64 at the address it is given.
    unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new([offset, len]))? };
    Ok(())
}

/// How the device wants accesses to be: the size it likes best, 0 if it does not say, and where
/// the first natural border is, both in bytes.
pub fn alignment(device: impl AsFd + Copy) -> io::Result<(u32, u32)> {
    let (mut size, mut offset) = (0_u32, 0_i32);
    // SAFETY: both store one 32-bit number at the address they are given, which outlives the call.
    unsafe {
        ioctl(device, Updater::<BLKIOOPT, u32>::new(&mut size))?;
        ioctl(device, Updater::<BLKALIGNOFF, i32>::new(&mut offset))?;
    }
    // -1 is what a misaligned device says.
    Ok((size, u32::try_from(offset).unwrap_or(0)))
}

/// Writes out and drops the page cache of this node; the whole disk and each of its partitions
/// have caches of their own.
pub fn flush_cache(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKFLSBUF takes no argument.
    unsafe { ioctl(device, NoArg::<BLKFLSBUF>::new())? };
    Ok(())
}

/// Makes the kernel read the partition table again. `EBUSY` where any partition is in use.
pub fn reread_partitions(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument.
    unsafe { ioctl(device, NoArg::<BLKRRPART>::new())? };
    Ok(())
}

/// True if the descriptor is a block device.
pub fn is_block_device(file: impl AsFd) -> io::Result<bool> {
    let mode = rustix::fs::fstat(file)?.st_mode;
    Ok(rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::BlockDevice)
}
