//! The command line of every applet: one declaration, read as getopt does, shown as the peer does.
//!
//! An applet declares its options once, as a struct for argh, and gets from here the parser, the
//! help, `--version`, `--introspect-cli`, completions and the option table of its manual:
//!
//! ```ignore
//! pub(crate) static APPLET: Applet = Applet {
//!     names: &["update", "systemd-sysupdate", "sysupdate"],
//!     about: "Update the operating system",
//!     compat: Some("systemd-sysupdate"),
//!     manual: include_str!("manual.md"),
//!     section: 8,
//!     is_server: false,
//!     cli: || Command::of::<Args>()
//!         .verbs(VERBS)
//!         .shorthand('j', &["--json=auto"], "As --json=pretty or short", "json"),
//!     run,
//!     serve: None,
//! };
//!
//! /// Bring the system to another version.
//! #[derive(FromArgs, ArgsInfo)]
//! #[argh(help_triggers("-h", "--help"))]
//! struct Args {
//!     /// work on the system in this directory
//!     #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
//!     root: Option<PathBuf>,
//!     /// ask for signatures or not
//!     #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
//!     verify: Option<bool>,
//!     /// verb and operands
//!     #[argh(positional, greedy, hidden_help)]
//!     words: Vec<String>,
//! }
//!
//! static VERBS: &[Verb<Args>] = &[
//!     Verb::new("list", "Tell which versions there are", list)
//!         .operands("[VERSION]").words(0, 2).default(),
//! ];
//!
//! fn run(app: &mut App) -> Result<u8> {
//!     let args: Args = cli::parse(app)?;
//!     cli::dispatch_verb(app, VERBS, &args, &args.words)
//! }
//!
//! fn list(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> { … }
//! ```
//!
//! A value that names a file has the metavariable `PATH`, `DIR`, `FILE`, `DEVICE` or `IMAGE` and is
//! read by [`path()`]: then it may be any bytes. An option that is a list (`Vec`) gets all values,
//! the empty ones too; any other gets its last. Errors of values carry `{option}`, see `value.rs`.
//! Whatever the tool is called, `--help`, `--version` and `--introspect-cli` are there.
//!
//! Invariants: an argument may be any bytes and never makes the program panic; the help is at most
//! 80 columns wide and goes to standard output.
#![cfg_attr(
    not(any(test, feature = "update", feature = "repart")),
    expect(unused_imports, reason = "a build of a few applets needs a part of it")
)]
#![cfg_attr(
    not(any(test, feature = "update")),
    expect(dead_code, reason = "a build of a few applets needs a part of it")
)]

mod command;
pub(crate) mod complete;
mod getopt;
mod help;
mod introspect;
pub(crate) mod manual;
mod parse;
mod text;
mod value;
mod verb;
mod version;

pub(crate) use command::{Command, VerbInfo};
pub(crate) use getopt::Order;
pub(crate) use help::render as render_help;
pub(crate) use parse::{parse, parse_order};
pub(crate) use slipway::out::escape::line as printable;
#[cfg(any(feature = "varlinkctl", feature = "imds", feature = "repart"))]
pub(crate) use value::sentence;
pub(crate) use value::{boolean, json_mode, path};
#[cfg(any(
    test,
    feature = "update",
    feature = "imds",
    feature = "varlinkctl",
    not(feature = "repart")
))]
pub(crate) use verb::{Verb, dispatch_verb};
