//! The golden data of metadata.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "test helper: a broken test should panic")]

use std::path::Path;

use serde_json::Value;

/// The clouds that systemd 262 knows; each has a fixture `NAME.json`.
pub const CLOUDS: [&str; 9] = [
    "alibaba-ecs",
    "amazon-ec2",
    "google-gcp",
    "hetzner-cloud",
    "microsoft-azure",
    "oracle-cloud-oci",
    "scaleway",
    "tencent-cloud",
    "vultr",
];

/// A file of `tests/vectors/imds`.
pub fn vector(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/imds").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
