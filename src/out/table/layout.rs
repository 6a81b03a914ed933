//! How wide columns are and how text is broken: the part of a table that knows no values.

use std::borrow::Cow;

use crate::out::escape::{self, width};
use crate::out::time::Zone;
use crate::out::{Color, Colors, Facts};

/// How a table is drawn.
#[derive(Clone, Debug)]
pub struct Look {
    /// Titles are shown.
    pub has_legend: bool,
    /// Columns of the terminal.
    pub columns: usize,
    /// Cells are cut where the table would be wider than that.
    pub is_limited: bool,
    /// Colors.
    pub colors: Colors,
    /// Titles may be underlined.
    pub can_underline: bool,
    /// Pictures may be printed.
    pub is_utf8: bool,
    /// Where points in time are shown.
    pub zone: Zone,
}

impl Look {
    /// As the streams allow.
    pub fn of(facts: &Facts, has_legend: bool) -> Self {
        Self {
            has_legend,
            columns: facts.columns,
            is_limited: facts.is_stdout_tty,
            colors: facts.colors,
            can_underline: facts.can_underline,
            is_utf8: facts.is_utf8,
            zone: facts.zone.clone(),
        }
    }
}

/// A cell as text.
pub(super) struct Drawn<'a> {
    /// Lines with line feeds between them.
    pub(super) text: Cow<'a, str>,
    /// How many lines.
    pub(super) height: usize,
    /// Columns of the longest line.
    pub(super) width: usize,
    pub(super) color: Option<Color>,
}

impl<'a> Drawn<'a> {
    pub(super) fn new(text: Cow<'a, str>, color: Option<Color>) -> Self {
        let (height, width) = measure(&text);
        Self { text, height, width, color }
    }

    pub(super) fn line(&self, level: usize) -> &str {
        if level == 0 && self.height == 1 {
            return &self.text;
        }
        self.text.split('\n').nth(level).unwrap_or_default()
    }
}

/// Lines and columns of a text.
fn measure(text: &str) -> (usize, usize) {
    if !text.contains('\n') {
        return (1, width(text));
    }
    let lines = || text.split('\n');
    (lines().count(), lines().map(width).max().unwrap_or(0))
}

/// As wide as needed, unless there is a limit and that is too much.
pub(super) fn limited(wanted: Vec<usize>, look: &Look) -> Vec<usize> {
    let gaps = wanted.len().saturating_sub(1);
    let limit = if look.is_limited { look.columns } else { usize::MAX };
    if wanted.iter().sum::<usize>() + gaps <= limit {
        return wanted;
    }
    // Every column keeps one letter. The rest is shared evenly, in rounds: what a narrow
    // column does not need is shared again, and what cannot be divided goes to the right.
    let mut given: Vec<usize> = vec![1; wanted.len()];
    let mut room = limit.saturating_sub(gaps + given.len());
    while room > 0 {
        let is_hungry = |index: &usize| given.get(*index) < wanted.get(*index);
        let hungry: Vec<usize> = (0..wanted.len()).filter(is_hungry).collect();
        let mut sharers = hungry.len();
        let before = room;
        for index in hungry {
            if let (Some(slot), Some(want)) = (given.get_mut(index), wanted.get(index)) {
                let taken = (room / sharers.max(1)).min(want - *slot);
                *slot += taken;
                room -= taken;
                sharers -= 1;
            }
        }
        if room == before {
            break;
        }
    }
    given
}

/// Puts as many words into each line as there is room for, and at least one.
pub(super) fn wrap(words: &[String], room: usize) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for (index, word) in words.iter().enumerate() {
        let word = escape::line(word);
        let width = width(&word);
        if index == 0 {
            taken = width;
        } else if taken + 1 + width <= room {
            text.push(' ');
            taken += 1 + width;
        } else {
            text.push('\n');
            taken = width;
        }
        text.push_str(&word);
    }
    text
}
