//! Making file systems and filling them: with the `mkfs` programs of the host where those exist,
//! with writers of our own for FAT and swap space.

pub mod swap;
pub mod vfat;
