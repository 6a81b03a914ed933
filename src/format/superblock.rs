//! What file systems, volumes and partition tables are known by: where their magic numbers are.
//!
//! Why: whoever makes a partition must make sure that nobody takes it for what was there before.
//! This is what libblkid 2.42 looks for. Some magic numbers are short, and others come with checks
//! that are not made here: too much is found rather than too little, because what is found is
//! about to be lost anyhow.

use std::io;

use super::bytes;

/// A magic number that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it belongs to, as libblkid calls it.
    pub name: &'static str,
    /// Where it is, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len: usize,
}

/// What partition table there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// None; there may be a file system.
    None,
    /// Another one than GPT, by its usual name.
    Other(&'static str),
}

/// Reads at an offset in bytes and fills the buffer.
pub type Read<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// Name, offset from the beginning, magic number.
type Row = (&'static str, u64, &'static [u8]);

const KIB: u64 = 1024;

/// What is at the same place in disks of any size.
const FIXED: &[Row] = &[
    // Partition tables.
    ("aix", 0, b"\xc9\xc2\xd4\xc1"),
    ("bsd", 512, b"WEV\x82"),
    ("bsd", 64, b"WEV\x82"),
    ("bsd", 128, b"WEV\x82"),
    ("dos", 510, b"\x55\xaa"),
    ("gpt", 512, b"EFI PART"),
    ("gpt", 1024, b"EFI PART"),
    ("gpt", 2048, b"EFI PART"),
    ("gpt", 4096, b"EFI PART"),
    ("mac", 0, b"ER"),
    ("sgi", 0, b"\x0b\xe5\xa9\x41"),
    ("solaris", 524, b"\xee\xde\x0d\x60"),
    ("sun", 508, b"\xda\xbe"),
    ("ultrix", 16312, b"\x57\x29\x03\x00"),
    ("unixware", 14 * KIB + 14838, b"\x0d\x60\xe5\xca"),
    ("unixware", 29 * 512 + 4, b"\x0d\x60\xe5\xca"),
    // File systems.
    ("apfs", 32, b"NXSB"),
    ("bcachefs", 4 * KIB + 24, b"\xc6\x85s\xf6N\x1aE\xca\x82e\xf5\x7fH\xbam\x81"),
    ("bcachefs", 4 * KIB + 24, b"\xc6\x85s\xf6f\xce\x90\xa9\xd9j`\xcf\x80=\xf7\xef"),
    ("bcachefs", 2048 * KIB + 24, b"\xc6\x85s\xf6f\xce\x90\xa9\xd9j`\xcf\x80=\xf7\xef"),
    ("befs", 32, b"BFS1"),
    ("befs", 32, b"1SFB"),
    ("befs", 544, b"BFS1"),
    ("befs", 544, b"1SFB"),
    ("bfs", 0, b"\xce\xfa\xad\x1b"),
    ("btrfs", 64 * KIB + 64, b"_BHRfS_M"),
    ("btrfs", 64, b"_BHRfS_M"),
    ("cramfs", 0, b"\x45\x3d\xcd\x28"),
    ("cramfs", 0, b"\x28\xcd\x3d\x45"),
    ("drbdproxy_datalog", 0, b"DRBDdlh*"),
    ("erofs", KIB, b"\xe2\xe1\xf5\xe0"),
    ("exfat", 3, b"EXFAT   "),
    ("exfs", 0, b"EXFS"),
    ("ext4", KIB + 56, b"\x53\xef"),
    ("f2fs", KIB, b"\x10\x20\xf5\xf2"),
    ("f2fs", 5 * KIB, b"\x10\x20\xf5\xf2"),
    ("gfs2", 64 * KIB, b"\x01\x16\x19\x70"),
    ("hfs", KIB, b"BD"),
    ("hfsplus", KIB, b"H+"),
    ("hfsplus", KIB, b"HX"),
    ("hpfs", 8 * KIB, b"\x49\xe8\x95\xf9"),
    ("iso9660", 32 * KIB + 1, b"CD001"),
    ("iso9660", 32 * KIB + 9, b"CDROM"),
    ("jfs", 32 * KIB, b"JFS1"),
    ("minix", KIB + 16, b"\x7f\x13"),
    ("minix", KIB + 16, b"\x8f\x13"),
    ("minix", KIB + 16, b"\x13\x7f"),
    ("minix", KIB + 16, b"\x13\x8f"),
    ("minix", KIB + 16, b"h$"),
    ("minix", KIB + 16, b"x$"),
    ("minix", KIB + 16, b"$h"),
    ("minix", KIB + 16, b"$x"),
    ("minix", KIB + 24, b"ZM"),
    ("minix", KIB + 24, b"MZ"),
    ("mpool", 0, b"mpoolDev"),
    ("nilfs2", KIB + 6, b"\x34\x34"),
    ("nss", 4 * KIB, b"SPB5"),
    ("ntfs", 3, b"NTFS    "),
    ("ReFS", 0, b"\0\0\0ReFS\0"),
    ("oracleasm", 32, b"ORCLDISK"),
    ("ocfs2", KIB, b"OCFSV2"),
    ("ocfs2", 2 * KIB, b"OCFSV2"),
    ("ocfs2", 4 * KIB, b"OCFSV2"),
    ("ocfs2", 8 * KIB, b"OCFSV2"),
    ("ocfs", 8 * KIB, b"OracleCFS"),
    ("reiser4", 64 * KIB, b"ReIsEr4"),
    ("reiserfs", 8 * KIB + 52, b"ReIsErFs"),
    ("reiserfs", 64 * KIB + 52, b"ReIsEr2Fs"),
    ("reiserfs", 64 * KIB + 52, b"ReIsEr3Fs"),
    ("reiserfs", 64 * KIB + 52, b"ReIsErFs"),
    ("reiserfs", 8 * KIB + 20, b"ReIsErFs"),
    ("romfs", 0, b"-rom1fs-"),
    ("scoutfs", 64 * KIB + 4, b"\x8bB<\x10"),
    ("squashfs", 0, b"sqsh"),
    ("squashfs", 0, b"hsqs"),
    ("ubi", 0, b"UBI#"),
    ("ubifs", 0, b"\x31\x18\x10\x06"),
    ("udf", 32 * KIB + 1, b"BEA01"),
    ("udf", 32 * KIB + 1, b"BOOT2"),
    ("udf", 32 * KIB + 1, b"CDW02"),
    ("udf", 32 * KIB + 1, b"NSR02"),
    ("udf", 32 * KIB + 1, b"NSR03"),
    ("udf", 32 * KIB + 1, b"TEA01"),
    ("vfat", 82, b"MSWIN"),
    ("vfat", 82, b"FAT32   "),
    ("vfat", 54, b"MSDOS"),
    ("vfat", 54, b"FAT16   "),
    ("vfat", 54, b"FAT12   "),
    ("vfat", 54, b"FAT     "),
    ("VMFS_volume_member", KIB * KIB, b"\x0d\xd0\x01\xc0"),
    ("VMFS", 2 * KIB * KIB, b"\x5e\xf1\xab\x2f"),
    ("vxfs", KIB, b"\xf5\xfc\x01\xa5"),
    ("vxfs", 8 * KIB, b"\xa5\x01\xfc\xf5"),
    ("xenix", 2 * KIB, b"+UD"),
    ("xenix", 2 * KIB, b"DU+"),
    ("xfs", 0, b"XFSB"),
    ("zonefs", 0, b"SFOZ"),
    // Volumes, members of volumes, and others.
    ("bcache", 4 * KIB + 24, b"\xc6\x85s\xf6N\x1aE\xca\x82e\xf5\x7fH\xbam\x81"),
    ("BitLocker", 0, b"\xeb\x52\x90-FVE-FS-"),
    ("BitLocker", 0, b"\xeb\x58\x90-FVE-FS-"),
    ("BitLocker", 0, b"\xeb\x58\x90MSWIN4.1"),
    ("ceph_bluestore", 0, b"bluestore block device"),
    ("crypto_LUKS", 0, b"LUKS\xba\xbe"),
    ("cs_fvault2", 88, b"CS"),
    ("DM_integrity", 0, b"integrt\0"),
    ("DM_verity_hash", 0, b"verity\0\0"),
    ("DM_snapshot_cow", 0, b"SnAp"),
    ("hpt37x_raid_member", 4 * KIB + 544, b"\xf0\x16\x78\x5a"),
    ("hpt37x_raid_member", 4 * KIB + 544, b"\xfd\x16\x78\x5a"),
    ("linux_raid_member", 0, MD),
    ("linux_raid_member", 4 * KIB, MD),
    ("LVM1_member", 0, b"HM"),
    ("LVM2_member", 536, b"LVM2 001"),
    ("LVM2_member", 24, b"LVM2 001"),
    ("LVM2_member", KIB + 24, b"LVM2 001"),
    ("LVM2_member", KIB + 536, b"LVM2 001"),
    ("stratis", 516, b"!Stra0tis\x86\xff\x02^Arh"),
    ("stratis", 4612, b"!Stra0tis\x86\xff\x02^Arh"),
    ("swsuspend", 0, b"\xed\xc3\x02\xe9\x98V\xe5\x0c"),
    ("vdo", 0, b"dmvdo001"),
];

/// Both byte orders occur; this one is what every disk of the last twenty years has.
const MD: &[u8] = b"\xfc\x4e\x2b\xa9";

/// At the end of the first page, whatever the size of a page is.
const SWAP: &[(&str, &[u8])] = &[
    ("swap", b"SWAP-SPACE"),
    ("swap", b"SWAPSPACE2"),
    ("swsuspend", b"S1SUSPEND"),
    ("swsuspend", b"S2SUSPEND"),
    ("swsuspend", b"ULSUSPEND"),
    ("swsuspend", b"LINHIB0001"),
];

/// Name, sectors of 512 bytes from the end, bytes from there, magic number.
const FROM_END: &[(&str, u64, u64, &[u8])] = &[
    ("adaptec_raid_member", 1, 0, b"DPTM"),
    ("ddf_raid_member", 1, 0, b"\xde\x11\xde\x11"),
    ("ddf_raid_member", 1, 0, b"\x11\xde\x11\xde"),
    ("ddf_raid_member", 257, 0, b"\xde\x11\xde\x11"),
    ("ddf_raid_member", 257, 0, b"\x11\xde\x11\xde"),
    ("drbd", 8, 60, b"\x83\x74\x02\x6b"),
    ("drbd", 8, 60, b"\x83\x74\x02\x6c"),
    ("drbd", 8, 60, b"\x83\x74\x02\x6d"),
    ("bcachefs", 2048, 24, b"\xc6\x85s\xf6f\xce\x90\xa9\xd9j`\xcf\x80=\xf7\xef"),
    ("hpt45x_raid_member", 11, 32, b"\xf3\x16\x78\x5a"),
    ("hpt45x_raid_member", 11, 32, b"\xfd\x16\x78\x5a"),
    ("isw_raid_member", 2, 0, b"Intel Raid ISM Cfg Sig. "),
    ("isw_raid_member", 16, 0, b"Intel Raid ISM Cfg Sig. "),
    ("jmicron_raid_member", 1, 0, b"JM"),
    ("lsi_mega_raid_member", 1, 0, b"$XIDE$"),
    ("nvidia_raid_member", 2, 0, b"NVIDIA"),
    ("silicon_medley_raid_member", 1, 0x60, b"\0\0\0\x2f"),
    ("via_raid_member", 1, 0, b"\x55\xaa"),
];

/// Sectors of 512 bytes from the end.
const PROMISE: &[u64] = &[63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991, 951, 3087];

/// So much is read at once; almost everything is in it.
const HEAD: usize = 132 << 10;
const ZFS_LABEL: u64 = 256 * KIB;

struct Probe<'a, 'b> {
    size: u64,
    head: Vec<u8>,
    read: &'a mut Read<'b>,
    found: Vec<Signature>,
}

impl Probe<'_, '_> {
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(bytes) = self.head.get(start..).and_then(|rest| rest.get(..len)) {
            return Ok(Some(bytes.to_vec()));
        }
        let mut buffer = vec![0; len];
        (self.read)(offset, &mut buffer)?;
        Ok(Some(buffer))
    }

    fn check(&mut self, name: &'static str, offset: u64, magic: &[u8]) -> io::Result<bool> {
        let is_there = self.bytes(offset, magic.len())?.is_some_and(|bytes| bytes == magic);
        if is_there {
            self.found.push(Signature { name, offset, len: magic.len() });
        }
        Ok(is_there)
    }

    /// The other copy of a GPT, at the end or where the first one says.
    fn gpt(&mut self) -> io::Result<()> {
        for sector in [512, 1024, 2048, 4096_u64] {
            let last = (self.size / sector).saturating_sub(1) * sector;
            self.check("gpt", last, b"EFI PART")?;
            if self.found.iter().any(|s| s.name == "gpt" && s.offset == sector) {
                let header = self.bytes(sector, 40)?.unwrap_or_default();
                let lba = bytes::le64(&header, 32).unwrap_or_default();
                let offset = lba.checked_mul(sector).filter(|at| *at != last && *at > sector);
                if let Some(offset) = offset {
                    self.check("gpt", offset, b"EFI PART")?;
                }
            }
        }
        Ok(())
    }

    fn zfs(&mut self) -> io::Result<()> {
        // LIMIT: libblkid does not look at smaller ones either.
        if self.size < 64 << 20 {
            return Ok(());
        }
        let end = self.size / ZFS_LABEL * ZFS_LABEL;
        for label in [0, ZFS_LABEL, end - 2 * ZFS_LABEL, end - ZFS_LABEL] {
            let start = label + ZFS_LABEL / 2;
            let blocks = self.bytes(start, 128 << 10)?.unwrap_or_default();
            for (index, block) in blocks.chunks(1024).enumerate() {
                let magic = bytes::le64(block, 0).unwrap_or_default();
                if magic == 0x00ba_b10c || magic.swap_bytes() == 0x00ba_b10c {
                    let offset = start + index as u64 * KIB;
                    self.found.push(Signature { name: "zfs_member", offset, len: 8 });
                }
            }
        }
        Ok(())
    }

    fn ufs(&mut self) -> io::Result<()> {
        const MAGICS: [u32; 7] = [
            0x0001_1954,
            0x0009_5014,
            0x0019_5612,
            0x1954_0119,
            0x5242_0001,
            0x7c60_1153,
            0x0061_2195,
        ];
        for offset in [0, 8, 64, 256_u64].map(|kib| kib * KIB + 1372) {
            let word = self.bytes(offset, 4)?.and_then(|bytes| bytes::le32(&bytes, 0));
            if word.is_some_and(|w| MAGICS.contains(&w) || MAGICS.contains(&w.swap_bytes())) {
                self.found.push(Signature { name: "ufs", offset, len: 4 });
            }
        }
        for offset in [0, 9, 15, 18_u64].map(|kib| kib * KIB + 0x200 + 0x1f8) {
            let word = self.bytes(offset, 4)?.and_then(|bytes| bytes::le32(&bytes, 0));
            if word.is_some_and(|w| w == 0xfd18_7e20 || w.swap_bytes() == 0xfd18_7e20) {
                self.found.push(Signature { name: "sysv", offset, len: 4 });
            }
        }
        Ok(())
    }

    /// The log of an XFS has no place of its own; its first record is in the first 256 KiB.
    fn xfs_log(&mut self) -> io::Result<()> {
        let len = self.size.min(256 * KIB);
        let bytes = self.bytes(0, usize::try_from(len).unwrap_or_default())?.unwrap_or_default();
        for (index, block) in bytes.chunks(512).enumerate() {
            let version = bytes::le32(block, 8).map(u32::swap_bytes);
            if block.starts_with(b"\xfe\xed\xba\xbe") && matches!(version, Some(1 | 2)) {
                let offset = index as u64 * 512;
                self.found.push(Signature { name: "xfs_external_log", offset, len: 4 });
            }
        }
        Ok(())
    }

    fn at_places_of_their_own(&mut self) -> io::Result<()> {
        for page in [4096, 8192, 16384, 32768, 65536] {
            for (name, magic) in SWAP {
                self.check(name, page - 10, magic)?;
            }
        }
        for (name, sectors, within, magic) in FROM_END {
            // KiB count from the very end, sectors from the last whole one.
            let unit = if sectors.is_multiple_of(8) { 1 } else { 512 };
            let start = (self.size / unit * unit).checked_sub(sectors * 512);
            if let Some(start) = start {
                self.check(name, start + within, magic)?;
            }
        }
        for sectors in PROMISE {
            if let Some(start) = (self.size / 512).checked_sub(*sectors) {
                self.check(
                    "promise_fasttrack_raid_member",
                    start * 512,
                    b"Promise Technology, Inc.",
                )?;
            }
        }
        for shift in 14..=22 {
            self.check("crypto_LUKS", 1 << shift, b"SKUL\xba\xbe")?;
        }
        if let Some(start) = (self.size & !0xffff).checked_sub(0x10000) {
            self.check("linux_raid_member", start, MD)?;
            self.check("linux_raid_member", start, b"\xa9\x2b\x4e\xfc")?;
        }
        if let Some(start) = self.size.checked_sub(8 * KIB) {
            self.check("linux_raid_member", start & !0xfff, MD)?;
        }
        if let Some(start) = (self.size & !0xfff).checked_sub(4096) {
            self.check("nilfs2", start + 6, b"\x34\x34")?;
        }
        Ok(())
    }
}

/// Everything in the first `size` bytes that something is known by.
///
/// # Errors
///
/// What `read` says.
pub fn find(size: u64, read: &mut Read<'_>) -> io::Result<Vec<Signature>> {
    let mut head = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(HEAD)];
    read(0, &mut head)?;
    let mut probe = Probe { size, head, read, found: Vec::new() };
    for (name, offset, magic) in FIXED {
        probe.check(name, *offset, magic)?;
    }
    probe.gpt()?;
    probe.at_places_of_their_own()?;
    probe.zfs()?;
    probe.ufs()?;
    probe.xfs_log()?;
    let mut found = probe.found;
    found.sort_by_key(|signature| (signature.offset, signature.len));
    found.dedup_by_key(|signature| (signature.offset, signature.len));
    Ok(found)
}

/// What partition table other than GPT there is.
///
/// COMPAT(262): an MBR is known by its signature alone, so that the boot sector of a FAT counts as
/// one, too. It is the safe side to err on.
///
/// # Errors
///
/// What `read` says.
pub fn label(size: u64, read: &mut Read<'_>) -> io::Result<Label> {
    let mut head = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(1024)];
    read(0, &mut head)?;
    let has = |offset: usize, magic: &[u8]| {
        head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    Ok(if has(508, b"\xda\xbe") {
        Label::Other("sun")
    } else if has(0, b"\x0b\xe5\xa9\x41") {
        Label::Other("sgi")
    } else if has(512, b"WEV\x82") && has(512 + 132, b"WEV\x82") {
        Label::Other("bsd")
    } else if has(510, b"\x55\xaa") {
        Label::Other("dos")
    } else {
        Label::None
    })
}
