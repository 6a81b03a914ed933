//! The programs that make file systems: which one, where it is and what package has it.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};

use super::Spec;
use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::fs::undo::Undo;

/// LIMIT: lines of a failed program in the error, and bytes they are taken from.
const LAST_LINES: usize = 5;
const LAST_BYTES: usize = 4096;

/// Where programs are if the environment does not say; administrators' programs are often not in
/// the search path of those who are none.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Kind of file system, program (`mkfs.` and the kind where nothing else is said), and the package
/// that has it in most distributions.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("bcachefs", "mkfs.bcachefs", "bcachefs-tools"),
    ("btrfs", "mkfs.btrfs", "btrfs-progs"),
    ("erofs", "mkfs.erofs", "erofs-utils"),
    ("exfat", "mkfs.exfat", "exfatprogs"),
    ("ext2", "mkfs.ext2", "e2fsprogs"),
    ("ext3", "mkfs.ext3", "e2fsprogs"),
    ("ext4", "mkfs.ext4", "e2fsprogs"),
    ("f2fs", "mkfs.f2fs", "f2fs-tools"),
    ("ntfs", "mkfs.ntfs", "ntfs-3g"),
    ("squashfs", "mksquashfs", "squashfs-tools"),
    ("xfs", "mkfs.xfs", "xfsprogs"),
];

/// Finds the program for a kind of file system on this machine; none for those we make ourselves
/// (FAT and swap space).
///
/// # Errors
///
/// That there is none, with the package that has it where that is known.
pub fn find(ctx: &Ctx, file_system: &str) -> Result<Option<PathBuf>> {
    if matches!(file_system, "vfat" | "swap") {
        return Ok(None);
    }
    let row = PROGRAMS.iter().find(|row| row.0 == file_system);
    let name = row.map_or_else(|| format!("mkfs.{file_system}"), |row| row.1.to_owned());
    let is_plain = !file_system.is_empty() && !file_system.contains('/');
    if is_plain && let Some(path) = search(ctx, &name) {
        return Ok(Some(path));
    }
    let error = Error::new(format!("mkfs binary for {file_system} not available."))
        .with_errno(rustix::io::Errno::NOENT.raw_os_error());
    Err(match row {
        Some((_, _, package)) => {
            error.hint(format!("'{name}' is in the package '{package}' of most distributions."))
        }
        None => error,
    })
}

/// A program in the search path or where administrators' programs are.
pub(super) fn search(ctx: &Ctx, name: &str) -> Option<PathBuf> {
    let path = ctx.env_os("PATH").unwrap_or_default();
    [path, OsStr::new(PATH_DEFAULT)]
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b':'))
        .filter(|dir| dir.starts_with(b"/"))
        .map(|dir| Path::new(OsStr::from_bytes(dir)).join(name))
        .find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

/// True if this process may do what only administrators may.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the program for a file system says about its options.
pub(super) fn help(ctx: &Ctx, spec: &Spec) -> Result<String> {
    let Some(program) = find(ctx, &spec.file_system)? else { return Ok(String::new()) };
    let mut command = Command::new(&program);
    command.arg("--help").env_clear().envs(ctx.env_all()).stdin(Stdio::null());
    let output = command.output().context(|| format!("Failed to run '{}'", program.display()))?;
    let told = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&told).into_owned())
}

/// Runs a program. What it says goes to standard error as it comes, as from any program in a
/// pipe; where it fails, its last lines are in the error as well.
///
/// # Errors
///
/// It cannot be started, fails or is killed.
pub(super) fn run(ctx: &Ctx, program: &Path, words: &[OsString]) -> Result<()> {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let failed = || format!("Failed to run '{}'", program.display());
    log::debug!("Executing mkfs command: {} {words:?}", program.display());
    let (mut ours, theirs) = std::io::pipe().context(failed)?;
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .envs(ctx.env_all())
        .stdin(Stdio::null())
        .stdout(theirs.try_clone().context(failed)?)
        .stderr(theirs);
    let mut child = command.spawn().context(failed)?;
    // Our copies of its end of the pipe go with this.
    drop(command);
    let undo = Undo::end(child.id());
    let last = pass_on(&mut ours);
    let status = child.wait().context(failed);
    undo.keep();
    let status = status?;
    if status.success() {
        return Ok(());
    }
    let error = match (status.code(), status.signal()) {
        (Some(code), _) => Error::new(format!("'{name}' failed with exit status {code}.")),
        (None, signal) => {
            Error::new(format!("'{name}' was killed by signal {}.", signal.unwrap_or_default()))
        }
    };
    Err(last_lines(&last).into_iter().fold(error, Error::hint))
}

/// Copies what a program says to standard error and returns the end of it.
fn pass_on(pipe: &mut dyn Read) -> Vec<u8> {
    let (mut last, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let bytes = match pipe.read(&mut buffer) {
            Ok(0) => return last,
            Ok(n) => buffer.get(..n).unwrap_or_default(),
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return last,
        };
        // If nobody listens, the program goes on all the same.
        let _ = std::io::stderr().write_all(bytes);
        last.extend_from_slice(bytes);
        let excess = last.len().saturating_sub(LAST_BYTES);
        last.drain(..excess);
    }
}

/// The last lines of what a program said, without what is for terminals only.
fn last_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let plain = |line: &str| line.chars().filter(|letter| !letter.is_control()).collect::<String>();
    let lines = text.lines().map(plain).filter(|line| !line.trim().is_empty());
    let mut lines: Vec<String> = lines.collect();
    lines.split_off(lines.len().saturating_sub(LAST_LINES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = find(&Ctx::host([]), "bcachefs").unwrap_err();
        assert_eq!(error.to_string(), "mkfs binary for bcachefs not available.");
        assert!(error.hints()[0].contains("'bcachefs-tools'"), "{:?}", error.hints());
        assert!(find(&Ctx::host([]), "../../bin/sh").is_err());
        assert!(find(&Ctx::host([]), "").is_err());
    }

    #[test]
    fn a_program_that_fails_or_is_killed_is_reported_with_its_last_words() {
        let ctx = Ctx::host([("PATH".into(), "/bin:/usr/bin".into())]);
        let run = |script: &str| {
            super::run(&ctx, Path::new("/bin/sh"), &["-c".into(), script.into()]).unwrap_err()
        };
        let error = run(
            "for i in 1 2 3 4 5 6; do echo line $i; done; printf '\\033[1mout of luck' >&2; exit 3",
        );
        assert_eq!(error.to_string(), "'sh' failed with exit status 3.");
        assert_eq!(error.hints().len(), 5);
        assert_eq!(error.hints()[4], "[1mout of luck");
        assert_eq!(run("kill -9 $$").to_string(), "'sh' was killed by signal 9.");
    }

    #[test]
    fn the_search_path_comes_first_and_only_programs_count() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("mkfs.zzz");
        std::fs::write(&program, "").unwrap();
        let ctx = Ctx::host([("PATH".into(), dir.path().into())]);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find(&ctx, "zzz").is_err());
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&ctx, "zzz").unwrap(), Some(program));
        assert_eq!(find(&ctx, "vfat").unwrap(), None);
    }
}
