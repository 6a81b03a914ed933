//! How far a run is, for those who watch it.

use std::path::Path;

use crate::out::progress::{Progress, Silent};

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Definitions are read.
    LoadingDefinitions,
    /// The partition table is read.
    LoadingTable,
    /// What is copied block by block is opened.
    OpeningCopyBlockSources,
    /// A partition gets its identity.
    AcquiringPartitionLabels,
    /// File systems are made as small as they can be.
    Minimizing,
    /// Partitions get their places.
    Placing,
    /// What was on the disk is wiped.
    WipingDisk,
    /// What was where a partition will be is wiped.
    WipingPartition,
    /// Blocks are copied into a partition.
    CopyingPartition,
    /// A file system is made in a partition.
    FormattingPartition,
    /// The entry of a partition is changed.
    AdjustingPartition,
    /// The table is written.
    WritingTable,
    /// The kernel is told.
    RereadingTable,
}

impl Phase {
    /// With underscores, as Varlink has it.
    pub fn varlink_name(self) -> &'static str {
        match self {
            Self::LoadingDefinitions => "loading_definitions",
            Self::LoadingTable => "loading_table",
            Self::OpeningCopyBlockSources => "opening_copy_block_sources",
            Self::AcquiringPartitionLabels => "acquiring_partition_labels",
            Self::Minimizing => "minimizing",
            Self::Placing => "placing",
            Self::WipingDisk => "wiping_disk",
            Self::WipingPartition => "wiping_partition",
            Self::CopyingPartition => "copying_partition",
            Self::FormattingPartition => "formatting_partition",
            Self::AdjustingPartition => "adjusting_partition",
            Self::WritingTable => "writing_table",
            Self::RereadingTable => "rereading_table",
        }
    }

    /// With dashes, as the service manager is told.
    pub fn notify_name(self) -> String {
        self.varlink_name().replace('_', "-")
    }
}

/// Watches a run.
pub trait Observer: Sync {
    /// The run does this now. `object` is the definition file it is about; `percent` is how far it
    /// is, where that is known.
    fn phase(&self, phase: Phase, object: Option<&Path>, percent: Option<u8>);

    /// Is told about bytes.
    fn progress(&self) -> &dyn Progress {
        &Silent
    }
}

/// Watches nothing.
pub struct Unobserved;

impl Observer for Unobserved {
    fn phase(&self, _: Phase, _: Option<&Path>, _: Option<u8>) {}
}
