//! Which system an initrd works on when nobody names one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::conf::cmdline;
use crate::ctx::Ctx;

/// Where `/usr` is mounted before there is a root file system.
const USR: &str = "/sysusr";
/// Where the root file system is mounted.
const ROOT: &str = "/sysroot";

/// The tree to work on in the initrd; none elsewhere, where it is `/`.
pub fn root(ctx: &Ctx) -> Option<PathBuf> {
    if !ctx.is_host() || !cmdline::is_initrd(ctx) {
        return None;
    }
    let mounts = fs::read_to_string(ctx.proc("self/mountinfo")).unwrap_or_default();
    Some(PathBuf::from(if has_usr(&mounts) { USR } else { ROOT }))
}

fn has_usr(mounts: &str) -> bool {
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| Path::new(at) == usr())
}

fn usr() -> PathBuf {
    Path::new(USR).join("usr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usr_counts_when_it_is_mounted() {
        let line = |at: &str| format!("36 35 98:0 / {at} rw,noatime master:1 - ext4 /dev/x rw\n");
        assert!(has_usr(&format!("{}{}", line("/"), line("/sysusr/usr"))));
        assert!(!has_usr(&line("/sysusr")) && !has_usr(&line("/usr")) && !has_usr(""));
    }
}
