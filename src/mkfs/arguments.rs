//! The words that programs are started with: as the peer's, so that what comes out is the same.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::Path;

use super::Spec;
use crate::ctx::Ctx;

/// What a program is told.
pub(super) struct Job<'a> {
    /// The file system.
    pub(super) spec: &'a Spec,
    /// What is put into it, if anything is and the program does that.
    pub(super) tree: Option<&'a Path>,
    /// Where it is made.
    pub(super) node: &'a Path,
    /// Where in it, and how long it is, both in bytes; for `mkfs.ext4` only.
    pub(super) range: Option<(u64, u64)>,
    /// It becomes as small as it can be; for `mkfs.btrfs` only.
    pub(super) shrinks: bool,
    /// Block size to ask for, in bytes; for `mkfs.erofs` only.
    pub(super) block_size: Option<u32>,
}

/// Block size of ext2 and its successors, in bytes.
const EXT_BLOCK: u64 = 4096;

impl Job<'_> {
    /// All words behind the name of the program.
    pub(super) fn arguments(&self, ctx: &Ctx) -> Vec<OsString> {
        let mut words = Words(Vec::new());
        let kind = self.spec.file_system.as_str();
        match kind {
            "ext2" | "ext3" | "ext4" => self.ext(&mut words),
            "btrfs" => self.btrfs(&mut words),
            "xfs" => self.xfs(&mut words),
            "erofs" => self.erofs(&mut words),
            "squashfs" => self.squashfs(&mut words),
            "f2fs" => self.f2fs(&mut words),
            _ => {}
        }
        let name = format!("SYSTEMD_REPART_MKFS_OPTIONS_{}", kind.to_uppercase());
        for word in ctx.env(&name).unwrap_or_default().split_whitespace() {
            words.say(&[word]);
        }
        match kind {
            "squashfs" => {}
            "erofs" => {
                words.0.push(self.node.into());
                words.0.extend(self.tree.map(OsString::from));
            }
            _ => words.0.push(self.node.into()),
        }
        match kind {
            "btrfs" => self.subvolumes(&mut words),
            _ if self.range.is_some() => {
                let blocks = self.range.unwrap_or_default().1 / EXT_BLOCK;
                words.say(&[&blocks.to_string()]);
            }
            _ => {}
        }
        words.0
    }

    fn ext(&self, words: &mut Words) {
        let uuid = self.spec.uuid.to_string();
        // DIFFERS: within a file the program would give away blocks of others; the range has been
        // emptied before.
        let is_discarding = self.spec.discards && self.range.is_none();
        let discard = if is_discarding { "discard" } else { "nodiscard" };
        let mut extended = format!("{discard},lazy_itable_init=1,hash_seed={uuid}");
        if let Some((offset, _)) = self.range {
            extended.push_str(&format!(",offset={offset}"));
        }
        words.say(&["-L", label(self.spec), "-U", &uuid, "-I", "256", "-m", "0", "-E", &extended]);
        words.say(&["-b", "4096", "-T", "default"]);
        words.say_path("-d", self.tree);
    }

    fn btrfs(&self, words: &mut Words) {
        words.say(&["-L", &self.spec.label, "-U", &self.spec.uuid.to_string()]);
        if !self.spec.discards {
            words.say(&["--nodiscard"]);
        }
        words.say_path("-r", self.tree);
        if self.shrinks {
            words.say(&["--shrink"]);
        }
        if let Some(compression) = &self.spec.compression
            && self.tree.is_some()
        {
            let level = compression.level.as_ref().map(|level| format!(":{level}"));
            let level = level.unwrap_or_default();
            words.say(&["--compress", &format!("{}{level}", compression.algorithm)]);
        }
        // btrfs knows no smaller ones.
        words.say(&[&format!("--sectorsize={}", self.spec.sector_size.max(4096))]);
    }

    fn subvolumes(&self, words: &mut Words) {
        for subvolume in &self.spec.subvolumes {
            let is_default = self.spec.default_subvolume.as_ref() == Some(&subvolume.path);
            let kind = match (is_default, subvolume.is_read_only) {
                (false, false) => "",
                (false, true) => "ro:",
                (true, false) => "default:",
                (true, true) => "default-ro:",
            };
            words.say(&["--subvol"]);
            words.prefixed(kind, &subvolume.path);
            if subvolume.is_no_data_cow {
                words.say(&["--inode-flags"]);
                words.prefixed("nodatacow:", &subvolume.path);
            }
        }
    }

    fn xfs(&self, words: &mut Words) {
        let uuid = format!("uuid={}", self.spec.uuid);
        words.say(&["-L", label(self.spec), "-m", &uuid, "-m", "reflink=1"]);
        if !self.spec.discards {
            words.say(&["-K"]);
        }
        words.say_path("-p", self.tree);
        words.say(&["-s", &format!("size={}", self.spec.sector_size)]);
    }

    fn erofs(&self, words: &mut Words) {
        words.say(&["-U", &self.spec.uuid.to_string()]);
        if !std::io::stderr().is_terminal() && log::max_level() < log::LevelFilter::Debug {
            words.say(&["--quiet"]);
        }
        if let Some(compression) = &self.spec.compression {
            let level = compression.level.as_ref().map(|level| format!(",level={level}"));
            let level = level.unwrap_or_default();
            words.say(&[&format!("-z{}{level}", compression.algorithm)]);
        }
        if let Some(block_size) = self.block_size {
            words.say(&[&format!("-b{block_size}")]);
        }
    }

    fn squashfs(&self, words: &mut Words) {
        words.0.extend(self.tree.map(OsString::from));
        words.0.push(self.node.into());
        words.say(&["-noappend"]);
        if let Some(compression) = &self.spec.compression {
            words.say(&["-comp", &compression.algorithm]);
            if let Some(level) = &compression.level {
                words.say(&["-Xcompression-level", level]);
            }
        }
    }

    fn f2fs(&self, words: &mut Words) {
        let trim = if self.spec.discards { "1" } else { "0" };
        words.say(&["-f", "-l", &self.spec.label, "-U", &self.spec.uuid.to_string(), "-t", trim]);
    }
}

/// The label of a partition as its file system can hold it.
pub(super) fn label(spec: &Spec) -> &str {
    let bytes_max = match spec.file_system.as_str() {
        "ext2" | "ext3" | "ext4" => 16,
        "xfs" => 12,
        _ => return &spec.label,
    };
    spec.label.get(..spec.label.floor_char_boundary(bytes_max)).unwrap_or_default()
}

struct Words(Vec<OsString>);

impl Words {
    fn say(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn say_path(&mut self, option: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.say(&[option]);
            self.0.push(path.into());
        }
    }

    fn prefixed(&mut self, prefix: &str, path: &Path) {
        let mut word = OsString::from(prefix);
        word.push::<&OsStr>(path.as_ref());
        self.0.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkfs::{Compression, Subvolume};
    use uuid::Uuid;

    fn words(kind: &str, change: impl Fn(&mut Spec), range: Option<(u64, u64)>) -> String {
        let mut spec = Spec {
            file_system: kind.to_owned(),
            label: "a-very-long-root-label".to_owned(),
            uuid: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            sector_size: 4096,
            discards: true,
            compression: None,
            subvolumes: Vec::new(),
            default_subvolume: None,
            tree: None,
            is_offline: None,
        };
        change(&mut spec);
        let (tree, node) = (Some(Path::new("/tree")), Path::new("/node"));
        let job = Job { spec: &spec, tree, node, range, shrinks: false, block_size: None };
        let ctx = Ctx::host([("SYSTEMD_REPART_MKFS_OPTIONS_EXT4".into(), "-O ^x".into())]);
        let words = job.arguments(&ctx);
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn programs_are_told_what_the_peer_tells_them() {
        assert_eq!(
            words("ext4", |_| (), None),
            format!(
                "-L a-very-long-root -U {UUID} -I 256 -m 0 -E \
                 discard,lazy_itable_init=1,hash_seed={UUID} -b 4096 -T default -d /tree -O ^x \
                 /node"
            )
        );
        assert_eq!(
            words("xfs", |spec| spec.discards = false, None),
            format!("-L a-very-long- -m uuid={UUID} -m reflink=1 -K -p /tree -s size=4096 /node")
        );
        let compressed = |spec: &mut Spec| {
            let level = Some("3".to_owned());
            spec.compression = Some(Compression { algorithm: "zstd".to_owned(), level });
        };
        assert_eq!(
            words("squashfs", compressed, None),
            "/tree /node -noappend -comp zstd -Xcompression-level 3"
        );
        assert!(words("erofs", compressed, None).ends_with("-zzstd,level=3 /node /tree"));
        let with_subvolumes = |spec: &mut Spec| {
            compressed(spec);
            let subvolume = |path: &str, is_read_only| Subvolume {
                path: path.into(),
                is_read_only,
                is_no_data_cow: is_read_only,
            };
            spec.subvolumes = vec![subvolume("/a", true), subvolume("/b", false)];
            spec.default_subvolume = Some("/b".into());
        };
        assert_eq!(
            words("btrfs", with_subvolumes, None),
            format!(
                "-L a-very-long-root-label -U {UUID} -r /tree --compress zstd:3 \
                 --sectorsize=4096 /node --subvol ro:/a --inode-flags nodatacow:/a --subvol \
                 default:/b"
            )
        );
    }

    #[test]
    fn within_a_file_nothing_is_discarded_and_the_size_is_said() {
        let words = words("ext4", |_| (), Some((1 << 20, 64 << 20)));
        assert!(words.contains("-E nodiscard,"), "{words}");
        assert!(words.contains(",offset=1048576 "), "{words}");
        assert!(words.ends_with(" /node 16384"), "{words}");
    }
}
