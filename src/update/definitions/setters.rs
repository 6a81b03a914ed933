//! What several kinds of definitions do with a value.

use crate::conf::ini::Line;
use crate::conf::specifier;
use crate::conf::words::{self, Escapes};
use crate::ctx::Ctx;
use crate::error::Result;

/// The value with specifiers expanded; none, with a warning, if that cannot be done.
pub(super) fn text(ctx: &Ctx, line: &Line<'_>, max: usize) -> Option<String> {
    match specifier::expand(ctx, line.value, max) {
        Ok(text) => Some(text),
        Err(err) => {
            line.warn(format_args!(
                "Failed to expand specifiers in {}=, ignoring: {} ({err})",
                line.key, line.value
            ));
            None
        }
    }
}

/// A URL that is acceptable; none, with a warning, otherwise.
pub(super) fn url(ctx: &Ctx, line: &Line<'_>, is_good: fn(&str) -> bool) -> Option<String> {
    let url = text(ctx, line, specifier::NAME_MAX)?;
    if is_good(&url) {
        return Some(url);
    }
    line.warn(format_args!("{}= URL is not valid, ignoring: {url}", line.key));
    None
}

/// One more URL; nothing takes all back.
pub(super) fn urls(
    ctx: &Ctx,
    urls: &mut Vec<String>,
    line: &Line<'_>,
    is_good: fn(&str) -> bool,
) -> Result<()> {
    if line.value.is_empty() {
        urls.clear();
    } else {
        urls.extend(url(ctx, line, is_good));
    }
    Ok(())
}

/// More words; nothing takes all back.
pub(super) fn list(list: &mut Vec<String>, line: &Line<'_>) -> Result<()> {
    if line.value.is_empty() {
        list.clear();
    } else if let Some(words) = line.parse(|value| words::split(value, Escapes::Plain)) {
        list.extend(words);
    }
    Ok(())
}
