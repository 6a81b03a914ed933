//! `slipway` selects the other applets and prints what packages need: links, completions, manuals.
//!
//! Why: one file is copied to a machine; everything else a user or a packager needs comes out of
//! that file.
//!
//! - Stands in for: nothing, ours
//! - Reads: nothing. Writes: links with `--install`, files with `--generate=… --output=`
//! - Exit status: that of the applet; 0 done, 1 failure or usage error, 127 unknown applet

use std::path::PathBuf;

use ::slipway::error::{Context, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;

use crate::app::{App, Applet};
use crate::cli::{self, Command, Order};
use crate::{APPLETS, dispatch};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["slipway"],
    about: "The machine's life in one executable",
    compat: None,
    manual: include_str!("manual.md"),
    section: 1,
    is_server: false,
    cli,
    run,
    serve: None,
};

/// Run one of the applets, or set this executable up.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// list the applets: their names, or the paths of links to them
    #[argh(option, arg_name = "WHAT")]
    list: Option<String>,

    /// operate on an alternate filesystem root
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    root: Option<PathBuf>,
}

fn cli() -> Command {
    Command::of::<Args>()
        .usage(&["[OPTION…] APPLET [ARGUMENT…]", "[OPTION…] --install [DIR]"])
        .optional_value("list", "names")
}

fn run(app: &mut App) -> Result<u8> {
    let (args, mut rest): (Args, _) = cli::parse_order(app, Order::First)?;
    if args.list.is_some() {
        let names: Vec<&str> = APPLETS.iter().flat_map(|a| a.names).copied().collect();
        writeln!(app.out, "{}", names.join("\n")).context(cli::failed_write)?;
        return Ok(0);
    }
    if rest.is_empty() {
        return Ok(1);
    }
    let name = rest.remove(0).to_string_lossy().into_owned();
    let Some(applet) = dispatch::find(&name) else { return Err(dispatch::unknown(&name)) };
    let mut ctx = app.ctx.clone();
    if let Some(root) = args.root {
        ctx = ctx.with_root(root);
    }
    let (_, result) = dispatch::run(applet, name.clone(), format!("slipway {name}"), rest, ctx);
    result
}
