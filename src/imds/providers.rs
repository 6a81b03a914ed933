//! Which metadata service a machine has: the provider table and what stands above it.
//!
//! In this order, the first that says something wins: the udev database of the DMI device, the
//! compiled hardware database, and our own table with the text files of the hardware database on
//! top. So an administrator's entry works here as it works in the peer, and without udev too.
//!
//! The table is data: see `providers.hwdb`. Nothing of it is parsed before somebody asks.
//!
//! DIFFERS: the peer knows a machine by the udev database alone (defect 24). Its table has wrong
//! keys for three clouds (defect 12); entries that are the peer's, unchanged, are mended also where
//! they come from the host.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use super::identity::{self, Identity};
use super::model::{Endpoint, Traits, WellKnown};
use crate::conf::search::{Found, SearchPath};
use crate::ctx::Ctx;
use crate::error::{Context as _, Result};
use crate::format::hwdb::{self, Record, trie};

/// The table.
const TABLE: &str = include_str!("providers.hwdb");

/// The peer's file with the same meaning; a mask for it hides our table too.
const TABLE_NAME: &str = "40-imds.hwdb";

/// Where the compiled database is; the first one counts.
const COMPILED: [&str; 4] = [
    "/etc/systemd/hwdb/hwdb.bin",
    "/etc/udev/hwdb.bin",
    "/usr/lib/systemd/hwdb/hwdb.bin",
    "/usr/lib/udev/hwdb.bin",
];

/// How much of it is read at once, and LIMIT: how much is kept.
const PAGE_SIZE: usize = 4096;
const PAGES_MAX: usize = 256;

/// LIMIT: bytes of a text file. Larger ones are lists of hardware.
const TEXT_MAX: u64 = 256 << 10;

/// LIMIT: bytes of a device's entry in the udev database.
const ENTRY_MAX: u64 = 64 << 10;

/// How many `IMDS_EXTRA_HEADER<n>` there are.
const HEADERS_MAX: u32 = 64;

type Properties = BTreeMap<String, String>;

/// The table's row of a vendor.
pub fn builtin(vendor: &str) -> Option<Endpoint> {
    row(vendor).map(|properties| assemble(&properties, false))
}

/// All rows of the table, ours first, each group sorted as in the table.
pub fn all() -> Vec<Endpoint> {
    rows().map(|record| assemble(&properties(&record), false)).collect()
}

/// Fills in what the table knows of the vendor beyond the endpoint itself; what is set stays.
pub fn add_traits(endpoint: &mut Endpoint) {
    let Some(row) = endpoint.vendor.as_deref().and_then(builtin) else { return };
    let (own, known) = (&mut endpoint.traits, row.traits);
    own.is_extension |= known.is_extension;
    if own.retry_statuses.is_empty() {
        own.retry_statuses = known.retry_statuses;
    }
    if own.low_port_paths.is_empty() {
        own.low_port_paths = known.low_port_paths;
    }
    own.retry_window = own.retry_window.or(known.retry_window);
    own.token_lifetime_max = own.token_lifetime_max.or(known.token_lifetime_max);
    own.requests_per_second = own.requests_per_second.or(known.requests_per_second);
    // Addresses belong to the name in the URL.
    if own.resolve.is_empty() && endpoint.data_url == row.data_url {
        own.resolve = known.resolve;
    }
    for (name, recipe) in known.recipes {
        own.recipes.entry(name).or_insert(recipe);
    }
}

/// Fills in what an entry of this host says beyond the endpoint itself, where the table does not
/// know the vendor: a service does not tell that.
pub fn add_host_traits(ctx: &Ctx, endpoint: &mut Endpoint) {
    let is_known = endpoint.vendor.as_deref().is_none_or(|vendor| row(vendor).is_some());
    if is_known || !endpoint.traits.recipes.is_empty() {
        return;
    }
    let found = lookup(ctx).ok().flatten();
    let is_same =
        |found: &Endpoint| found.vendor == endpoint.vendor && found.data_url == endpoint.data_url;
    if let Some(found) = found.filter(is_same) {
        endpoint.traits = found.traits;
    }
}

/// Puts right the keys that the peer's table has wrong or lacks, where the endpoint is the peer's,
/// unchanged: a service that is not ours tells those.
pub fn mend_keys(endpoint: &mut Endpoint) {
    let Some(row) = endpoint.vendor.as_deref().and_then(row) else { return };
    if endpoint.data_url.as_ref() != row.get("IMDS_DATA_URL") {
        return;
    }
    for name in WellKnown::ALL {
        let plain = format!("IMDS_KEY_{}", name.property_name());
        if let Some(own) = row.get(&format!("SLIPWAY_{plain}"))
            && endpoint.well_known.get(&name) == row.get(&plain)
        {
            endpoint.well_known.insert(name, own.clone());
        }
    }
}

/// The endpoint that this machine's identity stands for.
///
/// # Errors
/// A directory of the configuration exists but cannot be read.
pub fn lookup(ctx: &Ctx) -> Result<Option<Endpoint>> {
    let Some(identity) = identity::read(ctx)? else { return Ok(None) };
    let is_strict = ctx.is_strict_compat();
    let found = find(ctx, &identity, is_strict)?;
    Ok(found.map(|mut properties| {
        if !is_strict {
            mend(&mut properties);
        }
        let mut endpoint = assemble(&properties, is_strict);
        // What a cloud demands of a connection is demanded in strict mode too.
        if is_strict {
            add_traits(&mut endpoint);
        }
        endpoint
    }))
}

fn find(ctx: &Ctx, identity: &Identity, is_strict: bool) -> Result<Option<Properties>> {
    if identity.modalias.is_some() {
        let udev = udev_database(ctx);
        if is_relevant(&udev) {
            return Ok(Some(udev));
        }
    }
    let compiled = compiled_database(ctx, identity);
    if let Some(found) = &compiled
        && is_relevant(found)
    {
        return Ok(compiled);
    }
    let text = text_files(ctx, identity, is_strict, compiled.is_some())?;
    if !SearchPath::standard(ctx, "udev/hwdb.d").is_masked(TABLE_NAME)?
        && let Some(mut row) = matching(identity, is_strict)
    {
        // Another cloud's entry is not mixed with the row.
        if text.get("IMDS_VENDOR").is_none_or(|vendor| row.get("IMDS_VENDOR") == Some(vendor)) {
            row.extend(text);
            return Ok(Some(row));
        }
    }
    Ok(Some(text).filter(is_relevant))
}

fn is_relevant(properties: &Properties) -> bool {
    properties.keys().any(|key| key.starts_with("IMDS_"))
}

/// The records of the table that are rows.
fn rows() -> impl Iterator<Item = Record<'static>> {
    hwdb::records(TABLE).filter(|record| record.get("IMDS_VENDOR").is_some())
}

fn row(vendor: &str) -> Option<Properties> {
    rows().find(|record| record.get("IMDS_VENDOR") == Some(vendor)).map(|row| properties(&row))
}

fn properties(record: &Record<'_>) -> Properties {
    record.properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The row that this machine's identity stands for.
fn matching(identity: &Identity, is_strict: bool) -> Option<Properties> {
    let mut names = identity.names();
    if !is_strict {
        names.extend(identity.own_names());
    }
    let is_wanted = |record: &Record<'_>| {
        !is_strict
            || (record.get("IMDS_VENDOR").is_some()
                && record.get("SLIPWAY_IMDS_EXTENSION").is_none())
    };
    let matches = |record: &Record<'_>| names.iter().any(|name| record.is_match(name));
    let record = hwdb::records(TABLE).filter(|r| is_wanted(r) && matches(r)).last()?;
    match record.get("SLIPWAY_IMDS_VENDOR") {
        Some(vendor) => row(vendor),
        None => Some(properties(&record)),
    }
}

/// What udev found out: the same hardware database, and rules.
fn udev_database(ctx: &Ctx) -> Properties {
    let mut text = Vec::new();
    let entry = fs::File::open(ctx.at("/run/udev/data/+dmi:id"));
    if entry.and_then(|entry| entry.take(ENTRY_MAX).read_to_end(&mut text)).is_err() {
        return Properties::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What the first compiled database that can be read says; `None` where there is none.
fn compiled_database(ctx: &Ctx, identity: &Identity) -> Option<Properties> {
    COMPILED.iter().find_map(|path| {
        let path = ctx.at(path);
        let mut pages = FilePages::open(&path)?;
        let mut found = Properties::new();
        for name in identity.names() {
            match trie::query(&mut pages, &name) {
                Ok(more) => found.extend(more),
                Err(broken) => {
                    log::warn!("Failed to use '{}', ignoring: {broken}", path.display());
                    return None;
                }
            }
        }
        Some(found)
    })
}

/// A file of which single pages are read, and kept.
struct FilePages {
    file: fs::File,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl FilePages {
    fn open(path: &Path) -> Option<Self> {
        Some(Self { file: fs::File::open(path).ok()?, pages: BTreeMap::new() })
    }

    fn page(&mut self, number: u64) -> Option<&Vec<u8>> {
        if !self.pages.contains_key(&number) {
            if self.pages.len() >= PAGES_MAX {
                self.pages.clear();
            }
            let mut page = vec![0; PAGE_SIZE];
            let count = self.file.read_at(&mut page, number.checked_mul(PAGE_SIZE as u64)?).ok()?;
            page.truncate(count);
            self.pages.insert(number, page);
        }
        self.pages.get(&number)
    }
}

impl trie::Pages for FilePages {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> bool {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let skip = (at % PAGE_SIZE as u64) as usize;
            let page = self.page(at / PAGE_SIZE as u64);
            let Some(bytes) = page.and_then(|page| page.get(skip..)).filter(|b| !b.is_empty())
            else {
                return false;
            };
            let count = bytes.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(bytes.get(..count).unwrap_or_default());
            rest = later;
            at = at.saturating_add(count as u64);
        }
        true
    }
}

/// The text files of the hardware database that speak of metadata. Those of the system are in the
/// compiled one already, where there is one.
fn text_files(
    ctx: &Ctx,
    identity: &Identity,
    is_strict: bool,
    has_compiled: bool,
) -> Result<Properties> {
    let mut found = Properties::new();
    let mut files = SearchPath::standard(ctx, "udev/hwdb.d").list(".hwdb")?;
    if has_compiled {
        files.retain(|file| !file.path.starts_with(ctx.at("/usr")));
    }
    if files.is_empty() {
        return Ok(found);
    }
    let mut names = identity.names();
    if !is_strict {
        names.extend(identity.own_names());
    }
    for file in files {
        let Some(text) = relevant_text(&file)? else { continue };
        let mut records = hwdb::records(&text);
        for record in records.by_ref() {
            if names.iter().any(|name| record.is_match(name)) {
                found.extend(properties(&record));
            }
        }
        for bad in &records.complaints {
            log::warn!("{}:{}: {bad}", file.path.display(), bad.line);
        }
    }
    Ok(found)
}

/// The text of a file that has properties of ours.
fn relevant_text(file: &Found) -> Result<Option<String>> {
    let context = || format!("Failed to read '{}'", file.path.display());
    let mut reader = fs::File::open(&file.target).context(context)?;
    if reader.metadata().is_ok_and(|meta| meta.len() > TEXT_MAX) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    reader.by_ref().take(TEXT_MAX).read_to_end(&mut bytes).context(context)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text.contains("IMDS_").then_some(text))
}

/// Puts our knowledge of the vendor to properties that are the peer's, unchanged.
fn mend(properties: &mut Properties) {
    let Some(row) = properties.get("IMDS_VENDOR").and_then(|vendor| row(vendor)) else { return };
    if properties.get("IMDS_DATA_URL") != row.get("IMDS_DATA_URL") {
        return;
    }
    for (key, value) in &row {
        let Some(plain) = key.strip_prefix("SLIPWAY_") else { continue };
        if properties.get(plain) == row.get(plain) && !properties.contains_key(key) {
            properties.insert(key.clone(), value.clone());
        }
    }
}

/// Makes an endpoint out of properties; what is malformed is told and left out.
fn assemble(properties: &Properties, is_strict: bool) -> Endpoint {
    let own = |name: &str| properties.get(&format!("SLIPWAY_{name}")).filter(|_| !is_strict);
    let get = |name: &str| -> Option<String> {
        own(name).or_else(|| properties.get(name)).filter(|value| !value.is_empty()).cloned()
    };
    let mut endpoint = Endpoint {
        vendor: get("IMDS_VENDOR"),
        token_url: get("IMDS_TOKEN_URL"),
        refresh_header_name: get("IMDS_REFRESH_HEADER_NAME"),
        data_url: get("IMDS_DATA_URL"),
        data_url_suffix: get("IMDS_DATA_URL_SUFFIX"),
        token_header_name: get("IMDS_TOKEN_HEADER_NAME"),
        extra_headers: get("IMDS_EXTRA_HEADER").into_iter().collect(),
        address_ipv4: get("IMDS_ADDRESS_IPV4").and_then(|text| parsed("IPv4 address", &text)),
        address_ipv6: get("IMDS_ADDRESS_IPV6").and_then(|text| parsed("IPv6 address", &text)),
        ..Endpoint::default()
    };
    endpoint
        .extra_headers
        .extend((2..=HEADERS_MAX).filter_map(|index| get(&format!("IMDS_EXTRA_HEADER{index}"))));
    for name in WellKnown::ALL {
        if let Some(key) = get(&format!("IMDS_KEY_{}", name.property_name())) {
            endpoint.well_known.insert(name, key);
        }
    }
    endpoint.traits = traits(properties);
    endpoint
}

fn traits(properties: &Properties) -> Traits {
    let get = |name: &str| properties.get(&format!("SLIPWAY_IMDS_{name}")).map(String::as_str);
    let words = |name: &str| get(name).unwrap_or_default().split_ascii_whitespace();
    let number = |name: &str| get(name).and_then(|text| parsed::<u32>(name, text));
    let seconds = |name: &str| number(name).map(|count| Duration::from_secs(u64::from(count)));
    let recipes = properties.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix("SLIPWAY_IMDS_VALUE_")?;
        Some((name.to_ascii_lowercase().replace('_', "-"), value.clone()))
    });
    Traits {
        is_extension: get("EXTENSION") == Some("1"),
        retry_statuses: words("RETRY_STATUSES").filter_map(|w| parsed("status code", w)).collect(),
        retry_window: seconds("RETRY_WINDOW_SEC"),
        low_port_paths: words("LOW_PORT_PATHS").map(str::to_owned).collect(),
        token_lifetime_max: seconds("TOKEN_LIFETIME_MAX_SEC"),
        requests_per_second: number("REQUESTS_PER_SECOND").filter(|count| *count > 0),
        resolve: words("RESOLVE").filter_map(|word| parsed::<IpAddr>("address", word)).collect(),
        recipes: recipes.collect(),
    }
}

fn parsed<T: std::str::FromStr>(what: &str, text: &str) -> Option<T> {
    let value = text.parse().ok();
    if value.is_none() {
        log::warn!("Failed to parse {what} '{text}' of the provider table, ignoring.");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_mistakes_and_each_row_its_own_name() {
        let mut records = hwdb::records(TABLE);
        let count = records.by_ref().count();
        assert!(records.complaints.is_empty() && count >= 30, "{:?}", records.complaints);
        let all = all();
        let mut vendors: Vec<_> = all.iter().filter_map(|row| row.vendor.clone()).collect();
        assert_eq!(all.iter().filter(|row| !row.traits.is_extension).count(), 9);
        assert!(all.iter().filter(|row| row.traits.is_extension).count() >= 12);
        vendors.sort_unstable();
        vendors.dedup();
        assert_eq!(vendors.len(), all.len());
        for record in hwdb::records(TABLE) {
            let vendor = record.get("IMDS_VENDOR").or(record.get("SLIPWAY_IMDS_VENDOR"));
            assert!(vendor.and_then(builtin).is_some_and(|row| row.data_url.is_some()));
        }
    }

    #[test]
    fn wrong_keys_are_right_by_default_and_the_peers_in_strict_mode_defect_12() {
        for (vendor, name, ours, peers) in [
            ("hetzner-cloud", WellKnown::Userdata, "/../userdata", Some("/userdata")),
            (
                "oracle-cloud-oci",
                WellKnown::UserdataBase64,
                "/instance/metadata/user_data",
                Some("/metadata/user_data"),
            ),
            ("scaleway", WellKnown::Userdata, "/user_data/cloud-init", Some("/user_data")),
            ("scaleway", WellKnown::UserdataBase, "/user_data", None),
        ] {
            let key = |strict| {
                let endpoint = assemble(&row(vendor).unwrap(), strict);
                endpoint.well_known.get(&name).cloned()
            };
            assert_eq!(key(false).as_deref(), Some(ours), "{vendor}");
            assert_eq!(key(true).as_deref(), peers, "{vendor}");
        }
    }
}
