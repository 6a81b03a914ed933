//! Import: what the metadata say becomes credentials and files that the rest of the boot reads.
//!
//! [`gather`] asks the source, [`plan`] decides (pure), [`apply`] writes; [`run`] is the three in
//! order with the measurement between, because nobody may read user data that were not measured.
//! Every file is replaced as a whole, credentials that exist are never touched, and a second run
//! changes nothing.
//!
//! External spec: systemd-imds(1), `--import`; systemd.system-credentials(7).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use log::Level;
use serde_json::{Value, json};

use super::measure;
use super::model::{Endpoint, Failure, Request, WellKnown};
use super::normal;
use super::providers;
use super::source::{GivingUp, Source};
use super::userdata::{self, Credential, NoUserData, UserData};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::fs::Files;
use crate::log::NOTICE;
use crate::out::human;
use crate::out::json::{self, Mode};
use crate::sys::fs::parent;

/// Credentials as they are.
pub const STORE: &str = "/run/credstore";
/// Encrypted credentials.
pub const STORE_ENCRYPTED: &str = "/run/credstore.encrypted";
/// The public addresses, as records of the resolver.
pub const ADDRESSES: &str = "/run/systemd/resolve/static.d/imds-public.rr";
/// The user data as they were measured.
pub const USERDATA: &str = "/run/systemd/imds/userdata";

const HOSTNAME: &str = "firstboot.hostname";
const SSH_KEYS: &str = "ssh.authorized_keys.root";

/// LIMIT: bytes of something that should be an address, in a message.
const SHOWN_MAX: usize = 128;

/// All SSH keys of the administrator; `Ok(None)` where the provider's own key is to be taken as it
/// is.
pub type SshKeys<'a> = &'a dyn Fn(&mut dyn Source) -> Result<Option<Vec<String>>, Failure>;

/// What was asked for, whatever came back. `None` is absent or empty.
#[derive(Clone)]
pub struct Gathered {
    ipv4: Fetched,
    ipv6: Fetched,
    hostname: Fetched,
    ssh_keys: Fetched,
    userdata: std::result::Result<Option<Vec<u8>>, NoUserData>,
}

type Fetched = std::result::Result<Option<Vec<u8>>, Failure>;

impl Gathered {
    /// The user data, for the measurement.
    pub fn userdata(&self) -> Option<&[u8]> {
        self.userdata.as_ref().ok().and_then(Option::as_deref)
    }
}

/// Asks for everything, in the peer's order. One failure does not keep the others from being asked,
/// unless it is silence.
///
/// # Errors
/// [`Failure::NotSupported`]: there is nobody to ask.
pub fn gather(
    ctx: &Ctx,
    source: &mut dyn Source,
    all_keys: SshKeys<'_>,
) -> Result<Gathered, Failure> {
    // DIFFERS: the peer finds out five times that there is no endpoint, and ends with status 1
    // where the unit of its own expects 6.
    source.endpoint()?;
    // A boot waits for this.
    let source = &mut GivingUp::new(source);
    let ipv4 = fetch(source, WellKnown::Ipv4Public);
    if ipv4 == Err(Failure::NotSupported) {
        return Err(Failure::NotSupported);
    }
    Ok(Gathered {
        ipv4,
        ipv6: fetch(source, WellKnown::Ipv6Public),
        hostname: fetch(source, WellKnown::Hostname),
        ssh_keys: ssh_keys(source, all_keys),
        userdata: normal::find_userdata(ctx, source),
    })
}

fn fetch(source: &mut dyn Source, name: WellKnown) -> Fetched {
    match source.get(&Request::well_known(name)) {
        Ok(reply) => Ok(Some(reply.data).filter(|data| !data.is_empty())),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Finds all SSH keys where the endpoint's key for them is the one that its provider has by
/// default, or an entry of this host has a recipe for them; for [`gather`].
///
/// DIFFERS: the peer imports the first key only.
pub fn provider_keys(
    ctx: &Ctx,
) -> impl Fn(&mut dyn Source) -> Result<Option<Vec<String>>, Failure> + use<'_> {
    move |source| {
        if ctx.is_strict_compat() {
            return Ok(None);
        }
        let mut endpoint = source.endpoint()?;
        providers::add_host_traits(ctx, &mut endpoint);
        let row = endpoint.vendor.as_deref().and_then(providers::builtin);
        let key = |endpoint: &Endpoint| endpoint.well_known.get(&WellKnown::SshKey).cloned();
        let is_listed = match row {
            Some(row) => key(&row) == key(&endpoint),
            None => endpoint.traits.recipes.contains_key("ssh-keys"),
        };
        if !is_listed {
            return Ok(None);
        }
        normal::ssh_keys(ctx, source).map(Some)
    }
}

/// All keys, one per line, or the provider's own answer as it is.
fn ssh_keys(source: &mut dyn Source, all_keys: SshKeys<'_>) -> Fetched {
    match all_keys(source) {
        Ok(None) => fetch(source, WellKnown::SshKey),
        Ok(Some(keys)) if keys.is_empty() => Ok(None),
        Ok(Some(keys)) => Ok(Some(format!("{}\n", keys.join("\n")).into_bytes())),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What is there already, as far as it matters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Credentials.
    pub names: Names,
    /// Contents of [`ADDRESSES`] and [`USERDATA`].
    pub contents: BTreeMap<&'static str, Vec<u8>>,
}

/// The credentials there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In [`STORE`].
    pub plain: BTreeSet<String>,
    /// In [`STORE_ENCRYPTED`].
    pub encrypted: BTreeSet<String>,
}

impl Standing {
    /// Looks. What cannot be read counts as not there; writing will tell.
    pub fn read(ctx: &Ctx) -> Self {
        let names = |directory: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(ctx.at(directory)).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        // The directory of one belongs to the service's user: no links, no pipes.
        let content = |path| {
            let file = ctx.at(path);
            let is_file = std::fs::symlink_metadata(&file).is_ok_and(|status| status.is_file());
            Some((path, is_file.then(|| std::fs::read(file).ok())??))
        };
        Self {
            names: Names { plain: names(STORE), encrypted: names(STORE_ENCRYPTED) },
            contents: [ADDRESSES, USERDATA].into_iter().filter_map(content).collect(),
        }
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step of a plan.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// A file appears, or gets other contents.
    Write {
        /// Its path in the tree.
        path: String,
        /// What it holds.
        bytes: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// What to say when it is written; nothing for the files nobody asks for by name.
        done: Option<String>,
        /// One of the credentials in the user data, which are counted?
        is_counted: bool,
    },

    /// A file goes, because what it says is no longer so.
    Remove {
        /// Its path in the tree.
        path: String,
    },
    /// A credential that exists stays.
    Skip {
        /// Its path in the tree.
        path: String,
        /// The sentence about it.
        text: String,
    },
    /// Something that could not be imported, or is worth a word.
    Tell {
        /// How bad it is.
        level: Level,
        /// The sentence.
        text: String,
        /// True where the exit status says so as well.
        is_failure: bool,
    },
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_json())
    }
}

impl Step {
    /// Writes a credential unless its name is taken, which it then is.
    fn credential(names: &mut Names, entry: Credential, done: String, is_counted: bool) -> Self {
        let Credential { name, data, is_encrypted } = entry;
        let (store, names) = match is_encrypted {
            true => (STORE_ENCRYPTED, &mut names.encrypted),
            false => (STORE, &mut names.plain),
        };
        let path = format!("{store}/{name}");
        if names.contains(&name) {
            return Self::Skip { text: skip_text(&path), path };
        }
        names.insert(name);
        Self::Write { path, bytes: data, mode: 0o400, done: Some(done), is_counted }
    }

    fn failure(error: &Error) -> Self {
        Self::Tell { level: Level::Error, text: error.to_string(), is_failure: true }
    }

    /// The step for programs, without the contents.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Write { path, bytes, mode, .. } => {
                json!({ "action": "write", "path": path, "mode": mode, "sizeBytes": bytes.len() })
            }
            Self::Remove { path } => json!({ "action": "remove", "path": path }),
            Self::Skip { path, text } => json!({ "action": "skip", "path": path, "text": text }),
            Self::Tell { text, is_failure, .. } => {
                json!({ "action": "tell", "text": text, "isFailure": is_failure })
            }
        }
    }

    /// The step for people, as something that would happen.
    pub fn to_text(&self) -> String {
        match self {
            Self::Write { path, bytes, mode, .. } => {
                format!("Would write '{path}' ({}B, mode {mode:04o}).", bytes.len())
            }
            Self::Remove { path } => format!("Would remove '{path}'."),
            Self::Skip { text, .. } | Self::Tell { text, .. } => text.clone(),
        }
    }
}

/// The sentence about a credential that exists.
fn skip_text(path: &str) -> String {
    let (store, name) = path.rsplit_once('/').unwrap_or_default();
    format!("Skipping importing of credential '{name}', it already exists locally in '{store}'.")
}

impl Plan {
    /// True where a step says that something failed.
    pub fn has_failed(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Tell { is_failure: true, .. }))
    }

    /// True where nothing would be written or removed.
    pub fn is_noop(&self) -> bool {
        !self.steps.iter().any(|s| matches!(s, Step::Write { .. } | Step::Remove { .. }))
    }
}

/// Decides what to write.
pub fn plan(gathered: &Gathered, standing: &Standing) -> Plan {
    let mut plan = Plan::default();
    let mut names = standing.names.clone();
    plan_addresses(gathered, standing, &mut plan.steps);
    let named = [
        (&gathered.hostname, HOSTNAME, "Imported hostname as credential 'firstboot.hostname'."),
        (
            &gathered.ssh_keys,
            SSH_KEYS,
            "Imported SSH key as credential 'ssh.authorized_keys.root'.",
        ),
    ];
    for (fetched, name, done) in named {
        match fetched {
            Ok(None) => {}
            Ok(Some(data)) => {
                let entry =
                    Credential { name: name.to_owned(), data: data.clone(), is_encrypted: false };
                plan.steps.push(Step::credential(&mut names, entry, done.to_owned(), false));
            }
            Err(failure) => plan.steps.push(Step::failure(&failure.clone().into())),
        }
    }
    plan_userdata(gathered, standing, &mut names, &mut plan.steps);
    plan
}

/// The file that makes the public addresses known by name.
///
/// DIFFERS: a line break behind an address does not make it invalid, and a file of an earlier run
/// goes when the service says that there is no address any more.
fn plan_addresses(gathered: &Gathered, standing: &Standing, steps: &mut Vec<Step>) {
    let mut records = Vec::new();
    let mut is_certain = true;
    for (fetched, is_ipv4) in [(&gathered.ipv4, true), (&gathered.ipv6, false)] {
        // Addresses are a convenience: whatever is wrong with them is told and no failure.
        let mut tell = |text| {
            is_certain = false;
            steps.push(Step::Tell { level: Level::Error, text, is_failure: false });
        };
        match fetched {
            Ok(None) => {}
            Err(failure) => tell(Error::from(failure.clone()).to_string()),
            Ok(Some(data)) => match address(data, is_ipv4) {
                Some(address) => records.push(record(address)),
                None => {
                    // Nobody wants to read a whole page here.
                    let shown = String::from_utf8_lossy(data.get(..SHOWN_MAX).unwrap_or(data));
                    tell(format!("Failed to parse IP address '{shown}': Invalid argument"));
                }
            },
        }
    }
    let standing = standing.contents.get(ADDRESSES);
    if records.is_empty() {
        if standing.is_some() && is_certain {
            steps.push(Step::Remove { path: ADDRESSES.to_owned() });
        }
        return;
    }
    let bytes = json::to_string(&Value::Array(records), Mode::Short).into_bytes();
    if standing != Some(&bytes) {
        steps.push(Step::Write {
            path: ADDRESSES.to_owned(),
            bytes,
            mode: 0o644,
            done: None,
            is_counted: false,
        });
    }
}

fn address(data: &[u8], is_ipv4: bool) -> Option<IpAddr> {
    let text = std::str::from_utf8(data).ok()?.trim_ascii_end();
    match is_ipv4 {
        true => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        false => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    }
}

/// The address of `_public`, as the resolver wants it.
fn record(address: IpAddr) -> Value {
    let (kind, bytes) = match address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (28, address.octets().to_vec()),
    };
    json!({ "key": { "class": 1, "type": kind, "name": "_public" }, "address": bytes })
}

fn plan_userdata(
    gathered: &Gathered,
    standing: &Standing,
    names: &mut Names,
    steps: &mut Vec<Step>,
) {
    let info =
        |text: &str| Step::Tell { level: Level::Info, text: text.to_owned(), is_failure: false };
    let data = match &gathered.userdata {
        Err(reason) => {
            // Nobody knows whether the old copy is still right; it stays.
            steps.push(Step::failure(&reason.clone().into()));
            return;
        }
        Ok(None) => {
            steps.push(info("No IMDS data available, not importing credentials."));
            if standing.contents.contains_key(USERDATA) {
                steps.push(Step::Remove { path: USERDATA.to_owned() });
            }
            return;
        }
        Ok(Some(data)) => data,
    };
    if standing.contents.get(USERDATA) != Some(data) {
        let path = USERDATA.to_owned();
        steps.push(Step::Write {
            path,
            bytes: data.clone(),
            mode: 0o644,
            done: None,
            is_counted: false,
        });
    }
    match userdata::parse(data) {
        UserData::Foreign => steps.push(info(
            "IMDS user data does not look like JSON or systemd userdata, not processing.",
        )),
        UserData::Broken => steps.push(Step::Tell {
            level: Level::Warn,
            text: "JSON parse failure, ignoring user data".to_owned(),
            is_failure: false,
        }),
        UserData::Wrong(text) => {
            steps.push(Step::Tell { level: Level::Error, text, is_failure: true });
        }
        UserData::Credentials(entries) => plan_credentials(entries, names, steps),
    }
}

fn plan_credentials(
    entries: Vec<std::result::Result<Credential, String>>,
    names: &mut Names,
    steps: &mut Vec<Step>,
) {
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(text) => {
                steps.push(Step::Tell { level: Level::Warn, text, is_failure: true });
                continue;
            }
        };
        let size = human::bytes(u64::try_from(entry.data.len()).unwrap_or(u64::MAX));
        let done = format!("Imported credential '{}' from IMDS ({size}).", entry.name);
        steps.push(Step::credential(names, entry, done, true));
    }
}

/// Does what the plan says and tells it. True where all of it went well.
pub fn apply(ctx: &Ctx, files: &Files, plan: &Plan) -> bool {
    let (mut is_good, mut count) = (true, 0);
    for step in &plan.steps {
        match step {
            Step::Write { path, bytes, mode, done, is_counted } => {
                match write(ctx, files, path, bytes, *mode) {
                    Ok(true) => {
                        count += usize::from(*is_counted);
                        if let Some(text) = done {
                            log::info!("{text}");
                        }
                    }
                    Ok(false) => log::info!(target: NOTICE, "{}", skip_text(path)),
                    Err(error) => {
                        is_good = false;
                        log::error!("{error}");
                    }
                }
            }
            Step::Remove { path } => {
                if let Err(err) = files.remove(&ctx.at(path)) {
                    is_good = false;
                    log::error!("{}", Error::because(format!("Failed to remove '{path}'"), err));
                }
            }
            Step::Skip { text, .. } => log::info!(target: NOTICE, "{text}"),
            Step::Tell { level, text, is_failure } => {
                is_good &= !is_failure;
                log::log!(*level, "{text}");
            }
        }
    }
    if count > 0 {
        log::info!("Imported {count} credentials from IMDS.");
    }
    is_good
}

/// Writes a file. False where it is a credential and somebody came first since we looked.
fn write(ctx: &Ctx, files: &Files, path: &str, bytes: &[u8], mode: u32) -> Result<bool> {
    let failed = |err| Error::because(format!("Failed to write '{path}'"), err);
    let (file, is_private) = (ctx.at(path), mode & 0o077 == 0);
    let directory = parent(&file);
    if !is_private {
        files.create_dirs(directory).map_err(failed)?;
        files.write_atomic(ctx, &file, bytes, mode).map_err(failed)?;
        return Ok(true);
    }
    files.create_private_dir(directory).map_err(failed)?;
    match files.create_atomic(ctx, &file, bytes, mode) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(err) => Err(failed(err)),
    }
}

/// Imports: asks, measures, decides, writes. True where all of it went well.
///
/// # Errors
/// There is nobody to ask.
pub fn run(
    ctx: &Ctx,
    files: &Files,
    source: &mut dyn Source,
    all_keys: SshKeys<'_>,
) -> Result<bool> {
    let gathered = gather(ctx, source, all_keys)?;
    if let Some(event) = gathered.userdata().and_then(measure::userdata_event) {
        measure::send(ctx, &event);
    }
    Ok(apply(ctx, files, &plan(&gathered, &Standing::read(ctx))))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const NO_LIST: SshKeys<'static> = &|_| Ok(None);

    fn steps(source: Fake, standing: &Standing) -> Vec<Step> {
        let mut source = source;
        plan(&gather(&Ctx::host([]), &mut source, NO_LIST).unwrap(), standing).steps
    }

    fn written(steps: &[Step]) -> Vec<(&str, &[u8], u32)> {
        let mut files = Vec::new();
        for step in steps {
            if let Step::Write { path, bytes, mode, .. } = step {
                files.push((path.as_str(), bytes.as_slice(), *mode));
            }
        }
        files
    }

    #[test]
    fn keys_are_asked_in_the_peers_order() {
        let mut source = Fake::vendor("v");
        gather(&Ctx::host([]), &mut source, NO_LIST).unwrap();
        assert_eq!(
            source.asked(),
            [
                "ipv4-public",
                "ipv6-public",
                "hostname",
                "ssh-key",
                "userdata-base/systemd-userdata",
                "userdata",
                "userdata-base64"
            ]
        );
    }

    #[test]
    fn defect_13_a_line_break_behind_an_address_is_accepted() {
        let source = Fake::vendor("v")
            .known(WellKnown::Ipv4Public, "203.0.113.7\n")
            .known(WellKnown::Ipv6Public, "2001:db8::7\r\n");
        let steps = steps(source, &Standing::default());
        let [Step::Write { path, bytes, mode: 0o644, .. }, _] = steps.as_slice() else {
            panic!("{steps:?}");
        };
        assert_eq!(path, ADDRESSES);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(
            text,
            "[{\"key\":{\"class\":1,\"type\":1,\"name\":\"_public\"},\"address\":[203,0,113,7]},\
             {\"key\":{\"class\":1,\"type\":28,\"name\":\"_public\"},\
             \"address\":[32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,7]}]\n"
        );
    }

    #[test]
    fn bad_addresses_are_told_and_are_no_failure() {
        let source = Fake::vendor("v")
            .known(WellKnown::Ipv4Public, "2001:db8::7")
            .fails(WellKnown::Ipv6Public, Failure::Timeout(String::new()));
        let standing =
            Standing { contents: [(ADDRESSES, b"old".to_vec())].into(), ..Standing::default() };
        let plan = Plan { steps: steps(source, &standing) };
        assert!(!plan.has_failed() && plan.is_noop(), "{plan:?}");
        assert_eq!(
            plan.steps[0].to_text(),
            "Failed to parse IP address '2001:db8::7': Invalid argument"
        );
    }

    #[test]
    fn a_service_that_says_nothing_is_not_asked_for_everything() {
        let silence = || Failure::Timeout(String::new());
        let silent = |source: Fake| {
            let keys = [WellKnown::Ipv6Public, WellKnown::Hostname, WellKnown::Userdata];
            keys.into_iter().fold(source, |source, key| source.fails(key, silence()))
        };
        let mut source = silent(Fake::vendor("v").fails(WellKnown::Ipv4Public, silence()));
        let gathered = gather(&Ctx::host([]), &mut source, NO_LIST).unwrap();
        assert_eq!(source.asked(), ["ipv4-public", "ipv6-public"]);
        assert!(matches!(gathered.userdata, Err(NoUserData::Failed(Failure::Timeout(_)))));
        assert!(plan(&gathered, &Standing::default()).has_failed());

        // One that has answered may be slow.
        let mut source = silent(Fake::vendor("v").known(WellKnown::Ipv4Public, "203.0.113.7"));
        gather(&Ctx::host([]), &mut source, NO_LIST).unwrap();
        assert!(source.asked().contains(&"userdata".to_owned()));
    }

    #[test]
    fn a_page_instead_of_an_address_does_not_fill_the_log() {
        let source = Fake::vendor("v").known(WellKnown::Ipv4Public, "<p>".repeat(1 << 20));
        let steps = steps(source, &Standing::default());
        assert!(steps[0].to_text().len() < 256);
    }

    #[test]
    fn an_address_that_is_gone_takes_its_file_along() {
        let standing =
            Standing { contents: [(ADDRESSES, b"old".to_vec())].into(), ..Standing::default() };
        let steps = steps(Fake::vendor("v"), &standing);
        assert_eq!(steps[0], Step::Remove { path: ADDRESSES.to_owned() });
    }

    #[test]
    fn defect_14_all_keys_of_a_known_provider_are_imported() {
        let mut source = Fake::vendor("v").known(WellKnown::SshKey, "first\r\n");
        let all = |_: &mut dyn Source| Ok(Some(vec!["first".to_owned(), "second".to_owned()]));
        let gathered = gather(&Ctx::host([]), &mut source, &all).unwrap();
        let plan = plan(&gathered, &Standing::default());
        assert_eq!(
            written(&plan.steps),
            [("/run/credstore/ssh.authorized_keys.root", &b"first\nsecond\n"[..], 0o400)]
        );
        assert!(!source.asked().contains(&"ssh-key".to_owned()));
        let raw = steps(source, &Standing::default());
        assert_eq!(written(&raw)[0].1, b"first\r\n");
    }

    #[test]
    fn defect_21_without_an_endpoint_the_status_is_6() {
        let failure = gather(&Ctx::host([]), &mut Fake::nowhere(), NO_LIST).err().unwrap();
        assert_eq!(Error::from(failure).status(), 6);
    }

    #[test]
    fn a_name_is_taken_once_and_the_first_one_stays() {
        let json = r#"{"systemd.credentials":[{"name":"a","text":"1"},{"name":"a","text":"2"},
            {"name":"firstboot.hostname","text":"x"},{"name":"a","encrypted":"AAEC"}]}"#;
        let source =
            Fake::vendor("v").known(WellKnown::Hostname, "h").known(WellKnown::Userdata, json);
        let steps = steps(source, &Standing::default());
        let credentials: Vec<_> = written(&steps)
            .into_iter()
            .filter(|(path, ..)| path.starts_with(STORE))
            .map(|(path, bytes, _)| (path, bytes.len()))
            .collect();
        assert_eq!(
            credentials,
            [
                ("/run/credstore/firstboot.hostname", 1),
                ("/run/credstore/a", 1),
                ("/run/credstore.encrypted/a", 3)
            ]
        );
        assert_eq!(steps.iter().filter(|step| matches!(step, Step::Skip { .. })).count(), 2);
    }

    #[test]
    fn a_plan_does_not_show_what_it_writes() {
        let source = Fake::vendor("v").known(
            WellKnown::Userdata,
            r#"{"systemd.credentials":[{"name":"a","text":"hunter2"}]}"#,
        );
        let steps = steps(source, &Standing::default());
        assert!(!format!("{steps:?}").contains("hunter2"));
        assert!(steps.iter().all(|step| !step.to_text().contains("hunter2")));
    }
}
