//! Services and networks that break: every case of `tests/vectors/imds/faults.json`, the same
//! faults on each of the nine clouds, and the defects of the peer that must not come back.
//!
//! Where its case says nothing else, the result is the peer's. The peer's errors without a name
//! (errno 5, 117, 131, 1073741955) are `CommunicationFailure` here (defects 3 and 5).
//!
//! One test for each of the peer's 24 defects; many have more (`grep -r defect_`):
//!
//! - defect 1, 404 with a body is a failure: `pages_of_not_found_are_not_found_on_every_cloud_defect_1`
//! - defect 2, 401 with a body: no renewal: `stale_tokens_are_renewed_once_defect_2`
//! - defect 3, errors without a name: `every_status_has_a_name_and_an_errno_of_linux_defects_3_and_5`
//! - defect 4, silence after the last attempt: `the_end_of_attempts_is_told_at_once_defects_4_and_5`
//! - defect 5, "Structure needs cleaning": `the_end_of_attempts_is_told_at_once_defects_4_and_5`
//! - defect 6, Retry-After, passing statuses, early 404: `busy_services_are_asked_again_when_they_say_so_defect_6`
//! - defect 7, no time-out per attempt: `a_stall_costs_one_attempt_defect_7`
//! - defect 8, foreign redirects and proxies: `redirects_are_not_followed_but_to_the_same_directory_defect_8`
//! - defect 9, output before a failure: `nothing_is_printed_before_a_failure_defect_9`
//! - defect 10, newline after a token: `a_token_may_end_in_a_newline_defect_10_but_not_be_empty_defect_11`
//! - defect 11, empty token: `a_token_may_end_in_a_newline_defect_10_but_not_be_empty_defect_11`
//! - defect 12, wrong keys in the table: `identity_leads_to_values_at_the_real_addresses_of_each_cloud_defect_12`
//! - defect 13, values in a form of their own: `values_mean_the_same_on_every_cloud_defect_13`
//! - defect 14, only the first SSH key: `all_ssh_keys_are_found_once_each_defect_14`
//! - defect 15, IPv6 never used: `clouds_with_an_ipv6_address_are_reached_without_ipv4_defect_15`
//! - defect 16, pinned to the wrong interface: `the_interface_that_answered_is_pinned_defect_16`
//! - defect 17, file systems without attributes: `file_systems_without_attributes_keep_answers_as_well_defect_17`
//! - defect 18, credential of the token URL: `the_credential_of_the_token_url_has_two_names_defect_18`
//! - defect 19, machines that are not recognised: `identities_the_peer_misses_are_recognized_and_strictly_missed_defect_19`
//! - defect 20, bad Base64 fails silently: `bad_base64_is_named_defect_20`
//! - defect 21, import without an endpoint: `import_without_an_endpoint_exits_with_6_defect_21`
//! - defect 22, low ports everywhere: `low_ports_are_for_those_who_want_them_defect_22`
//! - defect 23, a connection per request: `five_keys_need_one_connection_and_one_token_defect_23`
//! - defect 24, no udev, no endpoint: `a_machine_without_udev_and_without_strings_is_recognized_by_its_tables_defect_24`
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "imds_faults/cases.rs"]
mod cases;
#[path = "imds_faults/clouds.rs"]
mod clouds;
#[path = "common/imds_world.rs"]
mod imds_world;
#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;
#[path = "common/netns.rs"]
mod netns;
#[path = "imds_faults/talk.rs"]
mod talk;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use imds_world::{World, failure_name, get};
use mock_cloud::{Answer, CLOUDS, Ear, Fault, Framing, Mock, MockCloud};
use netns::Namespace;
use serde_json::Value;
use slipway::ctx::Ctx;
use slipway::error::Error;
use slipway::imds::fetch::{Cancel, Limits, MemoryTokens, Route, Session, TokenStore as _};
use slipway::imds::{Endpoint, Failure, Request, Source as _, WellKnown, providers};

/// The text of every source and test of this project.
fn sources() -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = Vec::new();
    for part in ["tests", "src", "applets"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &mut found);
    }
    found
}

#[test]
fn every_defect_has_a_test_that_exists() {
    let sources = sources();
    let mut numbers = Vec::new();
    for line in include_str!("imds_faults.rs").lines() {
        let Some(row) = line.strip_prefix("//! - defect ") else { continue };
        let (number, rest) = row.split_once(',').unwrap();
        let (_, name) = rest.trim_end_matches('`').split_once('`').unwrap();
        let test = format!("#[test]\nfn {name}()");
        let indented = format!("#[test]\n    fn {name}()");
        let is_there = |text: &String| text.contains(&test) || text.contains(&indented);
        assert!(sources.iter().any(is_there), "defect {number}: no test '{name}'");
        assert!(name.split('_').any(|word| word == number), "{name} does not say {number}");
        numbers.push(number.parse::<usize>().unwrap());
    }
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
}

#[test]
fn every_vector_is_read_by_a_test() {
    let sources = sources();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/imds");
    for entry in std::fs::read_dir(vectors).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "PROVENANCE" {
            continue;
        }
        let quoted = format!("{name}\"");
        assert!(sources.iter().any(|text| text.contains(&quoted)), "nobody reads {name}");
    }
}
