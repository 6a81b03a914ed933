//! The engine: which key, which interface, from the cache or from the service.
//!
//! External spec: systemd-imdsd@.service(8) of systemd 262.

use std::path::PathBuf;
use std::sync::Arc;

use super::cache::{Cache, NEGATIVE_TTL, RUNTIME_DIR};
use super::model::{Endpoint, Failure, Reply, Request};
use super::source::Source;
use crate::ctx::Ctx;

/// How an engine works.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// The interface to use unless a request names one.
    pub interface: Option<u32>,
    /// Where answers are kept.
    pub cache: CacheAt,
}

/// Where an engine keeps what it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheAt {
    /// In [`RUNTIME_DIR`] for root, in memory for others.
    #[default]
    Auto,
    /// In memory: tokens only.
    Memory,
    /// In this directory.
    Directory(PathBuf),
}

/// Answers questions about this instance. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    options: EngineOptions,
    cache: Option<Cache>,
}

impl Engine {
    /// An engine for this machine.
    pub fn new(ctx: &Ctx, options: EngineOptions) -> Self {
        let root = match &options.cache {
            CacheAt::Memory => None,
            CacheAt::Directory(path) => Some(path.clone()),
            CacheAt::Auto => rustix::process::geteuid().is_root().then(|| ctx.at(RUNTIME_DIR)),
        };
        let cache = root.map(|root| Cache::new(ctx, root, NEGATIVE_TTL));
        Self(Arc::new(Inner { options, cache }))
    }

    /// The endpoint.
    ///
    /// # Errors
    /// [`Failure::NotSupported`] where there is none.
    pub fn vendor_info(&self) -> Result<Arc<Endpoint>, Failure> {
        let place = self.0.cache.as_ref().map(Cache::root);
        log::debug!("No endpoint ({:?}, cache {place:?}).", self.0.options);
        Err(Failure::NotSupported)
    }

    /// Answers a request that has passed [`check`], or that may join any key to any name.
    ///
    /// # Errors
    /// Any [`Failure`].
    pub fn ask(&self, _: &Request) -> Result<Reply, Failure> {
        Err(self.vendor_info().err().unwrap_or(Failure::NotSupported))
    }
}

impl Source for Engine {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        Ok(self.vendor_info()?.as_ref().clone())
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        check(request)?;
        self.ask(request)
    }
}

/// Refuses a request whose members do not go together; what is known without an endpoint.
///
/// # Errors
/// [`Failure::InvalidParameter`].
pub fn check(request: &Request) -> Result<(), Failure> {
    let refused = || Err(Failure::InvalidParameter("key".to_owned()));
    match (&request.key, request.well_known) {
        (None, None) => refused(),
        (Some(key), _) if !is_key(key) => refused(),
        (Some(_), Some(name)) if !name.takes_key() => refused(),
        _ => Ok(()),
    }
}

/// Begins with `/`, and nothing but ASCII without control characters.
pub fn is_key(key: &str) -> bool {
    key.starts_with('/') && key.bytes().all(|b| matches!(b, b' '..=b'~'))
}
