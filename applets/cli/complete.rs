//! Completions for bash, zsh and fish, from the same data as the help.
//!
//! One script for all applets: the names that select an applet, and `slipway APPLET`, complete the
//! same options, verbs and values.

use super::command::{Arity, Command, Opt, is_path};
use crate::app::Applet;

/// One applet with its description.
type Row = (&'static Applet, Command);

fn rows(applets: &[&'static Applet]) -> Vec<Row> {
    applets.iter().map(|applet| (*applet, (applet.cli)())).collect()
}

/// The completion script for bash; needs nothing but bash itself.
pub(crate) fn bash(applets: &[&'static Applet]) -> String {
    let rows = rows(applets);
    let mut cases = String::new();
    let mut names = Vec::new();
    for (applet, command) in &rows {
        names.extend_from_slice(applet.names);
        cases.push_str(&bash_case(applet, command));
    }
    // A value is completed in all three spellings: --name value, --name=value, and --name= where
    // bash has split the word at the equals sign.
    format!(
        r#"# bash completion for slipway and its applets; made by: slipway --generate=bash
_slipway() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
    local applet=${{COMP_WORDS[0]##*/}} start=1 i flags verbs values= kind= verb=
    if [[ $applet == slipway ]]; then
        for ((i = 1; i < COMP_CWORD; i++)); do
            if [[ ${{COMP_WORDS[i]}} == [a-z]* && ${{COMP_WORDS[i-1]}} != = ]]; then
                applet=${{COMP_WORDS[i]}} start=$((i + 1))
                break
            fi
        done
    fi
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $applet in
{cases}        *) COMPREPLY=(); return ;;
    esac
    for ((i = start; i < COMP_CWORD; i++)); do
        if [[ " $verbs " == *" ${{COMP_WORDS[i]}} "* ]]; then
            verb=${{COMP_WORDS[i]}}
            break
        fi
    done
    case $kind in
        words) COMPREPLY=($(compgen -W "$values" -- "$cur")); return ;;
        directory) compopt -o filenames; COMPREPLY=($(compgen -d -- "$cur")); return ;;
        file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        other) COMPREPLY=(); return ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
        [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
    elif [[ -n $verbs && -z $verb ]]; then
        COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
    else
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}}
complete -F _slipway {}
"#,
        names.join(" ")
    )
}

fn bash_case(applet: &Applet, command: &Command) -> String {
    let mut values = String::new();
    for option in command.options.iter().filter(|o| matches!(o.arity, Arity::Required(_))) {
        let kind = match kind(option) {
            Kind::Words => format!("kind=words values='{}'", option.values.join(" ")),
            Kind::Directory => "kind=directory".to_owned(),
            Kind::File => "kind=file".to_owned(),
            Kind::Other => "kind=other".to_owned(),
        };
        values.push_str(&format!("                {}) {kind} ;;\n", names(option).join("|")));
    }
    let flags: Vec<String> = visible(command)
        .flat_map(|option| {
            let long = option.long.map(|long| match option.arity {
                Arity::Required(_) => format!("--{long}="),
                _ => format!("--{long}"),
            });
            option.short.map(|c| format!("-{c}")).into_iter().chain(long)
        })
        .collect();
    let verbs: Vec<&str> = command.verbs.iter().map(|verb| verb.name).collect();
    format!(
        "        {})\n            flags='{}'\n            verbs='{}'\n            case $prev in\n\
         {values}                *) ;;\n            esac ;;\n",
        applet.names.join("|"),
        flags.join(" "),
        verbs.join(" "),
    )
}

/// The completion script for zsh, to be found as `_slipway` in `$fpath`.
pub(crate) fn zsh(applets: &[&'static Applet]) -> String {
    let rows = rows(applets);
    let names: Vec<&str> = rows.iter().flat_map(|(applet, _)| applet.names).copied().collect();
    let mut text = format!("#compdef {}\n", names.join(" "));
    text.push_str("# made by: slipway --generate=zsh\n\n");
    let mut cases = String::new();
    for (applet, command) in &rows {
        let function = applet.name().replace('-', "_");
        text.push_str(&zsh_function(applet, command, &function));
        cases.push_str(&format!("    {}) _slipway_{function} ;;\n", applet.names.join("|")));
    }
    text.push_str(&format!(
        "_slipway_select() {{\n  case $1 in\n{cases}    *) _files ;;\n  esac\n}}\n\n\
         _slipway_select ${{service:-slipway}}\n"
    ));
    text
}

fn zsh_function(applet: &Applet, command: &Command, function: &str) -> String {
    let mut specs = String::new();
    for option in visible(command) {
        let action = match (option.arity, kind(option)) {
            (Arity::None, _) => String::new(),
            (_, kind) => {
                let action = match kind {
                    Kind::Words => format!("({})", option.values.join(" ")),
                    Kind::Directory => "_files -/".to_owned(),
                    Kind::File => "_files".to_owned(),
                    Kind::Other => " ".to_owned(),
                };
                let colons = if matches!(option.arity, Arity::Optional(..)) { "::" } else { ":" };
                format!("{colons}{}:{action}", option.metavar().unwrap_or_default())
            }
        };
        let help = option.help.replace('[', "(").replace(']', ")").replace(':', "\\:");
        for name in names(option) {
            let equals = match option.arity {
                Arity::None => "",
                _ if name.starts_with("--") => "=",
                _ => "+",
            };
            let star = if option.is_repeating { "*" } else { "" };
            let spec = format!("{star}{name}{equals}[{help}]{action}");
            specs.push_str(&format!("    {} \\\n", quote(&spec)));
        }
    }
    let operands = if applet.is_multiplexer() {
        "'1:applet:->verb' '*::argument:->rest'"
    } else if command.verbs.is_empty() {
        "'*:file:_files'"
    } else {
        "'1:command:->verb' '*:file:_files'"
    };
    let verbs: Vec<String> =
        command.verbs.iter().map(|v| quote(&format!("{}:{}", v.name, v.about))).collect();
    format!(
        "_slipway_{function}() {{\n  local curcontext=$curcontext state line ret=1\n  local -a verbs\n  \
         verbs=({})\n  _arguments -C -s -S \\\n{specs}    {operands} && ret=0\n  case $state in\n    \
         verb) _describe command verbs && ret=0 ;;\n    \
         rest) _slipway_select $words[1] && ret=0 ;;\n  esac\n  return ret\n}}\n\n",
        verbs.join(" ")
    )
}

/// What the completions for fish ask: which applet is it, and is there a verb yet?
const FISH_FUNCTIONS: &str = "\
# fish completion for slipway and its applets; made by: slipway --generate=fish
function __slipway_operands
    set -l words (commandline -opc)
    set -l name (string replace -r '^.*/' '' -- $words[1])
    set -e words[1]
    test \"$name\" != slipway; and echo $name
    printf '%s\\n' (string match -v -- '-*' $words)
end
function __slipway_is
    set -l words (__slipway_operands)
    contains -- \"$words[1]\" $argv
end
function __slipway_lacks
    set -l words (__slipway_operands)
    for word in $words[2..]
        contains -- $word $argv; and return 1
    end
    return 0
end
";

/// The completion script for fish.
pub(crate) fn fish(applets: &[&'static Applet]) -> String {
    let mut text = FISH_FUNCTIONS.to_owned();
    for (applet, command) in rows(applets) {
        if applet.is_multiplexer() {
            fish_lines(&mut text, "slipway", &command, "__slipway_is ''");
            continue;
        }
        for name in applet.names {
            fish_lines(&mut text, name, &command, "");
        }
        let names = applet.names.join(" ");
        fish_lines(&mut text, "slipway", &command, &format!("__slipway_is {names}"));
    }
    text
}

fn fish_lines(text: &mut String, name: &str, command: &Command, when: &str) {
    let condition = |conditions: &[&str]| {
        let all: Vec<&str> = conditions.iter().copied().filter(|c| !c.is_empty()).collect();
        if all.is_empty() {
            String::new()
        } else {
            format!(" -n {}", fish_quote(&all.join("; and ")))
        }
    };
    for option in visible(command) {
        let mut line = format!("complete -c {name}{}", condition(&[when]));
        if let Some(short) = option.short {
            line.push_str(&format!(" -s {short}"));
        }
        if let Some(long) = option.long {
            line.push_str(&format!(" -l {long}"));
        }
        if matches!(option.arity, Arity::Required(_)) {
            line.push_str(&match kind(option) {
                Kind::Words => format!(" -x -a {}", fish_quote(&option.values.join(" "))),
                Kind::Directory => " -x -a '(__fish_complete_directories)'".to_owned(),
                Kind::File => " -r -F".to_owned(),
                Kind::Other => " -x".to_owned(),
            });
        }
        text.push_str(&format!("{line} -d {}\n", fish_quote(&option.help)));
    }
    let verbs: Vec<&str> = command.verbs.iter().map(|verb| verb.name).collect();
    let condition = condition(&[when, &format!("__slipway_lacks {}", verbs.join(" "))]);
    for verb in command.verbs.iter().filter(|verb| !verb.about.is_empty()) {
        let about = fish_quote(verb.about);
        text.push_str(&format!("complete -c {name}{condition} -f -a {} -d {about}\n", verb.name));
    }
}

/// What a value can be.
enum Kind {
    Words,
    Directory,
    File,
    Other,
}

fn kind(option: &Opt) -> Kind {
    match option.metavar() {
        _ if !option.values.is_empty() => Kind::Words,
        Some("DIR") => Kind::Directory,
        Some(metavar) if is_path(metavar) => Kind::File,
        _ => Kind::Other,
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &Opt> {
    command.options.iter().filter(|option| !option.help.is_empty())
}

/// The spellings of an option, with dashes.
fn names(option: &Opt) -> Vec<String> {
    let short = option.short.map(|c| format!("-{c}"));
    let long = option.long.map(|long| format!("--{long}"));
    short.into_iter().chain(long).collect()
}

/// A word in single quotes.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// A word in fish's single quotes, which know backslashes.
fn fish_quote(text: &str) -> String {
    quote(&text.replace('\\', "\\\\"))
}
