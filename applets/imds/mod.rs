//! `imds` tells what the cloud says about this instance, and imports what the boot needs of it.
//!
//! Why: every cloud has a metadata service and none is like the other. This applet shows the
//! values that all have, one key, the user data, or everything; and it turns host name, SSH keys,
//! addresses and user data into the credentials and files that the rest of the boot reads.
//!
//! - Stands in for: `systemd-imds`
//! - Reads: `/run/systemd/io.systemd.InstanceMetadata`; where nobody listens there, the cloud's
//!   service itself. Writes: with `--import` `/run/credstore`, `/run/credstore.encrypted`,
//!   `/run/systemd/imds/userdata`, `/run/systemd/resolve/static.d/imds-public.rr`
//! - Exit status: 0 done; 1 failure, usage error, no such value; 6 no cloud is known here

mod import;
mod serve;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use ::slipway::conf::{timespan, value};
use ::slipway::error::{Error, Result};
use ::slipway::imds::connect::{ConnectOptions, connect};
use ::slipway::imds::model::STATUS_NOT_CONFIGURED;
use ::slipway::imds::normal::NAMES;
use ::slipway::imds::source::Wishing;
use ::slipway::imds::{Failure, Source, WellKnown};
use ::slipway::net::interface;
use ::slipway::out::json::Mode;
use argh::{ArgsInfo, FromArgs};

use crate::app::{App, Applet};
use crate::cli::{self, Command, Verb};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["imds", "systemd-imds"],
    about: "Show and import what the cloud says about this instance",
    compat: Some("systemd-imds"),
    manual: include_str!("manual.md"),
    section: 1,
    is_server: false,
    cli: || {
        Command::of::<Args>()
            .verbs(VERBS)
            .usage(&["[OPTION…] [KEY]", "[OPTION…] COMMAND"])
            .values("well-known", &WELL_KNOWN)
            .shorthand('j', &["--json=auto"], "As --json=pretty or short", "json")
    },
    run,
    serve: Some(serve::serve),
};

/// All words of `--well-known=`, for completion.
const WELL_KNOWN: [&str; 10] = [
    "base",
    "hostname",
    "region",
    "zone",
    "ipv4-public",
    "ipv6-public",
    "ssh-key",
    "userdata",
    "userdata-base",
    "userdata-base64",
];

/// Show and import what the cloud says about this instance.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// the key that has this meaning: hostname, region, zone, ipv4-public, ipv6-public, ssh-key,
    /// userdata, userdata-base, userdata-base64; "help" lists them
    #[argh(option, short = 'K', arg_name = "KEY")]
    well_known: Option<String>,
    /// oldest answer that will do
    #[argh(option, arg_name = "SEC", from_str_fn(refresh))]
    refresh: Option<Option<Duration>>,
    /// use the cache: yes, no, or auto (default)
    #[argh(option, arg_name = "BOOL", from_str_fn(cache))]
    cache: Option<Option<bool>>,
    /// print the user data, decoded
    #[argh(switch, short = 'u')]
    userdata: bool,
    /// write credentials and files for the rest of the boot
    #[argh(switch)]
    import: bool,
    /// with --import: print what would be done and change nothing
    #[argh(switch)]
    dry_run: bool,
    /// show values that mean the same on every cloud
    #[argh(switch, short = 'n')]
    normalized: bool,
    /// ask through this network interface
    #[argh(option, short = 'I', arg_name = "NAME")]
    interface: Option<String>,
    /// ask the service at this socket; nothing: ask the cloud directly
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    service: Option<PathBuf>,
    /// print JSON: pretty, short or off
    #[argh(option, arg_name = "FORMAT", from_str_fn(cli::json_mode), default = "Mode::Off")]
    json: Mode,
    /// key or verb
    #[argh(positional, greedy, hidden_help)]
    words: Vec<String>,
}

/// Keys begin with a slash, so no verb can hide one.
static VERBS: &[Verb<Args>] = &[
    Verb::new("dump", "Print everything known as JSON", show::dump).words(1, 1),
    Verb::new("env", "Print values as assignments for a shell", show::env).words(1, 1),
    Verb::new("list-providers", "Tell which clouds are known", show::list_providers).words(1, 1),
];

fn run(app: &mut App) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    if args.well_known.as_deref() == Some("help") {
        return show::names(app, &args).map(|()| 0);
    }
    let status = choose(app, &args);
    // DIFFERS: the peer ends with 1 where there is no endpoint, although its unit expects 6.
    match status {
        Err(error) if error.status() == STATUS_NOT_CONFIGURED && is_strict(app) => {
            Err(error.with_status(1))
        }
        other => other,
    }
}

fn choose(app: &mut App, args: &Args) -> Result<u8> {
    let name = args.name()?;
    if args.import || args.userdata {
        if !args.words.is_empty() {
            return Err(Error::new("No parameters expected."));
        }
        if args.import {
            return import::import(app, args);
        }
        return show::userdata(app, args);
    }
    if args.dry_run {
        return Err(Error::new("--dry-run is for --import."));
    }
    match args.words.as_slice() {
        [] => match name {
            None => show::summary(app, args),
            Some(name) => show::value(app, args, name, None),
        },
        [word, ..] if is_verb(word) => cli::dispatch_verb(app, VERBS, args, &args.words),
        [key] if is_key(key) => show::value(app, args, name.unwrap_or(Name::Raw), Some(key)),
        [key] => Err(Error::new(format!(
            "Specified IMDS key is not valid, refusing: {}",
            cli::printable(key)
        ))),
        _ => Err(Error::new("None or one argument expected.")),
    }
}

fn is_verb(word: &str) -> bool {
    word == "help" || VERBS.iter().any(|verb| verb.name() == word)
}

fn is_key(word: &str) -> bool {
    ::slipway::imds::engine::is_key(word)
}

/// True where the old ways are wanted.
fn is_strict(app: &App) -> bool {
    app.ctx.is_strict_compat()
}

/// What is asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name<'a> {
    /// By key only.
    Raw,
    /// As the cloud says it.
    WellKnown(WellKnown),
    /// With one meaning on every cloud.
    Normal(&'a str),
}

impl Args {
    /// The value of `--well-known=`; empty means none.
    fn name(&self) -> Result<Option<Name<'_>>> {
        let Some(word) = self.well_known.as_deref().filter(|word| !word.is_empty()) else {
            return Ok(None);
        };
        let known = WellKnown::parse(word);
        let is_normal = known.is_some_and(|known| !known.takes_key())
            || NAMES.contains(&word)
            || word == "ssh-keys"
            || word == "vendor-data";
        match known {
            _ if self.normalized && is_normal => Ok(Some(Name::Normal(word))),
            Some(known) => Ok(Some(Name::WellKnown(known))),
            None => Err(Error::new(format!(
                "Failed to parse --well-known= argument: {}",
                cli::printable(word)
            ))
            .with_errno(22)),
        }
    }

    /// Finds somebody to ask.
    fn connect(&self, app: &App) -> Result<Box<dyn Source>> {
        let options = ConnectOptions {
            is_local: self.service.as_ref().is_some_and(|path| path.as_os_str().is_empty()),
            socket: self.service.clone().filter(|path| !path.as_os_str().is_empty()),
            ..ConnectOptions::default()
        };
        Ok(connect(&app.ctx, &options)?)
    }

    /// Asks somebody with the wishes of the command line.
    fn with_source<T>(
        &self,
        app: &App,
        ask: impl FnOnce(&mut dyn Source) -> Result<T>,
    ) -> Result<T> {
        let interface = match self.interface.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Some(interface::resolve(name)?.index),
            None => None,
        };
        let mut source = self.connect(app)?;
        ask(&mut Wishing {
            source: source.as_mut(),
            interface,
            refresh: self.refresh.flatten(),
            cache: self.cache.flatten(),
        })
    }
}

/// `--refresh=`; empty means as if it were not there.
fn refresh(text: &str) -> Result<Option<Duration>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match timespan::parse(text) {
        Ok(Some(time)) => Ok(Some(time)),
        // The longest that fits into the service's microseconds.
        Ok(None) => Ok(Some(Duration::from_micros(i64::MAX.unsigned_abs()))),
        Err(_) => Err(cli::sentence(&format!("Failed to parse refresh timeout: {text}"))),
    }
}

/// `--cache=`; `auto` leaves it to the service.
fn cache(text: &str) -> Result<Option<bool>, String> {
    if matches!(text, "" | "auto") {
        return Ok(None);
    }
    value::tristate(text)
        .map_err(|_| format!("Failed to parse tristate argument to '{{option}}=': {text}"))
}

/// COMPAT(262): a name without a key and a key that the cloud does not have are told alike.
fn absent(failure: Failure, text: &str) -> Error {
    if failure.is_absent() { Error::new(text) } else { failure.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_knows_every_well_known_name() {
        assert_eq!(WellKnown::ALL.map(WellKnown::name), WELL_KNOWN);
    }

    #[test]
    fn no_verb_could_be_a_key() {
        assert!(VERBS.iter().all(|verb| !is_key(verb.name())));
    }

    #[test]
    fn empty_values_reset_and_infinity_is_the_longest_there_is() {
        assert_eq!(refresh(""), Ok(None));
        assert_eq!(refresh("90"), Ok(Some(Duration::from_secs(90))));
        assert!(refresh("infinity").unwrap() > refresh("100y").unwrap());
        assert_eq!((cache("auto"), cache("no")), (Ok(None), Ok(Some(false))));
    }
}
