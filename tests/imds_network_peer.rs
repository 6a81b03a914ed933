//! The real systemd-imdsd and ours write the two files of the early network: the same sections in
//! the same order, the same records, the same statuses and messages.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; a skip is told on standard output"
)]

#[path = "common/peer.rs"]
mod peer;

use std::fs;

use peer::Peer;
use serde_json::Value;

/// Command lines beyond those of the vectors.
const MORE: &[&str] = &[
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network=locked systemd.imds.network=bogus",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network=1",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network=false",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network=Locked",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network=",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds-network=locked",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.address-ipv6=::1 systemd.imds.network=locked",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network=locked systemd.imds.network=unlocked",
    "systemd.imds.address_ipv4=1.2.3.4 rd.systemd.imds.network=bogus",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.network=locked rd.systemd.imds.network=off",
    "systemd.imds.address_ipv4=bogus systemd.imds.network=locked",
    "systemd.imds.address_ipv4=::1 systemd.imds.network=locked",
    "systemd.imds.address_ipv6=1.2.3.4 systemd.imds.network=off",
    "systemd.imds.address_ipv6=FD00:0EC2::0254",
    "systemd.imds.address_ipv6=::ffff:1.2.3.4 systemd.imds.network=locked",
    "systemd.imds.address_ipv6=fe80::a9fe:a9fe",
    "systemd.imds.address_ipv4=127.0.0.1 systemd.imds.network=locked",
    "systemd.imds.network=bogus systemd.imds.address_ipv4=1.2.3.4",
    "systemd.imds.address_ipv4=1.2.3.4 systemd.imds.address_ipv4= systemd.imds.network=locked",
];

fn lines() -> Vec<String> {
    let text = include_str!("vectors/imds/setup-network.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let base = "systemd.imds.vendor=foo systemd.imds.data_url=http://1.2.3.4";
    let vectors = cases.iter().map(|case| case["cmdline"].as_str().unwrap().to_owned());
    vectors.chain(MORE.iter().map(|more| format!("{base} {more}"))).collect()
}

/// What each line leads to: status, messages, files without their comments.
fn run(peer: &Peer, program: &str, lines: &[String]) -> Vec<String> {
    let mut script = String::new();
    for line in lines {
        script.push_str(&format!(
            "rm -rf /run/systemd\n\
             SYSTEMD_PROC_CMDLINE='{line}' '{program}' --setup-network 2>&1; echo \"status $?\"\n\
             for f in /run/systemd/network/* /run/systemd/resolve/static.d/*; do\n\
             [ -e \"$f\" ] && stat -c '%n %a' \"$f\" && grep -v '^#' \"$f\" | grep -v '^$'\n\
             done\n\
             echo END\n"
        ));
    }
    fs::write(peer.dir().join("script"), script).unwrap();
    let output = peer.run("sh", &[peer.inside().join("script").to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("END\n").take(lines.len()).map(str::to_owned).collect()
}

#[test]
fn both_write_the_same_early_network() {
    let Some(peer) = Peer::new("both_write_the_same_early_network") else { return };
    std::os::unix::fs::symlink("slipway", peer.dir().join("imdsd")).unwrap();
    let lines = lines();
    let theirs = run(&peer, "/usr/lib/systemd/systemd-imdsd", &lines);
    let ours = run(&peer, peer.inside().join("imdsd").to_str().unwrap(), &lines);
    assert_eq!((theirs.len(), ours.len()), (lines.len(), lines.len()));
    let mut wrong = Vec::new();
    for ((line, theirs), ours) in lines.iter().zip(theirs).zip(ours) {
        // DIFFERS: says that nothing is locked.
        let ours: String = ours
            .lines()
            .filter(|text| !text.starts_with("Access to IMDS is to be locked"))
            .flat_map(|text| [text, "\n"])
            .collect();
        if theirs != ours {
            wrong.push(format!("{line}\ntheirs:\n{theirs}ours:\n{ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
}
