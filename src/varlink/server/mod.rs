//! Services: interfaces from their texts, handlers by method, connections one at a time.
//!
//! A connection is served by one thread from its first call to its end; calls are answered in
//! order, so pipelining needs no ids. Whatever breaks the protocol ends the connection without an
//! answer and without harm to the others.

mod call;
mod connection;
mod listen;

pub use call::{Answer, Call, Peer, Takeover};
pub use listen::{Listening, bind};

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::MAX_CONNECTIONS_PER_UID;
use super::activation::Activation;
use super::errors;
use super::idl::{self, Interface};
use super::wire::Stream;
use crate::ctx::Ctx;
use crate::error::{Context, Error, Result};

/// Who the service says it is.
#[derive(Clone, Debug)]
struct Info {
    product: String,
    version: String,
}

/// A handler of one method.
type Handler = Box<dyn Fn(&mut Call<'_>) -> Result<Answer> + Send + Sync>;

/// What a server serves.
pub struct Service {
    ctx: Ctx,
    info: Info,
    interfaces: BTreeMap<String, Provided>,
    accepts_fds: bool,
    is_private: bool,
    connections_per_uid: usize,
}

struct Provided {
    interface: Interface,
    handlers: BTreeMap<String, Handler>,
}

/// Collects interfaces and handlers; see [`Service::builder`].
pub struct Builder {
    service: Service,
    last: String,
}

impl Service {
    /// Begins a service that the given program offers.
    pub fn builder(ctx: Ctx, program: &str) -> Builder {
        let info = Info {
            product: format!("slipway ({program})"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let service = Self {
            ctx,
            info,
            interfaces: BTreeMap::new(),
            accepts_fds: false,
            is_private: false,
            connections_per_uid: MAX_CONNECTIONS_PER_UID,
        };
        Builder { service, last: String::new() }
    }

    /// The names of all interfaces, sorted.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.interfaces.keys().map(String::as_str)
    }

    /// Serves one connection until the other side hangs up.
    pub fn serve(&self, stream: Stream) -> Result<()> {
        connection::serve(self, stream)
    }

    /// Serves what the process was started with: one connection, or a listening socket until
    /// `until` becomes readable (never, if there is none).
    pub fn run(&self, activation: Activation, until: Option<&Listening>) -> Result<()> {
        match activation {
            Activation::Connection(socket) => self.serve(Stream::socket(socket)),
            Activation::Stdio { read, write } => match rustix::net::sockopt::socket_type(&read) {
                Ok(_) => self.serve(Stream::socket(read)),
                Err(_) => self.serve(Stream::pipes(read, write)),
            },
            Activation::Listen(sockets) => listen::serve_all(self, &sockets, until),
            Activation::Path(path) => {
                let socket = bind(&path, if self.is_private { 0o644 } else { 0o666 }, false)
                    .context(|| format!("Failed to listen on '{}'", path.display()))?;
                listen::serve_all(self, &[socket], until)
            }
        }
    }

    fn info(&self) -> Value {
        json!({
            "vendor": "The slipway Project",
            "product": self.info.product,
            "version": self.info.version,
            "url": env!("CARGO_PKG_HOMEPAGE"),
            "interfaces": self.interfaces().collect::<Vec<_>>(),
        })
    }

    fn description(&self, name: &str) -> Result<Value> {
        match self.interfaces.get(name) {
            Some(provided) => Ok(json!({ "description": idl::format(&provided.interface) })),
            None => Err(errors::interface_not_found(name)),
        }
    }
}

impl Builder {
    /// Adds an interface; the methods that follow belong to it.
    pub fn interface(mut self, text: &str) -> Result<Self> {
        let interface = idl::parse(text.as_bytes())
            .context(|| "Interface description is not valid".to_owned())?;
        self.last.clone_from(&interface.name);
        let provided = Provided { interface, handlers: BTreeMap::new() };
        match self.service.interfaces.insert(self.last.clone(), provided) {
            None => Ok(self),
            Some(_) => Err(Error::new(format!("Interface '{}' is there already", self.last))),
        }
    }

    /// Says what a method of the interface added last does.
    #[must_use]
    pub fn method(
        mut self,
        name: &str,
        handler: impl Fn(&mut Call<'_>) -> Result<Answer> + Send + Sync + 'static,
    ) -> Self {
        if let Some(provided) = self.service.interfaces.get_mut(&self.last) {
            provided.handlers.insert(name.to_owned(), Box::new(handler));
        }
        self
    }

    /// Keeps descriptors that callers send. Otherwise they are closed on arrival.
    #[must_use]
    pub fn accept_fds(mut self) -> Self {
        self.service.accepts_fds = true;
        self
    }

    /// Hangs up on everybody but uid 0 and the own uid.
    ///
    /// DIFFERS: the peer's root-only services also refuse the user they run as.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.service.is_private = true;
        self
    }

    /// Another limit than [`MAX_CONNECTIONS_PER_UID`] for the connections of one user at a time.
    #[must_use]
    pub fn connections_per_uid(mut self, limit: usize) -> Self {
        self.service.connections_per_uid = limit;
        self
    }

    /// Another product and version than slipway's own; services that stand in for others.
    #[must_use]
    pub fn product(mut self, product: &str, version: &str) -> Self {
        self.service.info = Info { product: product.to_owned(), version: version.to_owned() };
        self
    }

    /// Adds the standard interfaces and checks that every described method has a handler and
    /// every handler a description.
    pub fn build(self) -> Result<Service> {
        let service = self
            .interface(include_str!("../idl/io.systemd.varlink"))?
            .interface(include_str!("../idl/org.varlink.service.varlink"))?
            .method("GetInfo", |call| Answer::reply(call.service().info()))
            .method("GetInterfaceDescription", |call| {
                Answer::reply(call.service().description(call.params().str("interface")?)?)
            })
            .service;
        for (name, provided) in &service.interfaces {
            let described: Vec<&str> =
                provided.interface.methods().map(|method| method.name.as_str()).collect();
            let handled = |method: &str| provided.handlers.contains_key(method);
            if let Some(method) = described.iter().find(|method| !handled(method)) {
                return Err(Error::new(format!("Method '{name}.{method}' has no handler")));
            }
            let surplus = provided.handlers.keys().find(|key| !described.contains(&key.as_str()));
            if let Some(method) = surplus {
                return Err(Error::new(format!("Method '{name}.{method}' has no description")));
            }
        }
        Ok(service)
    }
}

/// An object as parameters.
fn object(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Error::new("Reply is not an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "interface x.y\nmethod A() -> ()\nmethod B() -> ()\n";

    fn builder() -> Builder {
        Service::builder(Ctx::host([]), "test").interface(TEXT).unwrap()
    }

    #[test]
    fn handlers_and_description_have_to_match() {
        let one = builder().method("A", |_| Answer::empty());
        assert_eq!(one.build().err().unwrap().to_string(), "Method 'x.y.B' has no handler");
        let three = ["A", "B", "C"]
            .into_iter()
            .fold(builder(), |builder, name| builder.method(name, |_| Answer::empty()));
        assert_eq!(three.build().err().unwrap().to_string(), "Method 'x.y.C' has no description");
        assert!(builder().interface(TEXT).is_err());
    }

    #[test]
    fn interfaces_are_sorted_and_the_standard_ones_always_there() {
        let service = builder()
            .method("A", |_| Answer::empty())
            .method("B", |_| Answer::empty())
            .build()
            .unwrap();
        let names: Vec<&str> = service.interfaces().collect();
        assert_eq!(names, ["io.systemd", "org.varlink.service", "x.y"]);
    }
}
