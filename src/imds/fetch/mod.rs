//! Asks a metadata service over one interface: URL, token, request, retries, and what the answer
//! means.
//!
//! One session is one conversation: it keeps connections and knows what the service is like.
//! Threads may share it. Nothing here caches values, and nobody follows a redirect or a proxy.
//!
//! External spec: RFC 9110, RFC 9112, and what each cloud says about its service.

mod cancel;
mod request;
mod retry;
mod token;
mod transport;
mod url;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use cancel::Cancel;
pub use token::{MemoryTokens, TokenStore};

use crate::ctx::Ctx;
use crate::format::http1::Head;
use crate::imds::model::{DATA_MAX, Endpoint, Failure, Mark};
use crate::net::Interface;
use request::Headers;
use retry::{Budget, Trouble};
use transport::{Broken, Connection, Dialer, Names};
use url::{Redirect, Server, Url};

/// LIMIT: idle connections that are kept.
const IDLE_MAX: usize = 4;

/// How long a refused token (403: the service is off) is believed to stay refused. Long enough for
/// all keys of one report, short enough for a service that is switched on.
const REFUSAL: Duration = Duration::from_secs(10);

/// Which way requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Nothing but this interface. Addresses of this machine itself are reached anyway.
    pub interface: Option<Interface>,
    /// The firewall mark.
    pub mark: Mark,
}

/// How long and how often. The defaults are the product's; tests want them shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One connection to one address.
    pub connect: Duration,
    /// From a request to the first byte of its answer.
    pub first_byte: Duration,
    /// Between two bytes of an answer.
    pub idle: Duration,
    /// One fetch with everything it takes.
    pub overall: Duration,
    /// How much later the second address of a service is tried.
    pub head_start: Duration,
    /// The resolver's answer.
    pub resolve: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// Before the second attempt; doubles with every further one.
    pub backoff_first: Duration,
    /// No delay is longer, unless the service asks for it.
    pub backoff_max: Duration,
    /// Bytes of one value.
    pub data: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(5),
            idle: Duration::from_secs(5),
            overall: Duration::from_secs(40),
            head_start: Duration::from_millis(250),
            resolve: Duration::from_secs(2),
            retries: 10,
            backoff_first: Duration::from_millis(20),
            backoff_max: Duration::from_secs(3),
            data: DATA_MAX,
        }
    }
}

/// Where somebody else may leave the answer while an attempt is waited for.
pub type Elsewhere<'a> = dyn Fn() -> Option<Result<Vec<u8>, Failure>> + 'a;

/// One conversation with one service.
pub struct Session {
    ctx: Ctx,
    endpoint: Endpoint,
    headers: Result<Headers, String>,
    route: Route,
    tokens: Arc<dyn TokenStore>,
    limits: Limits,
    idle: Mutex<Vec<Connection>>,
    /// The address that connected last.
    preferred: Mutex<Option<IpAddr>>,
    /// What the names in the URLs mean.
    names: Names,
    /// Held by whoever asks for a token, so that only one does.
    renewal: Mutex<()>,
    /// The service has no tokens, whatever the endpoint says.
    is_tokenless: AtomicBool,
    /// Until when asking for a token is not worth it: the service has refused to give one.
    refused_until: Mutex<Duration>,
    /// When the session began, and whether the service has given a value since.
    began: Duration,
    has_answered: AtomicBool,
    /// Token requests without any answer.
    silences: AtomicU32,
}

/// What came back, and from whom.
struct Answer {
    head: Head,
    body: Vec<u8>,
    address: IpAddr,
}

impl Answer {
    /// Where a redirect leads to, as seen from `url`; nowhere without a `Location`.
    fn redirect(&self, url: &Url) -> Redirect {
        let location = self.head.header("Location");
        location.map_or(Redirect::Elsewhere, |to| url.redirect(to, self.address))
    }
}

/// What a data answer asks us to do.
enum Step {
    Done(Vec<u8>),
    /// The token is not good any more.
    Renew,
    /// The key is a directory.
    Slash,
}

impl Session {
    /// Nothing is sent before the first fetch.
    pub fn new(
        ctx: &Ctx,
        endpoint: &Endpoint,
        route: Route,
        tokens: Arc<dyn TokenStore>,
        limits: Limits,
    ) -> Self {
        Self {
            ctx: ctx.clone(),
            headers: Headers::of(endpoint),
            endpoint: endpoint.clone(),
            route,
            tokens,
            limits,
            idle: Mutex::new(Vec::new()),
            preferred: Mutex::new(None),
            names: Names::default(),
            renewal: Mutex::new(()),
            is_tokenless: AtomicBool::new(false),
            refused_until: Mutex::new(Duration::ZERO),
            began: ctx.monotonic(),
            has_answered: AtomicBool::new(false),
            silences: AtomicU32::new(0),
        }
    }

    /// The endpoint it talks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The bytes of one key, exactly as the service has them. A token that has to be asked for is
    /// to live for `refresh`.
    ///
    /// # Errors
    /// Any [`Failure`] but those of permission and of well-known names.
    pub fn fetch(&self, key: &str, refresh: Duration, cancel: &Cancel) -> Result<Vec<u8>, Failure> {
        self.fetch_unless(key, refresh, cancel, &|| None)
    }

    /// As [`Session::fetch`]; but before every further attempt it looks `elsewhere`, and takes what
    /// is there.
    ///
    /// # Errors
    /// As [`Session::fetch`], and those from elsewhere.
    pub fn fetch_unless(
        &self,
        key: &str,
        refresh: Duration,
        cancel: &Cancel,
        elsewhere: &Elsewhere<'_>,
    ) -> Result<Vec<u8>, Failure> {
        let mut url = self.data_url(key)?;
        let headers = self.headers.as_ref();
        let headers = headers.map_err(|why| Failure::CommunicationFailure(why.clone()))?;
        let mut budget = Budget::new(&self.ctx, &self.limits, cancel);
        let (mut has_renewed, mut has_slash) = (false, false);
        loop {
            let mut used = None;
            let step = self.token(headers, refresh, &budget).and_then(|token| {
                used.clone_from(&token);
                self.get(headers, &url, token.as_deref(), &budget)
            });
            match step {
                Ok(Step::Done(data)) => return Ok(data),
                Ok(Step::Slash) if !has_slash => {
                    has_slash = true;
                    url = url.with_slash();
                }
                Ok(Step::Slash) => {
                    let text = format!("{} redirects to itself", url.target);
                    return Err(Failure::CommunicationFailure(text));
                }
                Ok(Step::Renew) => {
                    self.refused(used.as_deref(), has_renewed)?;
                    has_renewed = true;
                }
                Err(trouble) => {
                    budget.pause(trouble)?;
                    if let Some(found) = elsewhere() {
                        return found;
                    }
                }
            }
        }
    }

    /// The service answered 401: the token is over, but a new one only helps once.
    fn refused(&self, token: Option<&str>, has_renewed: bool) -> Result<(), Failure> {
        if let Some(token) = token {
            self.tokens.forget(token);
        }
        self.is_tokenless.store(false, Ordering::Relaxed);
        if has_renewed {
            let text = "HTTP status 401, with a new token, too".to_owned();
            return Err(Failure::CommunicationFailure(text));
        }
        Ok(())
    }

    /// Where a key is. Nothing but its path may come from the key.
    fn data_url(&self, key: &str) -> Result<Url, Failure> {
        let base = self.endpoint.data_url.as_deref().ok_or(Failure::NotSupported)?;
        if self.endpoint.token_url.is_some() != self.endpoint.token_header_name.is_some() {
            return Err(Failure::NotSupported);
        }
        let suffix = self.endpoint.data_url_suffix.as_deref().unwrap_or_default();
        let plain = Url::parse(&format!("{base}/{suffix}")).map_err(|wrong| {
            Failure::CommunicationFailure(format!("data URL '{base}': {}", wrong.text()))
        })?;
        let url = Url::parse(&format!("{base}{key}{suffix}"));
        let url = url.ok().filter(|url| url.server == plain.server);
        url.ok_or_else(|| Failure::InvalidParameter("key".to_owned()))
    }

    /// The token to send; asks for one where none is kept.
    fn token(
        &self,
        headers: &Headers,
        refresh: Duration,
        budget: &Budget<'_>,
    ) -> Result<Option<String>, Trouble> {
        let (Some(text), Some(_)) = (&self.endpoint.token_url, &headers.token) else {
            return Ok(None);
        };
        if self.is_tokenless.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(token) = self.kept_token() {
            return Ok(Some(token));
        }
        let _guard = self.renewal(budget)?;
        // Somebody else may have got one meanwhile.
        if let Some(token) = self.kept_token() {
            return Ok(Some(token));
        }
        if self.ctx.monotonic() < *lock(&self.refused_until) {
            return Err(Trouble::Final(Failure::NotAvailable));
        }
        let url = Url::parse(text)
            .map_err(|wrong| Trouble::broken(format!("token URL '{text}': {}", wrong.text())))?;
        let max = self.endpoint.traits.token_lifetime_max;
        let seconds = token::lifetime(refresh, max);
        // Room for the line end that is stripped.
        let asked = self.exchange(&url.server, false, token::MAX + 2, budget, &|address| {
            headers.put(&url, address, seconds)
        });
        let answer = asked.map_err(|broken| self.hint(broken))?;
        let status = answer.head.status;
        match status {
            200..300 => {
                let token = token::parse(&answer.body).map_err(Trouble::broken)?;
                self.tokens.store(&token, Duration::from_secs(seconds));
                Ok(Some(token))
            }
            404 | 405 => {
                log::debug!("Service has no tokens, going on without.");
                self.is_tokenless.store(true, Ordering::Relaxed);
                Ok(None)
            }
            _ => {
                if status == 403 {
                    *lock(&self.refused_until) = self.ctx.monotonic().saturating_add(REFUSAL);
                }
                let what = format!("token from {}: HTTP status {status}", url.target);
                Err(self.status(&answer, &url, what, budget))
            }
        }
    }

    /// A token of the store that can be sent.
    fn kept_token(&self) -> Option<String> {
        let token = self.tokens.load()?;
        token::parse(token.as_bytes()).ok()
    }

    /// Waits for the right to ask for a token.
    fn renewal(&self, budget: &Budget<'_>) -> Result<MutexGuard<'_, ()>, Trouble> {
        let until = budget.until(self.limits.overall);
        loop {
            match self.renewal.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(std::sync::TryLockError::Poisoned(guard)) => return Ok(guard.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) => {}
            }
            budget.check(until, &|| "waiting for a token".to_owned())?;
            let pause = budget.left(until).min(Duration::from_millis(2));
            budget.cancel.wait(&[], pause).map_err(|err| Trouble::broken(err.to_string()))?;
        }
    }

    /// One GET and what it says.
    fn get(
        &self,
        headers: &Headers,
        url: &Url,
        token: Option<&str>,
        budget: &Budget<'_>,
    ) -> Result<Step, Trouble> {
        let is_low = self.is_low(url);
        let answer = self.exchange(&url.server, is_low, self.limits.data, budget, &|address| {
            headers.get(url, address, token)
        });
        let answer = answer.map_err(Broken::into_trouble)?;
        if answer.head.is_success() {
            self.has_answered.store(true, Ordering::Relaxed);
            return Ok(Step::Done(answer.body));
        }
        let status = answer.head.status;
        let what = format!("GET {}: HTTP status {status}", url.target);
        match status {
            401 if self.endpoint.token_url.is_some() => Ok(Step::Renew),
            301 | 302 | 307 | 308 if answer.redirect(url) == Redirect::Slash => Ok(Step::Slash),
            _ if self.is_starting(status) && budget.can_retry() => {
                Err(Trouble::Transient { what, after: self.after(&answer.head), is_slow: false })
            }
            404 => Err(Trouble::Final(Failure::KeyNotFound)),
            _ => Err(self.status(&answer, url, what, budget)),
        }
    }

    /// What a status means that means the same for tokens and values.
    fn status(&self, answer: &Answer, url: &Url, what: String, budget: &Budget<'_>) -> Trouble {
        match answer.head.status {
            403 => Trouble::Final(Failure::NotAvailable),
            301 | 302 | 303 | 307 | 308 => match answer.redirect(url) {
                Redirect::Stranger => Trouble::Final(Failure::NotAvailable),
                _ => Trouble::broken(format!("{what}, redirects are not followed")),
            },
            status if retry::is_passing(status) => {
                let traits = &self.endpoint.traits;
                // One that this cloud's service is known to give for a minute (410 of Azure).
                let is_slow = traits.retry_statuses.contains(&status)
                    && traits.retry_window.is_some_and(|window| budget.elapsed() < window);
                Trouble::Transient { what, after: self.after(&answer.head), is_slow }
            }
            _ => Trouble::broken(what),
        }
    }

    fn after(&self, head: &Head) -> Option<Duration> {
        retry::retry_after(head.header("Retry-After"), &self.ctx)
    }

    /// May this status be one of a service that is not up yet? Not after its first value.
    fn is_starting(&self, status: u16) -> bool {
        let traits = &self.endpoint.traits;
        let window = traits.retry_window.unwrap_or(self.limits.overall);
        traits.retry_statuses.contains(&status)
            && !self.has_answered.load(Ordering::Relaxed)
            && self.ctx.monotonic().saturating_sub(self.began) < window
    }

    /// Does the service want to see a low source port for this path?
    fn is_low(&self, url: &Url) -> bool {
        self.endpoint.traits.low_port_paths.iter().any(|path| {
            let path = path.trim_end_matches('/');
            let rest = url.path().strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// One request and its answer, on a connection that is open already or a new one.
    fn exchange(
        &self,
        server: &Server,
        is_low: bool,
        limit: usize,
        budget: &Budget<'_>,
        request: &dyn Fn(IpAddr) -> Vec<u8>,
    ) -> Result<Answer, Broken> {
        loop {
            let mut connection = match self.idle_connection(server, is_low) {
                Some(connection) => connection,
                None => self.connect(server, is_low, budget).map_err(Broken::Trouble)?,
            };
            let address = connection.address.ip();
            let bytes = request(address);
            match connection.exchange(&bytes, limit, budget) {
                Ok((head, body, is_reusable)) => {
                    log::debug!("{}: HTTP status {}", connection.address, head.status);
                    if is_reusable {
                        self.keep(connection);
                    }
                    return Ok(Answer { head, body, address });
                }
                // A request that the service never saw is no attempt.
                Err(Broken::Stale) => {}
                Err(broken) => return Err(broken),
            }
        }
    }

    fn connect(
        &self,
        server: &Server,
        is_low: bool,
        budget: &Budget<'_>,
    ) -> Result<Connection, Trouble> {
        let preferred = *lock(&self.preferred);
        let dialer =
            Dialer { endpoint: &self.endpoint, route: &self.route, preferred, names: &self.names };
        let connection = dialer.connect(server, is_low, budget).inspect_err(|_| {
            // A name may have moved.
            lock(&self.names).clear();
        })?;
        *lock(&self.preferred) = Some(connection.address.ip());
        Ok(connection)
    }

    /// Takes a connection that fits and is still open; those that are not are dropped.
    fn idle_connection(&self, server: &Server, is_low: bool) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        idle.retain(Connection::is_idle);
        let fits = |kept: &Connection| kept.server == *server && (kept.is_low || !is_low);
        let at = idle.iter().position(fits)?;
        Some(idle.swap_remove(at))
    }

    fn keep(&self, connection: Connection) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// Token requests that get no answer at all, again and again, usually have one reason.
    fn hint(&self, broken: Broken) -> Trouble {
        let is_silence = matches!(broken, Broken::Silence(_));
        if is_silence && self.silences.fetch_add(1, Ordering::Relaxed) == 1 {
            log::info!(
                "Token requests get no answer. If there is a router or container in between, \
                 the hop limit in the instance's metadata options may be too low."
            );
        }
        broken.into_trouble()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
