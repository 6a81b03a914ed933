//! What an applet is to the binary, and what the binary is to a running applet.

use std::ffi::OsString;

use ::slipway::ctx::Ctx;
use ::slipway::error::Result;
use ::slipway::out::Out;
use ::slipway::varlink::activation::Activation;

use crate::cli::Command;

/// One row of the applet table.
pub(crate) struct Applet {
    /// The canonical name, then every other name that selects the applet.
    pub(crate) names: &'static [&'static str],
    /// One line for `slipway --help` and the manual's NAME section; no final stop.
    pub(crate) about: &'static str,
    /// The peer's tool, or the verb of one, that this one can replace.
    pub(crate) compat: Option<&'static str>,
    /// The manual, in Markdown.
    pub(crate) manual: &'static str,
    /// Section of the manual: 1 for what everybody runs, 8 for administrators.
    pub(crate) section: u8,
    /// True for an applet that writes to sockets for others: SIGPIPE stays ignored, as one client
    /// that hangs up must not end the server.
    pub(crate) is_server: bool,
    /// The options and verbs, for parsing, help, completions and introspection.
    pub(crate) cli: fn() -> Command,
    /// Runs it and returns the exit status.
    pub(crate) run: fn(&mut App) -> Result<u8>,
    /// What to run instead, arguments unread, when the service manager passed a socket named
    /// `varlink` or somebody wants the applet to serve Varlink on a path.
    pub(crate) serve: Option<fn(&mut App, Activation) -> Result<u8>>,
}

impl Applet {
    /// The name the manual and the listings use.
    pub(crate) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// True for the applet that selects the others.
    pub(crate) fn is_multiplexer(&self) -> bool {
        self.name() == "slipway"
    }

    /// The manual page: `slipway.1`, `slipway-update.8`.
    pub(crate) fn page(&self) -> String {
        if self.is_multiplexer() {
            self.name().to_owned()
        } else {
            format!("slipway-{}", self.name())
        }
    }
}

/// A running applet's view of the process.
pub(crate) struct App {
    /// The row that was selected.
    pub(crate) applet: &'static Applet,
    /// The outside world.
    pub(crate) ctx: Ctx,
    /// The answer's stream, and what is known about the terminal.
    pub(crate) out: Out,
    /// The name the applet was called by; prefix of messages about options.
    pub(crate) program: String,
    /// How a user types it: `systemd-sysupdate` or `slipway update`.
    pub(crate) invocation: String,
    /// The arguments after the name.
    pub(crate) args: Vec<OsString>,
}
