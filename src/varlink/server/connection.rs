//! The life of one connection: receive, check, dispatch, answer, again.

use rustix::net::sockopt;

use super::{Answer, Call, Peer, Service};
use crate::error::{Context, Result};
use crate::varlink::errors;
use crate::varlink::idl::check_parameters;
use crate::varlink::message::{Mode, Request};
use crate::varlink::wire::Stream;

/// Serves a connection until it ends. What ends it early is logged, not returned: only the
/// caller of the method is to blame, or nobody.
pub(super) fn serve(service: &Service, mut stream: Stream) -> Result<()> {
    let peer = peer(&stream);
    if service.is_private && !is_privileged(peer) {
        return Err(crate::error::Error::errno_because(
            "Failed to run Varlink event loop",
            nix::libc::EPERM,
        ));
    }
    stream.set_accepts_fds(service.accepts_fds);
    loop {
        let message = match stream.receive(None) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(err) => {
                log::debug!("Connection ended: {err}");
                return Ok(());
            }
        };
        let Ok(request) = Request::parse(&message.bytes) else {
            log::debug!("Received a message that is no call, closing connection.");
            return Ok(());
        };
        let mut call = Call {
            service,
            request: &request,
            peer,
            stream: &mut stream,
            fds: message.fds.into_iter().map(Some).collect(),
            attached: Vec::new(),
            held: None,
        };
        let answer = dispatch(&mut call);
        match call.finish(answer) {
            Ok(None) => {}
            Ok(Some(takeover)) => {
                let raw = stream.into_raw().context(|| "Failed to upgrade".to_owned())?;
                return takeover(raw);
            }
            Err(err) => {
                log::debug!("Connection ended: {err}");
                return Ok(());
            }
        }
    }
}

fn dispatch(call: &mut Call<'_>) -> Result<Answer> {
    let name = call.request.method.as_str();
    let unknown = || errors::method_not_found(name);
    let (interface, method) = name.rsplit_once('.').ok_or_else(unknown)?;
    let provided = call.service.interfaces.get(interface).ok_or_else(unknown)?;
    let handler = provided.handlers.get(method).ok_or_else(unknown)?;
    let symbol = provided.interface.symbol(method).ok_or_else(unknown)?;
    let fields = provided.interface.input(method).ok_or_else(unknown)?;
    if symbol.has_hint("Requires", "more") && call.request.mode != Mode::More {
        return Err(errors::expected_more());
    }
    if symbol.has_hint("Requires", "upgrade") && call.request.mode != Mode::Upgrade {
        return Err(errors::expected_upgrade());
    }
    if let Some(name) = &call.request.repeated {
        return Err(errors::invalid_parameter(name));
    }
    check_parameters(&provided.interface, fields, &call.request.parameters)
        .map_err(errors::invalid_parameter)?;
    handler(call)
}

/// The other side of the connection. Pipes have no credentials: whoever holds them was given
/// them by the user we run as.
fn peer(stream: &Stream) -> Peer {
    match sockopt::socket_peercred(stream.read_fd()) {
        Ok(cred) => {
            Peer { uid: cred.uid.as_raw(), gid: cred.gid.as_raw(), pid: cred.pid.as_raw_pid() }
        }
        Err(rustix::io::Errno::NOTSOCK) => Peer {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: 0,
        },
        Err(_) => Peer { uid: u32::MAX, gid: u32::MAX, pid: 0 },
    }
}

fn is_privileged(peer: Peer) -> bool {
    peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw()
}
