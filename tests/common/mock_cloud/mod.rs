//! A cloud's metadata service on real sockets: as faithful as the fixtures of
//! `tests/vectors/imds`, and as broken as a script asks for.
//!
//! ```ignore
//! let mock = MockCloud::fixture("amazon-ec2")
//!     .variant("token-expired")
//!     .script("/latest/meta-data/hostname", [Answer::status(503), Answer::usual()])
//!     .start();
//! let endpoint = mock.endpoint();            // the cloud's row, pointed at mock.addr()
//! …
//! assert_eq!(mock.lines(), ["PUT /latest/api/token", "GET /latest/meta-data/hostname"]);
//! ```
//!
//! Answers match method and target exactly. A script is used up one answer after the other; then
//! the cloud answers by itself again. Every connection has its thread; all of them end when the
//! handle is dropped. Raw TCP: nothing between the bytes of a script and the wire.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test helper: a broken test should panic"
)]

mod answer;
mod fixture;
mod server;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "not every test crate wants them all")]
pub use answer::{Answer, Fault, Framing, Silence};
use fixture::Rules;
#[allow(unused_imports, reason = "not every test crate wants them all")]
pub use fixture::{CLOUDS, json};
use server::{Shared, State};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Every byte.
    pub raw: Vec<u8>,
    pub method: String,
    /// As in the request line; absolute where a client speaks to a proxy.
    pub target: String,
    /// In order and in the client's spelling.
    pub headers: Vec<(String, String)>,
    pub peer: SocketAddr,
    /// The address it came to.
    pub local: SocketAddr,
    /// Number of the connection, from 1.
    pub connection: usize,
    /// Since the server started.
    pub at: Duration,
    /// What was answered; 0 for silence and garbage.
    pub status: u16,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// `GET /path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What becomes of connections to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ear {
    /// They are answered.
    Open,
    /// They are made, and nothing more happens.
    Deaf,
    /// They are refused.
    Shut,
}

/// A server in the making.
pub struct MockCloud {
    rules: Rules,
    scripts: HashMap<String, VecDeque<Answer>>,
    forever: HashMap<String, Answer>,
    limit: Option<(usize, Duration)>,
    listen: Vec<SocketAddr>,
    ears: (Ear, Ear),
    reply_ttl: Option<u32>,
    is_recording: bool,
    log: Option<File>,
}

impl MockCloud {
    /// One of the nine by name, or a file of that form.
    pub fn fixture(name: &str) -> Self {
        Self {
            rules: Rules::new(json(name)),
            scripts: HashMap::new(),
            forever: HashMap::new(),
            limit: None,
            listen: Vec::new(),
            ears: (Ear::Open, Ear::Shut),
            reply_ttl: None,
            is_recording: true,
            log: None,
        }
    }

    /// Applies a variant of the fixture.
    pub fn variant(mut self, name: &str) -> Self {
        self.rules.variant(name);
        self
    }

    /// The next answers of a target, of `METHOD target`, or of everything (`*`).
    pub fn script(mut self, path: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.scripts.entry(path.to_owned()).or_default().extend(answers);
        self
    }

    /// All answers of a target, of `METHOD target`, or of everything (`*`).
    pub fn always(mut self, path: &str, answer: Answer) -> Self {
        self.forever.insert(path.to_owned(), answer);
        self
    }

    /// The route of a target, as if it were in the fixture.
    pub fn route(mut self, path: &str, answer: Answer) -> Self {
        self.rules.routes.insert(format!("GET {path}"), answer);
        self
    }

    /// The text of tokens.
    pub fn token(mut self, text: impl AsRef<[u8]>) -> Self {
        self.rules.the_token().text = text.as_ref().to_vec();
        self
    }

    /// How often one token works.
    pub fn token_uses(mut self, uses: usize) -> Self {
        self.rules.the_token().uses = Some(uses);
        self
    }

    /// How long one token works, whatever lifetime was asked for.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.rules.the_token().lifetime = Some(lifetime);
        self
    }

    /// More than so many requests in a time are refused in the cloud's own way.
    pub fn rate_limit(mut self, requests: usize, window: Duration) -> Self {
        self.limit = Some((requests, window));
        self
    }

    /// The rule of low source ports with another bound, for clients without privileges.
    pub fn max_port(mut self, port: u16) -> Self {
        self.rules.low_port.as_mut().expect("a cloud with that rule").max = port;
        self
    }

    /// Answers 404 without a body.
    pub fn empty_not_found(mut self) -> Self {
        self.rules.not_found.body = Arc::from([]);
        self
    }

    /// Listens here too; port 0 is any. Without one: what [`Self::ears`] says.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    /// What the two loopback addresses do, both on the same port.
    pub fn ears(mut self, ipv4: Ear, ipv6: Ear) -> Self {
        self.ears = (ipv4, ipv6);
        self
    }

    /// The time to live of the packets of answers; EC2's hop limit is 1.
    pub fn reply_ttl(mut self, ttl: u32) -> Self {
        self.reply_ttl = Some(ttl);
        self
    }

    /// Forgets requests at once, for servers that run long.
    pub fn forgetful(mut self) -> Self {
        self.is_recording = false;
        self
    }

    /// Writes every request to a file, one JSON object per line.
    pub fn log_to(mut self, path: &Path) -> Self {
        self.log = Some(File::create(path).unwrap());
        self
    }

    /// Begins to answer.
    pub fn start(self) -> Mock {
        let listeners = if self.listen.is_empty() {
            loopback(self.ears)
        } else {
            let bind = |address: &SocketAddr| {
                let listener = TcpListener::bind(address);
                (listener.unwrap_or_else(|err| panic!("cannot listen on {address}: {err}")), true)
            };
            self.listen.iter().map(bind).collect()
        };
        let shared = Arc::new(Shared::new(
            State {
                rules: self.rules,
                scripts: self.scripts,
                forever: self.forever,
                limit: self.limit,
                ..State::default()
            },
            self.is_recording,
            self.log,
            self.reply_ttl,
        ));
        let mut addresses = Vec::new();
        let mut kept = Vec::new();
        for (listener, is_open) in listeners {
            addresses.push(listener.local_addr().unwrap());
            kept.push(listener.try_clone().unwrap());
            if is_open {
                server::listen(listener, &shared);
            }
        }
        Mock { addresses, shared, listeners: kept }
    }
}

/// Listeners on the loopback addresses, on one port.
fn loopback((ipv4, ipv6): (Ear, Ear)) -> Vec<(TcpListener, bool)> {
    for _ in 0..100 {
        let mut found = Vec::new();
        let mut port = 0;
        let mut is_taken = false;
        for (ear, ip) in [(ipv4, "127.0.0.1"), (ipv6, "::1")] {
            if ear == Ear::Shut {
                continue;
            }
            match TcpListener::bind((ip, port)) {
                Ok(listener) => {
                    port = listener.local_addr().unwrap().port();
                    found.push((listener, ear == Ear::Open));
                }
                Err(err) if port == 0 => panic!("cannot listen on {ip}: {err}"),
                Err(_) => is_taken = true,
            }
        }
        // Somebody else's port is no place where connections are refused.
        let is_quiet = [(ipv4, "127.0.0.1"), (ipv6, "::1")]
            .iter()
            .all(|(ear, ip)| *ear != Ear::Shut || TcpStream::connect((*ip, port)).is_err());
        if !is_taken && is_quiet {
            return found;
        }
    }
    panic!("no free port on both loopback addresses");
}

/// True where this machine can listen on `::1`.
pub fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// The running server.
pub struct Mock {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    listeners: Vec<TcpListener>,
}

impl Mock {
    /// The first address.
    pub fn addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses, in the order of the calls of `listen`; IPv4 first where there were none.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// URL of a path on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    /// The fixture as it is in the file.
    pub fn json(&self) -> serde_json::Value {
        self.shared.lock().rules.json.clone()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// `METHOD target` of every request so far.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lock().requests.iter().map(Recorded::line).collect()
    }

    /// How many requests had this target, or this `METHOD target`.
    pub fn count(&self, path: &str) -> usize {
        let requests = &self.shared.lock().requests;
        requests.iter().filter(|request| request.target == path || request.line() == path).count()
    }

    /// How many tokens were issued.
    pub fn tokens(&self) -> usize {
        self.shared.lock().tokens_issued
    }

    /// How many connections were made to open addresses.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Waits until so many requests have arrived.
    pub fn wait_for(&self, requests: usize) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.shared.lock().requests.len() < requests {
            assert!(Instant::now() < end, "waited for {requests} requests: {:?}", self.lines());
            self.shared.pause(Duration::from_millis(20));
        }
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        self.shared.lock().requests.clear();
    }

    /// Further answers of a target, as [`MockCloud::script`].
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().scripts.entry(path.to_owned()).or_default().extend(answers);
    }

    /// Another value of a route; its entity tag changes, and who waits for that is answered.
    pub fn set(&self, path: &str, body: impl AsRef<[u8]>) {
        self.shared.set(path, body.as_ref());
    }

    /// Makes all tokens invalid.
    pub fn revoke_tokens(&self) {
        self.shared.lock().tokens.clear();
    }

    /// A URL of the fixture with this server's address instead of the cloud's.
    pub fn retarget(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        format!("{scheme}://{}{path}", self.addr())
    }

    /// The first address of a family.
    fn ip(&self, is_ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == is_ipv4)
    }

    /// The cloud's row as `SYSTEMD_IMDS_*` variables, pointed at this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        let config = &self.json()["config"];
        let mut found = Vec::new();
        let mut set = |name: &str, value: Option<String>| {
            found.extend(value.map(|value| (format!("SYSTEMD_IMDS_{name}"), value)));
        };
        let text = |name: &str| config[name].as_str().map(str::to_owned);
        set("VENDOR", text("vendor"));
        set("TOKEN_URL", text("token_url").map(|url| self.retarget(&url)));
        set("REFRESH_HEADER_NAME", text("refresh_header_name"));
        set("DATA_URL", text("data_url").map(|url| self.retarget(&url)));
        set("DATA_URL_SUFFIX", text("data_url_suffix"));
        set("TOKEN_HEADER_NAME", text("token_header_name"));
        set("ADDRESS_IPV4", self.ip(true).map(|ip| ip.to_string()));
        set("ADDRESS_IPV6", self.ip(false).map(|ip| ip.to_string()));
        for (n, header) in config["extra_headers"].as_array().into_iter().flatten().enumerate() {
            let number = if n == 0 { String::new() } else { (n + 1).to_string() };
            set(&format!("EXTRA_HEADER{number}"), header.as_str().map(str::to_owned));
        }
        for (name, key) in config["well_known"].as_object().into_iter().flatten() {
            let name = name.replace('-', "_").to_ascii_uppercase();
            set(&format!("KEY_{name}"), key.as_str().map(str::to_owned));
        }
        found
    }

    /// The cloud's row, pointed at this server; without traits.
    #[cfg(feature = "imds")]
    pub fn endpoint(&self) -> slipway::imds::Endpoint {
        use slipway::imds::WellKnown;
        let config = &self.json()["config"];
        let text = |name: &str| config[name].as_str().map(str::to_owned);
        let ipv4 = self.ip(true).map(|ip| ip.to_string().parse().unwrap());
        let ipv6 = self.ip(false).map(|ip| ip.to_string().parse().unwrap());
        let headers = config["extra_headers"].as_array().into_iter().flatten();
        let keys = config["well_known"].as_object().into_iter().flatten();
        slipway::imds::Endpoint {
            vendor: text("vendor"),
            token_url: text("token_url").map(|url| self.retarget(&url)),
            refresh_header_name: text("refresh_header_name"),
            data_url: text("data_url").map(|url| self.retarget(&url)),
            data_url_suffix: text("data_url_suffix"),
            token_header_name: text("token_header_name"),
            extra_headers: headers.map(|text| text.as_str().unwrap().to_owned()).collect(),
            address_ipv4: ipv4,
            address_ipv6: ipv6,
            well_known: keys
                .map(|(name, key)| {
                    (WellKnown::parse(name).unwrap(), key.as_str().unwrap().to_owned())
                })
                .collect(),
            ..slipway::imds::Endpoint::default()
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.shared.stop();
        for listener in &self.listeners {
            // Wakes whoever accepts, and frees the address at once.
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        }
    }
}
