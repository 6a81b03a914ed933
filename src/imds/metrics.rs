//! `io.systemd.Metrics`: this instance's facts for whoever collects reports.
//!
//! Values are as received; what is absent, empty or cannot be had is left out.
//!
//! External spec: the interface is systemd's, its text was taken from the running service.

use serde_json::{Map, json};

use super::model::{INTERFACE as PREFIX, Request, WellKnown};
use super::source::Source;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::varlink::errors;
use crate::varlink::server::{Answer, Call, Service};

/// The interface.
pub const INTERFACE: &str = include_str!("io.systemd.Metrics.varlink");

const NO_SUCH_METRIC: &str = "io.systemd.Metrics.NoSuchMetric";

/// A family: the last part of its name, where its value comes from (the vendor comes from the
/// endpoint), and what it is. Sorted by name, as they are sent.
const FAMILIES: [(&str, Option<WellKnown>, &str); 6] = [
    ("Hostname", Some(WellKnown::Hostname), "Instance hostname reported by IMDS"),
    ("IPv4Public", Some(WellKnown::Ipv4Public), "Public IPv4 address reported by IMDS"),
    ("IPv6Public", Some(WellKnown::Ipv6Public), "Public IPv6 address reported by IMDS"),
    ("Region", Some(WellKnown::Region), "Cloud region reported by IMDS"),
    ("Vendor", None, "Detected cloud vendor"),
    ("Zone", Some(WellKnown::Zone), "Cloud availability zone reported by IMDS"),
];

/// The service. `connect` opens the source anew for every list.
///
/// # Errors
/// The interface and its handlers do not go together.
pub fn service(
    ctx: &Ctx,
    connect: impl Fn(&Ctx) -> Result<Box<dyn Source>> + Send + Sync + 'static,
) -> Result<Service> {
    Service::builder(ctx.clone(), "systemd-imds")
        .interface(INTERFACE)?
        .method("List", move |call| list(call, &connect))
        .method("Describe", describe)
        .build()
}

fn list(call: &mut Call<'_>, connect: &dyn Fn(&Ctx) -> Result<Box<dyn Source>>) -> Result<Answer> {
    match connect(call.ctx()) {
        Ok(mut source) => {
            for (name, value) in values(source.as_mut()) {
                call.emit(json!({ "name": name, "value": value }))?;
            }
        }
        Err(error) => log::debug!("No instance metadata, no metrics: {error}"),
    }
    Answer::streamed_or(errors::custom(NO_SUCH_METRIC, Map::new()))
}

/// Full names and values of what is there.
fn values(source: &mut dyn Source) -> Vec<(String, String)> {
    let mut values = Vec::new();
    let (mut is_dead, mut has_answer) = (false, false);
    for (name, known, _) in FAMILIES {
        let value = match known {
            // Nobody who collects reports waits for the same silence once per key.
            Some(_) if is_dead => continue,
            None => source.endpoint().map(|endpoint| endpoint.vendor.unwrap_or_default()),
            Some(known) => source
                .get(&Request::well_known(known))
                .inspect(|_| has_answer = true)
                .map(|reply| String::from_utf8_lossy(&reply.data).into_owned()),
        };
        match value {
            Ok(value) if !value.is_empty() => values.push((format!("{PREFIX}.{name}"), value)),
            Ok(_) => {}
            Err(failure) => {
                // One that has given a value is not dead: only this key may be broken.
                is_dead |= !has_answer && failure.concerns_every_key();
                log::debug!("No value of metric '{name}', ignoring: {failure:?}");
            }
        }
    }
    values
}

fn describe(call: &mut Call<'_>) -> Result<Answer> {
    for (name, _, description) in FAMILIES {
        let name = format!("{PREFIX}.{name}");
        call.emit(json!({ "name": name, "description": description, "type": "string" }))?;
    }
    Answer::streamed()
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::model::Failure;
    use super::*;

    #[test]
    fn families_are_sent_in_the_order_of_their_names() {
        assert!(FAMILIES.iter().map(|(name, ..)| name).is_sorted());
    }

    #[test]
    fn values_are_as_received_and_failures_left_out() {
        let mut source = Fake::vendor("v")
            .known(WellKnown::Hostname, "a.example\n")
            .known(WellKnown::Zone, "")
            .fails(WellKnown::Region, Failure::Timeout(String::new()));
        assert_eq!(
            values(&mut source),
            [
                ("io.systemd.InstanceMetadata.Hostname".to_owned(), "a.example\n".to_owned()),
                ("io.systemd.InstanceMetadata.Vendor".to_owned(), "v".to_owned())
            ]
        );
        assert!(values(&mut Fake::nowhere()).is_empty());
    }

    #[test]
    fn nobody_waits_for_a_silent_service_more_than_once() {
        let mut source =
            Fake::vendor("v").fails(WellKnown::Hostname, Failure::Timeout(String::new()));
        let vendor = ("io.systemd.InstanceMetadata.Vendor".to_owned(), "v".to_owned());
        assert_eq!(values(&mut source), [vendor]);
        assert_eq!(source.asked(), ["hostname"]);
    }
}
