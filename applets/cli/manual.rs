//! Manual pages: an applet's `manual.md` with the synopsis, commands and options in their places.
//!
//! The manuals use a small part of Markdown and this turns just that part into roff: headings,
//! paragraphs, lists with `-` or `1.`, fenced or indented code, tables, `code`, **strong**,
//! *emphasis* and links. The title line is dropped: the page has its own. What stands before the
//! first `##` becomes the description.

use super::command::Command;
use super::help::{spelling, verb_spelling};
use super::version::VERSION;
use crate::app::Applet;

/// The manual page, for man(1). It holds no date, so that builds are reproducible.
pub(crate) fn roff(applet: &Applet) -> String {
    let command = (applet.cli)();
    let page = applet.page();
    let title = escape(&page.to_uppercase());
    let mut text = format!(
        ".TH \"{title}\" \"{}\" \"\" \"slipway {VERSION}\" \"slipway\"\n.nh\n.ad l\n.SH NAME\n{} \\- {}\n",
        applet.section,
        escape(&page),
        escape(applet.about),
    );
    text.push_str(".SH SYNOPSIS\n");
    for name in applet.names {
        for usage in command.usage {
            text.push_str(&format!("\\fB{}\\fR {}\n.br\n", escape(name), escape(usage)));
        }
    }
    text.push_str(".SH DESCRIPTION\n");
    let (description, rest) = split(applet.manual);
    blocks(&mut text, description);
    for (heading, rows) in tables(&command) {
        text.push_str(&format!(".SH {}\n", heading.to_uppercase()));
        for (name, about) in rows {
            text.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", escape(&name), line(&about)));
        }
    }
    if !command.postscript.is_empty() {
        blocks(&mut text, command.postscript);
    }
    blocks(&mut text, rest);
    text
}

/// The manual in Markdown.
pub(crate) fn markdown(applet: &Applet) -> String {
    let command = (applet.cli)();
    let mut text = format!("# {}\n\n{}\n\n```\n", applet.page(), applet.about);
    for name in applet.names {
        for usage in command.usage {
            text.push_str(&format!("{name} {usage}\n"));
        }
    }
    let (description, rest) = split(applet.manual);
    text.push_str(&format!("```\n\n{}\n\n", description.trim()));
    for (heading, rows) in tables(&command) {
        text.push_str(&format!("## {heading}\n\n"));
        for (name, about) in rows {
            text.push_str(&format!("- `{name}`: {about}\n"));
        }
        text.push('\n');
    }
    if !command.postscript.is_empty() {
        text.push_str(&format!("{}\n\n", command.postscript));
    }
    text.push_str(rest.trim());
    text.push('\n');
    text
}

/// The description and the sections of a manual, without its title.
fn split(manual: &str) -> (&str, &str) {
    let body = match manual.trim_start().strip_prefix("# ") {
        Some(rest) => rest.split_once('\n').map_or("", |(_, body)| body),
        None => manual,
    };
    body.find("\n## ").map_or((body, ""), |at| body.split_at(at + 1))
}

/// What the help shows: commands, arguments and options.
fn tables(command: &Command) -> Vec<(&'static str, Vec<(String, String)>)> {
    let verbs = command.verbs.iter().filter(|v| !v.about.is_empty());
    let verbs = verbs.map(|v| (verb_spelling(v), v.about.to_owned())).collect();
    let operands = command.operands.iter().map(|(n, d)| ((*n).to_owned(), d.clone())).collect();
    let options = command.options.iter().filter(|o| !o.help.is_empty());
    let options = options.map(|o| (spelling(o).replacen(" --", ", --", 1), o.help.clone()));
    let all = vec![("Commands", verbs), ("Arguments", operands), ("Options", options.collect())];
    all.into_iter().filter(|(_, rows): &(_, Vec<_>)| !rows.is_empty()).collect()
}

/// What the lines before belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Paragraph,
    Item,
    Fence,
    Indented,
}

/// Converts the blocks of a Markdown text.
fn blocks(text: &mut String, markdown: &str) {
    let mut state = State::Between;
    for raw in markdown.lines() {
        let trimmed = raw.trim();
        if state == State::Fence && !trimmed.starts_with("```") {
            text.push_str(&format!("{}\n", escape(raw)));
            continue;
        }
        if state == State::Indented && !raw.starts_with("    ") {
            text.push_str(".fi\n.RE\n");
            state = State::Between;
        }
        state = block_line(text, state, raw, trimmed);
    }
    if matches!(state, State::Fence | State::Indented) {
        text.push_str(".fi\n.RE\n");
    }
}

fn block_line(text: &mut String, state: State, raw: &str, trimmed: &str) -> State {
    if trimmed.starts_with("```") {
        let is_open = state == State::Fence;
        text.push_str(if is_open { ".fi\n.RE\n" } else { ".PP\n.RS 4\n.nf\n" });
        return if is_open { State::Between } else { State::Fence };
    }
    if trimmed.is_empty() {
        return if state == State::Indented { state } else { State::Between };
    }
    if let Some(heading) = raw.strip_prefix("## ") {
        text.push_str(&format!(".SH {}\n", escape(&heading.to_uppercase())));
        return State::Between;
    }
    if let Some(heading) = raw.strip_prefix("### ") {
        text.push_str(&format!(".SS {}\n", line(heading)));
        return State::Between;
    }
    if let Some(item) = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* ")) {
        text.push_str(&format!(".IP \\(bu 3\n{}\n", line(item)));
        return State::Item;
    }
    if let Some((number, item)) = numbered(trimmed) {
        text.push_str(&format!(".IP {number}. 4\n{}\n", line(item)));
        return State::Item;
    }
    if trimmed.starts_with('|') {
        table_row(text, trimmed);
        return State::Between;
    }
    if state == State::Between && raw.starts_with("    ") {
        text.push_str(".PP\n.RS 4\n.nf\n");
    }
    if raw.starts_with("    ") && matches!(state, State::Between | State::Indented) {
        text.push_str(&format!("{}\n", escape(raw.get(4..).unwrap_or_default())));
        return State::Indented;
    }
    if state == State::Between {
        text.push_str(".PP\n");
    }
    text.push_str(&format!("{}\n", line(trimmed)));
    if state == State::Item { state } else { State::Paragraph }
}

/// `3. text`.
fn numbered(text: &str) -> Option<(u32, &str)> {
    let (number, item) = text.split_once(". ")?;
    number.parse().ok().map(|number| (number, item))
}

/// A row becomes a tagged paragraph; the first cell is the tag.
fn table_row(text: &mut String, row: &str) {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let is_rule = cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')));
    if let Some((tag, rest)) = cells.split_first()
        && !is_rule
    {
        text.push_str(&format!(".TP\n{}\n{}\n", line(tag), line(&rest.join("; "))));
    }
}

/// One line of text with its inline marks.
fn line(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, marked) = rest.split_at(at);
        out.push_str(&escape(before));
        let Some((roff, after)) = inline(marked) else {
            let mut chars = marked.chars();
            out.extend(chars.next());
            rest = chars.as_str();
            continue;
        };
        out.push_str(&roff);
        rest = after;
    }
    out.push_str(&escape(rest));
    // A line that begins with a control character would be a request.
    if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
}

/// The text of the mark at the beginning, and what follows it; `None` where there is no mark.
fn inline(text: &str) -> Option<(String, &str)> {
    if let Some((code, after)) = text.strip_prefix('`').and_then(|t| t.split_once('`')) {
        return Some((format!("\\fB{}\\fR", escape(code)), after));
    }
    if let Some((strong, after)) = text.strip_prefix("**").and_then(|t| t.split_once("**")) {
        return Some((format!("\\fB{}\\fR", escape(strong)), after));
    }
    if let Some((soft, after)) = text.strip_prefix('*').and_then(|t| t.split_once('*'))
        && !soft.is_empty()
        && !soft.starts_with(' ')
    {
        return Some((format!("\\fI{}\\fR", escape(soft)), after));
    }
    let (label, after) = text.strip_prefix('[')?.split_once("](")?;
    let (address, after) = after.split_once(')')?;
    if label.contains(']') {
        return None;
    }
    Some((format!("{} <{}>", escape(label), escape(address)), after))
}

/// Text that roff prints as it is.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '`' => out.push_str("\\(ga"),
            '"' => out.push_str("\\(dq"),
            c => out.push(c),
        }
    }
    if out.starts_with('.') { format!("\\&{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(markdown: &str) -> String {
        let mut text = String::new();
        blocks(&mut text, markdown);
        text
    }

    #[test]
    fn title_is_dropped_and_description_ends_at_the_first_section() {
        assert_eq!(split("# x\n\nText.\n\n## A\nB\n"), ("\nText.\n\n", "## A\nB\n"));
        assert_eq!(split("Text."), ("Text.", ""));
        assert_eq!(split("# x"), ("", ""));
    }

    #[test]
    fn marks_become_fonts_and_text_stays_text() {
        assert_eq!(line("a `b-c` **d** *e* [f](g)"), "a \\fBb\\-c\\fR \\fBd\\fR \\fIe\\fR f <g>");
        assert_eq!(line("2 * 3 [x] `open"), "2 * 3 [x] `open");
        assert_eq!(line(".so x"), "\\&.so x");
        assert_eq!(line("'\\fB"), "\\(aq\\efB");
    }

    #[test]
    fn lists_code_and_tables_become_requests() {
        assert_eq!(
            convert("Text\nmore\n\n- one\n  two\n\n```\n.x\n```\n1. n\n\n    code\nend\n"),
            ".PP\nText\nmore\n.IP \\(bu 3\none\ntwo\n.PP\n.RS 4\n.nf\n\\&.x\n.fi\n.RE\n\
             .IP 1. 4\nn\n.PP\n.RS 4\n.nf\ncode\n.fi\n.RE\n.PP\nend\n"
        );
        assert_eq!(convert("| `a` | b |\n|---|---|\n"), ".TP\n\\fBa\\fR\nb\n");
    }
}
