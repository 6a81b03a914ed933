//! Tables as the peer draws them, and the same tables as JSON.
//!
//! A column is as wide as its widest cell; one space stands between columns; the last column is
//! not padded unless colored. On a terminal that is too narrow the columns share what there is and
//! cells are cut with `…`; elsewhere nothing is ever cut, because programs read it. Lists of words
//! are wrapped in both cases.

mod cell;
mod layout;

use std::borrow::Cow;

use serde_json::{Map, Value};

use self::layout::{Drawn, limited, wrap};
use super::escape::{self, ellipsize};
use super::{Color, Glyph, RESET};

pub use self::cell::{Cell, Custom, Styled};
pub use self::layout::Look;

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
}

/// Rows of cells below titles.
pub struct Table<'a> {
    columns: Vec<Column>,
    /// Row by row, as many as there are columns.
    cells: Vec<Styled<'a>>,
    filler: String,
    is_vertical: bool,
    has_titles: bool,
    colors_empty: bool,
}

impl<'a> Table<'a> {
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
            })
            .collect();
        let filler = String::new();
        Self {
            columns,
            cells: Vec::new(),
            filler,
            is_vertical: false,
            has_titles: true,
            colors_empty: false,
        }
    }

    /// A list of `Field: value` lines.
    pub fn vertical() -> Self {
        Self { has_titles: false, ..Self::vertical_with_titles(["", ""]) }
    }

    /// A list of `Field: value` lines below titles, as some of the peer's tools print it.
    pub fn vertical_with_titles(titles: [&str; 2]) -> Self {
        let mut table = Self::new(&titles);
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

    /// Colors empty cells, too, where nothing stands in them; some of the peer's tables do.
    pub fn color_empty_cells(&mut self) {
        self.colors_empty = true;
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
        let is_empty =
            self.rows().all(|row| row.get(column).is_none_or(|styled| styled.cell == Cell::Empty));
        if is_empty {
            self.hide(column);
        }
    }

    /// Appends a row. Missing cells are empty, those without a column are left out.
    pub fn row<const N: usize>(&mut self, cells: [Styled<'a>; N]) {
        let missing = std::iter::repeat_with(|| Cell::Empty.into());
        self.cells.extend(cells.into_iter().chain(missing).take(self.columns.len()));
    }

    fn rows(&self) -> impl Iterator<Item = &[Styled<'a>]> {
        self.cells.chunks(self.columns.len().max(1))
    }

    /// Appends a line to a vertical list.
    pub fn field(&mut self, name: &'a str, value: impl Into<Styled<'a>>) {
        self.row([name.into(), value.into()]);
    }

    /// How many rows there are, without the titles.
    pub fn len(&self) -> usize {
        self.rows().count()
    }

    /// True where there is no row.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The rows as an array of objects; a vertical list as one object.
    pub fn to_json(&self) -> Value {
        if self.is_vertical {
            let members = self.rows().filter_map(|row| match row {
                [name, value, ..] => {
                    let Cell::Text(name) = &name.cell else { return None };
                    Some((json_name(name), value.cell.json()))
                }
                _ => None,
            });
            return Value::Object(members.collect());
        }
        let object = |row: &[Styled<'a>]| -> Value {
            let members: Map<String, Value> = self
                .columns
                .iter()
                .enumerate()
                .filter(|(_, column)| !column.is_hidden)
                .map(|(index, column)| {
                    let value = row.get(index).map_or(Value::Null, |styled| styled.cell.json());
                    (column.json_name.clone(), value)
                })
                .collect();
            Value::Object(members)
        };
        Value::Array(self.rows().map(object).collect())
    }

    /// The table as text. Row by row, and each row twice: the widths must be known first.
    pub fn to_text(&self, look: &Look) -> String {
        let mut widths = self.natural_widths(look, &[]);
        let mut rooms = Vec::new();
        if self.cells.iter().any(|styled| matches!(styled.cell, Cell::Words(_))) {
            // What the other columns leave.
            let all: usize = widths.iter().sum::<usize>() + widths.len().saturating_sub(1);
            rooms = widths.iter().map(|width| look.columns.saturating_sub(all - width)).collect();
            widths = self.natural_widths(look, &rooms);
        }
        let widths = limited(widths, look);
        let mut text = String::new();
        if look.has_legend && self.has_titles {
            self.draw_row(&mut text, true, &self.titles(), &widths, look);
        }
        let mut cells = Vec::new();
        for row in self.rows() {
            cells.clear();
            cells.extend(self.drawn(row, look, &rooms));
            self.draw_row(&mut text, false, &cells, &widths, look);
        }
        text
    }

    fn shown(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.is_hidden)
    }

    fn titles(&self) -> Vec<Drawn<'_>> {
        self.shown().map(|(_, column)| Drawn::new(column.title.as_str().into(), None)).collect()
    }

    /// The cells of a row that are shown; words in lines as long as the column has room for.
    fn drawn<'t>(
        &'t self,
        row: &'t [Styled<'a>],
        look: &Look,
        rooms: &[usize],
    ) -> impl Iterator<Item = Drawn<'t>> {
        self.shown().enumerate().map(|(position, (index, _))| {
            self.draw(row.get(index), index, look, rooms.get(position).copied().unwrap_or(0))
        })
    }

    fn draw<'t>(
        &'t self,
        styled: Option<&'t Styled<'a>>,
        index: usize,
        look: &Look,
        room: usize,
    ) -> Drawn<'t> {
        let filler = || {
            let is_colored = self.colors_empty || !self.filler.is_empty();
            let color = is_colored.then_some(Color::Grey);
            Drawn::new(self.filler.as_str().into(), color)
        };
        match styled {
            None => filler(),
            Some(styled) if styled.cell.is_nothing() && styled.color.is_none() => filler(),
            Some(Styled { cell: Cell::Words(words), color }) if !words.is_empty() => {
                Drawn::new(wrap(words, room).into(), *color)
            }
            Some(styled) => {
                let mut text = styled.cell.text(&self.filler, look);
                if self.is_vertical && index == 0 && !text.is_empty() {
                    text.to_mut().push(':');
                }
                Drawn::new(text, styled.color)
            }
        }
    }

    /// What each column needs. Even an empty one has a letter.
    fn natural_widths(&self, look: &Look, rooms: &[usize]) -> Vec<usize> {
        let mut widths: Vec<usize> = vec![1; self.shown().count()];
        let mut widen = |cells: &mut dyn Iterator<Item = Drawn<'_>>| {
            for (slot, cell) in widths.iter_mut().zip(cells) {
                *slot = (*slot).max(cell.width);
            }
        };
        if look.has_legend && self.has_titles {
            widen(&mut self.titles().into_iter());
        }
        for row in self.rows() {
            widen(&mut self.drawn(row, look, rooms));
        }
        widths
    }

    fn draw_row(
        &self,
        text: &mut String,
        is_title: bool,
        cells: &[Drawn<'_>],
        widths: &[usize],
        look: &Look,
    ) {
        let is_underlined = is_title && look.colors.is_on() && look.can_underline;
        let underline = if is_underlined { "\x1b[4m" } else { "" };
        let height = cells.iter().map(|cell| cell.height).max().unwrap_or(1);
        let last = cells.len().saturating_sub(1);
        for level in 0..height {
            for (position, ((cell, width), (_, column))) in
                cells.iter().zip(widths).zip(self.shown()).enumerate()
            {
                if position > 0 {
                    push_styled(text, underline, " ");
                }
                let line = cell.line(level);
                // Most cells fit and have one line: nothing to cut, nothing to measure again.
                let (line, taken) = if level == 0 && cell.height == 1 && cell.width <= *width {
                    (Cow::Borrowed(line), cell.width)
                } else {
                    let line = ellipsize(line, *width, Glyph::Ellipsis.text(look.is_utf8));
                    let taken = escape::width(&line);
                    (line, taken)
                };
                let spare = width.saturating_sub(taken);
                let before = match column.align {
                    Align::Left => 0,
                    Align::Center => spare / 2,
                    Align::Right => spare,
                };
                let color = cell.color.map_or("", |color| color.code(look.colors));
                let style = if color.is_empty() { underline } else { color };
                // The last column ends with its text, unless a color shows where it ends.
                let is_open = position == last && (style.is_empty() || self.is_vertical);
                let after = if is_open { 0 } else { spare - before };
                text.push_str(style);
                push_blank(text, before);
                text.push_str(&line);
                push_blank(text, after);
                if !style.is_empty() {
                    text.push_str(RESET);
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

fn push_blank(text: &mut String, mut count: usize) {
    const BLANK: &str = "                                ";
    while count > 0 {
        let piece = BLANK.get(..count).unwrap_or(BLANK);
        text.push_str(piece);
        count -= piece.len();
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

#[cfg(test)]
mod tests {
    use super::super::Colors;
    use super::super::time::Zone;
    use super::*;

    const PLAIN: Look = Look {
        has_legend: true,
        columns: 80,
        is_limited: false,
        colors: Colors::Off,
        can_underline: true,
        is_utf8: true,
        zone: Zone::UTC,
    };

    /// `systemd-sysupdate list` of 262.1, cases "empty source and target" and "one candidate".
    fn versions() -> Table<'static> {
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

    /// `systemd-sysupdate list 1` on terminals of several widths, systemd 262.1.
    #[test]
    fn narrow_terminal_shares_the_room_as_the_peer_does() {
        let mut table = Table::new(&["type", "path", "mtime", "mode"]);
        table.set_align(2, Align::Right);
        table.row([
            "regular-file".into(),
            "/tmp/services/dst/a_1".into(),
            Cell::Timestamp(1_600_000_000_000_000).into(),
            Cell::Mode(0o644).into(),
        ]);
        for (columns, row) in [
            (80, "regular-file /tmp/services/dst/a_1 Sun 2020-09-13 12:26:40 UTC 0644"),
            (60, "regular-file /tmp/services/dst/a… Sun 2020-09-13 12:26… 0644"),
            (50, "regular-file /tmp/services/… Sun 2020-09-13 … 0644"),
            (40, "regular-fi… /tmp/servi… Sun 2020-0… 0644"),
            (30, "regula… /tmp/se… Sun 202… 0644"),
        ] {
            let look = Look { columns, is_limited: true, has_legend: false, ..PLAIN };
            assert_eq!(table.to_text(&look), format!("{row}\n"));
            let look = Look { columns, has_legend: false, ..PLAIN };
            assert!(table.to_text(&look).contains("40 UTC 0644"));
        }
        let tiny = Look { columns: 1, is_limited: true, ..PLAIN };
        assert_eq!(table.to_text(&tiny), "… … … …\n… … … …\n");
    }

    /// `systemd-sysupdate features` of 262.1, on a terminal and with `$COLUMNS` without one.
    #[test]
    fn words_are_wrapped_into_what_the_other_columns_leave() {
        let mut table =
            Table::new(&["enabled", "suggested", "feature", "description", "documentation"])
                .with_filler("-");
        let urls = (0..9).map(|number| format!("http://{number:02}")).collect();
        table.row([
            Cell::Check(false).into(),
            Cell::Check(true).into(),
            "x".into(),
            "DDDDDDDDDD".into(),
            Cell::Words(urls).into(),
        ]);
        let head = "ENABLED SUGGESTED FEATURE DESCRIPTION DOCUMENTATION\n\
                    ✗       ✓         x       DDDDDDDDDD  ";
        let pad = " ".repeat(38);
        assert_eq!(
            table.to_text(&PLAIN),
            format!(
                "{head}http://00 http://01 http://02 http://03\n\
                 {pad}http://04 http://05 http://06 http://07\n{pad}http://08\n"
            )
        );
        let text = table.to_text(&Look { columns: 60, ..PLAIN });
        assert!(
            text.starts_with(&format!("{head}http://00 http://01\n{pad}http://02 http://03\n"))
        );
        let text = table.to_text(&Look { columns: 20, ..PLAIN });
        assert!(text.starts_with(&format!("{head}http://00\n{pad}http://01\n")));
        let look = Look { columns: 40, is_limited: true, ..PLAIN };
        let text = table.to_text(&look);
        assert!(text.starts_with(
            "ENABLED SUGGES… FEATURE DESCRI… DOCUMEN…\n\
             ✗       ✓       x       DDDDDD… http://…\n"
        ));
    }

    /// `SYSTEMD_COLORS=1 systemd-sysupdate list` and `features` of 262.1.
    #[test]
    fn color_covers_the_padding_and_fillers_are_grey() {
        let mut table = versions();
        table.row([
            Cell::from("↻").colored(Color::HighlightGreen),
            Cell::from("2").colored(Color::HighlightGreen),
            Cell::from("").colored(Color::HighlightGreen),
            Cell::from("✓").colored(Color::HighlightGreen),
            Cell::from("current").colored(Color::Highlight),
        ]);
        let look = Look { colors: Colors::C256, ..PLAIN };
        let text = table.to_text(&look);
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "\x1b[0;1;32m↻\x1b[0m \x1b[0;1;32m2      \x1b[0m \x1b[0;1;32m         \x1b[0m \
             \x1b[0;1;32m    ✓    \x1b[0m \x1b[0;1;39mcurrent   \x1b[0m"
        );
        let mut table = Table::new(&["documentation"]).with_filler("-");
        table.row([Cell::Empty.into()]);
        assert_eq!(
            table.to_text(&look).lines().nth(1).unwrap(),
            "\x1b[0;90m\x1b[0;38:5:245m-            \x1b[0m"
        );
    }

    #[test]
    fn titles_of_a_list_of_fields_can_stay() {
        let mut table = Table::vertical_with_titles(["key", "value"]);
        table.field("Name", "f");
        table.field("Description", "x");
        assert_eq!(table.to_text(&PLAIN), "         KEY VALUE\n       Name: f\nDescription: x\n");
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
        table.row(["x".into(), Cell::Lines(["1".into(), "2".into()].into()).into()]);
        assert_eq!(table.to_text(&PLAIN), "NAME URLS\nx    1\n     2\n");
    }
}
