//! A source of metadata for whoever wants one: the service on this machine, or else the engine in
//! this process.
//!
//! DIFFERS: where nobody listens the peer starts a second process and talks to it over a socket
//! pair; here the engine runs in the same process.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::engine::{Engine, EngineOptions};
use super::model::{Endpoint, Failure, INTERFACE, Mark, Reply, Request, SOCKET, WellKnown};
use super::providers;
use super::source::Source;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::varlink::address::Address;
use crate::varlink::client::Client;
use crate::varlink::errors;

/// How long to wait for the service, which itself gives up after 45 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a source may come from.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The service's socket instead of [`SOCKET`].
    pub socket: Option<PathBuf>,
    /// Do not look for a service.
    pub is_local: bool,
    /// How the engine in this process works, should it have to.
    pub engine: EngineOptions,
}

/// Finds a source of metadata.
///
/// # Errors
/// The service is there and may not be used, or cannot be talked to. That nobody listens is no
/// error, also where that shows with the first question only.
pub fn connect(ctx: &Ctx, options: &ConnectOptions) -> Result<Box<dyn Source>, Failure> {
    let local = || Engine::new(ctx, options.engine.clone());
    if options.is_local {
        return Ok(Box::new(local()));
    }
    let path = options.socket.clone().unwrap_or_else(|| ctx.at(SOCKET));
    match Client::connect(ctx, &Address::Unix(path.clone())) {
        Ok(mut client) => {
            client.set_timeout(Some(CALL_TIMEOUT));
            let spare = Some((ctx.clone(), options.engine.clone()));
            Ok(Box::new(Service { way: Way::Remote(client), spare, endpoint: None }))
        }
        Err(err) => match err.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
                log::debug!("Nobody listens on '{}', asking directly.", path.display());
                Ok(Box::new(local()))
            }
            ErrorKind::PermissionDenied => Err(Failure::PermissionDenied),
            _ => Err(Failure::System(
                err.raw_os_error().unwrap_or(nix::libc::EIO),
                format!("Failed to connect to '{}'", path.display()),
            )),
        },
    }
}

/// Whoever answers.
enum Way {
    Remote(Client),
    Local(Box<Engine>),
}

/// The service behind the socket.
struct Service {
    way: Way,
    /// What to make an engine from; until the service has answered once.
    spare: Option<(Ctx, EngineOptions)>,
    endpoint: Option<Endpoint>,
}

impl Source for Service {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        let Some(info) = self.call("GetVendorInfo", Map::new())? else {
            return self.engine()?.endpoint();
        };
        let mut endpoint = parse_vendor_info(&info);
        providers::add_traits(&mut endpoint);
        self.endpoint = Some(endpoint.clone());
        Ok(endpoint)
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        match self.call("Get", to_parameters(request))? {
            Some(reply) => parse_reply(&reply),
            None => self.engine()?.get(request),
        }
    }
}

impl Service {
    /// Calls a method; `None` where the engine in this process has to answer.
    fn call(
        &mut self,
        method: &str,
        parameters: Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>, Failure> {
        let Way::Remote(client) = &mut self.way else { return Ok(None) };
        let reply = match client.call(&format!("{INTERFACE}.{method}"), parameters) {
            Ok(reply) => reply,
            Err(err) => return self.lost(err),
        };
        self.spare = None;
        match reply.error {
            None => Ok(Some(reply.parameters)),
            Some(name) => Err(to_failure(name, reply.parameters)),
        }
    }

    /// The service hung up. Before its first answer that is as if it had not been there: its
    /// program may be missing.
    fn lost(&mut self, err: Error) -> Result<Option<Map<String, Value>>, Failure> {
        let errno = err.errno().unwrap_or(nix::libc::EIO);
        match self.spare.take() {
            Some((ctx, options)) if errno == nix::libc::ECONNRESET => {
                log::debug!("The service hung up without an answer, asking directly.");
                self.way = Way::Local(Box::new(Engine::new(&ctx, options)));
                Ok(None)
            }
            _ if errno == nix::libc::ETIME => Err(Failure::Timeout(err.to_string())),
            _ => Err(Failure::System(errno, "Lost the metadata service".to_owned())),
        }
    }

    /// The engine that took the service's place.
    fn engine(&mut self) -> Result<&mut dyn Source, Failure> {
        match &mut self.way {
            Way::Local(engine) => Ok(engine.as_mut()),
            Way::Remote(_) => Err(Failure::CommunicationFailure("the service is gone".to_owned())),
        }
    }
}

/// A request as parameters of `Get`; what is not set is not sent.
pub fn to_parameters(request: &Request) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(name.to_owned(), value);
        }
    };
    put("key", request.key.as_deref().map(Value::from));
    put("wellKnown", request.well_known.map(|name| Value::from(name.wire_name())));
    put("interface", request.interface.map(Value::from));
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).into();
    put("refreshUSec", request.refresh.map(micros));
    put("cache", request.cache.map(Value::from));
    put(
        "firewallMark",
        match request.mark {
            Mark::Default => None,
            Mark::Off => Some(Value::Null),
            Mark::Value(mark) => Some(mark.into()),
        },
    );
    put("wait", request.wait.then(|| true.into()));
    map
}

fn parse_reply(reply: &Map<String, Value>) -> Result<Reply, Failure> {
    let nonsense = |what: &str| Failure::CommunicationFailure(format!("the service sent {what}"));
    let data = reply.get("data").and_then(Value::as_str).ok_or_else(|| nonsense("no data"))?;
    let data = STANDARD.decode(data).map_err(|_| nonsense("data that are not Base64"))?;
    let interface = reply.get("interface").and_then(Value::as_u64);
    Ok(Reply { data, interface: interface.and_then(|index| index.try_into().ok()) })
}

/// What `GetVendorInfo` says, as an endpoint; members of another type count as unset.
pub fn parse_vendor_info(info: &Map<String, Value>) -> Endpoint {
    let text = |name: &str| info.get(name).and_then(Value::as_str).map(str::to_owned);
    let list = |name: &str| info.get(name).and_then(Value::as_array);
    let bytes = |name: &str| -> Option<Vec<u8>> {
        list(name)?.iter().map(|n| n.as_u64()?.try_into().ok()).collect()
    };
    let known = info.get("wellKnown").and_then(Value::as_object);
    let known = known
        .into_iter()
        .flatten()
        .filter_map(|(name, key)| Some((WellKnown::parse(name)?, key.as_str()?.to_owned())));
    let headers = list("extraHeader").into_iter().flatten().filter_map(Value::as_str);
    Endpoint {
        vendor: text("vendor"),
        token_url: text("tokenUrl"),
        refresh_header_name: text("refreshHeaderName"),
        data_url: text("dataUrl"),
        data_url_suffix: text("dataUrlSuffix"),
        token_header_name: text("tokenHeaderName"),
        extra_headers: headers.map(str::to_owned).collect(),
        address_ipv4: bytes("addressIPv4")
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .map(Ipv4Addr::from),
        address_ipv6: bytes("addressIPv6")
            .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
            .map(Ipv6Addr::from),
        well_known: known.collect(),
        ..Endpoint::default()
    }
}

/// An error of the service as a failure.
fn to_failure(name: String, parameters: Map<String, Value>) -> Failure {
    if let Some(own) = name.strip_prefix(INTERFACE).and_then(|rest| rest.strip_prefix('.')) {
        match own {
            "KeyNotFound" => return Failure::KeyNotFound,
            "NotAvailable" => return Failure::NotAvailable,
            "NotSupported" => return Failure::NotSupported,
            "WellKnownKeyUnset" => return Failure::WellKnownKeyUnset,
            "CommunicationFailure" => return Failure::CommunicationFailure(String::new()),
            "Timeout" => return Failure::Timeout(String::new()),
            _ => {}
        }
    }
    match name.as_str() {
        errors::PERMISSION_DENIED | "io.systemd.InteractiveAuthenticationRequired" => {
            Failure::PermissionDenied
        }
        errors::INVALID_PARAMETER => {
            let member = parameters.get("parameter").and_then(Value::as_str).unwrap_or_default();
            Failure::InvalidParameter(member.to_owned())
        }
        errors::SYSTEM => match errors::meaning(&name, &parameters) {
            errors::Meaning::Errno(errno) => {
                Failure::System(errno, "The metadata service failed".to_owned())
            }
            _ => Failure::Other(name, parameters),
        },
        _ => Failure::Other(name, parameters),
    }
}
