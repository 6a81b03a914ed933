//! `--help`, in the columns of the peer, at most 80 wide.

use std::io::Write;

use slipway::error::{Context, Result};

use super::command::{Arity, Command, Opt, VerbInfo};
use super::parse::failed_write;
use crate::app::{App, Applet};

const WIDTH: usize = 80;
/// Left column; longer entries continue on the next line.
const LEFT: usize = 25;

/// Prints the applet's help.
pub(super) fn print(app: &mut App) -> Result<()> {
    let text = render(app.applet, &app.invocation);
    app.out.write_all(text.as_bytes()).context(failed_write)
}

/// The help of an applet that is called as `invocation`.
pub(crate) fn render(applet: &Applet, invocation: &str) -> String {
    let command = (applet.cli)();
    let mut text = String::new();
    for usage in command.usage {
        text.push_str(&format!("> {invocation} {usage}\n"));
    }
    text.push_str(&format!("\n{}\n", command.about));

    let verbs = verbs(&command);
    let operands: Vec<(String, String)> =
        command.operands.iter().map(|(n, d)| ((*n).to_owned(), (*d).to_owned())).collect();
    let options = options(&command);
    let rows = verbs.iter().chain(&operands).chain(&options);
    let left = rows.map(|(l, _)| columns(l)).filter(|w| *w <= LEFT).max().unwrap_or(LEFT);
    section(&mut text, "Commands", &verbs, left);
    section(&mut text, "Arguments", &operands, left);
    section(&mut text, "Options", &options, left);

    if !command.postscript.is_empty() {
        text.push_str(&format!("\n{}\n", command.postscript));
    }
    if applet.name() == "slipway" {
        text.push_str("\nSee 'slipway help' for the manual.\n");
    } else {
        text.push_str(&format!("\nSee 'slipway help {}' for the manual.\n", applet.name()));
    }
    text
}

fn section(text: &mut String, title: &str, rows: &[(String, String)], left: usize) {
    if rows.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}:\n"));
    for (name, about) in rows {
        let mut names = wrap(name, left, "  ").into_iter();
        let mut abouts = wrap(about, WIDTH - left - 3, "").into_iter();
        loop {
            let (name, about) = (names.next(), abouts.next());
            if name.is_none() && about.is_none() {
                break;
            }
            let name = name.unwrap_or_default();
            let gap = " ".repeat(left.saturating_sub(columns(&name)));
            let line = format!("  {name}{gap} {}", about.unwrap_or_default());
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}

fn verbs(command: &Command) -> Vec<(String, String)> {
    let name = |v: &VerbInfo| {
        let words = format!("{} {}", v.name, v.operands);
        let words = words.trim_end();
        if v.is_default { format!("[{words}]") } else { words.to_owned() }
    };
    let visible = command.verbs.iter().filter(|v| !v.about.is_empty());
    visible.map(|v| (name(v), v.about.to_owned())).collect()
}

fn options(command: &Command) -> Vec<(String, String)> {
    let visible = command.options.iter().filter(|o| !o.help.is_empty());
    visible.map(|o| (spelling(o), o.help.clone())).collect()
}

/// `-m --instances-max=INT`, with room for the letter where there is none.
fn spelling(option: &Opt) -> String {
    let short = option.short.map_or("  ".to_owned(), |c| format!("-{c}"));
    let long = option.long.map(|long| format!(" --{long}")).unwrap_or_default();
    let value = match option.arity {
        Arity::None => String::new(),
        Arity::Required(metavar) => format!("={metavar}"),
        Arity::Optional(metavar, _) => format!("[={metavar}]"),
    };
    format!("{short}{long}{value}")
}

/// Breaks at spaces so that no line exceeds `width`, if words allow; later lines are indented.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    if columns(text) <= width {
        return vec![text.to_owned()];
    }
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.trim().is_empty() && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
        } else if !line.trim().is_empty() || (lines.is_empty() && !line.is_empty()) {
            line.push(' ');
        }
        // Leading spaces of the first line are kept: they stand for a missing short option.
        if word.is_empty() && line.trim().is_empty() && lines.is_empty() {
            line.push(' ');
            continue;
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Columns on a terminal; our texts have no wide characters.
fn columns(text: &str) -> usize {
    text.chars().count()
}
