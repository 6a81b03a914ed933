//! The same faults on each of the nine clouds, and what must not come back.

use super::talk::*;
use super::*;

/// The clouds' own paths: target and key of something that is text.
fn key_of(cloud: &str) -> (&'static str, &'static str) {
    match cloud {
        "amazon-ec2" => ("/latest/meta-data/hostname", "/meta-data/hostname"),
        "microsoft-azure" => (
            "/metadata/instance/compute/location?api-version=2025-04-07&format=text",
            "/instance/compute/location",
        ),
        "google-gcp" => ("/computeMetadata/v1/instance/zone", "/instance/zone"),
        "hetzner-cloud" => ("/hetzner/v1/metadata/hostname", "/hostname"),
        "oracle-cloud-oci" => ("/opc/v2/instance/hostname", "/instance/hostname"),
        "scaleway" => ("/conf?format=json", "/conf?format=json"),
        "tencent-cloud" => ("/meta-data/hostname", "/meta-data/hostname"),
        "alibaba-ecs" => ("/latest/meta-data/hostname", "/meta-data/hostname"),
        "vultr" => ("/v1/hostname", "/v1/hostname"),
        other => panic!("no key for {other}"),
    }
}

/// The same on each of the nine, all at once.
fn on_every_cloud(check: impl Fn(&'static str, &'static str, &'static str) + Sync) {
    let check = &check;
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = CLOUDS
            .into_iter()
            .map(|cloud| {
                let (target, key) = key_of(cloud);
                let thread = std::thread::Builder::new().name(cloud.to_owned());
                (cloud, thread.spawn_scoped(scope, move || check(cloud, target, key)).unwrap())
            })
            .collect();
        for (cloud, thread) in running {
            if thread.join().is_err() {
                wrong.push(cloud);
            }
        }
    });
    assert!(wrong.is_empty(), "see above: {wrong:?}");
}

/// What the fixture says about a target.
fn body_of(mock: &Mock, target: &str) -> String {
    let json = mock.json();
    let mut routes = json["routes"].as_array().unwrap().iter();
    routes.find(|route| route["path"] == target).unwrap()["body"].as_str().unwrap().to_owned()
}

#[test]
fn stale_tokens_are_renewed_once_defect_2() {
    on_every_cloud(|cloud, target, key| {
        let talk = Talk::new(MockCloud::fixture(cloud).script(target, [Answer::page(401)]));
        let result = talk.ask(key);
        if talk.mock.json()["auth"]["kind"] == "token-put" {
            assert_eq!(result, Ok(body_of(&talk.mock, target)), "{cloud}");
            assert_eq!((talk.mock.tokens(), talk.mock.count(target)), (2, 2), "{cloud}");
        } else {
            assert_eq!(result, failed("CommunicationFailure"), "{cloud}");
            assert_eq!(talk.mock.lines().len(), 1, "{cloud}: there is nothing to renew");
        }
    });
}

#[test]
fn pages_of_not_found_are_not_found_on_every_cloud_defect_1() {
    on_every_cloud(|cloud, target, key| {
        let talk = Talk::new(MockCloud::fixture(cloud));
        // Azure's service may still be starting before its first value.
        assert!(talk.ask(key).is_ok(), "{cloud}");
        talk.mock.clear();
        let missing = if cloud == "scaleway" { "/conf/missing" } else { "/missing" };
        assert_eq!(talk.ask(missing), failed("KeyNotFound"), "{cloud}");
        let requests = talk.mock.requests();
        assert_eq!((requests.len(), requests[0].status), (1, 404), "{cloud}");
        assert_eq!(talk.mock.count(target), 0);
    });
}

#[test]
fn busy_services_are_asked_again_when_they_say_so_defect_6() {
    on_every_cloud(|cloud, target, key| {
        let busy = Answer::page(429).header("Retry-After", "1");
        let talk = Talk::new(MockCloud::fixture(cloud).script(target, [busy]));
        assert_eq!(talk.ask(key), Ok(body_of(&talk.mock, target)), "{cloud}");
        let requests = talk.mock.requests();
        let asked: Vec<_> = requests.iter().filter(|request| request.target == target).collect();
        assert_eq!(asked.len(), 2, "{cloud}");
        assert!(asked[1].at - asked[0].at >= Duration::from_millis(990), "{cloud}");
    });
}

#[test]
fn passing_faults_pass_on_every_cloud() {
    let faults = [
        ("503 with a page", Answer::page(503)),
        ("503", Answer::status(503)),
        ("reset", Answer::reset()),
        ("reset in the body", Answer::ok("0123456789").fault(Fault::Reset(4))),
        ("empty reply", Answer::hang_up()),
        ("truncated", Answer::ok("0123456789").fault(Fault::Close(4))),
        ("stall", Answer::stall()),
        ("stall in the body", Answer::ok("0123456789").fault(Fault::Stall(4))),
    ];
    on_every_cloud(|cloud, target, key| {
        for (what, fault) in &faults {
            let talk = Talk::new(MockCloud::fixture(cloud).script(target, [fault.clone()]));
            assert_eq!(talk.ask(key), Ok(body_of(&talk.mock, target)), "{cloud}: {what}");
            assert_eq!(talk.mock.count(target), 2, "{cloud}: {what}");
            assert!(talk.mock.tokens() <= 1, "{cloud}: {what}: the token was good");
        }
    });
}

#[test]
fn lasting_faults_are_named_on_every_cloud() {
    let stranger = plain().start();
    on_every_cloud(|cloud, target, key| {
        let huge = Answer::status(200).framing(Framing::Claim((4 << 20) + 1));
        for (answer, expected) in [
            (huge, "System"),
            (Answer::redirect(302, &stranger.url(target)), "NotAvailable"),
            (Answer::page(403), "NotAvailable"),
            (Answer::garbage("SSH-2.0-nobody\r\n"), "CommunicationFailure"),
            (Answer::page(400), "CommunicationFailure"),
        ] {
            let talk = Talk::new(MockCloud::fixture(cloud).always(target, answer));
            assert_eq!(talk.ask(key), failed(expected), "{cloud}");
            assert_eq!(talk.mock.count(target), 1, "{cloud} {expected}");
        }
    });
    assert_eq!(stranger.connections(), 0);
}

#[test]
fn bad_tokens_and_headers_end_before_a_value_is_asked_for() {
    on_every_cloud(|cloud, target, key| {
        let json = mock_cloud::json(cloud);
        if json["auth"]["kind"] == "token-put" {
            for token in ["", "A\r\nX-Evil: 1", "A\u{7f}"] {
                let talk = Talk::new(MockCloud::fixture(cloud).token(token));
                assert_eq!(talk.ask(key), failed("CommunicationFailure"), "{cloud} {token:?}");
                assert_eq!(talk.mock.count(target), 0, "{cloud} {token:?}");
            }
            return;
        }
        // A token of another time is nobody's business here.
        let talk = Talk::new(MockCloud::fixture(cloud));
        talk.tokens.store("OTHER", Duration::from_secs(900));
        assert!(talk.ask(key).is_ok());
        let raw = String::from_utf8(talk.mock.requests()[0].raw.clone()).unwrap();
        assert!(!raw.contains("OTHER"), "{cloud}: {raw}");
        // Without its header the cloud refuses in its own way.
        let talk = Talk::with(MockCloud::fixture(cloud), quick(), |endpoint| {
            endpoint.extra_headers.clear()
        });
        let expected = match cloud {
            "microsoft-azure" | "oracle-cloud-oci" => Some("CommunicationFailure"),
            "google-gcp" => Some("NotAvailable"),
            _ => None,
        };
        assert_eq!(talk.ask(key).err().as_deref(), expected, "{cloud}");
    });
}

#[test]
fn every_status_has_a_name_and_an_errno_of_linux_defects_3_and_5() {
    let cloud = (300..=610).fold(plain(), |cloud, status| {
        cloud.always(&format!("/{status}"), Answer::page(status).last())
    });
    let limits = Limits { retries: 0, ..quick() };
    let talk = Talk::with(cloud, limits, |_| {});
    for status in 300..=610 {
        let failure = talk.fetch(&format!("/{status}")).unwrap_err();
        let (name, parameters) = slipway::varlink::errors::to_wire(&Error::from(failure));
        let expected = match status {
            403 => "NotAvailable",
            404 => "KeyNotFound",
            _ => "CommunicationFailure",
        };
        assert_eq!(name, format!("io.systemd.InstanceMetadata.{expected}"), "{status}");
        assert!(parameters.is_empty(), "{status}: {parameters:?}");
    }
}

#[test]
fn the_end_of_attempts_is_told_at_once_defects_4_and_5() {
    let limits = Limits { overall: Duration::from_secs(60), ..quick() };
    let talk = Talk::with(plain().always(KEY, Answer::page(503)), limits, |_| {});
    let start = Instant::now();
    let failure = talk.fetch(KEY).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(talk.mock.requests().len(), 11);
    let Failure::CommunicationFailure(text) = &failure else { panic!("{failure:?}") };
    assert!(text.contains("503"), "{text}");
    let shown = Error::from(failure).to_string();
    assert!(!shown.contains("cleaning"), "{shown}");
}

#[test]
fn delays_between_attempts_are_the_peers() {
    let faults: Value = serde_json::from_str(super::cases::FAULTS).unwrap();
    let series = faults["constants"]["backoff_series_ms"].as_array().unwrap();
    // The product's own delays, as far as that takes no longer than a second.
    let limits = Limits { retries: 5, ..Limits::default() };
    let talk = Talk::with(plain().always(KEY, Answer::status(503)), limits, |_| {});
    assert!(talk.ask(KEY).is_err());
    let at: Vec<Duration> = talk.mock.requests().iter().map(|request| request.at).collect();
    assert_eq!(at.len(), 6);
    for (n, pair) in at.windows(2).enumerate() {
        let expected = Duration::from_millis(series[n].as_u64().unwrap());
        assert!(pair[1] - pair[0] >= expected, "{n}: {:?}", pair[1] - pair[0]);
    }
    let constants = &faults["constants"];
    let limits = Limits::default();
    assert_eq!(limits.retries, constants["retry_max"].as_u64().unwrap() as u32);
    assert_eq!(limits.overall.as_secs(), constants["overall_direct_s"].as_u64().unwrap());
    assert_eq!(limits.data as u64, constants["data_max_bytes"].as_u64().unwrap());
}

#[test]
fn a_stall_costs_one_attempt_defect_7() {
    let limits = Limits::default();
    assert_eq!(
        (limits.connect.as_secs(), limits.first_byte.as_secs(), limits.idle.as_secs()),
        (2, 5, 5)
    );
    let stalls = [
        Answer::stall(),
        Answer::ok("0123456789").fault(Fault::Stall(0)),
        Answer::ok("0123456789").fault(Fault::Stall(9)),
        Answer::ok("0123456789").framing(Framing::Chunked(3)).fault(Fault::Stall(6)),
    ];
    for stall in stalls {
        let talk = Talk::new(plain().script(KEY, [stall]));
        let start = Instant::now();
        assert_eq!(talk.ask(KEY), value());
        let time = start.elapsed();
        assert!(time >= quick().idle && time < Duration::from_secs(3), "{time:?}");
        assert_eq!(talk.mock.connections(), 2);
    }
}

#[test]
fn the_other_address_answers_where_the_first_is_dead_defect_15() {
    if !mock_cloud::has_ipv6() {
        println!("SKIP the_other_address_answers_where_the_first_is_dead_defect_15: no IPv6");
        return;
    }
    for first in [Ear::Shut, Ear::Open] {
        let mock = plain().ears(first, Ear::Open).start();
        let port = mock.addr().port();
        let mut endpoint = mock.endpoint();
        endpoint.data_url = Some(format!("http://127.0.0.1:{port}"));
        endpoint.address_ipv4 = Some("127.0.0.1".parse().unwrap());
        endpoint.address_ipv6 = Some("::1".parse().unwrap());
        let talk = Talk::at(mock, &endpoint, quick());
        let start = Instant::now();
        assert_eq!(talk.ask(KEY), value());
        assert_eq!(talk.ask(KEY), value());
        let requests = talk.mock.requests();
        assert_eq!(requests.len(), 2, "nobody is asked twice");
        let local = requests[0].local;
        assert_eq!(local.is_ipv4(), first == Ear::Open, "the first address goes first");
        assert_eq!(requests[0].header("host"), Some(local.to_string().as_str()));
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn the_interface_that_answered_is_pinned_defect_16() {
    let test = "the_interface_that_answered_is_pinned_defect_16";
    let (Some(server), Some(client)) = (Namespace::new(test), Namespace::new(test)) else { return };
    // The first interface leads nowhere, and has the better route.
    client.connect("dead0", &server, "void0");
    client.connect("live0", &server, "peer0");
    client.ip("addr add 198.51.100.2/24 dev dead0");
    client.ip("addr add 192.0.2.2/24 dev live0");
    client.ip("route add 203.0.113.254/32 dev dead0 metric 1");
    client.ip("route add 203.0.113.254/32 dev live0 metric 9");
    server.ip("link set void0 down");
    server.ip("addr add 203.0.113.254/32 dev peer0");
    server.ip("addr add 192.0.2.1/24 dev peer0");
    let listen: SocketAddr = "203.0.113.254:80".parse().unwrap();
    let mock = server.inside(|| plain().listen(listen).start());
    let world = World::empty();
    let reply = client.inside(|| {
        let mut engine = world.engine(world.peer_row(&mock));
        engine.get(&Request::key(KEY)).unwrap()
    });
    assert_eq!(reply.data, b"value");
    assert_eq!(std::fs::read_to_string(world.cache().join("ifname")).unwrap(), "live0\n");
    assert_eq!(mock.requests()[0].peer.ip().to_string(), "192.0.2.2");

    // One that is gone is forgotten, and another one found.
    std::fs::write(world.cache().join("ifname"), "gone0\n").unwrap();
    let reply = client.inside(|| {
        let mut engine = world.engine(world.peer_row(&mock));
        engine.get(&Request { cache: Some(false), ..Request::key(KEY) }).unwrap()
    });
    assert_eq!(reply.data, b"value");
    assert_eq!(std::fs::read_to_string(world.cache().join("ifname")).unwrap(), "live0\n");
}

#[test]
fn low_ports_are_for_those_who_want_them_defect_22() {
    on_every_cloud(|cloud, _, key| {
        let talk = Talk::new(MockCloud::fixture(cloud));
        assert!(talk.ask(key).is_ok());
        let requests = talk.mock.requests();
        assert!(requests.iter().all(|request| request.peer.port() > 1023), "{cloud}");
    });
    if !rustix::process::geteuid().is_root() {
        println!("SKIP low_ports_are_for_those_who_want_them_defect_22: low ports need root");
        return;
    }
    let mut ports = BTreeSet::new();
    for _ in 0..8 {
        let talk = Talk::new(MockCloud::fixture("scaleway"));
        assert_eq!(talk.ask("/user_data/cloud-init"), Ok("#cloud-config\n{}\n".to_owned()));
        ports.insert(talk.mock.requests()[0].peer.port());
    }
    assert!(ports.iter().all(|port| *port < 1024 && ![22, 80, 443].contains(port)), "{ports:?}");
    assert!(ports.len() > 1, "no order: {ports:?}");
}

#[test]
fn five_keys_need_one_connection_and_one_token_defect_23() {
    let mock = MockCloud::fixture("amazon-ec2").start();
    let world = World::cloud("amazon-ec2");
    let mut engine = world.engine(world.peer_row(&mock));
    for name in ["hostname", "region", "zone", "ipv4-public", "ipv6-public"] {
        assert!(get(&mut engine, name, None).is_ok());
    }
    assert_eq!((mock.connections(), mock.tokens(), mock.requests().len()), (1, 1, 6));
}

#[test]
fn failures_leave_nothing_in_the_cache() {
    for (answer, expected) in [
        (Answer::page(403), "NotAvailable"),
        (Answer::page(400), "CommunicationFailure"),
        (Answer::status(600), "CommunicationFailure"),
        (Answer::garbage("nonsense\n\n"), "CommunicationFailure"),
        (Answer::redirect(302, "http://192.0.2.1/"), "NotAvailable"),
        (Answer::status(200).framing(Framing::Claim(1 << 33)), "System"),
    ] {
        let (world, mock) = (World::empty(), plain().always(KEY, answer).start());
        let mut engine = world.engine(world.peer_row(&mock));
        for n in 1..=2 {
            let failure = engine.get(&Request::key(KEY)).unwrap_err();
            assert_eq!(failure_name(&failure), expected);
            assert_eq!(mock.count(KEY), n, "{expected}: asked again");
        }
        assert_eq!(world.cached(), [""; 0], "{expected}");
    }
}

#[test]
fn what_is_not_found_is_remembered_whatever_the_page_says_defect_1() {
    for answer in [Answer::status(404), Answer::page(404)] {
        let (world, mock) = (World::empty(), plain().always(KEY, answer).start());
        let mut engine = world.engine(world.peer_row(&mock));
        for _ in 0..2 {
            assert_eq!(engine.get(&Request::key(KEY)), Err(Failure::KeyNotFound));
        }
        assert_eq!(mock.count(KEY), 1);
        assert_eq!(world.cached().len(), 1);
        // Unless the caller wants no cache.
        let mut request = Request::key(KEY);
        request.cache = Some(false);
        assert_eq!(engine.get(&request), Err(Failure::KeyNotFound));
        assert_eq!(mock.count(KEY), 2);
    }
}

#[test]
fn heads_that_lie_or_never_end_are_no_answers() {
    let head = |text: &str| Answer::garbage(format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\nvalue"));
    let huge = "x".repeat(1 << 20);
    let many: Vec<String> = (0..10_000).map(|n| format!("X-{n}: y")).collect();
    for (what, answer) in [
        ("two lengths", head("Content-Length: 5\r\nContent-Length: 6")),
        ("the same length twice", head("Content-Length: 5\r\nContent-Length: 5")),
        ("a negative length", head("Content-Length: -5")),
        ("no number", head("Content-Length: five")),
        ("a length of 2^64", head("Content-Length: 18446744073709551616")),
        ("length and chunks", head("Content-Length: 3\r\nTransfer-Encoding: chunked")),
        ("an unknown coding", head("Transfer-Encoding: gzip")),
        ("a chunk of 2^64", {
            let text =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nx";
            Answer::garbage(text)
        }),
        ("a chunk without a size", {
            Answer::garbage("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nvalue")
        }),
        ("a header of a megabyte", head(&format!("X: {huge}"))),
        ("ten thousand headers", head(&many.join("\r\n"))),
        ("interim answers only", Answer::garbage("HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000))),
        ("half a head", Answer::garbage("HTTP/1.1 200 OK\r\nContent-Le")),
    ] {
        let limits = Limits { retries: 1, ..quick() };
        let talk = Talk::with(plain().always(KEY, answer), limits, |_| {});
        let start = Instant::now();
        // What is too large is that, however large.
        let expected = if what == "a chunk of 2^64" { "System" } else { "CommunicationFailure" };
        assert_eq!(talk.ask(KEY), failed(expected), "{what}");
        assert!(start.elapsed() < Duration::from_secs(3), "{what}");
    }
    let headers = (0..50).fold(Answer::ok("value"), |answer, n| {
        answer.header("Set-Cookie", &format!("{n}={}", "c".repeat(100)))
    });
    let talk = Talk::new(plain().script(KEY, [headers]));
    assert_eq!(talk.ask(KEY), value());
}

#[test]
fn keys_cannot_reach_into_headers_or_other_hosts() {
    let talk = Talk::new(plain());
    for key in ["/a\r\nX-Evil: 1", "/a\n", "/a b", "/\u{7f}", "/ü"] {
        assert_eq!(talk.ask(key), failed("InvalidParameter"), "{key:?}");
    }
    let talk = Talk::with(plain(), quick(), |endpoint| {
        endpoint.data_url =
            endpoint.data_url.take().map(|url| url.trim_end_matches('/').to_owned());
    });
    for key in ["@192.0.2.1/", ":1/", ".example.org/"] {
        assert!(talk.ask(key).is_err(), "{key:?}");
    }
    assert_eq!(talk.mock.connections(), 0);
}

#[test]
fn many_askers_share_one_question() {
    let mock = MockCloud::fixture("amazon-ec2")
        .always(
            "GET /latest/meta-data/hostname",
            Answer::ok("name").delay(Duration::from_millis(200)),
        )
        .start();
    let world = World::cloud("amazon-ec2");
    let engine = world.engine(world.peer_row(&mock));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let mut engine = engine.clone();
            scope.spawn(move || {
                let reply = engine.get(&Request::well_known(WellKnown::Hostname)).unwrap();
                assert_eq!(reply.data, b"name");
            });
        }
    });
    assert_eq!(mock.lines(), [PUT, "GET /latest/meta-data/hostname"]);
}
