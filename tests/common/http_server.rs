//! A web server on the loopback interface that does what a script says, also what no web server
//! should: cut, reset, stall, drip, lie about lengths and ranges.
//!
//! ```ignore
//! let server = HttpServer::start();
//! server.on("/f", [Reply::file(b"0123456789").etag("\"1\"").reset_after(4), Reply::file(b"0123456789").etag("\"1\"")]);
//! client.download(&server.url("/f"), None);
//! assert_eq!(server.log()[1].header("range"), Some("bytes=4-"));
//! ```
//!
//! As a proxy it answers for absolute URLs (`on("http://h/f", …)`) and, where the script says 200
//! for a `host:port`, opens a tunnel to it.
//!
//! The replies of a path are used one after the other, the last one again and again. Every
//! connection has its thread; all of them end when the server is dropped.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test helper: a broken test should panic"
)]

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection closes.
    Close,
}

/// What goes wrong after some bytes of the body.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// Closes the connection in good order.
    Truncate(usize),
    /// Sends a TCP reset.
    Reset(usize),
    /// Sends nothing more, but keeps the connection.
    Stall(usize),
}

/// What the server makes of a `Range` header.
#[derive(Clone, Copy, Debug)]
pub enum Ranges {
    Honest,
    /// Always the whole file.
    Ignored,
    /// Claims and sends a part that begins this many bytes later.
    Shifted(u64),
    /// Sends a part without looking at `If-Range`.
    Unconditional,
}

/// One scripted answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Arc<Vec<u8>>,
    pub framing: Framing,
    pub fault: Fault,
    pub ranges: Ranges,
    /// Piece size and pause between pieces.
    pub drip: Option<(usize, Duration)>,
    /// Added to the true `Content-Length`.
    pub length_lie: i64,
    /// Bytes written instead of everything else.
    pub raw: Option<Vec<u8>>,
    /// Close before a byte of the answer.
    pub hang_up: bool,
}

impl Reply {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Arc::new(Vec::new()),
            framing: Framing::Length,
            fault: Fault::None,
            ranges: Ranges::Honest,
            drip: None,
            length_lie: 0,
            raw: None,
            hang_up: false,
        }
    }

    /// A file that can be asked for in parts.
    pub fn file(body: impl Into<Vec<u8>>) -> Self {
        Self { body: Arc::new(body.into()), ..Self::status(200) }
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).header("Location", location)
    }

    /// These bytes and nothing else; then the connection closes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::status(0) }
    }

    /// Closes the connection without an answer.
    pub fn hang_up() -> Self {
        Self { hang_up: true, ..Self::status(0) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn etag(self, etag: &str) -> Self {
        self.header("ETag", etag)
    }

    pub fn last_modified(self, date: &str) -> Self {
        self.header("Last-Modified", date)
    }

    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    pub fn truncate_after(mut self, bytes: usize) -> Self {
        self.fault = Fault::Truncate(bytes);
        self
    }

    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.fault = Fault::Reset(bytes);
        self
    }

    pub fn stall_after(mut self, bytes: usize) -> Self {
        self.fault = Fault::Stall(bytes);
        self
    }

    pub fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.drip = Some((bytes, pause));
        self
    }

    pub fn ranges(mut self, ranges: Ranges) -> Self {
        self.ranges = ranges;
        self
    }

    /// Claims this many bytes more (or fewer) than are sent.
    pub fn length_lie(mut self, difference: i64) -> Self {
        self.length_lie = difference;
        self
    }

    fn named(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// As in the request line; absolute where a client speaks to a proxy.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Certificate chain and key, both PEM.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub certificate: &'a [u8],
    pub key: &'a [u8],
}

#[derive(Default)]
struct State {
    script: HashMap<String, (Vec<Reply>, usize)>,
    log: Vec<Request>,
    connections: Vec<TcpStream>,
    is_stopped: bool,
}

/// The running server.
pub struct HttpServer {
    address: SocketAddr,
    is_tls: bool,
    state: Arc<Mutex<State>>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

type Wrap = Arc<dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync>;

impl HttpServer {
    /// Listens on 127.0.0.1, on a port of the kernel's choice.
    pub fn start() -> Self {
        Self::listen(false, Arc::new(|stream| Box::new(stream)))
    }

    /// The same with TLS.
    #[cfg(feature = "tls")]
    pub fn start_tls(identity: Identity<'_>) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let chain = CertificateDer::pem_slice_iter(identity.certificate).map(|c| c.unwrap());
        let key = PrivateKeyDer::from_pem_slice(identity.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .unwrap();
        let config = Arc::new(config);
        Self::listen(
            true,
            Arc::new(move |stream| {
                let session = rustls::ServerConnection::new(config.clone()).unwrap();
                Box::new(rustls::StreamOwned::new(session, stream))
            }),
        )
    }

    fn listen(is_tls: bool, wrap: Wrap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                {
                    let mut state = shared.lock().unwrap();
                    if state.is_stopped {
                        return;
                    }
                    state.connections.push(stream.try_clone().unwrap());
                }
                let (shared, wrap) = (shared.clone(), wrap.clone());
                thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    let socket = stream.try_clone().unwrap();
                    let _ = serve(wrap(stream), &socket, &shared);
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, is_tls, state }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// URL of a path on this server.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// Sets what a path answers. The path is what the request line carries, query included.
    pub fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies: Vec<_> = replies.into_iter().collect();
        assert!(!replies.is_empty());
        self.state.lock().unwrap().script.insert(path.to_owned(), (replies, 0));
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.log().iter().filter(|request| request.target == path).count()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let connections = {
            let mut state = self.state.lock().unwrap();
            state.is_stopped = true;
            std::mem::take(&mut state.connections)
        };
        for connection in connections {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the listener, which then sees that it is stopped.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of one connection.
fn serve(stream: Box<dyn Stream>, socket: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream)? {
        let reply = {
            let mut state = state.lock().unwrap();
            state.log.push(request.clone());
            match state.script.get_mut(&request.target) {
                None => Reply::status(404),
                Some((replies, next)) => {
                    let reply = replies[(*next).min(replies.len() - 1)].clone();
                    *next += 1;
                    reply
                }
            }
        };
        if request.method == "CONNECT" && reply.status == 200 {
            stream.get_mut().write_all(b"HTTP/1.1 200 Go\r\n\r\n")?;
            return tunnel(socket, &request.target);
        }
        if !answer(&mut stream, socket, &request, &reply)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Carries bytes both ways until one side ends. The client is silent until it has the answer, so
/// nothing of what it says to the target can be in our buffer.
fn tunnel(client: &TcpStream, target: &str) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client.try_clone()?, server);
    let _ = io::copy(&mut from_client, &mut to_server);
    let _ = to_server.shutdown(std::net::Shutdown::Both);
    let _ = back.join();
    Ok(())
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some(Request { method, target, headers }));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

/// Sends one answer; false where the connection is over.
fn answer(
    stream: &mut BufReader<Box<dyn Stream>>,
    socket: &TcpStream,
    request: &Request,
    reply: &Reply,
) -> io::Result<bool> {
    if reply.hang_up {
        return Ok(false);
    }
    if let Some(raw) = &reply.raw {
        stream.get_mut().write_all(raw)?;
        stream.get_mut().flush()?;
        return Ok(false);
    }
    let mut status = reply.status;
    let mut extra = String::new();
    let mut body = reply.body.as_slice();
    if status == 200
        && let Some(from) = wanted_range(request, reply)
    {
        if from >= body.len() {
            status = 416;
            extra = format!("Content-Range: bytes */{}\r\n", body.len());
            body = b"";
        } else {
            status = 206;
            extra = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
            body = &body[from..];
        }
    }
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n{extra}");
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match reply.framing {
        Framing::Length => {
            let length = body.len() as i64 + reply.length_lie;
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => head.push_str("Connection: close\r\n"),
    }
    head.push_str("\r\n");
    let out = stream.get_mut();
    out.write_all(head.as_bytes())?;
    let limit = match reply.fault {
        Fault::None => usize::MAX,
        Fault::Truncate(n) | Fault::Reset(n) | Fault::Stall(n) => n,
    };
    let sent = &body[..body.len().min(limit)];
    let (piece, pause) = reply.drip.unwrap_or((64 << 10, Duration::ZERO));
    for piece in sent.chunks(piece) {
        match reply.framing {
            Framing::Chunked => {
                write!(out, "{:x}\r\n", piece.len())?;
                out.write_all(piece)?;
                out.write_all(b"\r\n")?;
            }
            Framing::Length | Framing::Close => out.write_all(piece)?,
        }
        out.flush()?;
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    match reply.fault {
        Fault::None => {}
        Fault::Truncate(_) => return Ok(false),
        Fault::Reset(_) => {
            // A reset overtakes what the peer has not read: let it read first.
            out.flush()?;
            wait_until_read(socket);
            rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Fault::Stall(_) => {
            // The client gives up, or the server is dropped.
            let _ = stream.get_mut().read(&mut [0]);
            return Ok(false);
        }
    }
    if reply.framing == Framing::Chunked {
        out.write_all(b"0\r\n\r\n")?;
    }
    out.flush()?;
    Ok(reply.framing != Framing::Close && reply.length_lie == 0)
}

/// First byte asked for, if the answer is to be a part.
fn wanted_range(request: &Request, reply: &Reply) -> Option<usize> {
    let from = request.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?;
    let from: usize = from.parse().ok()?;
    let is_same = request.header("if-range").is_none_or(|validator| {
        Some(validator) == reply.named("etag") || Some(validator) == reply.named("last-modified")
    });
    match reply.ranges {
        Ranges::Ignored => None,
        Ranges::Unconditional => Some(from),
        Ranges::Honest => is_same.then_some(from),
        Ranges::Shifted(by) => is_same.then_some(from + by as usize),
    }
}

/// Waits until the peer's kernel has acknowledged everything.
fn wait_until_read(socket: &TcpStream) {
    // On loopback the data is in the peer's queue when the write returns; give its reader a turn.
    let _ = socket.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = socket.peek(&mut [0]);
}
