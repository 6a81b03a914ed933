//! The nine clouds, each a machine with its SMBIOS identity and its metadata service on the network.
//!
//! The initramfs holds slipway and busybox. QEMU's user network leads the service's address to a
//! mock in this process; it hides the source port, so Scaleway's rule about that is switched off
//! here (`tests/imds_clouds.rs` has it).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a broken test should panic"
)]

#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;
#[path = "common/vm/mod.rs"]
mod vm;

use mock_cloud::{Mock, MockCloud};
use serde_json::Value;
use vm::{Machine, Network};

const SCENARIO: &str = include_str!("vm/imds.sh");
const LOCKED: &str = include_str!("vm/imds-locked.sh");
const BOOT: &str = include_str!("vm/imds-boot.sh");

/// What every cloud's user data asks for.
const USERDATA: &str =
    r#"{"systemd.credentials":[{"name":"demo.greeting","text":"hello from userdata"}]}"#;

/// The peer's summary fails where one value is missing and the answer says so in words.
const AZURE_SUMMARY: &str = "             Vendor: microsoft-azure
           Hostname: demo-host
             Region: westeurope
               Zone: westeurope-AZ01
Public IPv4 Address: 203.0.113.20
";

fn mock(cloud: &str) -> Mock {
    let mock = MockCloud::fixture(cloud);
    if cloud == "scaleway" { mock.max_port(u16::MAX) } else { mock }.start()
}

/// A machine that believes to be in this cloud.
fn machine(name: &str, cloud: &str, mock: &Mock) -> Machine {
    let vectors: Value = serde_json::from_str(include_str!("vectors/imds/smbios.json")).unwrap();
    let identities = vectors["positive"].as_array().unwrap();
    let identity = identities.iter().find(|row| row["vendor"] == cloud).unwrap();
    let mut machine = Machine::new(name).file("/expect/vendor", cloud);
    for argument in identity["qemu"].as_array().unwrap() {
        machine = machine.smbios(argument.as_str().unwrap());
    }
    let endpoint = mock.json()["endpoint"]["ipv4"].as_str().unwrap().parse().unwrap();
    for (path, contents) in imported(mock) {
        machine = machine.file(&format!("/expect/root{path}"), contents);
    }
    machine
        .file("/imds-words", include_str!("vm/imds-words.sh"))
        .file("/expect/summary", summary(mock))
        .network(Network { endpoint, port: mock.addr().port() })
}

/// The files an import leaves, from what the fixture says of the cloud.
fn imported(mock: &Mock) -> Vec<(&'static str, String)> {
    let fixture = mock.json();
    let expect = &fixture["expect"];
    let mut files = vec![
        ("/run/credstore/demo.greeting", "hello from userdata".to_owned()),
        ("/run/systemd/imds/userdata", USERDATA.to_owned()),
    ];
    if let Some(hostname) = expect["hostname"]["raw"].as_str() {
        files.push(("/run/credstore/firstboot.hostname", hostname.to_owned()));
    }
    let keys: Vec<&str> =
        expect["ssh-key"]["all_keys"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    files.push(("/run/credstore/ssh.authorized_keys.root", format!("{}\n", keys.join("\n"))));
    let addresses = "/run/systemd/resolve/static.d/imds-public.rr";
    if let Some(text) = fixture["reference_262_1"]["tool"]["import"]["files"][addresses].as_str() {
        files.push((addresses, text.to_owned()));
    }
    files
}

fn summary(mock: &Mock) -> String {
    let fixture = mock.json();
    let reference = &fixture["reference_262_1"]["tool"]["summary"];
    match reference["exit"].as_i64() {
        Some(0) => reference["stdout"].as_str().unwrap().to_owned(),
        _ if fixture["vendor"] == "microsoft-azure" => AZURE_SUMMARY.to_owned(),
        _ => panic!("no summary to compare with"),
    }
}

/// Boots in a cloud, detects it, asks it, imports from it, and does the last again.
fn cloud(name: &str, cloud: &str) {
    let mock = mock(cloud);
    let mut machine =
        machine(name, cloud, &mock).script(SCENARIO).file("/expect/summary", summary(&mock));
    for (path, contents) in imported(&mock) {
        machine = machine.file(&format!("/expect/root{path}"), contents);
    }
    let Some(report) = machine.boot() else { return };
    let refused: Vec<String> = mock
        .requests()
        .iter()
        .filter(|request| !matches!(request.status, 200 | 204 | 404))
        .map(|request| format!("{} {}", request.status, request.line()))
        .collect();
    report.assert_steps(&["detected", "summary", "imported", "again"]);
    assert!(refused.is_empty(), "the service refused {refused:?}");
}

#[test]
fn amazon_ec2() {
    cloud("amazon_ec2", "amazon-ec2");
}

#[test]
fn microsoft_azure() {
    cloud("microsoft_azure", "microsoft-azure");
}

#[test]
fn google_gcp() {
    cloud("google_gcp", "google-gcp");
}

#[test]
fn hetzner_cloud() {
    cloud("hetzner_cloud", "hetzner-cloud");
}

#[test]
fn oracle_cloud_oci() {
    cloud("oracle_cloud_oci", "oracle-cloud-oci");
}

#[test]
fn scaleway() {
    cloud("scaleway", "scaleway");
}

#[test]
fn tencent_cloud() {
    cloud("tencent_cloud", "tencent-cloud");
}

#[test]
fn alibaba_ecs() {
    cloud("alibaba_ecs", "alibaba-ecs");
}

#[test]
fn vultr() {
    cloud("vultr", "vultr");
}

#[test]
fn a_machine_in_no_cloud_is_left_alone() {
    let machine = Machine::new("a_machine_in_no_cloud_is_left_alone").script(
        "status generator 1 imds-generator --print
         pass generator
         status import 6 imds --import
         status key 6 imdsd /meta-data/hostname
         [ ! -e /run/credstore ] || fail import 'made a credential store'
         pass import",
    );
    let Some(report) = machine.boot() else { return };
    report.assert_steps(&["generator", "import"]);
}

#[test]
fn locked_metadata_are_for_those_who_mark_their_requests() {
    let mock = mock("amazon-ec2");
    let name = "locked_metadata_are_for_those_who_mark_their_requests";
    let machine =
        machine(name, "amazon-ec2", &mock).cmdline("systemd.imds.network=locked").script(LOCKED);
    let Some(report) = machine.boot() else { return };
    report.assert_steps(&["open", "locked", "again", "released"]);
}

#[test]
fn busybox_init_imports_at_boot() {
    let mock = mock("amazon-ec2");
    let machine = machine("busybox_init_imports_at_boot", "amazon-ec2", &mock)
        .program("/usr/lib/slipway/imds-boot", include_str!("../applets/imds/init/imds-boot"))
        .program(
            "/etc/init.d/S35imds-network",
            include_str!("../applets/imds/init/busybox/S35imds-network"),
        )
        .program("/etc/init.d/S45imds", include_str!("../applets/imds/init/busybox/S45imds"))
        .script(BOOT);
    let Some(report) = machine.boot() else { return };
    report.assert_steps(&["imported", "network", "daemon", "stopped"]);
}
