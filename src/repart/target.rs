//! What is partitioned: finds it, opens it, locks it, and reads its table.
//!
//! A new image file is removed again, and a grown one gets its old size back, if the run fails
//! before it has begun to write: nothing is left behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::IFlags;
use rustix::io::Errno;
use uuid::Uuid;

use super::model::{Device, Empty, ImageSize, Options};
use crate::conf::cmdline;
use crate::ctx::Ctx;
use crate::disk::{Access, Disk, FileDisk, Lock, backing};
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::{self, FIRST_BYTE, GptError, Table};
use crate::format::superblock::{self, Label};
use crate::fs::undo::Undo;
use crate::log::NOTICE;
use crate::out::human;
use crate::sys;

/// Exit status where there is no disk to partition.
pub const STATUS_NO_ROOT: u8 = 76;
/// Exit status where the disk has a label it should not have, or none where it should.
pub const STATUS_LABEL: u8 = 77;

const ENODEV: i32 = 19;
const EHWPOISON: i32 = 133;

/// A disk that is ready to be planned for.
pub struct Target {
    /// Reading and, unless this is a dry run, writing.
    pub disk: Box<dyn Disk>,
    /// As shown, and as the names of its partitions begin.
    pub path: PathBuf,
    /// What is there, or an empty table where the disk starts from scratch. Its disk GUID is nil
    /// then. None while an image has no size yet (`--size=auto`): [`Target::grow`] makes one.
    pub table: Option<Table>,
    /// There is a new table; nothing of the old one is kept.
    pub is_from_scratch: bool,
    /// The image file is new.
    pub is_created: bool,
    /// Numbers of the partitions that a factory reset takes away: `table` has them no more, the
    /// disk still does.
    pub removed: Vec<u32>,
    /// A block device, not a file.
    pub is_device: bool,
    /// Size in bytes before it grew.
    pub old_size: u64,
    /// Size in bytes; in a dry run that of the plan, not of the file.
    pub size: u64,
    /// Bytes per sector.
    pub sector_size: u32,
    is_dry_run: bool,
    is_allocated: bool,
    /// Where the hardware wants the first partition, in bytes.
    first_byte: u64,
    guard: Option<Undo>,
    _lock: Option<Box<dyn Lock>>,
}

/// Opens the target of a run.
///
/// # Errors
///
/// Status 76 where there is no root disk, 77 where the label does not fit `--empty=`; else it
/// cannot be created, opened, locked or read. [`Device::None`] has no target.
pub fn open(ctx: &Ctx, options: &Options) -> Result<Target> {
    let (path, guard) = find(ctx, options)?;
    let is_created = guard.is_some();
    let access = if options.is_dry_run { Access::Read } else { Access::Write };
    let disk = FileDisk::open(&path, access)
        .context(|| format!("Failed to open device '{}'", path.display()))?;
    let is_device = disk.is_device();
    let sector_size = match options.sector_size {
        Some(bytes) => bytes,
        // What the old table was made for does not matter to a new one.
        None if !is_device && matches!(options.empty, Empty::Force | Empty::Create) => 512,
        None => disk.sector_size_bytes(),
    };
    let disk = disk.with_sector_size(sector_size);
    let lock = lock(&disk, &path, options.is_dry_run)?;
    let first_byte = if is_device { first_byte(&disk) } else { FIRST_BYTE };
    let size = disk.size_bytes();
    let mut target = Target {
        disk: Box::new(disk),
        path,
        table: None,
        is_from_scratch: false,
        is_created,
        removed: Vec::new(),
        is_device,
        old_size: size,
        size,
        sector_size,
        is_dry_run: options.is_dry_run,
        is_allocated: options.keeps_blocks,
        first_byte,
        guard,
        _lock: lock,
    };
    target.load(options.empty)?;
    match options.size {
        Some(ImageSize::Bytes(bytes)) => target.grow(bytes)?,
        Some(ImageSize::Auto) if is_device => return Err(target.cannot_resize()),
        Some(ImageSize::Auto) if target.is_from_scratch && size == 0 => {}
        Some(ImageSize::Auto) | None => target.start()?,
    }
    Ok(target)
}

/// The path of the target; a file that has been created here goes again with the guard.
fn find(ctx: &Ctx, options: &Options) -> Result<(PathBuf, Option<Undo>)> {
    let named = match (&options.device, ctx.image()) {
        (Device::Path(path), _) => path.as_path(),
        (Device::Root, Some(image)) => image,
        (Device::Root, None) => return Ok((root_disk(ctx)?, None)),
        (Device::None, _) => return Err(Error::errno_because("Failed to open device", ENODEV)),
    };
    if options.empty == Empty::Create {
        return create(named, options.cow).map(|guard| (named.to_path_buf(), Some(guard)));
    }
    let failed =
        || format!("Failed to open file or determine backing device of {}", named.display());
    let metadata = fs::metadata(named).context(failed)?;
    if metadata.is_file() {
        return Ok((named.canonicalize().context(failed)?, None));
    }
    match backing::disk_of(ctx, named) {
        Ok(Some(disk)) => Ok((disk, None)),
        Ok(None) => Err(Error::errno_because(failed(), ENODEV).with_status(STATUS_NO_ROOT)),
        Err(err) => Err(match err.errno() {
            Some(errno) => Error::errno_because(failed(), errno),
            None => Error::because(failed(), err),
        }),
    }
}

/// Makes an empty image file.
fn create(path: &Path, cow: Option<bool>) -> Result<Undo> {
    let failed = || format!("Failed to create '{}'", path.display());
    let file = fs::File::create_new(path).context(failed)?;
    let guard = Undo::remove(path.to_path_buf());
    if let Some(cow) = cow {
        // Only some file systems know the flag, and the image is as good without.
        if let Err(err) = sys::fs::set_inode_flag(&file, IFlags::NOCOW, !cow) {
            log::debug!("Failed to set copy-on-write flag of '{}': {err}", path.display());
        }
    }
    Ok(guard)
}

/// The disk with the root file system, or with `/usr`.
fn root_disk(ctx: &Ctx) -> Result<PathBuf> {
    let volatile = Path::new(backing::VOLATILE_ROOT);
    if ctx.is_host() && volatile.exists() {
        let failed =
            || format!("Failed to open file or determine backing device of {}", volatile.display());
        let disk = backing::disk_of(ctx, volatile).context(failed)?;
        return disk.ok_or_else(|| Error::errno_because(failed(), ENODEV));
    }
    for place in ["/", "/usr"] {
        let path = sys::fs::chase(ctx.root(), Path::new(place))
            .context(|| format!("Failed to determine backing device of {place}"))?;
        if let Some(disk) = backing::disk_of(ctx, &path)? {
            return Ok(disk);
        }
    }
    Err(Error::new("Failed to discover root block device.")
        .with_status(STATUS_NO_ROOT)
        .with_errno(ENODEV))
}

/// Keeps the device manager and others like us away. Whoever else has the disk is waited for, but
/// not in silence.
fn lock(disk: &FileDisk, path: &Path, is_shared: bool) -> Result<Option<Box<dyn Lock>>> {
    let failed = || format!("Failed to lock device '{}'", path.display());
    match disk.lock_as(is_shared, false).context(failed)? {
        Some(lock) => Ok(Some(lock)),
        None => {
            let shown = path.display();
            log::info!(target: NOTICE, "Another program has locked '{shown}', waiting for it.");
            disk.lock_as(is_shared, true).context(failed)
        }
    }
}

/// Where the first partition of a new table begins on this device.
fn first_byte(disk: &FileDisk) -> u64 {
    match sys::blk::alignment(disk.file()) {
        Ok((_, offset)) if offset > 0 => offset.into(),
        Ok((size, _)) if u64::from(size) > FIRST_BYTE => size.into(),
        _ => FIRST_BYTE,
    }
}

impl Target {
    /// Reads the table and holds it against `--empty=`.
    fn load(&mut self, empty: Empty) -> Result<()> {
        let unreadable = || format!("Failed to read '{}'", self.path.display());
        let mut read = |offset: u64, len: usize| -> io::Result<Vec<u8>> {
            let mut buffer = vec![0; len];
            self.disk.read_at(offset, &mut buffer)?;
            Ok(buffer)
        };
        let (table, fault) = match gpt::load(self.size, self.sector_size, &mut read) {
            Ok(loaded) => (Some(loaded.table), None),
            Err(GptError::Io(err)) => return Err(err).context(unreadable),
            Err(fault) => (None, Some(fault)),
        };
        let mut read_into = |offset: u64, buffer: &mut [u8]| self.disk.read_at(offset, buffer);
        let is_other = table.is_none()
            && superblock::label(self.size, &mut read_into).context(unreadable)? != Label::None;
        let shown = self.path.display();
        let refused = match empty {
            Empty::Refuse if table.is_none() => {
                format!("Disk {shown} has no GPT disk label, not repartitioning.")
            }
            Empty::Allow if is_other => {
                format!("Disk {shown} has non-GPT disk label, not repartitioning.")
            }
            Empty::Require if is_other || table.is_some() => {
                format!("Disk {shown} already has a disk label, refusing.")
            }
            _ => {
                let keeps_table = matches!(empty, Empty::Refuse | Empty::Allow);
                self.table = table.filter(|_| keeps_table);
                self.is_from_scratch = self.table.is_none();
                return Ok(());
            }
        };
        let mut error = Error::new(refused).with_status(STATUS_LABEL).with_errno(EHWPOISON);
        if let Some(GptError::NoTable { .. } | GptError::NoRoom) = fault {
            error = error.hint(fault.map(|fault| fault.to_string()).unwrap_or_default());
        }
        Err(error
            .with_varlink("io.systemd.Repart.ConflictingDiskLabelPresent", serde_json::Map::new()))
    }

    /// Makes the table of a disk that starts from scratch.
    fn start(&mut self) -> Result<()> {
        if !self.is_from_scratch {
            return Ok(());
        }
        let guid = self.table.as_ref().map_or(Uuid::nil(), Table::disk_guid);
        let table = Table::create_from(self.size, self.sector_size, self.first_byte, guid)
            .map_err(|err| match err {
                GptError::TooSmall => Error::errno_because(
                    "Failed to create GPT disk label",
                    Errno::NOSPC.raw_os_error(),
                ),
                err => Error::because("Failed to create GPT disk label", err),
            })?;
        self.table = Some(table);
        Ok(())
    }

    fn cannot_resize(&self) -> Error {
        Error::new(format!("Cannot resize block device '{}'.", self.path.display()))
            .with_errno(Errno::BADF.raw_os_error())
    }

    /// Makes the image at least so large and fits the table to that. In a dry run only the plan
    /// is larger.
    ///
    /// DIFFERS: the peer lets the file grow in a dry run, too.
    ///
    /// # Errors
    ///
    /// It is a block device, or there is no space for it.
    pub fn grow(&mut self, size: u64) -> Result<()> {
        if self.is_device {
            return Err(self.cannot_resize());
        }
        let (shown, old) = (self.path.display().to_string(), self.size);
        let [old_text, text] = [old, size].map(human::size);
        if size <= old && old > 0 {
            log::info!(
                target: NOTICE,
                "File '{shown}' already is of requested size or larger, not growing. \
                 ({old_text} >= {text})"
            );
            return self.start();
        }
        if !self.is_dry_run {
            if self.guard.is_none() {
                self.guard = Some(Undo::shrink(self.path.clone(), old));
            }
            self.disk
                .grow(size, self.is_allocated)
                .context(|| format!("Failed to grow '{shown}' from {old_text} to {text}"))?;
        }
        self.size = size;
        match (old, self.is_allocated) {
            (0, true) => log::info!("Allocated {text} for '{shown}'."),
            (0, false) => log::info!("Sized '{shown}' to {text}."),
            (_, is_allocated) => {
                let way = if is_allocated { "allocation" } else { "truncation" };
                log::info!("File '{shown}' grown from {old_text} to {text} by {way}.");
            }
        }
        self.start()?;
        if let Some(table) = self.table.as_mut().filter(|_| !self.is_from_scratch) {
            table.grow_to(size).context(|| format!("Failed to grow '{shown}'"))?;
            log::info!("Resized partition table.");
        }
        Ok(())
    }

    /// Writing begins: an image file that has grown keeps its size from here on, because what is
    /// written may depend on it. A new one is still removed if the run fails.
    pub fn begin(&mut self) {
        if !self.is_created {
            self.keep();
        }
    }

    /// The run has succeeded: a new file stays, too.
    pub fn keep(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.keep();
        }
    }

    /// The disk, to show its partitions by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// True if what is marked for it is to be deleted: `--factory-reset=`, or in the initrd what the
/// kernel command line or the firmware was told before the machine started.
///
/// # Errors
///
/// The kernel command line cannot be read.
pub fn wants_factory_reset(ctx: &Ctx, options: &Options) -> Result<bool> {
    if let Some(wanted) = options.factory_reset {
        return Ok(wanted);
    }
    if !cmdline::is_initrd(ctx) {
        return Ok(false);
    }
    let line = cmdline::Cmdline::effective(ctx)?;
    let wanted =
        line.flag("systemd.factory_reset", true).unwrap_or_else(|| is_requested_by_firmware(ctx));
    if wanted {
        log::info!(
            target: NOTICE,
            "Honouring factory reset requested via kernel command line or EFI variable."
        );
    }
    Ok(wanted)
}

/// The variable that `systemd-factory-reset request` leaves for the next boot. It names the
/// operating system it is for and the boot it was made in.
fn is_requested_by_firmware(ctx: &Ctx) -> bool {
    let name = "firmware/efi/efivars/FactoryResetRequest-8cf2644b-4b0b-428f-9387-6d876050dc67";
    let Ok(bytes) = fs::read(ctx.sys(name)) else { return false };
    // Four bytes of attributes, then UTF-16.
    let (units, _) = bytes.get(4..).unwrap_or_default().as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units).filter_map(std::result::Result::ok).collect();
    let Ok(request) = serde_json::from_str::<serde_json::Value>(&text) else {
        log::warn!("EFI variable FactoryResetRequest set to invalid JSON, ignoring.");
        return false;
    };
    let field = |key: &str| request.get(key).and_then(serde_json::Value::as_str);
    let plain = |text: &str| text.trim().replace('-', "");
    let boot = fs::read_to_string(ctx.proc("sys/kernel/random/boot_id")).unwrap_or_default();
    let release = crate::conf::os_release::OsRelease::load(ctx).unwrap_or_default();
    let is_ours = field("osReleaseId") == Some(release.get("ID"))
        && field("osReleaseImageId").unwrap_or_default() == release.get("IMAGE_ID");
    if !is_ours {
        log::debug!("FactoryResetRequest EFI variable set, but not for us, ignoring.");
        return false;
    }
    // A request of this very boot is one for the next.
    field("bootId").is_some_and(|id| plain(id) != plain(&boot))
}

#[cfg(test)]
mod tests;
