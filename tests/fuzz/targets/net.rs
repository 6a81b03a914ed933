//! What comes over the network: answers of a server, URLs, signatures, keys.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use slipway::crypto::openpgp::{Keyring, Policy, verify};
use slipway::ctx::{Clock, Ctx};
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
