//! What comes over the network: answers of a server, URLs, signatures, keys.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use slipway::crypto::openpgp::{Keyring, Policy, verify};
use slipway::ctx::{Clock, Ctx};
use slipway::format::http1::{Malformed, Reader};
use slipway::http::url::Url;
use slipway::http::{Client, Options};

use crate::{files, kind, text, vectors};

pub const HTTP_WORDS: &[&str] = &[
    "HTTP/1.1 ",
    "200 OK",
    "206",
    "302 Found",
    "404",
    "416",
    "503",
    "\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked",
    "Content-Range: bytes 0-4/5",
    "Location: ",
    "Retry-After: ",
    "ETag: \"x\"",
    "Content-Encoding: gzip",
    "\r\n\r\n",
    "Connection: close",
    "0\r\n\r\n",
];
pub const URL_WORDS: &[&str] = &[
    "http://", "https://", "file://", "//", "../", "./", "?", "#", "@", ":", "[::1]", "%2e", "%00",
];

const MAX_BODY: u64 = 1 << 16;

/// A server that answers every request with the same bytes.
struct Server {
    answer: Arc<Mutex<Vec<u8>>>,
    client: Client,
    url: String,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/x", listener.local_addr().expect("address"));
    let answer = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let bytes = shared.lock().expect("no panic there").clone();
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    let options = Options {
        retries: 0,
        max_redirects: 2,
        connect_timeout: Duration::from_secs(2),
        low_speed_time: Duration::from_secs(2),
        ..Options::default()
    };
    let ctx = Ctx::host([]).with_clock(Arc::new(StoppedClock));
    Server { answer, client: Client::with_options(&ctx, options), url }
});

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_451_666)
    }

    fn sleep(&self, _time: Duration) {}
}

/// An answer of a server, head and body. Redirects anywhere but to the server are left out, as
/// nothing may leave this machine.
pub fn http(bytes: &[u8]) -> u64 {
    let lower = text(bytes).to_ascii_lowercase();
    if lower.contains("location") && (lower.contains("//") || lower.contains("\\")) {
        return 0;
    }
    *SERVER.answer.lock().expect("no panic there") = bytes.to_vec();
    let fetched = SERVER.client.fetch(&SERVER.url, MAX_BODY);
    if let Ok(Some(body)) = &fetched {
        assert!(body.len() as u64 <= MAX_BODY);
    }
    let fetched = fetched.map(|body| body.map(|b| b.is_empty())).map_err(|err| err.to_string());
    kind(&fetched.map_err(|text| text.replace(|c: char| !c.is_ascii_alphabetic(), "")))
}

pub fn http_seeds() -> Vec<Vec<u8>> {
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nT: 1\r\n\r\n",
        "HTTP/1.0 200 OK\r\nETag: \"x\"\r\nLast-Modified: Mon, 23 Nov 2026 16:34:26 GMT\r\n\r\nbody",
        "HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Answers one after the other, as a metadata service gives them on one connection. However the
/// bytes are cut, they are the same answers.
pub fn http1(bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let whole = answer(rest, rest.len().max(1));
        assert_eq!(answer(rest, 1), whole);
        assert_eq!(answer(rest, 13), whole);
        seen.push(whole.as_ref().map(|it| (it.status / 100, it.body.is_empty())).map_err(|e| *e));
        let Ok(answer) = whole else { break };
        assert!(answer.body.len() <= HTTP1_MAX && answer.used <= rest.len());
        let is_success = (200..300).contains(&answer.status);
        assert!(is_success || answer.body.is_empty(), "an error page is no data");
        if !answer.is_reusable {
            break;
        }
        rest = rest.get(answer.used..).unwrap_or_default();
    }
    kind(&seen)
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
    is_reusable: bool,
    used: usize,
}

const HTTP1_MAX: usize = 64;

fn answer(bytes: &[u8], piece: usize) -> Result<Answer, Malformed> {
    let mut reader = Reader::new(HTTP1_MAX);
    let mut used = 0;
    for piece in bytes.chunks(piece) {
        used += reader.feed(piece)?;
        if reader.is_complete() {
            break;
        }
    }
    if !reader.is_complete() {
        reader.end()?;
        assert!(reader.is_complete() && !reader.is_reusable());
    }
    let is_reusable = reader.is_reusable();
    let (head, body) = reader.into_parts();
    // Where an error page went out of step nobody reads on, so it does not matter how far it went.
    let used = if is_reusable { used } else { 0 };
    Ok(Answer { status: head.status, body, is_reusable, used })
}

pub fn http1_seeds() -> Vec<Vec<u8>> {
    let mut seeds = http_seeds();
    let more = [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\npage",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n",
    ];
    seeds.extend(more.map(|text| text.as_bytes().to_vec()));
    seeds
}

/// A URL, and on the next line what a redirect from it says. What goes over the wire is a URL of
/// the same meaning.
pub fn url(bytes: &[u8]) -> u64 {
    let text = text(bytes);
    let (base, location) = text.split_once('\n').unwrap_or((&text, ""));
    let base = match Url::parse(base) {
        Ok(base) => base,
        Err(err) => return kind(&err),
    };
    check(&base);
    let resolved = base.resolve(location);
    if let Ok(resolved) = &resolved {
        check(resolved);
    }
    kind(&(base.scheme(), base.user().is_some(), resolved.map(|url| url.is_same_origin(&base))))
}

fn check(url: &Url) {
    let wire = url.wire();
    assert!(wire.is_ascii() && !wire.contains(|c: char| c.is_control() || c == ' '), "{wire:?}");
    let again = Url::parse(&wire).expect("what is sent can be parsed");
    assert_eq!(again.wire(), wire);
    assert!(again.is_same_origin(url));
}

pub fn url_seeds() -> Vec<Vec<u8>> {
    [
        "http://example.com/a/b?c#d\n../e",
        "https://user:pw@[::1]:8443/\n//other/x",
        "file:///var/lib/x\n?q",
        "HTTP://EXAMPLE.com:80\nhttps://example.com/%zz",
        "http://a/b/c/./../d\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

static DATA: LazyLock<Vec<u8>> =
    LazyLock::new(|| std::fs::read(vectors("signatures/SHA256SUMS")).expect("vector"));

/// A signature by one of the known keys.
pub fn openpgp(bytes: &[u8]) -> u64 {
    static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
        let path = vectors("signatures/keyrings/combined.pgp");
        Keyring::from_bytes(std::fs::read(path).expect("vector"))
    });
    let now = StoppedClock.now();
    let verified = verify(bytes, &DATA, &KEYS, now, &Policy::default());
    if let Ok(signers) = &verified {
        assert!(!signers.is_empty());
        // Whatever was changed, it is no signature over something else.
        assert!(verify(bytes, b"other", &KEYS, now, &Policy::default()).is_err());
    }
    kind(&verified.map(|signers| signers.len()))
}

pub fn openpgp_seeds() -> Vec<Vec<u8>> {
    files("signatures/sigs", "")
}

/// A keyring that a known signature is checked with.
pub fn keyring(bytes: &[u8]) -> u64 {
    static SIGNATURES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        ["rsa2048", "ed25519", "nistp256", "subkey"]
            .map(|name| {
                std::fs::read(vectors(&format!("signatures/sigs/{name}.sig"))).expect("sig")
            })
            .to_vec()
    });
    let keys = Keyring::from_bytes(bytes);
    let now = StoppedClock.now();
    let verified = SIGNATURES
        .iter()
        .map(|signature| verify(signature, &DATA, &keys, now, &Policy::default()).is_ok());
    kind(&verified.collect::<Vec<bool>>())
}

pub fn keyring_seeds() -> Vec<Vec<u8>> {
    files("signatures/keyrings", "")
}
