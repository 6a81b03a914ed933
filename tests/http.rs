//! The HTTP client against a server that misbehaves on purpose.
#![cfg(feature = "update")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

#[path = "common/http_server.rs"]
mod http_server;

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use slipway::ctx::{Clock, Ctx};
use slipway::http::{Client, Options, ResumePoint, Start};

use http_server::{Framing, HttpServer, Ranges, Reply};

/// Does not wait, but remembers for how long it should have.
#[derive(Default)]
struct QuickClock(Mutex<Vec<Duration>>);

impl Clock for QuickClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn sleep(&self, time: Duration) {
        self.0.lock().unwrap().push(time);
    }
}

struct World {
    server: HttpServer,
    clock: Arc<QuickClock>,
    ctx: Ctx,
    client: Client,
}

fn options() -> Options {
    // Long enough for the slowest machine; a test that waits for it uses `impatient`.
    let long = Duration::from_secs(20);
    Options { connect_timeout: long, low_speed_time: long, ..Options::default() }
}

fn impatient() -> Options {
    Options {
        low_speed_time: Duration::from_millis(80),
        low_speed_limit: 1000,
        retries: 0,
        ..options()
    }
}

impl World {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: Options) -> Self {
        let clock = Arc::new(QuickClock::default());
        let ctx = Ctx::host([]).with_clock(clock.clone());
        let client = Client::with_options(&ctx, options);
        Self { server: HttpServer::start(), clock, ctx, client }
    }

    #[track_caller]
    fn fetch(&self, path: &str) -> Option<Vec<u8>> {
        self.client.fetch(&self.server.url(path), 1 << 20).unwrap()
    }

    #[track_caller]
    fn refusal(&self, path: &str) -> String {
        let err = self.client.fetch(&self.server.url(path), 1 << 20).unwrap_err().to_string();
        err.replace(&self.server.url(""), "BASE")
    }

    /// Downloads to the end.
    fn download(&self, path: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut download =
            self.client.download(&self.server.url(path), None).map_err(|err| err.to_string())?;
        match download.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(err) => Err(err.to_string().replace(&self.server.url(""), "BASE")),
        }
    }

    fn waits(&self) -> usize {
        self.clock.0.lock().unwrap().len()
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.server.log().iter().map(|r| r.header("range").map(str::to_owned)).collect()
    }
}

/// Bytes that differ at every offset, more than one buffer of them.
fn payload() -> Vec<u8> {
    (0u32..200_000).flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn request_carries_what_the_peer_sends_and_no_more() {
    let world = World::new();
    world.server.on("/f?x=1", [Reply::file("body")]);
    assert_eq!(world.fetch("/f?x=1").unwrap(), b"body");
    let request = &world.server.log()[0];
    assert_eq!(request.method, "GET");
    assert!(request.header("user-agent").unwrap().starts_with("slipway/"));
    assert_eq!(request.header("accept"), Some("*/*"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("range"), None);
}

#[test]
fn every_framing_is_understood() {
    let world = World::new();
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        world.server.on("/f", [Reply::file(payload()).framing(framing)]);
        assert_eq!(world.fetch("/f").unwrap(), payload(), "{framing:?}");
        assert_eq!(world.download("/f").unwrap(), payload(), "{framing:?}");
    }
    world.server.on("/empty", [Reply::file("")]);
    assert_eq!(world.download("/empty").unwrap(), b"");
    world.server.on("/none", [Reply::status(204)]);
    assert_eq!(world.fetch("/none").unwrap(), b"");
}

#[test]
fn absent_file_is_none_and_refusals_are_not_repeated() {
    let world = World::new();
    assert_eq!(world.fetch("/absent"), None);
    for code in [400, 403, 410, 501] {
        world.server.on("/f", [Reply::status(code)]);
        let text = world.refusal("/f");
        assert_eq!(text, format!("HTTP request to BASE/f failed with code {code}."));
    }
    world.server.on("/f", [Reply::status(401)]);
    assert_eq!(world.refusal("/f"), "Access to BASE/f requires authentication.");
    assert_eq!(world.server.count("/f"), 5);
    assert_eq!(world.waits(), 0);
    let err = world.download("/absent").unwrap_err();
    assert!(err.ends_with("failed with code 404."), "{err}");
}

#[test]
fn passing_failures_are_repeated_with_growing_waits() {
    let world = World::new();
    for code in [408, 429, 500, 502, 503, 504] {
        world.server.on("/f", [Reply::status(code), Reply::hang_up(), Reply::file("ok")]);
        assert_eq!(world.fetch("/f").unwrap(), b"ok", "{code}");
    }
    let waits = world.clock.0.lock().unwrap();
    assert_eq!(waits.len(), 12);
    assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(250)), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)), "{waits:?}");
}

#[test]
fn lasting_failure_is_given_up_after_the_last_attempt() {
    let world = World::new();
    world.server.on("/f", [Reply::status(503)]);
    assert_eq!(world.refusal("/f"), "HTTP request to BASE/f failed with code 503.");
    assert_eq!((world.server.count("/f"), world.waits()), (4, 3));
}

#[test]
fn servers_wish_to_wait_is_honoured_up_to_a_limit() {
    let world = World::new();
    let busy = |wait| Reply::status(429).header("Retry-After", wait);
    world.server.on(
        "/f",
        [busy("7"), busy("Tue, 14 Nov 2023 22:13:30 GMT"), busy("99999999"), Reply::file("ok")],
    );
    assert_eq!(world.fetch("/f").unwrap(), b"ok");
    let waits: Vec<_> = world.clock.0.lock().unwrap().iter().map(Duration::as_secs).collect();
    assert_eq!(waits, [7, 10, 120]);
}

#[test]
fn refused_connection_is_repeated_and_named() {
    let world = World::new();
    let url = {
        let server = HttpServer::start();
        server.url("/f")
    };
    // The port may still accept while the old server's thread ends; then it hangs up.
    let err = world.client.fetch(&url, 10).unwrap_err().to_string();
    assert!(err.starts_with("Transfer failed: http://127.0.0.1:"), "{err}");
    assert_eq!(world.waits(), 3);
}

#[test]
fn redirects_are_followed_up_to_the_limit() {
    let world = World::new();
    for n in 0..30 {
        world.server.on(&format!("/{n}"), [Reply::redirect(302, &format!("{}", n + 1))]);
    }
    world.server.on("/30", [Reply::file("end")]);
    let download = world.client.download(&world.server.url("/0"), None).unwrap();
    assert_eq!(download.metadata().url, world.server.url("/30"));
    assert_eq!(world.fetch("/0").unwrap(), b"end");
    world.server.on("/30", [Reply::redirect(308, "/31")]);
    let before = world.server.log().len();
    assert!(world.refusal("/0").ends_with("Maximum (30) redirects followed"));
    assert_eq!(world.server.log().len() - before, 31);
}

#[test]
fn redirects_to_other_protocols_are_refused() {
    let world = World::new();
    for location in ["file:///etc/passwd", "ftp://h/x", "gopher:x", "javascript:1"] {
        world.server.on("/f", [Reply::redirect(301, location)]);
        assert_eq!(world.refusal("/f"), "Transfer failed: BASE/f: Unsupported protocol");
    }
    world.server.on("/f", [Reply::status(302)]);
    assert_eq!(world.refusal("/f"), "Transfer failed: BASE/f: Redirect without a destination");
}

#[test]
fn credentials_of_the_url_go_to_that_server_only() {
    let world = World::new();
    let other = HttpServer::start();
    other.on("/g", [Reply::file("g")]);
    world.server.on("/f", [Reply::redirect(302, "/h")]);
    world.server.on("/h", [Reply::redirect(302, &other.url("/g"))]);
    let url = world.server.url("/f").replace("//", "//me:se%20cret@");
    assert_eq!(world.client.fetch(&url, 10).unwrap().unwrap(), b"g");
    for request in world.server.log() {
        assert_eq!(request.header("authorization"), Some("Basic bWU6c2UgY3JldA=="));
    }
    assert_eq!(other.log()[0].header("authorization"), None);
    world.server.on("/f", [Reply::status(403)]);
    let err = world.client.fetch(&url, 10).unwrap_err().to_string();
    assert!(!err.contains("cret"), "{err}");
}

#[test]
fn encoded_content_and_unasked_parts_are_refused() {
    let world = World::new();
    world.server.on("/f", [Reply::file("x").header("Content-Encoding", "gzip")]);
    assert!(world.refusal("/f").contains("encoded the content"));
    world.server.on("/f", [Reply::file("x").header("Content-Encoding", "identity")]);
    assert_eq!(world.fetch("/f").unwrap(), b"x");
    let mut part = Reply::file("x").header("Content-Range", "bytes 0-0/2");
    part.status = 206;
    world.server.on("/f", [part]);
    assert!(world.refusal("/f").contains("a part of the file, unasked"));
}

#[test]
fn small_file_that_is_too_large_is_refused_early() {
    let world = World::new();
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        world.server.on("/f", [Reply::file(vec![0; 100_000]).framing(framing)]);
        let err = world.client.fetch(&world.server.url("/f"), 99_999).unwrap_err();
        assert!(err.to_string().starts_with("File too large: "), "{err}");
        assert!(world.client.fetch(&world.server.url("/f"), 100_000).unwrap().is_some());
    }
    assert_eq!(world.waits(), 0);
}

#[test]
fn download_larger_than_allowed_stops() {
    let world = World::with(Options { max_download: 1000, ..options() });
    world.server.on("/f", [Reply::file(payload())]);
    assert!(world.download("/f").unwrap_err().contains("File too large"));
    world.server.on("/f", [Reply::file(payload()).framing(Framing::Chunked)]);
    assert!(world.download("/f").unwrap_err().contains("File too large"));
}

#[test]
fn download_goes_on_where_the_connection_broke() {
    let whole = payload();
    let file = || Reply::file(payload()).etag("\"v1\"");
    /// Makes a reply break off after so many bytes.
    type Break = fn(Reply, usize) -> Reply;
    let faults: [(Break, Options); 3] = [
        (Reply::truncate_after, options()),
        (Reply::reset_after, options()),
        (Reply::stall_after, Options { retries: 100, ..impatient() }),
    ];
    for (fault, options) in faults {
        for framing in [Framing::Length, Framing::Chunked] {
            let world = World::with(options.clone());
            world.server.on(
                "/f",
                [
                    fault(file().framing(framing), 300_000),
                    fault(file().framing(framing), 0),
                    fault(file().framing(framing), 200_000),
                    file().framing(framing),
                ],
            );
            assert!(world.download("/f").unwrap() == whole);
            let log = world.server.log();
            assert!(log.len() >= 4);
            assert_eq!(log[0].header("range"), None);
            for request in &log[1..] {
                let range = request.header("range").unwrap();
                assert!(range.starts_with("bytes=") && range.ends_with('-'), "{range}");
                assert_eq!(request.header("if-range"), Some("\"v1\""));
            }
        }
    }
}

#[test]
fn date_stands_in_where_the_etag_is_weak() {
    let world = World::new();
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let file = || Reply::file(payload()).etag("W/\"v\"").last_modified(date);
    world.server.on("/f", [file().truncate_after(1000), file()]);
    assert!(world.download("/f").unwrap() == payload());
    assert_eq!(world.server.log()[1].header("if-range"), Some(date));
    let download = world.client.download(&world.server.url("/f"), None).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    assert_eq!(download.metadata().modified, Some(modified));
    assert_eq!(download.metadata().length, Some(800_000));
}

#[test]
fn file_that_changes_meanwhile_is_an_error() {
    let world = World::new();
    let mut other = payload();
    other[5] ^= 1;
    for ranges in [Ranges::Honest, Ranges::Ignored, Ranges::Unconditional] {
        world.server.on(
            "/f",
            [
                Reply::file(payload()).etag("\"v1\"").truncate_after(1000),
                Reply::file(other.clone()).etag("\"v2\"").ranges(ranges),
            ],
        );
        let err = world.download("/f").unwrap_err();
        assert!(err.contains("changed on the server while it was transferred"), "{err}");
    }
    // Without a validator a different length still tells.
    let longer = [payload(), vec![0]].concat();
    world
        .server
        .on("/f", [Reply::file(payload()).truncate_after(1000), Reply::file(longer.clone())]);
    assert!(world.download("/f").unwrap_err().contains("changed on the server"));
    world
        .server
        .on("/f", [Reply::file(payload()).truncate_after(1000), Reply::file(&payload()[..999])]);
    assert!(world.download("/f").unwrap_err().contains("changed on the server"));
}

#[test]
fn server_without_ranges_is_read_again_and_the_known_part_dropped() {
    for framing in [Framing::Length, Framing::Chunked] {
        let world = World::new();
        let file = || Reply::file(payload()).ranges(Ranges::Ignored).framing(framing);
        world
            .server
            .on("/f", [file().truncate_after(300_000), file().truncate_after(100_000), file()]);
        assert!(world.download("/f").unwrap() == payload());
    }
}

#[test]
fn wrong_part_is_not_taken() {
    let world = World::new();
    world.server.on(
        "/f",
        [
            Reply::file(payload()).etag("\"v\"").truncate_after(1000),
            Reply::file(payload()).etag("\"v\"").ranges(Ranges::Shifted(7)),
        ],
    );
    assert!(world.download("/f").unwrap() == payload());
    assert_eq!(world.ranges()[2], None, "the third request asks for the whole");
}

#[test]
fn progress_resets_the_count_of_attempts() {
    let world = World::new();
    let cut = || Reply::file(payload()).etag("\"v\"").truncate_after(50_000);
    world.server.on(
        "/f",
        std::iter::repeat_with(cut).take(16).chain([Reply::file(payload()).etag("\"v\"")]),
    );
    assert!(world.download("/f").unwrap() == payload());
    assert!(world.server.count("/f") >= 16);
}

#[test]
fn cut_body_without_progress_is_given_up() {
    let world = World::new();
    world.server.on("/f", [Reply::file(payload()).truncate_after(10), Reply::hang_up()]);
    assert_eq!(
        world.download("/f").unwrap_err(),
        "Transfer failed: BASE/f: Transferred a partial file"
    );
    assert_eq!(world.server.count("/f"), 4);
}

#[test]
fn lying_lengths_are_found() {
    let world = World::new();
    // Claims more than it sends: partial, again and again.
    world.server.on("/f", [Reply::file(vec![7; 100]).length_lie(10)]);
    assert!(world.refusal("/f").ends_with("Transferred a partial file"));
    // Claims less: what is beyond is not part of the file.
    world.server.on("/g", [Reply::file(vec![7; 100]).length_lie(-10)]);
    assert_eq!(world.fetch("/g").unwrap().len(), 90);
}

#[test]
fn garbage_for_an_answer_is_refused() {
    let world = World::new();
    for raw in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
    ] {
        world.server.on("/f", [Reply::raw(raw)]);
        let text = world.refusal("/f");
        assert!(text.starts_with("Transfer failed: BASE/f: "), "{raw:?}: {text}");
    }
    world.server.on("/f", [Reply::file("").header("X", &"x".repeat(100_000))]);
    assert!(world.refusal("/f").contains("header"), "{}", world.refusal("/f"));
    let many = (0..5000).fold(Reply::file(""), |reply, n| reply.header(&format!("X{n}"), "y"));
    world.server.on("/f", [many]);
    world.refusal("/f");
}

#[test]
fn stalling_server_is_left() {
    let world = World::with(impatient());
    world.server.on("/f", [Reply::file(payload()).stall_after(10)]);
    assert_eq!(
        world.refusal("/f"),
        "Transfer failed: BASE/f: The server sent nothing for too long"
    );
}

#[test]
fn dripping_server_is_left() {
    let world = World::with(impatient());
    let drip = Reply::file(vec![1; 1000]).drip(1, Duration::from_millis(10));
    world.server.on("/f", [drip]);
    let err = world.download("/f").unwrap_err();
    assert!(err.contains("less than 1000 bytes per second"), "{err}");
}

#[test]
fn earlier_download_is_resumed_where_the_server_has_the_same_file() {
    let world = World::new();
    world.server.on("/f", [Reply::file("0123456789").etag("\"v1\"")]);
    let url = world.server.url("/f");
    let start = |offset, validator: Option<&str>| {
        let point = ResumePoint { offset, validator: validator.map(str::to_owned) };
        let mut download = world.client.download(&url, Some(point)).unwrap();
        let mut text = String::new();
        download.read_to_string(&mut text).unwrap();
        assert_eq!(download.metadata().length, Some(10));
        assert_eq!(download.resume_point().offset, 10);
        assert_eq!(download.resume_point().validator.as_deref(), Some("\"v1\""));
        (download.started(), text)
    };
    assert_eq!(start(4, Some("\"v1\"")), (Start::Resumed, "456789".to_owned()));
    assert_eq!(start(4, None), (Start::Resumed, "456789".to_owned()));
    assert_eq!(start(10, Some("\"v1\"")), (Start::Resumed, String::new()), "nothing is left");
    assert_eq!(start(0, Some("\"v1\"")), (Start::Fresh, "0123456789".to_owned()));
    let all = || "0123456789".to_owned();
    assert_eq!(start(4, Some("\"v0\"")), (Start::Restarted, all()));
    assert_eq!(start(11, Some("\"v1\"")), (Start::Restarted, all()), "beyond the end");
    for ranges in [Ranges::Ignored, Ranges::Shifted(1), Ranges::Unconditional] {
        world.server.on("/f", [Reply::file("0123456789").etag("\"v1\"").ranges(ranges)]);
        assert_eq!(start(4, Some("\"v0\"")), (Start::Restarted, all()), "{ranges:?}");
    }
}

#[test]
fn file_urls_need_no_server() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a b"), "content").unwrap();
    let base = format!("file://{}", dir.path().display());
    let fetch = |name: &str| world.client.fetch(&format!("{base}/{name}"), 100);
    assert_eq!(fetch("a%20b").unwrap().unwrap(), b"content");
    assert_eq!(fetch("absent").unwrap(), None);
    assert!(fetch(".").is_err());
    let point = ResumePoint { offset: 3, validator: None };
    let mut download = world.client.download(&format!("{base}/a b"), Some(point)).unwrap();
    let mut text = String::new();
    download.read_to_string(&mut text).unwrap();
    assert_eq!((download.started(), text.as_str()), (Start::Resumed, "tent"));
    let point = ResumePoint { offset: 3, validator: download.resume_point().validator };
    std::fs::write(dir.path().join("a b"), "another").unwrap();
    let mut download = world.client.download(&format!("{base}/a b"), Some(point)).unwrap();
    assert_eq!(download.started(), Start::Restarted);
    text.clear();
    download.read_to_string(&mut text).unwrap();
    assert_eq!(text, "another");
    assert!(world.ctx.is_host());
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_names_the_missing_feature() {
    let err = World::new().client.fetch("https://h/", 1).unwrap_err().to_string();
    assert!(err.contains("built without the feature 'tls'"), "{err}");
}

/// A world whose requests go through a proxy.
fn with_proxy(variable: &str, value: &str, more: &[(&str, &str)]) -> Client {
    let ctx = Ctx::host([]).with_clock(Arc::new(QuickClock::default())).with_env(variable, value);
    let ctx = more.iter().fold(ctx, |ctx, (name, value)| ctx.with_env(name, value));
    Client::with_options(&ctx, Options { retries: 0, ..options() })
}

#[test]
fn plain_request_goes_to_the_proxy_with_the_whole_url() {
    let proxy = HttpServer::start();
    let client = with_proxy("http_proxy", &proxy.url("").replace("//", "//me:pw@"), &[]);
    // The name does not exist: only the proxy may look it up.
    for n in 0..3 {
        let url = format!("http://server.invalid:8080/{n}?x");
        proxy.on(&url, [Reply::file(payload()).framing(Framing::Length)]);
        assert!(client.fetch(&url, 1 << 20).unwrap().unwrap() == payload());
    }
    let log = proxy.log();
    assert_eq!(log[0].header("host"), Some("server.invalid:8080"));
    assert_eq!(log[0].header("proxy-authorization"), Some("Basic bWU6cHc="));
    assert_eq!(log.len(), 3);
}

#[test]
fn exempt_hosts_are_asked_directly() {
    let (proxy, server) = (HttpServer::start(), HttpServer::start());
    server.on("/f", [Reply::file("x")]);
    let client = with_proxy("all_proxy", &proxy.url(""), &[("no_proxy", "127.0.0.0/8")]);
    assert_eq!(client.fetch(&server.url("/f"), 10).unwrap().unwrap(), b"x");
    assert!(proxy.log().is_empty());
}

#[test]
fn refusals_of_the_proxy_are_told() {
    let proxy = HttpServer::start();
    proxy.on("http://server.invalid/f", [Reply::status(407)]);
    let client = with_proxy("http_proxy", &proxy.url(""), &[]);
    let err = client.fetch("http://server.invalid/f", 10).unwrap_err().to_string();
    assert_eq!(err, "HTTP request to http://server.invalid/f failed with code 407.");
    let client = with_proxy("http_proxy", "socks5://127.0.0.1:1", &[]);
    let err = client.fetch("http://server.invalid/f", 10).unwrap_err().to_string();
    assert!(err.contains("$http_proxy: socks5 is not supported"), "{err}");
}
