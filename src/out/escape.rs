//! Foreign text made harmless for a terminal, and how many columns a text takes there.
//!
//! Why: labels of disks, names from manifests and messages of servers are bytes that somebody else
//! chose. Printed raw they could move the cursor, recolor the screen or, with bidirectional
//! overrides, show another name than the one they are.

use std::borrow::Cow;

/// True for letters that act on a terminal instead of being shown: C0 and C1 controls, DEL, and
/// the bidirectional controls.
pub fn is_active(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Control and bidirectional letters become `\xNN` or `\uNNNN`; tabs and line feeds become `\t`
/// and `\n`. Text without them is not copied.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, false)
}

/// As [`line`](fn@line), but tabs and line feeds stay.
pub fn block(text: &str) -> Cow<'_, str> {
    escape(text, true)
}

/// Most text is: then there is nothing to escape, and every letter takes one column.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn escape(text: &str, keeps_layout: bool) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let is_kept = |letter| keeps_layout && matches!(letter, '\n' | '\t');
    if !text.chars().any(|letter| is_active(letter) && !is_kept(letter)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            letter if !is_active(letter) || is_kept(letter) => escaped.push(letter),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            letter if u32::from(letter) < 0x80 => {
                escaped.push_str(&format!("\\x{:02x}", u32::from(letter)));
            }
            letter => escaped.push_str(&format!("\\u{:04x}", u32::from(letter))),
        }
    }
    Cow::Owned(escaped)
}

/// Columns of a text without escape sequences.
pub fn width(text: &str) -> usize {
    if is_plain(text) {
        return text.len();
    }
    text.chars().map(letter_width).sum()
}

/// Columns of one letter. The variation selector 16 counts one: it turns the narrow picture in
/// front of it into an emoji of two columns.
fn letter_width(letter: char) -> usize {
    match u32::from(letter) {
        0x20..=0x2fe | 0xfe0f => 1,
        0x300..=0x36f
        | 0x483..=0x489
        | 0x591..=0x5bd
        | 0x64b..=0x65f
        | 0x200b..=0x200d
        | 0x20d0..=0x20f0
        | 0xfe00..=0xfe0e
        | 0xfe20..=0xfe2f
        | 0x1f3fb..=0x1f3ff => 0,
        0x1100..=0x115f
        | 0x231a..=0x231b
        | 0x23e9..=0x23ec
        | 0x23f0
        | 0x23f3
        | 0x25fd..=0x25fe
        | 0x2614..=0x2615
        | 0x2648..=0x2653
        | 0x267f
        | 0x2693
        | 0x26a1
        | 0x26aa..=0x26ab
        | 0x26bd..=0x26be
        | 0x26c4..=0x26c5
        | 0x26ce
        | 0x26d4
        | 0x26ea
        | 0x26f2..=0x26f3
        | 0x26f5
        | 0x26fa
        | 0x26fd
        | 0x2705
        | 0x270a..=0x270b
        | 0x2728
        | 0x274c
        | 0x274e
        | 0x2753..=0x2755
        | 0x2757
        | 0x2795..=0x2797
        | 0x27b0
        | 0x27bf
        | 0x2b1b..=0x2b1c
        | 0x2b50
        | 0x2b55
        | 0x2e80..=0x303e
        | 0x3041..=0x33ff
        | 0x3400..=0x4dbf
        | 0x4e00..=0xa4cf
        | 0xa960..=0xa97c
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6b
        | 0xff01..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f004
        | 0x1f0cf
        | 0x1f18e
        | 0x1f191..=0x1f19a
        | 0x1f200..=0x1f320
        | 0x1f32d..=0x1f335
        | 0x1f337..=0x1f37c
        | 0x1f37e..=0x1f393
        | 0x1f3a0..=0x1f3ca
        | 0x1f3cf..=0x1f3d3
        | 0x1f3e0..=0x1f3f0
        | 0x1f3f4
        | 0x1f3f8..=0x1f43e
        | 0x1f440
        | 0x1f442..=0x1f4fc
        | 0x1f4ff..=0x1f53d
        | 0x1f54b..=0x1f567
        | 0x1f5a4
        | 0x1f5fb..=0x1f64f
        | 0x1f680..=0x1f6c5
        | 0x1f6cc
        | 0x1f6d0..=0x1f6ff
        | 0x1f7e0..=0x1f7f0
        | 0x1f900..=0x1f9ff
        | 0x1fa70..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Shortens a text to so many columns, with `mark` at its end where something was cut.
pub fn ellipsize<'a>(text: &'a str, columns: usize, mark: &str) -> Cow<'a, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let room = columns.saturating_sub(width(mark));
    let mut used = 0;
    let mut short = String::new();
    for letter in text.chars() {
        used += letter_width(letter);
        if used > room {
            break;
        }
        short.push(letter);
    }
    if width(mark) <= columns {
        short.push_str(mark);
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_letters_and_overrides_are_shown_not_obeyed() {
        assert_eq!(line("a\x1b[2Jb"), "a\\x1b[2Jb");
        assert_eq!(line("x\u{202e}gpj.exe"), "x\\u202egpj.exe");
        assert_eq!(line("a\n\tb\u{9b}c"), "a\\n\\tb\\u009bc");
        assert_eq!(block("a\n\tb\r"), "a\n\tb\\x0d");
        assert!(matches!(line("grün ✓"), Cow::Borrowed(_)));
    }

    #[test]
    fn emoji_and_ideographs_take_two_columns_and_accents_none() {
        assert_eq!(width("abc"), 3);
        assert_eq!(width("⤵️"), 2);
        assert_eq!(width("✨"), 2);
        assert_eq!(width("漢字"), 4);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width("✓●↻"), 3);
    }

    #[test]
    fn cut_text_ends_in_the_mark_and_never_exceeds_the_room() {
        assert_eq!(ellipsize("abcdef", 4, "…"), "abc…");
        assert_eq!(ellipsize("漢字漢字", 4, "…"), "漢…");
        assert_eq!(ellipsize("abc", 3, "…"), "abc");
        assert_eq!(ellipsize("abc", 0, "…"), "");
    }
}
