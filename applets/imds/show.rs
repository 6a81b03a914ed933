//! Everything that only prints.

use ::slipway::error::{Error, Result};
use ::slipway::imds::normal::{NAMES, Normal, find_userdata};
use ::slipway::imds::summary::{self, Summary};
use ::slipway::imds::{Failure, Request, Source, WellKnown, providers};
use ::slipway::log;
use ::slipway::out::Color;
use ::slipway::out::json::Mode;
use ::slipway::out::table::{Cell, Table};
use serde_json::{Map, Value};

use super::{Args, Name, absent};
use crate::app::App;

const NOTHING: &str = "No well-known IMDS data available.";

/// `-K help`.
pub(super) fn names(app: &mut App, args: &Args) -> Result<()> {
    if args.normalized {
        return app.out.print(&format!("{}\n", NAMES.join("\n")));
    }
    app.out.print(&format!("{}\n", WellKnown::ALL.map(WellKnown::name).join("\n")))
}

/// The values that every cloud has.
pub(super) fn summary(app: &mut App, args: &Args) -> Result<u8> {
    let (rows, failures) = if args.normalized {
        let ctx = app.ctx.clone();
        args.with_source(app, |source| Ok(normal_rows(&mut Normal::new(&ctx, source)?)))?
    } else {
        rows(args.with_source(app, |source| Ok(summary::ask(source)?))?)
    };
    if args.json.is_on() {
        let members = rows.iter().map(|row| (row.name.clone(), Value::from(row.text.clone())));
        app.out.json(args.json, &Value::Object(members.collect()))?;
    } else if !rows.is_empty() {
        let mut table = Table::vertical();
        for row in &rows {
            // As the peer colours it: the label, in bright blue.
            let label = Cell::from(row.label.as_str()).colored(Color::BrightBlue);
            table.row([label, Cell::from(row.text.as_str()).into()]);
        }
        app.out.table(&table, Mode::Off, false)?;
    }
    let has_failed = tell(failures);
    if rows.is_empty() && !has_failed {
        return Err(Error::new(NOTHING));
    }
    Ok(u8::from(has_failed))
}

struct Row {
    label: String,
    name: String,
    text: String,
}

/// Values that could not be had: their names and why.
type Failures = Vec<(String, Failure)>;

fn rows(summary: Summary) -> (Vec<Row>, Failures) {
    let row = |field: &summary::Field| Row {
        label: field.label.to_owned(),
        name: field.name.to_owned(),
        text: field.text(),
    };
    let failures = summary.failures.into_iter();
    let failures = failures.map(|(known, failure)| (known.name().to_owned(), failure));
    (summary.fields.iter().map(row).collect(), failures.collect())
}

fn normal_rows(normal: &mut Normal<'_>) -> (Vec<Row>, Failures) {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    match normal.endpoint().map(|endpoint| endpoint.vendor) {
        Ok(Some(text)) => {
            rows.push(Row { label: "Vendor".into(), name: "vendor".into(), text });
        }
        Ok(None) => {}
        Err(failure) => failures.push(("vendor".to_owned(), failure)),
    }
    for name in NAMES {
        match normal.value(name) {
            Ok(Some(text)) => {
                rows.push(Row { label: label(name), name: name.to_owned(), text });
            }
            Ok(None) => {}
            Err(failure) if failure.is_absent() => {}
            Err(failure) => failures.push((name.to_owned(), failure)),
        }
    }
    (rows, failures)
}

/// `Public IPv4 Address` for `ipv4-public`.
fn label(name: &str) -> String {
    let fixed = match name {
        "ipv4-public" => "Public IPv4 Address",
        "ipv6-public" => "Public IPv6 Address",
        "ipv4-local" => "Local IPv4 Address",
        "ipv6-local" => "Local IPv6 Address",
        "instance-id" => "Instance ID",
        "instance-type" => "Instance Type",
        "mac" => "MAC Address",
        _ => {
            let mut letters = name.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            return first.into_iter().chain(letters).collect();
        }
    };
    fixed.to_owned()
}

/// Logs failures, each with its name. True where there were any.
fn tell(failures: Failures) -> bool {
    let has_failed = !failures.is_empty();
    for (name, failure) in failures {
        log::report(&Error::because(format!("Failed to get '{name}'"), Error::from(failure)));
    }
    has_failed
}

/// One value, byte for byte.
pub(super) fn value(app: &mut App, args: &Args, name: Name<'_>, key: Option<&str>) -> Result<u8> {
    const ABSENT: &str = "Key not available.";
    let request = match name {
        Name::WellKnown(known) if key.is_some() && !known.takes_key() => {
            return Err(takes_no_key(known.name()));
        }
        Name::Normal(name) if key.is_some() => return Err(takes_no_key(name)),
        Name::Normal(name) => {
            let ctx = app.ctx.clone();
            let value = args.with_source(app, |source| {
                Normal::new(&ctx, source)
                    .and_then(|mut normal| normal.value(name))
                    .map_err(|failure| absent(failure, ABSENT))
            })?;
            let text = value.ok_or_else(|| Error::new(ABSENT))?;
            return app.out.print(&format!("{text}\n")).map(|()| 0);
        }
        Name::WellKnown(known) => {
            Request { key: key.map(str::to_owned), ..Request::well_known(known) }
        }
        Name::Raw => Request::key(key.unwrap_or_default()),
    };
    let reply = args.with_source(app, |source| {
        source.get(&request).map_err(|failure| absent(failure, ABSENT))
    })?;
    app.out.write(&reply.data)?;
    Ok(0)
}

fn takes_no_key(name: &str) -> Error {
    Error::new(format!("Well known key '{name}' does not take a key suffix, refusing."))
}

/// The user data, decoded.
pub(super) fn userdata(app: &mut App, args: &Args) -> Result<u8> {
    let ctx = app.ctx.clone();
    let data = args.with_source(app, |source| Ok(find_userdata(&ctx, source)?))?;
    let data = data.ok_or_else(|| Error::new("User data not available."))?;
    app.out.write(&data)?;
    Ok(0)
}

/// Everything known.
pub(super) fn dump(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    let ctx = app.ctx.clone();
    let value = args.with_source(app, |source| Ok(Normal::new(&ctx, source)?.dump()?))?;
    let mode = match args.json {
        Mode::Off => Mode::auto(app.out.facts().is_stdout_tty),
        mode => mode,
    };
    app.out.json(mode, &value)?;
    Ok(0)
}

/// The values as `NAME=value`, for `eval` and for `EnvironmentFile=`.
pub(super) fn env(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    let ctx = app.ctx.clone();
    let (mut rows, mut failures) = args.with_source(app, |source: &mut dyn Source| {
        let mut normal = Normal::new(&ctx, source)?;
        let (mut rows, mut failures) = normal_rows(&mut normal);
        match normal.value("ssh-keys") {
            Ok(Some(text)) => {
                rows.push(Row { label: String::new(), name: "ssh-keys".into(), text });
            }
            Ok(None) => {}
            Err(failure) => failures.push(("ssh-keys".to_owned(), failure)),
        }
        Ok((rows, failures))
    })?;
    failures.retain(|(_, failure)| !failure.is_absent());
    rows.retain(|row| !row.text.is_empty());
    if args.json.is_on() {
        let members: Map<String, Value> =
            rows.iter().map(|row| (variable(&row.name), row.text.as_str().into())).collect();
        app.out.json(args.json, &Value::Object(members))?;
    } else {
        for row in &rows {
            app.out.line(&format!("{}={}", variable(&row.name), quote(&row.text)))?;
        }
    }
    let has_failed = tell(failures);
    if rows.is_empty() && !has_failed {
        return Err(Error::new(NOTHING));
    }
    Ok(u8::from(has_failed))
}

fn variable(name: &str) -> String {
    format!("IMDS_{}", name.replace('-', "_").to_ascii_uppercase())
}

/// A word that every shell takes as it is, and systemd too: in an `EnvironmentFile=` quotes behind
/// `\'` are ordinary letters.
fn quote(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/+=@,".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// The clouds of the built-in table.
pub(super) fn list_providers(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    let mut table = Table::new(&["vendor", "data url", "extension"]);
    for endpoint in providers::all() {
        table.row([
            Cell::from(endpoint.vendor).into(),
            Cell::from(endpoint.data_url).into(),
            endpoint.traits.is_extension.into(),
        ]);
    }
    app.out.table(&table, args.json, true)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_survive_a_shell() {
        assert_eq!(variable("ipv4-public"), "IMDS_IPV4_PUBLIC");
        assert_eq!(quote("eu-1a"), "eu-1a");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("$(reboot)"), "'$(reboot)'");
        assert_eq!(quote("it's"), "'it'\"'\"'s'");
        assert_eq!(quote("a\nb"), "'a\nb'");
    }

    #[test]
    fn labels_read_like_the_peers() {
        assert_eq!(label("hostname"), "Hostname");
        assert_eq!(label("ipv6-public"), "Public IPv6 Address");
    }
}
