//! The description of a command line: what argh's `ArgsInfo` knows, plus what it cannot say.

use argh::{ArgsInfo, FlagInfoKind, Optionality};

use super::verb::Verb;

/// Whether an option takes a value, and what the value is called in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    /// A switch.
    None,
    /// `--name=METAVAR`.
    Required(&'static str),
    /// `--name[=METAVAR]`; without a value the second word is meant.
    Optional(&'static str, &'static str),
}

/// One option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opt {
    /// Without dashes.
    pub(crate) long: Option<&'static str>,
    /// One ASCII letter.
    pub(crate) short: Option<char>,
    pub(crate) arity: Arity,
    /// All occurrences count, not only the last.
    pub(crate) is_repeating: bool,
    /// Empty for what the help does not show.
    pub(crate) help: String,
    /// Options this one stands for, in the long spelling.
    pub(crate) means: &'static [&'static str],
    /// All values there are, for completion; empty for any.
    pub(crate) values: &'static [&'static str],
}

impl Opt {
    fn switch(long: &'static str, short: Option<char>, help: &str) -> Self {
        Self {
            long: Some(long),
            short,
            arity: Arity::None,
            is_repeating: false,
            help: help.to_owned(),
            means: &[],
            values: &[],
        }
    }

    /// What the value is called.
    pub(crate) fn metavar(&self) -> Option<&'static str> {
        match self.arity {
            Arity::None => None,
            Arity::Required(metavar) | Arity::Optional(metavar, _) => Some(metavar),
        }
    }
}

/// A verb as the help and the introspection see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerbInfo {
    pub(crate) name: &'static str,
    /// Operands, for the help.
    pub(crate) operands: &'static str,
    /// Empty for what the help does not show.
    pub(crate) about: &'static str,
    /// Least number of words including the verb; 0 when nobody said.
    pub(crate) min: usize,
    /// Greatest number of words including the verb; 0 for any number.
    pub(crate) max: usize,
    pub(crate) is_default: bool,
}

/// A command line: options, verbs and the words around them.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// One sentence with a final stop.
    pub(crate) about: String,
    /// What follows the name in the first line of the help.
    pub(crate) usage: &'static [&'static str],
    pub(crate) options: Vec<Opt>,
    pub(crate) verbs: Vec<VerbInfo>,
    /// Operands with a description of their own: name and text.
    pub(crate) operands: Vec<(&'static str, String)>,
    /// The last operand may be a path or any other bytes.
    pub(crate) has_path_operands: bool,
    /// Paragraph after the options.
    pub(crate) postscript: &'static str,
}

/// Metavariables of values that name files: these may be anything but NUL.
pub(crate) const PATH_METAVARS: &[&str] = &["PATH", "DIR", "FILE", "DEVICE", "IMAGE"];

impl Command {
    /// What the option struct says, with `-h --help`, `--version` and `--introspect-cli` added.
    ///
    /// An operand or value whose metavariable is one of `PATH`, `DIR`, `FILE`, `DEVICE`, `IMAGE`
    /// (with or without brackets and dots) may be any bytes, and its field must be read by
    /// `#[argh(from_str_fn(cli::path))]`.
    pub(crate) fn of<A: ArgsInfo>() -> Self {
        let info = A::get_args_info();
        let mut options = vec![
            Opt::switch("help", Some('h'), "Show this help"),
            Opt::switch("version", None, "Show the version"),
        ];
        // The first flag is argh's own --help.
        options.extend(info.flags.iter().filter(|f| f.long != "--help").map(|flag| {
            let arity = match flag.kind {
                FlagInfoKind::Switch => Arity::None,
                FlagInfoKind::Option { arg_name } => Arity::Required(arg_name),
            };
            Opt {
                long: Some(flag.long.trim_start_matches('-')),
                short: flag.short,
                arity,
                is_repeating: flag.optionality == Optionality::Repeating,
                help: if flag.hidden { String::new() } else { sentence(flag.description) },
                means: &[],
                values: usual_values(flag.long, arity),
            }
        }));
        options.push(Opt::switch("introspect-cli", None, ""));

        let visible = info.positionals.iter().filter(|p| !p.hidden);
        Self {
            about: info.description.split_whitespace().collect::<Vec<_>>().join(" "),
            usage: &["[OPTION…]"],
            options,
            verbs: Vec::new(),
            operands: visible.map(|p| (p.name, sentence(p.description))).collect(),
            has_path_operands: info.positionals.iter().any(|p| is_path(p.name)),
            postscript: "",
        }
    }

    /// The words after the name, one form per line.
    #[must_use]
    pub(crate) fn usage(mut self, forms: &'static [&'static str]) -> Self {
        self.usage = forms;
        self
    }

    /// The verbs. `help` is always one of them; put [`Verb::help`] into the table to show it.
    #[must_use]
    pub(crate) fn verbs<T>(mut self, verbs: &[Verb<T>]) -> Self {
        self.usage = &["[OPTION…] COMMAND …"];
        self.operands.clear();
        self.verbs = verbs.iter().map(Verb::info).collect();
        if verbs.iter().all(|verb| verb.name() != "help") {
            self.verbs.push(Verb::<T>::help("").info());
        }
        self
    }

    /// A paragraph after the options.
    #[cfg(feature = "varlinkctl")]
    #[must_use]
    pub(crate) fn postscript(mut self, text: &'static str) -> Self {
        self.postscript = text;
        self
    }

    /// A short option that stands for long ones, shown after the option `after`. Because it is
    /// rewritten in its place, the last of `-j --json=off` wins. The value `auto` becomes `pretty`
    /// on a terminal and `short` elsewhere.
    #[cfg(any(feature = "varlinkctl", feature = "imds", feature = "repart", test))]
    #[must_use]
    pub(crate) fn shorthand(
        mut self,
        short: char,
        means: &'static [&'static str],
        help: &str,
        after: &str,
    ) -> Self {
        let at = self.options.iter().position(|o| o.long == Some(after));
        let option = Opt { long: None, means, ..Opt::switch("", Some(short), help) };
        self.options.insert(at.map_or(self.options.len(), |at| at + 1), option);
        self
    }

    /// The words an option may have as value, for completions.
    #[must_use]
    pub(crate) fn values(mut self, long: &str, values: &'static [&'static str]) -> Self {
        for option in self.options.iter_mut().filter(|o| o.long == Some(long)) {
            option.values = values;
        }
        self
    }

    /// Makes the value of an option optional; without one, `default` is meant.
    #[must_use]
    pub(crate) fn optional_value(mut self, long: &str, default: &'static str) -> Self {
        for option in self.options.iter_mut().filter(|o| o.long == Some(long)) {
            if let Arity::Required(metavar) = option.arity {
                option.arity = Arity::Optional(metavar, default);
            }
        }
        self
    }
}

/// The values of options that every tool has.
fn usual_values(long: &str, arity: Arity) -> &'static [&'static str] {
    match (long, arity) {
        ("--json", _) => &["pretty", "short", "off"],
        (_, Arity::Required("BOOL")) => &["yes", "no"],
        _ => &[],
    }
}

/// True for the metavariable of a value that names a file.
pub(crate) fn is_path(metavar: &str) -> bool {
    PATH_METAVARS.contains(&metavar.trim_matches(['[', ']', '…', '.']))
}

/// A description on one line that begins with a capital letter.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
