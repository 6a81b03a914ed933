//! `varlinkctl` looks at Varlink services and calls their methods.
//!
//! Why: machines without systemd have no other client at hand, and the same command line works
//! against ours and the peer's services.
//!
//! - Stands in for: `varlinkctl` of systemd 262.1
//! - Reads: the service registry below `/run/varlink/registry`. Writes: nothing
//! - Exit status: 0 done, or an error that `--graceful=` expects; 1 failure, an error the service
//!   returned, or usage; with `--exec` that of the command

mod call;
mod inspect;
mod position;
mod registry;
mod serve;

use std::time::Duration;

use ::slipway::conf::timespan;
use ::slipway::conf::value::unsigned;
use ::slipway::error::{Error, Result};
use ::slipway::out::json::Mode;
use ::slipway::varlink::CALL_TIMEOUT;
use ::slipway::varlink::client::Client;
use ::slipway::varlink::idl::split_method;
use argh::{ArgsInfo, FromArgs};

use crate::app::{App, Applet};
use crate::cli::{self, Command, Verb};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["varlinkctl"],
    about: "Look at Varlink services and call them",
    compat: Some("varlinkctl"),
    manual: include_str!("manual.md"),
    section: 1,
    is_server: false,
    cli,
    run,
    serve: None,
};

/// Look at Varlink services and call their methods.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// accepted; nobody asks for a password here
    #[argh(switch)]
    no_ask_password: bool,

    /// accepted; there is no pager
    #[argh(switch)]
    no_pager: bool,

    /// list the services of the system (default)
    #[argh(switch)]
    system: bool,

    /// list the services of the calling user
    #[argh(switch)]
    user: bool,

    /// ask for any number of replies
    #[argh(switch)]
    more: bool,

    /// ask for any number of replies, print one array
    #[argh(switch)]
    collect: bool,

    /// ask for no reply at all
    #[argh(switch)]
    oneway: bool,

    /// print JSON: pretty, short or off
    #[argh(option, arg_name = "FORMAT", from_str_fn(cli::json_mode), default = "Mode::Off")]
    json: Mode,

    /// do not print replies
    #[argh(switch, short = 'q')]
    quiet: bool,

    /// take this error of the service for success
    #[argh(option, arg_name = "ERROR", from_str_fn(error_name))]
    graceful: Vec<String>,

    /// how long to wait for a reply, 45s by default
    #[argh(
        option,
        arg_name = "SECS",
        from_str_fn(timeout),
        default = "Timeout(Some(CALL_TIMEOUT))"
    )]
    timeout: Timeout,

    /// after the reply, connect standard input and output with the service
    #[argh(switch)]
    upgrade: bool,

    /// run a command with the reply as its standard input
    #[argh(switch)]
    exec: bool,

    /// send this descriptor or file with the call
    #[argh(option, arg_name = "FD", from_str_fn(pushed))]
    push_fd: Vec<Pushed>,

    /// verb and operands
    #[argh(positional, greedy, hidden_help)]
    words: Vec<String>,
}

/// How long to wait; `None` is for ever.
struct Timeout(Option<Duration>);

/// What `--push-fd=` names.
enum Pushed {
    /// A descriptor we were started with.
    Number(i32),
    /// A file to be opened.
    File(String),
}

static VERBS: &[Verb<Args>] = &[
    Verb::new("info", "Tell what a service is", inspect::info).operands("ADDRESS").words(2, 2),
    Verb::new("list-interfaces", "List its interfaces", inspect::interfaces)
        .operands("ADDRESS")
        .words(2, 2),
    Verb::new("introspect", "Print the definition of interfaces", inspect::introspect)
        .operands("ADDRESS [INTERFACE…]")
        .words(2, 0),
    Verb::new("list-methods", "List the methods of interfaces", inspect::methods)
        .operands("ADDRESS [INTERFACE…]")
        .words(2, 0),
    Verb::new("call", "Call a method", call::run).operands("ADDRESS METHOD [PARAMS]").words(3, 0),
    Verb::new("validate-idl", "Check an interface definition and print it", inspect::validate)
        .operands("[FILE]")
        .words(1, 2),
    Verb::new("list-registry", "List the registered services", registry::services).words(0, 1),
    Verb::new("list-sockets", "List the sockets marked as entry points", registry::sockets)
        .words(0, 1),
    Verb::new("serve", "Run a command for those who upgrade", serve::run)
        .operands("METHOD CMDLINE…")
        .words(3, 0),
    Verb::help("Show this help"),
];

fn cli() -> Command {
    Command::of::<Args>()
        .verbs(VERBS)
        .shorthand(
            'j',
            &["--json=auto"],
            "As --json=pretty on a terminal, else --json=short",
            "json",
        )
        .shorthand(
            'E',
            &["--more", "--timeout=infinity"],
            "As --more --timeout=infinity",
            "timeout",
        )
        .postscript(
            "The command of --exec stands behind the call:\n  \
             varlinkctl --exec call ADDRESS METHOD PARAMS -- CMDLINE…",
        )
}

fn run(app: &mut App) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    // Accepted for scripts: there is no pager here and nobody to ask for a password.
    let _ = (args.no_pager, args.no_ask_password);
    cli::dispatch_verb(app, VERBS, &args, &args.words)
}

/// The value of `--timeout=`: nothing and `infinity` mean for ever.
fn timeout(value: &str) -> Result<Timeout, String> {
    if value.is_empty() {
        return Ok(Timeout(None));
    }
    match timespan::parse(value) {
        Ok(Some(time)) if time.is_zero() => Err(cli::sentence("Timeout cannot be zero.")),
        Ok(time) => Ok(Timeout(time)),
        Err(bad) => Err(bad.to_string()),
    }
}

/// The value of `--graceful=`.
fn error_name(value: &str) -> Result<String, String> {
    match split_method(value) {
        Some(_) => Ok(value.to_owned()),
        None => Err(cli::sentence(&format!("Not a valid Varlink error name: {value}"))),
    }
}

/// The value of `--push-fd=`.
fn pushed(value: &str) -> Result<Pushed, String> {
    if value.starts_with('/') || value.starts_with("./") {
        return Ok(Pushed::File(value.to_owned()));
    }
    let number = unsigned(value).ok().and_then(|number| i32::try_from(number).ok());
    let refusal = || format!("Failed to parse {{option}}= parameter: {value}");
    number.map(Pushed::Number).ok_or_else(refusal)
}

/// Connects to the service that an operand names.
fn connect(app: &App, args: &Args, address: &str) -> Result<Client> {
    let mut client = Client::connect_to(&app.ctx, address)?;
    client.set_timeout(args.timeout.0);
    Ok(client)
}

/// An operand that has to be there, as the verb table has checked.
fn operand(operands: &[String], index: usize) -> Result<&str> {
    operands.get(index).map(String::as_str).ok_or_else(|| Error::new("Too few arguments."))
}
