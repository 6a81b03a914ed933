//! Verbs: the first operand of a tool that does several things.
//!
//! Not argh's subcommands: options are global and may stand before and after the verb, and the
//! messages and the guess at a mistyped verb are the peer's.

use slipway::error::{Error, Result};
use slipway::out::escape::line as printable;

use super::command::VerbInfo;
use super::help;
use crate::app::App;

/// What a verb runs: the process, the options, and the operands after the verb.
pub(crate) type Run<T> = fn(&mut App, &T, &[String]) -> Result<u8>;

/// One verb of a tool whose options are a `T`.
pub(crate) struct Verb<T> {
    info: VerbInfo,
    run: Run<T>,
}

impl<T> Verb<T> {
    /// A verb; `about` is empty for one the help does not show.
    pub(crate) const fn new(name: &'static str, about: &'static str, run: Run<T>) -> Self {
        let info = VerbInfo { name, operands: "", about, min: 0, max: 0, is_default: false };
        Self { info, run }
    }

    /// The verb `help`, for a tool that lists it.
    pub(crate) const fn help(about: &'static str) -> Self {
        Self::new("help", about, |app, _, _| help::print(app).map(|()| 0))
    }

    /// Operands as the help shows them: `ADDRESS [INTERFACE…]`.
    #[must_use]
    pub(crate) const fn operands(mut self, operands: &'static str) -> Self {
        self.info.operands = operands;
        self
    }

    /// How many words are wanted, counting the verb itself as the peer does; 0 for no bound.
    #[must_use]
    pub(crate) const fn words(mut self, min: usize, max: usize) -> Self {
        self.info.min = min;
        self.info.max = max;
        self
    }

    /// The verb that is meant when there is none.
    #[must_use]
    pub(crate) const fn default(mut self) -> Self {
        self.info.is_default = true;
        self
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.info.name
    }

    pub(super) fn info(&self) -> VerbInfo {
        self.info.clone()
    }
}

/// Finds the verb among the operands and runs it.
pub(crate) fn dispatch_verb<T>(
    app: &mut App,
    verbs: &[Verb<T>],
    options: &T,
    operands: &[String],
) -> Result<u8> {
    let Some((name, rest)) = operands.split_first() else {
        return match verbs.iter().find(|verb| verb.info.is_default) {
            Some(verb) => run(app, verb, options, &[]),
            None => {
                let shown = verbs.iter().filter(|v| !v.info.about.is_empty());
                let names = shown.map(Verb::name).collect::<Vec<_>>().join(", ");
                Err(Error::new(format!("Command verb required (one of {names}).")))
            }
        };
    };
    if let Some(verb) = verbs.iter().find(|verb| verb.name() == name) {
        return run(app, verb, options, rest);
    }
    if name == "help" {
        return help::print(app).map(|()| 0);
    }
    let names = verbs.iter().map(Verb::name).filter(|n| *n != "help").chain(["help"]);
    let shown = printable(name);
    Err(Error::new(match closest(name, names) {
        Some(guess) => format!("Unknown command verb '{shown}', did you mean '{guess}'?"),
        None => format!("Unknown command verb '{shown}'."),
    }))
}

fn run<T>(app: &mut App, verb: &Verb<T>, options: &T, operands: &[String]) -> Result<u8> {
    let words = operands.len() + 1;
    if words < verb.info.min {
        return Err(Error::new("Too few arguments."));
    }
    if verb.info.max != 0 && words > verb.info.max {
        return Err(Error::new("Too many arguments."));
    }
    (verb.run)(app, options, operands)
}

/// The word that was probably meant: the shortest that begins with what was typed, else the one
/// with the fewest edits, if five or fewer; the earlier one where two are as good.
fn closest<'a>(typed: &str, words: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    if let Some(word) = words.clone().filter(|w| w.starts_with(typed)).min_by_key(|w| w.len()) {
        return Some(word);
    }
    words
        .map(|word| (distance(typed.as_bytes(), word.as_bytes()), word))
        .filter(|(edits, _)| *edits <= 5)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, word)| word)
}

/// Edits between two words: insertions, deletions, replacements and swaps of neighbors.
fn distance(a: &[u8], b: &[u8]) -> usize {
    // Two rows back, one row back, and the row that is being filled; a cell is the distance of the
    // beginnings so far.
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (cell(&above, j) + usize::from(x != y))
                .min(cell(&above, j + 1) + 1)
                .min(cell(&row, j) + 1);
            let is_swap = j > 0 && i > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if is_swap {
                best = best.min(cell(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    cell(&above, b.len())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn mistyped_verbs_get_the_guess_of_systemd_262() {
        for line in include_str!("../../tests/vectors/cli/guesses.jsonl").lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let verbs: Vec<&str> =
                case["verbs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
            let typed = case["typed"].as_str().unwrap();
            let ours = match closest(typed, verbs.iter().copied()) {
                Some(guess) => format!("Unknown command verb '{typed}', did you mean '{guess}'?"),
                None => format!("Unknown command verb '{typed}'."),
            };
            assert_eq!(case["says"], ours);
        }
    }
}
