//! The network as the engine sees it, and which interfaces are worth asking through.
//!
//! [`Network`] is the seam: the host behind it, or a test's idea of one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fetch::{Cancel, Elsewhere, Limits, Route, Session, TokenStore};
use super::model::{Endpoint, Failure};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::net::{Interface, Link, interface, watch};

/// LIMIT: interfaces that are asked through at the same time.
pub const INTERFACES_MAX: usize = 16;

/// A conversation with the metadata service through one interface.
pub trait Line: Send {
    /// Asks for one key, and looks elsewhere before it asks again.
    ///
    /// # Errors
    /// Any [`Failure`].
    fn fetch(
        &mut self,
        key: &str,
        refresh: Duration,
        cancel: &Cancel,
        elsewhere: &Elsewhere<'_>,
    ) -> std::result::Result<Vec<u8>, Failure>;
}

/// Tells about addresses that appear.
pub trait Changes: Send {
    /// Waits for the next one, at most that long; true where there was one.
    fn wait(&mut self, time: Duration) -> bool;
}

/// Interfaces, and the way to the metadata service.
pub trait Network: Send + Sync {
    /// All interfaces with their addresses.
    ///
    /// # Errors
    /// The kernel does not tell.
    fn links(&self) -> Result<Vec<Link>>;

    /// The interface of this index.
    ///
    /// # Errors
    /// There is none.
    fn by_index(&self, index: u32) -> Result<Interface>;

    /// The interface of this name.
    ///
    /// # Errors
    /// There is none.
    fn by_name(&self, name: &str) -> Result<Interface>;

    /// Begins to watch for addresses; what appears from now on is told.
    ///
    /// # Errors
    /// The kernel does not tell.
    fn watch(&self) -> Result<Box<dyn Changes>>;

    /// Begins a conversation.
    fn open(&self, endpoint: &Endpoint, route: Route, tokens: Arc<dyn TokenStore>)
    -> Box<dyn Line>;
}

/// The network of this machine.
pub struct Host {
    ctx: Ctx,
    limits: Limits,
}

impl Host {
    /// With these limits for each conversation.
    pub fn new(ctx: &Ctx, limits: Limits) -> Self {
        Self { ctx: ctx.clone(), limits }
    }
}

impl Line for Session {
    fn fetch(
        &mut self,
        key: &str,
        refresh: Duration,
        cancel: &Cancel,
        elsewhere: &Elsewhere<'_>,
    ) -> std::result::Result<Vec<u8>, Failure> {
        self.fetch_unless(key, refresh, cancel, elsewhere)
    }
}

impl Changes for watch::Watch {
    fn wait(&mut self, time: Duration) -> bool {
        matches!(self.next(time), Ok(Some(_)))
    }
}

impl Network for Host {
    fn links(&self) -> Result<Vec<Link>> {
        interface::list()
    }

    fn by_index(&self, index: u32) -> Result<Interface> {
        interface::by_index(index)
    }

    fn by_name(&self, name: &str) -> Result<Interface> {
        interface::resolve(name)
    }

    fn watch(&self) -> Result<Box<dyn Changes>> {
        Ok(Box::new(watch::Watch::new()?))
    }

    fn open(
        &self,
        endpoint: &Endpoint,
        route: Route,
        tokens: Arc<dyn TokenStore>,
    ) -> Box<dyn Line> {
        Box::new(Session::new(&self.ctx, endpoint, route, tokens, self.limits.clone()))
    }
}

/// The interfaces worth asking through, the likeliest first as `net` has them: those that have an
/// address and are not the loopback.
pub fn candidates(links: Vec<Link>) -> Vec<Link> {
    links.into_iter().filter(|link| !link.is_loopback && !link.addresses.is_empty()).collect()
}

/// Is the endpoint on this very machine? Then no interface can be chosen for it.
pub fn is_loopback(endpoint: &Endpoint) -> bool {
    endpoint.data_url.as_deref().is_some_and(|url| {
        let host = host(url);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| match address {
                IpAddr::V6(v6) => {
                    v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
                }
                IpAddr::V4(v4) => v4.is_loopback(),
            })
    })
}

/// The host of a URL, without brackets.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    }
}
