//! Serving a command: whoever upgrades the connection talks to its standard input and output.

use std::process::{Command, Stdio};

use ::slipway::error::{Context, Error, Result};
use ::slipway::varlink::activation;
use ::slipway::varlink::idl::split_method;
use ::slipway::varlink::server::{Answer, Service};
use ::slipway::varlink::wire::Raw;
use serde_json::Map;

use super::{Args, operand};
use crate::app::App;

pub(super) fn run(app: &mut App, _: &Args, operands: &[String]) -> Result<u8> {
    let method = operand(operands, 0)?;
    let (interface, symbol) = split_method(method)
        .ok_or_else(|| Error::new(format!("Not a valid qualified method name: '{method}'")))?;
    // Any name will do: there is no other reason to pass a socket to this verb.
    let activation = activation::detect_any(&app.ctx)?
        .ok_or_else(|| Error::new("No file descriptors passed via socket activation."))?;
    let text =
        format!("interface {interface}\n\n# [Requires 'upgrade' flag]\nmethod {symbol}() -> ()\n");
    let words = operands.get(1..).unwrap_or_default().to_vec();
    let ctx = activation::cleared(&app.ctx);
    let environment: Vec<_> =
        ctx.env_all().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let service = Service::builder(ctx, "varlinkctl")
        .interface(&text)?
        .method(symbol, move |_| {
            let (words, environment) = (words.clone(), environment.clone());
            let takeover = move |raw: Raw| start(&words, environment, raw);
            Ok(Answer::Upgrade(Map::new(), Box::new(takeover)))
        })
        .build()?;
    service.run(activation, None).map(|()| 0)
}

/// Runs the command on the connection until it ends.
fn start(
    words: &[String],
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    raw: Raw,
) -> Result<()> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::new("Too few arguments."))?;
    // Nothing was read ahead: sockets are read to the end of the call and no further.
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::from(raw.read))
        .stdout(Stdio::from(raw.write))
        .spawn()
        .context(|| format!("Failed to execute '{program}'"))?;
    let status = child.wait().context(|| format!("Failed to wait for '{program}'"))?;
    log::debug!("Command '{program}' ended: {status}");
    Ok(())
}
