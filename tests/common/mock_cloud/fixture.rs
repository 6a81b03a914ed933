//! What a cloud answers: a fixture of `tests/vectors/imds`, and its variants.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::answer::Answer;

/// The nine fixtures, so that the server runs anywhere.
const BUILT_IN: [(&str, &str); 9] = [
    ("amazon-ec2", include_str!("../../vectors/imds/amazon-ec2.json")),
    ("microsoft-azure", include_str!("../../vectors/imds/microsoft-azure.json")),
    ("google-gcp", include_str!("../../vectors/imds/google-gcp.json")),
    ("hetzner-cloud", include_str!("../../vectors/imds/hetzner-cloud.json")),
    ("oracle-cloud-oci", include_str!("../../vectors/imds/oracle-cloud-oci.json")),
    ("scaleway", include_str!("../../vectors/imds/scaleway.json")),
    ("tencent-cloud", include_str!("../../vectors/imds/tencent-cloud.json")),
    ("alibaba-ecs", include_str!("../../vectors/imds/alibaba-ecs.json")),
    ("vultr", include_str!("../../vectors/imds/vultr.json")),
];

/// Names of the nine.
pub const CLOUDS: [&str; 9] = [
    "amazon-ec2",
    "microsoft-azure",
    "google-gcp",
    "hetzner-cloud",
    "oracle-cloud-oci",
    "scaleway",
    "tencent-cloud",
    "alibaba-ecs",
    "vultr",
];

/// The fixture as it is in the file.
pub fn json(name: &str) -> Value {
    let text = match BUILT_IN.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(Path::new(name))
            .unwrap_or_else(|err| panic!("no fixture '{name}': {err}")),
    };
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("fixture '{name}': {err}"))
}

/// A header that must be there.
#[derive(Clone, Debug)]
pub(super) struct Required {
    pub name: String,
    pub value: String,
    pub missing: Answer,
}

/// The token rules.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub path: String,
    pub ttl_header: String,
    pub header: String,
    pub ttl: std::ops::RangeInclusive<u64>,
    pub is_required: bool,
    pub text: Vec<u8>,
    pub ok: Answer,
    pub bad_ttl: Answer,
    pub wrong_method: Answer,
    pub stale: Answer,
    /// How often one token works.
    pub uses: Option<usize>,
    /// How long one token works, where that is not the lifetime that was asked for.
    pub lifetime: Option<Duration>,
    /// The status of the token path instead of a token.
    pub status: Option<u16>,
}

/// Paths that are answered to low source ports only.
#[derive(Clone, Debug)]
pub(super) struct LowPort {
    pub prefixes: Vec<String>,
    pub max: u16,
    pub rejected: Answer,
}

/// The rules of one cloud.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub json: Value,
    pub routes: HashMap<String, Answer>,
    pub token: Option<Token>,
    pub required: Vec<Required>,
    pub forbidden: Vec<String>,
    pub forwarded: Answer,
    pub low_port: Option<LowPort>,
    pub not_found: Answer,
    pub no_version: Option<Answer>,
    pub rate_limited: Answer,
    /// Answers to the first requests, whatever they ask for.
    pub transient: Vec<Answer>,
    /// The answer to every request.
    pub always: Option<Answer>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// `{status, headers, body}` of a fixture.
fn answer(value: &Value) -> Answer {
    let mut answer =
        Answer::status(value["status"].as_u64().unwrap_or(200) as u16).body(text(&value["body"]));
    for (name, value) in value["headers"].as_object().into_iter().flatten() {
        answer = answer.header(name, &text(value));
    }
    answer
}

/// An answer of the fixture, or this status where it has none.
fn answer_or(value: &Value, status: u16) -> Answer {
    if value.is_object() { answer(value) } else { Answer::page(status) }
}

impl Rules {
    pub(super) fn new(json: Value) -> Self {
        let auth = &json["auth"];
        let token = (auth["kind"] == "token-put").then(|| Token {
            path: text(&auth["token_path"]),
            ttl_header: text(&auth["ttl_header"]),
            header: text(&auth["token_header"]),
            ttl: auth["ttl_min"].as_u64().unwrap_or(1)..=auth["ttl_max"].as_u64().unwrap_or(21600),
            is_required: auth["required"] != false,
            text: text(&auth["token"]).into_bytes(),
            ok: answer(&auth["responses"]["token_ok"]),
            bad_ttl: answer_or(&auth["responses"]["ttl_missing_or_out_of_range"], 400),
            wrong_method: answer_or(&auth["responses"]["token_get_method"], 405),
            stale: answer_or(&auth["responses"]["data_without_or_with_stale_token"], 401),
            uses: None,
            lifetime: None,
            status: None,
        });
        let low_port = (auth["kind"] == "privileged-source-port").then(|| LowPort {
            prefixes: strings(&auth["applies_to"]),
            max: auth["max_port"].as_u64().unwrap_or(1023) as u16,
            rejected: answer_or(&auth["rejected"], 403),
        });
        let required = json["required_headers"].as_array().into_iter().flatten();
        let mut rules = Self {
            routes: HashMap::new(),
            token,
            required: required
                .map(|header| Required {
                    name: text(&header["name"]),
                    value: text(&header["value"]),
                    missing: answer(&header["missing"]),
                })
                .collect(),
            forbidden: strings(&json["forbidden_headers"]),
            forwarded: answer_or(&auth["responses"]["x_forwarded_for_present"], 403),
            low_port,
            not_found: answer_or(&json["not_found"], 404),
            no_version: json["query"]["api_version_missing"]
                .is_object()
                .then(|| answer(&json["query"]["api_version_missing"])),
            rate_limited: answer_or(&json["rate_limit"], 429),
            transient: Vec::new(),
            always: None,
            json: Value::Null,
        };
        for route in json["routes"].as_array().into_iter().flatten() {
            rules.route(route);
        }
        rules.json = json;
        rules
    }

    /// Adds or replaces a route of the fixture.
    fn route(&mut self, route: &Value) {
        let key = format!("{} {}", text(&route["method"]), text(&route["path"]));
        self.routes.insert(key, answer(route));
    }

    /// Applies a variant of the fixture. Those that change the network or the client, not the
    /// answers, change nothing here.
    pub(super) fn variant(&mut self, name: &str) {
        let variants = self.json["variants"].as_array().cloned().unwrap_or_default();
        let variant = variants
            .iter()
            .find(|variant| variant["name"] == name)
            .unwrap_or_else(|| panic!("{} has no variant '{name}'", self.json["vendor"]));
        for (member, value) in variant.as_object().into_iter().flatten() {
            match member.as_str() {
                "name" | "note" | "expect" => {}
                "remove" => {
                    let gone = strings(value);
                    self.routes
                        .retain(|key, _| !gone.iter().any(|path| key == &format!("GET {path}")));
                }
                "remove_prefix" => {
                    let prefix = format!("GET {}", text(value));
                    self.routes.retain(|key, _| !key.starts_with(&prefix));
                }
                "override" => value.as_array().into_iter().flatten().for_each(|r| self.route(r)),
                "transient" => {
                    for part in value.as_array().into_iter().flatten() {
                        let status = part["status"].as_u64().unwrap_or(503) as u16;
                        let times = part["times"].as_u64().unwrap_or(1) as usize;
                        self.transient.extend(Answer::page(status).times(times));
                    }
                }
                "all_status" => self.always = Some(self.everywhere(value.as_u64().unwrap_or(500))),
                "token_invalid_after_uses" => {
                    self.the_token().uses = value.as_u64().map(|n| n as usize)
                }
                "token_status" => self.the_token().status = value.as_u64().map(|n| n as u16),
                "auth_kind" => self.the_token().is_required = value == "token-put",
                "auth_required" => self.the_token().is_required = value == true,
                other => panic!("variant '{name}': no idea what '{other}' is"),
            }
        }
    }

    /// The provider's own words for a status it gives to everything.
    fn everywhere(&self, status: u64) -> Answer {
        let disabled = &self.json["auth"]["responses"]["service_disabled"];
        match &self.no_version {
            _ if disabled["status"] == status => answer(disabled),
            Some(bad_version) if u64::from(bad_version.status) == status => bad_version.clone(),
            _ => Answer::page(status as u16),
        }
    }

    pub(super) fn the_token(&mut self) -> &mut Token {
        self.token.as_mut().expect("a cloud with tokens")
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(Value::Null)
    }
}
