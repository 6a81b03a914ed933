//! Transfers, slots and jobs for tests of the engine, without definitions or planner.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test helper: a broken test should panic"
)]

use std::path::{Path, PathBuf};

use slipway::ctx::Ctx;
use slipway::disk::{Access, table};
use slipway::error::Result;
use slipway::format::gpt::types;
use slipway::format::pattern::{Fields, Pattern};
use slipway::out::progress::Silent;
use slipway::update::engine;
use slipway::update::job::{AcquireJob, Acquired, EngineOptions, Goal, InstallJob, RemoveJob};
use slipway::update::model::{
    Instance, Location, PathRelativeTo, Slot, Source, SourceKind, State, Target, TargetKind,
    Transfer,
};

/// A transfer with nothing special about it.
pub fn transfer(source: SourceKind, target: TargetKind, pattern: &str) -> Transfer {
    Transfer {
        id: "10-test".to_owned(),
        file: PathBuf::from("/usr/lib/sysupdate.d/10-test.transfer"),
        is_enabled: true,
        min_version: None,
        protect_versions: Vec::new(),
        verify: true,
        change_log: Vec::new(),
        app_stream: Vec::new(),
        features: Vec::new(),
        requisite_features: Vec::new(),
        source: Source {
            kind: source,
            path: "/src".to_owned(),
            relative_to: PathRelativeTo::Root,
            patterns: vec![Pattern::parse(pattern).unwrap()],
        },
        target: Target {
            kind: target,
            path: "/target".to_owned(),
            relative_to: PathRelativeTo::Root,
            patterns: vec![Pattern::parse(pattern).unwrap()],
            partition_type: types::LINUX_GENERIC,
            is_partition_type_unknown: false,
            overrides: Fields::default(),
            zero_fill: false,
            instances_max: None,
            remove_temporary: true,
            current_symlink: None,
        },
    }
}

/// A transfer into partitions of a type.
pub fn to_partition(source: SourceKind, pattern: &str, type_name: &str) -> Transfer {
    let mut transfer = transfer(source, TargetKind::Partition, pattern);
    transfer.target.partition_type = types::by_name(type_name).unwrap();
    transfer
}

pub fn instance(version: &str, location: Location) -> Instance {
    Instance {
        version: version.to_owned(),
        fields: Fields::default(),
        state: State::Installed,
        location,
    }
}

pub fn file(version: &str, path: impl Into<PathBuf>) -> Instance {
    instance(version, Location::Path(path.into()))
}

pub fn url(version: &str, url: impl Into<String>, sha256: [u8; 32]) -> Instance {
    let url = url.into();
    let (base, name) = url.rsplit_once('/').expect("a base");
    let location = Location::Url { base: base.into(), name: name.into() };
    let mut instance = instance(version, location);
    instance.fields.sha256 = Some(sha256);
    instance
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// The slot with this number as it is in the table now.
pub fn slot(options: &EngineOptions, disk: &Path, number: u32) -> Slot {
    let [slot] = slots(options, disk, [number]);
    slot
}

/// The slots with these numbers as they are in the table now.
pub fn slots<const N: usize>(options: &EngineOptions, disk: &Path, numbers: [u32; N]) -> [Slot; N] {
    let opened = options.disks.open(disk, Access::Read).unwrap();
    let table = table::read(&*opened, disk).unwrap().table;
    numbers.map(|number| {
        let entry = table.partition(number).unwrap();
        let extent = table.extent(&entry).unwrap();
        Slot {
            disk: disk.to_path_buf(),
            number,
            offset_bytes: extent.start,
            size_bytes: extent.end - extent.start,
            label: entry.name,
            type_uuid: entry.type_uuid,
        }
    })
}

/// One transfer with everything that is needed to run it.
pub struct Run<'a> {
    pub ctx: &'a Ctx,
    pub transfer: &'a Transfer,
    pub options: &'a EngineOptions,
    pub source: &'a Instance,
    pub fields: Fields,
}

impl Run<'_> {
    pub fn acquire(&self, goal: &Goal) -> Result<Acquired> {
        let job = AcquireJob {
            transfer: self.transfer,
            source: self.source,
            goal,
            fields: &self.fields,
            partial: None,
            options: self.options,
        };
        engine::acquire(self.ctx, &job, &Silent)
    }

    pub fn install(&self, goal: &Goal, pending: &Location) -> Result<PathBuf> {
        self.install_linked(goal, pending, None)
    }

    pub fn install_linked(
        &self,
        goal: &Goal,
        pending: &Location,
        current_symlink: Option<PathBuf>,
    ) -> Result<PathBuf> {
        let job = InstallJob {
            transfer: self.transfer,
            pending,
            goal,
            fields: &self.fields,
            current_symlink,
            options: self.options,
        };
        engine::install(self.ctx, &job)
    }

    pub fn update(&self, goal: &Goal) -> Result<PathBuf> {
        let acquired = self.acquire(goal)?;
        self.install(goal, &acquired.location)
    }
}

/// Empties a slot or deletes a file.
pub fn remove(
    ctx: &Ctx,
    transfer: &Transfer,
    options: &EngineOptions,
    location: Location,
    directory: Option<PathBuf>,
) -> Result<()> {
    let instance = instance("0", location);
    engine::remove(ctx, &RemoveJob { transfer, instance: &instance, directory, options })
}
