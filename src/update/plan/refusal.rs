//! Why a plan cannot be made. Nothing has been changed when one of these comes up.

use std::fmt;

use uuid::Uuid;

use crate::error::Error;
use crate::format::pattern::FormatError;

/// A refusal of the planner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No set has this version, as spelled.
    NotFound {
        /// As asked for.
        version: String,
    },
    /// Below some `MinVersion=`.
    Obsolete {
        /// The version.
        version: String,
    },
    /// Something has to be acquired, and the sources do not all have it.
    NotAvailable {
        /// The version.
        version: String,
    },
    /// Partially acquired, and the sources no longer have it.
    Stuck {
        /// The version.
        version: String,
    },
    /// Offline, and not completely acquired.
    OnlyPartial {
        /// The version.
        version: String,
    },
    /// Offline, and nothing, or not everything, was acquired.
    NotPending {
        /// The version.
        version: String,
    },
    /// The name of the new instance cannot be made.
    Name {
        /// Of the transfer.
        transfer: String,
        /// What is wrong.
        cause: FormatError,
    },
    /// `MatchPartitionType=` was not understood; we do not write to a guess.
    UnknownPartitionType {
        /// Of the transfer.
        transfer: String,
    },
    /// A partition table where one version would have to be overwritten while it is the only one.
    FewSlots {
        /// The configured type.
        partition_type: Uuid,
        /// Its name, if it has one.
        type_name: Option<String>,
        /// The target patterns.
        patterns: String,
    },
    /// Every slot is needed or too small.
    NoSlot {
        /// Of the transfer.
        transfer: String,
        /// Bytes of the payload, if known.
        need_bytes: Option<u64>,
        /// Each slot with the reason why not.
        slots: Vec<String>,
    },
    /// Two transfers would make the same file.
    Clash {
        /// The path.
        path: String,
        /// Of the transfers.
        transfers: [String; 2],
    },
}

impl Refusal {
    /// Lines for the user that say what can be done.
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSlot { slots, .. } if !slots.is_empty() => Some(slots.join("; ")),
            Self::UnknownPartitionType { transfer } => {
                Some(format!("Correct MatchPartitionType= of '{transfer}'; nothing was changed"))
            }
            Self::NotAvailable { .. } => Some(
                "A version is available if the sources of all enabled transfers have it".into(),
            ),
            Self::NotPending { .. } => Some("Run 'acquire' first, or leave out --offline".into()),
            _ => None,
        }
    }

    fn errno(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 2,                           // ENOENT
            Self::FewSlots { .. } | Self::NoSlot { .. } => 28,    // ENOSPC
            Self::OnlyPartial { .. } | Self::Stuck { .. } => 117, // EUCLEAN
            Self::Name { cause, .. } => cause.errno(),
            Self::Clash { .. } => 17, // EEXIST
            _ => 22,                  // EINVAL
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { version } => write!(f, "Update '{version}' not found."),
            Self::Obsolete { version } => {
                write!(f, "Selected update '{version}' is obsolete, refusing.")
            }
            Self::NotAvailable { version } => {
                write!(f, "Selected update '{version}' is not available, refusing.")
            }
            Self::Stuck { version } => write!(
                f,
                "Selected update '{version}' is already acquired and partially installed. \
                 Vacuum it to try installing again."
            ),
            Self::OnlyPartial { version } => {
                write!(f, "Selected update '{version}' is only partially downloaded, refusing.")
            }
            Self::NotPending { version } => {
                write!(f, "Selected update '{version}' is not pending installation, refusing.")
            }
            Self::Name { transfer, cause } => write!(f, "{cause} (transfer '{transfer}')"),
            Self::UnknownPartitionType { transfer } => write!(
                f,
                "Partition type of transfer '{transfer}' is not known, refusing to write to any partition"
            ),
            Self::FewSlots { partition_type, type_name, patterns } => {
                write!(
                    f,
                    "Partition table has less than two partition slots of the right type \
                     {partition_type} ({}) and matching the expected pattern '{patterns}', refusing.",
                    type_name.as_deref().unwrap_or("n/a")
                )
            }
            Self::NoSlot { transfer, need_bytes, .. } => {
                write!(
                    f,
                    "No available partition of a suitable size found for transfer '{transfer}'"
                )?;
                match need_bytes {
                    Some(bytes) => write!(f, ", which needs {bytes} bytes"),
                    None => Ok(()),
                }
            }
            Self::Clash { path, transfers: [first, second] } => {
                write!(
                    f,
                    "Transfers '{first}' and '{second}' would both create '{path}', refusing."
                )
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let error = Error::new(refusal.to_string()).with_errno(refusal.errno());
        match refusal.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
