//! `--help`, in the columns of the peer, at most 80 wide.

use slipway::error::Result;

use super::command::{Arity, Command, Opt, VerbInfo};
use crate::app::{App, Applet};

const WIDTH: usize = 80;
/// LIMIT: columns of the left half; longer entries continue on the next line.
const LEFT: usize = 25;

/// Prints the applet's help.
pub(super) fn print(app: &mut App) -> Result<()> {
    app.out.print(&render(app.applet, &app.invocation))
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
        command.operands.iter().map(|(n, d)| ((*n).to_owned(), d.clone())).collect();
    let options = options(&command);
    let rows = verbs.iter().chain(&operands).chain(&options);
    let left = rows.map(|(l, _)| columns(l)).filter(|w| *w <= LEFT).max().unwrap_or(LEFT);
    section(&mut text, "Commands", &verbs, left);
    section(&mut text, "Arguments", &operands, left);
    section(&mut text, "Options", &options, left);

    if !command.postscript.is_empty() {
        text.push_str(&format!("\n{}\n", command.postscript));
    }
    let topic = if applet.is_multiplexer() { "" } else { applet.name() };
    text.push_str(&format!("\nSee '{}' for the manual.\n", format!("slipway help {topic}").trim()));
    text
}

fn section(text: &mut String, title: &str, rows: &[(String, String)], left: usize) {
    if rows.is_empty() {
        return;
    }
    text.push_str(&format!("\n{title}:\n"));
    for (name, about) in rows {
        let names = wrap(name, left, "  ");
        let mut abouts = wrap(about, WIDTH - left - 3, "");
        if names.iter().any(|name| columns(name) > left) {
            // One long word: there is no room beside it.
            abouts.insert(0, String::new());
        }
        for at in 0..names.len().max(abouts.len()) {
            let name = names.get(at).map_or("", String::as_str);
            let about = abouts.get(at).map_or("", String::as_str);
            let gap = " ".repeat(left.saturating_sub(columns(name)));
            text.push_str(format!("  {name}{gap} {about}").trim_end());
            text.push('\n');
        }
    }
}

fn verbs(command: &Command) -> Vec<(String, String)> {
    let visible = command.verbs.iter().filter(|v| !v.about.is_empty());
    visible.map(|v| (verb_spelling(v), v.about.to_owned())).collect()
}

fn options(command: &Command) -> Vec<(String, String)> {
    let visible = command.options.iter().filter(|o| !o.help.is_empty());
    let aligned = |o: &Opt| match o.short {
        Some(_) => spelling(o),
        None => format!("   {}", spelling(o)),
    };
    visible.map(|o| (aligned(o), o.help.clone())).collect()
}

/// `introspect ADDRESS [INTERFACE…]`, in brackets if it may be left out.
pub(super) fn verb_spelling(verb: &VerbInfo) -> String {
    let words = format!("{} {}", verb.name, verb.operands);
    let words = words.trim_end();
    if verb.is_default { format!("[{words}]") } else { words.to_owned() }
}

/// `-m --instances-max=INT`.
pub(super) fn spelling(option: &Opt) -> String {
    let short = option.short.map(|c| format!("-{c} ")).unwrap_or_default();
    let long = option.long.map(|long| format!("--{long}")).unwrap_or_default();
    let value = match option.arity {
        Arity::None => String::new(),
        Arity::Required(metavar) => format!("={metavar}"),
        Arity::Optional(metavar, _) => format!("[={metavar}]"),
    };
    format!("{short}{long}{value}").trim_end().to_owned()
}

/// Breaks at spaces so that no line exceeds `width`, if words allow; later lines are indented.
pub(super) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    if columns(text) <= width {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    let start = text.len() - text.trim_start().len();
    let (mut line, rest) = text.split_at(start);
    let mut current = line.to_owned();
    for word in rest.split_whitespace() {
        if current.len() > line.len() {
            if columns(&current) + 1 + columns(word) > width {
                lines.push(std::mem::replace(&mut current, indent.to_owned()));
                line = indent;
            } else {
                current.push(' ');
            }
        }
        current.push_str(word);
    }
    lines.push(current);
    lines
}

/// Columns on a terminal; our texts have no wide characters.
fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_not_broken_and_indents_are_kept() {
        assert_eq!(
            wrap("introspect ADDRESS [INTERFACE…]", 23, "  "),
            ["introspect ADDRESS", "  [INTERFACE…]"]
        );
        assert_eq!(wrap("   --a-very-long-option=X", 10, "  "), ["   --a-very-long-option=X"]);
        assert_eq!(wrap("", 10, ""), [""]);
    }
}
