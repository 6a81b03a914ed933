//! The sockets: requests in, decisions, answers out.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::Recorded;
use super::answer::{Answer, Fault, Framing, Silence};
use super::fixture::Rules;

/// LIMIT: bytes of one request.
const REQUEST_MAX: usize = 256 << 10;

/// A token that was given out.
pub(super) struct Issued {
    text: Vec<u8>,
    until: Instant,
    uses_left: usize,
}

#[derive(Default)]
pub(super) struct State {
    pub rules: Rules,
    pub scripts: HashMap<String, VecDeque<Answer>>,
    pub forever: HashMap<String, Answer>,
    pub limit: Option<(usize, Duration)>,
    pub requests: Vec<Recorded>,
    pub tokens: Vec<Issued>,
    pub tokens_issued: usize,
    pub connections: usize,
    pub streams: HashMap<usize, TcpStream>,
    pub recent: VecDeque<Instant>,
    pub changes: usize,
    pub is_stopped: bool,
}

pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    started: Instant,
    is_recording: bool,
    log: Option<Mutex<File>>,
    reply_ttl: Option<u32>,
}

impl Shared {
    pub(super) fn new(
        state: State,
        is_recording: bool,
        log: Option<File>,
        reply_ttl: Option<u32>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            started: Instant::now(),
            is_recording,
            log: log.map(Mutex::new),
            reply_ttl,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits; false where the server stops meanwhile.
    pub(super) fn pause(&self, time: Duration) -> bool {
        if time.is_zero() {
            return true;
        }
        let state = self.lock();
        let (state, _) =
            self.wake.wait_timeout_while(state, time, |state| !state.is_stopped).unwrap();
        !state.is_stopped
    }

    /// Waits until the server stops.
    fn pause_forever(&self) {
        drop(self.wake.wait_while(self.lock(), |state| !state.is_stopped).unwrap());
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        for stream in state.streams.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.wake.notify_all();
    }

    pub(super) fn set(&self, path: &str, body: &[u8]) {
        let mut state = self.lock();
        state.changes += 1;
        let etag = format!("changed{}", state.changes);
        let route = state.rules.routes.entry(format!("GET {path}")).or_insert(Answer::status(200));
        route.body = Arc::from(body);
        for (name, value) in &mut route.headers {
            if name.eq_ignore_ascii_case("etag") {
                value.clone_from(&etag);
            }
        }
        self.wake.notify_all();
    }
}

/// Accepts connections until the listener is shut down.
pub(super) fn listen(listener: TcpListener, shared: &Arc<Shared>) {
    let shared = shared.clone();
    thread::spawn(move || {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                if shared.lock().is_stopped {
                    return;
                }
                continue;
            };
            let _ = stream.set_nodelay(true);
            if let Some(ttl) = shared.reply_ttl {
                let _ = stream.set_ttl(ttl);
            }
            let number = {
                let mut state = shared.lock();
                if state.is_stopped {
                    return;
                }
                state.connections += 1;
                let number = state.connections;
                state.streams.insert(number, stream.try_clone().unwrap());
                number
            };
            let shared = shared.clone();
            thread::spawn(move || {
                let end = Connection::new(&stream, number, &shared).and_then(Connection::serve);
                shared.lock().streams.remove(&number);
                // A reset is what closing does then; an orderly end would come before it.
                if !end.is_err_and(|err| err.kind() == io::ErrorKind::ConnectionAborted) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            });
        }
    });
}

struct Connection<'a> {
    stream: &'a TcpStream,
    number: usize,
    shared: &'a Shared,
    peer: SocketAddr,
    local: SocketAddr,
    /// Received, not used yet.
    buffer: Vec<u8>,
}

impl<'a> Connection<'a> {
    fn new(stream: &'a TcpStream, number: usize, shared: &'a Shared) -> io::Result<Self> {
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Self { stream, number, shared, peer, local, buffer: Vec::new() })
    }

    fn serve(mut self) -> io::Result<()> {
        while let Some(mut request) = self.read()? {
            let (answer, wait) = self.shared.lock().decide(&request);
            request.status = answer.status;
            if let Some(log) = &self.shared.log {
                let line = serde_json::json!({
                    "request": request.line(),
                    "headers": request.headers.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>(),
                    "status": request.status,
                    "peer": request.peer.to_string(),
                    "local": request.local.to_string(),
                    "connection": request.connection,
                    "usec": u64::try_from(request.at.as_micros()).unwrap_or_default(),
                });
                writeln!(log.lock().unwrap(), "{line}")?;
            }
            let is_last = request.header("connection").is_some_and(|word| word == "close");
            let answer = match wait {
                Some(poll) => self.long_poll(&request, poll),
                None => answer,
            };
            if self.shared.is_recording {
                self.shared.lock().requests.push(request);
            }
            if !self.answer(&answer)? || is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next request; none where the client is gone.
    fn read(&mut self) -> io::Result<Option<Recorded>> {
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill()? {
                return Ok(None);
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).into_owned();
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let end = head + length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        while self.buffer.len() < end {
            if !self.fill()? {
                return Ok(None);
            }
        }
        let rest = self.buffer.split_off(end);
        Ok(Some(Recorded {
            raw: std::mem::replace(&mut self.buffer, rest),
            method,
            target,
            headers,
            peer: self.peer,
            local: self.local,
            connection: self.number,
            at: self.shared.started.elapsed(),
            status: 0,
        }))
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        let n = (&*self.stream).read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..n]);
        assert!(self.buffer.len() <= REQUEST_MAX, "a request without end");
        Ok(n > 0)
    }

    /// Waits for a change of a value, at most as long as the client wants.
    fn long_poll(&self, request: &Recorded, poll: Poll) -> Answer {
        let state = self.shared.lock();
        let is_same = |state: &mut State| {
            !state.is_stopped
                && state.rules.routes.get(&poll.route).and_then(|r| r.named("etag"))
                    == Some(&poll.etag)
        };
        let (state, _) = self.shared.wake.wait_timeout_while(state, poll.limit, is_same).unwrap();
        let usual = state.rules.routes.get(&poll.route).cloned();
        usual.unwrap_or_else(|| panic!("{} went away", request.target))
    }

    /// Sends one answer; false where the connection is over.
    fn answer(&self, answer: &Answer) -> io::Result<bool> {
        if !self.shared.pause(answer.delay) {
            return Ok(false);
        }
        match answer.silence {
            Silence::None => {}
            Silence::HangUp => return Ok(false),
            Silence::Reset => return self.reset(),
            Silence::Stall => {
                self.shared.pause_forever();
                return Ok(false);
            }
        }
        if let Some(raw) = &answer.raw {
            self.pieces(raw, answer)?;
            return Ok(!answer.is_last);
        }
        let mut bytes = answer.before.clone();
        bytes.extend_from_slice(answer.head().as_bytes());
        let body = match answer.fault {
            Fault::Close(n) | Fault::Reset(n) | Fault::Stall(n) => {
                &answer.body[..n.min(answer.body.len())]
            }
            Fault::None => &answer.body[..],
        };
        let is_simple = answer.drip.is_none() && !matches!(answer.framing, Framing::Chunked(_));
        if is_simple {
            // One write, so that an honest answer is one packet.
            bytes.extend_from_slice(body);
            self.write(&bytes)?;
        } else {
            self.write(&bytes)?;
            match answer.framing {
                Framing::Chunked(size) => self.chunks(body, size, answer)?,
                _ => self.pieces(body, answer)?,
            }
        }
        match answer.fault {
            Fault::None => Ok(!answer.is_last && answer.framing != Framing::Close),
            Fault::Close(_) => Ok(false),
            Fault::Reset(_) => self.reset(),
            Fault::Stall(_) => {
                self.shared.pause_forever();
                Ok(false)
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    /// Bytes at the speed the answer says.
    fn pieces(&self, bytes: &[u8], answer: &Answer) -> io::Result<()> {
        let (size, pause) = answer.drip.unwrap_or((bytes.len().max(1), Duration::ZERO));
        for (n, piece) in bytes.chunks(size.max(1)).enumerate() {
            if n > 0 && !self.shared.pause(pause) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.write(piece)?;
        }
        Ok(())
    }

    /// The body in chunks; the last one is left out where a fault comes before.
    fn chunks(&self, body: &[u8], size: usize, answer: &Answer) -> io::Result<()> {
        let pause = answer.drip.map_or(Duration::ZERO, |(_, pause)| pause);
        for (n, piece) in body.chunks(size.max(1)).enumerate() {
            if n > 0 && !self.shared.pause(pause) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            self.write(&chunk)?;
        }
        if answer.fault == Fault::None { self.write(b"0\r\n\r\n") } else { Ok(()) }
    }

    /// Ends the connection with a reset.
    fn reset(&self) -> io::Result<bool> {
        rustix::net::sockopt::set_socket_linger(self.stream, Some(Duration::ZERO))?;
        // The socket has a second handle for stopping; both must go for the reset to be sent.
        self.shared.lock().streams.remove(&self.number);
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// A request that waits for a change.
pub(super) struct Poll {
    route: String,
    etag: String,
    limit: Duration,
}

impl State {
    /// What to answer, in the order in which a service looks: service, client, token, path.
    fn decide(&mut self, request: &Recorded) -> (Answer, Option<Poll>) {
        let mut delay = Duration::ZERO;
        match self.scripted(request) {
            Some(answer) if !answer.as_usual || answer.silence != Silence::None => {
                return (answer, None);
            }
            Some(answer) => delay = answer.delay,
            None => {}
        }
        let (mut answer, poll) = self.usual(request);
        answer.delay += delay;
        (answer, poll)
    }

    fn scripted(&mut self, request: &Recorded) -> Option<Answer> {
        let keys = [request.line(), request.target.clone(), "*".to_owned()];
        for key in &keys {
            if let Some(answer) = self.scripts.get_mut(key).and_then(VecDeque::pop_front) {
                return Some(answer);
            }
        }
        keys.iter().find_map(|key| self.forever.get(key)).cloned()
    }

    fn usual(&mut self, request: &Recorded) -> (Answer, Option<Poll>) {
        if let Some(refusal) = self.refusal(request) {
            return (refusal, None);
        }
        if let Some(token) = self.token(request) {
            return (token, None);
        }
        if let Some(route) = self.rules.routes.get(&request.line()) {
            let mut answer = route.clone();
            for (name, value) in &mut answer.headers {
                // The fixture names the cloud; the client must stay with us.
                if name == "Location"
                    && let Some(ip) = self.rules.json["endpoint"]["ipv4"].as_str()
                    && let Some(path) = value.strip_prefix(&format!("http://{ip}/"))
                {
                    *value = format!("http://{}/{path}", request.header("host").unwrap_or(ip));
                }
            }
            return (answer, None);
        }
        if let Some((answer, poll)) = self.waiting(request) {
            return (answer, Some(poll));
        }
        if request.method != "GET"
            && self.rules.routes.contains_key(&format!("GET {}", request.target))
        {
            return (Answer::page(405), None);
        }
        match &self.rules.no_version {
            Some(answer) if !request.target.contains("api-version=") => (answer.clone(), None),
            _ => (self.rules.not_found.clone(), None),
        }
    }

    /// Everything that is refused without a look at the path.
    fn refusal(&mut self, request: &Recorded) -> Option<Answer> {
        if let Some(answer) = &self.rules.always {
            return Some(answer.clone());
        }
        if !self.rules.transient.is_empty() {
            return Some(self.rules.transient.remove(0));
        }
        if let Some((most, window)) = self.limit {
            let now = Instant::now();
            self.recent.retain(|at| now.duration_since(*at) < window);
            if self.recent.len() >= most {
                return Some(self.rules.rate_limited.clone());
            }
            self.recent.push_back(now);
        }
        if self.rules.forbidden.iter().any(|name| request.header(name).is_some()) {
            return Some(self.rules.forwarded.clone());
        }
        if let Some(rule) = &self.rules.low_port
            && request.peer.port() > rule.max
            && rule.prefixes.iter().any(|prefix| {
                let rest = request.target.strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
            })
        {
            return Some(rule.rejected.clone());
        }
        let mut required = self.rules.required.iter();
        let missing = required.find(|rule| request.header(&rule.name) != Some(&rule.value));
        missing.map(|rule| rule.missing.clone())
    }

    /// The token path, and requests without a good token.
    fn token(&mut self, request: &Recorded) -> Option<Answer> {
        let rule = self.rules.token.as_ref()?;
        let now = Instant::now();
        if request.target == rule.path {
            if let Some(status) = rule.status {
                return Some(Answer::page(status));
            }
            if request.method != "PUT" {
                return Some(rule.wrong_method.clone());
            }
            let ttl = request.header(&rule.ttl_header).and_then(|text| text.parse::<u64>().ok());
            let Some(ttl) = ttl.filter(|ttl| rule.ttl.contains(ttl)) else {
                return Some(rule.bad_ttl.clone());
            };
            // Two tokens differ where one of them can become stale.
            let mut text = rule.text.clone();
            if rule.uses.is_some() || rule.lifetime.is_some() {
                text.extend_from_slice(format!("-{}", self.tokens_issued + 1).as_bytes());
            }
            self.tokens_issued += 1;
            self.tokens.retain(|token| token.until > now && token.text != text);
            self.tokens.push(Issued {
                text: text.clone(),
                until: now + rule.lifetime.unwrap_or(Duration::from_secs(ttl)),
                uses_left: rule.uses.unwrap_or(usize::MAX),
            });
            let mut answer = rule.ok.clone();
            answer.body = Arc::from(text);
            for (name, value) in &mut answer.headers {
                if name.eq_ignore_ascii_case(&rule.ttl_header) {
                    *value = ttl.to_string();
                }
            }
            return Some(answer);
        }
        let shown = request.header(&rule.header);
        if shown.is_none() && !rule.is_required {
            return None;
        }
        let stale = rule.stale.clone();
        let known = self.tokens.iter_mut().find(|token| {
            token.until > now
                && token.uses_left > 0
                && shown.is_some_and(|text| text.as_bytes() == token.text.as_slice().trim_ascii())
        });
        match known {
            Some(token) => {
                token.uses_left -= 1;
                None
            }
            None => Some(stale),
        }
    }

    /// A long poll, for clouds whose values carry entity tags.
    fn waiting(&self, request: &Recorded) -> Option<(Answer, Poll)> {
        let (path, query) = request.target.split_once('?')?;
        let word = |name: &str| {
            query.split('&').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        if word("wait_for_change") != Some("true") {
            return None;
        }
        let route = format!("GET {path}");
        let answer = self.rules.routes.get(&route)?.clone();
        let etag = answer.named("etag")?.to_owned();
        // A client that knows another tag (or none) is answered, or waits, as the tag says.
        let limit = match word("last_etag") {
            Some(last) if last != etag => Duration::ZERO,
            _ => Duration::from_secs(word("timeout_sec")?.parse().ok()?),
        };
        Some((answer, Poll { route, etag, limit }))
    }
}
