//! Swap space, as `mkswap` makes it: one page of header, and nothing else is touched.

use uuid::Uuid;

use crate::disk::Disk;
use crate::error::{Context as _, Error, Result};
use crate::format::bytes::put;

/// Fewest pages that `mkswap` takes.
const PAGES_MIN: u64 = 10;
/// Longest label, in bytes; a zero follows.
const LABEL_MAX: usize = 15;
/// Where the header's numbers begin; what is before is left to boot loaders, hence zero.
const INFO: usize = 1024;

/// How the swap space is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings<'a> {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its label; what is too long is cut off.
    pub label: &'a str,
    /// Page size of the machine that uses it, in bytes.
    pub page_size: u32,
}

/// The header page of a swap space of `size` bytes.
///
/// # Errors
///
/// Where `size` is too small.
pub fn plan(size: u64, settings: &Settings<'_>) -> Result<Vec<u8>> {
    let pages = size / u64::from(settings.page_size);
    if pages < PAGES_MIN {
        let least = PAGES_MIN * u64::from(settings.page_size);
        return Err(Error::new(format!("Swap space needs at least {least} bytes, not {size}")));
    }
    // LIMIT: of the format; what is beyond is not used.
    let last = u32::try_from(pages - 1).unwrap_or(u32::MAX);
    let page_size = settings.page_size as usize;
    let mut page = vec![0; page_size];
    let mut set = |offset: usize, value: &[u8]| put(&mut page, offset, value);
    set(INFO, &1_u32.to_le_bytes());
    set(INFO + 4, &last.to_le_bytes());
    set(INFO + 12, settings.uuid.as_bytes());
    set(INFO + 28, label(settings.label).as_bytes());
    set(page_size.saturating_sub(10), b"SWAPSPACE2");
    Ok(page)
}

/// The label that a partition's label becomes.
pub fn label(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LABEL_MAX)).unwrap_or_default()
}

/// Makes a swap space that fills `target`. Nothing is synced.
///
/// # Errors
///
/// As [`plan`], then those of writing.
pub fn make(target: &dyn Disk, settings: &Settings<'_>) -> Result<()> {
    let page = plan(target.size_bytes(), settings)?;
    target.write_at(0, &page).context(|| "Failed to write the swap header".to_owned())
}
