//! Everything known about this instance as one JSON object.
//!
//! Members: `vendor`, `endpoint`, `values` (by name, one meaning on every cloud), `sshKeys`,
//! `userdata` or, where it is not text, `userdataBase64`, `vendorData` likewise, `tree` (what the
//! cloud itself says), `omitted` (paths of the tree that hold secrets and are left out) and
//! `failures` (by name, what could not be had). What is absent has no member. Tokens and the
//! service's own credentials are never in it.

use serde_json::{Map, Value, json};

use super::{NAMES, Normal, tree};
use crate::crypto::text::base64;
use crate::error::Error;
use crate::imds::{Endpoint, Failure};

pub(super) fn dump(normal: &mut Normal<'_>) -> Result<Value, Failure> {
    let mut failures = Failures::default();
    // First, because most values are in it already then.
    let mut tree = failures.note("tree", tree::fetch(normal)).unwrap_or_default();
    for (name, what) in std::mem::take(&mut tree.failures) {
        failures.note::<()>(&name, Err(what));
    }

    let mut values = Map::new();
    let mut names: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
    let others = normal.endpoint.traits.recipes.keys();
    let others = others.filter(|name| !names.contains(name) && !is_elsewhere(name));
    names.extend(others.cloned().collect::<Vec<_>>());
    for name in names {
        let value = if name == "tags" {
            normal.list(&name).map(|list| (!list.is_empty()).then(|| json!(list)))
        } else {
            normal.value(&name).map(|value| value.map(Value::from))
        };
        if let Some(value) = failures.note(&name, value).flatten() {
            values.insert(name, value);
        }
    }
    let keys = normal.ssh_keys();
    let keys = failures.note("ssh-keys", keys).unwrap_or_default();
    let userdata = normal.userdata();
    let userdata = failures.note("userdata", userdata).flatten();
    let vendor_data = normal.bytes("vendor-data");
    let vendor_data = failures.note("vendor-data", vendor_data).flatten();

    let has_something = !values.is_empty()
        || !keys.is_empty()
        || userdata.is_some()
        || vendor_data.is_some()
        || !tree.value.is_null();
    if let (false, Some(failure)) = (has_something, failures.first.take()) {
        return Err(failure);
    }

    let mut object = Map::new();
    object.extend(normal.endpoint.vendor.clone().map(|v| ("vendor".to_owned(), json!(v))));
    object.insert("endpoint".into(), endpoint(&normal.endpoint));
    object.insert("values".into(), Value::Object(values));
    object.insert("sshKeys".into(), json!(keys));
    object.extend(userdata.map(|bytes| marked("userdata", bytes)));
    object.extend(vendor_data.map(|bytes| marked("vendorData", bytes)));
    if !tree.value.is_null() {
        object.insert("tree".into(), tree.value);
    }
    if !tree.omitted.is_empty() {
        object.insert("omitted".into(), json!(tree.omitted));
    }
    if !failures.texts.is_empty() {
        object.insert("failures".into(), Value::Object(failures.texts));
    }
    Ok(Value::Object(object))
}

/// Names that have a place of their own in the object, or none.
fn is_elsewhere(name: &str) -> bool {
    matches!(name, "tree" | "ssh-key" | "ssh-keys" | "vendor-data") || name.starts_with("userdata")
}

/// Text as it is, anything else in Base64 with a name that says so.
fn marked(name: &str, bytes: Vec<u8>) -> (String, Value) {
    match String::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), json!(text)),
        Err(err) => (format!("{name}Base64"), json!(base64(err.as_bytes()))),
    }
}

/// Where the service is. Headers are left out: they may be secret.
fn endpoint(endpoint: &Endpoint) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        object.extend(value.map(|value| (name.to_owned(), json!(value))));
    };
    put("dataUrl", endpoint.data_url.clone());
    put("dataUrlSuffix", endpoint.data_url_suffix.clone());
    put("tokenUrl", endpoint.token_url.clone());
    put("addressIPv4", endpoint.address_ipv4.map(|address| address.to_string()));
    put("addressIPv6", endpoint.address_ipv6.map(|address| address.to_string()));
    let keys = endpoint.well_known.iter().map(|(known, key)| (known.name().to_owned(), json!(key)));
    let keys: Map<String, Value> = keys.collect();
    if !keys.is_empty() {
        object.insert("wellKnown".into(), Value::Object(keys));
    }
    Value::Object(object)
}

#[derive(Default)]
struct Failures {
    texts: Map<String, Value>,
    first: Option<Failure>,
}

impl Failures {
    fn note<T>(&mut self, name: &str, result: Result<T, Failure>) -> Option<T> {
        result
            .inspect_err(|failure| {
                self.first.get_or_insert_with(|| failure.clone());
                let text = Error::from(failure.clone()).to_string();
                self.texts.insert(name.to_owned(), json!(text));
            })
            .ok()
    }
}
