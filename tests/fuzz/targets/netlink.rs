//! Netlink: what a kernel could send, and what is not whole.

use slipway::format::netlink::{messages, rtnl, unix_diag};

use crate::{kind, vectors};

/// All decoders; routes and rules that are read, written and read again are the same.
pub fn run(bytes: &[u8]) -> u64 {
    let mut seen = Vec::new();
    for message in messages(bytes) {
        let _ = message.acknowledgement();
        if let Some(route) = rtnl::route(&message) {
            let bytes = rtnl::add_route(&route).finish(1);
            assert_eq!(messages(&bytes).find_map(|message| rtnl::route(&message)), Some(route));
        }
        if let Some(rule) = rtnl::rule(&message) {
            let bytes = rtnl::add_rule(&rule).finish(1);
            assert_eq!(messages(&bytes).find_map(|message| rtnl::rule(&message)), Some(rule));
        }
        seen.push((
            message.kind,
            rtnl::link(&message).map(|link| (link.kind.is_some(), link.alternative_names.len())),
            rtnl::address(&message).map(|address| address.is_tentative),
            rtnl::route(&message).map(|route| (route.gateway.is_some(), route.is_onlink)),
            rtnl::rule(&message).map(|rule| (rule.action, rule.users.is_some())),
            unix_diag::path(&message).is_some(),
        ));
    }
    seen.truncate(4);
    kind(&seen)
}

pub fn seeds() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(vectors("netlink/linux-6.18.json")).expect("vectors");
    let all: serde_json::Value = serde_json::from_str(&text).expect("vectors");
    let dumps = all.as_object().expect("object").values();
    let bytes = |dump: &serde_json::Value| -> Vec<u8> {
        let digits = dump.as_str().expect("text").as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("digits"))
            .collect()
    };
    let mut seeds: Vec<Vec<u8>> = dumps.map(bytes).collect();
    seeds.push(unix_diag::list_listening().finish(1));
    seeds
}
