//! Measurement of user data into the TPM, before anybody reads them.
//!
//! Done by the service `io.systemd.PCRExtend` over its socket: it also writes the event log. A
//! machine without a TPM or without that service imports all the same, so a failure is told at
//! level debug only.
//!
//! External spec: systemd-pcrextend(8); the text of the event was observed.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::crypto::hash::sha256;
use crate::crypto::text::{base64, hex};
use crate::ctx::Ctx;
use crate::error::{Context as _, Result};
use crate::varlink::address::Address;
use crate::varlink::client::Client;

/// Where the service listens.
const SOCKET: &str = "/run/systemd/io.systemd.PCRExtend";
const METHOD: &str = "io.systemd.PCRExtend.Extend";
/// "kernel-config": what configures this boot from outside.
const PCR: u32 = 12;
/// How much of the user data the event shows.
const SHOWN_BYTES: usize = 256;

/// What is measured. The text begins with a part of the user data: no business of a log's.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The register.
    pub pcr: u32,
    /// What is hashed into it.
    pub text: String,
    /// The kind of the event in the log.
    pub event_type: &'static str,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes as {} into PCR {}", self.text.len(), self.event_type, self.pcr)
    }
}

/// The event for user data; none for none.
pub fn userdata_event(bytes: &[u8]) -> Option<Event> {
    if bytes.is_empty() {
        return None;
    }
    let digest = hex(&sha256(bytes));
    let head = base64(bytes.get(..SHOWN_BYTES).unwrap_or(bytes));
    let text = format!("imds-userdata:{digest}:{head}");
    Some(Event { pcr: PCR, text, event_type: "imds_userdata" })
}

/// Asks the service to measure. Whatever happens, the caller goes on.
pub fn send(ctx: &Ctx, event: &Event) {
    if let Err(error) = extend(ctx, event) {
        log::debug!("User data were not measured, ignoring: {error}");
    }
}

fn extend(ctx: &Ctx, event: &Event) -> Result<()> {
    let mut client = Client::connect(ctx, &Address::Unix(ctx.at(SOCKET)))
        .context(|| format!("Failed to connect to '{SOCKET}'"))?;
    client.invoke(METHOD, parameters(event)).map(drop)
}

fn parameters(event: &Event) -> Map<String, Value> {
    let value = json!({ "pcr": event.pcr, "text": event.text, "eventType": event.event_type });
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_not_measured() {
        assert_eq!(userdata_event(b""), None);
    }

    #[test]
    fn an_event_shows_the_first_256_bytes() {
        let event = userdata_event(&[0x41; 257]).unwrap();
        let head = event.text.rsplit(':').next().unwrap();
        assert_eq!(crate::crypto::text::unbase64(head.as_bytes()).unwrap().len(), 256);
    }
}
