//! The hardware database (hwdb(7)): properties for names that match a pattern, as text.
//!
//! A record is one or more match lines, then properties with a blank in front, then an empty line.
//! Matches are [globs](super::glob) over the whole name. `#` begins a comment wherever it stands,
//! also in a value. What is malformed is told with its line and left out, as in the peer.
//!
//! The compiled form is [`trie`].

pub mod trie;

use std::fmt;

use super::glob;

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The match lines.
    pub matches: Vec<&'a str>,
    /// Keys and values; of two with the same key the later one counts.
    pub properties: Vec<(&'a str, &'a str)>,
}

impl<'a> Record<'a> {
    /// True where one of the match lines matches.
    pub fn is_match(&self, name: &str) -> bool {
        self.matches.iter().any(|pattern| glob::matches(pattern, name))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.properties.iter().rev().find(|(own, _)| *own == key).map(|(_, value)| *value)
    }
}

/// What is wrong with a line, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad<'a> {
    /// Its number, counted from 1.
    pub line: u32,
    /// The line.
    pub text: &'a str,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Indented,
    NoProperties,
    NotIndented,
    NoValue,
    NoKey,
}

impl fmt::Display for Bad<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text;
        match self.fault {
            Fault::Indented => {
                write!(f, "Match expected but got indented property \"{text}\", ignoring line.")
            }
            Fault::NoProperties => {
                f.write_str("Property expected, ignoring record with no properties.")
            }
            Fault::NotIndented => {
                write!(f, "Property or empty line expected, got \"{text}\", ignoring record.")
            }
            Fault::NoValue => {
                write!(f, "Key-value pair expected but got \"{text}\", ignoring.")
            }
            Fault::NoKey => write!(f, "Empty key in \"{text}\", ignoring."),
        }
    }
}

/// Reads records one after the other.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    lines: std::str::Lines<'a>,
    number: u32,
    /// What was wrong so far.
    pub complaints: Vec<Bad<'a>>,
}

/// The records of a text.
pub fn records(text: &str) -> Records<'_> {
    Records { lines: text.lines(), number: 0, complaints: Vec::new() }
}

impl<'a> Records<'a> {
    /// The next line that is not a comment, without comment and trailing blanks.
    fn line(&mut self) -> Option<&'a str> {
        loop {
            let line = self.lines.next()?;
            self.number = self.number.saturating_add(1);
            if !line.starts_with('#') {
                return Some(line.split('#').next().unwrap_or_default().trim_ascii_end());
            }
        }
    }

    fn complain(&mut self, text: &'a str, fault: Fault) {
        self.complaints.push(Bad { line: self.number, text, fault });
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let mut record = Record::default();
        // True from the first property on, even if that is malformed.
        let mut has_data = false;
        while let Some(line) = self.line() {
            let is_indented = line.starts_with(' ');
            if record.matches.is_empty() {
                match line {
                    "" => {}
                    _ if is_indented => self.complain(line, Fault::Indented),
                    _ => record.matches.push(line),
                }
            } else if is_indented {
                has_data = true;
                match line.trim_ascii_start().split_once('=') {
                    None => self.complain(line, Fault::NoValue),
                    Some(("", _)) => self.complain(line, Fault::NoKey),
                    Some(property) => record.properties.push(property),
                }
            } else if has_data {
                // COMPAT(262): what stands above the wrong line counts.
                if !line.is_empty() {
                    self.complain(line, Fault::NotIndented);
                }
                return Some(record);
            } else if line.is_empty() {
                self.complain(line, Fault::NoProperties);
                record.matches.clear();
            } else {
                record.matches.push(line);
            }
        }
        has_data.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (Vec<String>, Vec<String>) {
        let mut all = records(text);
        let found: Vec<String> = all
            .by_ref()
            .map(|r| {
                let properties: Vec<_> =
                    r.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{}: {}", r.matches.join(","), properties.join(","))
            })
            .collect();
        let bad = all.complaints.iter().map(|bad| format!("{}: {bad}", bad.line)).collect();
        (found, bad)
    }

    #[test]
    fn records_and_complaints_are_the_peers() {
        // Fed to `systemd-hwdb update` 262.1; its messages are the second half.
        let (found, bad) = shown(
            "test:a*\n K1=v1 # comment\n  K2= two  \n =empty\n K4\n K5=\n K6 =x\n# c\n \t K7=1\n \
             #K8=1\n K9=1\n\ntest:b\n   \n K=1\ntest:c\n x\n\n\ntest:d # hello\n test:e\n K=1",
        );
        assert_eq!(found, ["test:a*: K1=v1,K2= two,K5=,K6 =x,K7=1", "test:c: ", "test:d: K=1"]);
        assert_eq!(
            bad,
            [
                "4: Empty key in \" =empty\", ignoring.",
                "5: Key-value pair expected but got \" K4\", ignoring.",
                "11: Match expected but got indented property \" K9=1\", ignoring line.",
                "14: Property expected, ignoring record with no properties.",
                "15: Match expected but got indented property \" K=1\", ignoring line.",
                "17: Key-value pair expected but got \" x\", ignoring.",
                "21: Key-value pair expected but got \" test:e\", ignoring.",
            ]
        );
        let (found, bad) = shown("a\n K=1\n\tT=1\n B=1\n\nb\nc\n A=1\n A=2\nbad\n");
        assert_eq!(found, ["a: K=1", "b,c: A=1,A=2"]);
        assert_eq!(bad.len(), 3);
        assert_eq!(bad[0], "3: Property or empty line expected, got \"\tT=1\", ignoring record.");
    }

    #[test]
    fn the_last_of_two_values_counts_and_any_match_line_will_do() {
        let record = records("x:1*\nx:[^2-9]\n A=1\n A=2\n").next().unwrap();
        assert_eq!((record.get("A"), record.get("B")), (Some("2"), None));
        assert!(record.is_match("x:12") && record.is_match("x:0") && !record.is_match("x:5"));
    }

    #[test]
    fn every_truncation_is_read_without_panic() {
        let text = "a*\nb\n K=v # x\n =\n\n c\n";
        for end in 0..=text.len() {
            assert!(records(&text[..end]).count() <= 1);
        }
    }
}
