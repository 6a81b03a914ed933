//! Varlink: what a socket unit starts this applet for.

use ::slipway::error::Result;
use ::slipway::repart::service;
use ::slipway::varlink::activation::Activation;

use crate::app::App;

/// Serves until the caller hangs up.
pub(super) fn serve(app: &mut App, activation: Activation) -> Result<u8> {
    service::service(&app.ctx)?.run(activation, None)?;
    Ok(0)
}
