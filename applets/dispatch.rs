//! From `argv[0]` to an applet to an exit status.
//!
//! The name is compared whole: without its directory and without the dash of a login shell, it is
//! a name of the table or it is not. `slipway`, `slipway-ANYTHING` and no name at all select by the
//! first argument, and so does any other name if that argument is an applet; else status 127.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use ::slipway::ctx::Ctx;
use ::slipway::error::{Context, Error, Result};

use crate::app::{App, Applet};
use crate::{APPLETS, cli, slipway};

/// What the kernel's exec would have said: no such program.
const UNKNOWN_APPLET: u8 = 127;

/// Runs what the arguments say.
pub(crate) fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let ctx = Ctx::host(std::env::vars_os());

    let program = basename(&name);
    if let Some(applet) = find(&program) {
        return finish(run(applet, program.clone(), program, args, ctx));
    }
    if is_multiplexer(&program) || args.first().and_then(|arg| find_os(arg)).is_some() {
        let program = slipway::APPLET.name().to_owned();
        return finish(run(&slipway::APPLET, program.clone(), program, args, ctx));
    }
    finish((slipway::APPLET.name().to_owned(), Err(unknown(&program))))
}

/// Looks for an applet by any of its names.
pub(crate) fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().copied().find(|applet| applet.names.contains(&name))
}

/// As [`find`], for what may not be text.
pub(crate) fn find_os(name: &OsStr) -> Option<&'static Applet> {
    name.to_str().and_then(find)
}

/// The refusal of a name that is not in the table.
pub(crate) fn unknown(name: &str) -> Error {
    Error::new(format!("No applet '{}' in this build", cli::printable(name)))
        .hint("'slipway --list' names the applets")
        .with_status(UNKNOWN_APPLET)
}

/// The last component of a program's name without the dash that login(1) puts in front.
fn basename(name: &OsStr) -> String {
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    base.strip_prefix('-').unwrap_or(&base).to_owned()
}

fn is_multiplexer(program: &str) -> bool {
    program.is_empty() || program.starts_with("slipway-") || program.starts_with("slipway.")
}

/// Runs one applet; the answer comes with the name for messages.
pub(crate) fn run(
    applet: &'static Applet,
    program: String,
    invocation: String,
    args: Vec<OsString>,
    ctx: Ctx,
) -> (String, Result<u8>) {
    if !applet.is_server {
        ::slipway::sys::signal::restore_pipe();
    }
    let out = Box::new(io::BufWriter::new(io::stdout()));
    let mut app = App { applet, ctx, out, program, invocation, args };
    let result = (applet.run)(&mut app);
    let flushed = app.out.flush().context(cli::failed_write);
    let result = match (result, flushed) {
        (Ok(_), Err(err)) => Err(err),
        (result, _) => result,
    };
    (app.program, result)
}

/// Shows an error and turns the answer into the process's status.
fn finish((_program, result): (String, Result<u8>)) -> ExitCode {
    let status = result.unwrap_or_else(|err| {
        if !err.is_silent() {
            let mut text = format!("{err}\n");
            for hint in err.hints() {
                text.push_str(&format!("Hint: {hint}\n"));
            }
            // Nobody is left to tell when standard error is gone.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        err.status()
    });
    ExitCode::from(status)
}

/// One line instead of Rust's three.
fn report_panic(info: &std::panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = cli::printable(text.unwrap_or("unknown reason"));
    let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
    let _ = writeln!(io::stderr(), "slipway: internal error{place}: {text}; please report it");
}
