//! The engine: which key, which interface, from the cache or from the service.
//!
//! One engine serves many threads. Conversations are kept between questions, so the second one
//! costs a round trip and nothing else. Where no interface is known, all are asked at the same time
//! and the first answer wins, so a dead one costs nothing.
//!
//! External spec: systemd-imdsd@.service(8) of systemd 262.
//!
//! DIFFERS: threads in place of the peer's one process per interface; concurrent questions for the
//! same key become one request; requests keep to the pace the cloud allows.

mod search;

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cache::{Cache, Hit, NEGATIVE_TTL, RUNTIME_DIR, runtime_directory};
use super::endpoint;
use super::fetch::{Cancel, Limits, MemoryTokens, Route, TokenStore};
use super::interfaces::{self, Host, Line, Network};
use super::limit::{Flights, Pace};
use super::model::{
    Endpoint, Failure, Mark, REFRESH_DEFAULT, REFRESH_MIN, Reply, Request, WellKnown,
};
use super::source::Source;
use crate::conf::timespan;
use crate::ctx::Ctx;
use crate::net::Interface;

/// How long a question may take whose interface is known.
pub const LIMIT_DIRECT: Duration = Duration::from_secs(40);
/// How long a question may take for which an interface has to be found.
pub const LIMIT_SEARCH: Duration = Duration::from_secs(45);

/// LIMIT: conversations that are kept open for later.
const LINES_MAX: usize = 32;

/// The name that stands for "no interface" in the cache: what is on this machine.
const NO_INTERFACE: &str = "lo";

/// How an engine works.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Where the endpoint comes from.
    pub endpoint: endpoint::Options,
    /// The endpoint, where the caller has looked for it already.
    pub known: Option<Endpoint>,
    /// The interface to use unless a request names one.
    pub interface: Option<u32>,
    /// Where answers are kept.
    pub cache: CacheAt,
    /// Limits of each conversation.
    pub limits: Limits,
}

/// Where an engine keeps what it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheAt {
    /// In `$RUNTIME_DIRECTORY`; without that variable in [`RUNTIME_DIR`] for root (beside it for
    /// an endpoint that options or variables name), in memory for others and for an endpoint on this machine, which is a mock or a tunnel of the moment.
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
    ctx: Ctx,
    options: EngineOptions,
    network: Box<dyn Network>,
    cache: Option<Cache>,
    /// The cache is everybody's, and nobody asked for it.
    is_common: bool,
    known: Mutex<Option<Known>>,
    lines: Mutex<Vec<Kept>>,
    tokens: Mutex<HashMap<(String, bool), Arc<dyn TokenStore>>>,
    flights: Flights,
}

/// The endpoint and what follows from it.
#[derive(Clone)]
struct Known {
    endpoint: Arc<Endpoint>,
    pace: Arc<Pace>,
}

/// A conversation that nobody uses at the moment.
struct Kept {
    way: Way,
    line: Box<dyn Line>,
}

/// How a question travels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    interface: Option<Interface>,
    mark: Mark,
    /// Tokens from the cache, not from memory?
    is_cached: bool,
}

impl Way {
    /// The name of its directory in the cache.
    fn place(&self) -> &str {
        self.interface.as_ref().map_or(NO_INTERFACE, |interface| &interface.name)
    }
}

/// A request with everything decided but the interface.
#[derive(Clone, Debug)]
struct Question {
    key: String,
    refresh: Duration,
    is_cached: bool,
    mark: Mark,
    wait: bool,
}

impl Engine {
    /// An engine for this machine.
    pub fn new(ctx: &Ctx, options: EngineOptions) -> Self {
        let network = Host::new(ctx, options.limits.clone());
        Self::with_network(ctx, options, Box::new(network))
    }

    /// An engine for another network.
    pub fn with_network(ctx: &Ctx, options: EngineOptions, network: Box<dyn Network>) -> Self {
        let given = match &options.cache {
            CacheAt::Memory => None,
            CacheAt::Directory(path) => Some(path.clone()),
            CacheAt::Auto => runtime_directory(ctx),
        };
        let is_common = given.is_none()
            && options.cache == CacheAt::Auto
            && rustix::process::geteuid().is_root();
        let root = given.or_else(|| is_common.then(|| common_directory(ctx, &options.endpoint)));
        let cache = root.map(|root| Cache::new(ctx, root, negative_ttl(ctx)));
        Self(Arc::new(Inner {
            ctx: ctx.clone(),
            options,
            network,
            cache,
            is_common,
            known: Mutex::default(),
            lines: Mutex::default(),
            tokens: Mutex::default(),
            flights: Flights::default(),
        }))
    }

    /// The endpoint; looked for until there is one.
    ///
    /// # Errors
    /// [`Failure::NotSupported`] where there is none; [`Failure::System`] where what is configured
    /// makes no sense.
    pub fn vendor_info(&self) -> Result<Arc<Endpoint>, Failure> {
        Ok(self.0.known()?.endpoint)
    }

    /// Answers a request that has passed [`check`], or that may join any key to any name.
    ///
    /// # Errors
    /// Any [`Failure`].
    pub fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let known = self.0.known()?;
        let refresh = request.refresh.unwrap_or(REFRESH_DEFAULT);
        let question = Question {
            key: resolve_key(&known.endpoint, request)?,
            refresh: refresh.max(REFRESH_MIN),
            is_cached: request.cache.unwrap_or(true),
            mark: request.mark,
            wait: request.wait,
        };
        self.answer(&known, &question, request.interface.or(self.0.options.interface))
    }

    /// Finds the interface, then asks.
    fn answer(
        &self,
        known: &Known,
        question: &Question,
        index: Option<u32>,
    ) -> Result<Reply, Failure> {
        let inner = &self.0;
        let start = inner.ctx.monotonic();
        if let Some(index) = index {
            let interface = inner.network.by_index(index).map_err(|err| {
                Failure::CommunicationFailure(format!("no interface {index}: {err}"))
            })?;
            return inner.direct(known, question, Some(interface), start + LIMIT_DIRECT);
        }
        if interfaces::is_loopback(&known.endpoint) {
            return inner.direct(known, question, None, start + LIMIT_DIRECT);
        }
        let deadline = start + LIMIT_SEARCH;
        let Some(pinned) = inner.pinned() else {
            return search::search(inner, known, question, deadline);
        };
        let answer = inner.direct(known, question, Some(pinned.clone()), start + LIMIT_DIRECT);
        // DIFFERS: the peer stays with an interface that has died until somebody else removes its
        // file; here the others get what is left of the time.
        if matches!(answer, Err(Failure::CommunicationFailure(_) | Failure::Timeout(_)))
            && let Some(others) = search::others(inner, &pinned)
        {
            log::info!("Interface {} does not work any more, looking for another.", pinned.name);
            inner.unpin();
            return search::among(inner, known, question, deadline, others).or(answer);
        }
        answer
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

/// The key below the data URL: the well-known name's, then the request's own.
fn resolve_key(endpoint: &Endpoint, request: &Request) -> Result<String, Failure> {
    let own = request.key.as_deref().unwrap_or_default();
    let base = match request.well_known {
        None => "",
        Some(WellKnown::Base) if own.is_empty() => return Err(Failure::WellKnownKeyUnset),
        Some(WellKnown::Base) => "",
        Some(name) => {
            endpoint.well_known.get(&name).map(String::as_str).ok_or(Failure::WellKnownKeyUnset)?
        }
    };
    Ok(format!("{base}{own}"))
}

/// Where root keeps answers without being told where. Those of an endpoint that somebody tries out
/// are not for who asks the machine's own, nor are its tokens for a stranger: entries are named
/// after interface and key, not after the endpoint.
fn common_directory(ctx: &Ctx, options: &endpoint::Options) -> PathBuf {
    match endpoint::fingerprint(ctx, options) {
        None => ctx.at(RUNTIME_DIR),
        Some(name) => ctx.at(format!("{RUNTIME_DIR}-{name}")),
    }
}

/// `$SLIPWAY_IMDS_NEGATIVE_TTL_SEC`: how long "no such key" is believed.
fn negative_ttl(ctx: &Ctx) -> Duration {
    let Some(text) = ctx.env("SLIPWAY_IMDS_NEGATIVE_TTL_SEC") else { return NEGATIVE_TTL };
    match timespan::parse(text) {
        Ok(time) => time.unwrap_or(Duration::MAX),
        Err(_) => {
            log::warn!("Failed to parse $SLIPWAY_IMDS_NEGATIVE_TTL_SEC, ignoring: {text}");
            NEGATIVE_TTL
        }
    }
}

impl Inner {
    fn known(&self) -> Result<Known, Failure> {
        if let Some(known) = &*lock(&self.known) {
            return Ok(known.clone());
        }
        let endpoint = match &self.options.known {
            Some(endpoint) => Some(endpoint.clone()),
            None => endpoint::resolve(&self.ctx, &self.options.endpoint).map_err(|err| {
                let errno = err.errno().unwrap_or(nix::libc::EINVAL);
                Failure::System(errno, err.to_string())
            })?,
        };
        let endpoint = endpoint::usable(endpoint).map_err(|_| Failure::NotSupported)?;
        let pace = Pace::new(endpoint.traits.requests_per_second.unwrap_or_default());
        let known = Known { endpoint: Arc::new(endpoint), pace: Arc::new(pace) };
        *lock(&self.known) = Some(known.clone());
        Ok(known)
    }

    /// The interface that worked last, if it is there still.
    fn pinned(&self) -> Option<Interface> {
        let cache = self.cache.as_ref()?;
        let name = cache.pinned()?;
        match self.network.by_name(&name) {
            // By its main name: an alternative one may point elsewhere tomorrow.
            Ok(interface) if interface.name == name => Some(interface),
            _ => {
                log::debug!("Interface {name} is gone, forgetting it.");
                cache.unpin();
                None
            }
        }
    }

    fn pin(&self, interface: Option<&Interface>) {
        if let (Some(cache), Some(interface)) = (&self.cache, interface) {
            cache.pin(&interface.name);
        }
    }

    fn unpin(&self) {
        if let Some(cache) = &self.cache {
            cache.unpin();
        }
    }

    /// Asks through one interface, and remembers it if the service said anything.
    fn direct(
        &self,
        known: &Known,
        question: &Question,
        interface: Option<Interface>,
        deadline: Duration,
    ) -> Result<Reply, Failure> {
        let way = question.way(interface);
        if let Some(answer) = self.remembered(question, &way) {
            return answer;
        }
        let cancel = Cancel::default();
        let answer = self.request(known, question, &way, deadline, &cancel);
        // Nobody cancels; should somebody ever, that is no answer.
        let answer = answer.unwrap_or_else(|| Err(Failure::Timeout("cancelled".to_owned())));
        if is_heard(&answer) {
            self.pin(way.interface.as_ref());
        }
        answer
    }

    /// The cache, if it may be used this way.
    fn cache_of(&self, way: &Way) -> Option<&Cache> {
        let is_for_all = way.interface.is_some() || !self.is_common;
        self.cache.as_ref().filter(|_| way.is_cached && is_for_all)
    }

    /// What the cache knows.
    fn remembered(&self, question: &Question, way: &Way) -> Option<Result<Reply, Failure>> {
        let cache = self.cache_of(way)?;
        Some(match cache.load(way.place(), &question.key, question.refresh)? {
            Hit::Value(data) => Ok(way.reply(data)),
            Hit::Absent => Err(Failure::KeyNotFound),
        })
    }

    /// Asks the service, or shares the answer of somebody who is asking the same. `None` where the
    /// question was given up.
    fn request(
        &self,
        known: &Known,
        question: &Question,
        way: &Way,
        deadline: Duration,
        cancel: &Cancel,
    ) -> Option<Result<Reply, Failure>> {
        let mut work = || self.fetch(known, question, way, deadline, cancel);
        if !question.is_cached {
            // Who wants no cached answer wants none that was asked for earlier either.
            return work();
        }
        let what = format!("{} {:?} {}", way.place(), way.mark, question.key);
        self.flights.share(&what, &mut work)
    }

    fn fetch(
        &self,
        known: &Known,
        question: &Question,
        way: &Way,
        deadline: Duration,
        cancel: &Cancel,
    ) -> Option<Result<Reply, Failure>> {
        // Somebody may have stored it since this thread looked.
        if let Some(answer) = self.remembered(question, way) {
            return Some(answer);
        }
        if let Err(failure) = known.pace.wait(&self.ctx, deadline) {
            return Some(Err(failure));
        }
        let since = self.ctx.boottime();
        let mut line = self.line(known, way);
        // Another process may store it while we wait for the next attempt.
        let is_stored = Cell::new(false);
        let elsewhere = || {
            let answer = self.remembered(question, way)?;
            is_stored.set(true);
            Some(answer.map(|reply| reply.data))
        };
        let result = line.fetch(&question.key, question.refresh, cancel, &elsewhere);
        if cancel.is_cancelled() && result.is_err() {
            return None;
        }
        self.keep(way, line);
        let hit = match &result {
            // With its own age.
            _ if is_stored.get() => None,
            Ok(data) => Some(Hit::Value(data.clone())),
            Err(Failure::KeyNotFound) => Some(Hit::Absent),
            Err(_) => None,
        };
        if let (Some(cache), Some(hit)) = (self.cache_of(way), hit) {
            cache.store(way.place(), &question.key, since, &hit);
        }
        Some(result.map(|data| way.reply(data)))
    }

    /// A conversation that is open, or a new one.
    fn line(&self, known: &Known, way: &Way) -> Box<dyn Line> {
        let mut lines = lock(&self.lines);
        if let Some(at) = lines.iter().position(|kept| kept.way == *way) {
            return lines.swap_remove(at).line;
        }
        drop(lines);
        let route = Route { interface: way.interface.clone(), mark: way.mark };
        self.network.open(&known.endpoint, route, self.tokens(way))
    }

    fn keep(&self, way: &Way, line: Box<dyn Line>) {
        let mut lines = lock(&self.lines);
        if lines.len() >= LINES_MAX {
            // The oldest: its interface may be gone, or its mark a wish of the moment.
            lines.remove(0);
        }
        lines.push(Kept { way: way.clone(), line });
    }

    /// The tokens of an interface: those of the cache, or of this process.
    fn tokens(&self, way: &Way) -> Arc<dyn TokenStore> {
        let cache = self.cache_of(way);
        let mut tokens = lock(&self.tokens);
        let place = (way.place().to_owned(), cache.is_some());
        let store = tokens.entry(place).or_insert_with(|| match cache {
            Some(cache) => {
                Arc::new(CachedTokens { cache: cache.clone(), place: way.place().to_owned() })
            }
            None => Arc::new(MemoryTokens::new(&self.ctx)),
        });
        Arc::clone(store)
    }
}

impl Question {
    fn way(&self, interface: Option<Interface>) -> Way {
        Way { interface, mark: self.mark, is_cached: self.is_cached }
    }
}

impl Way {
    fn reply(&self, data: Vec<u8>) -> Reply {
        Reply { data, interface: self.interface.as_ref().map(|interface| interface.index) }
    }
}

/// The tokens in the cache's directory of one interface.
struct CachedTokens {
    cache: Cache,
    place: String,
}

impl TokenStore for CachedTokens {
    fn load(&self) -> Option<String> {
        self.cache.load_token(&self.place)
    }

    fn store(&self, token: &str, refresh: Duration) {
        // Half of what was asked for: the service counts from another moment than we do.
        self.cache.store_token(&self.place, token, refresh / 2);
    }

    fn forget(&self, token: &str) {
        self.cache.forget_token(&self.place, token);
    }
}

/// Did the service say anything?
fn is_heard(answer: &Result<Reply, Failure>) -> bool {
    matches!(answer, Ok(_) | Err(Failure::KeyNotFound | Failure::NotAvailable))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
