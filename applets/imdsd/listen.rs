//! Listening without a service manager: the socket, its place in the registry, and their end.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use ::slipway::error::{Context, Error, Result};
use ::slipway::imds::cache::RUNTIME_DIR;
use ::slipway::imds::engine::Engine;
use ::slipway::imds::model::{INTERFACE, SOCKET};
use ::slipway::imds::service;
use ::slipway::notify::Notifier;
use ::slipway::sys::privilege::{self, CapabilitySet};
use ::slipway::sys::signal;
use ::slipway::varlink::activation::Activation;
use ::slipway::varlink::server::bind;

use crate::app::App;

/// Where services are found by the name of their interface.
const REGISTRY: &str = "/run/varlink/registry";

/// What ends the service.
enum End {
    Signal,
    Server(Result<()>),
}

/// Serves on a path until SIGTERM or SIGINT.
pub(super) fn run(app: &mut App, engine: Engine, path: &Path) -> Result<u8> {
    signal::set_pipe_ends_process(false);
    // Before there are threads: these signals are for the one that waits for them.
    let signals = signal::block_stops();
    let socket =
        bind(path, 0o666, true).context(|| format!("Failed to listen on '{}'", path.display()))?;
    let _traces = Traces::leave(app, path);
    drop_privileges(app);
    let service = service::service(&app.ctx, &engine)?;
    let (sender, ends) = mpsc::channel();
    let of_server = sender.clone();
    let start = |work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().spawn(work).context(|| "Failed to start a thread".to_owned())
    };
    start(Box::new(move || {
        let result = service.run(Activation::Listen(vec![socket]), None);
        let _ = of_server.send(End::Server(result));
    }))?;
    start(Box::new(move || {
        signals.wait();
        let _ = sender.send(End::Signal);
    }))?;
    let notifier = Notifier::from_ctx(&app.ctx);
    notifier.send(&[("READY", &1), ("STATUS", &format!("Listening on {}", path.display()))]);
    // Connections that are open end with the process.
    match ends.recv() {
        Ok(End::Signal) => {
            notifier.send(&[("STOPPING", &1)]);
            Ok(0)
        }
        Ok(End::Server(result)) => result.map(|()| 0),
        Err(_) => Err(Error::new("The server has ended without a word.")),
    }
}

/// Keeps what requests need: marks, low source ports, binding to an interface. Answers of the
/// network are read after that.
fn drop_privileges(app: &App) {
    let mut wanted =
        CapabilitySet::NET_ADMIN | CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_RAW;
    // A cache that belongs to the service's user of a socket unit is for both.
    let owner = std::fs::metadata(app.ctx.at(RUNTIME_DIR)).map(|status| status.uid());
    if owner.is_ok_and(|owner| owner != rustix::process::geteuid().as_raw()) {
        wanted |= CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN;
    }
    if let Err(err) = privilege::keep_only(wanted) {
        log::warn!("Failed to give up privileges, ignoring: {err}");
    }
}

/// What is in the file system as long as we listen.
struct Traces {
    /// The socket first.
    paths: Vec<PathBuf>,
    /// Device and inode of the socket. Who has come after us has put its own in that place.
    socket: Option<(u64, u64)>,
}

impl Traces {
    /// Makes the entry in the registry, where the service has its usual place.
    fn leave(app: &App, path: &Path) -> Self {
        let mut traces = Self { paths: vec![path.to_path_buf()], socket: identity(path) };
        if path != Path::new(SOCKET) {
            return traces;
        }
        let entry = app.ctx.at(REGISTRY).join(INTERFACE);
        let make = || {
            std::fs::create_dir_all(app.ctx.at(REGISTRY))?;
            match std::fs::remove_file(&entry) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err),
                _ => symlink(path, &entry),
            }
        };
        match make() {
            Ok(()) => traces.paths.push(entry),
            Err(err) => log::warn!("Failed to make '{}', ignoring: {err}", entry.display()),
        }
        traces
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if self.paths.first().and_then(|path| identity(path)) != self.socket {
            return;
        }
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let status = std::fs::symlink_metadata(path).ok()?;
    Some((status.dev(), status.ino()))
}
