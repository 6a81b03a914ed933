//! Which services there are on this machine.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use ::slipway::error::{Context, Error, Result};
use ::slipway::net::unix;
use ::slipway::out::Color;
use ::slipway::out::json::Mode;
use ::slipway::out::table::{Cell, Table};
use ::slipway::varlink::idl::is_interface_name;
use ::slipway::varlink::xattr;
use log::warn;
use nix::libc;

use super::Args;
use crate::app::App;

/// Where units and packages put links to the sockets of their services.
const REGISTRY: &str = "/run/varlink/registry";

pub(super) fn services(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    let folder = if args.user && !args.system {
        let runtime = app.ctx.env_os("XDG_RUNTIME_DIR").ok_or_else(|| {
            Error::errno_because("Failed to determine registry path", libc::ENXIO)
        })?;
        PathBuf::from(runtime).join("varlink/registry")
    } else {
        app.ctx.at(REGISTRY)
    };
    let mut table = Table::new(&["interface", "entrypoint"]);
    for name in names(&folder)? {
        let path = folder.join(&name);
        let target = match path.canonicalize().and_then(|target| Ok((target.metadata()?, target))) {
            Ok((meta, target)) if meta.file_type().is_socket() => target,
            Ok(_) => {
                skip(&path, &std::io::Error::from_raw_os_error(libc::ENOTSOCK));
                continue;
            }
            Err(err) => {
                skip(&path, &err);
                continue;
            }
        };
        let address = format!("unix:{}", target.display());
        table.row([name.into(), address.into()]);
    }
    print(app, args, &table, "registered services", "No services registered.")
}

fn skip(path: &std::path::Path, err: &std::io::Error) {
    let reason = ::slipway::error::IoText(err);
    warn!("Failed to resolve '{}', skipping: {reason}", path.display());
}

/// The sorted names of links and sockets that can be interfaces.
fn names(folder: &std::path::Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => {
            return Err(Error::because(format!("Failed to open '{}'", folder.display()), err));
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.context(|| format!("Failed to read '{}'", folder.display()))?;
        let kind =
            entry.file_type().context(|| format!("Failed to read '{}'", folder.display()))?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if (kind.is_symlink() || kind.is_socket()) && is_interface_name(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn sockets(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    let is_supported = xattr::is_supported()
        .context(|| "Failed to check for extended attributes on sockets".to_owned())?;
    if !is_supported {
        return Err(Error::new(
            "This kernel does not support extended attributes on socket inodes, cannot enumerate \
             Varlink sockets.",
        ));
    }
    let mut paths =
        unix::listening_paths().context(|| "Failed to issue AF_UNIX socket dump".to_owned())?;
    paths.retain(|path| xattr::is_entrypoint(path));
    paths.sort_unstable();
    paths.dedup();
    let mut table = Table::new(&["path", "access"]);
    for path in paths {
        let may = rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).is_ok();
        let text = path.to_string_lossy().into_owned();
        let color = if may { Color::HighlightGreen } else { Color::HighlightRed };
        let access = Cell::from(if may { "yes" } else { "no" }).colored(color);
        table.row([text.into(), access]);
    }
    print(app, args, &table, "entrypoint sockets", "No sockets found.")
}

fn print(app: &App, args: &Args, table: &Table<'_>, what: &str, nothing: &str) -> Result<u8> {
    if args.json == Mode::Off && table.is_empty() {
        app.out.line(nothing)?;
        return Ok(0);
    }
    app.out.table(table, args.json, true)?;
    if args.json == Mode::Off {
        // COMPAT(262): also for one.
        app.out.print(&format!("\n{} {what} listed.\n", table.len()))?;
    }
    Ok(0)
}
