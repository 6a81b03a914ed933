//! Values of options as the peer reads them, for `#[argh(from_str_fn(…))]`.
//!
//! An error text may say `{option}` where the option's name with its dashes belongs; a text
//! without it becomes `Failed to parse --name= parameter 'value': text`.

use std::path::PathBuf;

use slipway::out::json::Mode;

use super::text;

/// A file name, which need not be UTF-8.
pub(crate) fn path(value: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text::decode(value)))
}

/// `1 yes y true t on` and `0 no n false f off`, in any case.
pub(crate) fn boolean(value: &str) -> Result<bool, String> {
    let is_one_of = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(value));
    if is_one_of(&["1", "yes", "y", "true", "t", "on"]) {
        Ok(true)
    } else if is_one_of(&["0", "no", "n", "false", "f", "off"]) {
        Ok(false)
    } else {
        Err(format!("Failed to parse boolean argument to '{{option}}=': {value}"))
    }
}

/// The words of `--json=`; `help` and `-j` are answered before.
pub(crate) fn json_mode(value: &str) -> Result<Mode, String> {
    Mode::parse(value)
        .map_err(|_| format!("Unknown argument to {option}= switch: {value}", option = "{option}"))
}
