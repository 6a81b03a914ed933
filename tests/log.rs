//! The log as a process sees it. One test, because a process has one log.

use slipway::ctx::Ctx;
use slipway::error::Error;
use slipway::out::{Facts, Out};

#[test]
fn own_messages_are_told_and_those_of_libraries_only_to_who_debugs() {
    let ctx = Ctx::host([])
        .with_env("SYSTEMD_LOG_LEVEL", "bogus")
        .with_env("SYSTEMD_LOG_TARGET", "console-prefixed");
    let (out, captured) = Out::captured(Facts::default());
    slipway::log::init(&ctx, &out);
    log::error!(target: "rustls::client", "alert");
    log::warn!(target: "ureq", "retry");
    log::info!(target: "slipway::update", "info");
    log::debug!(target: "slipway::update", "debug");
    log::info!(target: slipway::log::NOTICE, "notice");
    slipway::log::report(&Error::errno_because("Failed to open '\x1b[2J'", 2).hint("look there"));
    slipway::log::report(&Error::silent(3));
    assert_eq!(
        captured.stderr(),
        "<28>Failed to parse log level 'bogus', ignoring: Invalid argument\n\
         <30>info\n\
         <29>notice\n\
         <27>Failed to open '\\x1b[2J': No such file or directory\n\
         <27>Hint: look there\n"
    );
    assert_eq!(captured.stdout(), "");
}
