//! The definitions of `--make-ddi=`: a read-only file system, its hash tree and a signature.

use std::path::{Path, PathBuf};

use crate::conf::search::{Found, ROOTS};
use crate::repart::model::Ddi;

/// The host's own definitions, if it has some. They replace ours as a whole.
pub(super) fn directory(ddi: Ddi) -> Option<PathBuf> {
    let below = relative(ddi);
    ROOTS.iter().map(|root| Path::new(root).join(&below)).find(|directory| directory.is_dir())
}

fn relative(ddi: Ddi) -> PathBuf {
    Path::new("systemd/repart/definitions").join(format!("{}.repart.d", ddi.name()))
}

/// The definitions that are good everywhere, under the names that systemd's own have.
pub(super) fn built_in(ddi: Ddi) -> [(Found, String); 3] {
    let copies = match ddi {
        Ddi::Sysext => "CopyFiles=/usr/\nCopyFiles=/opt/\n",
        Ddi::Confext => "CopyFiles=/etc/\n",
        Ddi::Portable => "CopyFiles=/\n",
    };
    let section = |lines: String| format!("[Partition]\n{lines}VerityMatchKey=root\n");
    [
        (
            "10-root.conf",
            section(format!("Type=root\nFormat=erofs\n{copies}Verity=data\nMinimize=best\n")),
        ),
        (
            "20-root-verity.conf",
            section("Type=root-verity\nVerity=hash\nMinimize=best\n".to_owned()),
        ),
        ("30-root-verity-sig.conf", section("Type=root-verity-sig\nVerity=signature\n".to_owned())),
    ]
    .map(|(name, text)| {
        let path = Path::new("/usr/lib").join(relative(ddi)).join(name);
        (Found { name: name.to_owned(), target: path.clone(), path }, text)
    })
}
