//! `io.systemd.InstanceMetadata`: the engine over Varlink.
//!
//! Everybody may ask which cloud this is. Keys are for root, the service's own user and those whom
//! the policy file allows: `io.systemd.InstanceMetadata.Get` for all keys, or with a well-known
//! name behind a colon, `io.systemd.InstanceMetadata.Get:region`, for that one alone. A raw key has
//! no rule of its own: dots in it could lead anywhere.
//!
//! DIFFERS: the peer asks polkit over the system bus, and without a bus fails for everybody else.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::engine::{self, Engine};
use super::limit::CONNECTIONS_PER_UID;
use super::model::{Endpoint, Mark, Request, WellKnown};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::varlink::params::Params;
use crate::varlink::server::{Answer, Call, Service};

/// The interface.
pub const INTERFACE: &str = include_str!("io.systemd.InstanceMetadata.varlink");

/// The service.
///
/// # Errors
/// The interface and its handlers do not go together.
pub fn service(ctx: &Ctx, engine: &Engine) -> Result<Service> {
    let (for_info, for_get) = (engine.clone(), engine.clone());
    Service::builder(ctx.clone(), "systemd-imdsd")
        .interface(INTERFACE)?
        .method("Get", move |call| get(&for_get, call))
        .method("GetVendorInfo", move |_| {
            let endpoint = for_info.vendor_info()?;
            Ok(Answer::Reply(vendor_info(&endpoint)))
        })
        .connections_per_uid(CONNECTIONS_PER_UID)
        .build()
}

fn get(engine: &Engine, call: &mut Call<'_>) -> Result<Answer> {
    let request = request(&call.params())?;
    engine::check(&request)?;
    let name = request.well_known.filter(|_| request.key.is_none());
    call.authorize_for(name.map(WellKnown::name))?;
    let reply = engine.ask(&request)?;
    let mut members = json!({ "data": STANDARD.encode(reply.data) });
    if let (Some(index), Some(members)) = (reply.interface, members.as_object_mut()) {
        members.insert("interface".to_owned(), index.into());
    }
    Answer::reply(members)
}

/// Members that may be absent but not null. COMPAT(262): the others may be both.
const NEVER_NULL: [&str; 5] =
    ["key", "wellKnown", "cache", "wait", "allowInteractiveAuthentication"];

/// The parameters of `Get`.
fn request(params: &Params<'_>) -> Result<Request> {
    let is_null = |name: &&str| params.members().get(*name).is_some_and(Value::is_null);
    if let Some(name) = NEVER_NULL.iter().find(|name| is_null(name)) {
        return Err(params.invalid(name));
    }
    let well_known = match params.opt_str("wellKnown")? {
        None => None,
        Some(name) => Some(WellKnown::parse_wire(name).ok_or_else(|| params.invalid("wellKnown"))?),
    };
    let interface = match params.opt_int("interface")? {
        None => None,
        Some(index) => Some(
            u32::try_from(index)
                .ok()
                .filter(|index| (1..=i32::MAX.cast_unsigned()).contains(index))
                .ok_or_else(|| params.invalid("interface"))?,
        ),
    };
    // Null is not the same as absent here, and only here.
    let mark = match params.members().get("firewallMark") {
        None => Mark::Default,
        Some(Value::Null) => Mark::Off,
        Some(_) => {
            let mark = params.opt_int("firewallMark")?;
            let mark = mark.and_then(|mark| u32::try_from(mark).ok());
            Mark::Value(mark.ok_or_else(|| params.invalid("firewallMark"))?)
        }
    };
    Ok(Request {
        key: params.opt_str("key")?.map(str::to_owned),
        well_known,
        interface,
        refresh: params.opt_uint("refreshUSec")?.map(Duration::from_micros),
        cache: params.opt_bool("cache")?,
        mark,
        wait: params.opt_bool("wait")?.unwrap_or_default(),
    })
}

/// What `GetVendorInfo` answers: what is set, in the order of the interface.
pub fn vendor_info(endpoint: &Endpoint) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put("vendor", text(&endpoint.vendor));
    put("tokenUrl", text(&endpoint.token_url));
    put("refreshHeaderName", text(&endpoint.refresh_header_name));
    put("dataUrl", text(&endpoint.data_url));
    put("dataUrlSuffix", text(&endpoint.data_url_suffix));
    put("tokenHeaderName", text(&endpoint.token_header_name));
    let headers = &endpoint.extra_headers;
    put("extraHeader", (!headers.is_empty()).then(|| headers.as_slice().into()));
    put("addressIPv4", endpoint.address_ipv4.map(|ip| ip.octets().as_slice().into()));
    put("addressIPv6", endpoint.address_ipv6.map(|ip| ip.octets().as_slice().into()));
    let known = &endpoint.well_known;
    let keys = || known.iter().map(|(name, key)| (name.name().to_owned(), key.as_str().into()));
    put("wellKnown", (!known.is_empty()).then(|| Value::Object(keys().collect())));
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: Value) -> std::result::Result<Request, String> {
        let Value::Object(map) = value else { panic!("not an object") };
        request(&Params::new(&map)).map_err(|err| err.to_string())
    }

    #[test]
    fn null_and_absent_firewall_marks_differ() {
        assert_eq!(parse(json!({})).unwrap().mark, Mark::Default);
        assert_eq!(parse(json!({ "firewallMark": null })).unwrap().mark, Mark::Off);
        assert_eq!(parse(json!({ "firewallMark": 7 })).unwrap().mark, Mark::Value(7));
        for bad in [json!(-1), json!(1_u64 << 32)] {
            assert!(parse(json!({ "firewallMark": bad })).is_err());
        }
        assert!(parse(json!({ "interface": 0 })).is_err());
    }

    #[test]
    fn vendor_info_goes_out_and_comes_back_the_same() {
        let endpoint = Endpoint {
            vendor: Some("amazon-ec2".to_owned()),
            data_url: Some("http://169.254.169.254/latest".to_owned()),
            extra_headers: vec!["A: 1".to_owned(), "B: 2".to_owned()],
            address_ipv4: Some("169.254.169.254".parse().unwrap()),
            address_ipv6: Some("fd00:ec2::254".parse().unwrap()),
            well_known: [(WellKnown::UserdataBase, "/ub".to_owned())].into(),
            ..Endpoint::default()
        };
        let info = vendor_info(&endpoint);
        assert_eq!(super::super::connect::parse_vendor_info(&info), endpoint);
        assert_eq!(info.get("wellKnown"), Some(&json!({ "userdata-base": "/ub" })));
        assert!(vendor_info(&Endpoint::default()).is_empty());
    }
}
