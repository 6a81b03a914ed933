//! The multi-call binary: one executable, many tools, one table.
//!
//! The name it is called by, or its first argument, selects a row of [`APPLETS`]; `dispatch` does
//! the selecting. Adding an applet is one `mod` line and one row here, in sorted order.

mod app;
mod cli;
mod dispatch;
#[cfg(feature = "imds")]
mod imds;
#[cfg(feature = "imds")]
mod imds_generator;
#[cfg(feature = "imds")]
mod imdsd;
#[cfg(feature = "repart")]
mod repart;
mod slipway;
#[cfg(feature = "update")]
mod update;
#[cfg(feature = "varlinkctl")]
mod varlinkctl;
#[cfg(feature = "vercmp")]
mod vercmp;

use std::process::ExitCode;

use app::Applet;

/// Every applet of this build, sorted by canonical name.
static APPLETS: &[&Applet] = &[
    #[cfg(feature = "imds")]
    &imds::APPLET,
    #[cfg(feature = "imds")]
    &imds_generator::APPLET,
    #[cfg(feature = "imds")]
    &imdsd::APPLET,
    #[cfg(feature = "repart")]
    &repart::APPLET,
    &slipway::APPLET,
    #[cfg(feature = "update")]
    &update::APPLET,
    #[cfg(feature = "varlinkctl")]
    &varlinkctl::APPLET,
    #[cfg(feature = "vercmp")]
    &vercmp::APPLET,
];

fn main() -> ExitCode {
    dispatch::main()
}
