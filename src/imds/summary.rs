//! The well-known values of this instance at a glance.
//!
//! One field that cannot be had does not hide the others.
//!
//! External spec: systemd-imds(1), the tool without arguments.

use super::model::{Failure, Request, WellKnown};
use super::source::Source;

/// What is asked, in this order, with the label and the JSON name of each.
const FIELDS: [(WellKnown, &str, &str); 5] = [
    (WellKnown::Hostname, "Hostname", "hostname"),
    (WellKnown::Region, "Region", "region"),
    (WellKnown::Zone, "Zone", "zone"),
    (WellKnown::Ipv4Public, "Public IPv4 Address", "ipv4Public"),
    (WellKnown::Ipv6Public, "Public IPv6 Address", "ipv6Public"),
];

/// Label and JSON name of the cloud itself.
const VENDOR: (&str, &str) = ("Vendor", "vendor");

/// One line of the summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// For people.
    pub label: &'static str,
    /// For programs.
    pub name: &'static str,
    /// The value as received.
    pub value: Vec<u8>,
}

impl Field {
    /// The value as text: without line breaks at the end, and with what is no UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).trim_end_matches(['\n', '\r']).to_owned()
    }
}

/// What could be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Values that are there and not empty.
    pub fields: Vec<Field>,
    /// Names that could not be asked for, and why.
    pub failures: Vec<(WellKnown, Failure)>,
}

/// Asks for everything the summary shows. Absent and empty values are left out.
///
/// DIFFERS: in the peer one failure hides all values (and a 404 with a body is one there, so that
/// its summary never works on Azure). We tell the failure and show the rest.
///
/// # Errors
/// [`Failure::NotSupported`]: there is nobody to ask.
pub fn ask(source: &mut dyn Source) -> Result<Summary, Failure> {
    let mut summary = Summary::default();
    let vendor = source.endpoint()?.vendor.unwrap_or_default();
    if !vendor.is_empty() {
        let (label, name) = VENDOR;
        summary.fields.push(Field { label, name, value: vendor.into_bytes() });
    }
    for (known, label, name) in FIELDS {
        match source.get(&Request::well_known(known)) {
            Ok(reply) if reply.data.is_empty() => {}
            Ok(reply) => summary.fields.push(Field { label, name, value: reply.data }),
            Err(failure) if failure.is_absent() => {}
            Err(Failure::NotSupported) => return Err(Failure::NotSupported),
            Err(failure) => {
                let is_about_all = failure.concerns_every_key();
                summary.failures.push((known, failure));
                if is_about_all {
                    break;
                }
            }
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn texts(summary: &Summary) -> Vec<(&'static str, String)> {
        summary.fields.iter().map(|field| (field.label, field.text())).collect()
    }

    #[test]
    fn defect_1_a_field_that_fails_does_not_hide_the_others() {
        let mut source = Fake::vendor("v")
            .known(WellKnown::Hostname, "a.example\n")
            .fails(WellKnown::Region, Failure::System(5, "x".into()))
            .known(WellKnown::Ipv6Public, "2001:db8::7");
        let summary = ask(&mut source).unwrap();
        assert_eq!(
            texts(&summary),
            [
                ("Vendor", "v".to_owned()),
                ("Hostname", "a.example".to_owned()),
                ("Public IPv6 Address", "2001:db8::7".to_owned())
            ]
        );
        assert_eq!(summary.failures, [(WellKnown::Region, Failure::System(5, "x".into()))]);
    }

    #[test]
    fn absent_unset_and_empty_values_are_left_out() {
        let mut source = Fake::vendor("")
            .known(WellKnown::Hostname, "")
            .fails(WellKnown::Zone, Failure::KeyNotFound);
        assert_eq!(ask(&mut source).unwrap(), Summary::default());
    }

    #[test]
    fn a_dead_service_is_asked_once_only() {
        let dead = || Failure::Timeout(String::new());
        let mut source =
            Fake::vendor("v").fails(WellKnown::Hostname, dead()).fails(WellKnown::Region, dead());
        assert_eq!(ask(&mut source).unwrap().failures, [(WellKnown::Hostname, dead())]);
        assert_eq!(source.asked(), ["hostname"]);
    }

    #[test]
    fn without_an_endpoint_there_is_no_summary() {
        assert_eq!(ask(&mut Fake::nowhere()), Err(Failure::NotSupported));
    }
}
