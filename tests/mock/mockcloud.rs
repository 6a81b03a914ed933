//! `mockcloud`: the metadata service of a cloud on addresses of your choice, from a fixture.
//!
//! ```text
//! mockcloud --fixture amazon-ec2 --listen 169.254.169.254:80 --listen '[fd00:ec2::254]:80'
//! mockcloud --fixture FILE --variant no-user-data --listen 127.0.0.1:0 --log requests.jsonl
//! mockcloud --fixture google-gcp --listen 127.0.0.1:8080 --environment
//! ```
//!
//! Prints one line `ready ADDR:PORT…` when it listens, then, with `--environment`, the
//! `SYSTEMD_IMDS_*` variables that point a client at it, and an empty line. Runs until it is
//! killed, or until its standard input ends with `--until-eof`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs,
    reason = "a tool of the tests"
)]

#[path = "../common/mock_cloud/mod.rs"]
mod mock_cloud;

use std::io::{Read as _, Write as _};
use std::path::Path;

use mock_cloud::{CLOUDS, MockCloud};

const USAGE: &str = "mockcloud --fixture NAME|FILE [--variant NAME]… [--listen ADDR:PORT]… \
                     [--log FILE] [--max-port N] [--environment] [--until-eof]";

fn main() {
    let mut words = std::env::args().skip(1);
    let mut fixture = None;
    let (mut variants, mut listen) = (Vec::new(), Vec::new());
    let (mut log, mut max_port) = (None, None);
    let (mut with_environment, mut until_eof) = (false, false);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--fixture" => fixture = Some(value()),
            "--variant" => variants.push(value()),
            "--listen" => listen.push(value()),
            "--log" => log = Some(value()),
            "--max-port" => max_port = Some(value().parse().expect("a port")),
            "--environment" => with_environment = true,
            "--until-eof" => until_eof = true,
            "--help" => {
                println!("{USAGE}\nFixtures: {}", CLOUDS.join(" "));
                return;
            }
            other => panic!("no idea what '{other}' is\n{USAGE}"),
        }
    }
    let mut cloud = MockCloud::fixture(&fixture.expect(USAGE)).forgetful();
    for variant in &variants {
        cloud = cloud.variant(variant);
    }
    for address in &listen {
        cloud =
            cloud.listen(address.parse().unwrap_or_else(|_| panic!("'{address}' is no ADDR:PORT")));
    }
    if let Some(path) = &log {
        cloud = cloud.log_to(Path::new(path));
    }
    if let Some(port) = max_port {
        cloud = cloud.max_port(port);
    }
    let mock = cloud.start();

    let addresses: Vec<String> = mock.addresses().iter().map(ToString::to_string).collect();
    println!("ready {}", addresses.join(" "));
    if with_environment {
        for (name, value) in mock.environment() {
            println!("{name}={value}");
        }
        println!();
    }
    std::io::stdout().flush().unwrap();
    if until_eof {
        let mut bytes = [0; 256];
        while std::io::stdin().read(&mut bytes).is_ok_and(|n| n > 0) {}
        return;
    }
    loop {
        std::thread::park();
    }
}
