//! Each of the nine clouds from the firmware's strings to the values, over real sockets, against a
//! server that answers as the cloud does.
//!
//! What is expected comes from the fixtures: `raw` is what systemd-imdsd 262.1 returned for the
//! same routes, `normalized`, `all_keys` and `extra` are the meaning of it.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/imds_world.rs"]
mod imds_world;
#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;
#[path = "common/netns.rs"]
mod netns;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::time::Duration;

use imds_world::{World, failure_name, get};
use mock_cloud::{CLOUDS, Ear, Mock, MockCloud, json};
use netns::Namespace;
use serde_json::Value;
use slipway::ctx::Ctx;
use slipway::imds::cache::NEGATIVE_TTL;
use slipway::imds::normal::Normal;
use slipway::imds::{
    ConnectOptions, Failure, Request, Source, WellKnown, connect, endpoint, providers,
};

/// The cloud as it is, but for low source ports, which need a privilege.
fn cloud(name: &str) -> MockCloud {
    let cloud = MockCloud::fixture(name);
    if name == "scaleway" && !rustix::process::geteuid().is_root() {
        return cloud.max_port(u16::MAX);
    }
    cloud
}

/// Names whose keys in the peer's table lead nowhere; ours are mended (defect 12).
fn is_mended(cloud: &str, name: WellKnown) -> bool {
    matches!(
        (cloud, name.name()),
        ("hetzner-cloud", "ssh-key" | "userdata")
            | ("oracle-cloud-oci", "userdata-base64")
            | ("scaleway", "userdata" | "userdata-base")
    )
}

#[test]
fn firmware_strings_lead_to_the_endpoint_of_each_cloud_defect_24() {
    for name in CLOUDS {
        let world = World::cloud(name);
        let found = endpoint::resolve(&world.ctx(), &endpoint::Options::default());
        let found = found.unwrap().unwrap_or_else(|| panic!("{name} is not recognised"));
        let config = &json(name)["config"];
        let text = |member: &str| config[member].as_str().map(str::to_owned);
        assert_eq!(found.vendor, text("vendor"), "{name}");
        assert_eq!(found.data_url, text("data_url"), "{name}");
        assert_eq!(found.data_url_suffix, text("data_url_suffix"), "{name}");
        assert_eq!(found.token_url, text("token_url"), "{name}");
        assert_eq!(found.refresh_header_name, text("refresh_header_name"), "{name}");
        assert_eq!(found.token_header_name, text("token_header_name"), "{name}");
        let headers: Vec<&str> =
            config["extra_headers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(found.extra_headers, headers, "{name}");
        if let Some(address) = text("address_ipv4") {
            assert_eq!(found.address_ipv4, Some(address.parse().unwrap()), "{name}");
        }
        if let Some(address) = text("address_ipv6") {
            assert_eq!(found.address_ipv6, Some(address.parse().unwrap()), "{name}");
        }
        for known in WellKnown::ALL.into_iter().filter(|known| !is_mended(name, *known)) {
            let expected = config["well_known"][known.name()].as_str();
            assert_eq!(
                found.well_known.get(&known).map(String::as_str),
                expected,
                "{name} {known:?}"
            );
        }
        assert!(!found.traits.is_extension, "{name}");
    }
}

/// Every well-known name through an engine that has the peer's row.
fn check_raw(mock: &Mock, source: &mut dyn Source, wrong: &mut Vec<String>) {
    let fixture = mock.json();
    for known in WellKnown::ALL.into_iter().skip(1) {
        let expect = &fixture["expect"][known.name()];
        let expected = match (expect["raw"].as_str(), expect["error"].as_str()) {
            (Some(raw), _) => Ok(raw.to_owned()),
            (None, Some(error)) => Err(error.to_owned()),
            (None, None) => Err("WellKnownKeyUnset".to_owned()),
        };
        let got = get(source, known.name(), expect["suffix"].as_str())
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .map_err(|failure| failure_name(&failure));
        if got != expected {
            wrong.push(format!(
                "{} {}: {got:?}, not {expected:?}",
                fixture["vendor"],
                known.name()
            ));
        }
    }
}

#[test]
fn raw_values_are_the_bytes_of_the_service() {
    let mut wrong = Vec::new();
    for name in CLOUDS {
        let (world, mock) = (World::cloud(name), cloud(name).start());
        let mut engine = world.engine(world.peer_row(&mock));
        check_raw(&mock, &mut engine, &mut wrong);
        assert!(mock.tokens() <= 1, "{name}: one token is enough for all keys");
        // A second time nothing is asked: everything is known.
        let before = mock.requests().len();
        check_raw(&mock, &mut engine, &mut wrong);
        assert_eq!(mock.requests().len(), before, "{name}: {:?}", mock.lines());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn requests_carry_the_headers_of_the_peer_in_its_order() {
    for name in CLOUDS {
        let (world, mock) = (World::cloud(name), cloud(name).start());
        let mut engine = world.engine(world.peer_row(&mock));
        let fixture = mock.json();
        for (known, reference) in fixture["reference_262_1"]["get"].as_object().unwrap() {
            mock.clear();
            let _ = get(&mut engine, known, fixture["expect"][known]["suffix"].as_str());
            let wire = reference["wire"].as_array().unwrap();
            for request in mock.requests() {
                let Some(same) = wire.iter().find(|w| w["request"] == request.line()) else {
                    panic!("{name} {known}: {} is not what the peer asks", request.line());
                };
                let ours: Vec<String> = request
                    .headers
                    .iter()
                    .map(|(header, value)| match header.as_str() {
                        "Host" => {
                            assert_eq!(*value, mock.addr().to_string());
                            "Host".to_owned()
                        }
                        "User-Agent" => "User-Agent".to_owned(),
                        _ => format!("{header}: {value}"),
                    })
                    .collect();
                let theirs: Vec<String> = same["headers"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|line| line.as_str().unwrap())
                    .map(|line| match line.split_once(':').unwrap().0 {
                        word @ ("Host" | "User-Agent") => word.to_owned(),
                        _ => line.to_owned(),
                    })
                    .collect();
                assert_eq!(ours, theirs, "{name} {known} {}", request.line());
            }
        }
    }
}

/// Every normalised value of a fixture's expectation.
fn check_normal(ctx: &Ctx, source: &mut dyn Source, fixture: &Value, wrong: &mut Vec<String>) {
    let vendor = fixture["vendor"].as_str().unwrap();
    let mut normal = Normal::new(ctx, source).unwrap();
    let mut same = |what: &str, got: String, expected: String| {
        if got != expected {
            wrong.push(format!("{vendor} {what}: {got}, not {expected}"));
        }
    };
    let expect = fixture["expect"].as_object().unwrap();
    for (name, expected) in expect.iter().filter(|(name, _)| *name != "extra") {
        let normalized = expected["normalized"].as_str().map(str::to_owned);
        let got = match name.as_str() {
            // One meaning, whatever the cloud calls it.
            "userdata" | "userdata-base" | "userdata-base64" => {
                normal.userdata().map(|data| data.map(|bytes| String::from_utf8(bytes).unwrap()))
            }
            // The fixtures give all lines of services that answer with all keys at once.
            "ssh-key" => {
                let keys = normal.ssh_keys();
                let all: Vec<&str> = expected["all_keys"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                same("ssh-keys", format!("{keys:?}"), format!("{:?}", Ok::<_, Failure>(all)));
                let first = normal.value("ssh-key");
                let lines = normalized.as_deref().map(|text| text.lines().collect::<Vec<_>>());
                if let (Ok(Some(got)), Some(lines)) = (&first, &lines) {
                    same("ssh-key", got.lines().next().unwrap().to_owned(), lines[0].to_owned());
                    continue;
                }
                first
            }
            _ => normal.value(name),
        };
        same(name, format!("{got:?}"), format!("{:?}", Ok::<_, Failure>(normalized)));
    }
    for (name, expected) in expect["extra"].as_object().into_iter().flatten() {
        if name.contains(':') {
            continue;
        }
        let got = normal.value(name);
        let expected = Ok::<_, Failure>(expected.as_str().map(str::to_owned));
        same(name, format!("{got:?}"), format!("{expected:?}"));
    }
}

#[test]
fn values_mean_the_same_on_every_cloud_defect_13() {
    let mut wrong = Vec::new();
    for name in CLOUDS {
        let (world, mock) = (World::cloud(name), cloud(name).start());
        let mut engine = world.engine(world.own_row(&mock));
        check_normal(&world.ctx(), &mut engine, &mock.json(), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A normalised value from a cloud with a variant.
fn normal(name: &str, mock: &Mock, what: &str) -> Result<Option<String>, Failure> {
    let world = World::cloud(name);
    let ctx = world.ctx();
    let mut engine = world.engine(world.own_row(mock));
    let mut normal = Normal::new(&ctx, &mut engine)?;
    match what {
        "userdata" => Ok(normal.userdata()?.map(|bytes| String::from_utf8(bytes).unwrap())),
        _ => normal.value(what),
    }
}

/// A raw value from a cloud with a variant.
fn raw(name: &str, mock: &Mock, what: &str) -> Result<String, String> {
    let world = World::cloud(name);
    let suffix = (what == "userdata-base").then_some("/systemd-userdata");
    get(&mut world.engine(world.peer_row(mock)), what, suffix)
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .map_err(|failure| failure_name(&failure))
}

/// The key is not there: neither raw nor with a meaning.
fn is_absent(name: &str, mock: &Mock, what: &str) {
    assert_eq!(raw(name, mock, what), Err("KeyNotFound".to_owned()), "{name} {what}");
    let plain = what.trim_end_matches("-base64").trim_end_matches("-base");
    assert_eq!(normal(name, mock, plain), Ok(None), "{name} {plain}");
}

/// The key is there, and there is nothing in it.
fn is_empty(name: &str, mock: &Mock, what: &str) {
    assert_eq!(raw(name, mock, what), Ok(String::new()), "{name} {what}");
    let plain = what.trim_end_matches("-base64");
    assert_eq!(normal(name, mock, plain), Ok(None), "{name} {plain}");
}

const GREETING: &str =
    r#"{"systemd.credentials":[{"name":"demo.greeting","text":"hello from userdata"}]}"#;

#[test]
fn every_variant_of_every_cloud_gives_what_its_fixture_expects() {
    for name in CLOUDS {
        for variant in json(name)["variants"].as_array().unwrap() {
            let variant = variant["name"].as_str().unwrap();
            println!("{name} {variant}");
            check_variant(name, variant);
        }
    }
}

fn check_variant(name: &str, variant: &str) {
    let mock = cloud(name).variant(variant).start();
    match (name, variant) {
        (_, "no-public-addresses") => {
            is_absent(name, &mock, "ipv4-public");
            is_absent(name, &mock, "ipv6-public");
        }
        ("scaleway", "no-user-data") => {
            assert_eq!(normal(name, &mock, "userdata"), Ok(None));
        }
        (_, "no-user-data") => is_absent(name, &mock, "userdata"),
        (_, "no-eip") => is_absent(name, &mock, "ipv4-public"),
        (_, "no-hostname-key") => is_absent(name, &mock, "hostname"),
        (_, "no-ssh-keys") => is_absent(name, &mock, "ssh-key"),
        (_, "empty-user-data") => is_empty(name, &mock, "userdata-base64"),
        (_, "standard-sku-public-ip" | "no-external-ip" | "ipv6-only") if name != "scaleway" => {
            is_empty(name, &mock, "ipv4-public");
        }
        (_, "no-ipv6") => is_empty(name, &mock, "ipv6-public"),
        (_, "token-expired") => expired_token(&mock),
        (_, "imds-disabled") => {
            for known in ["hostname", "region", "userdata"] {
                assert_eq!(raw(name, &mock, known), Err("NotAvailable".to_owned()));
            }
        }
        (_, "imdsv1-only-legacy-clone") => {
            let expected = "ip-10-0-0-5.eu-west-1.compute.internal";
            assert_eq!(raw(name, &mock, "hostname").as_deref(), Ok(expected));
        }
        (_, "gone-for-70s") => {
            assert_eq!(raw(name, &mock, "hostname").as_deref(), Ok("demo-host"));
            let statuses: Vec<u16> = mock.requests().iter().map(|r| r.status).collect();
            assert_eq!(statuses, [410, 410, 410, 200]);
        }
        (_, "early-404") => early_not_found(&mock),
        (_, "old-api") => {
            assert_eq!(raw(name, &mock, "hostname"), Err("CommunicationFailure".to_owned()));
            assert_eq!(mock.requests().len(), 1, "400 does not pass by itself");
        }
        (_, "no-region-key") => {
            assert_eq!(raw(name, &mock, "region"), Err("KeyNotFound".to_owned()));
            assert_eq!(normal(name, &mock, "region"), Ok(Some("europe-west1".to_owned())));
        }
        (_, "no-systemd-userdata") => {
            assert_eq!(raw(name, &mock, "userdata-base"), Err("KeyNotFound".to_owned()));
        }
        ("google-gcp", "base64-user-data") => {
            let mock = cloud(name).variant(variant).variant("no-systemd-userdata").start();
            let decoded = Ok(Some("#!/bin/sh\necho hi\n".to_owned()));
            assert_eq!(normal(name, &mock, "userdata"), decoded);
        }
        (_, "base64-user-data") => {
            let text = normal(name, &mock, "userdata").unwrap().unwrap();
            assert!(text.starts_with("eyJ"), "raw stays Base64: {text}");
        }
        (_, "migration-503") => {
            assert!(raw(name, &mock, "hostname").unwrap().starts_with("demo-vm."));
            assert_eq!(mock.requests().len(), 3);
        }
        (_, "no-user-data-204") => {
            assert_eq!(normal(name, &mock, "userdata"), Ok(None));
        }
        (_, "public-keys-block-yaml") => {
            let keys = normal(name, &mock, "ssh-keys").unwrap().unwrap();
            assert_eq!(Some(keys), normal(name, &cloud(name).start(), "ssh-keys").unwrap());
        }
        (_, "short-region-code") => {
            assert_eq!(raw(name, &mock, "region").as_deref(), Ok("phx"));
            assert_eq!(normal(name, &mock, "region"), Ok(Some("us-phoenix-1".to_owned())));
        }
        (_, "v1-only") => {
            for known in ["hostname", "region", "zone", "ssh-key", "userdata-base64"] {
                assert_eq!(raw(name, &mock, known), Err("KeyNotFound".to_owned()));
            }
            assert!(mock.lines().iter().all(|line| line.starts_with("GET /opc/v2")));
        }
        (_, "ports-1-to-20-in-TIME_WAIT") => low_ports_in_use(name, &mock),
        (_, "unprivileged-source-port") => {
            let mock = MockCloud::fixture(name).max_port(0).start();
            assert_eq!(raw(name, &mock, "userdata"), Err("NotAvailable".to_owned()));
        }
        ("scaleway", "ipv6-only") => {
            if mock_cloud::has_ipv6() {
                let mock = ipv6_alone(name);
                assert_eq!(normal(name, &mock, "userdata"), Ok(Some(GREETING.to_owned())));
            }
        }
        // The name in the URL and no resolver: the namespaces below have none.
        (_, "no-dns") => {
            let known = providers::builtin(name).unwrap();
            assert_eq!(known.traits.resolve, ["169.254.0.23".parse::<IpAddr>().unwrap()]);
        }
        (_, "normal-mode") => {
            assert_eq!(raw(name, &mock, "hostname").as_deref(), Ok("demo-ecs"));
            assert_eq!(mock.lines()[0], "PUT /latest/api/token");
        }
        (_, "public-keys-only-named") => {
            assert_eq!(raw(name, &mock, "ssh-key"), Err("KeyNotFound".to_owned()));
            let keys = normal(name, &mock, "ssh-keys");
            assert_eq!(keys, normal(name, &cloud(name).start(), "ssh-keys"));
        }
        (_, "bare-metal") => {
            let world = World::empty();
            std::fs::write(world.path("proc/cmdline"), "quiet vultr\n").unwrap();
            let found = endpoint::resolve(&world.ctx(), &endpoint::Options::default()).unwrap();
            assert_eq!(found.unwrap().vendor.as_deref(), Some("vultr"));
        }
        other => panic!("nobody looks at {other:?}"),
    }
}

/// The second key finds its token used up: one new token, one repetition.
fn expired_token(mock: &Mock) {
    let world = World::cloud("amazon-ec2");
    let mut engine = world.engine(world.peer_row(mock));
    assert_eq!(get(&mut engine, "region", None).unwrap(), b"eu-west-1");
    assert_eq!(get(&mut engine, "zone", None).unwrap(), b"eu-west-1a");
    let zone = "GET /latest/meta-data/placement/availability-zone";
    let region = "GET /latest/meta-data/placement/region";
    let token = "PUT /latest/api/token";
    assert_eq!(mock.lines(), [token, region, zone, token, zone]);
    let statuses: Vec<u16> = mock.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [200, 200, 401, 200, 200]);
}

/// A service that says 404 while it starts is believed for a minute only (defect 6); whoever will
/// not wait that long asks without the cache.
fn early_not_found(mock: &Mock) {
    assert_eq!(NEGATIVE_TTL, Duration::from_secs(60));
    let world = World::cloud("microsoft-azure");
    let mut engine = world.engine(world.peer_row(mock));
    let mut request = Request::well_known(WellKnown::Hostname);
    assert_eq!(engine.get(&request), Err(Failure::KeyNotFound));
    assert_eq!(engine.get(&request), Err(Failure::KeyNotFound));
    assert_eq!(mock.requests().len(), 1);
    request.cache = Some(false);
    assert_eq!(engine.get(&request), Err(Failure::KeyNotFound));
    assert_eq!(engine.get(&request).unwrap().data, b"demo-host");
}

/// Low ports that others hold are passed over.
fn low_ports_in_use(name: &str, mock: &Mock) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP low_ports_in_use: source ports below 1024 need root");
        return;
    }
    let held: Vec<_> = (600..=900)
        .filter_map(|port| std::net::TcpListener::bind(("0.0.0.0", port)).ok())
        .collect();
    for _ in 0..5 {
        assert_eq!(normal(name, mock, "userdata"), Ok(Some(GREETING.to_owned())));
    }
    drop(held);
    let low: BTreeSet<u16> = mock
        .requests()
        .iter()
        .filter(|request| request.target.starts_with("/user_data"))
        .map(|request| request.peer.port())
        .collect();
    assert!(low.iter().all(|port| (1..1024).contains(port)), "{low:?}");
    assert!(low.iter().all(|port| !(600..=900).contains(port)), "{low:?}");
    assert!(low.len() > 1, "always the same port: {low:?}");
}

/// The IPv4 address in the URL answers nothing; the service is on IPv6.
fn ipv6_alone(name: &str) -> Mock {
    cloud(name).ears(Ear::Shut, Ear::Open).start()
}

/// The real addresses, where nobody else has them: nothing is pointed anywhere, the firmware's
/// strings lead all the way to the values.
#[test]
fn identity_leads_to_values_at_the_real_addresses_of_each_cloud_defect_12() {
    let test = "identity_leads_to_values_at_the_real_addresses_of_each_cloud_defect_12";
    let mut wrong = Vec::new();
    for name in CLOUDS {
        let (Some(server), Some(client)) = (Namespace::new(test), Namespace::new(test)) else {
            return;
        };
        client.connect("nic0", &server, "peer0");
        client.ip("addr add 192.0.2.2/24 dev nic0");
        server.ip("addr add 192.0.2.1/24 dev peer0");
        client.ip("route add default via 192.0.2.1");
        let fixture = json(name);
        let address = fixture["endpoint"]["ipv4"].as_str().unwrap();
        server.ip(&format!("addr add {address}/32 dev peer0"));
        let listen = SocketAddr::new(address.parse().unwrap(), 80);
        let mock = server.inside(|| MockCloud::fixture(name).listen(listen).start());
        let world = World::cloud(name);
        client.inside(|| {
            let ctx = world.ctx();
            check_normal(&ctx, &mut world.engine_unaided(), &fixture, &mut wrong);
        });
        assert!(!mock.requests().is_empty(), "{name}");
        let pinned = std::fs::read_to_string(world.cache().join("ifname")).unwrap_or_default();
        if pinned != "nic0\n" {
            wrong.push(format!("{name}: pinned to {pinned:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A machine without IPv4: the table's other address is asked (defect 15).
#[test]
fn clouds_with_an_ipv6_address_are_reached_without_ipv4_defect_15() {
    let test = "clouds_with_an_ipv6_address_are_reached_without_ipv4_defect_15";
    for name in ["amazon-ec2", "oracle-cloud-oci", "scaleway"] {
        let (Some(server), Some(client)) = (Namespace::new(test), Namespace::new(test)) else {
            return;
        };
        client.connect("nic0", &server, "peer0");
        client.ip("addr add 2001:db8::2/64 dev nic0 nodad");
        server.ip("addr add 2001:db8::1/64 dev peer0 nodad");
        client.ip("route add default via 2001:db8::1 dev nic0");
        let fixture = json(name);
        let address = fixture["config"]["address_ipv6"].as_str().unwrap();
        server.ip(&format!("addr add {address}/128 dev peer0 nodad"));
        let listen = SocketAddr::new(address.parse().unwrap(), 80);
        let mock = server.inside(|| MockCloud::fixture(name).listen(listen).start());
        let world = World::cloud(name);
        let ctx = world.ctx();
        let got = client.inside(|| {
            let mut engine = world.engine_unaided();
            Normal::new(&ctx, &mut engine).unwrap().value("hostname")
        });
        let expected = fixture["expect"]["hostname"]["normalized"].as_str().map(str::to_owned);
        assert_eq!(got, Ok(expected), "{name}");
        let requests = mock.requests();
        assert_eq!(requests[0].header("host"), Some(format!("[{address}]").as_str()), "{name}");
    }
}

/// The daemon of a cloud, ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_service_gives_the_same_values_on_every_cloud() {
    let mut wrong = Vec::new();
    for name in CLOUDS {
        if name == "scaleway" && !rustix::process::geteuid().is_root() {
            println!("SKIP the_service_gives_the_same_values_on_every_cloud: {name} needs root");
            continue;
        }
        let (world, mock) = (World::cloud(name), cloud(name).start());
        let socket = world.path("run/socket");
        let ready = UnixDatagram::bind(world.path("run/ready")).unwrap();
        ready.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        command
            .args(["imdsd", &format!("--listen={}", socket.display())])
            .env_clear()
            .env("NOTIFY_SOCKET", world.path("run/ready"))
            .env("RUNTIME_DIRECTORY", world.cache())
            .env("SYSTEMD_PROC_CMDLINE", "")
            .envs(mock.environment());
        for (known, key) in world.own_row(&mock).well_known {
            command.env(format!("SYSTEMD_IMDS_KEY_{}", known.property_name()), key);
        }
        let _daemon = Daemon(command.spawn().unwrap());
        assert!(ready.recv(&mut [0; 64]).is_ok(), "{name}: the service never became ready");
        let ctx = world.ctx();
        let options = ConnectOptions { socket: Some(socket), ..ConnectOptions::default() };
        let mut source = connect(&ctx, &options).unwrap();
        check_normal(&ctx, source.as_mut(), &mock.json(), &mut wrong);
        assert!(!mock.requests().is_empty(), "{name}");
        assert!(mock.tokens() <= 1, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
