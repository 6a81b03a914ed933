//! `--setup-network`: the early network and the barrier, as files for systemd's daemons or straight
//! into the kernel.

use ::slipway::conf::cmdline::{self, Cmdline};
use ::slipway::error::Result;
use ::slipway::imds::model::Endpoint;
use ::slipway::imds::network::{self, Mode, State};
use ::slipway::net;

use super::Args;
use crate::app::App;

/// Plans, and does so or shows the plan.
pub(super) fn run(app: &App, args: &Args, endpoint: &Endpoint) -> Result<u8> {
    let mode = Mode::from_cmdline(&Cmdline::effective(&app.ctx)?, cmdline::is_initrd(&app.ctx));
    if args.apply {
        let interface = args.interface_name().map(net::interface::resolve).transpose()?;
        let plan = network::plan_routes(endpoint, mode, interface.as_ref(), &State::read()?);
        if args.dry_run {
            app.out.print(&plan.to_string())?;
        } else {
            network::apply_routes(&plan)?;
        }
        return Ok(0);
    }
    let plan = network::plan_files(endpoint, mode);
    if args.dry_run {
        app.out.print(&plan.to_string())?;
    } else {
        network::apply_files(&app.ctx, &plan)?;
    }
    Ok(0)
}

/// Takes back what [`run`] has done, whichever way. Needs no endpoint.
pub(super) fn remove(app: &App, args: &Args) -> Result<u8> {
    if args.dry_run {
        app.out.print(&network::plan_removal(&State::read()?).to_string())?;
        return Ok(0);
    }
    network::remove_files(&app.ctx)?;
    network::remove_routes()?;
    Ok(0)
}
