//! The metrics interface over a socket, against what systemd-imds 262.1 answered.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Map, Value, json};
use slipway::ctx::Ctx;
use slipway::imds::{Endpoint, Failure, Reply, Request, Source, WellKnown, metrics};
use slipway::varlink::client::Client;
use slipway::varlink::idl::{self, Kind};
use slipway::varlink::wire::Stream;

/// Answers of a cloud; what is not there is not configured.
#[derive(Clone, Default)]
struct Cloud {
    vendor: Option<&'static str>,
    values: Vec<(WellKnown, Result<&'static str, Failure>)>,
    asked: Arc<Mutex<Vec<WellKnown>>>,
}

impl Source for Cloud {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        let vendor = self.vendor.map(str::to_owned).ok_or(Failure::NotSupported)?;
        Ok(Endpoint { vendor: Some(vendor), ..Endpoint::default() })
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        let name = request.well_known.unwrap();
        self.asked.lock().unwrap().push(name);
        let found = self.values.iter().find(|(known, _)| *known == name);
        let value = found.map_or(Err(Failure::WellKnownKeyUnset), |(_, value)| value.clone())?;
        Ok(Reply { data: value.as_bytes().to_vec(), interface: None })
    }
}

/// What a client gets from a service on this cloud.
fn with_client<T>(cloud: Cloud, ask: impl FnOnce(&mut Client) -> T) -> T {
    let service = metrics::service(&Ctx::host([]), move |_| Ok(Box::new(cloud.clone()))).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let handle = thread::spawn(move || service.serve(Stream::socket(theirs)).unwrap());
    let mut client = Client::from_socket(ours);
    let answer = ask(&mut client);
    drop(client);
    handle.join().unwrap();
    answer
}

fn all(client: &mut Client, method: &str) -> Result<Vec<Value>, String> {
    let replies = client.collect(&format!("io.systemd.Metrics.{method}"), Map::new()).unwrap();
    match replies {
        Ok(replies) => Ok(replies.into_iter().map(Value::Object).collect()),
        Err(reply) => Err(reply.error.unwrap()),
    }
}

fn full() -> Cloud {
    Cloud {
        vendor: Some("v"),
        values: vec![
            (WellKnown::Hostname, Ok("host.example\n")),
            (WellKnown::Region, Ok("eu-1")),
            (WellKnown::Zone, Ok("eu-1a")),
            (WellKnown::Ipv4Public, Ok("203.0.113.7")),
            (WellKnown::Ipv6Public, Ok("2001:db8::7")),
        ],
        ..Cloud::default()
    }
}

#[test]
fn a_list_is_sorted_and_its_values_are_raw() {
    // Observed, the line break at the end of the host name included.
    let expected = [
        ("Hostname", "host.example\n"),
        ("IPv4Public", "203.0.113.7"),
        ("IPv6Public", "2001:db8::7"),
        ("Region", "eu-1"),
        ("Vendor", "v"),
        ("Zone", "eu-1a"),
    ]
    .map(|(name, value)| {
        json!({ "name": format!("io.systemd.InstanceMetadata.{name}"), "value": value })
    });
    assert_eq!(with_client(full(), |client| all(client, "List")), Ok(expected.to_vec()));
}

#[test]
fn descriptions_are_those_of_systemd_262() {
    // Observed.
    let expected = [
        ("Hostname", "Instance hostname reported by IMDS"),
        ("IPv4Public", "Public IPv4 address reported by IMDS"),
        ("IPv6Public", "Public IPv6 address reported by IMDS"),
        ("Region", "Cloud region reported by IMDS"),
        ("Vendor", "Detected cloud vendor"),
        ("Zone", "Cloud availability zone reported by IMDS"),
    ]
    .map(|(name, description)| {
        let name = format!("io.systemd.InstanceMetadata.{name}");
        json!({ "name": name, "description": description, "type": "string" })
    });
    let cloud = Cloud::default();
    let asked = Arc::clone(&cloud.asked);
    assert_eq!(with_client(cloud, |client| all(client, "Describe")), Ok(expected.to_vec()));
    assert!(asked.lock().unwrap().is_empty(), "a description asks nobody");
}

#[test]
fn both_methods_want_more_replies() {
    with_client(full(), |client| {
        for method in ["List", "Describe"] {
            let reply = client.call(&format!("io.systemd.Metrics.{method}"), Map::new()).unwrap();
            assert_eq!(reply.error.as_deref(), Some("org.varlink.service.ExpectedMore"));
        }
    });
}

#[test]
fn what_is_absent_empty_or_broken_is_left_out() {
    let cloud = Cloud {
        values: vec![
            (WellKnown::Hostname, Ok("")),
            (WellKnown::Region, Err(Failure::Timeout("x".to_owned()))),
            (WellKnown::Zone, Ok("z")),
        ],
        ..full()
    };
    let replies = with_client(cloud, |client| all(client, "List")).unwrap();
    let names: Vec<&str> = replies.iter().map(|reply| reply["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["io.systemd.InstanceMetadata.Vendor", "io.systemd.InstanceMetadata.Zone"]);
}

#[test]
fn nothing_at_all_is_an_error() {
    let none = with_client(Cloud::default(), |client| all(client, "List"));
    assert_eq!(none, Err("io.systemd.Metrics.NoSuchMetric".to_owned()));
    // A cloud that cannot even be reached.
    let refused = || slipway::error::Error::new("no");
    let service = metrics::service(&Ctx::host([]), move |_| Err(refused())).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let handle = thread::spawn(move || service.serve(Stream::socket(theirs)).unwrap());
    let mut client = Client::from_socket(ours);
    let none = all(&mut client, "List");
    drop(client);
    handle.join().unwrap();
    assert_eq!(none, Err("io.systemd.Metrics.NoSuchMetric".to_owned()));
}

#[test]
fn the_interface_is_that_of_systemd_262() {
    let ours = idl::parse(metrics::INTERFACE.as_bytes()).unwrap();
    // Names and types as introspected.
    let theirs = idl::parse(
        b"interface io.systemd.Metrics\n\
          type MetricFamilyType(counter, gauge, string, object)\n\
          method List() -> (name: string, object: ?string, fields: ?object, value: any)\n\
          method Describe() -> (name: string, description: string, type: MetricFamilyType)\n\
          error NoSuchMetric()\n",
    )
    .unwrap();
    let plain = |interface: &idl::Interface| {
        let text = idl::format(interface);
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(plain(&ours), plain(&theirs));
    assert!(ours.symbol("List").is_some_and(|list| matches!(list.kind, Kind::Method { .. })));
    assert!(ours.methods().all(|method| method.has_hint("Requires", "more")));
}
