//! https: whom to trust, and that everything else works as without it.
#![cfg(all(feature = "update", feature = "tls"))]
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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use slipway::ctx::{Clock, Ctx};
use slipway::http::{Client, Options};

use http_server::{HttpServer, Identity, Reply};

/// Time passes, but nobody waits.
struct NoWait;

impl Clock for NoWait {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, _time: Duration) {}
}

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tls").join(name)
}

fn server(name: &str) -> HttpServer {
    let read = |suffix: &str| std::fs::read(vector(&format!("{name}.{suffix}"))).unwrap();
    let server = HttpServer::start_tls(Identity { certificate: &read("pem"), key: &read("key") });
    server.on("/f", [Reply::file("secret")]);
    server
}

fn ctx(roots: &str) -> Ctx {
    Ctx::host([]).with_clock(Arc::new(NoWait)).with_env("SSL_CERT_FILE", vector(roots))
}

fn client(roots: &str) -> Client {
    let options = Options { low_speed_time: Duration::from_secs(5), ..Options::default() };
    Client::with_options(&ctx(roots), options)
}

#[test]
fn trusted_server_is_heard_by_name_and_by_address() {
    let server = server("good");
    let client = client("root.pem");
    assert_eq!(client.fetch(&server.url("/f"), 10).unwrap().unwrap(), b"secret");
    let by_name = server.url("/f").replace("127.0.0.1", "localhost");
    assert_eq!(client.fetch(&by_name, 10).unwrap().unwrap(), b"secret");
}

#[test]
fn nobody_else_is_trusted_and_nothing_is_sent_to_them() {
    for (leaf, roots, why) in [
        ("good", "stranger.pem", "UnknownIssuer"),
        ("over", "root.pem", "expired"),
        ("name", "root.pem", "not valid for name"),
    ] {
        let server = server(leaf);
        let err = client(roots).fetch(&server.url("/f"), 10).unwrap_err().to_string();
        assert!(err.starts_with(&format!("Transfer failed: {}: ", server.url("/f"))), "{err}");
        assert!(err.contains("certificate") && err.contains(why), "{leaf}: {err}");
        assert!(server.log().is_empty());
    }
}

#[test]
fn a_machine_without_certificates_is_told_so() {
    let server = server("good");
    let err = client("PROVENANCE").fetch(&server.url("/f"), 10).unwrap_err();
    assert_eq!(err.to_string(), "Found no trusted certificates, cannot use https.");
    assert!(err.hints()[0].contains("$SSL_CERT_FILE"));
}

#[test]
fn download_is_resumed_over_tls() {
    let server = server("good");
    let body: Vec<u8> = (0u32..100_000).flat_map(|n| n.to_le_bytes()).collect();
    let file = || Reply::file(body.clone()).etag("\"1\"");
    server.on("/f", [file().truncate_after(150_000), file().reset_after(100_000), file()]);
    let mut bytes = Vec::new();
    let mut download = client("root.pem").download(&server.url("/f"), None).unwrap();
    download.read_to_end(&mut bytes).unwrap();
    assert!(bytes == body);
    assert_eq!(server.log().len(), 3);
}

#[test]
fn plain_and_secure_servers_may_redirect_to_each_other() {
    let (secure, plain) = (server("good"), HttpServer::start());
    plain.on("/up", [Reply::redirect(302, &secure.url("/f"))]);
    plain.on("/f", [Reply::file("plain")]);
    secure.on("/down", [Reply::redirect(302, &plain.url("/f"))]);
    let client = client("root.pem");
    assert_eq!(client.fetch(&plain.url("/up"), 10).unwrap().unwrap(), b"secret");
    assert_eq!(client.fetch(&secure.url("/down"), 10).unwrap().unwrap(), b"plain");
}

#[test]
fn proxy_gets_a_tunnel_and_sees_no_url() {
    let (secure, proxy) = (server("good"), HttpServer::start());
    let target = format!("127.0.0.1:{}", secure.port());
    proxy.on(&target, [Reply::status(200)]);
    let ctx = ctx("root.pem").with_env("https_proxy", proxy.url("").replace("//", "//me:pw@"));
    let client = Client::new(&ctx);
    assert_eq!(client.fetch(&secure.url("/f"), 10).unwrap().unwrap(), b"secret");
    let log = proxy.log();
    assert_eq!((log.len(), log[0].method.as_str()), (1, "CONNECT"));
    assert_eq!(log[0].header("proxy-authorization"), Some("Basic bWU6cHc="));
    proxy.on(&target, [Reply::status(403)]);
    let err = Client::new(&ctx).fetch(&secure.url("/f"), 10).unwrap_err().to_string();
    assert!(err.contains("403"), "{err}");
}
