//! Metrics: what a socket unit starts this applet for.

use ::slipway::error::Result;
use ::slipway::imds::connect::{ConnectOptions, connect};
use ::slipway::imds::metrics;
use ::slipway::varlink::activation::Activation;

use crate::app::App;

/// Serves until the caller hangs up.
pub(super) fn serve(app: &mut App, activation: Activation) -> Result<u8> {
    let service = metrics::service(&app.ctx, |ctx| Ok(connect(ctx, &ConnectOptions::default())?))?;
    service.run(activation, None)?;
    Ok(0)
}
