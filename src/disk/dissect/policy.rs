//! Image policies: which partitions are to be used, and what has to be so with them.
//!
//! External specification: systemd.image-policy(7).

use super::{EINVAL, Role};
use crate::error::{Error, Result};

const UNPROTECTED: u16 = 1 << 0;
/// Verity, signed Verity or encryption.
const PROTECTED: u16 = 1 << 1;
const UNUSED: u16 = 1 << 2;
const ABSENT: u16 = 1 << 3;
const OPEN: u16 = UNPROTECTED | PROTECTED | UNUSED | ABSENT;
const READ_ONLY_OFF: u16 = 1 << 4;
const READ_ONLY_ON: u16 = 1 << 5;
const GROW_FS_OFF: u16 = 1 << 6;
const GROW_FS_ON: u16 = 1 << 7;
const FILE_SYSTEM: u16 = 1 << 8;

/// LIMIT: protection is not set up here, so what demands it is refused, and so is any condition on
/// file systems. Conditions on growing are met by never growing anything.
const FLAGS: [(&str, u16); 21] = [
    ("unprotected", UNPROTECTED),
    ("verity", PROTECTED),
    ("signed", PROTECTED),
    ("encrypted", PROTECTED),
    ("encryptedwithintegrity", PROTECTED),
    ("unused", UNUSED),
    ("absent", ABSENT),
    ("open", OPEN),
    ("ignore", UNUSED | ABSENT),
    ("read-only-off", READ_ONLY_OFF),
    ("read-only-on", READ_ONLY_ON),
    ("growfs-off", GROW_FS_OFF),
    ("growfs-on", GROW_FS_ON),
    ("btrfs", FILE_SYSTEM),
    ("erofs", FILE_SYSTEM),
    ("ext4", FILE_SYSTEM),
    ("f2fs", FILE_SYSTEM),
    ("squashfs", FILE_SYSTEM),
    ("vfat", FILE_SYSTEM),
    ("xfs", FILE_SYSTEM),
    ("", 0),
];

/// Partitions that a policy may name and no tree is made of.
const OTHERS: [&str; 5] =
    ["swap", "root-verity", "root-verity-sig", "usr-verity", "usr-verity-sig"];

/// What a policy says of each role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<(Role, u16)>,
    default: u16,
}

impl Default for Policy {
    /// `*`: everything may be there and is used.
    fn default() -> Self {
        Self { rules: Vec::new(), default: OPEN }
    }
}

impl Policy {
    /// Reads a policy, as `root=unprotected:usr=absent:=ignore`.
    ///
    /// # Errors
    ///
    /// It is none, or one with conditions on file systems.
    pub fn parse(text: &str) -> Result<Self> {
        let unknown = |what: &str, rule: &str| {
            Error::new(format!("Unknown partition {what} in image policy: {rule}"))
                .with_errno(EINVAL)
        };
        let failed = |why: &str| {
            let why = why.to_owned();
            Error::new(format!("Failed to parse image policy: {text}")).with_errno(EINVAL).hint(why)
        };
        match text {
            "*" => return Ok(Self::default()),
            "" | "-" => return Ok(Self { rules: Vec::new(), default: UNUSED | ABSENT }),
            "~" => return Ok(Self { rules: Vec::new(), default: ABSENT }),
            _ => {}
        }
        let mut policy = Self { rules: Vec::new(), default: UNUSED | ABSENT };
        let mut seen = Vec::new();
        for rule in text.split(':') {
            let (name, words) =
                rule.split_once('=').ok_or_else(|| failed("A rule is PARTITION=FLAG+…"))?;
            let name = name.trim();
            if seen.contains(&name) {
                return Err(failed("A partition is named twice"));
            }
            seen.push(name);
            let flags = flags(words).ok_or_else(|| unknown("policy flag", rule))?;
            if flags & FILE_SYSTEM != 0 {
                return Err(failed("Conditions on file systems are not supported"));
            }
            if name.is_empty() {
                policy.default = flags;
            } else if let Some(role) = Role::ALL.into_iter().find(|role| role.name() == name) {
                policy.rules.push((role, flags));
            } else if !OTHERS.contains(&name) {
                return Err(unknown("type", rule));
            }
        }
        Ok(policy)
    }

    fn of(&self, role: Role) -> u16 {
        self.rules.iter().find(|rule| rule.0 == role).map_or(self.default, |rule| rule.1)
    }

    /// Whether a partition that is there is to be used.
    ///
    /// # Errors
    ///
    /// It must not be there, or not be as it is.
    pub fn allows_use(&self, role: Role, is_read_only: bool) -> Result<bool> {
        let flags = self.of(role);
        let name = role.name();
        if flags & UNPROTECTED == 0 {
            if flags & UNUSED != 0 {
                return Ok(false);
            }
            return Err(Error::new(if flags & PROTECTED == 0 {
                format!("The '{name}' partition must not be there")
            } else {
                format!("The '{name}' partition has to be protected, which is not set up here")
            }));
        }
        let wanted = if is_read_only { READ_ONLY_ON } else { READ_ONLY_OFF };
        if flags & (READ_ONLY_ON | READ_ONLY_OFF) != 0 && flags & wanted == 0 {
            return Err(Error::new(format!("The '{name}' partition has the wrong read-only flag")));
        }
        Ok(true)
    }

    /// Whether a role may go without a partition.
    ///
    /// # Errors
    ///
    /// It may not.
    pub fn check_absent(&self, role: Role) -> Result<()> {
        if self.of(role) & ABSENT == 0 {
            return Err(Error::new(format!("There has to be a '{}' partition", role.name())));
        }
        Ok(())
    }
}

/// Flags of a rule; without any that say whether it is to be used, all of these.
fn flags(words: &str) -> Option<u16> {
    let mut flags = 0;
    for word in words.split('+') {
        flags |= FLAGS.iter().find(|flag| flag.0 == word.trim())?.1;
    }
    if flags & OPEN == 0 {
        flags |= OPEN;
    }
    Some(flags)
}
