//! What a service is and what it offers.

use std::io::Read;

use ::slipway::error::{Context, Error, Result};
use ::slipway::out::escape;
use ::slipway::out::json::{self, Mode};
use ::slipway::out::table::{Cell, Table};
use ::slipway::varlink::client::Client;
use ::slipway::varlink::idl::{self, IdlError, Interface, is_interface_name};
use log::error;
use serde_json::{Map, Value, json};

use super::{Args, connect, operand};
use crate::app::App;

/// LIMIT: bytes of an interface description in a file.
const MAX_DESCRIPTION: u64 = 16 << 20;

pub(super) fn info(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    let mut client = connect(app, args, operand(operands, 0)?)?;
    let info = get_info(&mut client)?;
    if args.json.is_on() {
        app.out.json(args.json, &Value::Object(info))?;
        return Ok(0);
    }
    let mut table = Table::vertical();
    for (title, key) in
        [("Vendor", "vendor"), ("Product", "product"), ("Version", "version"), ("URL", "url")]
    {
        let value = info.get(key).and_then(Value::as_str).unwrap_or_default();
        table.field(title, Cell::from(value));
    }
    let names = interface_names(&info)?.into_iter().map(str::to_owned).collect();
    table.field("Interfaces", Cell::Lines(names));
    app.out.table(&table, Mode::Off, false)?;
    Ok(0)
}

pub(super) fn interfaces(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    let mut client = connect(app, args, operand(operands, 0)?)?;
    let info = get_info(&mut client)?;
    print_list(app, args, &interface_names(&info)?)
}

pub(super) fn methods(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    let (mut client, names) = named_interfaces(app, args, operands)?;
    let mut methods = Vec::new();
    for name in names {
        let text = description(&mut client, &name)?;
        let interface = parse(text.as_bytes(), &name).map_err(|_| {
            Error::new(format!("Failed to parse interface description of '{name}'."))
        })?;
        methods.extend(interface.methods().map(|method| format!("{name}.{}", method.name)));
    }
    methods.sort_unstable();
    methods.dedup();
    print_list(app, args, &methods.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn introspect(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    let (mut client, names) = named_interfaces(app, args, operands)?;
    let mut is_first = true;
    for name in &names {
        let text = description(&mut client, name)?;
        if args.json.is_on() {
            let value = json!({ "description": text });
            match names.len() {
                1 => app.out.json(args.json, &value)?,
                _ => app.out.print(&json::to_sequence(&value, args.json))?,
            }
            continue;
        }
        if !is_first {
            app.out.print("\n\n")?;
        }
        is_first = false;
        // What cannot be understood is still worth reading.
        let canonical = parse(text.as_bytes(), name).map(|interface| idl::format(&interface));
        app.out.print(&escape::block(&canonical.unwrap_or(text)))?;
    }
    Ok(0)
}

pub(super) fn validate(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    let (text, name) = match operands.first() {
        Some(path) => (std::fs::File::open(path).and_then(read), path.as_str()),
        None => (read(std::io::stdin()), "<stdin>"),
    };
    let text = text.context(|| match operands.first() {
        Some(path) => format!("Failed to read interface description file '{path}'"),
        None => "Failed to read interface description from standard input".to_owned(),
    })?;
    let interface = parse(&text, name)?;
    if !args.quiet {
        app.out.print(&idl::format(&interface))?;
    }
    Ok(0)
}

fn read(input: impl Read) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    input.take(MAX_DESCRIPTION).read_to_end(&mut text)?;
    Ok(text)
}

/// Parses a description; what is wrong with it is told in the peer's words.
fn parse(text: &[u8], name: &str) -> Result<Interface> {
    let name = escape::line(name);
    idl::parse(text).map_err(|refusal| match refusal {
        IdlError::Syntax(line, column) => {
            Error::new(format!("{name}:{line}:{column}: Bad syntax."))
        }
        IdlError::Unresolved(line, column, _) => Error::new(format!(
            "{name}:{line}:{column}: Failed to parse interface description due an unresolved type."
        )),
        IdlError::Inconsistent(reason) => {
            error!("Varlink-IDL: {reason}");
            Error::new("Interface is inconsistent.")
        }
        IdlError::NotUnique(reason) => {
            error!("Varlink-IDL: {reason}");
            Error::new("Field or symbol not unique in interface.")
        }
    })
}

/// The interfaces among the operands, or all of the service.
fn named_interfaces(app: &App, args: &Args, operands: &[String]) -> Result<(Client, Vec<String>)> {
    let (address, names) =
        operands.split_first().ok_or_else(|| Error::new("Too few arguments."))?;
    if let Some(bad) = names.iter().find(|name| !is_interface_name(name)) {
        return Err(Error::new(format!("Not a valid Varlink interface name: '{bad}'")));
    }
    let mut client = connect(app, args, address)?;
    let mut names = names.to_vec();
    if names.is_empty() {
        let info = get_info(&mut client)?;
        names = interface_names(&info)?.into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
    }
    Ok((client, names))
}

fn get_info(client: &mut Client) -> Result<Map<String, Value>> {
    query(client, "org.varlink.service.GetInfo", Map::new())
}

fn interface_names(info: &Map<String, Value>) -> Result<Vec<&str>> {
    let list = info.get("interfaces").and_then(Value::as_array);
    let names = list.map(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    names.flatten().ok_or_else(|| Error::new("Service does not say which interfaces it has."))
}

fn description(client: &mut Client, name: &str) -> Result<String> {
    let method = "org.varlink.service.GetInterfaceDescription";
    let parameters = Map::from_iter([("interface".to_owned(), name.into())]);
    match query(client, method, parameters)?.remove("description") {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Error::new(format!("Service does not describe interface '{name}'."))),
    }
}

/// Calls a method of the standard interface; all failures read the same.
fn query(
    client: &mut Client,
    method: &str,
    parameters: Map<String, Value>,
) -> Result<Map<String, Value>> {
    client.invoke(method, parameters).map_err(|err| match err.errno() {
        Some(errno) => {
            Error::errno_because(format!("Failed to issue {method}() varlink call"), errno)
        }
        None => err,
    })
}

fn print_list(app: &App, args: &Args, list: &[&str]) -> Result<u8> {
    if args.json != Mode::Off {
        app.out.json(args.json, &json!(list))?;
    } else {
        for line in list {
            app.out.line(&escape::line(line))?;
        }
    }
    Ok(0)
}
