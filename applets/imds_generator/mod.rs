//! `imds-generator` tells whether this machine has a metadata service, and what that starts.
//!
//! Why: the units of `imdsd` must not run where there is no cloud, and nobody wants to say by hand
//! where there is one. systemd runs this at boot as a generator; any other init asks it.
//!
//! - Stands in for: `systemd-imds-generator`
//! - Reads: SMBIOS, the provider table, the hardware database, the kernel command line. Writes:
//!   links and drop-ins below the directory for early units; with `--print` nothing
//! - Exit status: 0 done; with `--print` 0 enabled, 1 not or failure; 234 wrong number of arguments

use std::path::{Path, PathBuf};

use ::slipway::error::{Error, Result};
use ::slipway::fs::Files;
use ::slipway::imds::generator::{apply, decide, plan};
use argh::{ArgsInfo, FromArgs};

use crate::app::{App, Applet};
use crate::cli::{self, Command};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["imds-generator", "systemd-imds-generator"],
    about: "Start what a machine in a cloud needs at boot",
    compat: Some("systemd-imds-generator"),
    manual: include_str!("manual.md"),
    section: 8,
    is_server: false,
    cli: || Command::of::<Args>().usage(&["DIRECTORY", "NORMAL-DIR EARLY-DIR LATE-DIR", "--print"]),
    run,
    serve: None,
};

/// What the peer returns for a wrong number of arguments.
const STATUS_ARGUMENTS: u8 = 234;

/// Start what a machine in a cloud needs at boot.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// write nothing, print the units instead; the exit status is 1 where there are none
    #[argh(switch)]
    print: bool,

    /// one directory, or three of which the second is used
    #[argh(positional, arg_name = "DIRECTORY", from_str_fn(cli::path), hidden_help)]
    directories: Vec<PathBuf>,
}

fn run(app: &mut App) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    if args.print {
        if !args.directories.is_empty() {
            return Err(Error::new("--print takes no arguments.").with_status(STATUS_ARGUMENTS));
        }
        return print(app);
    }
    let directory: &Path = match args.directories.as_slice() {
        [only] => only,
        [_, early, _] => early,
        _ => {
            let text = "This program takes one or three arguments.";
            return Err(Error::new(text).with_status(STATUS_ARGUMENTS));
        }
    };
    let decision = decide(&app.ctx)?;
    if decision.is_enabled {
        log::info!("IMDS support enabled, pulling in IMDS units.");
    }
    apply(&app.ctx, &Files::default(), directory, &plan(&decision))?;
    Ok(0)
}

/// One unit a line.
fn print(app: &mut App) -> Result<u8> {
    let decision = decide(&app.ctx)?;
    let units: String = plan(&decision).links.iter().map(|(_, unit)| format!("{unit}\n")).collect();
    app.out.print(&units)?;
    Ok(u8::from(!decision.is_enabled))
}
