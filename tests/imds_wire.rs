//! The fetcher in network namespaces, where the addresses of the clouds exist: is what it sends
//! what the peer sends, and does it go through the interface it should?
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/imds_vectors.rs"]
mod imds_vectors;
#[path = "common/netns.rs"]
mod netns;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imds_vectors::{CLOUDS, vector};
use netns::Namespace;
use serde_json::Value;
use slipway::ctx::Ctx;
use slipway::imds::fetch::{Cancel, Limits, MemoryTokens, Route, Session};
use slipway::imds::model::{Endpoint, Failure, Mark, Traits};
use slipway::net::{Interface, interface};

const REFRESH: Duration = Duration::from_secs(900);

/// Requests as they came: head without its end, and the port they came from.
type Seen = Arc<Mutex<Vec<(String, u16)>>>;

/// Answers every request with what `answer` makes of its first line, in the namespace of the
/// calling thread.
fn serve(address: &str, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Seen {
    let listener = TcpListener::bind(address).unwrap();
    let seen = Seen::default();
    let (all, answer) = (seen.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, all, answer) = (stream.unwrap(), all.clone(), answer.clone());
            std::thread::spawn(move || {
                let port = stream.peer_addr().unwrap().port();
                let mut head = Vec::new();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
                        let bytes = answer(text.lines().next().unwrap());
                        all.lock().unwrap().push((text, port));
                        let _ = stream.write_all(bytes.as_bytes());
                    }
                }
            });
        }
    });
    seen
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn endpoint(config: &Value) -> Endpoint {
    let list = config["extra_headers"].as_array().unwrap();
    Endpoint {
        token_url: text(&config["token_url"]),
        refresh_header_name: text(&config["refresh_header_name"]),
        data_url: text(&config["data_url"]),
        data_url_suffix: text(&config["data_url_suffix"]),
        token_header_name: text(&config["token_header_name"]),
        extra_headers: list.iter().filter_map(text).collect(),
        address_ipv4: text(&config["address_ipv4"]).and_then(|address| address.parse().ok()),
        address_ipv6: text(&config["address_ipv6"]).and_then(|address| address.parse().ok()),
        traits: Traits { resolve: vec![[169, 254, 0, 23].into()], ..Traits::default() },
        ..Endpoint::default()
    }
}

/// A new pair of interfaces may take a second until it carries packets.
fn session(endpoint: &Endpoint, interface: Option<Interface>) -> Session {
    session_within(endpoint, interface, Duration::from_secs(10))
}

fn session_within(endpoint: &Endpoint, interface: Option<Interface>, connect: Duration) -> Session {
    let ctx = Ctx::host([]);
    let route = Route { interface, mark: Mark::Off };
    let limits =
        Limits { connect, retries: 0, resolve: Duration::from_millis(200), ..Limits::default() };
    Session::new(&ctx, endpoint, route, Arc::new(MemoryTokens::new(&ctx)), limits)
}

/// What the fixture says a request looked like, with our name in the place of the peer's.
fn expected(request: &Value) -> String {
    let headers = request["headers"].as_array().unwrap().iter();
    let headers = headers.map(|line| line.as_str().unwrap()).map(|line| {
        if line.starts_with("User-Agent: systemd-imdsd/") {
            concat!("User-Agent: slipway/", env!("CARGO_PKG_VERSION"))
        } else {
            line
        }
    });
    let line = format!("{} HTTP/1.1", request["request"].as_str().unwrap());
    let lines: Vec<&str> = [line.as_str()].into_iter().chain(headers).collect();
    lines.join("\r\n") + "\r\n\r\n"
}

#[test]
fn requests_are_the_peers_on_every_cloud() {
    let mut count = 0;
    for cloud in CLOUDS {
        let Some(space) = Namespace::new("requests_are_the_peers_on_every_cloud") else { return };
        let fixture = vector(&format!("{cloud}.json"));
        let endpoint = endpoint(&fixture["config"]);
        let address = endpoint.address_ipv4.map_or("169.254.0.23".into(), |a| a.to_string());
        space.ip(&format!("addr add {address}/32 dev lo"));
        let token = text(&fixture["auth"]["token"]).unwrap_or_default();
        let seen = space.inside(|| {
            serve(&format!("{address}:80"), move |line| {
                ok(if line.starts_with("PUT") { &token } else { "value" })
            })
        });
        for (name, get) in fixture["reference_262_1"]["get"].as_object().unwrap() {
            let Some(key) = fixture["config"]["well_known"][name].as_str() else { continue };
            // The peer was asked for this directory's entry.
            let entry = if name == "userdata-base" { "/systemd-userdata" } else { "" };
            let key = format!("{key}{entry}");
            seen.lock().unwrap().clear();
            let session = session(&endpoint, None);
            let value = space.inside(|| session.fetch(&key, REFRESH, &Cancel::new()));
            assert_eq!(value.as_deref(), Ok(&b"value"[..]), "{cloud} {name}");
            let sent: Vec<String> =
                seen.lock().unwrap().iter().map(|(head, _)| head.clone()).collect();
            let wire: Vec<String> = get["wire"].as_array().unwrap().iter().map(expected).collect();
            assert_eq!(sent, wire, "{cloud} {name}");
            count += 1;
        }
    }
    assert!(count > 40, "{count} keys only");
}

/// A client with two ways out, at the end of each a service with the same address.
fn fork(test: &str) -> Option<(Namespace, [(Namespace, Seen); 2])> {
    let client = Namespace::new(test)?;
    let services = ["one", "two"].map(|name| {
        let space = Namespace::new(test).unwrap();
        client.connect(name, &space, "eth0");
        let (ours, theirs) =
            if name == "one" { ("10.1.0.1", "10.1.0.2") } else { ("10.2.0.1", "10.2.0.2") };
        client.ip(&format!("addr add {ours}/24 dev {name}"));
        space.ip(&format!("addr add {theirs}/24 dev eth0"));
        space.ip("addr add 169.254.169.254/32 dev eth0");
        space.ip(&format!("route add default via {ours}"));
        let seen = space.inside(|| serve("169.254.169.254:80", move |_| ok(name)));
        (space, seen)
    });
    client.ip("route add default via 10.1.0.2");
    Some((client, services))
}

fn plain() -> Endpoint {
    Endpoint { data_url: Some("http://169.254.169.254/latest".into()), ..Endpoint::default() }
}

#[test]
fn requests_leave_by_their_interface_and_no_other_defect_16() {
    let Some((client, services)) = fork("requests_leave_by_their_interface") else { return };
    for name in ["one", "two"] {
        let value = client.inside(|| {
            let interface = interface::resolve(name).unwrap();
            session(&plain(), Some(interface)).fetch("/x", REFRESH, &Cancel::new())
        });
        assert_eq!(value.as_deref(), Ok(name.as_bytes()), "through {name}");
    }
    // Nor where this host may bind to addresses that it does not have, as those with a floating
    // address may.
    client.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").unwrap());
    let value = client.inside(|| {
        let interface = interface::resolve("two").unwrap();
        session(&plain(), Some(interface)).fetch("/x", REFRESH, &Cancel::new())
    });
    assert_eq!(value.as_deref(), Ok(&b"two"[..]));
    // Where the interface is dead, the other one is no substitute: the peer pins a wrong one here.
    services[1].0.ip("link set eth0 down");
    let result = client.inside(|| {
        let interface = interface::resolve("two").unwrap();
        let session = session_within(&plain(), Some(interface), Duration::from_millis(300));
        session.fetch("/x", REFRESH, &Cancel::new())
    });
    assert!(matches!(result, Err(Failure::CommunicationFailure(_))), "{result:?}");
    assert_eq!(services[0].1.lock().unwrap().len(), 1);
}

#[test]
fn an_address_of_this_machine_is_reached_whatever_the_interface() {
    let test = "an_address_of_this_machine_is_reached";
    let Some((client, _services)) = fork(test) else { return };
    let _seen = client.inside(|| serve("10.1.0.1:80", |_| ok("own")));
    let endpoint = Endpoint { data_url: Some("http://10.1.0.1".into()), ..Endpoint::default() };
    for name in ["one", "two"] {
        let value = client.inside(|| {
            let interface = interface::resolve(name).unwrap();
            session(&endpoint, Some(interface)).fetch("/x", REFRESH, &Cancel::new())
        });
        assert_eq!(value.as_deref(), Ok(&b"own"[..]), "through {name}");
    }
}

#[test]
fn an_interface_that_is_gone_is_named() {
    let Some((client, _services)) = fork("an_interface_that_is_gone_is_named") else { return };
    let result = client.inside(|| {
        let interface = Interface { index: 4_000_000, name: "slipway-none".into() };
        session(&plain(), Some(interface)).fetch("/x", REFRESH, &Cancel::new())
    });
    let expected = "cannot use interface 'slipway-none': No such device".to_owned();
    assert_eq!(result, Err(Failure::CommunicationFailure(expected)));
}

#[test]
fn link_local_services_are_reached_through_their_zone() {
    let test = "link_local_services_are_reached_through_their_zone";
    let Some((client, services)) = fork(test) else { return };
    for (space, _) in &services {
        space.ip("addr add fe80::a9fe:a9fe/64 dev eth0 nodad");
    }
    for name in ["one", "two"] {
        client.ip(&format!("addr add fe80::1/64 dev {name} nodad"));
    }
    for ((space, _), name) in services.iter().zip(["one", "two"]) {
        let seen = space.inside(|| serve("[::]:81", move |_| ok(name)));
        let url = format!("http://[fe80::a9fe:a9fe%25{name}]:81/hetzner");
        let endpoint = Endpoint { data_url: Some(url), ..Endpoint::default() };
        let value = client.inside(|| session(&endpoint, None).fetch("/x", REFRESH, &Cancel::new()));
        assert_eq!(value.as_deref(), Ok(name.as_bytes()));
        let (head, _) = seen.lock().unwrap().remove(0);
        assert!(head.contains("\r\nHost: [fe80::a9fe:a9fe]:81\r\n"), "{head}");
        // Without a zone the session's interface is meant.
        let url = Some("http://[fe80::a9fe:a9fe]:81/hetzner".to_owned());
        let endpoint = Endpoint { data_url: url, ..Endpoint::default() };
        let value = client.inside(|| {
            let interface = interface::resolve(name).unwrap();
            session(&endpoint, Some(interface)).fetch("/x", REFRESH, &Cancel::new())
        });
        assert_eq!(value.as_deref(), Ok(name.as_bytes()));
    }
}

#[test]
fn low_ports_in_use_are_skipped_defect_22() {
    let test = "low_ports_in_use_are_skipped_defect_22";
    let Some(space) = Namespace::new(test) else { return };
    // Everything below 1024 is taken but for three, one of which is never used.
    let held = space.inside(|| {
        (1..1024_u16)
            .filter(|port| ![443, 600, 601].contains(port))
            .map(|port| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap())
            .collect::<Vec<_>>()
    });
    let seen = space.inside(|| serve("127.0.0.1:8080", |_| ok("v")));
    let traits = Traits { low_port_paths: vec!["/user_data".into()], ..Traits::default() };
    let data_url = Some("http://127.0.0.1:8080".to_owned());
    let endpoint = Endpoint { data_url, traits, ..Endpoint::default() };
    let mut open = Vec::new();
    for _ in 0..2 {
        let session = session(&endpoint, None);
        space.inside(|| session.fetch("/user_data", REFRESH, &Cancel::new())).unwrap();
        open.push(session);
    }
    let mut ports: Vec<u16> = seen.lock().unwrap().iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [600, 601]);
    let session = session(&endpoint, None);
    let result = space.inside(|| session.fetch("/user_data", REFRESH, &Cancel::new()));
    assert!(
        matches!(&result, Err(Failure::CommunicationFailure(text)) if text.contains("below 1024")),
        "{result:?}"
    );
    drop(held);
}
