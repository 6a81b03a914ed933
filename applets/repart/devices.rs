//! `--list-devices` and `--tpm2-device=list`.

use std::fs;

use ::slipway::error::Result;
use ::slipway::out::json::Mode;
use ::slipway::out::table::Table;
use ::slipway::out::{Color, escape};
use ::slipway::repart::candidates::{self, Filter};

use crate::app::App;

/// One node per line, its other names below it.
pub(super) fn list(app: &App) -> Result<u8> {
    let facts = app.out.facts();
    // The names are set off for people; programs read all lines alike.
    let indent = if facts.is_stdout_tty { "    " } else { "" };
    for candidate in candidates::list(&app.ctx, &Filter::default())? {
        app.out.line(&escape::line(&candidate.node.to_string_lossy()))?;
        for link in &candidate.symlinks {
            let link = facts.colors.paint(Color::Grey, &escape::line(link));
            app.out.line(&format!("{indent}{link}"))?;
        }
    }
    Ok(0)
}

/// The TPMs of this machine.
pub(super) fn list_tpms(app: &App) -> Result<u8> {
    let mut table = Table::new(&["path", "device", "driver"]);
    let mut names: Vec<_> = fs::read_dir(app.ctx.sys("class/tpmrm"))
        .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default();
    names.sort_unstable();
    for name in names {
        let device = app.ctx.sys("class/tpmrm").join(&name).join("device/device");
        let last = |path: std::path::PathBuf| {
            let path = fs::canonicalize(path).ok()?;
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        table.row([
            format!("/dev/{}", name.to_string_lossy()).into(),
            last(device.clone()).into(),
            last(device.join("driver")).into(),
        ]);
    }
    if table.is_empty() {
        log::info!("No suitable TPM2 devices found.");
        return Ok(0);
    }
    app.out.table(&table, Mode::Off, true).map(|()| 0)
}
