//! The mock cloud itself: is it as faithful and as broken as the tests that use it believe?
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mock_cloud::{Answer, CLOUDS, Ear, Fault, Framing, MockCloud, json};

/// Everything the server sends for one request on a connection of its own.
fn exchange(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let text = exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}"));
    split(&text)
}

fn split(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

/// The headers a good client of this cloud sends.
fn good_headers(name: &str) -> String {
    let fixture = json(name);
    let mut headers = String::new();
    for line in fixture["config"]["extra_headers"].as_array().unwrap() {
        headers.push_str(&format!("{}\r\n", line.as_str().unwrap()));
    }
    if let (Some(header), Some(token)) =
        (fixture["auth"]["token_header"].as_str(), fixture["auth"]["token"].as_str())
    {
        headers.push_str(&format!("{header}: {token}\r\n"));
    }
    headers
}

#[test]
fn every_route_of_every_cloud_is_answered_byte_for_byte() {
    for name in CLOUDS {
        let mut cloud = MockCloud::fixture(name);
        if name == "scaleway" {
            cloud = cloud.max_port(u16::MAX);
        }
        let mock = cloud.start();
        let fixture = mock.json();
        if fixture["auth"]["kind"] == "token-put" {
            let put = format!(
                "PUT {} HTTP/1.1\r\n{}: 60\r\n",
                fixture["auth"]["token_path"].as_str().unwrap(),
                fixture["auth"]["ttl_header"].as_str().unwrap()
            );
            let (status, token) = split(&exchange(mock.addr(), &put));
            assert_eq!((status, token.as_str()), (200, fixture["auth"]["token"].as_str().unwrap()));
        }
        for route in fixture["routes"].as_array().unwrap() {
            let path = route["path"].as_str().unwrap();
            let (status, body) = get(mock.addr(), path, &good_headers(name));
            assert_eq!(u64::from(status), route["status"].as_u64().unwrap(), "{name} {path}");
            assert_eq!(body, route["body"].as_str().unwrap_or(""), "{name} {path}");
        }
        let missing = if name == "microsoft-azure" { "/no?api-version=1" } else { "/no/such/key" };
        let (status, body) = get(mock.addr(), missing, &good_headers(name));
        assert_eq!((status, body.is_empty()), (404, false), "{name}");
    }
}

#[test]
fn every_variant_of_every_cloud_can_be_applied() {
    for name in CLOUDS {
        for variant in json(name)["variants"].as_array().unwrap() {
            drop(MockCloud::fixture(name).variant(variant["name"].as_str().unwrap()).start());
        }
    }
}

#[test]
fn tokens_are_checked_as_the_cloud_does() {
    let mock = MockCloud::fixture("amazon-ec2").token_uses(1).start();
    let put = |ttl: &str| {
        let head = format!("PUT /latest/api/token HTTP/1.1\r\n{ttl}");
        split(&exchange(mock.addr(), &head))
    };
    let header = "X-aws-ec2-metadata-token-ttl-seconds";
    assert_eq!(put("").0, 400);
    assert_eq!(put(&format!("{header}: 0\r\n")).0, 400);
    assert_eq!(put(&format!("{header}: 21601\r\n")).0, 400);
    assert_eq!(put(&format!("{header}: 21600\r\nX-Forwarded-For: 1.2.3.4\r\n")).0, 403);
    assert_eq!(get(mock.addr(), "/latest/api/token", "").0, 405);
    assert_eq!(mock.tokens(), 0);
    let (status, token) = put(&format!("{}: 21600\r\n", header.to_ascii_lowercase()));
    assert_eq!((status, mock.tokens()), (200, 1));
    let shown = format!("X-aws-ec2-metadata-token: {token}\r\n");
    let path = "/latest/meta-data/placement/region";
    assert_eq!(get(mock.addr(), path, ""), (401, get(mock.addr(), path, "").1));
    assert_eq!(get(mock.addr(), path, &shown), (200, "eu-west-1".to_owned()));
    assert_eq!(get(mock.addr(), path, &shown).0, 401, "one use only");
}

#[test]
fn static_headers_and_ports_are_checked_as_the_cloud_does() {
    for (name, status) in [("microsoft-azure", 400), ("google-gcp", 403), ("oracle-cloud-oci", 401)]
    {
        let mock = MockCloud::fixture(name).start();
        assert_eq!(get(mock.addr(), "/", "").0, status, "{name}");
        let forwarded = format!("{}X-Forwarded-For: 1.2.3.4\r\n", good_headers(name));
        assert_eq!(get(mock.addr(), "/", &forwarded).0, 403, "{name}");
    }
    let mock = MockCloud::fixture("scaleway").start();
    assert_eq!(get(mock.addr(), "/user_data/cloud-init", "").0, 403);
    assert_eq!(get(mock.addr(), "/conf", "").0, 200);
    let mock = MockCloud::fixture("microsoft-azure").start();
    assert_eq!(get(mock.addr(), "/metadata/instance", "Metadata: true\r\n").0, 400);
}

#[test]
fn redirects_of_a_cloud_stay_with_the_server_that_was_asked() {
    let mock = MockCloud::fixture("google-gcp").start();
    let text = exchange(
        mock.addr(),
        "GET /computeMetadata/v1/instance HTTP/1.1\r\nHost: here:1\r\nMetadata-Flavor: Google\r\n",
    );
    assert!(text.contains("Location: http://here:1/computeMetadata/v1/instance/\r\n"), "{text}");
}

#[test]
fn rate_limits_answer_in_the_words_of_the_cloud() {
    let mock = MockCloud::fixture("microsoft-azure").rate_limit(2, Duration::from_secs(60)).start();
    let path = "/metadata/instance/compute/location?api-version=2025-04-07&format=text";
    let ask = || exchange(mock.addr(), &format!("GET {path} HTTP/1.1\r\nMetadata: true\r\n"));
    assert!(ask().starts_with("HTTP/1.1 200 "));
    assert!(ask().starts_with("HTTP/1.1 200 "));
    let refused = ask();
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("Retry-After: 1\r\n"));
}

#[test]
fn scripts_come_first_and_end() {
    let mock = MockCloud::fixture("vultr")
        .script(
            "/v1/hostname",
            [Answer::page(503), Answer::usual().delay(Duration::from_millis(80))],
        )
        .start();
    assert_eq!(get(mock.addr(), "/v1/hostname", "").0, 503);
    let start = Instant::now();
    assert_eq!(get(mock.addr(), "/v1/hostname", ""), (200, "demo-vultr".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(80));
    assert_eq!(get(mock.addr(), "/v1/hostname", ""), (200, "demo-vultr".to_owned()));
    let statuses: Vec<u16> = mock.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [503, 200, 200]);
    assert_eq!(mock.connections(), 3);
}

#[test]
fn faults_are_on_the_wire_as_scripted() {
    let mock = MockCloud::fixture("vultr")
        .script("/a", [Answer::ok("0123456789").fault(Fault::Close(3))])
        .script("/b", [Answer::reset()])
        .script("/c", [Answer::ok("abcdef").framing(Framing::Chunked(4)).after_continue()])
        .script("/d", [Answer::garbage("\0\u{1}nonsense")])
        .script("/e", [Answer::ok("x").framing(Framing::Claim(7)).fault(Fault::Close(1))])
        .script("/f", [Answer::ok("old").framing(Framing::Close).old()])
        .start();
    let ask = |path: &str| exchange(mock.addr(), &format!("GET {path} HTTP/1.1\r\n"));
    assert!(ask("/a").ends_with("Content-Length: 10\r\n\r\n012"));
    let mut stream = TcpStream::connect(mock.addr()).unwrap();
    stream.write_all(b"GET /b HTTP/1.1\r\n\r\n").unwrap();
    let err = stream.read(&mut [0; 9]).unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::ConnectionReset);
    let chunked = ask("/c");
    assert!(chunked.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), "{chunked}");
    assert!(chunked.ends_with("\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"), "{chunked}");
    assert_eq!(ask("/d"), "\0\u{1}nonsense");
    assert!(ask("/e").ends_with("Content-Length: 7\r\n\r\nx"));
    assert_eq!(ask("/f"), "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nold");
}

#[test]
fn a_changed_value_answers_who_waits_for_it() {
    let mock = MockCloud::fixture("google-gcp").start();
    let path = "/computeMetadata/v1/instance/attributes/user-data";
    let address = mock.addr();
    let waiter = std::thread::spawn(move || {
        let query = "wait_for_change=true&timeout_sec=60&last_etag=0123456789abcdef";
        get(address, &format!("{path}?{query}"), "Metadata-Flavor: Google\r\n")
    });
    // Either the change comes first and the tag differs, or the waiter is woken by it.
    mock.set(path, "new");
    assert_eq!(waiter.join().unwrap(), (200, "new".to_owned()));
}

#[test]
fn requests_are_recorded_byte_for_byte_with_their_connection() {
    let mock = MockCloud::fixture("vultr").start();
    let mut stream = TcpStream::connect(mock.addr()).unwrap();
    let bytes = b"GET /v1/hostname HTTP/1.1\r\nhOsT:  x\r\n\r\n";
    stream.write_all(bytes).unwrap();
    stream.write_all(bytes).unwrap();
    mock.wait_for(2);
    let requests = mock.requests();
    assert_eq!(requests[0].raw, bytes);
    assert_eq!(requests[0].headers, [("hOsT".to_owned(), "x".to_owned())]);
    assert_eq!((requests[0].connection, requests[1].connection), (1, 1));
    assert_eq!(requests[0].peer, stream.local_addr().unwrap());
    assert!(requests[1].at >= requests[0].at);
    assert_eq!(mock.lines(), ["GET /v1/hostname"; 2]);
}

#[test]
fn both_families_listen_on_one_port_and_may_be_deaf_or_shut() {
    if !mock_cloud::has_ipv6() {
        println!("SKIP both_families_listen_on_one_port_and_may_be_deaf_or_shut: no IPv6");
        return;
    }
    let mock = MockCloud::fixture("vultr").ears(Ear::Deaf, Ear::Open).start();
    let [v4, v6] = mock.addresses() else { panic!("two addresses") };
    assert_eq!((v4.port(), v4.is_ipv4(), v6.is_ipv6()), (v6.port(), true, true));
    assert_eq!(get(*v6, "/v1/hostname", "").0, 200);
    let mut stream = TcpStream::connect(v4).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(stream.read(&mut [0; 1]).is_err());
    let mock = MockCloud::fixture("vultr").ears(Ear::Shut, Ear::Open).start();
    assert!(mock.addr().is_ipv6());
    assert!(TcpStream::connect(("127.0.0.1", mock.addr().port())).is_err());
}

#[test]
fn variables_and_endpoint_point_at_the_server() {
    let mock = MockCloud::fixture("microsoft-azure").start();
    let environment: std::collections::BTreeMap<_, _> = mock.environment().into_iter().collect();
    let url = format!("http://{}/metadata", mock.addr());
    assert_eq!(environment["SYSTEMD_IMDS_DATA_URL"], url);
    assert_eq!(environment["SYSTEMD_IMDS_EXTRA_HEADER"], "Metadata: true");
    assert_eq!(
        environment["SYSTEMD_IMDS_KEY_HOSTNAME"],
        "/instance/compute/osProfile/computerName"
    );
    let endpoint = mock.endpoint();
    assert_eq!(endpoint.data_url, Some(url));
    assert_eq!(endpoint.well_known.len(), 7);
    let mock = MockCloud::fixture("tencent-cloud").start();
    assert_eq!(mock.endpoint().data_url, Some(format!("http://{}", mock.addr())));
}
