//! `--introspect-cli`: the command line as JSON, in the peer's schema
//! `application/vnd.io.systemd.cli-introspection-0`.

use serde_json::{Map, Value, json};
use slipway::error::Result;
use slipway::out::json::Mode;

use super::command::{Arity, Command, Opt, VerbInfo};
use super::version::{FEATURES, VERSION};
use crate::APPLETS;
use crate::app::{App, Applet};

/// Prints the applet's description; the multiplexer's is that of all applets.
pub(super) fn print(app: &mut App, command: &Command) -> Result<()> {
    let mut commands = vec![describe(app.applet, command)];
    if app.applet.is_multiplexer() {
        let others = APPLETS.iter().filter(|applet| !applet.is_multiplexer());
        commands.extend(others.map(|applet| describe(applet, &(applet.cli)())));
    }
    let document = json!({
        "mediaType": "application/vnd.io.systemd.cli-introspection-0",
        "commands": commands,
    });
    app.out.json(Mode::Short, &document)
}

fn describe(applet: &Applet, command: &Command) -> Value {
    let mut object = Map::new();
    object.insert("names".into(), json!(applet.names));
    object.insert("project".into(), json!("slipway"));
    object.insert("version".into(), json!(VERSION));
    object.insert("features".into(), json!(FEATURES));
    object.insert("abstract".into(), json!([command.about]));
    if !command.postscript.is_empty() {
        object.insert("postscript".into(), json!([command.postscript]));
    }
    object.insert("options".into(), command.options.iter().map(option).collect());
    if !command.verbs.is_empty() {
        object.insert("verbs".into(), command.verbs.iter().map(verb).collect());
    }
    Value::Object(object)
}

fn option(option: &Opt) -> Value {
    let short = option.short.map(|c| format!("-{c}"));
    let long = option.long.map(|long| format!("--{long}"));
    let mut object = Map::new();
    object.insert("names".into(), short.into_iter().chain(long).collect());
    let argument = match option.arity {
        Arity::None => "no_argument",
        Arity::Required(_) => "required_argument",
        Arity::Optional(..) => "optional_argument",
    };
    object.insert("argument".into(), json!(argument));
    if let Some(metavar) = option.metavar() {
        object.insert("metavar".into(), json!(metavar));
    }
    if !option.help.is_empty() {
        object.insert("help".into(), json!(option.help));
    }
    Value::Object(object)
}

fn verb(verb: &VerbInfo) -> Value {
    let mut object = Map::new();
    object.insert("names".into(), json!([verb.name]));
    if !verb.about.is_empty() {
        object.insert("abstract".into(), json!([verb.about]));
    }
    if verb.min > 0 {
        object.insert("minArguments".into(), json!(verb.min));
    }
    if verb.max > 0 {
        object.insert("maxArguments".into(), json!(verb.max));
    }
    if verb.is_default {
        object.insert("isDefault".into(), json!(true));
    }
    Value::Object(object)
}
