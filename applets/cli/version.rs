//! `--version`: the release and what this build contains.

use slipway::error::Result;

use crate::app::App;

/// The release.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The peer's release whose behavior the applets with a peer follow.
pub(crate) const PEER: &str = "systemd 262";

/// Every feature a build may have, with a plus or a minus as in the peer's list.
pub(crate) const FEATURES: &[&str] = &[
    if cfg!(feature = "imds") { "+IMDS" } else { "-IMDS" },
    if cfg!(feature = "luks") { "+LUKS" } else { "-LUKS" },
    if cfg!(feature = "openpgp") { "+OPENPGP" } else { "-OPENPGP" },
    if cfg!(feature = "repart") { "+REPART" } else { "-REPART" },
    if cfg!(feature = "tls") { "+TLS" } else { "-TLS" },
    if cfg!(feature = "update") { "+UPDATE" } else { "-UPDATE" },
    if cfg!(feature = "varlinkctl") { "+VARLINKCTL" } else { "-VARLINKCTL" },
    if cfg!(feature = "vercmp") { "+VERCMP" } else { "-VERCMP" },
    if cfg!(feature = "verity-sign") { "+VERITY-SIGN" } else { "-VERITY-SIGN" },
];

/// Prints the release and the features, one line each.
///
/// DIFFERS: the peer's first line is `systemd 262 (262.1-1)`. A script that asks for the release of
/// systemd should learn that it talks to something else; the line names the compatible release.
pub(super) fn print(app: &mut App) -> Result<()> {
    let peer = app.applet.compat.map(|_| format!(" (compatible with {PEER})")).unwrap_or_default();
    app.out.print(&format!("slipway {VERSION}{peer}\n{}\n", FEATURES.join(" ")))
}
