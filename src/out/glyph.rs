//! Small pictures in messages, with an ASCII twin where the locale cannot show them.

use crate::ctx::Ctx;

/// The pictures the peer's tools use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyph {
    /// Yes.
    CheckMark,
    /// No.
    CrossMark,
    /// In use.
    BlackCircle,
    /// Not in use.
    WhiteCircle,
    /// Could be used.
    CircleArrow,
    /// From here to there.
    ArrowRight,
    /// And so on.
    Ellipsis,
    /// Something arrives.
    Download,
    /// Something new is there.
    Sparkles,
    /// Item of a list.
    Bullet,
    /// No longer supported.
    MultiplicationSign,
    /// Room is made.
    Recycling,
    /// Free.
    LightShade,
    /// Taken.
    DarkShade,
    /// Item of a tree that others follow.
    TreeBranch,
    /// Last item of a tree.
    TreeRight,
    /// Stem of a tree.
    TreeVertical,
    /// Sum.
    Sigma,
}

impl Glyph {
    /// The picture, or its ASCII twin.
    pub fn text(self, is_utf8: bool) -> &'static str {
        let (picture, ascii) = match self {
            Self::CheckMark => ("✓", "+"),
            Self::CrossMark => ("✗", "-"),
            Self::BlackCircle => ("●", "*"),
            Self::WhiteCircle => ("○", "*"),
            Self::CircleArrow => ("↻", "~"),
            Self::ArrowRight => ("→", "->"),
            Self::Ellipsis => ("…", "..."),
            Self::Download => ("⤵️", "[D]"),
            Self::Sparkles => ("✨", "*"),
            Self::Bullet => ("•", "*"),
            Self::MultiplicationSign => ("×", "x"),
            Self::Recycling => ("♻️", "~"),
            Self::LightShade => ("░", "-"),
            Self::DarkShade => ("▒", "X"),
            Self::TreeBranch => ("├─", "|-"),
            Self::TreeRight => ("└─", "`-"),
            Self::TreeVertical => ("│ ", "| "),
            Self::Sigma => ("Σ", "S"),
        };
        if is_utf8 { picture } else { ascii }
    }
}

/// `$SYSTEMD_UTF8` decides, then the locale; without any locale the terminal is taken for a
/// modern one.
pub fn is_utf8(ctx: &Ctx) -> bool {
    match ctx.env("SYSTEMD_UTF8") {
        Some("1" | "yes" | "y" | "true" | "t" | "on") => return true,
        Some("0" | "no" | "n" | "false" | "f" | "off") => return false,
        _ => {}
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| ctx.env(name).filter(|v| !v.is_empty()));
    locale.is_none_or(|name| {
        let name = name.to_ascii_lowercase();
        name.contains("utf-8") || name.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_c_locale_gets_ascii_and_no_locale_gets_pictures() {
        let ctx = Ctx::host([]);
        assert!(is_utf8(&ctx));
        assert!(!is_utf8(&ctx.clone().with_env("LC_ALL", "C")));
        assert!(is_utf8(&ctx.clone().with_env("LANG", "de_DE.UTF-8")));
        assert!(!is_utf8(&ctx.with_env("LANG", "C.utf8").with_env("SYSTEMD_UTF8", "0")));
        assert_eq!((Glyph::ArrowRight.text(true), Glyph::ArrowRight.text(false)), ("→", "->"));
    }
}
