//! The applets against clouds and against services that break: what a script sees, without a
//! daemon and without privileges.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use mock_cloud::{Answer, CLOUDS, Fault, Framing, Mock, MockCloud};
use serde_json::Value;
use slipway::imds::WellKnown;

const KEY: &str = "/target";

/// A cloud without tokens and headers, and a key of it.
fn plain() -> MockCloud {
    MockCloud::fixture("vultr").route(KEY, Answer::ok("value"))
}

/// A cloud with tokens.
fn with_tokens() -> MockCloud {
    MockCloud::fixture("amazon-ec2")
}

/// An applet against a server, as nobody where we are root.
fn applet(mock: &Mock, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.args(args).env_clear().envs(mock.environment());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534).current_dir("/");
    }
    command
}

fn run(mock: &Mock, args: &[&str]) -> Output {
    applet(mock, args).output().unwrap()
}

#[test]
fn nothing_is_printed_before_a_failure_defect_9() {
    for applet in ["imds", "imdsd"] {
        for answer in [
            Answer::ok("0123456789").fault(Fault::Close(5)),
            Answer::ok("0123456789").fault(Fault::Reset(5)),
            Answer::ok(vec![b'x'; (4 << 20) + 1]).framing(Framing::Chunked(1 << 16)),
        ] {
            // Asked again, the service is gone for good.
            let mock = plain().script(KEY, [answer]).always(KEY, Answer::page(403)).start();
            let output = run(&mock, &[applet, "--cache=no", KEY]);
            assert_eq!(output.status.code(), Some(1), "{applet}: {output:?}");
            assert!(output.stdout.is_empty(), "{applet}: {output:?}");
            assert!(!output.stderr.is_empty(), "{applet}");
        }
        let whole = plain().script(KEY, [Answer::ok("0123456789").fault(Fault::Close(5))]).start();
        let output = run(&whole, &[applet, "--cache=no", KEY]);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"value"[..]));
    }
}

#[test]
fn tokens_and_values_are_in_no_log() {
    let mock = with_tokens()
        .token("SECRETTOKEN")
        .route("/latest/user-data", Answer::ok("SECRETDATA"))
        .start();
    let output = applet(&mock, &["imds", "-u"]).env("SYSTEMD_LOG_LEVEL", "debug").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "SECRETDATA", "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("SECRET"), "{log}");
}

#[test]
fn bad_base64_is_named_defect_20() {
    let path = "/metadata/instance/compute/userData?api-version=2025-04-07&format=text";
    let mock = MockCloud::fixture("microsoft-azure").always(path, Answer::ok("no base64!")).start();
    let output = run(&mock, &["imds", "-u"]);
    let log = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    assert!(log.contains("base64"), "{log}");
}

#[test]
fn import_without_an_endpoint_exits_with_6_defect_21() {
    let output = Command::new(env!("CARGO_BIN_EXE_slipway"))
        .args(["imds", "--import"])
        .env_clear()
        // Any source at all keeps the firmware of this machine out; this one is not usable.
        .env("SYSTEMD_IMDS_VENDOR", "nobody")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}

#[test]
fn the_applet_prints_the_summary_of_each_cloud() {
    let mut wrong = Vec::new();
    for name in CLOUDS {
        let mock = MockCloud::fixture(name).start();
        let output = run(&mock, &["imds", "--cache=no"]);
        let reference = &mock.json()["reference_262_1"]["tool"]["summary"];
        let expected = match reference["exit"].as_i64() {
            Some(0) => reference["stdout"].as_str().unwrap().to_owned(),
            // The peer fails on the first key that is missing (defect 1).
            _ => summary_from(&mock.json()),
        };
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        if got != expected {
            wrong.push(format!(
                "{name}:\n{got}not\n{expected}{}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table that the raw values make.
fn summary_from(fixture: &Value) -> String {
    let mut rows = vec![("Vendor", fixture["vendor"].as_str().unwrap().to_owned())];
    for (label, name) in [
        ("Hostname", "hostname"),
        ("Region", "region"),
        ("Zone", "zone"),
        ("Public IPv4 Address", "ipv4-public"),
        ("Public IPv6 Address", "ipv6-public"),
    ] {
        if let Some(raw) = fixture["expect"][name]["raw"].as_str().filter(|raw| !raw.is_empty()) {
            rows.push((label, raw.to_owned()));
        }
    }
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap();
    rows.iter().map(|(label, value)| format!("{label:>width$}: {value}\n")).collect()
}

#[test]
fn the_applet_prints_every_name_and_the_user_data_of_each_cloud() {
    let mut wrong = Vec::new();
    for name in CLOUDS {
        let mut cloud = MockCloud::fixture(name);
        if name == "scaleway" {
            // Nobody has no low ports.
            cloud = cloud.max_port(u16::MAX);
        }
        let mock = cloud.start();
        let fixture = mock.json();
        for known in WellKnown::ALL.into_iter().skip(1) {
            let expect = &fixture["expect"][known.name()];
            let mut args = vec!["imds", "--cache=no", "-K", known.name()];
            args.extend(expect["suffix"].as_str());
            let output = match name {
                // A cloud without a name, of which no rule about ports is known.
                "scaleway" => {
                    applet(&mock, &args).env_remove("SYSTEMD_IMDS_VENDOR").output().unwrap()
                }
                _ => run(&mock, &args),
            };
            let got = (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned());
            let expected = match expect["raw"].as_str() {
                Some(raw) => (Some(0), raw.to_owned()),
                None => (Some(1), String::new()),
            };
            if got != expected {
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                wrong.push(format!("{name} {args:?}: {got:?}, not {expected:?}\n{stderr}"));
            }
        }
        let mut command = applet(&mock, &["imds", "--cache=no", "-u"]);
        if name == "scaleway" {
            command.env_remove("SYSTEMD_IMDS_VENDOR");
        }
        let output = command.output().unwrap();
        let reference = &fixture["reference_262_1"]["tool"]["userdata"];
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        if reference["exit"] == 0 && got != reference["stdout"].as_str().unwrap() {
            wrong.push(format!("{name} -u: {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_missing_privilege_is_named() {
    if !rustix::process::geteuid().is_root() {
        // Then this process may have it or not; root gives it away.
        eprintln!("SKIP a_missing_privilege_is_named: needs root");
        return;
    }
    let mock = MockCloud::fixture("scaleway").start();
    let output = run(&mock, &["imds", "--cache=no", "-K", "userdata"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    assert!(log.contains("CAP_NET_BIND_SERVICE"), "{log}");
    assert_eq!(mock.requests().len(), 0);
}

#[test]
fn missing_keys_leave_a_summary_of_the_rest_defect_1() {
    let mock = MockCloud::fixture("amazon-ec2")
        .variant("no-public-addresses")
        .variant("no-user-data")
        .start();
    let output = run(&mock, &["imds", "--cache=no"]);
    let expected = "  Vendor: amazon-ec2\nHostname: ip-10-0-0-5.eu-west-1.compute.internal\n  \
                    Region: eu-west-1\n    Zone: eu-west-1a\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    assert_eq!(output.status.code(), Some(0));
    for (args, text) in [
        (&["imds", "--cache=no", "-u"][..], "User data not available."),
        (&["imds", "--cache=no", "-K", "ipv6-public"], "Key not available."),
        (&["imds", "--cache=no", "/no/such/key"], "Key not available."),
    ] {
        let output = run(&mock, args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(text), "{args:?}: {log}");
    }
}

#[test]
fn user_data_are_also_found_where_only_the_table_knows_to_look() {
    let mock = MockCloud::fixture("google-gcp").variant("no-systemd-userdata").start();
    let ask = |variable: &[(&str, &str)]| {
        let mut command = applet(&mock, &["imds", "--cache=no", "-u"]);
        let output = command.envs(variable.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(ask(&[]), (Some(0), "#cloud-config\n{}\n".to_owned()));
    // Neither in the old ways, nor where somebody said which key it is.
    assert_eq!(ask(&[("SLIPWAY_STRICT_COMPAT", "1")]), (Some(1), String::new()));
    assert_eq!(ask(&[("SYSTEMD_IMDS_KEY_USERDATA", "/mine")]), (Some(1), String::new()));
    let output = run(&mock, &["imds", "--cache=no", "--import", "--dry-run"]);
    let plan = String::from_utf8_lossy(&output.stdout);
    assert!(plan.contains("Would write '/run/systemd/imds/userdata' (17B"), "{plan}");

    // The peer's order wins.
    let mock = MockCloud::fixture("google-gcp").start();
    let output = run(&mock, &["imds", "--cache=no", "-u"]);
    assert!(output.stdout.starts_with(b"{\"systemd.credentials\""), "{output:?}");
    assert!(!mock.lines().iter().any(|line| line.ends_with("/user-data")), "{:?}", mock.lines());
}

#[test]
fn a_service_that_is_switched_off_is_a_failure_and_no_value_is_shown() {
    let mock = MockCloud::fixture("amazon-ec2").variant("imds-disabled").start();
    for (args, shown) in [
        (&["imds", "--cache=no"][..], "Vendor: amazon-ec2\n"),
        (&["imds", "--cache=no", "-u"], ""),
        (&["imds", "--cache=no", "-K", "region"], ""),
        (&["imdsd", "--cache=no", "-K", "hostname"], ""),
    ] {
        let output = run(&mock, args);
        assert_eq!(String::from_utf8_lossy(&output.stdout), shown, "{output:?}");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(mock.lines().iter().all(|line| line == "PUT /latest/api/token"), "{:?}", mock.lines());
}

#[test]
fn a_summary_needs_one_connection_and_one_token_defect_23() {
    let mock = MockCloud::fixture("amazon-ec2").start();
    assert_eq!(run(&mock, &["imds", "--cache=no"]).status.code(), Some(0));
    assert_eq!((mock.connections(), mock.tokens(), mock.requests().len()), (1, 1, 6));
}
