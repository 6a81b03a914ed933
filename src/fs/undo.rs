//! What goes again, or is as it was, unless it is kept: where work fails, and where the process is
//! ended before that work is done.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use super::Files;

/// Undoes something when it is dropped, best effort.
#[derive(Debug)]
#[must_use]
pub struct Undo(u64);

#[derive(Debug)]
enum What {
    Remove(PathBuf),
    Shrink(PathBuf, u64),
    Restore(PathBuf, Vec<u8>),
    End(u32),
}

static NEXT: AtomicU64 = AtomicU64::new(0);
/// All there is to undo, the last at the end.
static ALL: Mutex<BTreeMap<u64, What>> = Mutex::new(BTreeMap::new());

fn all() -> MutexGuard<'static, BTreeMap<u64, What>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl What {
    fn undo(self) {
        match self {
            Self::Remove(path) => drop(Files::default().remove(&path)),
            Self::Restore(path, bytes) => drop(fs::write(path, bytes)),
            Self::End(process) => {
                let process = i32::try_from(process).ok().and_then(Pid::from_raw);
                let _ = process.map(|process| kill_process(process, Signal::KILL));
            }
            Self::Shrink(path, size) => {
                if let Ok(file) = OpenOptions::new().write(true).open(path) {
                    let _ = file.set_len(size);
                }
            }
        }
    }
}

impl Undo {
    fn new(what: What) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        all().insert(number, what);
        Self(number)
    }

    /// Removes a file or directory that has just been made.
    pub fn remove(path: PathBuf) -> Self {
        Self::new(What::Remove(path))
    }

    /// Gives a file the size back that it had, in bytes.
    pub fn shrink(path: PathBuf, size: u64) -> Self {
        Self::new(What::Shrink(path, size))
    }

    /// Gives a file the contents back that it had.
    pub fn restore(path: PathBuf, bytes: Vec<u8>) -> Self {
        Self::new(What::Restore(path, bytes))
    }

    /// Ends a child process; to be kept as soon as it has been waited for.
    pub fn end(process: u32) -> Self {
        Self::new(What::End(process))
    }

    /// All is well, nothing is undone.
    pub fn keep(self) {
        all().remove(&self.0);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // With the lock: who ends the process waits until it is done.
        let mut all = all();
        if let Some(what) = all.remove(&self.0) {
            what.undo();
        }
    }
}

/// Undoes everything, because the process is about to end; whoever wants to keep something waits
/// until it has.
pub fn undo_all() {
    let mut all = all();
    while let Some((_, what)) = all.pop_last() {
        what.undo();
    }
    std::mem::forget(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_goes_and_what_has_grown_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("gone")).unwrap();
        for name in ["gone/below", "kept", "grown", "changed"] {
            fs::write(path(name), "12345").unwrap();
        }
        drop(Undo::remove(path("gone")));
        Undo::remove(path("kept")).keep();
        drop(Undo::shrink(path("grown"), 2));
        drop(Undo::restore(path("changed"), b"as it was".to_vec()));
        assert!(!path("gone").exists());
        assert_eq!(fs::read(path("kept")).unwrap(), b"12345");
        assert_eq!(fs::read(path("grown")).unwrap(), b"12");
        assert_eq!(fs::read(path("changed")).unwrap(), b"as it was");
    }
}
