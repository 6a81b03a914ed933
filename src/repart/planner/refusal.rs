//! Partitions that do not fit: the message, the Varlink error, the exit status.

use serde_json::{Map, Value};

use crate::error::Error;
use crate::out::human;
use crate::repart::alloc::{NoFitReason, Sum};

/// Errno of a disk that is full.
const ENOSPC: i32 = 28;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What does not fit.
    pub reason: NoFitReason,
    /// How large the disk would have to be, in bytes, after everything was given up that may be.
    pub minimal_size: u64,
    /// What of that is partitions.
    pub sum: Sum,
    /// How large the disk is, in bytes.
    pub current_size: u64,
    /// Nothing is kept of what is on it.
    pub is_from_scratch: bool,
}

impl Refusal {
    /// The lines that say so: the error, and how large the disk would have to be.
    pub fn lines(&self) -> [String; 2] {
        let first = match self.reason {
            NoFitReason::Space(largest) => format!(
                "Can't fit requested partitions into available free space ({}), refusing.",
                human::size(largest)
            ),
            NoFitReason::Entries => {
                "Can't fit requested partitions into the partition table, refusing.".to_owned()
            }
        };
        let current = (!self.is_from_scratch).then_some(self.current_size);
        [first, minimal_size_line(self.minimal_size, current)]
    }

    /// Tells the lines and gives an error that has nothing more to say.
    pub fn tell(&self) -> Error {
        let [first, second] = self.lines();
        log::error!("{first}");
        log::info!("{second}");
        let (name, parameters) = self.varlink();
        Error::silent(1).with_errno(ENOSPC).with_varlink(name, parameters)
    }

    /// The Varlink error: whether the disk could be large enough if it were empty.
    pub fn varlink(&self) -> (&'static str, Map<String, Value>) {
        let current = self.current_size;
        let mut parameters = Map::new();
        parameters.insert("currentSizeBytes".to_owned(), current.into());
        let is_too_small = self.minimal_size.saturating_sub(self.sum.foreign) > current;
        if !is_too_small {
            parameters.insert("needFreeBytes".to_owned(), self.sum.wanted.into());
        }
        parameters.insert("minimalSizeBytes".to_owned(), self.minimal_size.into());
        let name = if is_too_small {
            "io.systemd.Repart.DiskTooSmall"
        } else {
            "io.systemd.Repart.InsufficientFreeSpace"
        };
        (name, parameters)
    }
}

/// The line that says how large a disk must be. Bytes.
///
/// DIFFERS: as the current size the peer names the sum of the partitions and the label's 1 MiB.
pub fn minimal_size_line(minimal: u64, current: Option<u64>) -> String {
    let minimal = human::size(minimal);
    match current {
        Some(current) => format!(
            "Automatically determined minimal disk image size as {minimal}, current block \
             device/image size is {}.",
            human::size(current)
        ),
        None => format!("Automatically determined minimal disk image size as {minimal}."),
    }
}
