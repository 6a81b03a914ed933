//! `imdsd` asks a cloud's metadata service: one key on the command line, or anything over Varlink.
//!
//! Why: it is the one program of a machine that talks to that service, so that tokens, caches,
//! retries and the choice of the network interface are in one place, and everybody else can be
//! locked out.
//!
//! - Stands in for: `systemd-imdsd`
//! - Reads: the environment, the kernel command line, credentials, SMBIOS, the udev and hardware
//!   databases. Writes: `$RUNTIME_DIRECTORY` (`/run/systemd/imds`); with `--setup-network`
//!   `/run/systemd/network/85-imds-early.network` and
//!   `/run/systemd/resolve/static.d/imds-endpoint.rr`, or routes and rules
//! - Exit status: 0 done; 6 no usable endpoint is known; 1 everything else

mod listen;
mod options;
mod setup;

use std::path::PathBuf;

use ::slipway::error::{Error, Result};
use ::slipway::imds::cache::runtime_directory;
use ::slipway::imds::endpoint;
use ::slipway::imds::engine::{CacheAt, Engine, EngineOptions, is_key};
use ::slipway::imds::model::{Endpoint, Mark, REFRESH_MIN, Request, SOCKET, WellKnown};
use ::slipway::imds::service;
use ::slipway::net;
use ::slipway::varlink::activation::Activation;
use argh::{ArgsInfo, FromArgs};
use options::{Header, Known, Name, Refresh};

use crate::app::{App, Applet};
use crate::cli::{self, Command};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["imdsd", "systemd-imdsd"],
    about: "Ask a cloud's metadata service, or serve it to others",
    compat: Some("systemd-imdsd"),
    manual: include_str!("manual.md"),
    section: 8,
    is_server: false,
    cli: command,
    run,
    serve: Some(serve),
};

fn command() -> Command {
    Command::of::<Args>()
        .usage(&["[OPTION…] KEY", "[OPTION…] --listen[=PATH]", "[OPTION…] --setup-network"])
        .shorthand('w', &["--wait=yes"], "As --wait=yes", "wait")
        .optional_value("listen", SOCKET)
}

/// Ask a cloud's metadata service for a key, or serve it over Varlink.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// ask through this network interface
    #[argh(option, short = 'i', arg_name = "INTERFACE", from_str_fn(options::interface))]
    interface: Option<Name>,
    /// greatest age of cached data, and lifetime of tokens (default: 15min)
    #[argh(option, arg_name = "SEC", from_str_fn(options::refresh))]
    refresh: Option<Refresh>,
    /// firewall mark of requests
    #[argh(option, arg_name = "INTEGER", from_str_fn(options::mark), default = "Mark::Default")]
    fwmark: Mark,
    /// use the cache (default: yes)
    #[argh(option, arg_name = "BOOL", from_str_fn(options::boolean), default = "true")]
    cache: bool,
    /// wait for addresses to appear (default: no)
    #[argh(option, arg_name = "BOOL", from_str_fn(options::boolean), default = "false")]
    wait: bool,
    /// ask for a well-known key
    #[argh(option, short = 'K', arg_name = "KEY", from_str_fn(options::well_known))]
    well_known: Option<Known>,
    /// make the service reachable early: write files for networkd and resolved
    #[argh(switch)]
    setup_network: bool,
    /// with --setup-network: change routes and rules of the kernel instead
    #[argh(switch)]
    apply: bool,
    /// with --setup-network: take back what that has done
    #[argh(switch)]
    remove: bool,
    /// with --setup-network: print what would be done and change nothing
    #[argh(switch)]
    dry_run: bool,
    /// the cloud's name
    #[argh(option, arg_name = "VENDOR")]
    vendor: Option<String>,
    /// where a token is from
    #[argh(option, arg_name = "URL", from_str_fn(options::url))]
    token_url: Option<String>,
    /// header for the lifetime of the token
    #[argh(option, arg_name = "NAME", from_str_fn(options::header_name))]
    refresh_header_name: Option<String>,
    /// what keys are appended to
    #[argh(option, arg_name = "URL", from_str_fn(options::url))]
    data_url: Option<String>,
    /// what is appended to keys
    #[argh(option, arg_name = "STRING", from_str_fn(options::suffix))]
    data_url_suffix: Option<String>,
    /// header for the token
    #[argh(option, arg_name = "NAME", from_str_fn(options::header_name))]
    token_header_name: Option<String>,
    /// one more header for requests
    #[argh(option, arg_name = "NAME: VALUE", from_str_fn(options::header))]
    extra_header: Vec<Header>,
    /// the service's IPv4 address
    #[argh(option, arg_name = "ADDRESS", from_str_fn(options::ipv4))]
    address_ipv4: Option<options::Address<std::net::Ipv4Addr>>,
    /// the service's IPv6 address
    #[argh(option, arg_name = "ADDRESS", from_str_fn(options::ipv6))]
    address_ipv6: Option<options::Address<std::net::Ipv6Addr>>,
    /// where the key of a well-known name is
    #[argh(option, arg_name = "NAME:KEY", from_str_fn(options::known_key))]
    well_known_key: Vec<options::KnownKey>,
    /// listen on a socket, for systems without socket activation
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    listen: Option<PathBuf>,
    /// key
    #[argh(positional, greedy, hidden_help)]
    words: Vec<String>,
}

/// Serves what a socket unit started us for. Options count as on the command line.
fn serve(app: &mut App, activation: Activation) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    let engine = Engine::new(&app.ctx, args.engine_options(app)?);
    service::service(&app.ctx, &engine)?.run(activation, None)?;
    Ok(0)
}

fn run(app: &mut App) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    args.check()?;
    if let Some(path) = &args.listen {
        // Nobody sets $RUNTIME_DIRECTORY where there is no systemd.
        let options = EngineOptions { cache: CacheAt::Auto, ..args.engine_options(app)? };
        return listen::run(app, Engine::new(&app.ctx, options), path);
    }
    if args.remove {
        return setup::remove(app, &args);
    }
    let request = if args.setup_network { None } else { Some(args.request()?) };
    let endpoint = endpoint::usable(endpoint::resolve(&app.ctx, &args.endpoint_options())?)?;
    let Some(request) = request else { return setup::run(app, &args, &endpoint) };
    let options = EngineOptions { known: Some(endpoint), ..args.engine_options(app)? };
    let reply = Engine::new(&app.ctx, options).ask(&request)?;
    // DIFFERS: the peer writes while it receives; what follows a part of a value would take it for
    // the whole.
    app.out.write(&reply.data)?;
    Ok(0)
}

/// An option's text; an empty one is as good as none.
fn given(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

impl Args {
    /// Refuses what does not go together.
    fn check(&self) -> Result<()> {
        let is_listening = self.listen.is_some();
        let text = if (is_listening || self.setup_network) && !self.words.is_empty() {
            "No argument expected."
        } else if is_listening && self.setup_network {
            "--listen and --setup-network may not be combined."
        } else if (self.apply || self.remove || self.dry_run) && !self.setup_network {
            "--apply, --remove and --dry-run go with --setup-network only."
        } else if self.apply && self.remove {
            "--apply and --remove may not be combined."
        } else {
            return Ok(());
        };
        Err(Error::new(text))
    }

    /// The interface that was named.
    fn interface_name(&self) -> Option<&str> {
        self.interface.as_ref().and_then(|name| name.0.as_deref())
    }

    /// What the operands ask for.
    fn request(&self) -> Result<Request> {
        let well_known = self.well_known.as_ref().and_then(|known| known.0);
        let key = match (self.words.as_slice(), well_known) {
            ([], Some(_)) => None,
            ([key], _) => Some(key),
            (_, Some(_)) => return Err(Error::new("At most a single argument expected.")),
            (_, None) => return Err(Error::new("A single argument expected.")),
        };
        if let Some(key) = key.filter(|key| !is_key(key)) {
            let text =
                format!("Specified IMDS key is not valid, refusing: {}", cli::printable(key));
            return Err(Error::new(text));
        }
        let refresh = self.refresh.as_ref().and_then(|refresh| refresh.0);
        if refresh.is_some_and(|refresh| refresh < REFRESH_MIN) {
            log::warn!("Increasing specified refresh time to 1s, lower values are not supported.");
        }
        Ok(Request {
            key: key.cloned(),
            well_known,
            interface: None,
            refresh,
            cache: Some(self.cache),
            mark: self.fwmark,
            wait: self.wait,
        })
    }

    /// What the options say about the endpoint.
    fn endpoint_options(&self) -> endpoint::Options {
        // An empty header gives up those before it.
        let clear = self.extra_header.iter().rposition(|header| header.0.is_empty());
        let headers = self.extra_header.iter().skip(clear.map_or(0, |at| at + 1));
        let keys = self.well_known_key.iter().filter_map(|key| key.0.clone());
        let endpoint = Endpoint {
            vendor: given(&self.vendor),
            token_url: given(&self.token_url),
            refresh_header_name: given(&self.refresh_header_name),
            data_url: given(&self.data_url),
            data_url_suffix: given(&self.data_url_suffix),
            token_header_name: given(&self.token_header_name),
            extra_headers: headers.map(|header| header.0.clone()).collect(),
            address_ipv4: self.address_ipv4.as_ref().and_then(|address| address.0),
            address_ipv6: self.address_ipv6.as_ref().and_then(|address| address.0),
            well_known: keys.filter(|(name, _)| *name != WellKnown::Base).collect(),
            ..Endpoint::default()
        };
        endpoint::Options { endpoint }
    }

    fn engine_options(&self, app: &App) -> Result<EngineOptions> {
        let interface = match self.interface_name() {
            None => None,
            Some(name) => Some(net::interface::resolve(name)?.index),
        };
        Ok(EngineOptions {
            endpoint: self.endpoint_options(),
            interface,
            cache: runtime_directory(&app.ctx).map_or(CacheAt::Memory, CacheAt::Directory),
            ..EngineOptions::default()
        })
    }
}
