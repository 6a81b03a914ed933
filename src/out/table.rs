//! Tables as the peer draws them, and the same tables as JSON.
//!
//! A column is as wide as its widest cell; one space stands between columns; the last column is
//! never padded. On a terminal that is too narrow (or with `$COLUMNS`), columns shrink by their
//! weight and cells are cut with `…`; elsewhere nothing is ever cut, because programs read it.

use serde_json::{Map, Value};

use super::escape::{self, ellipsize, width};
use super::{Color, Colors, Facts, Glyph, RESET, human, time};

/// What a cell holds; text and JSON follow from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing: the table's filler as text, null in JSON.
    Empty,
    /// Text.
    Text(String),
    /// `yes` or `no`.
    Bool(bool),
    /// ✓ or ✗.
    Check(bool),
    /// A number.
    Uint(u64),
    /// A number.
    Int(i64),
    /// A number shown as `0x…`.
    Hex(u64),
    /// Bytes, shown with K, M, G.
    Size(u64),
    /// File mode, shown in octal with a leading 0.
    Mode(u32),
    /// Microseconds since the epoch.
    Timestamp(u64),
    /// One item per line.
    Lines(Vec<String>),
    /// Items in one line, with spaces between.
    Words(Vec<String>),
    /// Text and JSON that have nothing to do with each other.
    Custom {
        /// For people.
        text: String,
        /// For programs.
        json: Value,
    },
}

impl Cell {
    /// The option's value, or [`Cell::Empty`].
    pub fn option<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Empty, cell)
    }

    fn text(&self, filler: &str, is_utf8: bool) -> String {
        match self {
            Self::Empty => filler.to_owned(),
            // The layout is ours: line feeds in a cell make it higher, anything else is shown.
            Self::Text(text) | Self::Custom { text, .. } => escape::block(text).into_owned(),
            Self::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::Check(flag) => {
                let glyph = if *flag { Glyph::CheckMark } else { Glyph::CrossMark };
                glyph.text(is_utf8).to_owned()
            }
            Self::Uint(number) => number.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Hex(number) => format!("0x{number:x}"),
            Self::Size(u64::MAX) | Self::Timestamp(0 | u64::MAX) => filler.to_owned(),
            Self::Size(bytes) => human::bytes(*bytes),
            Self::Mode(mode) => format!("{mode:04o}"),
            Self::Timestamp(usec) => time::timestamp(*usec),
            Self::Lines(items) | Self::Words(items) if items.is_empty() => filler.to_owned(),
            Self::Lines(items) => join(items, "\n"),
            Self::Words(items) => join(items, " "),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Empty | Self::Size(u64::MAX) | Self::Timestamp(0 | u64::MAX) => Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Bool(flag) | Self::Check(flag) => (*flag).into(),
            Self::Uint(number)
            | Self::Hex(number)
            | Self::Size(number)
            | Self::Timestamp(number) => (*number).into(),
            Self::Int(number) => (*number).into(),
            Self::Mode(mode) => (*mode).into(),
            Self::Lines(items) | Self::Words(items) if items.is_empty() => Value::Null,
            Self::Lines(items) | Self::Words(items) => items.clone().into(),
            Self::Custom { json, .. } => json.clone(),
        }
    }
}

fn join(items: &[String], separator: &str) -> String {
    items.iter().map(|item| escape::line(item)).collect::<Vec<_>>().join(separator)
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Uint(number)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

/// Where the text stands in a cell that is wider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// At the start.
    #[default]
    Left,
    /// In the middle, the odd space to the right.
    Center,
    /// At the end.
    Right,
}

struct Column {
    title: String,
    json_name: String,
    align: Align,
    is_hidden: bool,
    weight: usize,
}

struct Entry {
    cell: Cell,
    color: Option<Color>,
}

/// A cell of a row: what it holds and its color.
pub struct Styled(Cell, Option<Color>);

impl<T: Into<Cell>> From<T> for Styled {
    fn from(cell: T) -> Self {
        Self(cell.into(), None)
    }
}

impl Cell {
    /// The cell in a color, on terminals that have it.
    pub fn colored(self, color: impl Into<Option<Color>>) -> Styled {
        Styled(self, color.into())
    }
}

/// Rows of cells below titles.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Entry>>,
    filler: String,
    is_vertical: bool,
}

impl Table {
    /// A table with these titles. They are shown in capitals; JSON takes them as they are, with
    /// `_` for everything but letters and digits.
    pub fn new(titles: &[&str]) -> Self {
        let columns = titles
            .iter()
            .map(|title| Column {
                title: title.to_uppercase(),
                json_name: json_name(title),
                align: Align::Left,
                is_hidden: false,
                weight: 100,
            })
            .collect();
        Self { columns, rows: Vec::new(), filler: String::new(), is_vertical: false }
    }

    /// A list of `Field: value` lines.
    pub fn vertical() -> Self {
        let mut table = Self::new(&["", ""]);
        table.is_vertical = true;
        table.set_align(0, Align::Right);
        table
    }

    /// What stands in empty cells; nothing by default, `-` in many of the peer's tables.
    #[must_use]
    pub fn with_filler(mut self, filler: &str) -> Self {
        filler.clone_into(&mut self.filler);
        self
    }

    /// Aligns a column, title included.
    pub fn set_align(&mut self, column: usize, align: Align) {
        if let Some(column) = self.columns.get_mut(column) {
            column.align = align;
        }
    }

    /// Gives a column its name in JSON.
    pub fn set_json_name(&mut self, column: usize, name: &str) {
        if let Some(column) = self.columns.get_mut(column) {
            name.clone_into(&mut column.json_name);
        }
    }

    /// Leaves a column out, in JSON too.
    pub fn hide(&mut self, column: usize) {
        if let Some(column) = self.columns.get_mut(column) {
            column.is_hidden = true;
        }
    }

    /// Leaves a column out where no row has anything in it.
    pub fn hide_if_empty(&mut self, column: usize) {
        let is_empty = self
            .rows
            .iter()
            .all(|row| row.get(column).is_none_or(|entry| entry.cell == Cell::Empty));
        if is_empty {
            self.hide(column);
        }
    }

    /// Appends a row. Missing cells are empty.
    pub fn row<const N: usize>(&mut self, cells: [Styled; N]) {
        self.rows
            .push(cells.into_iter().map(|Styled(cell, color)| Entry { cell, color }).collect());
    }

    /// Appends a line to a vertical list.
    pub fn field(&mut self, name: &str, value: impl Into<Styled>) {
        self.row([Cell::from(name).into(), value.into()]);
    }

    /// How many rows there are, without the titles.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True where there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as an array of objects; a vertical list as one object.
    pub fn to_json(&self) -> Value {
        if self.is_vertical {
            let members = self.rows.iter().filter_map(|row| match row.as_slice() {
                [name, value, ..] => {
                    Some((json_name(&name.cell.text("", true)), value.cell.json()))
                }
                _ => None,
            });
            return Value::Object(members.collect());
        }
        let object = |row: &Vec<Entry>| -> Value {
            let members: Map<String, Value> = self
                .columns
                .iter()
                .enumerate()
                .filter(|(_, column)| !column.is_hidden)
                .map(|(index, column)| {
                    let value = row.get(index).map_or(Value::Null, |entry| entry.cell.json());
                    (column.json_name.clone(), value)
                })
                .collect();
            Value::Object(members)
        };
        Value::Array(self.rows.iter().map(object).collect())
    }

    /// The table as text.
    pub fn to_text(&self, look: &Look) -> String {
        let has_titles = look.has_legend && !self.is_vertical;
        let mut lines: Vec<(bool, Vec<Drawn>)> = Vec::with_capacity(self.rows.len() + 1);
        if has_titles {
            let titles = self.shown().map(|(_, column)| Drawn::new(&column.title, None)).collect();
            lines.push((true, titles));
        }
        for row in &self.rows {
            let cells = self.shown().map(|(index, _)| self.draw(row.get(index), index, look));
            lines.push((false, cells.collect()));
        }
        let widths = self.widths(&lines, look);
        let mut text = String::new();
        for (is_title, cells) in &lines {
            self.draw_row(&mut text, *is_title, cells, &widths, look);
        }
        text
    }

    fn shown(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.is_hidden)
    }

    fn draw(&self, entry: Option<&Entry>, index: usize, look: &Look) -> Drawn {
        let Some(entry) = entry else { return Drawn::new(&self.filler, None) };
        let mut text = entry.cell.text(&self.filler, look.is_utf8);
        if self.is_vertical && index == 0 && !text.is_empty() {
            text.push(':');
        }
        Drawn::new(&text, entry.color)
    }

    /// As wide as needed, unless there is a limit and that is too much.
    fn widths(&self, lines: &[(bool, Vec<Drawn>)], look: &Look) -> Vec<usize> {
        // Even an empty column has a letter.
        let mut wanted: Vec<usize> = vec![1; self.shown().count()];
        for (_, cells) in lines {
            for (slot, cell) in wanted.iter_mut().zip(cells) {
                *slot = (*slot).max(cell.width);
            }
        }
        let gaps = wanted.len().saturating_sub(1);
        let limit = look.limit.unwrap_or(usize::MAX);
        if wanted.iter().sum::<usize>() + gaps <= limit {
            return wanted;
        }
        // Every column keeps one letter; the rest is shared by weight among those that still want.
        let weights: Vec<usize> = self.shown().map(|(_, column)| column.weight).collect();
        let mut given: Vec<usize> = wanted.iter().map(|width| (*width).min(1)).collect();
        let mut room = limit.saturating_sub(gaps + given.iter().sum::<usize>());
        while room > 0 {
            let hungry: Vec<usize> =
                (0..wanted.len()).filter(|index| given.get(*index) < wanted.get(*index)).collect();
            let total: usize = hungry.iter().filter_map(|index| weights.get(*index)).sum();
            if total == 0 {
                break;
            }
            let pool = room;
            for index in hungry {
                if let (Some(slot), Some(want), Some(weight)) =
                    (given.get_mut(index), wanted.get(index), weights.get(index))
                {
                    let share = (pool * weight / total).max(1).min(want - *slot).min(room);
                    *slot += share;
                    room -= share;
                }
            }
        }
        given
    }

    fn draw_row(
        &self,
        text: &mut String,
        is_title: bool,
        cells: &[Drawn],
        widths: &[usize],
        look: &Look,
    ) {
        let underline =
            if is_title && look.colors.is_on() && look.can_underline { "\x1b[4m" } else { "" };
        let height = cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(1);
        let last = cells.len().saturating_sub(1);
        for level in 0..height {
            for (position, ((cell, width), (_, column))) in
                cells.iter().zip(widths).zip(self.shown()).enumerate()
            {
                if position > 0 {
                    push_styled(text, underline, " ");
                }
                let line = cell.lines.get(level).map_or("", String::as_str);
                let line = ellipsize(line, *width, Glyph::Ellipsis.text(look.is_utf8));
                let spare = width.saturating_sub(escape::width(&line));
                let before = match column.align {
                    Align::Left => 0,
                    Align::Center => spare / 2,
                    Align::Right => spare,
                };
                let after =
                    if position == last && underline.is_empty() { 0 } else { spare - before };
                let color = cell.color.map_or("", |color| color.code(look.colors));
                if color.is_empty() {
                    let padded = format!("{:before$}{line}{:after$}", "", "");
                    push_styled(text, underline, &padded);
                } else {
                    text.extend(std::iter::repeat_n(' ', before));
                    push_styled(text, color, &line);
                    text.extend(std::iter::repeat_n(' ', after));
                }
            }
            text.push('\n');
        }
    }
}

fn push_styled(text: &mut String, style: &str, piece: &str) {
    text.push_str(style);
    text.push_str(piece);
    if !style.is_empty() {
        text.push_str(RESET);
    }
}

/// Everything but letters and digits becomes `_`; a word that is not all capitals starts small.
fn json_name(title: &str) -> String {
    let mut name = String::with_capacity(title.len());
    for word in title.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
        let is_acronym = word.len() > 1 && !word.contains(|letter: char| letter.is_lowercase());
        for (index, letter) in word.chars().enumerate() {
            match letter {
                letter if !letter.is_ascii_alphanumeric() => name.push('_'),
                letter if index == 0 && !is_acronym => name.push(letter.to_ascii_lowercase()),
                letter => name.push(letter),
            }
        }
    }
    name
}

struct Drawn {
    lines: Vec<String>,
    width: usize,
    color: Option<Color>,
}

impl Drawn {
    fn new(text: &str, color: Option<Color>) -> Self {
        let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        let width = lines.iter().map(|line| width(line)).max().unwrap_or(0);
        Self { lines, width, color }
    }
}

/// How a table is drawn.
#[derive(Clone, Debug)]
pub struct Look {
    /// Titles are shown.
    pub has_legend: bool,
    /// Columns at most; none where nothing may be cut.
    pub limit: Option<usize>,
    /// Colors.
    pub colors: Colors,
    /// Titles may be underlined.
    pub can_underline: bool,
    /// Pictures may be printed.
    pub is_utf8: bool,
}

impl Look {
    /// As the streams allow.
    pub fn of(facts: &Facts, has_legend: bool) -> Self {
        let is_limited = facts.is_stdout_tty || facts.has_explicit_columns;
        Self {
            has_legend,
            limit: is_limited.then_some(facts.columns),
            colors: facts.colors,
            can_underline: facts.can_underline,
            is_utf8: facts.is_utf8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look {
        has_legend: true,
        limit: None,
        colors: Colors::Off,
        can_underline: true,
        is_utf8: true,
    };

    /// `systemd-sysupdate list` of 262.1, cases "empty source and target" and "one candidate".
    fn versions() -> Table {
        let mut table = Table::new(&["", "version", "installed", "available", "assessment"]);
        table.set_align(2, Align::Center);
        table.set_align(3, Align::Center);
        table
    }

    #[test]
    fn list_of_versions_is_spaced_as_the_peers() {
        let mut table = versions();
        assert_eq!(table.to_text(&PLAIN), "  VERSION INSTALLED AVAILABLE ASSESSMENT\n");
        table.row(["↻".into(), "1".into(), Cell::Empty.into(), "✓".into(), "candidate".into()]);
        assert_eq!(
            table.to_text(&PLAIN),
            "  VERSION INSTALLED AVAILABLE ASSESSMENT\n↻ 1                     ✓     candidate\n"
        );
        let look = Look { has_legend: false, ..PLAIN };
        assert_eq!(table.to_text(&look), "↻ 1   ✓ candidate\n");
    }

    #[test]
    fn fields_are_right_aligned_with_a_colon() {
        let mut table = Table::vertical();
        table.field("↻ Version", "1");
        table.field("State", "candidate");
        table.field("Installed", false);
        assert_eq!(table.to_text(&PLAIN), "↻ Version: 1\n    State: candidate\nInstalled: no\n");
    }

    #[test]
    fn titles_are_underlined_to_the_end_on_a_terminal() {
        // `SYSTEMD_COLORS=1 systemd-id128 show root-x86-64`, systemd 262.1.
        let mut table = Table::new(&["name", "id"]);
        table.row(["root-x86-64".into(), "4f68bce3e8cd4db196e7fbcaf984b709".into()]);
        let look = Look { colors: Colors::C256, ..PLAIN };
        assert_eq!(
            table.to_text(&look),
            "\x1b[4mNAME       \x1b[0m\x1b[4m \x1b[0m\x1b[4mID                              \x1b[0m\n\
             root-x86-64 4f68bce3e8cd4db196e7fbcaf984b709\n"
        );
    }

    #[test]
    fn narrow_terminal_cuts_the_widest_and_a_pipe_cuts_nothing() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["x".into(), "0123456789".into()]);
        let look = Look { limit: Some(8), ..PLAIN };
        assert_eq!(table.to_text(&look), "A B\nx 01234…\n");
        assert_eq!(table.to_text(&PLAIN), "A B\nx 0123456789\n");
        let tiny = Look { limit: Some(1), ..PLAIN };
        assert_eq!(table.to_text(&tiny), "A B\nx …\n");
    }

    #[test]
    fn missing_values_are_filled_in_text_and_null_in_json() {
        let mut table = Table::new(&["path", "size", "tries done"]).with_filler("-");
        table.row(["/a".into(), Cell::Size(1536).into(), Cell::Empty.into()]);
        assert_eq!(table.to_text(&PLAIN), "PATH SIZE TRIES DONE\n/a   1.5K -\n");
        assert_eq!(
            table.to_json(),
            serde_json::json!([{"path": "/a", "size": 1536, "tries_done": null}])
        );
        table.hide_if_empty(2);
        table.hide(1);
        assert_eq!(table.to_text(&PLAIN), "PATH\n/a\n");
        assert_eq!(table.to_json(), serde_json::json!([{"path": "/a"}]));
    }

    #[test]
    fn escape_sequences_in_a_cell_are_shown() {
        let mut table = Table::new(&["label"]);
        table.row(["a\x1b[31mb".into()]);
        assert_eq!(table.to_text(&PLAIN), "LABEL\na\\x1b[31mb\n");
    }

    #[test]
    fn a_list_makes_the_row_higher() {
        let mut table = Table::new(&["name", "urls"]);
        table.row(["x".into(), Cell::Lines(vec!["1".into(), "2".into()]).into()]);
        assert_eq!(table.to_text(&PLAIN), "NAME URLS\nx    1\n     2\n");
    }
}
